"""The commands sql and export."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dreamdb as vd
from tests.cli.running import done, run, spawn

QUERY = "SELECT label, count(*) AS n FROM digits GROUP BY label ORDER BY label"


@pytest.fixture
def space(tmp_path: Path) -> str:
    where = str(tmp_path / "space")
    ds = vd.Dataset.create("digits", vd.Schema().add_scalar_int("label").add_text("t"), where)
    ds.append({"label": [i % 3 for i in range(100)], "t": [f"text {i}" for i in range(100)]})
    return where


def test_a_query_in_every_format(space: str, tmp_path: Path) -> None:
    expected = [{"label": 0, "n": 34}, {"label": 1, "n": 33}, {"label": 2, "n": 33}]
    text = done("sql", QUERY, backend=space).out.splitlines()
    assert text[0].split() == ["label", "n"]
    assert [line.split() for line in text[1:]] == [["0", "34"], ["1", "33"], ["2", "33"]]
    data = done("sql", QUERY, "--format", "json", backend=space).data
    assert data["rows"] == expected
    assert data["columns"][0] == {"name": "label", "type": "int64"}
    assert done("sql", QUERY, "--json", backend=space).data == data
    rows = list(
        csv.DictReader(io.StringIO(done("sql", QUERY, "--format", "csv", backend=space).out))
    )
    assert [{k: int(v) for k, v in row.items()} for row in rows] == expected
    file = tmp_path / "out.arrow"
    done("sql", QUERY, "--format", "arrow", "-o", file, backend=space)
    assert pa.ipc.open_stream(file.read_bytes()).read_all().to_pylist() == expected
    done("sql", QUERY, "--format", "csv", "-o", tmp_path / "out.csv", backend=space)
    assert (tmp_path / "out.csv").read_text().splitlines() == ["label,n", "0,34", "1,33", "2,33"]


def test_arrow_goes_through_a_pipe(space: str) -> None:
    started = spawn("sql", QUERY, "--format", "arrow", "--backend", space)
    out, _ = started.communicate()
    assert started.returncode == 0
    assert pa.ipc.open_stream(out).read_all().num_rows == 3


def test_long_results_are_shortened_in_a_table(space: str) -> None:
    shown = done("sql", "SELECT * FROM digits", backend=space)
    assert len(shown.out.splitlines()) == 51
    assert "the first 50 rows" in shown.err
    assert len(done("sql", "FROM digits", "--limit", "3", backend=space).out.splitlines()) == 4
    assert len(done("sql", "FROM digits", "--json", backend=space).data["rows"]) == 100
    assert done("sql", "FROM digits WHERE label > 9", backend=space).out == "(no rows)\n"


def test_statements_of_a_file_write(space: str, tmp_path: Path) -> None:
    script = tmp_path / "script.sql"
    script.write_text(
        "CREATE VERSION TAG 'before';\nINSERT INTO digits VALUES (7, 'new');\n"
        "DELETE FROM digits WHERE label = 0; -- done\n"
    )
    assert done("sql", "--file", script, backend=space).out == "34 records\n"
    counted = (
        "SELECT (SELECT count(*) FROM digits), (SELECT count(*) FROM digits AT VERSION 'before')"
    )
    assert done("sql", counted, "--format", "csv", backend=space).out.splitlines()[1] == "67,100"
    tags = [ref for ref in done("refs", space, "--json").data["refs"] if ref["kind"] == "tag"]
    assert [tag["name"] for tag in tags] == ["before"]
    assert "before" in done("refs", space).out
    done("verify", backend=space)
    assert done("sql", "DROP VERSION TAG 'before'", "--json", backend=space).data["rows"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["SELECT * FROM nothing"], 3, "no table 'nothing'"),
        (["SELECT nope FROM digits"], 3, "no column 'nope'"),
        (["SELEC 1"], 2, "line 1, column 1"),
        (["SELECT 1", "--file", "x"], 2, "either"),
        ([], 2, "either"),
        (["SELECT 1", "--format", "csv", "--json"], 2, "exclude"),
        (["SELECT 1", "-o", "x"], 2, "--output needs"),
        (["--file", "/nowhere/script.sql"], 7, "script.sql"),
        (["SELECT * FROM read_csv('/etc/hosts')"], 2, "disabled"),
    ],
)
def test_bad_calls(space: str, arguments: list[str], code: int, words: str) -> None:
    outcome = run("sql", *arguments, backend=space)
    assert (outcome.code, words in outcome.err + outcome.out) == (code, True), outcome


def test_a_misspelt_space_is_not_made(tmp_path: Path) -> None:
    assert run("sql", "SELECT 1", backend=tmp_path / "nowhere").code == 3
    assert not (tmp_path / "nowhere").exists()


def test_export_and_ingest(space: str, tmp_path: Path) -> None:
    told = done("export", "digits", tmp_path / "out.parquet", "--json", backend=space).data
    assert (told["rows"], told["files"], told["format"]) == (100, 1, "parquet")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 100
    text = done(
        "export", "digits", tmp_path / "folder", "--format", "huggingface", "--fields", "label",
        "--where", "label = 1", "--rows-per-file", "40", "--anchors", backend=space,
    ).out  # fmt: skip
    assert "33 records" in text
    for path in ("out.parquet", "folder"):
        done("ingest", f"back/{path}", tmp_path / path, backend=space)
    assert vd.Dataset.open_ref("back/folder", space)["label"].to_pylist() == [1] * 33
    again = run("export", "digits", tmp_path / "out.parquet", backend=space)
    assert (again.code, "--overwrite" in again.err) == (4, True)
    done("export", "digits", tmp_path / "out.parquet", "--overwrite", backend=space)
    assert run("export", "digits", tmp_path / "x", backend=space).code == 2
