"""Merging: what joins by itself, what conflicts, who decides, and what is refused."""

from __future__ import annotations

import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import dreamdb as vd
from dreamdb.objects import from_text

_NUMBERS = itertools.count()


def _start(rows: int = 10, **settings: Any) -> vd.Dataset:
    schema = vd.Schema().add_scalar_int("x").add_scalar_string("s")
    url = f"memory://merging-{next(_NUMBERS)}"
    ds = vd.Dataset.create("main", schema, backend=url, **settings)
    if rows:
        ds.append_many([{"_anchor": i, "x": i, "s": str(i)} for i in range(rows)])
    return ds


def _sides(ds: vd.Dataset) -> tuple[vd.Dataset, vd.Dataset]:
    number = next(_NUMBERS)
    return ds.branch(f"ours-{number}"), ds.branch(f"theirs-{number}")


def _both_ways(ours: vd.Dataset, theirs: vd.Dataset, **settings: Any) -> vd.Dataset:
    """Merge in either order; return the one handle after checking that both agree."""
    number = next(_NUMBERS)
    one, two = ours.branch(f"one-{number}"), theirs.branch(f"two-{number}")
    report = one.merge(theirs, **settings)
    assert report.changed
    two.merge(ours, **settings)
    assert one.content_id == two.content_id
    assert one.log()[0].parents == (ours.current_manifest(), theirs.current_manifest())
    assert vd.connect(one._space.backend).verify().ok
    return one


def test_fast_forward_and_nothing_to_do() -> None:
    ds = _start()
    ours, theirs = _sides(ds)
    assert not ours.merge(theirs).changed
    theirs.update([1], {"x": [7]})
    report = ours.merge(theirs.name, strategy="fast-forward")
    assert report.fast_forward
    assert report.changed
    assert ours.current_manifest() == theirs.current_manifest() == report.manifest
    assert report.num_objects == 0
    assert not theirs.merge(ours).changed
    assert not ours.merge(ds).changed
    ours.update([2], {"x": [8]})
    theirs.update([3], {"x": [9]})
    before = ours.current_manifest()
    with pytest.raises(vd.ConflictError, match="manifests of its own") as caught:
        ours.merge(theirs, strategy="fast-forward")
    assert "three-way" in str(caught.value.hint)
    assert ours.refresh().current_manifest() == before


def test_what_joins_by_itself() -> None:
    ours, theirs = _sides(_start())
    ours.append_many([{"_anchor": 100, "x": 100, "s": "ours"}])
    theirs.append_many([{"_anchor": 101, "x": 101, "s": "theirs"}])
    ours.add_scalar_layer("p", "x", "int", [(1, 1), (100, 2)])
    theirs.add_embedding_layer("v", "x", 2, samples=[(2, [1.0, 2.0]), (101, [3.0, 4.0])])
    ours.update([3, 4], {"x": [30, 40]})
    theirs.delete([5, 6])
    theirs.update([3], {"s": ["other field"]})
    ours.set_metadata({"licence": "CC0"})
    theirs.set_metadata({"source": "web"})
    merged = _both_ways(ours, theirs)
    assert list(merged.schema) == ["x", "s", "p", "v"]
    rows = {row.pop("_anchor"): row for row in merged.scan().to_arrow().to_pylist()}
    assert sorted(rows) == [0, 1, 2, 3, 4, 7, 8, 9, 100, 101]
    assert rows[3] == {"x": 30, "s": "other field", "p": None, "v": None}
    assert rows[100] == {"x": 100, "s": "ours", "p": 2, "v": None}
    assert rows[101] == {"x": 101, "s": "theirs", "p": None, "v": [3.0, 4.0]}
    assert merged.metadata == {"licence": "CC0", "source": "web"}
    record = merged.log()[0]
    assert record.operation["name"] == "merge"
    assert merged.merge(theirs).changed is False


def test_the_same_change_on_both_sides_is_no_conflict() -> None:
    ours, theirs = _sides(_start())
    for side in (ours, theirs):
        side.update([1], {"x": [7]})
        side.delete([2])
        side.append_many([{"_anchor": 50, "x": 5, "s": "new"}])
        side.add_scalar_layer("p", "x", "int", [(3, 3)])
        side.rename_field("s", "t")
        side.set_metadata({"a": "1"})
    assert ours.content_id == theirs.content_id
    merged = _both_ways(ours, theirs)
    assert merged.content_id == ours.content_id


def _conflicting() -> tuple[vd.Dataset, vd.Dataset]:
    ours, theirs = _sides(_start())
    ours.update([1, 2, 3], {"x": [10, 20, 30]})
    theirs.update([2, 3, 4], {"x": [200, 30, 400]})
    return ours, theirs


