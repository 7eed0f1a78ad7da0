"""Commands of history on a small space: diff, merge, revert, cherry-pick, reset, undo, restore."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

import dreamdb as vd
from tests.cli.running import done, run


def _open(space: str, ref: str = "digits") -> vd.Dataset:
    return vd.Dataset.open_ref(ref, space)


def test_diff_as_text_and_as_json(space: str, tmp_path: Path) -> None:
    ds = _open(space)
    ds.update([1_001], {"label": [7]})
    ds.delete([1_002])
    ds.append_many([{"_anchor": 5_000, "label": 1, "split": "new"}])
    shown = done("diff", "v1", "digits", backend=space).out.splitlines()
    assert shown[:3] == [
        "Diff v1 -> digits",
        "  records: 1 added, 1 removed",
        "  label: 1 changed",
    ]
    assert any("~" in line and "1001" in line and "1 -> 7" in line for line in shown)
    assert any(line.startswith("+") and "5000" in line for line in shown)
    assert any(line.startswith("-") and "1002" in line for line in shown)
    found = done("diff", "v1", "digits", "--json", backend=space).data
    expected = ds.diff("v1").to_dict()
    assert {name: found[name] for name in expected} == expected
    assert found["before"] == "v1"
    assert [row["_change"] for row in found["rows"]] == ["changed", "removed", "added"]
    only = done("diff", "v1", "digits", "--fields", "split", "--json", backend=space).data
    assert only["changed"] == {}
    stat = done("diff", "v1", "digits", "--stat", "--json", backend=space).data
    assert (stat["rows_added"], stat["rows_removed"]) == (1, 1)
    assert {f["field"] for f in stat["fields"]} >= {"label"}
    assert "cells at most" in done("diff", "v1", "digits", "--stat", backend=space).out
    none = done("diff", "v1", "v1", backend=space).out
    assert "no difference" in none
    for suffix in ("parquet", "arrow", "csv"):
        path = tmp_path / f"rows.{suffix}"
        assert "wrote" in done("diff", "v1", "digits", "--output", path, backend=space).out
        assert path.stat().st_size
    assert pq.read_table(tmp_path / "rows.parquet").num_rows == 3


def test_diff_with_a_time(space: str) -> None:
    ds = _open(space)
    after = datetime.timedelta(microseconds=ds.log()[0].time_ns // 1_000 + 1)
    text = (datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + after).isoformat()
    ds.update([1_001], {"label": [7]})
    found = done("diff", "digits", "--at", text, "--json", backend=space).data
    assert (found["before"], found["after"]) == (f"digits at {text}", "digits")
    assert (found["changed"], found["rows_added"]) == ({"label": 1}, 0)


def test_schema_changes_in_a_diff(space: str) -> None:
    found = done("diff", "digits", "sweep/a", "--json", backend=space).data
    assert [(c["kind"], c["field"]) for c in found["schema_changes"]] == [("added", "prediction")]
    assert "added prediction: int" in done("diff", "digits", "sweep/a", backend=space).out


def test_merge_reports_and_decides_conflicts(space: str, tmp_path: Path) -> None:
    report = done("merge", "digits", "sweep/a", "--json", backend=space).data
    assert report["fast_forward"]
    assert report["manifest"] == _open(space, "sweep/a").current_manifest()
    path = tmp_path / "conflicts.csv"
    failed = run("merge", "digits", "sweep/b", "--conflicts", path, backend=space)
    assert failed.code == 5
    assert "3 conflicts" in failed.err
    assert "prediction" in failed.err
    assert failed.out == ""
    table = pacsv.read_csv(path)
    assert table.num_rows == 3
    assert _open(space).current_manifest() == report["manifest"]
    choices = tmp_path / "choices.parquet"
    decided = table.select(["anchor", "field"]).append_column("choice", pa.array(["theirs"] * 3))
    pq.write_table(decided, choices)
    merged = done("merge", "digits", "sweep/b", "--choices", choices, "-m", "both", backend=space)
    assert "conflicts decided  3" in merged.out
    assert _open(space)["prediction"].equals(_open(space, "sweep/b")["prediction"])
    assert _open(space).log()[0].message == "both"
    again = done("merge", "digits", "sweep/b", backend=space).out
    assert again.startswith("nothing to do for")


def test_choices_about_large_anchors_in_a_csv_file(tmp_path: Path) -> None:
    url = tmp_path / "space"
    schema = vd.Schema().add_scalar_int("x")
    ds = vd.Dataset.create("main", schema, url)
    large = (1 << 64) - 3
    ds.append_many([{"_anchor": large, "x": 1}])
    side = ds.branch("side")
    ds.update([large], {"x": [2]})
    side.update([large], {"x": [3]})
    choices = tmp_path / "choices.csv"
    choices.write_text(f"anchor,field,choice\n{large},x,theirs\n")
    done("merge", "main", "side", "--choices", choices, backend=url)
    assert _open(str(url), "main")["x"].to_pylist() == [3]


def test_steps_back(space: str) -> None:
    ds = _open(space)
    start = ds.current_manifest()
    ds.update([1_001], {"label": [7]})
    edited = ds.current_manifest()
    ds.update([1_002], {"label": [8]})
    done("revert", "digits", edited[:12], "-m", "wrong", backend=space)
    ds.refresh()
    assert ds.take([1_001, 1_002])["label"].to_pylist() == [1, 8]
    done("cherry-pick", "sweep/a", edited, backend=space)
    assert _open(space, "sweep/a").take([1_001])["label"].to_pylist() == [7]
    undone = done("undo", "digits", "--json", backend=space).data
    assert undone["moved"]
    assert undone["before"] == ds.current_manifest()
    dry = run("reset", "digits", "v1", backend=space)
    assert "nothing was changed" in dry.err
    assert "would move" in dry.out
    assert _open(space).current_manifest() == undone["after"]
    done("reset", "digits", "v1", "--yes", "--reason", "bad", backend=space)
    assert _open(space).current_manifest() == start
    moves = done("reflog", "digits", "--json", backend=space).data["moves"]
    assert [move["why"] for move in moves] == ["reset: bad", "undo"]


def test_restore(space: str) -> None:
    before = _open(space, "sweep/a").current_manifest()
    done("delete-ref", "sweep/a", "--yes", backend=space)
    assert "restored  sweep/a (branch)" in done("restore", "sweep/a", backend=space).out
    assert _open(space, "sweep/a").current_manifest() == before
    taken = run("restore", "sweep/a", backend=space)
    assert taken.code == 4
    copy = done("restore", "sweep/a", "--as", "copy", "--json", backend=space).data
    assert copy == {"ref": "copy", "kind": "branch", "manifest": before, "rows": 12}


def test_blame(space: str) -> None:
    ds = _open(space)
    ds.update([1_001], {"label": [7]}, message="typo")
    found = done("blame", "digits", "1001", "label", "split", "--json", backend=space).data
    assert found["fields"]["label"]["manifest"] == ds.current_manifest()
    assert found["fields"]["split"]["message"] == "from 0"
    shown = done("blame", "digits", "1001", "label", backend=space).out.splitlines()
    assert "typo" in shown[1]
