"""Equal records and equal schema have an equal content, however they came to be."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dreamdb as vd
from tests.format.spaces import TYPES, Rows, append, rows_of, schema_at

NAMES = ("count", "label", "raw", "vector", "tags")
_SPACES = itertools.count()


def backend() -> str:
    return f"memory://history-{next(_SPACES)}"


def fresh(rows: Rows, schema: vd.Schema, batch: int | None = None) -> str:
    """Return the content id of rows appended in order."""
    ds = vd.Dataset.create("fresh", schema, backend=backend())
    anchors = sorted(rows)
    size = batch or max(1, len(anchors))
    for at in range(0, len(anchors), size):
        append(ds, {anchor: rows[anchor] for anchor in anchors[at : at + size]})
    return ds.content_id


def wander(ds: vd.Dataset, rows: Rows, dice: random.Random) -> None:
    """Bring the rows into an empty dataset on a detour that leaves no deleted record."""
    anchors = sorted(rows)
    middle = dice.randrange(len(anchors) + 1)
    for part in (anchors[middle:], anchors[:middle]):
        while part:
            size = dice.choice((1, 5, 40, 200, len(part)))
            chosen, part = part[:size], part[size:]
            if dice.random() < 0.5 and len(chosen) > 2:
                holes = set(dice.sample(chosen, len(chosen) // 3))
                append(ds, {a: rows[a] for a in chosen if a not in holes})
                append(ds, {a: rows[a] for a in sorted(holes, reverse=True)})
            else:
                append(ds, {a: rows[a] for a in chosen})
    for name in dice.sample(NAMES, 2):
        some = sorted(dice.sample(anchors, min(5, len(anchors))))
        ds.update(some, {name: [None] * len(some)})
        ds.update(some, {name: [rows[a][name] for a in some]})
    gone = dice.sample(anchors, min(7, len(anchors)))
    ds.delete(gone)
    append(ds, {a: rows[a] for a in gone})


@pytest.mark.parametrize("rungs", [(0, 0), (1, 0), (2, 1), (3, 1), (5, 2)])
@given(seed=st.integers(0, 1 << 30), count=st.sampled_from((1, 3, 70, 400)))
@settings(max_examples=6)
def test_content_ids_do_not_know_history(rungs: tuple[int, int], seed: int, count: int) -> None:
    dice = random.Random(seed)
    anchors = sorted(dice.sample(range(1, 50 * count), count))
    rows = rows_of(anchors, NAMES, seed)
    schema = schema_at(rungs, *NAMES)
    ds = vd.Dataset.create("detour", schema, backend=backend())
    wander(ds, rows, dice)
    expected = fresh(rows, schema)
    assert ds.content_id == expected
    assert fresh(rows, schema, batch=dice.choice((1, 7, 33)) if count < 80 else 90) == expected


@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=8)
def test_deletions_in_any_order_leave_one_content(seed: int) -> None:
    dice = random.Random(seed)
    rows = rows_of(list(range(10, 300, 3)), ("count",), seed)
    gone = dice.sample(sorted(rows), 20)
    found = set()
    for _ in range(3):
        ds = vd.Dataset.create("gone", schema_at((1, 0), "count"), backend=backend())
        append(ds, rows)
        dice.shuffle(gone)
        cut = dice.randrange(1, 19)
        for part in (gone[:cut], gone[cut:]):
            ds.delete(part)
        found.add(ds.content_id)
    assert len(found) == 1


@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=6)
def test_layers_in_any_order_and_batches(seed: int) -> None:
    dice = random.Random(seed)
    rows = rows_of(list(range(5, 500)), ("count",), seed)
    guesses = {anchor: anchor % 5 for anchor in dice.sample(sorted(rows), 200)}
    found = set()
    for turn in range(3):
        ds = vd.Dataset.create("layers", schema_at((2, 0), "count"), backend=backend())
        early = dict(list(rows.items())[:300])
        append(ds, rows if turn == 0 else early)
        pairs: list[Any] = [(a, g) for a, g in guesses.items() if turn == 0 or a in early]
        ds.add_scalar_layer("guess", "count", "int", pairs[::2])
        ds.add_scalar_layer("other", "count", "string", [(9, "x")])
        dice.shuffle(pairs)
        ds.add_scalar_layer("guess", "count", "int", pairs, mode="update")
        if turn:
            append(ds, {a: row for a, row in rows.items() if a not in early})
            late = [(a, g) for a, g in guesses.items() if a not in early]
            ds.add_scalar_layer("guess", "count", "int", late, mode="update")
        found.add(ds.content_id)
    assert len(found) == 1


def test_different_states_have_different_contents() -> None:
    rows = rows_of(list(range(1, 40)), NAMES, 1)
    ids = {fresh(rows, schema_at((1, 0), *NAMES))}
    for anchor, name in ((1, "count"), (20, "label"), (39, "tags")):
        other = {a: dict(row) for a, row in rows.items()}
        other[anchor][name] = {"count": 12_345, "label": "changed", "tags": ["new"]}[name]
        ids.add(fresh(other, schema_at((1, 0), *NAMES)))
    ids.add(fresh({a + 1: row for a, row in rows.items()}, schema_at((1, 0), *NAMES)))
    ids.add(fresh(rows, schema_at((2, 0), *NAMES)))
    assert len(ids) == 6
    assert set(NAMES) <= set(TYPES)