def test_conflicts_come_as_a_typed_table() -> None:
    ours, theirs = _conflicting()
    before = ours.current_manifest()
    with pytest.raises(vd.MergeConflictError, match=r"1 conflict, .*'x' of record 2") as caught:
        ours.merge(theirs)
    assert ours.refresh().current_manifest() == before
    table = caught.value.details["conflicts"]
    assert table.to_pylist() == [
        {"anchor": 2, "field": "x", "kind": "cell", "base": 2, "ours": 20, "theirs": 200}
    ]
    assert table.schema.field("anchor").type == pa.uint64()
    assert table.schema.field("ours").type == pa.int64()
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert again.details["conflicts"].equals(table)
    # Of several types: as text.
    ours.update([7], {"s": ["a"]})
    theirs.update([7], {"s": ["b"]})
    with pytest.raises(vd.MergeConflictError) as caught:
        ours.merge(theirs)
    table = caught.value.details["conflicts"]
    assert table.schema.field("ours").type == pa.string()
    assert [(r["field"], r["base"], r["ours"], r["theirs"]) for r in table.to_pylist()] == [
        ("x", "2", "20", "200"),
        ("s", "7", "a", "b"),
    ]


def test_strategies_decide_for_one_side() -> None:
    ours, theirs = _conflicting()
    one, two = ours.branch("one"), theirs.branch("two")
    report = one.merge(theirs, strategy="ours")
    assert report.decided == 1
    assert one["x"].to_pylist()[:5] == [0, 10, 20, 30, 400]
    two.merge(ours, strategy="theirs")
    assert two.content_id == one.content_id
    three = ours.branch("three")
    three.merge(theirs, strategy="theirs")
    assert three["x"].to_pylist()[:5] == [0, 10, 200, 30, 400]


def test_a_function_decides() -> None:
    ours, theirs = _conflicting()
    seen: list[vd.Conflict] = []

    def keep_larger(conflict: vd.Conflict) -> str:
        seen.append(conflict)
        return "ours" if conflict.ours > conflict.theirs else "theirs"

    merged = ours.branch("one")
    merged.merge(theirs, resolve=keep_larger)
    assert merged["x"].to_pylist()[2] == 200
    assert seen == [vd.Conflict("cell", 2, "x", 2, 20, 200)]
    summed = ours.branch("two")
    assert summed.merge(theirs, resolve=lambda c: c.use(c.ours + c.theirs)).decided == 1
    assert summed["x"].to_pylist()[2] == 220
    back = ours.branch("three")
    back.merge(theirs, resolve=lambda c: "base")
    assert back["x"].to_pylist()[2] == 2
    empty = ours.branch("four")
    empty.merge(theirs, resolve=lambda c: c.use(None))
    assert empty["x"].to_pylist()[2] is None
    with pytest.raises(vd.MergeConflictError):
        ours.merge(theirs, resolve=lambda c: None)
    with pytest.raises(vd.InvalidInputError, match="does not decide"):
        ours.merge(theirs, resolve=lambda c: "mine")
    with pytest.raises(vd.InvalidInputError):
        ours.merge(theirs, resolve=lambda c: c.use("not a number"))
    with pytest.raises(ZeroDivisionError):
        ours.merge(theirs, resolve=lambda c: 1 / 0)  # type: ignore[arg-type,return-value]
    assert ours.refresh()["x"].to_pylist()[2] == 20


def test_a_table_decides() -> None:
    ours, theirs = _conflicting()
    ours.update([8, 9], {"s": ["p", "q"]})
    theirs.update([8, 9], {"s": ["r", "t"]})
    with pytest.raises(vd.MergeConflictError) as caught:
        ours.merge(theirs)
    table = caught.value.details["conflicts"]
    assert table["anchor"].to_pylist() == [2, 8, 9]
    choices = table.select(["anchor", "field"]).append_column(
        "choice", pa.array(["theirs", "ours", "value"])
    )
    choices = choices.append_column("value", pa.array([None, None, "own"]))
    ours.merge(theirs, resolve=choices)
    rows = ours.take([2, 8, 9]).to_pylist()
    assert [r["x"] for r in rows] == [200, 8, 9]
    assert [r["s"] for r in rows] == ["2", "p", "own"]


