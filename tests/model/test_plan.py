"""Cut plans: applying a plan gives the cuts of the result, and touches what it must only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.model import OPEN, Entries, empty_entries, track_cuts
from dreamdb.write.plan import EditPlan, Piece, extend_tail, plan_edit

Keys = npt.NDArray[np.uint64]
Piecewise = list[tuple[int, int, int]]  # last key, rows, rung


def keys_of(seed: int, count: int) -> Keys:
    dice = np.random.default_rng(seed)
    return np.cumsum(dice.integers(2, 50, count, dtype=np.uint64))


def entries_of(keys: Keys, rung: int, floor: int) -> Entries:
    cuts = track_cuts(keys, rung, floor)
    out = empty_entries(0, len(cuts.ends))
    out["key"], out["rung"] = keys[cuts.ends - 1], cuts.rungs
    out["rows"] = np.diff(cuts.ends, prepend=0)
    return out


def pieces_of(keys: Keys, rung: int, floor: int) -> Piecewise:
    entries = entries_of(keys, rung, floor)
    return [(int(e["key"]), int(e["rows"]), int(e["rung"])) for e in entries]


def carry_out(
    plan: EditPlan, old: Keys, added: Keys, entries: Entries
) -> tuple[Piecewise, dict[int, list[int]]]:
    """Return the pieces after the plan, and the keys that each planned one would hold."""
    gone = set(plan.gone.tolist())
    assert gone <= set(entries["key"].tolist())
    left = [
        (int(e["key"]), int(e["rows"]), int(e["rung"]))
        for e in entries
        if int(e["key"]) not in gone
    ]
    held: dict[int, list[int]] = {}
    for planned in plan.planned:
        rows: list[int] = []
        for is_new, start, stop in planned.ranges:
            rows += (added if is_new else old)[start:stop].tolist()
        assert len(rows) == planned.rows
        assert rows[-1] == planned.key
        held[planned.key] = rows
        left.append((planned.key, planned.rows, planned.rung))
    return sorted(left), held


def check_edit(old: Keys, added: Keys, removed: Keys, rung: int, floor: int) -> EditPlan:
    entries = entries_of(old, rung, floor)
    plan = plan_edit(entries, lambda start, stop: old[start:stop], added, removed, rung, floor)
    result = np.union1d(np.setdiff1d(old, removed), added)
    found, held = carry_out(plan, old, added, entries)
    assert found == pieces_of(result, rung, floor)
    for key, rows in held.items():
        stop = int(np.searchsorted(result, np.uint64(key))) + 1
        assert rows == result[stop - len(rows) : stop].tolist()
    return plan


RUNGS = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda p: (max(p), min(p)))


@given(st.integers(0, 1 << 30), st.integers(0, 1_500), RUNGS, st.data())
def test_any_edit_gives_the_cuts_of_the_result(
    seed: int, count: int, rungs: tuple[int, int], data: st.DataObject
) -> None:
    dice = np.random.default_rng(seed)
    old = keys_of(seed, count)
    share_in, share_out = data.draw(st.sampled_from([(0, 0.01), (0.01, 0), (0.1, 0.1), (1, 1)]))
    candidates = np.setdiff1d(keys_of(seed + 1, count + 30), old)
    added = candidates[dice.random(len(candidates)) < share_in]
    removed = old[dice.random(len(old)) < share_out]
    check_edit(old, added, removed, *rungs)


@given(st.integers(0, 1 << 30), RUNGS, st.data())
def test_edits_at_the_edges(seed: int, rungs: tuple[int, int], data: st.DataObject) -> None:
    old = keys_of(seed, 600)
    none: Keys = np.empty(0, np.uint64)
    first, last = old[:1] - np.uint64(1), old[-1:] + np.uint64(1)
    run = slice(*sorted((data.draw(st.integers(0, 600)), data.draw(st.integers(0, 600)))))
    for added, removed in (
        (first, none), (last, none), (np.concatenate([first, last]), none),
        (none, old[:1]), (none, old[-1:]), (none, old[run]), (none, old),
        (last, old), (old[run] + np.uint64(1), old[run]), (none, none),
    ):  # fmt: skip
        check_edit(old, added, removed, *rungs)


@given(st.integers(0, 1 << 30), st.integers(0, 2_000))
def test_one_insert_touches_little(seed: int, at: int) -> None:
    old = keys_of(seed, 4_000)
    plan = check_edit(old, old[at : at + 1] + np.uint64(1), np.empty(0, np.uint64), 2, 2)
    assert len(plan.planned) <= 40


@given(st.integers(0, 1 << 30), RUNGS, st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_appends_in_any_batches_give_the_cuts_of_the_whole(
    seed: int, rungs: tuple[int, int], batches: list[int]
) -> None:
    rung, floor = rungs
    keys = keys_of(seed, sum(batches))
    done: list[Piece] = []  # closed chunks of the track's rung
    tail: list[Piece] = []
    rows = 0
    for size in batches:
        open_keys = keys[tail[-1].start : rows] if tail and tail[-1].rung == OPEN else keys[:0]
        pieces = extend_tail(tail, open_keys, keys[rows : rows + size], rows, rung, floor)
        rows += size
        closed = [piece for piece in pieces if piece.rung == rung]
        done, tail = done + closed, pieces[len(closed) :]
        found = [(p.key, p.stop - p.start, p.rung) for p in done + tail]
        assert found == pieces_of(keys[:rows], rung, floor)
        assert [p.start for p in (done + tail)[1:]] == [p.stop for p in (done + tail)[:-1]]
