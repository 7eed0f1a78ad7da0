"""Bad input: a typed error that names field and row, and nothing written at all."""

# ruff: noqa: E501 - one case per line
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import dreamdb as vd
from tests.dataset.spaces import make, stored

NAN = float("nan")


def wide() -> vd.Dataset:
    """Return a dataset with a field of every kind and two records, 10 and 20."""
    schema = (
        vd.Schema()
        .add_scalar_int("i", required=True)
        .add_scalar_float("f")
        .add_scalar_bool("b")
        .add_scalar_string("s")
        .add_scalar_categorical("c")
        .add_scalar_timestamp("t")
        .add_text("doc")
        .add_image("img", mime="png")
        .add_embedding("v", dim=3)
        .add_tensor("m", "int16", (2, 2))
        .add_list("l", "int")
        .add_struct("r", {"a": "int"})
    )
    return make(schema, [{"_anchor": 10, "i": 1}, {"_anchor": 20, "i": 2, "s": "two"}])


def rows(field: str, value: Any) -> list[dict[str, Any]]:
    """Return three records of which the last holds a bad value."""
    return [{"i": 1}, {"i": 2}, {"i": 3, field: value}]


BAD_VALUES: list[tuple[str, Any]] = [
    ("i", True),
    ("i", 1.5),
    ("i", "1"),
    ("i", 1 << 63),
    ("i", -(1 << 63) - 1),
    ("i", None),
    ("i", np.uint64(1 << 63)),
    ("f", True),
    ("f", "1.0"),
    ("f", (1 << 53) + 1),
    ("b", 1),
    ("b", "yes"),
    ("s", 3),
    ("s", b"bytes"),
    ("s", NAN),
    ("s", "\ud800"),
    ("c", 1.0),
    ("t", "2024-01-01"),
    ("t", 1.5),
    ("t", True),
    ("t", 1 << 63),
    ("doc", ["a"]),
    ("img", "path.png"),
    ("img", 5),
    ("img", np.zeros((2, 2))),
    ("v", [1.0, 2.0]),
    ("v", [1.0, 2.0, 3.0, 4.0]),
    ("v", [1.0, NAN, 2.0]),
    ("v", np.array([1.0, np.inf, 2.0])),
    ("v", [1.0, None, 2.0]),
    ("v", 3.0),
    ("v", "abc"),
    ("v", np.zeros((1, 3))),
    ("v", [1e300, 0.0, 0.0]),
    ("m", np.zeros((2, 3), np.int16)),
    ("m", np.full((2, 2), 40_000)),
    ("m", np.full((2, 2), 0.5)),
    ("l", [1, "a"]),
    ("l", 5),
    ("l", [True]),
    ("r", {"a": 1, "z": 2}),
    ("r", {"a": "x"}),
    ("r", [1]),
]


@pytest.mark.parametrize(("field", "value"), BAD_VALUES, ids=lambda v: repr(v)[:30])
def test_a_value_that_does_not_fit(field: str, value: Any) -> None:
    ds = wide()
    before = stored(ds.backend)
    verbs: list[Callable[[], Any]] = [
        lambda: ds.append_many(rows(field, value)),
        lambda: ds.append(rows(field, value)),
        lambda: ds.append(iter(rows(field, value))),
        lambda: ds.upsert([{"_anchor": n, **row} for n, row in enumerate(rows(field, value))]),
    ]
    for verb in verbs:
        with pytest.raises(vd.InvalidInputError) as caught:
            verb()
        # An element of a list or a member of a struct is named too: 'l[]', 'r.a'.
        assert f"'{field}" in str(caught.value)
        assert "row 2" in str(caught.value)
        assert str(caught.value.details["field"]).startswith(field)
        assert caught.value.details["row"] == 2
        assert stored(ds.backend) == before
    assert ds.count() == again_count(ds) == 2


def again_count(ds: vd.Dataset) -> int:
    return vd.Dataset.open_ref("main", ds.backend).count()