def test_a_table_of_choices_may_leave_some_open() -> None:
    ours, theirs = _conflicting()
    theirs.update([1], {"x": [100]})
    choices = {"anchor": [2], "field": ["x"], "choice": ["ours"]}
    with pytest.raises(vd.MergeConflictError) as caught:
        ours.merge(theirs, resolve=pa.table(choices))
    assert caught.value.details["conflicts"]["anchor"].to_pylist() == [1]
    with pytest.raises(vd.InvalidInputError, match="choices cannot be read"):
        ours.merge(theirs, resolve=pa.table({"anchor": [2]}))
    with pytest.raises(vd.InvalidInputError, match="'left'"):
        ours.merge(theirs, resolve=pa.table(choices | {"choice": ["left"]}))


def test_a_delete_conflicts_with_a_change_of_the_same_record() -> None:
    ours, theirs = _sides(_start())
    ours.delete([3])
    theirs.update([3], {"x": [33], "s": ["new"]})
    with pytest.raises(vd.MergeConflictError) as caught:
        ours.merge(theirs)
    table = caught.value.details["conflicts"].to_pylist()
    assert [(r["kind"], r["field"], r["ours"], r["theirs"]) for r in table] == [
        ("delete", "x", None, "33"),
        ("delete", "s", None, "new"),
    ]
    gone, kept = ours.branch("gone"), ours.branch("kept")
    gone.merge(theirs, strategy="ours")
    assert 3 not in gone
    kept.merge(theirs, strategy="theirs")
    assert kept.take([3]).to_pylist()[0]["x"] == 33
    for side, other, wins in ((gone, "theirs", ours), (kept, "ours", theirs)):
        back = theirs.branch(f"back-{other}")
        back.merge(ours, strategy=other)
        assert back.content_id == side.content_id, wins
    with pytest.raises(vd.InvalidInputError, match="contradict"):
        ours.merge(theirs, resolve=lambda c: "ours" if c.field == "x" else "theirs")
    with pytest.raises(vd.InvalidInputError, match="decided by a side"):
        ours.merge(theirs, resolve=lambda c: c.use(1))
    # Deleting what the other side has only labelled in a new field is no conflict.
    four, five = _sides(_start())
    four.delete([3])
    five.add_scalar_layer("p", "x", "int", [(3, 1), (4, 1)])
    assert 3 not in _both_ways(four, five)


def test_records_added_twice() -> None:
    ours, theirs = _sides(_start())
    ours.append_many([{"_anchor": 50, "x": 1, "s": "same"}, {"_anchor": 51, "x": 1, "s": "a"}])
    theirs.append_many([{"_anchor": 50, "x": 1, "s": "same"}, {"_anchor": 51, "x": 2, "s": "a"}])
    with pytest.raises(vd.MergeConflictError) as caught:
        ours.merge(theirs)
    assert caught.value.details["conflicts"].to_pylist() == [
        {"anchor": 51, "field": "x", "kind": "add", "base": None, "ours": 1, "theirs": 2}
    ]
    merged = ours.branch("one")
    merged.merge(theirs, resolve=lambda c: c.use(12))
    assert merged.take([51]).to_pylist()[0] == {"_anchor": 51, "x": 12, "s": "a"}
    without = ours.branch("two")
    without.merge(theirs, resolve=lambda c: "base")
    assert 51 not in without
    assert 50 in without


@pytest.mark.parametrize("more", [0, 300])
def test_automatic_anchors_that_collide_move(more: int) -> None:
    # The last anchor lies in the future, so both sides are given the ones behind it.
    ds = _start()
    ds.append_many([{"_anchor": 1 << 62, "x": -1, "s": "last"}])
    ours, theirs = _sides(ds)
    ours.append_many([{"x": i, "s": "ours"} for i in range(3 + more)])
    theirs.append_many([{"x": i, "s": "theirs"} for i in range(2)])
    ours.add_scalar_layer("p", "x", "int", [((1 << 62) + 1, 7)])
    theirs.add_scalar_layer("q", "x", "int", [((1 << 62) + 1, 8)])
    one, two = ours.branch("one"), theirs.branch("two")
    report = one.merge(theirs)
    assert two.merge(ours).moved.num_rows == report.moved.num_rows == 2
    assert one.content_id == two.content_id
    assert vd.connect(one._space.backend).verify().ok
    rows = one.scan(where="x >= 0 and s in ('ours', 'theirs')").to_arrow().to_pylist()
    assert sorted(r["x"] for r in rows if r["s"] == "theirs") == [0, 1]
    assert sorted(r["x"] for r in rows if r["s"] == "ours") == list(range(3 + more))
    first = {r["s"]: r for r in rows if r["x"] == 0}
    assert (first["ours"]["p"], first["ours"]["q"]) == (7, None)
    assert (first["theirs"]["p"], first["theirs"]["q"]) == (None, 8)
    assert report.moved["old"].to_pylist() == [(1 << 62) + 1, (1 << 62) + 2]
    assert report.moved["new"].to_pylist()[0] == (1 << 62) + 4 + more
    assert not one.merge(theirs).changed


