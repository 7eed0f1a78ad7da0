"""Relations against lists of dictionaries."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dreamdb as vd
from dreamdb.errors import DreamDBError, ExpressionError, FieldNotFoundError, InvalidInputError
from tests.training.data import numbers, space

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.integers(0, 6) | st.none(),
            "b": st.sampled_from(["x", "y", "z"]) | st.none(),
            "c": st.floats(-2, 2) | st.none(),
        }
    ),
    min_size=1,
    max_size=40,
)


def _left(rows: list[dict[str, Any]]) -> vd.Dataset:
    schema = vd.Schema().add_scalar_int("a").add_scalar_string("b").add_scalar_float("c")
    ds = vd.Dataset.create("left", schema, backend=space())
    ds.append_many(rows)
    return ds


def _right(keys: list[int]) -> vd.Dataset:
    schema = vd.Schema().add_scalar_int("a").add_scalar_string("name")
    ds = vd.Dataset.create("right", schema, backend=space())
    ds.append_many([{"a": key, "name": f"name {key}"} for key in keys])
    return ds


@settings(max_examples=15)
@given(rows=ROWS, keys=st.sets(st.integers(0, 6), min_size=1), keep=st.booleans(), data=st.data())
def test_joins_filters_and_projections(
    rows: list[dict[str, Any]], keys: set[int], keep: bool, data: st.DataObject
) -> None:
    ds = _left(rows)
    dead = data.draw(st.sets(st.integers(0, len(rows) - 1), max_size=3))
    anchors = [a for batch in ds.iter_arrow_batches() for a in batch["_anchor"].to_pylist()]
    if dead:
        ds.delete([anchors[i] for i in dead])
    relation = (
        vd.relation(ds)
        .filter((vd.col("c") > -1) | vd.col("c").is_null())
        .join(_right(sorted(keys)), on="a", how="left" if keep else "inner")
        .filter(vd.col("name").is_null() | (vd.col("name") != "name 3"))
        .project("b", "name", double=vd.col("a") * 2)
    )
    wanted = []
    for i, row in enumerate(rows):
        if i in dead or (row["c"] is not None and not row["c"] > -1):
            continue
        name = f"name {row['a']}" if row["a"] in keys else None
        if (name is None and not keep) or name == "name 3":
            continue
        double = None if row["a"] is None else 2 * row["a"]
        wanted.append({"b": row["b"], "name": name, "double": double})
    assert relation.count() == len(wanted)
    assert relation.to_arrow().to_pylist() == wanted


def test_a_join_by_anchor() -> None:
    ds = numbers(300)
    other = vd.Dataset.create("scores", vd.Schema().add_scalar_float("score"), backend=space())
    other.append_many([{"_anchor": 10 * i, "score": i / 2} for i in range(0, 300, 3)])
    joined = (
        vd.relation(ds).join(other, on="_anchor").filter("score >= 100").project("label", "score")
    )
    assert joined.columns == ("label", "score")
    table = joined.to_arrow()
    assert table["score"].to_pylist() == [i / 2 for i in range(201, 300, 3)]
    assert table["label"].to_pylist() == [i % 7 for i in range(201, 300, 3)]


def test_a_joined_relation_keeps_its_own_filters() -> None:
    labels = _right([0, 1, 2])
    joined = (
        vd.relation(numbers(20))
        .project("sample_id", "label")
        .join(vd.relation(labels).filter(vd.col("a") < 2), on=("label", "a"))
    )
    table = joined.to_arrow()
    assert set(table["name"].to_pylist()) == {"name 0", "name 1"}
    assert joined.count() == 6
    assert len(joined.manifests) == 2


def test_a_relation_stays_at_its_version() -> None:
    ds = numbers(10)
    relation = vd.relation(ds)
    ds.append_many([{"label": 1, "_anchor": 5000}])
    assert relation.count() == 10
    assert vd.relation(ds).count() == 11


def test_steps_tell_the_rows_left() -> None:
    relation = vd.relation(numbers(100)).filter("label < 3").join(_right([0, 1]), on=("label", "a"))
    assert [rows for _, rows in relation.steps()] == [100, 44, 30]
    assert "filter" in relation.steps()[1][0]


def test_a_relation_pickles(tmp_path: Any) -> None:
    relation = vd.relation(numbers(50, where=tmp_path / "s")).filter(vd.col("label") == 3)
    again = pickle.loads(pickle.dumps(relation))  # noqa: S301
    assert again.to_arrow().equals(relation.to_arrow())


def test_expressions_take_the_type_that_they_have() -> None:
    relation = vd.relation(numbers(5)).project(
        heavy=vd.col("weight") > 0.3, whole=vd.col("label") + 1, share=vd.col("label") / 2.0
    )
    found = relation.to_arrow()
    assert found.schema.types == [pa.bool_(), pa.int64(), pa.float64()]
    assert found["whole"].to_pylist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (lambda r: r.filter(None), InvalidInputError, "needs a condition"),
        (lambda r: r.filter("nothing > 3"), FieldNotFoundError, "nothing"),
        (lambda r: r.filter(vd.col("label") == "x"), ExpressionError, "not usable"),
        (lambda r: r.project("lable"), InvalidInputError, "no column 'lable'"),
        (lambda r: r.project("label", "label"), InvalidInputError, "twice"),
        (lambda r: r.project(x=3), InvalidInputError, "expression"),
        (lambda r: r.project(x=vd.col("nothing") + 1), ExpressionError, "cannot be computed"),
        (lambda r: r.project(), InvalidInputError, "needs a column"),
        (lambda r: r.join(numbers(3), on="label"), InvalidInputError, "both sides"),
        (lambda r: r.join(_right([1]), on=("sample_id", "a")), InvalidInputError, "cannot join"),
        (lambda r: r.join(_right([1]), on=("label", "a"), how="outer"), InvalidInputError, "how="),
        (lambda r: r.join(_right([1, 4, 4]), on=("label", "a")).count(), InvalidInputError, "4"),
        (lambda r: vd.relation([1, 2]), InvalidInputError, "made of a Dataset"),
    ],
)
def test_bad_relations_are_refused(act: Any, kind: type[DreamDBError], words: str) -> None:
    relation = vd.relation(numbers(20))
    with pytest.raises(kind, match=words):
        act(relation)


def test_nothing_is_read_for_a_relation_without_conditions() -> None:
    relation = vd.relation(numbers(500))
    assert relation.count() == 500
    assert relation.population().sides is None
    assert int(relation.population().granules().sum()) == 500


def test_granules_follow_deletions_filters_and_columns() -> None:
    ds = numbers(500)
    ds.delete([10 * i for i in range(100, 120)])
    plain, some = vd.relation(ds), vd.relation(ds).filter("label = 2")
    assert int(plain.population().granules().sum()) == 480
    assert int(some.population().granules().sum()) == some.count()
    column = {"shard": plain.column("shard")}
    sizes = plain.population().granules_by(["shard"], column)
    assert int(sizes.sum()) == 480
    shards = plain.to_arrow()["shard"].to_pylist()
    edges = np.concatenate([[0], np.cumsum(sizes)])
    for low, high in itertools.pairwise(edges):
        assert len(set(shards[low:high])) == 1


def test_conditions_read_what_they_name_and_nothing_else() -> None:
    # "a" stands in the text of "label", and belongs to the joined dataset.
    labels = vd.relation(_right([0, 1, 2])).project("a", "name")
    joined = vd.relation(numbers(30)).join(labels, on=("label", "a")).filter(vd.col("label") < 2)
    assert [rows for _, rows in joined.steps()] == [30, 10, 10]
    assert joined.steps()[1][0] == "filter (label < 2)"
    sizes = joined.project(lab=vd.col("label") * 2)
    assert list(sizes.column("lab").inputs) == ["label"]  # type: ignore[union-attr]