@pytest.mark.parametrize(("field", "value"), BAD_VALUES, ids=lambda v: repr(v)[:30])
def test_a_value_that_does_not_fit_in_update(field: str, value: Any) -> None:
    ds = wide()
    before = stored(ds.backend)
    with pytest.raises(vd.InvalidInputError) as caught:
        ds.update([10, 20], {field: [None if field != "i" else 5, value]})
    assert f"'{field}" in str(caught.value)
    assert "row 1" in str(caught.value)
    assert stored(ds.backend) == before


CALLS: list[tuple[str, Callable[[vd.Dataset], Any], type[Exception], list[str]]] = [
    ("unknown field", lambda d: d.append_many([{"i": 1, "im": b""}]), vd.FieldNotFoundError,
     ["'im'", "row 0"]),
    ("unknown field later", lambda d: d.append_many([{"i": 1}, {"i": 1, "zz": 1}]),
     vd.FieldNotFoundError, ["'zz'", "row 1"]),
    ("unknown column", lambda d: d.append(pa.table({"i": [1], "zz": [1]})),
     vd.FieldNotFoundError, ["'zz'"]),
    ("column twice", lambda d: d.append(pa.table([[1], [1]], names=["i", "i"])),
     vd.InvalidInputError, ["twice"]),
    ("required missing", lambda d: d.append_many([{"s": "x"}]), vd.InvalidInputError,
     ["'i'", "required", "row 0"]),
    ("required missing in a table", lambda d: d.append(pa.table({"s": ["x"]})),
     vd.InvalidInputError, ["'i'", "required"]),
    ("required null in a table", lambda d: d.append(pa.table({"i": [1, None]})),
     vd.InvalidInputError, ["'i'", "row 1"]),
    ("anchor twice", lambda d: d.append_many([{"_anchor": 5, "i": 1}] * 2), vd.InvalidInputError,
     ["row 1", "row 0", "5"]),
    ("anchor twice, apart", lambda d: d.append(pa.table({"_anchor": [7, 5, 9, 5], "i": [1] * 4})),
     vd.InvalidInputError, ["row 3", "row 1", "5"]),
    ("anchor stored", lambda d: d.append_many([{"_anchor": 30, "i": 1}, {"_anchor": 10, "i": 1}]),
     vd.AlreadyExistsError, ["row 1", "10"]),
    ("anchor of some", lambda d: d.append_many([{"_anchor": 5, "i": 1}, {"i": 1}]),
     vd.InvalidInputError, ["row 1", "anchor"]),
    ("anchor negative", lambda d: d.append_many([{"_anchor": -1, "i": 1}]), vd.InvalidInputError,
     ["row 0", "-1"]),
    ("anchor too large", lambda d: d.append_many([{"_anchor": 1 << 64, "i": 1}]),
     vd.InvalidInputError, ["row 0"]),
    ("anchor null", lambda d: d.append(pa.table({"_anchor": pa.array([1, None], pa.uint64()),
     "i": [1, 2]})), vd.InvalidInputError, ["row 1", "null"]),
    ("anchor float", lambda d: d.append(pa.table({"_anchor": [1.0], "i": [1]})),
     vd.InvalidInputError, ["_anchor"]),
    ("anchor bool", lambda d: d.append_many([{"_anchor": True, "i": 1}]), vd.InvalidInputError,
     ["row 0"]),
    ("anchor column unknown", lambda d: d.append(pa.table({"i": [1]}), anchor="ts"),
     vd.FieldNotFoundError, ["'ts'"]),
    ("bool column", lambda d: d.append(pa.table({"i": [True]})), vd.InvalidInputError, ["'i'"]),
    ("float column", lambda d: d.append(pa.table({"i": [1.0, 2.0]})), vd.InvalidInputError,
     ["'i'", "row 0"]),
    ("uint64 column", lambda d: d.append(pa.table({"i": pa.array([1, 1 << 63], pa.uint64())})),
     vd.InvalidInputError, ["'i'", "row 1"]),
    ("pandas objects", lambda d: d.append(pd.DataFrame({"i": [1, "a"]})), vd.InvalidInputError,
     ["column i"]),
    ("vector column", lambda d: d.append({"i": [1, 2], "v": np.array([[1, 2, 3], [1, np.nan, 3]])}),
     vd.InvalidInputError, ["'v'", "row 1"]),
    ("vector width", lambda d: d.append({"i": [1], "v": np.zeros((1, 4), np.float32)}),
     vd.InvalidInputError, ["'v'", "3"]),
    ("columns of two lengths", lambda d: d.append({"i": [1, 2], "s": ["a"]}), vd.InvalidInputError,
     ["'s'", "1", "2"]),
    ("column with a text", lambda d: d.append({"i": [1, "a"]}), vd.InvalidInputError,
     ["'i'", "row 1"]),
    ("not a table", lambda d: d.append(5), vd.InvalidInputError, ["int"]),
    ("a text", lambda d: d.append("rows.csv"), vd.InvalidInputError, ["str"]),
    ("nothing", lambda d: d.append(None), vd.InvalidInputError, ["NoneType"]),
    ("append_many of nothing", lambda d: d.append_many(None), vd.InvalidInputError, ["NoneType"]),
    ("append_many of one record", lambda d: d.append_many({"i": 1}), vd.InvalidInputError, ["list"]),
    ("a record that is a number", lambda d: d.append_many([{"i": 1}, 5]), vd.InvalidInputError,
     ["row 1", "int"]),
    ("commit=False", lambda d: d.append_many([{"i": 1}], commit=False), vd.InvalidInputError,
     ["commit"]),
    ("upsert without anchors", lambda d: d.upsert([{"i": 1}]), vd.InvalidInputError, ["anchor"]),
    ("upsert of an iterator without anchors", lambda d: d.upsert(iter([{"i": 1}])),
     vd.InvalidInputError, ["anchor"]),
    ("upsert of a new record without required",
     lambda d: d.upsert([{"_anchor": 10, "s": "a"}, {"_anchor": 99, "s": "a"}]),
     vd.InvalidInputError, ["'i'", "required"]),
    ("update of an unknown field", lambda d: d.update([10], {"ii": [1]}), vd.FieldNotFoundError,
     ["'ii'"]),
    ("update of an unknown record", lambda d: d.update([10, 11], {"i": [1, 2]}),
     vd.AnchorNotFoundError, ["11"]),
    ("update with too few values", lambda d: d.update([10, 20], {"i": [1]}), vd.InvalidInputError,
     ["'i'", "1", "2"]),
    ("update of one record twice", lambda d: d.update([10, 10], {"i": [1, 2]}),
     vd.InvalidInputError, ["row 1"]),
    ("update of nothing", lambda d: d.update([10], {}), vd.InvalidInputError, ["update"]),
    ("update to null", lambda d: d.update([10], {"i": None}), vd.InvalidInputError, ["'i'"]),
    ("delete of an unknown record", lambda d: d.delete([10, 15]), vd.AnchorNotFoundError, ["15"]),
    ("delete twice in a call", lambda d: d.delete([10, 10]), vd.InvalidInputError, ["10"]),
    ("delete by a bad condition", lambda d: d.delete("i >"), vd.ExpressionError, ["i >"]),
    ("delete by an unknown field", lambda d: d.delete("q = 1"), vd.FieldNotFoundError, ["'q'"]),
    ("layer over an existing field",
     lambda d: d.add_scalar_layer("s", None, "string", [(10, "a")]), vd.AlreadyExistsError, ["'s'"]),
    ("layer of an unknown record", lambda d: d.add_scalar_layer("p", "img", "int", [(11, 1)]),
     vd.AnchorNotFoundError, ["'p'", "11"]),
    ("layer with a record twice", lambda d: d.add_scalar_layer("p", None, "int", [(10, 1)] * 2),
     vd.InvalidInputError, ["row 1", "10"]),
    ("layer of an unknown type", lambda d: d.add_scalar_layer("p", None, "integr", [(10, 1)]),
     vd.SchemaError, ["integr"]),
    ("layer of a bad value", lambda d: d.add_scalar_layer("p", None, "int", [(10, 1), (20, "x")]),
     vd.InvalidInputError, ["'p'", "row 1"]),
    ("layer of a bad mode", lambda d: d.add_scalar_layer("p", None, "int", [], mode="upsert"),
     vd.InvalidInputError, ["upsert"]),
    ("layer update of nothing", lambda d: d.add_scalar_layer("p", None, "int", [], mode="update"),
     vd.FieldNotFoundError, ["'p'"]),
    ("layer of another type", lambda d: d.add_scalar_layer("f", None, "int", [], mode="replace"),
     vd.SchemaError, ["'f'"]),
    ("layer of an unknown parent", lambda d: d.add_scalar_layer("p", "imgg", "int", []),
     vd.FieldNotFoundError, ["'imgg'"]),
    ("layer of no pairs", lambda d: d.add_scalar_layer("p", None, "int", [1, 2]),
     vd.InvalidInputError, ["'p'", "pairs"]),
    ("layer of two lengths", lambda d: d.add_scalar_layer("p", None, "int", ([10, 20], [1])),
     vd.InvalidInputError, ["'p'"]),
    ("layer without a required value",
     lambda d: d.add_scalar_layer("i", None, "int", [(10, 1)], mode="replace"),
     vd.InvalidInputError, ["'i'", "required"]),
    ("layer name", lambda d: d.add_scalar_layer("a b", None, "int", []), vd.InvalidInputError,
     ["'a b'"]),
    ("vector layer of another width",
     lambda d: d.add_embedding_layer("e", "img", 2, samples=[(10, [1.0, 2.0, 3.0])]),
     vd.InvalidInputError, ["'e'", "row 0"]),
    ("vector layer with NaN",
     lambda d: d.add_embedding_layer("e", "img", 2, samples=[(10, [1.0, NAN])]),
     vd.InvalidInputError, ["'e'", "row 0"]),
    ("image layer of text", lambda d: d.add_image_layer("k", "img", samples=[(10, "x")]),
     vd.InvalidInputError, ["'k'", "row 0"]),
    ("drop of an unknown field", lambda d: d.drop_field("zz"), vd.FieldNotFoundError, ["'zz'"]),
    ("rename onto another", lambda d: d.rename_field("s", "f"), vd.AlreadyExistsError, ["'f'"]),
    ("rename to a bad name", lambda d: d.rename_field("s", "_anchor"), vd.InvalidInputError,
     ["_anchor"]),
    ("a new required field", lambda d: d.add_fields(vd.Schema().add_scalar_int("n1")
     .add_scalar_int("n2", required=True)), vd.SchemaError, ["'n2'"]),
    ("an existing field", lambda d: d.add_fields(vd.Schema().add_text("n1").add_scalar_int("i")),
     vd.AlreadyExistsError, ["'i'"]),
    ("no fields", lambda d: d.add_fields(vd.Schema()), vd.SchemaError, ["Schema"]),
    ("metadata of numbers", lambda d: d.set_metadata({"a": 1}), vd.InvalidInputError, ["'a'"]),
    ("metadata as pairs", lambda d: d.set_metadata([("a", "b")]), vd.InvalidInputError, ["notes"]),
    ("anchor_of without a key", lambda d: d.anchor_of("a"), vd.InvalidInputError, ["key"]),
    ("snapshot name", lambda d: d.snapshot("../up"), vd.RefNameError, ["../up"]),
    ("snapshot name taken", lambda d: d.snapshot("main"), vd.AlreadyExistsError, ["'main'"]),
    ("snapshot metadata", lambda d: d.snapshot("s1", metadata={"a": 1}), vd.InvalidInputError,
     ["'a'"]),
    ("message", lambda d: d.append_many([{"i": 1}], message=5), vd.InvalidInputError, ["message"]),
    ("message that is no Unicode", lambda d: d.append_many([{"i": 1}], message="\ud800"),
     vd.InvalidInputError, ["message"]),
    ("message of a transaction", lambda d: d.transaction(message=b"x"), vd.InvalidInputError,
     ["message"]),
    ("notes of a transaction", lambda d: d.transaction(application={"a": 5}), vd.InvalidInputError,
     ["'a'"]),
    ("reason", lambda d: d.delete([10], reason=5), vd.InvalidInputError, ["reason"]),
    ("reason of a deleted ref", lambda d: vd.connect(d.backend).delete_ref("main", reason=5),
     vd.InvalidInputError, ["reason"]),
    ("metadata that is no Unicode", lambda d: d.set_metadata({"a": "\ud800"}),
     vd.InvalidInputError, ["'a'"]),
    ("snapshot message", lambda d: d.snapshot("s1", message=5), vd.InvalidInputError, ["message"]),
    ("snapshot metadata list", lambda d: d.snapshot("s1", metadata=[1]), vd.InvalidInputError,
     ["metadata"]),
    ("create message", lambda d: vd.Dataset.create("n", vd.Schema(), d.backend, message=5),
     vd.InvalidInputError, ["message"]),
    ("create metadata", lambda d: vd.Dataset.create("n", vd.Schema(), d.backend, metadata={"a": 1}),
     vd.InvalidInputError, ["'a'"]),
    ("anchor column that is a number", lambda d: d.append({"i": [1]}, anchor=5),
     vd.FieldNotFoundError, ["5"]),
    ("delete of None", lambda d: d.delete(None), vd.InvalidInputError, ["NoneType"]),
    ("samples of None", lambda d: d.add_scalar_layer("p", None, "int", None), vd.InvalidInputError,
     ["'p'"]),
    ("branch name", lambda d: d.branch(""), vd.RefNameError, []),
    ("branch name taken", lambda d: d.branch("main"), vd.AlreadyExistsError, ["'main'"]),
    ("branch of nothing", lambda d: d.branch("n", at="nowhere"), vd.NotFoundError, ["nowhere"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "words"), [pytest.param(*case[1:], id=case[0]) for case in CALLS]
)
def test_a_call_that_cannot_be(
    call: Callable[[vd.Dataset], Any], error: type[Exception], words: list[str]
) -> None:
    ds = wide()
    before, manifest = stored(ds.backend), ds.current_manifest()
    with pytest.raises(error) as caught:
        call(ds)
    for word in words:
        assert word in str(caught.value)
    assert stored(ds.backend) == before
    assert ds.current_manifest() == manifest
    # The handle works on.
    assert ds.append_many([{"i": 3}]) == 1
    assert ds.count() == 3


READS: list[tuple[str, Callable[[vd.Dataset], Any], type[Exception], list[str]]] = [
    ("unknown field", lambda d: d.scan(["imgg"]), vd.FieldNotFoundError, ["'imgg'"]),
    ("unknown field in batches", lambda d: d.iter_arrow_batches(fields=["x"]),
     vd.FieldNotFoundError, ["'x'"]),
    ("unknown column", lambda d: d["imgg"], vd.FieldNotFoundError, ["'imgg'"]),
    ("field twice", lambda d: d.scan(["i", "i"]), vd.FieldNotFoundError, ["twice"]),
    ("batch size zero", lambda d: d.iter_arrow_batches(0), vd.InvalidInputError, ["batch_size"]),
    ("batch size text", lambda d: d.iter_arrow_batches("5"), vd.InvalidInputError, ["batch_size"]),
    ("batch size bool", lambda d: d.iter_arrow_batches(True), vd.InvalidInputError, ["batch_size"]),
    ("limit text", lambda d: d.scan(limit="5"), vd.InvalidInputError, ["limit"]),
    ("limit fraction", lambda d: d.scan(limit=1.5), vd.InvalidInputError, ["limit"]),
    ("limit negative", lambda d: d.scan(limit=-1), vd.InvalidInputError, ["limit"]),
    ("order", lambda d: d.scan(order="random"), vd.InvalidInputError, ["random"]),
    ("categoricals", lambda d: d.scan(categoricals="codes").to_arrow(), vd.InvalidInputError,
     ["codes"]),
    ("time range", lambda d: d.scan(start_ns=-5), vd.InvalidInputError, ["-5"]),
    ("anchors unknown", lambda d: d.scan(anchors=[10, 11]), vd.AnchorNotFoundError, ["11"]),
    ("take unknown", lambda d: d.take([99]), vd.AnchorNotFoundError, ["99"]),
    ("take of nothing", lambda d: d.take(), vd.InvalidInputError, ["take"]),
    ("take of both", lambda d: d.take([10], positions=[0]), vd.InvalidInputError, ["take"]),
    ("position outside", lambda d: d.take(positions=[0, 2]), vd.InvalidInputError, ["2"]),
    ("position below", lambda d: d.take(positions=[-3]), vd.InvalidInputError, ["-3"]),
    ("index outside", lambda d: d[2], IndexError, ["2"]),
    ("index by mask", lambda d: d[[True, False]], vd.InvalidInputError, ["integers"]),
    ("index by float", lambda d: d[1.0], vd.InvalidInputError, ["float"]),
    ("predicate type", lambda d: d.scan(where=5), vd.InvalidInputError, ["int"]),
    ("predicate of another type", lambda d: d.scan(where=vd.col("i") == "a"), vd.ExpressionError, []),
    ("predicate that is no condition", lambda d: d.scan(where=vd.col("i")), vd.ExpressionError, []),
    ("predicate field", lambda d: d.scan(where=vd.col("ii") > 3), vd.FieldNotFoundError, ["'ii'"]),
    ("sql field", lambda d: d.scan(where="ii > 3"), vd.FieldNotFoundError, ["'ii'"]),
    ("sql syntax", lambda d: d.scan(where="i >> > 3"), vd.ExpressionError, []),
    ("sql empty", lambda d: d.scan(where="  "), vd.ExpressionError, ["empty"]),
    ("sql statement", lambda d: d.scan(where="i = 1; DROP TABLE main"), vd.ExpressionError, []),
    ("sql union", lambda d: d.scan(where="i = 1 UNION SELECT 2"), vd.ExpressionError, []),
    ("sql subquery", lambda d: d.scan(where="i IN (SELECT 1)"), vd.ExpressionError, []),
    ("sql function", lambda d: d.scan(where="sleep(10)"), vd.ExpressionError, []),
    ("sql deep", lambda d: d.scan(where="(" * 2000 + "i = 1" + ")" * 2000), vd.ExpressionError,
     ["deep"]),
    ("sql large", lambda d: d.scan(where="i = " + "9" * 30), vd.ExpressionError, []),
    ("query operator", lambda d: d.query_scalar("i", "~", 1), vd.InvalidInputError, ["'~'"]),
    ("query field", lambda d: d.query_scalar("ii", "==", 1), vd.FieldNotFoundError, ["'ii'"]),
    ("distinct of images", lambda d: d.distinct_values("img"), vd.SchemaError, ["'img'"]),
    ("splits that add up to 2", lambda d: d.splits({"a": 1.0, "b": 1.0}), vd.InvalidInputError, []),
    ("splits negative", lambda d: d.splits({"a": 1.5, "b": -0.5}), vd.InvalidInputError, []),
    ("splits of NaN", lambda d: d.splits({"a": NAN}), vd.InvalidInputError, []),
    ("splits by vectors", lambda d: d.splits({"a": 1.0}, by="v"), vd.InvalidInputError, ["'v'"]),
    ("splits by nothing", lambda d: d.splits({"a": 1.0}, by="q"), vd.FieldNotFoundError, ["'q'"]),
    ("blob of a number", lambda d: d.open_blob(10, "i"), vd.SchemaError, ["'i'"]),
    ("blob of nothing", lambda d: d.open_blob(10, "img"), vd.AnchorNotFoundError, ["'img'"]),
    ("blob of nobody", lambda d: d.open_blob(11, "img"), vd.AnchorNotFoundError, ["11"]),
    ("search of numbers", lambda d: d.search("i", [1, 2, 3]), vd.SchemaError, ["'i'"]),
    ("search width", lambda d: d.search("v", [1, 2]), vd.InvalidInputError, ["3"]),
    ("search NaN", lambda d: d.search("v", [1, 2, NAN]), vd.InvalidInputError, ["NaN"]),
    ("search text", lambda d: d.search("v", "abc"), vd.InvalidInputError, []),
    ("search k", lambda d: d.search("v", [1, 2, 3], k=0), vd.InvalidInputError, ["k"]),
    ("search metric", lambda d: d.search("v", [1, 2, 3], metric="l1"), vd.InvalidInputError, ["l1"]),
    ("take of a number", lambda d: d.take(5), vd.InvalidInputError, ["int"]),
    ("fields that are a number", lambda d: d.scan(5), vd.InvalidInputError, ["5"]),
    ("splits of a list", lambda d: d.splits([0.5, 0.5]), vd.InvalidInputError, ["0.5"]),
    ("splits of texts", lambda d: d.splits({"a": "x"}), vd.InvalidInputError, ["x"]),
    ("query in a number", lambda d: d.query_scalar("i", "in", 5), vd.InvalidInputError, ["'i'"]),
    ("query of another type", lambda d: d.query_scalar("i", "==", "a"), vd.InvalidInputError, []),
    ("where_eq", lambda d: list(d.iter_vector("v", [1, 2, 3], where_eq=5)), vd.InvalidInputError,
     ["where_eq"]),
    ("shuffle seed", lambda d: d.iter_arrow_batches(shuffle_seed="a"), vd.InvalidInputError, ["'a'"]),
    ("a backend that is a number", lambda d: vd.connect(5), vd.InvalidInputError, ["int"]),
    ("open_ref", lambda d: vd.Dataset.open_ref("mian", d.backend), vd.RefNotFoundError, ["'mian'"]),
    ("open_at", lambda d: vd.Dataset.open_at({"label": "x"}, d.backend), vd.InvalidInputError,
     ["manifest"]),
    ("open_at number", lambda d: vd.Dataset.open_at(5, d.backend), vd.InvalidInputError, ["int"]),
    ("open_by_manifest", lambda d: vd.Dataset.open_by_manifest("a" * 53, d.backend),
     (vd.NotFoundError, vd.InvalidInputError), []),
    ("open another schema", lambda d: vd.Dataset.open("main", vd.Schema().add_text("i"), d.backend),
     vd.SchemaError, ["'main'"]),
    ("compare ref", lambda d: vd.compare_refs(["main", "mainn"], ["i"], d.backend),
     vd.RefNotFoundError, ["'mainn'"]),
    ("compare field", lambda d: vd.compare_refs(["main"], ["ii"], d.backend),
     vd.FieldNotFoundError, ["'ii'", "'main'"]),
    ("compare one name", lambda d: vd.compare_refs("main", ["i"], d.backend),
     vd.InvalidInputError, ["main"]),
    ("compare twice", lambda d: vd.compare_refs(["main", "main"], ["i"], d.backend),
     vd.InvalidInputError, ["twice"]),
    ("delete_ref", lambda d: vd.connect(d.backend).delete_ref("mian"), vd.RefNotFoundError,
     ["'mian'"]),
    ("no space", lambda d: vd.connect("memory://nobody-was-here"), vd.NotFoundError, ["nobody"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "words"), [pytest.param(*case[1:], id=case[0]) for case in READS]
)
def test_a_read_that_cannot_be(
    call: Callable[[vd.Dataset], Any], error: type[Exception], words: list[str]
) -> None:
    ds = wide()
    before = stored(ds.backend)
    with pytest.raises(error) as caught:
        call(ds)
    for word in words:
        assert word in str(caught.value)
    assert stored(ds.backend) == before


def test_a_table_whose_last_slab_is_bad_leaves_no_object() -> None:
    ds = make(vd.Schema().add_embedding("v", dim=256).add_scalar_int("i"))
    before = stored(ds.backend)
    values = np.zeros((150_000, 256), np.float32)
    values[-1, -1] = np.nan
    flat = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 256)
    with pytest.raises(vd.InvalidInputError, match="'v', row 149999"):
        ds.append(pa.table({"v": flat, "i": np.arange(len(values))}))
    assert stored(ds.backend) == before


def test_a_long_list_whose_last_record_is_bad_leaves_no_object() -> None:
    ds = make(vd.Schema().add_scalar_int("i"), [{"_anchor": 0, "i": 0}])
    before = stored(ds.backend)
    good = [{"_anchor": n, "i": n} for n in range(1, 70_000)]
    for last, error in (
        ({"_anchor": 70_000, "i": "x"}, vd.InvalidInputError),
        ({"_anchor": 5, "i": 1}, vd.InvalidInputError),
        ({"_anchor": 0, "i": 1}, vd.AlreadyExistsError),
        ({"i": 1}, vd.InvalidInputError),
    ):
        with pytest.raises(error, match="row 69999"):
            ds.append_many([*good, last])
        assert stored(ds.backend) == before
    assert ds.append_many(good) == 69_999


def test_an_iterator_that_fails_makes_nothing_visible() -> None:
    ds = make(vd.Schema().add_scalar_int("i"))
    refs = stored(ds.backend)[0]

    def batches() -> Any:
        yield pa.table({"i": np.arange(300_000)})
        raise KeyError("the source broke")

    with pytest.raises(KeyError, match="the source broke"):
        ds.append(batches())
    with pytest.raises(vd.InvalidInputError, match="different schemas"):
        ds.append(iter([pa.table({"i": np.arange(300_000)}), pa.table({"i": ["x"]})]))
    with pytest.raises(vd.InvalidInputError, match="'i', row 300000"):
        ds.append(iter([[{"i": n} for n in range(300_000)], [{"i": 1.5}]]))
    assert stored(ds.backend)[0] == refs
    assert ds.count() == 0
    assert ds.append_many([{"i": 1}]) == 1
    assert vd.connect(ds.backend).verify().ok


def test_an_anchor_twice_in_different_batches() -> None:
    ds = make(vd.Schema().add_scalar_int("i"), [{"_anchor": 5, "i": 0}])
    refs = stored(ds.backend)[0]
    batches = [{"_anchor": n, "i": n} for n in range(10, 9_000)]
    for last in (11, 8_999, 5):
        with pytest.raises(vd.DreamDBError, match="row 8990") as caught:
            ds.append(iter([*batches, {"_anchor": last, "i": 1}]))
        assert str(last) in str(caught.value)
        assert stored(ds.backend)[0] == refs
    with pytest.raises(vd.DreamDBError, match="row 1"):
        ds.append(iter([pa.table({"_anchor": [20], "i": [1]})] * 2))
    assert ds.append(iter(batches)) == 8_990


@pytest.mark.parametrize(
    "name", ["", "a b", "_anchor", "x/y", "ä", "a\n", "a" * 1000, "a:b", None, 5]
)
def test_field_names(name: Any) -> None:
    with pytest.raises(vd.InvalidInputError):
        vd.Schema().add_scalar_int(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "..",
        "a/../b",
        "a b",
        "a\0",
        "-a",
        "a" * 2000,
        "a.lock",
        None,
        5,
    ],
)
def test_ref_names(name: Any) -> None:
    url = make(vd.Schema().add_scalar_int("x")).backend
    before = stored(url)
    with pytest.raises(vd.InvalidInputError):
        vd.Dataset.create(name, vd.Schema().add_scalar_int("x"), backend=url)
    assert stored(url) == before


