"""Diff and merge of random histories against a dictionary."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import dreamdb as vd
from tests.history import model

_NUMBERS = itertools.count()


def _start(rows: dict[int, tuple[Any, Any]]) -> tuple[vd.Dataset, model.State]:
    schema = vd.Schema().add_scalar_int("x").add_scalar_string("s")
    ds = vd.Dataset.create("main", schema, backend=f"memory://merge-{next(_NUMBERS)}")
    state = model.State()
    if rows:
        model.apply(ds, state, [("append", rows)])
    return ds, state


def _named(state: model.State) -> tuple[dict[int, dict[str, Any]], dict[str, str]]:
    rows = {
        anchor: {state.names[uid]: value for uid, value in row.items()}
        for anchor, row in state.rows.items()
    }
    return rows, state.notes


START = st.dictionaries(st.integers(0, 30), st.tuples(model.INTS, model.TEXTS), max_size=12)


@given(rows=START, before=model.OPERATIONS, mine=model.OPERATIONS, other=model.OPERATIONS)
def test_merge_is_the_three_way_merge_of_dictionaries(
    rows: dict[int, tuple[Any, Any]], before: list[Any], mine: list[Any], other: list[Any]
) -> None:
    ds, base = _start(rows)
    model.apply(ds, base, before)
    ours, theirs = ds.branch("ours"), ds.branch("theirs")
    left, right = base.copy("ours"), base.copy("theirs")
    model.apply(ours, left, mine)
    model.apply(theirs, right, other)
    assert model.visible(ours) == _named(left)
    expected, clash = model.merge(base, left, right)
    event("conflict" if clash else "no conflict")
    one, two = ours.branch("one"), theirs.branch("two")
    if clash:
        for handle, ref in ((one, "theirs"), (two, "ours")):
            with pytest.raises((vd.MergeConflictError, vd.SchemaError)) as caught:
                handle.merge(ref)
            if isinstance(caught.value, vd.MergeConflictError):
                table = caught.value.details["conflicts"]
                cells = table.filter(table["anchor"].is_valid()).to_pylist()
                if not clash.other:
                    assert {(c["anchor"], c["field"]) for c in cells} == clash.cells
            assert handle.refresh().current_manifest() in (
                ours.current_manifest(),
                theirs.current_manifest(),
            )
        if clash.other:
            return
        one.merge("theirs", strategy="ours")
        two.merge("ours", strategy="theirs")
    else:
        one.merge("theirs")
        two.merge("ours")
    assert one.content_id == two.content_id
    if not clash.cells:
        assert model.visible(one) == _named(expected)
    assert vd.connect(ds._space.backend).verify().ok


@given(rows=START, mine=model.OPERATIONS, other=model.OPERATIONS)
def test_diff_is_the_difference_of_dictionaries(
    rows: dict[int, tuple[Any, Any]], mine: list[Any], other: list[Any]
) -> None:
    ds, base = _start(rows)
    ours, theirs = ds.branch("ours"), ds.branch("theirs")
    left, right = base.copy("ours"), base.copy("theirs")
    model.apply(ours, left, mine)
    model.apply(theirs, right, other)
    diff = vd.diff(ours, theirs)
    assert diff.rows_added == len(right.rows.keys() - left.rows.keys())
    assert diff.rows_removed == len(left.rows.keys() - right.rows.keys())
    both = left.rows.keys() & right.rows.keys()
    changed: dict[str, int] = {}
    for uid in [u for u in left.names if u in right.names]:
        count = sum(left.rows[a][uid] != right.rows[a][uid] for a in both)
        if count:
            changed[right.names[uid]] = count
    assert diff.changed == changed
    assert diff.metadata_changes.keys() == {
        k for k in {*left.notes, *right.notes} if left.notes.get(k) != right.notes.get(k)
    }
    seen: dict[str, dict[int, dict[str, Any]]] = {"added": {}, "removed": {}, "changed": {}}
    for row in diff.to_arrow().to_pylist():
        seen[row["_change"]][row["_anchor"]] = row
    assert seen["added"].keys() == right.rows.keys() - left.rows.keys()
    assert seen["removed"].keys() == left.rows.keys() - right.rows.keys()
    for anchor, row in seen["added"].items():
        for uid, value in right.rows[anchor].items():
            assert row[f"{right.names[uid]}@new"] == value
    for anchor, row in seen["changed"].items():
        names = {
            right.names[u]
            for u in left.names
            if u in right.names and left.rows[anchor][u] != right.rows[anchor][u]
        }
        assert set(row["_fields"]) == names
        for name in names:
            uid = right.named(name)
            assert row[f"{name}@old"] == left.rows[anchor][uid]
            assert row[f"{name}@new"] == right.rows[anchor][uid]
    back = vd.diff(theirs, ours)
    assert (back.rows_added, back.rows_removed) == (diff.rows_removed, diff.rows_added)
    assert sorted(back.changed.values()) == sorted(diff.changed.values())
    assert bool(diff) == (_named(left) != _named(right) or left.names != right.names)
