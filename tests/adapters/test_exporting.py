"""Exports: read back by the library itself and by the libraries that own the formats."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import datasets
import lance
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dreamdb as vd
from dreamdb.adapters.exporting import EXPORT_FORMATS, export
from dreamdb.adapters.importing import import_files
from tests.adapters.records import NO_BYTES, TEXT_ONLY, every_kind, fresh_url

# What not all formats tell: categoricals, media, shapes, times in JSON.
UNTOLD = ("im", "c", "x", "m", "e", "t")
FIELDS = {"csv": TEXT_ONLY, "jsonl": NO_BYTES}


@pytest.fixture(scope="module")
def every() -> vd.Dataset:
    return every_kind()


def values(ds: vd.Dataset, fields: list[str] | None = None) -> list[dict[str, object]]:
    """Return the records as Python values."""
    table = ds.scan(fields).to_arrow()
    return [{k: repr(v) for k, v in row.items()} for row in table.to_pylist()]


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("form", EXPORT_FORMATS)
def test_what_is_exported_and_imported_is_the_same(
    every: vd.Dataset, tmp_path: Path, form: str, single: bool
) -> None:
    if single and form == "huggingface":
        single = False
    path = tmp_path / (f"out.{form}" if single else "out")
    fields = FIELDS.get(form)
    seen: list[int] = []
    report = export(
        every,
        path,
        None if single else form,
        fields=fields,
        anchors=True,
        rows_per_file=200,
        progress=seen.append,
    )
    assert report.rows == sum(seen) == every.count()
    assert report.files == (1 if single or form == "lance" else 4)
    kept = {n: every.schema[n].type for n in fields or every.schema if n in UNTOLD}
    back = import_files("back", path, fresh_url(), types=kept)
    assert values(back, fields) == values(every, fields)
    wanted = {n: every.schema[n].type for n in fields or every.schema}
    assert {n: back.schema[n].type for n in back.schema} == wanted
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


class TestOtherLibrariesReadIt:
    def test_parquet(self, every: vd.Dataset, tmp_path: Path) -> None:
        export(every, tmp_path / "a.parquet")
        assert pq.read_table(tmp_path / "a.parquet").num_rows == every.count()
        frame = pl.read_parquet(tmp_path / "a.parquet")
        assert frame["i"].to_list() == every["i"].to_pylist()
        assert pd.read_parquet(tmp_path / "a.parquet", columns=["i"])["i"].sum() == frame["i"].sum()

    def test_arrow(self, every: vd.Dataset, tmp_path: Path) -> None:
        export(every, tmp_path / "a.arrow", fields=["i", "e"])
        assert pl.read_ipc(tmp_path / "a.arrow")["i"].to_list() == every["i"].to_pylist()

    def test_csv(self, every: vd.Dataset, tmp_path: Path) -> None:
        export(every, tmp_path / "a.csv", fields=TEXT_ONLY, where="i < 50")
        with open(tmp_path / "a.csv", newline="") as file:
            found = list(csv.DictReader(file))
        assert [row["x"] for row in found] == every.scan(["x"], "i < 50").to_arrow()[
            "x"
        ].to_pylist()
        assert pd.read_csv(tmp_path / "a.csv")["i"].tolist() == [
            i for i in range(50) if i % 10 != 3
        ]

    def test_json_lines(self, every: vd.Dataset, tmp_path: Path) -> None:
        export(every, tmp_path / "a.jsonl", fields=NO_BYTES)
        lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines]
        assert [row["st"]["a"] for row in found] == every["i"].to_pylist()
        assert pl.read_ndjson(tmp_path / "a.jsonl").height == every.count()

    def test_lance(self, every: vd.Dataset, tmp_path: Path) -> None:
        export(every, tmp_path / "a.lance", rows_per_file=200)
        table = lance.dataset(str(tmp_path / "a.lance")).to_table()
        assert table["i"].to_pylist() == every["i"].to_pylist()

    def test_hugging_face(self, every: vd.Dataset, tmp_path: Path) -> None:
        export(every, tmp_path / "hf", "huggingface", rows_per_file=200)
        loaded = datasets.load_from_disk(str(tmp_path / "hf"))
        assert loaded["i"][:] == every["i"].to_pylist()
        assert loaded.features["e"] == datasets.List(datasets.Value("float32"), length=3)
        # What the library itself writes comes back too, a list of texts included.
        loaded.select_columns(["i", "s", "e"]).save_to_disk(str(tmp_path / "theirs"))
        back = import_files("back", tmp_path / "theirs", fresh_url())
        assert back["i"].to_pylist() == loaded["i"][:]
        loaded.select([5, 3]).save_to_disk(str(tmp_path / "chosen"))
        assert import_files("b", tmp_path / "chosen", fresh_url(), columns=["i"]).count() == 2


def test_a_folder_of_images_is_imported(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(3):
            (tmp_path / label / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([i]))
    ds = import_files("images", tmp_path, fresh_url(), key="path")
    assert ds.count() == 6
    assert ds.distinct_values("label") == ["cat", "dog"]
    assert import_files("images", tmp_path, ds.backend).count() == 6


class _StopError(Exception):
    pass


@pytest.mark.parametrize("form", ["parquet", "huggingface", "lance", "jsonl"])
def test_an_interrupted_export_goes_on(tmp_path: Path, form: str) -> None:
    every = every_kind()
    path = tmp_path / "out"
    fields = FIELDS.get(form)

    def stop(limit: int) -> object:
        total = [0]

        def told(rows: int) -> None:
            total[0] += rows
            if total[0] >= limit:
                raise _StopError

        return told

    resumed = []
    for limit in (250, 450):
        with pytest.raises(_StopError):
            export(every, path, form, fields=fields, rows_per_file=150, progress=stop(limit))  # type: ignore[arg-type]
        assert not path.exists()
    report = export(every, path, form, fields=fields, rows_per_file=150, progress=resumed.append)
    assert report.resumed > 0
    assert sum(resumed) == report.rows == every.count()
    kept = {n: every.schema[n].type for n in fields or every.schema if n in UNTOLD}
    back = import_files("back", path, fresh_url(), types=kept)
    assert back["i"].to_pylist() == every["i"].to_pylist()


def test_an_export_of_another_version_begins_anew(tmp_path: Path) -> None:
    every = every_kind()

    def stop(_: int) -> None:
        raise _StopError

    with pytest.raises(_StopError):
        export(every, tmp_path / "out", "parquet", rows_per_file=100, progress=stop)
    every.delete("i < 100")
    report = export(every, tmp_path / "out", "parquet", rows_per_file=100)
    assert (report.resumed, report.rows) == (0, every.count())


def test_what_is_there_is_not_overwritten_by_accident(every: vd.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    export(every, path, where="i < 10")
    with pytest.raises(vd.AlreadyExistsError, match="exists already"):
        export(every, path)
    assert pq.read_metadata(path).num_rows == 9
    export(every, path, overwrite=True)
    assert pq.read_metadata(path).num_rows == every.count()
    export(every, tmp_path / "folder", "parquet")
    export(every, tmp_path / "folder", "parquet", where="i < 10", overwrite=True)
    assert sum(pq.read_metadata(p).num_rows for p in (tmp_path / "folder").iterdir()) == 9


def test_exports_to_one_place_take_turns(every: vd.Dataset, tmp_path: Path) -> None:
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(export(every, tmp_path / "out", "parquet", rows_per_file=100).rows)
        except vd.AlreadyExistsError:
            outcomes.append("exists")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=str) == [every.count(), "exists", "exists", "exists"]
    assert pq.read_table(tmp_path / "out").num_rows == every.count()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_empty_export_has_its_columns(tmp_path: Path) -> None:
    ds = vd.Dataset.create("e", vd.Schema().add_scalar_int("i"), fresh_url())
    for form in EXPORT_FORMATS:
        assert export(ds, tmp_path / form, form).rows == 0
    assert pq.read_table(tmp_path / "parquet").schema.names == ["i"]
    assert lance.dataset(str(tmp_path / "lance")).count_rows() == 0
    ds.append({"i": list(range(1000))})
    assert export(ds, tmp_path / "none", "huggingface", where="i < 0", rows_per_file=300).rows == 0
    assert len(datasets.load_from_disk(str(tmp_path / "none"))) == 0


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("out", {}, "cannot tell the format"),
        ("out", {"file_format": "excel"}, "not a format"),
        ("out.csv", {}, "cannot hold the field 'im'"),
        ("out.csv", {"fields": ["e"]}, "cannot hold the field 'e'"),
        ("out.jsonl", {}, "cannot hold the field 'im'"),
        ("out.parquet", {"fields": ["nothing"]}, "no field 'nothing'"),
        ("out.parquet", {"fields": []}, "no fields"),
        ("out.parquet", {"where": "i >"}, "not SQL"),
        ("out", {"file_format": "parquet", "rows_per_file": 0}, "positive"),
    ],
)
def test_bad_exports_write_nothing(
    every: vd.Dataset, tmp_path: Path, name: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(vd.DreamDBError, match=words):
        export(every, tmp_path / name, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_nan_is_not_json(tmp_path: Path) -> None:
    ds = vd.Dataset.create("n", vd.Schema().add_scalar_float("f"), fresh_url())
    ds.append({"f": [1.0, float("nan")]})
    with pytest.raises(vd.InvalidInputError, match="'f' holds NaN"):
        export(ds, tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()


def test_damaged_folders_are_refused(every: vd.Dataset, tmp_path: Path) -> None:
    export(every, tmp_path / "hf", "huggingface")
    (tmp_path / "hf" / "part-00000.arrow").write_bytes(b"nothing")
    with pytest.raises(vd.InvalidInputError, match="cannot be read"):
        import_files("b", tmp_path / "hf", fresh_url())
    state = tmp_path / "hf" / "state.json"
    state.write_text('{"_data_files": [{"filename": "../../etc/passwd"}]}')
    with pytest.raises(vd.InvalidInputError, match="names files elsewhere"):
        import_files("b", tmp_path / "hf", fresh_url())
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"a": [1]})}).save_to_disk(
        str(tmp_path / "dict")
    )
    with pytest.raises(vd.InvalidInputError, match="several splits: train"):
        import_files("b", tmp_path / "dict", fresh_url())


def test_arrow_streams_are_everywhere(every: vd.Dataset) -> None:
    import duckdb

    expected = every.count()
    compared = vd.compare_refs(["every"], ["i"], every.backend)
    for source in (every, every.scan(["i"]), every.log(), compared):
        table = pa.table(source)
        assert pl.DataFrame(source).height == table.num_rows
        assert pd.DataFrame.from_arrow(source).shape[0] == table.num_rows
    scan = every.scan(["i", "s"])
    assert scan.schema.names == ["_anchor", "i", "s"]
    assert duckdb.sql("SELECT count(*), max(i) FROM scan").fetchall() == [(expected, 699)]