SCHEMAS: list[tuple[str, Callable[[], Any]]] = [
    ("dim zero", lambda: vd.Schema().add_embedding("v", 0)),
    ("dim negative", lambda: vd.Schema().add_embedding("v", -3)),
    ("dim text", lambda: vd.Schema().add_embedding("v", "3")),
    ("algorithm", lambda: vd.Schema().add_embedding("v", 3, algorithm="annoy")),
    ("compressor", lambda: vd.Schema().add_embedding("v", 3, compressor=b"x")),
    ("dtype", lambda: vd.Schema().add_tensor("m", "complex64", (2,))),
    ("dtype object", lambda: vd.Schema().add_tensor("m", object, (2,))),
    ("shape", lambda: vd.Schema().add_tensor("m", "int8", (2, -1))),
    ("mime", lambda: vd.Schema().add_image("i", mime="a b")),
    ("list item", lambda: vd.Schema().add_list("l", "image")),
    ("struct member", lambda: vd.Schema().add_struct("r", {"a": "list"})),
    ("twice", lambda: vd.Schema().add_text("a").add_scalar_int("a")),
    ("rows per fragment", lambda: vd.Schema().add_image("i", rows_per_fragment=0)),
]


@pytest.mark.parametrize("build", [pytest.param(c[1], id=c[0]) for c in SCHEMAS])
def test_schemas_that_cannot_be(build: Callable[[], Any]) -> None:
    with pytest.raises(vd.InvalidInputError):
        build()
