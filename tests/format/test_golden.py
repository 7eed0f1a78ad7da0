"""Golden spaces: what a released version wrote stays readable, and stays what it was."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

import dreamdb as vd
from tests.format.independent_reader import IndependentReader
from tests.format.spaces import (
    Rows,
    append,
    comparable,
    default_schema,
    from_json,
    plain,
    schema_at,
    table_of,
)

FOLDER = Path(__file__).parent / "golden"
VERSIONS = sorted(path.name.split(".")[0] for path in FOLDER.glob("*.json.gz"))


def rows_of_document(told: dict[str, Any]) -> Rows:
    return {
        int(anchor): dict(zip(told["fields"], from_json(values), strict=True))
        for anchor, values in told["rows"].items()
    }


@pytest.fixture(scope="module", params=VERSIONS)
def golden(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp(request.param)
    with tarfile.open(FOLDER / f"{request.param}.tar.gz") as tar:
        # Not extractall: its filters came with a patch release of Python 3.11.
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            (root / member.name).parent.mkdir(parents=True, exist_ok=True)
            (root / member.name).write_bytes(file.read())
    return root, json.loads(gzip.decompress((FOLDER / f"{request.param}.json.gz").read_bytes()))


Golden = tuple[Path, dict[str, Any]]


def test_there_is_a_small_golden_space() -> None:
    assert VERSIONS
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 300_000


def test_the_library_reads_it(golden: Golden) -> None:
    root, document = golden
    assert vd.connect(root).list_refs() == sorted(document)
    for ref, told in document.items():
        ds = vd.Dataset.open_ref(ref, root)
        rows = rows_of_document(told)
        assert (ds.content_id, ds.current_manifest()) == (told["content"], told["manifest"])
        table = ds.scan().to_arrow()
        assert table["_anchor"].to_pylist() == sorted(rows)
        for name in told["fields"]:
            assert [comparable(v) for v in plain(table[name])] == table_of(rows, name), (ref, name)


def test_the_independent_reader_reads_it(golden: Golden) -> None:
    root, document = golden
    reader = IndependentReader(root)
    assert sorted(reader.refs()) == sorted(document)
    for ref, told in document.items():
        rows = rows_of_document(told)
        manifest = reader.manifest_of(ref)
        assert manifest == told["manifest"]
        assert next(iter(reader.history(manifest)))[0] == manifest
        anchors, columns = reader.rows(manifest)
        assert anchors == sorted(rows)
        for name in told["fields"]:
            assert [comparable(v) for v in columns[name]] == table_of(rows, name), (ref, name)


def test_it_verifies(golden: Golden) -> None:
    report = vd.connect(golden[0]).verify()
    assert report.ok, report.damage
    assert report.refs == len(golden[1])


def test_the_same_records_give_the_same_contents_today(golden: Golden, tmp_path: Path) -> None:
    """Bytes are normative: no library version, nor pyarrow's, may change an address."""
    rebuilt = 0
    for ref, told in golden[1].items():
        if told["rungs"] is None:
            continue
        names = told["fields"]
        rungs = told["rungs"]
        schema = default_schema(*names) if rungs == "default" else schema_at(tuple(rungs), *names)
        ds = vd.Dataset.create(ref, schema, backend=tmp_path)
        append(ds, rows_of_document(told))
        assert ds.content_id == told["content"], ref
        rebuilt += 1
    assert rebuilt > 4


def test_it_can_be_written_on(golden: Golden) -> None:
    root, document = golden
    ds = vd.Dataset.open_ref("all", root).branch("later")
    before = ds.count()
    append(ds, {1: {"label": "new"}})
    assert ds.count() == before + 1
    assert vd.Dataset.open_ref("all", root).content_id == document["all"]["content"]
    assert vd.connect(root).verify().ok
    vd.connect(root).delete_ref("later")
