"""Every command on a small space: what it says as text, and as JSON compared with the library."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import dreamdb as vd
from tests.cli.conftest import ROWS
from tests.cli.running import done, process, run


def _lines(text: str) -> list[str]:
    return text.splitlines()


def test_init_makes_a_space_once(tmp_path: Path) -> None:
    where = tmp_path / "new"
    first = done("init", where, "--json")
    assert first.document["command"] == "init"
    assert first.data == {"url": where.as_uri(), "created": True, "refs": 0}
    assert done("init", backend=where).out == f"there is a space already at {where.as_uri()}\n"
    assert vd.connect(where).list_refs() == []


def test_refs(sample_space: str) -> None:
    found = done("refs", sample_space, "--json").data["refs"]
    assert [(r["name"], r["kind"], r["rows"]) for r in found] == [
        ("digits", "branch", ROWS),
        ("sweep/a", "branch", ROWS),
        ("sweep/b", "branch", ROWS),
        ("v1", "snapshot", ROWS),
    ]
    assert found[3]["metadata"] == {"licence": "CC0"}
    assert found[3]["message"] == "before the sweep"
    for ref in found:
        opened = vd.Dataset.open_ref(ref["name"], sample_space)
        assert ref["manifest"] == opened.current_manifest()
    lines = _lines(done("refs", "--prefix", "sweep/", backend=sample_space).out)
    assert [line.split()[0] for line in lines] == ["name", "sweep/a", "sweep/b"]
    only = done("refs", "--kind", "snapshot", "--json", backend=sample_space).data["refs"]
    assert [r["name"] for r in only] == ["v1"]


def test_refs_of_an_empty_space(tmp_path: Path) -> None:
    done("init", tmp_path / "s")
    assert done("refs", tmp_path / "s").out == f"(no refs in {(tmp_path / 's').as_uri()})\n"


def test_log(sample_space: str) -> None:
    log = vd.Dataset.open_ref("digits", sample_space).log()
    found = done("log", "digits", "--json", backend=sample_space).data["manifests"]
    assert [m["manifest"] for m in found] == [r.manifest for r in log]
    assert [m["message"] for m in found] == ["from 6", "from 0", "first half"]
    assert [m["rows"] for m in found] == [12, 6, 0]
    assert found[0]["parents"] == [found[1]["manifest"]]
    assert found[0]["refs"] == ["digits", "v1"]
    shown = _lines(done("log", "digits", "-n", 1, backend=sample_space).out)
    assert len(shown) == 2
    assert shown[1].startswith(log[0].manifest[:10])
    assert "append 6 rows" in shown[1]
    first = done("log", "digits", "--first-parent", "-n", 2, "--json", backend=sample_space).data
    assert [m["rows"] for m in first["manifests"]] == [12, 6]


def test_log_graph(sample_space: str) -> None:
    log = vd.Dataset.open_ref("sweep/a", sample_space).log()
    shown = done("log", "sweep/a", "--graph", backend=sample_space).out
    assert shown == log.graph() + "\n"
    together = _lines(done("log", "--all", backend=sample_space).out)
    tips = [line for line in together if "sweep/" in line]
    assert len(tips) == 2
    assert sum("*" in line for line in together) == 5
    everything = done("log", "--all", "--json", backend=sample_space).data["manifests"]
    seen: set[str] = set()
    for manifest in reversed(everything):  # parents first
        assert set(manifest["parents"]) <= seen
        seen.add(manifest["manifest"])


def test_inspect_a_snapshot(sample_space: str) -> None:
    ds = vd.Dataset.open_ref("v1", sample_space)
    data = done("inspect", "--ref-name", "v1", "--json", backend=sample_space).data
    assert data["ref"] == "v1"
    assert data["kind"] == "snapshot"
    assert data["manifest"] == ds.current_manifest()
    assert data["content"] == ds.content_id
    assert data["rows"] == ROWS
    assert data["parents"] == [ds.log()[1].manifest]
    assert data["snapshot"]["message"] == "before the sweep"
    assert data["snapshot"]["metadata"] == {"licence": "CC0"}
    assert [m["message"] for m in data["history"]] == ["from 6", "from 0", "first half"]
    fields = {field["name"]: field for field in data["fields"]}
    assert list(fields) == list(ds.schema)
    for summary in ds.stats():
        told = fields[summary.name]
        assert told["type"] == summary.type
        assert told["nulls"] == summary.nulls
        assert told["nbytes"] == summary.nbytes
        assert told["fragments"] == summary.fragments
    assert (fields["label"]["low"], fields["label"]["high"]) == (0, 2)
    assert fields["label"]["required"] is True
    assert fields["split"]["nulls"] == 1
    assert fields["taken"]["high"] == "2026-01-01T00:00:00.000000011"


def test_inspect_as_text(sample_space: str) -> None:
    ds = vd.Dataset.open_ref("v1", sample_space)
    shown = done("inspect", "v1", "--depth", 1, backend=sample_space).out
    for word in ("v1 (snapshot)", ds.current_manifest(), ds.content_id, "licence", "CC0"):
        assert word in shown
    assert "... 2 more manifests" in shown
    assert max(map(len, _lines(shown))) <= 100


def test_inspect_by_manifest_and_by_its_start(sample_space: str) -> None:
    first = vd.Dataset.open_ref("digits", sample_space).log()[1].manifest
    whole = done("inspect", first, "--json", backend=sample_space).data
    short = done("inspect", first[:9], "--json", backend=sample_space).data
    assert whole == short
    assert (whole["ref"], whole["kind"], whole["rows"]) == (None, "manifest", 6)


def test_show_a_manifest(sample_space: str) -> None:
    ds = vd.Dataset.open_ref("sweep/a", sample_space)
    data = done("show", "sweep/a", "--json", backend=sample_space).data
    assert data["manifest"] == ds.current_manifest()
    assert data["generation"] == 3
    assert data["parents"] == [ds.log()[1].manifest]
    assert set(data["tracks"]) == set(ds.schema)
    base = done("show", "digits", "--json", backend=sample_space).data
    shared = set(base["tracks"])
    assert {n: data["tracks"][n] for n in shared} == base["tracks"]
    assert data["timeline"] in done("show", "sweep/a", backend=sample_space).out


def test_show_a_record(sample_space: str, tmp_path: Path) -> None:
    ds = vd.Dataset.open_ref("digits", sample_space)
    data = done("show", "digits", "--anchor", 1_003, "--json", backend=sample_space).data
    record = data["record"]
    assert (record["_anchor"], record["label"], record["split"]) == (1_003, 0, "train")
    assert record["vector"] == ds[3]["vector"].tolist()
    assert record["image"] == {"nbytes": 9, "head": ds[3]["image"].hex()}
    assert record["taken"] == "2026-01-01T00:00:00.000000003"
    last = done("show", "digits", "--position", -1, "--field", "label", backend=sample_space).out
    assert last.split() == ["_anchor", "1011", "label", "2"]
    out = tmp_path / "3.png"
    done(
        "show", "digits", "--position", 3, "--field", "image", "--output", out,
        backend=sample_space,
    )  # fmt: skip
    assert out.read_bytes() == ds[3]["image"]


def test_show_a_record_by_its_key(tmp_path: Path) -> None:
    for name, keys in (("texts", ["b", "a"]), ("numbers", [2, 1])):
        table = pa.table({"id": keys, "x": [10, 20]})
        vd.Dataset.create(name, data=table, key="id", backend=tmp_path / "s")
    for name, key in (("texts", "a"), ("numbers", "1")):
        told = done("show", name, "--key", key, "--json", backend=tmp_path / "s").data
        assert told["record"]["x"] == 20
    assert run("show", "numbers", "--key", "a", backend=tmp_path / "s").code == 2
    assert run("show", "texts", "--key", "c", backend=tmp_path / "s").code == 3


def test_head(sample_space: str) -> None:
    data = done("head", "digits", "-n", 3, "--json", backend=sample_space).data
    assert data["total"] == ROWS
    assert [r["_anchor"] for r in data["rows"]] == [1_000, 1_001, 1_002]
    outcome = done("head", "digits", "-n", 6, "--fields", "label,split", backend=sample_space)
    lines = [line.split() for line in _lines(outcome.out)]
    assert lines[0] == ["_anchor", "label", "split"]
    assert lines[6] == ["1005", "2", "null"]
    assert outcome.err == f"6 of {ROWS} records\n"
    assert max(map(len, _lines(done("head", "digits", backend=sample_space).out))) <= 100


def test_query(sample_space: str) -> None:
    where = "label = 1 AND split = 'train'"
    ds = vd.Dataset.open_ref("digits", sample_space)
    wanted = ds.scan(["label"], where).to_arrow()
    found = done("query", "digits", where, "--fields", "label", "--json", backend=sample_space)
    assert found.data["rows"] == wanted.to_pylist()
    assert found.data["where"] == where
    same = done(
        "query", "digits", where, "--fields", "label", "--format", "json", backend=sample_space
    )
    assert same.out == found.out
    counted = done("query", "digits", where, "--count", backend=sample_space)
    assert counted.out == f"{wanted.num_rows}\n"
    counted = done("query", "digits", where, "--count", "--json", backend=sample_space)
    assert counted.data["count"] == wanted.num_rows
    shown = _lines(done("query", "digits", where, "--limit", 2, backend=sample_space).out)
    assert len(shown) == 3
    nothing = done("query", "digits", "label > 9", backend=sample_space)
    assert nothing.out == "(no records)\n"


def test_query_as_csv(sample_space: str) -> None:
    fields = ["label", "split", "taken", "image"]
    arguments = ("query", "digits", "--format", "csv", "--fields", ",".join(fields))
    rows = list(csv.reader(io.StringIO(done(*arguments, backend=sample_space).out)))
    assert rows[0] == ["_anchor", *fields]
    assert len(rows) == ROWS + 1
    assert rows[6][1:4] == ["2", "", "2026-01-01T00:00:00.000000005"]
    assert json.loads(rows[1][4])["nbytes"] == 9


def test_a_long_table_says_that_it_is_cut(tmp_path: Path) -> None:
    vd.Dataset.create("many", data=pa.table({"x": range(60)}), backend=tmp_path / "s")
    outcome = done("query", "many", backend=tmp_path / "s")
    assert len(_lines(outcome.out)) == 51
    assert "first 50" in outcome.err
    assert len(_lines(done("query", "many", "--limit", 60, backend=tmp_path / "s").out)) == 61
    rows = done("query", "many", "--json", backend=tmp_path / "s").data["rows"]
    assert [r["x"] for r in rows] == list(range(60))


def test_stats(sample_space: str) -> None:
    data = done("stats", "digits", "--values", "split", "--json", backend=sample_space).data
    assert data["rows"] == ROWS
    assert data["nbytes"] == sum(field["nbytes"] for field in data["fields"])
    assert data["values"] == {"field": "split", "counts": [["train", 7], ["test", 4], [None, 1]]}
    shown = done("stats", "digits", "--values", "split", backend=sample_space).out
    assert ["train", "7"] in [line.split() for line in _lines(shown)]
    assert run("stats", "digits", "--values", "vector", backend=sample_space).code == 2


def test_branch(space: str) -> None:
    log = vd.Dataset.open_ref("digits", space).log()
    data = done("branch", "next", "v1", "--json", backend=space).data
    assert data == {"name": "next", "manifest": log[0].manifest, "rows": ROWS}
    done("branch", "earlier", "digits", "--at", log[1].manifest, backend=space)
    assert vd.Dataset.open_ref("earlier", space).count() == ROWS // 2
    when = vd.Dataset.open_ref("digits", space).log().to_arrow()["time"][1]
    done("branch", "then", "digits", "--at", when.cast(pa.string()).as_py()[:26], backend=space)
    assert vd.Dataset.open_ref("then", space).count() <= ROWS // 2
    done("branch", "start", log[1].manifest[:12], backend=space)
    assert vd.Dataset.open_ref("start", space).current_manifest() == log[1].manifest


def test_snapshot(space: str) -> None:
    data = done(
        "snapshot", "prod-2026", "sweep/a", "-m", "best", "--meta", "acc=0.97", "--meta", "by=x=y",
        "--json", backend=space,
    ).data  # fmt: skip
    assert data["metadata"] == {"acc": "0.97", "by": "x=y"}
    opened = vd.Dataset.open_at({k: data[k] for k in ("label", "manifest", "timeline")}, space)
    tip = vd.Dataset.open_ref("sweep/a", space).current_manifest()
    assert opened.current_manifest() == tip
    (info,) = vd.connect(space).refs("prod-2026")
    assert (info.message, info.metadata) == ("best", {"acc": "0.97", "by": "x=y"})


@pytest.mark.parametrize("suffix", ["parquet", "csv", "arrow"])
def test_compare_refs(sample_space: str, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"both.{suffix}"
    refs = ["sweep/a", "sweep/b"]
    arguments = ("compare-refs", *refs, "--field", "prediction", "--output", out)
    data = done(*arguments, "--json", backend=sample_space).data
    assert data["agreement"] == {"prediction": {"sweep/a": [1.0, 0.75], "sweep/b": [0.75, 1.0]}}
    wanted = vd.compare_refs(refs, ["prediction"], sample_space).to_arrow()
    if suffix == "parquet":
        found = pq.read_table(out)
    elif suffix == "csv":
        found = pacsv.read_csv(out)
    else:
        found = pa.ipc.open_file(out).read_all()
    assert found.to_pydict() == wanted.to_pydict()
    shown = done(*arguments, backend=sample_space).out
    assert "0.750" in shown
    assert all(ref in shown for ref in refs)


def test_vectors_can_be_joined_but_not_agree(sample_space: str, tmp_path: Path) -> None:
    out = tmp_path / "both.parquet"
    arguments = ("compare-refs", "v1", "sweep/a", "--field", "vector,label", "--output", out)
    data = done(*arguments, "--json", backend=sample_space).data
    assert data["agreement"]["vector"] is None
    assert data["agreement"]["label"]["v1"] == [1.0, 1.0]
    wanted = vd.compare_refs(["v1", "sweep/a"], ["vector", "label"], sample_space).to_arrow()
    assert pq.read_table(out).to_pydict() == wanted.to_pydict()
    done(*arguments, backend=sample_space)


def test_delete_ref_and_reflog(space: str) -> None:
    manifest = vd.Dataset.open_ref("sweep/a", space).current_manifest()
    outcome = done("delete-ref", "sweep/a", backend=space)
    assert "would delete" in outcome.out
    assert "--yes" in outcome.err
    assert "sweep/a" in vd.connect(space).list_refs()
    data = done("delete-ref", "sweep/a", "--yes", "--reason", "lost", "--json", backend=space).data
    assert data["deleted"] is True
    assert data["also_kept_by"] == []
    assert "sweep/a" not in vd.connect(space).list_refs()
    (move,) = done("reflog", "sweep/a", "--json", backend=space).data["moves"]
    assert (move["old"], move["new"], move["why"]) == (manifest, None, "delete: lost")
    assert "delete: lost" in done("reflog", "sweep/a", backend=space).out
    assert "no moves" in done("reflog", "digits", backend=space).out
    done("branch", "sweep/a", manifest, backend=space)
    assert vd.Dataset.open_ref("sweep/a", space).current_manifest() == manifest
    kept = done("delete-ref", "v1", "--json", backend=space).data
    assert kept["also_kept_by"] == ["digits", "sweep/a", "sweep/b"]


def test_gc_looks_removes_and_restores(space: str) -> None:
    lost = vd.Dataset.open_ref("digits", space).branch("lost")
    lost.set_metadata({"a": "b"})
    manifest = lost.current_manifest()
    vd.connect(space).delete_ref("lost")
    Path(space, "logs", "lost").unlink()  # As if it had happened long ago.
    report = vd.connect(space).gc()
    data = done("gc", space, "--list", "--json").data
    assert data["dry_run"] is True
    assert (data["roots"], data["reachable"]) == (report.roots, report.reachable)
    assert data["reachable_nbytes"] == report.reachable_nbytes
    assert [o["object"] for o in data["objects"]] == [one.object for one in report.garbage]
    assert data["objects"][0]["object"] == manifest
    assert "no ref leads to" in done("gc", space, "--list").out
    files = sorted(Path(space).rglob("*"))
    outcome = done("gc", backend=space)
    assert "add --yes" in outcome.err
    assert sorted(Path(space).rglob("*")) == files
    acted = done("gc", "--yes", "--json", backend=space).data
    assert acted["removed"] == acted["garbage"] == 2
    assert acted["trashed"] is True
    assert manifest in done("gc", "--restore", backend=space).out
    back = done("gc", "--restore", "--yes", "--json", backend=space).data
    assert back["manifests"] == [{"manifest": manifest, "message": ""}]
    done("branch", "found", manifest, backend=space)
    assert done("gc", "--yes", "--json", backend=space).data["removed"] == 0
    assert run("gc", "--yes", "--dry-run", backend=space).code == 2
    assert run("gc", "--restore", "--list", backend=space).code == 2


def test_verify_finds_a_flipped_byte(space: str) -> None:
    well = done("verify", space, "--json").data
    assert well["ok"] is True
    assert well["damage"] == []
    assert "all is well" in done("verify", backend=space).out
    objects = [path for path in Path(space, "objects").rglob("*") if path.is_file()]
    fragment = max(objects, key=lambda path: path.stat().st_size)
    content = bytearray(fragment.read_bytes())
    content[-1] ^= 1
    fragment.chmod(0o644)
    fragment.write_bytes(content)
    # In a process of its own: this one may hold the file as it was.
    outcome = process("verify", space, "--json")
    assert outcome.code == 1
    assert outcome.data["ok"] is False
    assert fragment.name in [d["object"] for d in outcome.data["damage"]]
    text = process("verify", space)
    assert text.code == 1
    assert fragment.name in text.out


def test_doctor(space: str, tmp_path: Path) -> None:
    before = sorted(Path(space).rglob("*"))
    data = done("doctor", space, "--json").data
    assert data["ok"] is True
    names = ["hash", "codecs", "space", "write", "race", "locks", "processes", "rename", "disk"]
    names += ["refs"]
    assert [check["name"] for check in data["checks"]] == names
    assert {check["status"] for check in data["checks"][:7]} == {"ok"}
    assert data["versions"]["dreamdb"] == vd.__version__
    assert sorted(Path(space).rglob("*")) == before
    nowhere = done("doctor", tmp_path / "none", "--json").data
    assert nowhere["checks"][2]["status"] == "warning"
    assert not list((tmp_path / "none").rglob("doctor*"))
    alone = done("doctor")
    assert "not checked" in alone.err
    assert "pyarrow" in alone.out


def test_doctor_finds_storage_without_compare_and_swap(tmp_path: Path) -> None:
    outcome = run("doctor", f"simplecache::file://{tmp_path}/x", "--json")
    checks = {check["name"]: check["status"] for check in outcome.data["checks"]}
    assert outcome.code == 1
    assert "failed" in checks.values()


def test_doctor_names_storage_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = run("doctor", tmp_path / "file", "--json")
    assert outcome.code == 1
    (failed,) = [c for c in outcome.data["checks"] if c["status"] == "failed"]
    assert "is a file" in failed["detail"]