def test_given_anchors_never_move() -> None:
    ds = _start()
    ds.append_many([{"_anchor": 1 << 62, "x": -1, "s": "last"}])
    ours, theirs = _sides(ds)
    ours.append_many([{"_anchor": (1 << 62) + 1, "x": 1, "s": "given"}])
    theirs.append_many([{"x": 2, "s": "automatic"}])
    merged = _both_ways(ours, theirs)
    assert merged.take([(1 << 62) + 1]).to_pylist()[0]["s"] == "given"
    assert merged.take([(1 << 62) + 2]).to_pylist()[0]["s"] == "automatic"


def test_keys() -> None:
    url = f"memory://merging-{next(_NUMBERS)}"
    schema = vd.Schema().add_scalar_string("id").add_scalar_int("x")
    ds = vd.Dataset.create("main", schema, backend=url, key="id")
    ds.append_many([{"id": f"k{i}", "x": i} for i in range(20)])
    ours, theirs = _sides(ds)
    ours.append_many([{"id": "new", "x": 1}, {"id": "a", "x": 5}])
    theirs.append_many([{"id": "new", "x": 1}, {"id": "b", "x": 6}])
    theirs.rename_field("id", "name")
    ours.upsert([{"id": "k3", "x": 33}])
    merged = _both_ways(ours, theirs)
    assert merged.key == "name"
    assert merged.count() == 23
    assert merged.take([merged.anchor_of("k3")])["x"].to_pylist() == [33]
    ours.upsert([{"id": "c", "x": 1}])
    theirs.upsert([{"name": "c", "x": 2}])
    with pytest.raises(vd.MergeConflictError) as caught:
        ours.merge(theirs)
    assert caught.value.details["conflicts"]["kind"].to_pylist() == ["add"]
    other = _start(3)
    third = vd.Dataset.create("unkeyed", vd.Schema().add_scalar_int("x"), backend=url)
    third.append_many([{"x": 1}])
    with pytest.raises(vd.SchemaError, match="identify records differently"):
        third.merge("main", unrelated=True)
    assert other.count() == 3


def test_fields_renamed_dropped_and_redefined() -> None:
    ours, theirs = _sides(_start())
    ours.rename_field("s", "t")
    theirs.update([1], {"s": ["edited"]})
    theirs.append_many([{"_anchor": 70, "x": 7, "s": "seventy"}])
    theirs.drop_field("x")
    merged = _both_ways(ours, theirs)
    assert list(merged.schema) == ["t"]
    assert merged.take([1, 70])["t"].to_pylist() == ["edited", "seventy"]
    # Merged again after more edits, under either name.
    theirs.update([2], {"s": ["later"]})
    merged.update([3], {"t": ["here"]})
    merged.merge(theirs)
    assert merged.take([2, 3])["t"].to_pylist() == ["later", "here"]


@pytest.mark.parametrize(
    ("mine", "other", "field"),
    [
        (lambda d: d.rename_field("s", "t"), lambda d: d.rename_field("s", "u"), "u"),
        (lambda d: d.drop_field("s"), lambda d: d.rename_field("s", "t"), "s"),
        (lambda d: d.drop_field("s"), lambda d: d.update([1], {"s": ["new"]}), "s"),
        (
            lambda d: d.add_scalar_layer("p", None, "int", [(1, 1)]),
            lambda d: d.add_scalar_layer("p", None, "string", [(1, "a")]),
            "p",
        ),
        (
            lambda d: d.add_scalar_layer("p", None, "int", [(1, 1)]),
            lambda d: d.rename_field("s", "p"),
            "p",
        ),
        (
            lambda d: d.set_metadata({"note": "a"}),
            lambda d: d.set_metadata({"note": "b"}),
            "note",
        ),
    ],
    ids=["renamed twice", "drop, rename", "drop, edit", "two types", "one name", "note"],
)
def test_conflicts_about_fields_and_notes(mine: Any, other: Any, field: str) -> None:
    ours, theirs = _sides(_start())
    mine(ours)
    other(theirs)
    before = ours.current_manifest()
    for one, two in ((ours, theirs), (theirs, ours)):
        with pytest.raises(vd.MergeConflictError) as caught:
            one.merge(two)
        assert caught.value.details["conflicts"].num_rows == 1
    with pytest.raises(vd.MergeConflictError) as caught:
        ours.merge(theirs)
    assert caught.value.details["conflicts"]["field"].to_pylist() == [field]
    assert ours.refresh().current_manifest() == before
    for mode, opposite in (("ours", "theirs"), ("theirs", "ours")):
        one, two = ours.branch(f"one-{mode}"), theirs.branch(f"two-{mode}")
        one.merge(theirs, strategy=mode)
        two.merge(ours, strategy=opposite)
        assert one.content_id == two.content_id
        assert vd.connect(one._space.backend).verify().ok


