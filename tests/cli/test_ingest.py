"""ingest: every format against its own reader, wrong input, interruptions."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.json as pajson
import pyarrow.parquet as pq
import pytest
from PIL import Image

import dreamdb as vd
from tests.cli.running import done, run, spawn


def _table(rows: int = 1_000) -> pa.Table:
    index = np.arange(rows)
    return pa.table(
        {
            "id": pa.array([f"r{i:05d}" for i in index]),
            "count": pa.array(index - 3, mask=index % 7 == 0),
            "weight": pa.array(index / 8),
            "good": pa.array(index % 2 == 0),
            "word": pa.array([None if i % 11 == 0 else f'wörd, "{i}"' for i in index]),
        }
    )


def _stored(backend: object, name: str = "data") -> pa.Table:
    table = vd.Dataset.open_ref(name, str(backend)).scan().to_arrow()
    return table.drop_columns(["_anchor"])


def _write_jsonl(table: pa.Table, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), "utf-8")


WRITERS: dict[str, Callable[[pa.Table, Path], object]] = {
    "t.parquet": lambda t, p: pq.write_table(t, p, row_group_size=150),
    "t.feather": lambda t, p: feather.write_feather(t, str(p), chunksize=130),
    "t.csv": lambda t, p: pacsv.write_csv(t, p),
    "t.csv.gz": lambda t, p: t.to_pandas().to_csv(p, index=False),
    "t.tsv": lambda t, p: t.to_pandas().to_csv(p, index=False, sep="\t"),
    "t.jsonl": _write_jsonl,
}


def _read_back(path: Path) -> pa.Table:
    """Read a file with pyarrow or pandas alone."""
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix == ".feather":
        return feather.read_table(str(path))
    if path.suffix == ".jsonl":
        return pajson.read_json(path)
    if path.name == "t.csv":
        return pacsv.read_csv(path)
    frame = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", keep_default_na=True)
    return pa.Table.from_pandas(frame, preserve_index=False)


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_is_stored_as_its_own_reader_gives_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](_table(), path)
    told = done("ingest", "data", path, "--batch-size", 64, "--json", backend=tmp_path / "s").data
    assert (told["read"], told["added"], told["rows"], told["created"]) == (1000, 1000, 1000, True)
    wanted, found = _read_back(path), _stored(tmp_path / "s")
    assert found.column_names == wanted.column_names
    for column in wanted.column_names:
        expected = [_same(v) for v in wanted[column].to_pylist()]
        assert [_same(v) for v in found[column].to_pylist()] == expected


def _same(value: object) -> object:
    """Read pandas' NaN and the empty text of CSV as the null that they stand for."""
    if isinstance(value, float) and (np.isnan(value) or value == int(value)):
        return None if np.isnan(value) else int(value)
    return value or None if isinstance(value, str) else value


