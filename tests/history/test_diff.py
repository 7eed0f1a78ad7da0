"""Diffs: what they count, what they yield, what they read, and what they refuse."""

from __future__ import annotations

import datetime
import itertools
import time
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import dreamdb as vd
from dreamdb.testing import CountingBackend

_NUMBERS = itertools.count()


def _url() -> str:
    return f"memory://diff-{next(_NUMBERS)}"


def _numbers(anchors: Any, values: Any) -> vd.Dataset:
    schema = vd.Schema().add_scalar_int("x")
    ds = vd.Dataset.create("main", schema, backend=_url())
    ds.append({"_anchor": np.asarray(anchors), "x": np.asarray(values)})
    return ds


def test_equal_values_of_other_records_are_a_change() -> None:
    # Both fields have the same fragments and the same root, yet record 6 holds another value.
    url = _url()
    schema = vd.Schema().add_scalar_int("x")
    for name, anchors in (("one", [1, 5, 6, 9]), ("two", [1, 6, 7, 9])):
        ds = vd.Dataset.create(name, schema, backend=url)
        ds.append_many([{"_anchor": a, "x": i} for i, a in enumerate(anchors)])
    one, two = (vd.Dataset.open_ref(n, url) for n in ("one", "two"))
    assert one._view.content.tracks == two._view.content.tracks
    diff = vd.diff("one", "two", url)
    assert (diff.rows_added, diff.rows_removed, diff.changed) == (1, 1, {"x": 1})
    assert diff.cells("x").to_pylist() == [{"_anchor": 6, "old": 2, "new": 1}]
    assert diff.anchors("added").tolist() == [7]
    assert diff.anchors("removed").tolist() == [5]
    assert diff.anchors("changed").tolist() == [6]


def _brute(before: dict[int, str], after: dict[int, str]) -> tuple[set[int], set[int], set[int]]:
    both = before.keys() & after.keys()
    return (
        set(after.keys() - before.keys()),
        set(before.keys() - after.keys()),
        {a for a in both if before[a] != after[a]},
    )


