"""Appending and upserting: every input form, any order of anchors, keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import dreamdb as vd
from dreamdb.write import anchor_of_key
from tests.dataset.spaces import again, by_anchor, make, numbered, records, stored

COLUMNS = {"_anchor": [30, 10, 20], "x": [3, 1, 2], "s": ["c", "a", None]}


class ArrowStream:
    """Something foreign that speaks the Arrow C stream interface, once."""

    def __init__(self, table: pa.Table) -> None:
        self._reader = table.to_reader()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._reader.__arrow_c_stream__(requested_schema)


def table() -> pa.Table:
    return pa.table({**COLUMNS, "_anchor": pa.array(COLUMNS["_anchor"], pa.uint64())})


def rows() -> list[dict[str, Any]]:
    return table().to_pylist()


FORMS: dict[str, Callable[[], Any]] = {
    "table": table,
    "table of chunks": lambda: pa.concat_tables([table().slice(0, 1), table().slice(1)]),
    "batch": lambda: table().combine_chunks().to_batches()[0],
    "reader": lambda: table().to_reader(),
    "stream": lambda: ArrowStream(table()),
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "polars": lambda: pl.DataFrame(COLUMNS),
    "polars categorical": lambda: pl.DataFrame(COLUMNS, schema_overrides={"s": pl.Categorical}),
    "columns": lambda: COLUMNS,
    "numpy columns": lambda: {**COLUMNS, "_anchor": np.array([30, 10, 20])},
    "records": rows,
    "tuple of records": lambda: tuple(rows()),
    "list of tables": lambda: [table().slice(0, 2), table().slice(2)],
    "iterator of tables": lambda: iter([table().slice(0, 2), table().slice(2)]),
    "iterator of batches": lambda: iter(table().to_batches()),
    "iterator of readers": lambda: iter([table().slice(0, 2).to_reader(), table().slice(2)]),
    "iterator of records": lambda: iter(rows()),
    "iterator of pandas": lambda: iter([pd.DataFrame(COLUMNS)]),
    "iterator of lists": lambda: iter([rows()[:1], rows()[1:]]),
    "iterator of columns": lambda: iter([{k: table()[k] for k in COLUMNS}]),
    "generator of polars": lambda: (pl.DataFrame(COLUMNS) for _ in range(1)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("verb", ["append", "upsert", "create", "transaction"])
def test_every_form_of_input(form: Callable[[], Any], verb: str) -> None:
    schema = vd.Schema().add_scalar_int("x").add_scalar_string("s")
    if verb == "create":
        ds = make(schema, data=form())
    else:
        ds = make(schema)
        if verb == "transaction":
            with ds.transaction() as tx:
                assert tx.append(form()) == 3
        else:
            assert getattr(ds, verb)(form()) == 3
    want = [
        {"_anchor": 10, "x": 1, "s": "a"},
        {"_anchor": 20, "x": 2, "s": None},
        {"_anchor": 30, "x": 3, "s": "c"},
    ]
    assert records(ds) == records(again(ds)) == want


@pytest.mark.parametrize(
    "empty",
    [
        [],
        (),
        {},
        iter(()),
        pa.table({"x": pa.array([], pa.int64())}),
        {"x": []},
        pd.DataFrame({"x": np.array([], np.int64)}),
        pa.schema([("x", pa.int64())]).empty_table().to_reader(),
    ],
    ids=lambda v: type(v).__name__,
)
def test_nothing_to_append_makes_no_commit(empty: Any) -> None:
    ds = numbered(2)
    before = stored(ds.backend)
    assert ds.append(empty) == 0
    assert stored(ds.backend) == before


def test_fields_that_are_not_given_are_null() -> None:
    ds = make(vd.Schema().add_scalar_int("x").add_text("s").add_embedding("v", 2).add_image("i"))
    ds.append({"x": [1, 2]})
    ds.append_many([{"v": [1.0, 2.0]}, {}])
    assert ds["x"].to_pylist() == [1, 2, None, None]
    assert ds["s"].to_pylist() == [None] * 4
    assert ds["v"].to_pylist() == [None, None, [1.0, 2.0], None]


def test_automatic_anchors_increase_and_follow_the_tip() -> None:
    ds = numbered(0)
    ds.append_many([{"x": 1}, {"x": 2}])
    far = 1 << 62
    ds.append_many([{"_anchor": far, "x": 3}])
    ds.append({"x": [4, 5]})
    anchors = ds.scan([]).to_arrow()["_anchor"].to_pylist()
    assert anchors == sorted(set(anchors))
    assert anchors[2:] == [far, far + 1, far + 2]
    assert ds["x"].to_pylist() == [1, 2, 3, 4, 5]


def test_the_last_anchors_there_are() -> None:
    ds = numbered(0)
    ds.append_many([{"_anchor": 0, "x": 0}, {"_anchor": (1 << 64) - 2, "x": 1}])
    ds.append_many([{"x": 2}])
    assert list(by_anchor(ds, "x")) == [0, (1 << 64) - 2, (1 << 64) - 1]
    with pytest.raises(vd.InvalidInputError, match="no anchors left"):
        ds.append_many([{"x": 3}])
    assert [a in ds for a in (0, 1, (1 << 64) - 1, -1, 1 << 64, "a", None)] == [
        True, False, True, False, False, False, False,
    ]  # fmt: skip


def test_anchors_of_times() -> None:
    ds = numbered(0)
    times = pa.array([2, 1], pa.timestamp("us"))
    ds.append(pa.table({"when": times, "x": [1, 2]}), anchor="when")
    assert by_anchor(ds, "x") == {1_000: 2, 2_000: 1}


def test_an_anchor_column_that_is_also_a_field() -> None:
    ds = make(vd.Schema().add_scalar_int("ts").add_scalar_int("x"))
    ds.append(pa.table({"ts": [5, 3], "x": [1, 2]}), anchor="ts")
    ds.append_many([{"ts": 4, "x": 9}])
    assert [(r["ts"], r["x"]) for r in records(ds)][:2] == [(3, 2), (5, 1)]


@pytest.mark.parametrize("size", [1, 7, 1_000, 5_000])
def test_anchors_in_any_order_give_one_content(size: int) -> None:
    generator = np.random.default_rng(size)
    anchors = np.unique(generator.integers(0, 1 << 40, size).astype(np.uint64))
    whole = {"_anchor": anchors, "x": (anchors % 1_000).astype(np.int64)}
    schema = vd.Schema().add_scalar_int("x")
    sorted_once = make(schema, data=whole)
    mixed = generator.permutation(len(anchors))
    shuffled = make(schema, data={k: v[mixed] for k, v in whole.items()})
    pieces = make(schema)
    for part in np.array_split(mixed, 5):
        pieces.append({k: v[part] for k, v in whole.items()})
    streamed = make(schema)
    streamed.append(
        iter(
            [
                pa.table({k: pa.array(v[p]) for k, v in whole.items()})
                for p in [mixed[::2], mixed[1::2]]
            ]
        )
    )
    for other in (shuffled, pieces, streamed):
        assert other.content_id == sorted_once.content_id
    assert by_anchor(pieces, "x") == dict(zip(anchors.tolist(), whole["x"].tolist(), strict=True))


def test_inserts_in_the_middle_of_many() -> None:
    ds = numbered(20_000)
    ds.append_many([{"_anchor": 10 * i + 5, "x": -i} for i in (0, 9_999, 19_999, 5_000)])
    want = {10 * i: i for i in range(20_000)} | {
        5: 0, 99_995: -9_999, 199_995: -19_999, 50_005: -5_000,
    }  # fmt: skip
    assert by_anchor(ds, "x") == dict(sorted(want.items()))
    assert vd.connect(ds.backend).verify().ok


def test_a_deleted_anchor_can_be_appended_again() -> None:
    schema = vd.Schema().add_scalar_int("x").add_scalar_string("s")
    ds = make(schema, [{"_anchor": i, "x": i, "s": str(i)} for i in range(100)])
    ds.delete([5, 50])
    assert 5 not in ds
    assert ds.count() == 98
    ds.append_many([{"_anchor": 50, "x": -50}, {"_anchor": 200, "x": 200}, {"_anchor": 5, "x": -5}])
    assert ds.count() == 101
    assert ds.take([5, 50, 200])["x"].to_pylist() == [-5, -50, 200]
    # The old text is not resurrected.
    assert ds.take([5, 50])["s"].to_pylist() == [None, None]
    with pytest.raises(vd.AlreadyExistsError, match="row 0"):
        ds.append_many([{"_anchor": 5, "x": 1}])
    ds.delete([5])
    ds.upsert([{"_anchor": 5, "x": 7}])
    assert ds.take([5])["x"].to_pylist() == [7]
    assert vd.connect(ds.backend).verify().ok


def test_upsert_changes_adds_and_keeps() -> None:
    schema = vd.Schema().add_scalar_int("x").add_scalar_string("s")
    ds = make(schema, [{"_anchor": 1, "x": 1, "s": "a"}, {"_anchor": 2, "x": 2, "s": "b"}])
    assert ds.upsert([{"_anchor": 3, "x": 30}, {"_anchor": 1, "x": 10}]) == 2
    assert records(ds) == [
        {"_anchor": 1, "x": 10, "s": "a"},
        {"_anchor": 2, "x": 2, "s": "b"},
        {"_anchor": 3, "x": 30, "s": None},
    ]
    before = stored(ds.backend)
    assert ds.upsert([{"_anchor": 1, "x": 10}]) == 0
    assert stored(ds.backend) == before


# ---------------------------------------------------------------- keys


def keyed(**options: Any) -> vd.Dataset:
    schema = vd.Schema().add_scalar_string("id").add_scalar_int("x")
    return make(schema, key="id", **options)


def test_a_key_gives_the_anchor() -> None:
    ds = keyed()
    ds.append_many([{"id": "b", "x": 2}, {"id": "a", "x": 1}])
    assert ds.key == "id"
    assert ds.anchor_of("a") == anchor_of_key("a")
    assert ds.take([ds.anchor_of("a"), ds.anchor_of("b")])["x"].to_pylist() == [1, 2]
    assert ds.anchor_of("c") not in ds


def test_ingesting_again_writes_nothing() -> None:
    ds = keyed()
    data = {"id": [f"sample-{i}" for i in range(3_000)], "x": list(range(3_000))}
    assert ds.append(data) == 3_000
    before = stored(ds.backend)
    assert ds.append(data) == 0
    assert again(ds).append({k: v[1_000:2_000] for k, v in data.items()}) == 0
    assert stored(ds.backend) == before
    # Half old, half new: only the new ones arrive, as if they had come at once.
    more = {"id": [f"sample-{i}" for i in range(2_000, 4_000)], "x": list(range(2_000, 4_000))}
    assert ds.append(more) == 1_000
    once = keyed(data={"id": [f"sample-{i}" for i in range(4_000)], "x": list(range(4_000))})
    assert ds.content_id == once.content_id


def test_a_key_with_other_values_is_refused_and_upserted() -> None:
    ds = keyed(data=[{"id": "a", "x": 1}])
    before = stored(ds.backend)
    with pytest.raises(vd.AlreadyExistsError, match="'a'"):
        ds.append_many([{"id": "b", "x": 1}, {"id": "a", "x": 2}])
    for bad in ([{"x": 1}], [{"id": None, "x": 1}], [{"id": "c", "_anchor": 5}]):
        with pytest.raises(vd.InvalidInputError, match=r"id|key"):
            ds.append_many(bad)
    with pytest.raises(vd.InvalidInputError, match="row 1"):
        ds.append_many([{"id": "d", "x": 1}, {"id": "d", "x": 1}])
    with pytest.raises(vd.InvalidInputError, match="'id'"):
        ds.update([ds.anchor_of("a")], {"id": ["z"]})
    for mode in ("replace", "update"):
        with pytest.raises(vd.InvalidInputError, match="'id'"):
            ds.add_scalar_layer("id", None, "string", [(ds.anchor_of("a"), "z")], mode=mode)
    with pytest.raises(vd.SchemaError, match="'id'"):
        ds.drop_field("id")
    assert stored(ds.backend) == before
    assert ds.upsert([{"id": "a", "x": 2}, {"id": "b", "x": 3}]) == 2
    assert {r["id"]: r["x"] for r in records(ds)} == {"a": 2, "b": 3}


def test_integer_keys_are_not_text_keys() -> None:
    ints = make(
        vd.Schema().add_scalar_int("id"), [{"id": n} for n in (0, 1, -1, 1 << 62)], key="id"
    )
    assert ints.count() == 4
    assert anchor_of_key(1) != anchor_of_key("1")
    assert sorted(ints["id"].to_pylist()) == [-1, 0, 1, 1 << 62]
    with pytest.raises(vd.InvalidInputError):
        ints.anchor_of(1.0)


def test_a_key_survives_rename_delete_and_transactions() -> None:
    ds = keyed(data=[{"id": "a", "x": 1}, {"id": "b", "x": 2}])
    ds.rename_field("id", "name")
    assert ds.key == "name"
    ds.delete([ds.anchor_of("a")])
    with ds.transaction() as tx:
        assert tx.append_many([{"name": "a", "x": 5}, {"name": "b", "x": 2}]) == 1
        tx.upsert([{"name": "b", "x": 6}])
    assert {r["name"]: r["x"] for r in records(ds)} == {"a": 5, "b": 6}


def test_a_long_keyed_ingest_is_replayed_from_the_store() -> None:
    ds = make(vd.Schema().add_scalar_int("id").add_binary("b"), key="id")
    other = again(ds)
    blob = b"0123456789" * 100_000

    def samples() -> Any:
        for number in range(80):
            if number == 75:
                other.append_many([{"id": -1, "b": b"other"}])
            yield pa.table({"id": [number], "b": [blob]})

    assert ds.append(samples()) == 80
    assert ds.count() == 81
    assert sorted(ds["id"].to_pylist()) == list(range(-1, 80))
    assert ds.take([ds.anchor_of(79)])["b"][0].as_py() == blob