def test_typed_columns_of_parquet_keep_their_types(tmp_path: Path) -> None:
    rows = 40
    flat = pa.array(np.arange(rows * 4, dtype=np.float32))
    table = pa.table(
        {
            "vector": pa.FixedSizeListArray.from_arrays(flat, 4),
            "kind": pa.array(["a", "b"] * (rows // 2)).dictionary_encode(),
            "when": pa.array(np.arange(rows) + 5, pa.timestamp("ns")),
            "photo": pa.array([bytes([i]) * 3 for i in range(rows)]),
            "note": pa.array([f"n{i}" for i in range(rows)]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    told = done(
        "ingest", "data", tmp_path / "t.parquet", "--image", "photo=png", "--type", "note=text",
        "--json", backend=tmp_path / "s",
    ).data  # fmt: skip
    assert told["fields"] == {
        "vector": "embedding[4]",
        "kind": "categorical",
        "when": "timestamp",
        "photo": "image(png)",
        "note": "text",
    }
    found = _stored(tmp_path / "s")
    for name in table.column_names:
        plain = table[name].combine_chunks()
        plain = plain.dictionary_decode() if name == "kind" else plain
        if name == "when":
            plain, stored = plain.cast(pa.int64()), found[name].cast(pa.int64())
        else:
            stored = found[name]
        assert stored.to_pylist() == plain.to_pylist()


def test_json_lists_become_vectors_when_asked(tmp_path: Path) -> None:
    rows = [{"vector": [i, 0.5, -1], "tags": ["a"] * i} for i in range(4)]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for _ in range(2):
        done("ingest", "v", tmp_path, "--type", "vector=embedding[3]", backend=tmp_path / "s")
    table = vd.Dataset.open_ref("v", tmp_path / "s").scan().to_arrow()
    assert str(vd.Dataset.open_ref("v", tmp_path / "s").schema["vector"].type) == "embedding[3]"
    assert table["vector"].to_pylist() == [r["vector"] for r in rows] * 2
    assert table["tags"].to_pylist() == [r["tags"] for r in rows] * 2


def test_a_folder_of_files_is_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    table = _table(90)
    for index, name in enumerate(["a.parquet", "b.parquet", "deep/c.parquet"]):
        pq.write_table(table.slice(index * 30, 30), folder / name)
    (folder / "_SUCCESS").write_text("")
    (folder / ".hidden.parquet").write_text("not Parquet")
    (folder / "README.md").write_text("about")
    told = done("ingest", "data", folder, "--json", backend=tmp_path / "s").data
    assert (told["files"], told["format"]) == (3, "parquet")
    assert _stored(tmp_path / "s")["id"].to_pylist() == table["id"].to_pylist()


def test_appending_reads_text_as_the_stored_types(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("code,x\nA7,1.5\n")
    (tmp_path / "b.csv").write_text("code,x\n007,2\n")
    (tmp_path / "c.jsonl").write_text('{"code": "8", "x": 3}\n')
    for name in ("a.csv", "b.csv", "c.jsonl"):
        done("ingest", "data", tmp_path / name, backend=tmp_path / "s")
    assert _stored(tmp_path / "s").to_pydict() == {"code": ["A7", "007", "8"], "x": [1.5, 2, 3]}


def test_the_first_file_decides_how_the_others_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("code,x\nA7,1.5\n")
    (folder / "b.csv").write_text("code,x\n007,2\n")
    for options in ([], ["--commit-every", 1]):
        name = f"data{len(options)}"
        done("ingest", name, folder, *options, backend=tmp_path / "s")
        assert _stored(tmp_path / "s", name).to_pydict() == {"code": ["A7", "007"], "x": [1.5, 2]}


def test_images_stored_with_their_paths_give_their_bytes(tmp_path: Path) -> None:
    images = [{"bytes": bytes([i]) * 4, "path": f"{i}.jpg"} for i in range(3)]
    table = pa.table({"image": [*images, None], "label": [1, 2, 3, 4]})
    pq.write_table(table, tmp_path / "t.parquet")
    for name in ("one", "one", "two"):
        done(
            "ingest", name, tmp_path / "t.parquet", "--image", "image=jpeg",
            backend=tmp_path / "s",
        )  # fmt: skip
    wanted = [*(image["bytes"] for image in images), None]
    assert _stored(tmp_path / "s", "two")["image"].to_pylist() == wanted
    assert _stored(tmp_path / "s", "one")["image"].to_pylist() == wanted * 2


def test_anchors_from_a_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("at,x\n30,1\n10,2\n")
    done("ingest", "data", tmp_path / "a.csv", "--anchor", "at", backend=tmp_path / "s")
    table = vd.Dataset.open_ref("data", tmp_path / "s").scan().to_arrow()
    assert table.to_pydict() == {"_anchor": [10, 30], "x": [2, 1]}


def test_chosen_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,3\n")
    done("ingest", "data", tmp_path / "a.csv", "--columns", "z,x", backend=tmp_path / "s")
    assert _stored(tmp_path / "s").to_pydict() == {"z": [3], "x": [1]}


# --- images -------------------------------------------------------------------------------------


def _images(root: Path, folders: list[str], count: int = 3, suffix: str = "png") -> list[Path]:
    made = []
    for level, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            path = root / folder / f"{index}.{suffix}"
            Image.new("L", (4, 4), level * 50 + index).save(path)
            made.append(path)
    return made


def test_an_image_folder_gives_bytes_labels_and_paths(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    made = _images(root, ["cat", "dog"])
    told = done("ingest", "pets", root, "--json", backend=tmp_path / "s").data
    assert told["fields"] == {"image": "image(png)", "label": "categorical", "path": "string"}
    found = _stored(tmp_path / "s", "pets").to_pylist()
    assert [row["path"] for row in found] == sorted(p.relative_to(root).as_posix() for p in made)
    for row in found:
        path = root / row["path"]
        assert row["image"] == path.read_bytes()
        assert row["label"] == path.parent.name


def test_folders_named_like_splits_are_splits(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    _images(root, ["train/cat", "train/dog", "val/cat"], suffix="jpg")
    told = done("ingest", "pets", root, "--json", backend=tmp_path / "s").data
    assert told["fields"]["image"] == "image(jpeg)"
    found = _stored(tmp_path / "s", "pets")
    split, label, path = (found[name].to_pylist() for name in ("split", "label", "path"))
    assert [f"{s}/{la}" for s, la in zip(split, label, strict=True)] == [
        p.rsplit("/", 1)[0] for p in path
    ]


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    _images(tmp_path / "in", ["cat"])
    (tmp_path / "in/cat/9.png").write_bytes(b"")
    outcome = run("ingest", "pets", tmp_path / "in", backend=tmp_path / "s")
    assert outcome.code == 2
    assert "9.png is not an image" in outcome.err
    assert run("head", "pets", backend=tmp_path / "s").code == 3


def test_images_of_two_kinds_need_a_choice(tmp_path: Path) -> None:
    _images(tmp_path / "in", ["cat"])
    _images(tmp_path / "in", ["dog"], suffix="jpg")
    outcome = run("ingest", "pets", tmp_path / "in", backend=tmp_path / "s")
    assert outcome.code == 2
    assert "0.jpg is jpeg, not png" in outcome.err
    done("ingest", "pets", tmp_path / "in", "--image", "image=jpeg", backend=tmp_path / "s")
    assert vd.Dataset.open_ref("pets", tmp_path / "s").count() == 6


# --- wrong input --------------------------------------------------------------------------------

WRONG = {
    "csv with integers too long": (
        "a.csv",
        "id,x\n1,1.5\n12345678901234567890,2\n",
        [],
        ["'id'", "row 1", "line 3", "12345678901234567890"],
    ),
    "json with integers too long": (
        "a.jsonl",
        '{"id": 12345678901234567890}\n',
        [],
        ["'id'", "row 0", "12345678901234567890"],
    ),
    "csv with times of day": ("a.csv", "t\n12:30:00\n", [], ["'t'", "time32"]),
    "json without anything": ("a.jsonl", "", [], ["a.jsonl cannot be read as JSON lines"]),
    "csv value after empty lines and texts with line ends": (
        "a.csv",
        'name,x\n"a\nb",1\n\n\nc,2\n"d,",bad\n',
        ["--type", "x=int"],
        ["'x'", "row 2", "line 7", "'bad'"],
    ),
    "csv value in the first block": (
        "a.csv",
        "name,x\n" + "".join(f"n{i},{i}\n" for i in range(5)) + "bad,abc\n",
        ["--type", "x=int"],
        ["'x'", "row 5", "line 7", "'abc'"],
    ),
    "csv value in a later block": (
        "a.csv",
        "name,x\n" + "".join(f"{'n' * 90},{i}\n" for i in range(60_000)) + "bad,abc\n",
        [],
        ["'x'", "row 60000", "line 60002", "'abc'"],
    ),
    "csv row of another length": ("a.csv", "a,b\n1,2\n3\n", [], ["row 1", "line 3", "1 columns"]),
    "csv without anything": ("a.csv", "", [], ["a.csv cannot be read as CSV"]),
    "csv with a heading only": ("a.csv", "a,b\n", [], ["a.csv holds no records"]),
    "csv with only nulls": ("a.csv", "a,b\n1,\n2,\n", [], ["'b'", "only nulls"]),
    "csv with a name twice": ("a.csv", "a,a\n1,2\n", [], ["'a'"]),
    "csv with a name that no field has": ("a.csv", "a b\n1\n", [], ["'a b'"]),
    "json value": (
        "a.jsonl",
        '{"x": 1}\n\n{"x": 2}\n{"x": "q"}\n',
        [],
        ["'x'", "row 2", "line 4", '"q"'],
    ),
    "json that is none": ("a.jsonl", '{"x": 1}\n{"x": \n', [], ["row 1", "line 2", "not JSON"]),
    "json that is a list": ("a.jsonl", '{"x": 1}\n[2]\n', [], ["row 1", "line 2", "not an object"]),
    "json with a late field": (
        "a.jsonl",
        "".join(f'{{"x": "{"n" * 99}"}}\n' for _ in range(45_000)) + '{"x": "", "late": 1}\n',
        [],
        ["'late'", "row 45000", "line 45001"],
    ),
    "json value in a later block": (
        "a.jsonl",
        "".join(f'{{"x": {i}, "t": "{"n" * 90}"}}\n' for i in range(45_000))
        + '{"x": 1.5, "t": ""}\n',
        [],
        ["'x'", "row 45000", "line 45001", "1.5"],
    ),
    "not Parquet": ("a.parquet", "nonsense", [], ["a.parquet cannot be read as Parquet"]),
    "not Arrow": ("a.arrow", "nonsense", [], ["a.arrow cannot be read as Arrow IPC"]),
    "unknown ending": ("a.xyz", "x", [], ["cannot tell the format of", "a.xyz"]),
    "unknown key": ("a.csv", "a\n1\n", ["--key", "b"], ["'b'", "'a'"]),
    "unknown anchor": ("a.csv", "a\n1\n", ["--anchor", "b"], ["'b'"]),
    "unknown type": ("a.csv", "a\n1\n", ["--type", "a=intt"], ["'intt'", "int"]),
    "a type for nothing": ("a.csv", "a\n1\n", ["--type", "b=int"], ["'b'", "'a'"]),
    "a type without a column": ("a.csv", "a\n1\n", ["--type", "int"], ["COLUMN=TYPE"]),
    "unknown column": ("a.csv", "a\n1\n", ["--columns", "b"], ["no column 'b'", "'a'"]),
    "the key twice": ("a.csv", "a\n1\n2\n1\n", ["--key", "a"], ["row 2"]),
    "a negative anchor": ("a.csv", "a,b\n1,1\n-1,1\n", ["--anchor", "a"], ["row 1", "-1"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_explained_and_nothing_is_made(case: str, tmp_path: Path) -> None:
    name, text, options, words = WRONG[case]
    (tmp_path / name).write_text(text)
    outcome = run("ingest", "data", tmp_path / name, *options, backend=tmp_path / "s")
    assert outcome.code in (2, 3)
    assert "defect" not in outcome.err
    for word in words:
        assert word in outcome.err
    assert run("head", "data", backend=tmp_path / "s").code == 3


def test_a_value_that_the_dataset_refuses_names_its_file(tmp_path: Path) -> None:
    vd.Dataset.create("data", vd.Schema().add_scalar_int("x", required=True), tmp_path / "s")
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.table({"x": [1, 2, 3]}), folder / "a.parquet")
    pq.write_table(pa.table({"x": [4, None]}), folder / "b.parquet")
    outcome = run("ingest", "data", folder, backend=tmp_path / "s")
    assert outcome.code == 2
    assert "'x'" in outcome.err
    assert f"row 1 of {folder / 'b.parquet'}" in outcome.err
    assert vd.Dataset.open_ref("data", tmp_path / "s").count() == 0


def test_text_of_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("name,x\ncaf\xe9,1\n".encode("latin-1"))
    (tmp_path / "a.jsonl").write_bytes('{"name": "caf\xe9"}\n'.encode("latin-1"))
    for name in ("a.csv", "a.jsonl"):
        outcome = run("ingest", "data", tmp_path / name, backend=tmp_path / "s")
        assert outcome.code == 2
        assert "'name'" in outcome.err
        assert name in outcome.err


def test_a_missing_file_names_the_nearest_ones(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("a\n1\n")
    outcome = run("ingest", "data", tmp_path / "label.csv", backend=tmp_path / "s")
    assert outcome.code == 3
    assert "labels.csv" in outcome.err


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").symlink_to(tmp_path)
    outcome = run("ingest", "data", tmp_path / "a.parquet", backend=tmp_path / "s")
    assert outcome.code == 3, outcome.err
    loop = tmp_path / "in"
    loop.mkdir()
    (loop / "a.csv").symlink_to(loop / "a.csv")
    outcome = run("ingest", "data", loop, backend=tmp_path / "s")
    assert outcome.code == 7
    assert "a.csv cannot be read" in outcome.err


def test_files_of_two_formats_need_a_choice(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("x\n1\n")
    (folder / "b.jsonl").write_text('{"x": 2}\n')
    outcome = run("ingest", "data", folder, backend=tmp_path / "s")
    assert outcome.code == 2
    assert "csv, jsonl" in outcome.err
    done("ingest", "data", folder, "--format", "jsonl", backend=tmp_path / "s")
    assert _stored(tmp_path / "s")["x"].to_pylist() == [2]


def test_a_snapshot_takes_no_records(space: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("label\n1\n")
    assert run("ingest", "v1", tmp_path / "a.csv", backend=space).code == 8


def test_another_key_than_the_stored_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    done("ingest", "data", tmp_path / "a.csv", "--key", "x", backend=tmp_path / "s")
    outcome = run("ingest", "data", tmp_path / "a.csv", "--key", "y", backend=tmp_path / "s")
    assert outcome.code == 2
    assert "the key 'x', not 'y'" in outcome.err


# --- repetition ---------------------------------------------------------------------------------


def test_with_a_key_a_repetition_adds_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(_table(500), path)
    done("ingest", "data", path, "--key", "id", backend=tmp_path / "s")
    tip = vd.Dataset.open_ref("data", tmp_path / "s").current_manifest()
    told = done("ingest", "data", path, "--key", "id", "--json", backend=tmp_path / "s").data
    assert (told["read"], told["added"], told["manifest"]) == (500, 0, tip)
    pq.write_table(_table(700), path)
    told = done("ingest", "data", path, "--json", backend=tmp_path / "s").data
    assert (told["added"], told["rows"]) == (200, 700)
    assert sorted(_stored(tmp_path / "s")["id"].to_pylist()) == _table(700)["id"].to_pylist()


def test_commits_of_a_size(tmp_path: Path) -> None:
    pq.write_table(_table(250), tmp_path / "t.parquet")
    done("ingest", "data", tmp_path / "t.parquet", "--commit-every", 100, backend=tmp_path / "s")
    log = vd.Dataset.open_ref("data", tmp_path / "s").log()
    assert [record.rows for record in log] == [250, 200, 100]
    assert _stored(tmp_path / "s")["id"].to_pylist() == _table(250)["id"].to_pylist()


def test_an_interrupted_ingest_can_be_repeated(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    _images(root, ["cat"], count=30)
    # Reading stops at this one until somebody writes to it: a moment to interrupt at.
    pipe = root / "zebra" / "0.png"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    arguments = ("ingest", "pets", root, "--key", "path", "--commit-every", 10, "--batch-size", 10)
    started = spawn(*arguments, "--backend", tmp_path / "s")
    with open(pipe, "wb"):  # waits until the reader has come to it
        started.send_signal(signal.SIGINT)
        _, err = started.communicate()
    assert started.returncode == 130, err
    assert b"Traceback" not in err
    assert vd.Dataset.open_ref("pets", tmp_path / "s").count() == 30
    pipe.unlink()
    Image.new("L", (4, 4), 9).save(pipe)
    told = done(*arguments, "--json", backend=tmp_path / "s").data
    assert (told["read"], told["added"], told["rows"]) == (31, 1, 31)
    assert done("verify", "--json", backend=tmp_path / "s").data["ok"]
    paths = _stored(tmp_path / "s", "pets")["path"].to_pylist()
    assert sorted(paths) == sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))


def test_an_interruption_of_one_commit_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    _images(root, ["cat"], count=30)
    pipe = root / "zebra" / "0.png"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    started = spawn("ingest", "pets", root, "--batch-size", 5, "--backend", tmp_path / "s")
    with open(pipe, "wb"):
        started.send_signal(signal.SIGINT)
        started.communicate()
    assert started.returncode == 130
    assert done("refs", "--json", backend=tmp_path / "s").data["refs"] == []