def test_layers_of_one_name_are_joined() -> None:
    ours, theirs = _sides(_start())
    ours.add_scalar_layer("p", "x", "int", [(1, 1), (2, 2)])
    theirs.add_scalar_layer("p", "x", "int", [(2, 2), (3, 3)])
    merged = _both_ways(ours, theirs)
    assert merged["p"].to_pylist()[:5] == [None, 1, 2, 3, None]
    theirs.update([1], {"p": [9]})
    with pytest.raises(vd.MergeConflictError) as caught:
        ours.merge(theirs)
    assert caught.value.details["conflicts"].to_pylist() == [
        {"anchor": 1, "field": "p", "kind": "cell", "base": None, "ours": 1, "theirs": 9}
    ]


def test_a_required_field_needs_values() -> None:
    ds = vd.Dataset.create(
        "main", vd.Schema().add_scalar_int("x"), backend=f"memory://merging-{next(_NUMBERS)}"
    )
    ours, theirs = _sides(ds)
    ours.add_fields(vd.Schema().add_scalar_int("needed", required=True))
    ours.append_many([{"_anchor": 1, "x": 1, "needed": 1}])
    theirs.append_many([{"_anchor": 2, "x": 2}])
    with pytest.raises(vd.SchemaError, match="'needed' is required"):
        ours.merge(theirs)
    assert ours.refresh().count() == 1


def test_criss_cross() -> None:
    ours, theirs = _sides(_start())
    ours.update([1], {"x": [10]})
    theirs.update([2], {"x": [20]})
    # Each side merges the other's first state: two best ancestors from now on.
    early = theirs.branch("early")
    theirs.merge(ours)
    ours.merge(early)
    assert len(vd.merge_base(ours, theirs)) == 2
    ours.update([3], {"x": [30]})
    theirs.update([4], {"x": [40]})
    merged = _both_ways(ours, theirs)
    assert merged["x"].to_pylist()[:5] == [0, 10, 20, 30, 40]
    # What only one side has changed since is no conflict, though one ancestor has another value.
    ours.update([1], {"x": [11]})
    merged = _both_ways(ours, theirs)
    assert merged["x"].to_pylist()[1] == 11
    theirs.update([1], {"x": [12]})
    with pytest.raises(vd.MergeConflictError) as caught:
        ours.merge(theirs)
    row = caught.value.details["conflicts"].to_pylist()[0]
    assert (row["base"], row["ours"], row["theirs"]) == (10, 11, 12)


def test_criss_cross_whose_ancestors_conflict() -> None:
    ours, theirs = _sides(_start())
    ours.update([1], {"x": [10]})
    theirs.update([1], {"x": [20]})
    early = theirs.branch("early")
    theirs.merge(ours, strategy="ours")
    ours.merge(early, strategy="ours")
    assert len(vd.merge_base(ours, theirs)) == 2
    with pytest.raises(vd.MergeConflictError) as caught:
        ours.merge(theirs)
    row = caught.value.details["conflicts"].to_pylist()[0]
    assert (row["base"], row["ours"], row["theirs"]) == (1, 10, 20)
    theirs.update([1], {"x": [10]})
    assert _both_ways(ours, theirs)["x"].to_pylist()[1] == 10


def test_merge_many_shards() -> None:
    ds = _start()
    shards = []
    for number in range(5):
        shard = ds.branch(f"shard-{number}")
        anchors = np.arange(200) * 5 + number + 100
        for part in np.split(anchors, 4):
            shard.append({"_anchor": part, "x": part, "s": [f"shard {number}"] * len(part)})
        shards.append(shard)
    shards[0].add_scalar_layer("p", "x", "int", [(1, 1)])
    shards[1].rename_field("s", "t")
    shards[2].delete([4])
    report = ds.merge_many(shards, message="all shards")
    assert report.changed
    assert ds.count() == 10 + 1_000 - 1
    assert list(ds.schema) == ["x", "t", "p"]
    assert sorted(set(ds["x"].to_pylist()[9:])) == list(range(100, 1_100))
    record = ds.log()[0]
    assert record.message == "all shards"
    assert record.parents[1:] == tuple(s.current_manifest() for s in shards)
    assert not ds.merge_many(shards).changed
    # In another order: the same content.
    other = vd.Dataset.open_ref("main", ds.backend, at=record.parents[0]).branch("other")
    other.merge_many([s.name for s in reversed(shards)])
    assert other.content_id == ds.content_id
    assert vd.connect(ds._space.backend).verify().ok
    # One that holds another is enough, and the fields keep their new names afterwards.
    shards[4].merge(shards[3])
    shards[1].update([2], {"t": ["again"]})
    ds.merge_many([shards[3], shards[4], shards[1]])
    assert len(ds.log()[0].parents) == 3
    assert ds.take([2])["t"].to_pylist() == ["again"]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("unrelated", [False, True])
