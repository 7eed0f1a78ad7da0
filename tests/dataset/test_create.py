"""Creating datasets: every field kind, inference, names, keys, first data."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import dreamdb as vd
from tests.dataset.spaces import fresh_url, make, records, stored

WHEN = dt.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=dt.UTC)

KINDS: list[tuple[str, vd.Schema, list[Any]]] = [
    ("bool", vd.Schema().add_scalar_bool("x"), [True, None, False]),
    ("int", vd.Schema().add_scalar_int("x"), [-(1 << 63), None, (1 << 63) - 1]),
    ("float", vd.Schema().add_scalar_float("x"), [1.5, None, float("-inf"), 5e-324]),
    ("string", vd.Schema().add_scalar_string("x"), ["", None, "naïve 🙂\0 end"]),
    ("categorical", vd.Schema().add_scalar_categorical("x"), ["a", None, "b", "a"]),
    ("text", vd.Schema().add_text("x"), ["long " * 5_000, None, ""]),
    ("image", vd.Schema().add_image("x", mime="png"), [b"\x89PNG", None, b""]),
    ("video", vd.Schema().add_video("x"), [b"v" * 100_000, None]),
    ("audio", vd.Schema().add_audio("x"), [b"RIFF", None]),
    ("binary", vd.Schema().add_binary("x"), [b"\0\xff", None]),
    ("list", vd.Schema().add_list("x", "string"), [["a", None], None, []]),
    ("struct", vd.Schema().add_struct("x", {"a": "int", "b": "string"}),
     [{"a": 1, "b": None}, None, {"a": None, "b": "z"}]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "values"), [pytest.param(*k[1:], id=k[0]) for k in KINDS])
def test_values_of_every_kind_come_back(schema: vd.Schema, values: list[Any]) -> None:
    ds = make(schema, [{"_anchor": n, "x": v} for n, v in enumerate(values)])
    assert ds["x"].to_pylist() == values
    assert [r["x"] for r in ds] == values
    assert ds.take(positions=[-1, 0])["x"].to_pylist() == [values[-1], values[0]]
    assert [r["_anchor"] for r in ds] == list(range(len(values)))


def test_times_come_back_to_the_nanosecond() -> None:
    ds = make(vd.Schema().add_scalar_timestamp("t"))
    given = [WHEN, np.datetime64("2024-01-01T00:00:00.123456789", "ns"), 7, None]
    ds.append_many([{"_anchor": n, "t": t} for n, t in enumerate(given)])
    whole = int(WHEN.timestamp()) * 10**9 + 5_000
    want = [whole, 1_704_067_200_123_456_789, 7, None]
    assert ds["t"].cast(pa.int64()).to_pylist() == want
    got = [None if r["t"] is None else int(r["t"].astype("int64")) for r in ds]
    assert got == want
    assert [int(t.astype("int64")) for t in ds.distinct_values("t")] == sorted(want[:3])


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32", "float64"])
def test_tensors_keep_shape_and_dtype(dtype: str) -> None:
    values = np.arange(3 * 2 * 5).reshape(3, 2, 5).astype(dtype)
    ds = make(vd.Schema().add_tensor("m", dtype, (2, 5)))
    ds.append_many([{"m": v} for v in values] + [{"m": None}])
    ds.append({"m": values})
    found = [r["m"] for r in ds]
    assert found[3] is None
    for got, want in zip(found[:3] + found[4:], np.concatenate([values, values]), strict=True):
        assert got.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(got, want)


def test_vectors_reshape_as_the_tutorial_does() -> None:
    values = np.random.default_rng(0).normal(size=(1_000, 7)).astype(np.float32)
    ds = make(vd.Schema().add_embedding("v", dim=7))
    ds.append({"_anchor": np.arange(1_000), "v": values})
    at = 0
    for batch in ds.iter_arrow_batches(batch_size=64):
        column = batch.column("v")
        flat = column.values.to_numpy().reshape(batch.num_rows, 7)
        np.testing.assert_array_equal(flat, values[at : at + batch.num_rows])
        at += batch.num_rows
    assert at == 1_000


def test_schema_reads_like_a_mapping() -> None:
    schema = vd.Schema().add_image("image", mime="png").add_scalar_int("label", required=True)
    assert list(schema) == ["image", "label"]
    assert len(schema) == 2
    assert "label" in schema
    assert schema["label"].required
    assert schema == vd.Schema().add_image("image", mime="png").add_scalar_int(
        "label", required=True
    )
    assert schema != vd.Schema().add_image("image").add_scalar_int("label", required=True)
    with pytest.raises(vd.FieldNotFoundError) as caught:
        schema["lable"]
    assert "'label'" in str(caught.value.hint)
    assert "label: int required" in repr(schema)


ARROW = pa.table(
    {
        "b": pa.array([True, None]),
        "i8": pa.array([1, None], pa.int8()),
        "i": pa.array([1, 2]),
        "f": pa.array([1.5, None]),
        "s": pa.array(["a", None]),
        "ls": pa.array(["a", None], pa.large_string()),
        "c": pa.array(["a", None]).dictionary_encode(),
        "t": pa.array([5, None], pa.timestamp("us", "UTC")),
        "raw": pa.array([b"x", None]),
        "v": pa.array([[1, 2], None], pa.list_(pa.float32(), 2)),
        "l": pa.array([[1], None], pa.list_(pa.int64())),
        "r": pa.array([{"a": 1}, None], pa.struct({"a": pa.int64()})),
    }
)


def test_inference_from_arrow() -> None:
    ds = vd.Dataset.create("main", data=ARROW, backend=fresh_url())
    kinds = {name: ds.schema[name].type.kind for name in ds.schema}
    assert kinds == {
        "b": "bool", "i8": "int", "i": "int", "f": "float", "s": "string", "ls": "string",
        "c": "categorical", "t": "timestamp", "raw": "binary", "v": "embedding", "l": "list",
        "r": "struct",
    }  # fmt: skip
    table = ds.scan().to_arrow()
    for name in ARROW.column_names:
        want = ARROW[name].to_pylist()
        if name == "t":
            assert table["t"].cast(pa.int64()).to_pylist() == [5_000, None]
        else:
            assert table[name].to_pylist() == want, name
    assert vd.Schema.from_arrow(ARROW.schema) == ds.schema


FORMS: list[tuple[str, Any]] = [
    ("table", lambda: pa.table({"x": [1, 2], "s": ["a", None]})),
    ("batch", lambda: pa.table({"x": [1, 2], "s": ["a", None]}).to_batches()[0]),
    ("reader", lambda: pa.table({"x": [1, 2], "s": ["a", None]}).to_reader()),
    ("pandas", lambda: pd.DataFrame({"x": [1, 2], "s": ["a", None]})),
    ("polars", lambda: pl.DataFrame({"x": [1, 2], "s": ["a", None]})),
    ("columns", lambda: {"x": np.array([1, 2]), "s": ["a", None]}),
    ("records", lambda: [{"x": 1, "s": "a"}, {"x": 2, "s": None}]),
    ("records with holes", lambda: [{"x": 1, "s": "a"}, {"x": 2}]),
]


@pytest.mark.parametrize("form", [pytest.param(f[1], id=f[0]) for f in FORMS])
def test_create_with_data_infers_and_stores(form: Any) -> None:
    ds = vd.Dataset.create("main", data=form(), backend=fresh_url())
    got = [{k: v for k, v in r.items() if k != "_anchor"} for r in records(ds)]
    assert got == [{"x": 1, "s": "a"}, {"x": 2, "s": None}]
    assert len(ds.log()) == 1


def test_no_value_of_a_later_record_is_lost() -> None:
    ds = vd.Dataset.create("main", data=[{"a": 1}, {"a": 2, "b": 3}], backend=fresh_url())
    assert ds["a"].to_pylist() == [1, 2]
    assert ds["b"].to_pylist() == [None, 3]


def test_vectors_in_records_become_embeddings() -> None:
    rows = [{"v": np.array([1, 2, 3], np.float32)}, {"v": np.array([4, 5, 6], np.float32)}]
    ds = vd.Dataset.create("main", data=rows, backend=fresh_url())
    assert str(ds.schema["v"].type) == "embedding[3]"
    ds = vd.Dataset.create("main", data={"v": np.eye(4, dtype=np.float32)}, backend=fresh_url())
    assert str(ds.schema["v"].type) == "embedding[4]"


def test_data_that_no_schema_fits() -> None:
    url = fresh_url()
    for data in ([{"a": 1}, {"a": "x"}], [], iter([{"a": 1}]), None, 5):
        with pytest.raises(vd.DreamDBError):
            vd.Dataset.create("main", data=data, backend=url)
    with pytest.raises(vd.NotFoundError):
        vd.connect(url)


def test_an_anchor_column_of_the_data() -> None:
    data = {"ts": [5, 3, 4], "x": [1, 2, 3]}
    ds = vd.Dataset.create("main", data=data, anchor="ts", backend=fresh_url())
    assert records(ds) == [
        {"_anchor": 3, "x": 2},
        {"_anchor": 4, "x": 3},
        {"_anchor": 5, "x": 1},
    ]


def test_an_existing_name_is_refused_and_left_alone() -> None:
    ds = make(vd.Schema().add_scalar_int("x"), [{"x": 1}])
    ds.snapshot("v1")
    before = stored(ds.backend)
    for name in ("main", "v1"):
        with pytest.raises(vd.AlreadyExistsError, match=name):
            vd.Dataset.create(name, vd.Schema().add_text("y"), backend=ds.backend)
    assert stored(ds.backend) == before


def test_bad_first_data_creates_no_ref() -> None:
    url = fresh_url()
    with pytest.raises(vd.InvalidInputError, match="row 1"):
        vd.Dataset.create(
            "main", vd.Schema().add_scalar_int("x"), data=[{"x": 1}, {"x": "b"}], backend=url
        )
    space = vd.connect(url, create=True)
    assert space.list_refs() == []
    vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), backend=url)


def test_key_must_be_usable() -> None:
    schema = vd.Schema().add_scalar_float("f").add_scalar_string("id")
    for key in ("nope", "f"):
        with pytest.raises(vd.SchemaError, match=key):
            vd.Dataset.create("main", schema, backend=fresh_url(), key=key)


def test_metadata_and_message_are_kept() -> None:
    ds = make(vd.Schema().add_scalar_int("x"), metadata={"licence": "CC0"}, message="the start")
    assert ds.metadata == {"licence": "CC0"}
    assert ds.log()[0].message == "the start"
    ds.set_metadata({"source": "web", "licence": None})
    assert ds.metadata == {"source": "web"}
    assert vd.Dataset.open_ref("main", ds.backend).metadata == {"source": "web"}


def test_a_dataset_without_fields_counts_records() -> None:
    ds = make(vd.Schema(), [{}, {}])
    assert ds.count() == 2
    assert ds.scan().to_arrow().column_names == ["_anchor"]


def test_a_hundred_fields() -> None:
    schema = vd.Schema()
    for number in range(100):
        schema.add_scalar_int(f"f{number}")
    ds = make(schema, [{f"f{n}": n for n in range(100)}])
    assert ds[0]["f99"] == 99
