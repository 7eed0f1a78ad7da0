"""Exact search against numpy, and refs side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import dreamdb as vd
from tests.dataset.spaces import make, numbered

METRICS = ("cosine", "dot", "l2")


def scores(vectors: npt.NDArray[Any], query: npt.NDArray[Any], metric: str) -> npt.NDArray[Any]:
    v, q = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        return -((v - q) ** 2).sum(axis=1)
    if metric == "dot":
        return v @ q
    norms = np.linalg.norm(v, axis=1) * np.linalg.norm(q)
    return (v @ q) / np.where(norms == 0, 1, norms)


@pytest.fixture(scope="module")
def vectors() -> tuple[vd.Dataset, npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return a dataset, its vectors, and which of them can be found."""
    generator = np.random.default_rng(1)
    values = generator.normal(size=(9_000, 8)).astype(np.float32)
    alive = np.ones(9_000, np.bool_)
    null = np.arange(0, 9_000, 11)
    schema = vd.Schema().add_embedding("v", 8, rows_per_fragment=512).add_scalar_int("x")
    ds = make(schema)
    rows: list[Any] = list(values)
    for index in null:
        rows[index] = None
    ds.append({"_anchor": np.arange(9_000) * 2, "v": rows, "x": np.arange(9_000) % 10})
    dead = np.arange(0, 9_000, 13)
    ds.delete(dead * 2)
    alive[null] = alive[dead] = False
    return ds, values, alive


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 10, 20_000])
def test_search_is_exact(vectors: Any, metric: str, k: int) -> None:
    ds, values, alive = vectors
    queries = np.random.default_rng(2).normal(size=(3, 8)).astype(np.float32)
    found = ds.search("v", queries, k, metric=metric)
    rows = np.flatnonzero(alive)
    for number, query in enumerate(queries):
        part = found.filter(pa.compute.equal(found["_query"], number))
        want = scores(values[rows], query, metric)
        assert part.num_rows == min(k, len(rows))
        got = part["_score"].to_numpy()
        assert (np.diff(got) <= 0).all()
        np.testing.assert_allclose(got, np.sort(want)[::-1][: len(got)], rtol=1e-4, atol=1e-5)
        place = np.array(part["_anchor"].to_pylist()) // 2
        assert len(set(place.tolist())) == len(place)
        np.testing.assert_allclose(got, scores(values[place], query, metric), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_search_with_a_condition(vectors: Any, metric: str) -> None:
    ds, values, alive = vectors
    query = values[5]
    rows = np.flatnonzero(alive & (np.arange(9_000) % 10 == 3))
    for where in ("x = 3", vd.col("x") == 3):
        found = ds.search("v", query, 5, where, metric=metric, fields=["x"])
        best = rows[np.argsort(-scores(values[rows], query, metric), kind="stable")[:5]]
        assert (np.array(found["_anchor"].to_pylist()) // 2).tolist() == best.tolist()
        assert found["x"].to_pylist() == [3] * 5
    assert ds.search("v", query, 5, "x > 100").num_rows == 0


@pytest.mark.parametrize("metric", METRICS)
def test_equal_scores_go_to_the_earlier_record(metric: str) -> None:
    ds = make(vd.Schema().add_embedding("v", 2, rows_per_fragment=64))
    ds.append(
        {"_anchor": np.arange(3_000), "v": np.tile(np.array([[1, 0]], np.float32), (3_000, 1))}
    )
    for k in (1, 5, 700):
        found = ds.search("v", [[1.0, 0.0], [0.0, 1.0]], k, metric=metric)
        assert found["_anchor"].to_pylist() == list(range(k)) * 2


@pytest.mark.parametrize("norm", [1, 100, 10_000])
def test_near_vectors_far_from_the_origin_are_told_apart(norm: float) -> None:
    generator = np.random.default_rng(3)
    centre = generator.normal(size=64)
    centre *= norm / np.linalg.norm(centre)
    values = (centre + generator.normal(size=(500, 64)) * 0.05).astype(np.float32)
    query = (centre + generator.normal(size=64) * 0.05).astype(np.float32)
    ds = make(vd.Schema().add_embedding("v", 64, algorithm="dreamdb.flat-l2"))
    ds.append({"_anchor": np.arange(500), "v": values})
    best = np.argsort(-scores(values, query, "l2"), kind="stable")[:10]
    assert ds.search("v", query, 10)["_anchor"].to_pylist() == best.tolist()


def test_the_algorithm_names_the_metric() -> None:
    for algorithm, metric in {
        "dreamdb.flat-cosine": "cosine",
        "dreamdb.ivf-cosine": "cosine",
        "dreamdb.lsh-cosine": "cosine",
        "dreamdb.flat-dot": "dot",
        "dreamdb.flat-l2": "l2",
    }.items():
        ds = make(vd.Schema().add_embedding("v", 2, algorithm=algorithm))
        ds.append({"v": np.array([[3, 0], [1, 1], [0, 0]], np.float32)})
        assert ds.search("v", [2, 1]) == ds.search("v", [2, 1], metric=metric)


def test_search_of_few_and_of_none() -> None:
    ds = make(vd.Schema().add_embedding("v", 2))
    assert ds.search("v", [1.0, 0.0]).num_rows == 0
    assert list(ds.iter_vector("v", [1.0, 0.0])) == []
    ds.append_many([{"v": None}, {"v": [0.0, 0.0]}])
    found = ds.search("v", [[1.0, 0.0], [0.0, 0.0]], k=5)
    assert found["_query"].to_pylist() == [0, 1]
    assert found["_score"].to_pylist() == [0.0, 0.0]
    assert found.schema.field("_query").type == pa.int32()
    assert found.schema.field("_anchor").type == pa.uint64()
    assert found.schema.field("_score").type == pa.float32()
    assert ds.search("v", np.empty((0, 2))).num_rows == 0


def test_iter_vector(vectors: Any) -> None:
    ds, values, _ = vectors
    table = ds.search("v", values[1], 25, fields=["x"])
    batches = list(ds.iter_vector("v", values[1], top_k=25, batch_size=10, fields=["x"]))
    assert [len(b["_time_anchors"]) for b in batches] == [10, 10, 5]
    assert [set(b) for b in batches] == [{"_time_anchors", "_score", "x"}] * 3
    assert (
        np.concatenate([b["_time_anchors"] for b in batches]).tolist()
        == table["_anchor"].to_pylist()
    )
    np.testing.assert_array_equal(
        np.concatenate([b["_score"] for b in batches]), table["_score"].to_numpy()
    )
    assert [x for b in batches for x in b["x"]] == table["x"].to_pylist()
    (whole,) = ds.iter_vector("v", values[1], top_k=3, nprobe=4, rerank_mode="exact")
    assert whole["v"].shape == (3, 8)
    (some,) = ds.iter_vector(
        "v", values[1], top_k=3, where_eq=("x", 4), where="x >= 4", fields=["x"]
    )
    assert some["x"] == [4, 4, 4]
    (lists,) = ds.iter_vector("v", values[1], top_k=3, where_eq={"x": 4}, fields=[], as_numpy=False)
    assert isinstance(lists["_score"], list)
    assert isinstance(lists["_time_anchors"], list)


# ---------------------------------------------------------------- comparison


def test_compare_refs_on_one_timeline() -> None:
    ds = numbered(3_000)
    generator = np.random.default_rng(5)
    anchors = np.arange(3_000) * 10
    predictions = {}
    for name in ("sweep/a", "sweep/b", "sweep/c"):
        predictions[name] = generator.integers(0, 3, 3_000)
        branch = ds.branch(name)
        branch.add_scalar_layer("p", "x", "int", (anchors, predictions[name]))
    found = vd.compare_refs(list(predictions), ["p"], ds.backend)
    assert found.column_names == ["_anchor", "p@sweep/a", "p@sweep/b", "p@sweep/c"]
    assert found.num_rows == len(found) == 3_000
    for name, values in predictions.items():
        np.testing.assert_array_equal(found[f"p@{name}"].to_numpy(), values)
    matrix = found.agreement()
    for row, left in zip(matrix.to_pylist(), predictions, strict=True):
        assert row["ref"] == left
        for right in predictions:
            want = (predictions[left] == predictions[right]).mean()
            assert row[right] == pytest.approx(want)
    assert pa.table(found) == found.to_arrow()
    assert found.to_pandas().shape == (3_000, 4)
    assert len(repr(found).splitlines()) <= 12
    assert vd.connect(ds.backend).compare_refs(["sweep/a"], ["p", "x"]).num_columns == 3


def test_compare_refs_on_different_timelines() -> None:
    ds = make(vd.Schema().add_scalar_string("s"), [{"_anchor": i, "s": str(i)} for i in range(6)])
    left, right = ds.branch("left"), ds.branch("right")
    left.delete([0, 1])
    left.append_many([{"_anchor": 100, "s": "hundred"}, {"_anchor": 7, "s": None}])
    right.update([2, 3], {"s": ["two", None]})
    right.append_many([{"_anchor": 7, "s": "seven"}])
    ds.snapshot("base")
    found = vd.compare_refs(["left", "right", "base"], ["s"], ds.backend)
    assert found["_anchor"].to_pylist() == [0, 1, 2, 3, 4, 5, 7, 100]
    assert found["s@left"].to_pylist() == [None, None, "2", "3", "4", "5", None, "hundred"]
    assert found["s@right"].to_pylist() == ["0", "1", "two", None, "4", "5", "seven", None]
    assert found["s@base"].to_pylist() == ["0", "1", "2", "3", "4", "5", None, None]
    rows = found.agreement("s").to_pylist()
    # Both have a value at 2, 4, 5 (right lacks 3): equal at 4 and 5.
    assert rows[0]["right"] == rows[1]["left"] == pytest.approx(2 / 3)
    assert rows[0]["base"] == 1.0
    assert rows[1]["base"] == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("bool", [[True, False, None], [True, True, True]]),
        ("float", [[1.0, 0.0, None], [1.0, -0.0, 2.0]]),
        ("categorical", [["a", "b", "c"], ["a", "x", None]]),
        ("int", [[1, None, None], [None, 1, 1]]),
    ],
)
def test_agreement_of_every_type(kind: str, values: list[list[Any]]) -> None:
    ds = numbered(3)
    for name, column in zip("ab", values, strict=True):
        samples = list(zip([0, 10, 20], column, strict=True))
        ds.branch(name).add_scalar_layer("p", None, kind, samples)
    pairs = [(a, b) for a, b in zip(*values, strict=True) if a is not None and b is not None]
    want = sum(a == b for a, b in pairs) / len(pairs) if pairs else None
    assert vd.compare_refs(["a", "b"], ["p"], ds.backend).agreement()["b"][0].as_py() == want


def test_agreement_needs_one_field_of_one_type() -> None:
    ds = numbered(3)
    ds.branch("a").add_scalar_layer("p", None, "int", [(0, 1)])
    ds.branch("b").add_scalar_layer("p", None, "string", [(0, "1")])
    found = vd.compare_refs(["a", "b"], ["p", "x"], ds.backend)
    with pytest.raises(vd.InvalidInputError, match="several"):
        found.agreement()
    with pytest.raises(vd.FieldNotFoundError):
        found.agreement("q")
    with pytest.raises(vd.InvalidInputError, match="'p'"):
        found.agreement("p")
    assert found.agreement("x")["b"].to_pylist() == [1.0, 1.0]
    repr(vd.compare_refs(["a", "b"], ["p"], ds.backend))
    empty = numbered(0)
    empty.branch("b")
    assert vd.compare_refs(["main", "b"], ["x"], empty.backend).agreement()["b"].null_count == 2