def test_shards_that_only_add_records(
    monkeypatch: pytest.MonkeyPatch, overlap: bool, unrelated: bool
) -> None:
    # Small slabs, so that records go in through several of them, in the middle and behind the tip.
    monkeypatch.setattr("dreamdb.write.merge.SLAB_NBYTES", 2_048)
    schema = vd.Schema().add_scalar_int("x").add_embedding("v", 2).add_binary("b")
    url = f"memory://merging-{next(_NUMBERS)}"
    ds = vd.Dataset.create("main", schema, backend=url)

    def rows(anchors: Any) -> dict[str, Any]:
        numbers = np.asarray(anchors)
        vectors = np.stack([numbers, -numbers], axis=1).astype(np.float32)
        return {"_anchor": numbers, "x": numbers, "v": vectors,
                "b": [str(n).encode() for n in numbers.tolist()]}  # fmt: skip

    ds.append(rows(np.arange(0, 4_000, 10)))
    shards = []
    for number in range(3):
        anchors = np.arange(number + 1, 8_000, 10)
        shard = (
            vd.Dataset.create(f"shard-{number}", schema, backend=url)
            if unrelated
            else ds.branch(f"shard-{number}")
        )
        shard.append(rows(anchors))
        if overlap:
            shard.append(rows([9_000]))
        shards.append(shard)
    ds.update([50], {"x": [-50]})
    report = ds.merge_many(shards, unrelated=unrelated)
    assert report.moved.num_rows == 0
    assert vd.connect(url).verify().ok
    table = ds.scan().to_arrow()
    expected = sorted({*range(0, 4_000, 10), *(a for n in (1, 2, 3) for a in range(n, 8_000, 10))})
    expected += [9_000] if overlap else []
    assert table["_anchor"].to_pylist() == expected
    assert table["x"].to_pylist() == [-50 if a == 50 else a for a in expected]
    assert table["b"].to_pylist() == [str(a).encode() for a in expected]
    vectors = np.stack(table["v"].to_pylist())
    assert np.array_equal(vectors[:, 0], -vectors[:, 1])
    again = vd.Dataset.create("again", schema, backend=url, data=rows(expected))
    again.update([50], {"x": [-50]})
    assert again.content_id == ds.content_id


@pytest.mark.parametrize("rows_per_fragment", [1, 16, 1_024])
def test_trees_of_several_levels(monkeypatch: pytest.MonkeyPatch, rows_per_fragment: int) -> None:
    monkeypatch.setattr("dreamdb.write.merge.SLAB_NBYTES", 2_048)
    generator = np.random.default_rng(rows_per_fragment)
    schema = vd.Schema().add_text("t", rows_per_fragment=rows_per_fragment).add_scalar_int("x")
    ds = vd.Dataset.create("main", schema, backend=f"memory://merging-{next(_NUMBERS)}")
    size = 1_200
    ds.append({"_anchor": np.arange(size) * 10, "t": [str(i) for i in range(size)],
               "x": np.arange(size)})  # fmt: skip
    base = {a * 10: [str(a), a] for a in range(size)}
    sides, states = [], []
    for number in range(2):
        side, state = ds.branch(f"side-{number}"), {a: list(r) for a, r in base.items()}
        # Each side edits its own records, all over the place.
        mine = np.arange(number, size, 2)
        edited = np.sort(generator.choice(mine, 60, replace=False)) * 10
        side.update(edited[:40], {"t": [f"edit {number}"] * 40})
        side.update(edited[20:], {"x": np.full(40, -number - 1)})
        fresh = np.unique(generator.integers(0, size, 40)) * 10 + 1 + number
        fresh = np.concatenate([fresh, np.arange(400) * 10 + size * 10 + number])
        side.append({"_anchor": fresh, "t": ["new"] * len(fresh), "x": fresh})
        gone = edited[:3]
        side.delete(gone)
        for at, anchor in enumerate(edited.tolist()):
            if at < 40:
                state[anchor][0] = f"edit {number}"
            if at >= 20:
                state[anchor][1] = -number - 1
        state |= {a: ["new", a] for a in fresh.tolist()}
        for anchor in gone.tolist():
            del state[anchor]
        sides.append(side)
        states.append(state)
    merged = _both_ways(*sides)
    expected = {}
    for anchor in {*states[0], *states[1]}:
        one, two, old = (s.get(anchor) for s in (*states, base))
        if old is None:
            expected[anchor] = one or two
        elif one is not None and two is not None:
            expected[anchor] = [b if a == o else a for a, b, o in zip(one, two, old, strict=True)]
    table = merged.scan().to_arrow()
    assert (
        dict(
            zip(
                table["_anchor"].to_pylist(),
                map(list, zip(table["t"].to_pylist(), table["x"].to_pylist(), strict=True)),
                strict=True,
            )
        )
        == expected
    )


