"""Layers, updates, deletions, fields that come and go."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import dreamdb as vd
from tests.dataset.spaces import again, by_anchor, make, numbered, records, stored

PAIRS = [(20, 2), (0, 0), (10, 1)]
ANCHORS, VALUES = [a for a, _ in PAIRS], [v for _, v in PAIRS]

SAMPLES: dict[str, Callable[[], Any]] = {
    "pairs": lambda: PAIRS,
    "tuple of pairs": lambda: tuple(PAIRS),
    "iterator of pairs": lambda: iter(PAIRS),
    "zip": lambda: zip(ANCHORS, VALUES, strict=True),
    "mapping": lambda: dict(PAIRS),
    "arrays": lambda: (np.array(ANCHORS), np.array(VALUES)),
    "lists": lambda: (ANCHORS, VALUES),
    "arrow arrays": lambda: (pa.array(ANCHORS, pa.uint64()), pa.chunked_array([VALUES])),
    "table": lambda: pa.table({"_anchor": ANCHORS, "p": VALUES}),
    "table of more columns": lambda: pa.table({"p": VALUES, "_anchor": ANCHORS, "q": VALUES}),
    "table without names": lambda: pa.table({"a": ANCHORS, "b": VALUES}),
    "batch": lambda: pa.table({"_anchor": ANCHORS, "p": VALUES}).to_batches()[0],
    "reader": lambda: pa.table({"_anchor": ANCHORS, "p": VALUES}).to_reader(),
    "pandas": lambda: pd.DataFrame({"_anchor": ANCHORS, "p": VALUES}),
    "polars": lambda: pl.DataFrame({"_anchor": ANCHORS, "p": VALUES}),
    "columns": lambda: {"_anchor": ANCHORS, "p": VALUES},
}


@pytest.mark.parametrize("samples", SAMPLES.values(), ids=SAMPLES.keys())
def test_every_form_of_samples(samples: Callable[[], Any]) -> None:
    ds = numbered(4)
    assert ds.add_scalar_layer("p", "x", "int", samples()) == 3
    assert by_anchor(ds, "p") == {0: 0, 10: 1, 20: 2, 30: None}
    assert by_anchor(again(ds), "p") == by_anchor(ds, "p")
    assert ds.schema["p"].parent == "x"


def test_modes() -> None:
    ds = numbered(4)
    ds.add_scalar_layer("p", None, "string", [(0, "a"), (10, "b")])
    assert ds.add_scalar_layer("p", None, "string", [(10, "c"), (20, "d")], mode="update") == 2
    assert list(by_anchor(ds, "p").values()) == ["a", "c", "d", None]
    ds.add_scalar_layer("p", None, "string", [(30, "e")], mode="replace")
    assert list(by_anchor(ds, "p").values()) == [None, None, None, "e"]
    ds.add_scalar_layer("q", None, "float", [(0, 0.5)], mode="replace")
    assert list(by_anchor(ds, "q").values()) == [0.5, None, None, None]
    ds.add_scalar_layer("q", None, "float", [(0, None)], mode="update")
    assert list(by_anchor(ds, "q").values()) == [None] * 4


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("bool", [True, False]),
        ("int", [5, -5]),
        ("float", [0.5, float("inf")]),
        ("string", ["a", "b"]),
        ("categorical", ["a", "a"]),
        ("text", ["long", "longer"]),
        (int, [1, 2]),
        ("float64", [1.0, 2.0]),
    ],
)
def test_scalar_layers_of_every_type(kind: Any, values: list[Any]) -> None:
    ds = numbered(3)
    ds.add_scalar_layer("p", None, kind, list(zip([0, 20], values, strict=True)))
    assert list(by_anchor(ds, "p").values()) == [values[0], None, values[1]]


def test_embedding_and_image_layers() -> None:
    ds = numbered(3)
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    ds.add_embedding_layer("e", "x", 3, samples=([0, 20], vectors))
    assert by_anchor(ds, "e") == {0: [0, 1, 2], 10: None, 20: [3, 4, 5]}
    ds.add_embedding_layer("e", "x", 3, samples=[(10, [9, 9, 9])], mode="update")
    assert by_anchor(ds, "e")[10] == [9, 9, 9]
    ds.add_image_layer("mask", "x", samples=[(10, b"png")])
    assert by_anchor(ds, "mask") == {0: None, 10: b"png", 20: None}
    assert ds.open_blob(10, "mask").read() == b"png"


def test_layers_skip_deleted_records() -> None:
    ds = numbered(3)
    ds.delete([10])
    ds.add_scalar_layer("p", None, "int", [(0, 1), (20, 3)])
    assert by_anchor(ds, "p") == {0: 1, 20: 3}
    with pytest.raises(vd.AnchorNotFoundError, match="10"):
        ds.add_scalar_layer("q", None, "int", [(10, 1)])
    ds.append_many([{"_anchor": 10, "x": 7}])
    assert by_anchor(ds, "p") == {0: 1, 10: None, 20: 3}


def test_a_layer_of_many_records_and_of_few() -> None:
    ds = make(vd.Schema().add_scalar_int("x"), data={"x": np.arange(200_000)})
    anchors = ds.scan([]).to_arrow()["_anchor"].to_numpy()
    values = np.random.default_rng(0).integers(0, 100, len(anchors))
    ds.add_scalar_layer("p", None, "int", (anchors, values))
    some = np.arange(0, len(anchors), 997)
    ds.add_scalar_layer("q", None, "int", (anchors[some], values[some]))
    ds.add_scalar_layer("p", None, "int", (anchors[some], -values[some]), mode="update")
    want = values.copy()
    want[some] = -values[some]
    np.testing.assert_array_equal(ds["p"].to_numpy(), want)
    found = ds["q"].combine_chunks()
    assert len(found) - found.null_count == len(some)
    np.testing.assert_array_equal(found.drop_null().to_numpy(), values[some])


# ---------------------------------------------------------------- update


def test_update_one_and_many() -> None:
    schema = vd.Schema().add_scalar_int("x").add_scalar_string("s").add_embedding("v", 2)
    ds = make(schema, [{"_anchor": i, "x": i, "s": str(i), "v": [i, i]} for i in range(5)])
    assert ds.update(3, {"x": 30}) == 1
    assert ds.update([4, 0], {"x": [40, 0], "s": ["four", None]}) == 2
    assert ds.update(np.array([1, 2], np.uint64), {"s": "same", "v": np.ones((2, 2))}) == 2
    assert records(ds) == [
        {"_anchor": 0, "x": 0, "s": None, "v": [0, 0]},
        {"_anchor": 1, "x": 1, "s": "same", "v": [1, 1]},
        {"_anchor": 2, "x": 2, "s": "same", "v": [1, 1]},
        {"_anchor": 3, "x": 30, "s": "3", "v": [3, 3]},
        {"_anchor": 4, "x": 40, "s": "four", "v": [4, 4]},
    ]


def test_one_value_for_all() -> None:
    schema = (
        vd.Schema()
        .add_scalar_timestamp("t")
        .add_struct("r", {"a": "int"})
        .add_embedding("v", 2)
        .add_tensor("m", "int8", (2, 2))
        .add_binary("b")
        .add_scalar_bool("ok")
    )
    ds = make(schema, [{"_anchor": i} for i in range(2)])
    when = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    one = {"t": when, "r": {"a": 1}, "v": [1.0, 2.0], "m": np.eye(2, dtype=np.int8), "b": b"x"}
    ds.update([0, 1], {**one, "ok": True})
    for record in ds:
        assert record["t"] == np.datetime64("2024-01-01", "ns")
        assert record["r"] == {"a": 1}
        assert record["v"].tolist() == [1.0, 2.0]
        assert record["m"].tolist() == [[1, 0], [0, 1]]
        assert record["b"] == b"x"
        assert record["ok"] is True


def test_an_update_that_changes_nothing_makes_no_commit() -> None:
    ds = numbered(3)
    before = ds.current_manifest()
    ds.update([0, 10], {"x": [0, 1]})
    ds.update([], {"x": []})
    ds.set_metadata({})
    assert ds.delete([]) == 0
    assert ds.delete("x > 100") == 0
    assert ds.current_manifest() == before
    assert len(ds.log()) == 2


# ---------------------------------------------------------------- delete


def test_delete_by_anchors_and_conditions() -> None:
    ds = numbered(100)
    assert ds.delete(10) == 1
    assert ds.delete(np.array([30, 20], np.uint64), reason="noise") == 2
    assert ds.delete("x >= 90", reason="late") == 10
    assert ds.delete(vd.col("x") < 2) == 1
    assert ds.delete(pc.field("_anchor") == 500) == 1
    left = [i for i in range(4, 90) if i != 50]
    assert ds["x"].to_pylist() == left
    assert ds.count() == len(ds) == len(left)
    assert [r["x"] for r in ds] == left
    assert ds.log()[2].operation == {"name": "delete", "rows": 10, "reason": "late"}
    with pytest.raises(vd.AnchorNotFoundError, match="10"):
        ds.delete([40, 10])
    assert vd.connect(ds.backend).verify().ok


def test_everything_can_be_deleted() -> None:
    ds = numbered(1_000)
    snapshot = ds.snapshot("all")
    assert ds.delete("TRUE") == 1_000
    assert ds.count() == 0
    assert records(ds) == []
    assert list(ds.iter_arrow_batches(shuffle_seed=1)) == []
    assert ds.scan(where="x > 5", order="descending").to_arrow().num_rows == 0
    ds.append_many([{"_anchor": 0, "x": 5}])
    assert records(ds) == [{"_anchor": 0, "x": 5}]
    assert vd.Dataset.open_at(snapshot, ds.backend).count() == 1_000


# ---------------------------------------------------------------- fields


def test_fields_come_and_go() -> None:
    ds = make(vd.Schema().add_scalar_int("x").add_image("im"), [{"_anchor": 1, "x": 1, "im": b"i"}])
    old = ds.snapshot("old")
    ds.add_fields(vd.Schema().add_text("caption").add_tensor("m", "int8", (2,)).add_list("l"))
    assert records(ds)[0] == {
        "_anchor": 1, "x": 1, "im": b"i", "caption": None, "m": None, "l": None,
    }  # fmt: skip
    assert len(ds.log()) == 3
    ds.update([1], {"caption": "a digit", "m": np.array([[1, 2]], np.int8), "l": [[0.5]]})
    ds.rename_field("caption", "title")
    ds.drop_field("im")
    assert set(ds.schema) == {"x", "title", "m", "l"}
    assert ds["title"].to_pylist() == ["a digit"]
    with pytest.raises(vd.FieldNotFoundError, match="'caption'"):
        ds["caption"]
    assert set(vd.Dataset.open_at(old, ds.backend).schema) == {"x", "im"}
    ds.add_scalar_layer("im", None, "int", [(1, 5)])
    assert ds["im"].to_pylist() == [5]
    assert vd.connect(ds.backend).verify().ok


def test_two_names_can_be_exchanged() -> None:
    ds = make(vd.Schema().add_scalar_int("a").add_text("b"), [{"a": 1, "b": "one"}])
    with ds.transaction() as tx:
        tx.rename_field("a", "c")
        tx.rename_field("b", "a")
        tx.rename_field("c", "b")
    assert (ds["a"].to_pylist(), ds["b"].to_pylist()) == (["one"], [1])


def test_adding_several_fields_is_all_or_nothing() -> None:
    ds = numbered(1)
    before = stored(ds.backend)
    with pytest.raises(vd.SchemaError, match="'b'"):
        ds.add_fields(vd.Schema().add_scalar_int("a").add_scalar_int("b", required=True))
    assert stored(ds.backend) == before
    empty = numbered(0)
    empty.add_fields(vd.Schema().add_scalar_int("b", required=True))
    with pytest.raises(vd.InvalidInputError, match="'b'"):
        empty.append_many([{"x": 1}])


def test_layers_in_any_order_are_one_content() -> None:
    ds = numbered(2_000)
    left, right = ds.branch("left"), ds.branch("right")
    samples = [(10 * i, i % 7) for i in range(2_000)]
    for branch, names in ((left, "pq"), (right, "qp")):
        for name in names:
            branch.add_scalar_layer(name, "x", "int", samples)
    assert left.content_id == right.content_id
    left.rename_field("p", "z")
    assert left.content_id != right.content_id
    left.rename_field("z", "p")
    assert left.content_id == right.content_id
    left.drop_field("p")
    left.drop_field("q")
    assert left.content_id == ds.content_id