@pytest.mark.parametrize("rows_per_fragment", [1, 16, 65_536])
@pytest.mark.parametrize("seed", range(4))
def test_trees_of_several_levels_against_brute_force(rows_per_fragment: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = 3_000
    schema = vd.Schema().add_text("x", rows_per_fragment=rows_per_fragment)
    ds = vd.Dataset.create("main", schema, backend=_url())
    texts = [str(n) for n in generator.integers(0, 5, size).tolist()]
    ds.append({"_anchor": np.arange(size) * 10, "x": texts})
    model = dict(zip(range(0, size * 10, 10), texts, strict=True))
    ours, theirs = ds.branch("ours"), ds.branch("theirs")
    states = []
    for handle in (ours, theirs):
        state = dict(model)
        fresh = np.unique(generator.integers(0, size, 20)) * 10 + int(generator.integers(1, 10))
        handle.append({"_anchor": fresh, "x": ["0"] * len(fresh)})
        inserted = handle.current_manifest()
        state |= dict.fromkeys(fresh.tolist(), "0")
        edited = generator.choice(sorted(state), 15, replace=False)
        handle.update(edited, {"x": ["7"] * 15})
        state |= dict.fromkeys(edited.tolist(), "7")
        gone = generator.choice(sorted(state), 10, replace=False)
        handle.delete(gone)
        for anchor in gone.tolist():
            del state[anchor]
        if seed % 2:
            # Taking the append back removes the records from the timeline itself.
            handle.revert(inserted, strategy="theirs")
            for anchor in fresh.tolist():
                state.pop(anchor, None)
        states.append(state)
    diff = vd.diff(ours, theirs)
    added, removed, changed = _brute(*states)
    assert set(diff.anchors("added").tolist()) == added
    assert set(diff.anchors("removed").tolist()) == removed
    assert set(diff.anchors("changed").tolist()) == changed
    assert diff.changed == {"x": len(changed)}
    table = diff.cells("x").to_pydict()
    assert table["old"] == [states[0][a] for a in table["_anchor"]]
    assert table["new"] == [states[1][a] for a in table["_anchor"]]
    assert [s.field for s in diff.stat()] == ["x"]
    assert diff.stat()[0].rows >= len(changed)


def _every_kind() -> vd.Schema:
    return (
        vd.Schema()
        .add_image("image", mime="png")
        .add_embedding("vector", dim=3)
        .add_tensor("tensor", "int16", (2, 2))
        .add_text("text")
        .add_scalar_bool("flag")
        .add_scalar_float("score")
        .add_scalar_categorical("label")
        .add_scalar_timestamp("time")
        .add_binary("raw")
    )


def _record(index: int) -> dict[str, Any]:
    return {
        "image": bytes([index]),
        "vector": np.full(3, index, np.float32),
        "tensor": np.full((2, 2), index, np.int16),
        "text": f"text {index}",
        "flag": index % 2 == 0,
        "score": float(index),
        "label": f"class {index % 3}",
        "time": np.datetime64(index, "ns"),
        "raw": b"",
    }


def test_every_kind_of_value() -> None:
    ds = vd.Dataset.create("main", _every_kind(), backend=_url())
    ds.append_many([{"_anchor": i} | _record(i) for i in range(50)])
    before = ds.current_manifest()
    other = _record(99) | {"label": "class x"}
    for at, (name, value) in enumerate(other.items()):
        changed = True if name == "flag" else b"new" if name == "raw" else value
        ds.update([2 * at + 1], {name: [changed]})
        ds.update([40], {name: [None]})
    diff = ds.diff(before)
    assert diff.changed == dict.fromkeys(other, 2)
    table = diff.to_arrow()
    assert table.column("_anchor").to_pylist() == sorted([2 * i + 1 for i in range(9)] + [40])
    assert table.schema == diff.schema()
    assert table.schema.field("image@old").type == pa.binary()
    assert isinstance(table.schema.field("tensor@new").type, pa.FixedShapeTensorType)
    (last,) = (row for row in table.to_pylist() if row["_anchor"] == 40)
    assert set(last["_fields"]) == set(other)
    assert all(last[f"{name}@new"] is None for name in other)
    assert last["image@old"] == bytes([40])
    assert last["text@old"] == "text 40"
    back = vd.diff(ds, before, ds.backend)
    assert back.changed == diff.changed
    assert back.cells("text")["new"].to_pylist() == diff.cells("text")["old"].to_pylist()


def test_floats_are_compared_by_their_bits() -> None:
    schema = vd.Schema().add_scalar_float("f").add_embedding("v", dim=2)
    ds = vd.Dataset.create("main", schema, backend=_url())
    ds.append_many(
        [{"_anchor": i, "f": f, "v": [0.0, 1.0]} for i, f in enumerate([np.nan, 0.0, 1.0])]
    )
    before = ds.current_manifest()
    ds.update([0, 1, 2], {"f": [np.nan, -0.0, 1.0]})
    ds.update([2], {"v": [[-0.0, 1.0]]})
    diff = ds.diff(before)
    assert diff.changed == {"f": 1, "v": 1}
    assert diff.anchors("changed").tolist() == [1, 2]


def test_nested_values() -> None:
    dtype = pa.struct([("a", pa.int64()), ("b", pa.list_(pa.float64()))])
    rows = [{"a": i, "b": [float(i)] * (i % 4)} for i in range(40)]
    table = pa.table(
        {
            "_anchor": pa.array(range(40), pa.uint64()),
            "s": pa.array(rows, dtype),
            "l": pa.array([None if i % 5 == 0 else list(range(i % 3)) for i in range(40)]),
        }
    )
    ds = vd.Dataset.create("main", data=table, anchor="_anchor", backend=_url())
    before = ds.current_manifest()
    ds.update([3, 7, 10], {"l": [[9], None, [1, 2]]})
    ds.update([5], {"s": [{"a": 5, "b": [5.0, float("nan")]}]})
    ds.update([6], {"s": [{"a": 6, "b": [6.0, 6.0]}]})
    diff = ds.diff(before)
    assert diff.changed == {"s": 1, "l": 3}
    ds.update([5], {"s": [{"a": 5, "b": [5.0, float("nan")]}]})
    assert ds.diff(before).changed == {"s": 1, "l": 3}


def test_versions_may_be_named_in_every_way() -> None:
    ds = _numbers([1, 2], [1, 2])
    url = ds.backend
    snap = ds.snapshot("v1")
    first = ds.current_manifest()
    noon = time.time_ns()
    ds.update([1], {"x": [5]})
    moment = datetime.datetime.fromtimestamp(noon / 1e9, datetime.UTC) + datetime.timedelta(
        microseconds=1
    )
    for named in ("v1", snap, first, noon, ("main", noon), vd.Dataset.open_ref("v1", url), moment):
        diff = ds.diff(named)
        assert diff.changed == {"x": 1}, named
        assert diff.after == "main"
    assert vd.diff("v1", ds).changed == {"x": 1}
    assert vd.diff(noon, "main", url).changed == {"x": 1}
    assert vd.diff("main", noon, url).cells("x").to_pylist() == [{"_anchor": 1, "old": 5, "new": 1}]
    assert vd.diff(("main", noon), "main", url).before == f"main at {noon}"
    assert ds.diff("v1", "v1").is_empty
    assert vd.merge_base("v1", "main", url) == [first]
    named_as_time = ds.branch("2026-01-01")
    assert ds.diff("2026-01-01").is_empty
    assert named_as_time.count() == 2


def test_bad_versions_are_refused() -> None:
    ds = _numbers([1, 2], [1, 2])
    elsewhere = _numbers([1], [1])
    with pytest.raises(vd.RefNotFoundError, match="mian"):
        ds.diff("mian")
    with pytest.raises(vd.NotFoundError):
        ds.diff("2001-01-01")
    with pytest.raises(vd.InvalidInputError, match="both versions are times"):
        vd.diff(1, 2, ds.backend)
    with pytest.raises(vd.InvalidInputError, match="another space"):
        ds.diff(elsewhere)
    with pytest.raises(vd.InvalidInputError, match="backend"):
        vd.diff("a", "b")
    with pytest.raises(vd.InvalidInputError):
        ds.diff(object())
    with pytest.raises(vd.FieldNotFoundError, match="'y'"):
        ds.diff("main", fields=["y"])
    diff = ds.diff("main")
    with pytest.raises(vd.FieldNotFoundError):
        next(diff.rows(["y"]))
    with pytest.raises(vd.FieldNotFoundError):
        diff.cells("y")
    with pytest.raises(vd.InvalidInputError):
        next(diff.rows(batch_size=0))


def test_fields_that_come_go_and_change_their_type() -> None:
    ds = vd.Dataset.create(
        "main", vd.Schema().add_scalar_int("x").add_scalar_int("y"), backend=_url()
    )
    ds.append_many([{"_anchor": i, "x": i, "y": i} for i in range(10)])
    before = ds.current_manifest()
    with ds.transaction() as tx:
        tx.drop_field("y")
        tx.add_scalar_layer("y", None, "string", [(i, str(i)) for i in range(10)])
        tx.rename_field("x", "z")
        tx.update([4], {"z": [-1]})
        tx.add_scalar_layer("p", "z", "int", [(i, 1) for i in range(10)])
    ds.append_many([{"_anchor": 50, "z": 50, "y": "fifty"}])
    diff = ds.diff(before)
    kinds = [(change.kind, change.field) for change in diff.schema_changes]
    assert kinds == [("renamed", "z"), ("added", "p"), ("redefined", "y")]
    assert diff.changed == {"z": 1}
    assert diff.rows_added == 1
    rows = {row["_anchor"]: row for row in diff.to_arrow().to_pylist()}
    assert rows[50]["y@new"] == "fifty"
    assert rows[4]["y@old"] == 4
    assert rows[4]["_fields"] == ["z"]
    back = vd.diff(ds, before)
    assert {(c.kind, c.field) for c in back.schema_changes} == {
        ("renamed", "x"),
        ("dropped", "p"),
        ("redefined", "y"),
    }
    assert len(repr(diff).splitlines()) <= 12
    only = ds.diff(before, fields=["z"])
    assert [c.field for c in only.schema_changes] == ["z"]
    assert only.to_arrow().column_names == ["_anchor", "_change", "_fields", "z@old", "z@new"]


def test_a_field_made_again_with_other_cuts_is_compared_by_value() -> None:
    ds = vd.Dataset.create("main", vd.Schema().add_text("x"), backend=_url())
    values = [str(i % 7) for i in range(2_000)]
    ds.append({"_anchor": np.arange(2_000), "x": values})
    before = ds.current_manifest()
    values[1_234] = "other"
    ds.drop_field("x")
    ds.add_fields(vd.Schema().add_text("x", rows_per_fragment=16))
    ds.update(np.arange(2_000), {"x": values})
    diff = ds.diff(before)
    assert diff.changed == {"x": 1}
    assert [c.kind for c in diff.schema_changes] == ["changed"]


def test_notes_of_the_data() -> None:
    ds = _numbers([1], [1])
    before = ds.current_manifest()
    ds.set_metadata({"licence": "CC0"})
    diff = ds.diff(before)
    assert diff.metadata_changes == {"licence": (None, "CC0")}
    assert bool(diff)
    assert diff.to_dict()["metadata_changes"] == {"licence": {"before": None, "after": "CC0"}}
    assert "licence" in repr(diff)


def test_a_diff_is_an_arrow_stream() -> None:
    ds = _numbers(np.arange(100), np.arange(100))
    before = ds.current_manifest()
    ds.update([5, 6], {"x": [0, 0]})
    diff = ds.diff(before)
    assert pa.table(diff).equals(diff.to_arrow())
    assert pl.DataFrame(diff).shape == (2, 5)
    batches = list(diff.rows(batch_size=1))
    assert [b.num_rows for b in batches] == [1, 1]
    assert all(b.schema == diff.schema() for b in batches)
    assert ds.diff("main").to_arrow().num_rows == 0


def test_html_escapes_and_shows_thumbnails() -> None:
    schema = vd.Schema().add_image("image", mime="png").add_text("<b>".strip("<>"))
    ds = vd.Dataset.create("main", schema, backend=_url())
    ds.append_many([{"_anchor": i, "image": b"\x89PNG" + bytes([i]), "b": "x"} for i in range(9)])
    before = ds.current_manifest()
    ds.update([3], {"image": [b"\x89PNGnew"], "b": ["<script>alert(1)</script>"]})
    ds.update([4], {"image": [None]})
    ds.update([5], {"image": [bytes(300_000)]})
    shown = ds.diff(before)._repr_html_()
    assert shown.count("<img ") == 4
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "[300,000 bytes]" in shown
    assert "null" in shown


def test_counts_read_no_values() -> None:
    backend = CountingBackend(vd.connect(_url(), create=True)._space.backend)
    schema = vd.Schema().add_image("image").add_scalar_int("x")
    ds = vd.Dataset.create("main", schema, backend=backend)
    generator = np.random.default_rng(0)
    ds.append(
        {
            "_anchor": np.arange(3_000),
            "x": np.arange(3_000),
            "image": [generator.bytes(500) for _ in range(3_000)],
        }
    )
    before = ds.current_manifest()
    pictures = set(ds._view.track("image").addresses)
    ds.delete([4])
    ds.update([1_500], {"x": [-1]})
    ds.update([2_000], {"image": [b"new"]})
    pictures |= set(ds._view.track("image").addresses)
    fresh = CountingBackend(backend.inner)
    handle = vd.Dataset.open_ref("main", fresh)
    diff = handle.diff(before)
    assert (diff.rows_added, diff.rows_removed) == (0, 1)
    assert [s.field for s in diff.stat()] == ["image", "x"]
    values = pictures | set(ds._view.track("x").addresses)
    assert not values & set(fresh.tally.opened)
    # Exact counts read the fragments that differ, and no others.
    assert diff.changed == {"image": 1, "x": 1}
    assert len(pictures & set(fresh.tally.opened)) == 2