def test_every_kind_of_value_is_merged() -> None:
    schema = (
        vd.Schema()
        .add_image("image")
        .add_embedding("vector", dim=3)
        .add_tensor("tensor", "int16", (2, 2))
        .add_text("text")
        .add_scalar_bool("flag")
        .add_scalar_float("score")
        .add_scalar_categorical("label")
        .add_scalar_timestamp("time")
    )
    ds = vd.Dataset.create("main", schema, backend=f"memory://merging-{next(_NUMBERS)}")

    def record(index: int) -> dict[str, Any]:
        return {
            "image": bytes([index % 256]),
            "vector": np.full(3, index, np.float32),
            "tensor": np.full((2, 2), index, np.int16),
            "text": f"text {index}",
            "flag": index % 2 == 0,
            "score": float(index),
            "label": f"class {index % 3}",
            "time": np.datetime64(index, "ns"),
        }

    ds.append_many([{"_anchor": i} | record(i) for i in range(60)])
    ours, theirs = _sides(ds)
    names = list(schema)
    for at, name in enumerate(names):
        ours.update([at], {name: [record(101)[name]]})
        theirs.update([20 + at], {name: [None if at % 2 else record(202)[name]]})
    ours.append_many([{"_anchor": 100} | record(7)])
    theirs.append_many([{"_anchor": 5_000} | record(8)])
    merged = _both_ways(ours, theirs)
    diff = merged.diff(ds)
    assert diff.rows_added == 2
    expected = ours.diff(ds).changed
    for name, count in theirs.diff(ds).changed.items():
        expected[name] = expected.get(name, 0) + count
    assert diff.changed == expected
    theirs.update(range(len(names)), {"text": ["other"] * len(names), "image": [b"o"] * len(names)})
    ours.update(range(len(names)), {"text": ["mine"] * len(names), "image": [b"m"] * len(names)})
    with pytest.raises(vd.MergeConflictError) as caught:
        ours.merge(theirs)
    table = caught.value.details["conflicts"]
    assert table.num_rows == 2 * len(names)
    images = table.filter(pa.compute.equal(table["field"], "image"))
    assert images["ours"].to_pylist() == ['"6d"'] * len(names)
    ours.merge(theirs, resolve=lambda c: c.use(b"decided") if c.field == "image" else "theirs")
    assert ours["image"].to_pylist()[0] == b"decided"
    assert ours["text"].to_pylist()[0] == "other"


def test_criss_cross_again_and_again() -> None:
    ours, theirs = _sides(_start())
    for number in range(10):
        ours.update([number % 4], {"x": [number]})
        theirs.update([5 + number % 4], {"x": [number]})
        early = theirs.branch(f"early-{next(_NUMBERS)}")
        theirs.merge(ours)
        ours.merge(early)
    assert len(vd.merge_base(ours, theirs)) == 2
    ours.update([0], {"x": [-1]})
    theirs.update([9], {"x": [-2]})
    merged = _both_ways(ours, theirs)
    assert merged["x"].to_pylist()[0] == -1
    assert merged["x"].to_pylist()[9] == -2


def test_manifests_that_lie_about_their_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    from dreamdb.write.records import AddRecords

    for recorded in (7, [[1]], [["a", "b"]], [[-1, 5]]):
        ds = _start()
        ds.append_many([{"_anchor": 1 << 62, "x": -1, "s": "last"}])
        ours, theirs = _sides(ds)
        said = {"name": "append", "automatic": recorded}
        with monkeypatch.context() as patch:
            patch.setattr(AddRecords, "summary", lambda self, said=said: said)
            ours.append_many([{"x": 1, "s": "a"}])
        theirs.append_many([{"x": 2, "s": "b"}])
        with pytest.raises(vd.FormatError):
            ours.merge(theirs)
        with pytest.raises(vd.FormatError):
            theirs.merge(ours)


def test_unrelated_histories() -> None:
    ds = _start(3)
    other = vd.Dataset.create("other", ds.schema, backend=ds.backend)
    other.append_many([{"_anchor": 100 + i, "x": i, "s": "o"} for i in range(3)])
    with pytest.raises(vd.InvalidInputError, match="no common ancestor") as caught:
        ds.merge(other)
    assert "unrelated=True" in str(caught.value.hint)
    assert ds.refresh().count() == 3
    merged = _both_ways(ds, other, unrelated=True)
    assert merged.count() == 6
    # They are related now.
    other.append_many([{"_anchor": 200, "x": 1, "s": "later"}])
    merged.merge(other)
    assert merged.count() == 7


def test_bad_arguments() -> None:
    ours, theirs = _conflicting()
    ours.snapshot("snap")
    snapshot = vd.Dataset.open_ref("snap", ours.backend)
    cases: list[tuple[Any, type[Exception]]] = [
        (lambda: ours.merge(theirs, strategy="best"), vd.InvalidInputError),
        (lambda: ours.merge("nowhere"), vd.RefNotFoundError),
        (lambda: ours.merge(5), vd.InvalidInputError),
        (lambda: ours.merge(_start()), vd.InvalidInputError),
        (lambda: ours.merge_many([]), vd.InvalidInputError),
        (lambda: ours.merge_many("theirs"), vd.InvalidInputError),
        (lambda: ours.merge_many([theirs] * 64), vd.InvalidInputError),
        (lambda: ours.merge(theirs, resolve="best"), vd.InvalidInputError),
        (lambda: ours.merge(theirs, resolve=3), vd.InvalidInputError),
        (lambda: ours.merge(theirs, strategy="ours", resolve="ours"), vd.InvalidInputError),
        (lambda: ours.merge(theirs, message="\ud800"), vd.InvalidInputError),
        (lambda: snapshot.merge(theirs), vd.ReadOnlyError),
    ]
    before = ours.current_manifest()
    for call, error in cases:
        with pytest.raises(error):
            call()
    assert ours.refresh().current_manifest() == before


def test_a_stale_handle_merges_into_the_tip() -> None:
    ds = _start()
    ours, theirs = _sides(ds)
    theirs.update([1], {"x": [11]})
    vd.Dataset.open_ref(ours.name or "", ours.backend).update([2], {"x": [22]})
    ours.merge(theirs)
    assert ours["x"].to_pylist()[:3] == [0, 11, 22]
    vd.connect(ours.backend).delete_ref(ours.name or "")
    theirs.update([3], {"x": [33]})
    with pytest.raises(vd.ConflictError, match="deleted"):
        ours.merge(theirs)


def test_merges_race() -> None:
    ds = _start(50)
    sides = []
    for number in range(6):
        side = ds.branch(f"racer-{number}")
        side.update([number], {"x": [1_000 + number]})
        side.append_many([{"_anchor": 500 + number, "x": number, "s": "new"}])
        sides.append(side)

    def join(number: int) -> None:
        handle = vd.Dataset.open_ref("main", ds.backend)
        handle.merge(f"racer-{number}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(join, range(6)))
    ds.refresh()
    assert ds.count() == 56
    assert ds["x"].to_pylist()[:6] == [1_000 + n for n in range(6)]
    assert vd.connect(ds._space.backend).verify().ok


def test_a_merge_base_that_is_gone() -> None:
    ds = _start()
    base = ds.current_manifest()
    ours, theirs = _sides(ds)
    ours.update([1], {"x": [10]})
    theirs.update([2], {"x": [20]})
    backend = copy.copy(ours._space.backend)
    objects: Any = backend.objects
    vd.connect(backend).delete_ref("main")
    for gone in (from_text(base), _content(ds)):
        stored = objects.open(gone)
        kept = bytes(stored)
        objects.delete(gone)
        ours._space.cache.clear()
        before = ours.current_manifest()
        with pytest.raises(vd.ObjectMissingError, match="merge base"):
            ours.merge(theirs)
        assert ours.refresh().current_manifest() == before
        assert ours.count() == theirs.count() == 10
        objects._space.objects[gone] = kept
    ours.merge(theirs)
    assert ours["x"].to_pylist()[:3] == [0, 10, 20]


def _content(ds: vd.Dataset) -> Any:
    return from_text(ds.content_id)
