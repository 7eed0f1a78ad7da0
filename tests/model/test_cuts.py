"""The cut ladder: bounds, nesting, means, and that a cut depends on what lies before it only."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.model import LADDER, OPEN, nearest_rung, rung_ends, track_cuts
from dreamdb.model.cuts import FIRST_RULE, NEXT_RULE, NODE_RULE, CutRule, closed_ends, node_salt
from tests.format import independent_reader as independent
from tests.format.independent_reader import closed, cut

Keys = npt.NDArray[np.uint64]


def keys_of(seed: int, count: int, step: int = 1_000) -> Keys:
    """Return increasing keys; a step of 1 makes them consecutive."""
    dice = np.random.default_rng(seed)
    return np.cumsum(dice.integers(1, step + 1, count, dtype=np.uint64)) + np.uint64(seed)


# The numbers of the format once more: a change of the code's is a change of the format.
NUMBERS = (
    (FIRST_RULE, independent.FIRST),
    (NEXT_RULE, independent.NEXT),
    (NODE_RULE, independent.NODE),
)
SEEDS = st.integers(0, 1 << 40)
STEPS = st.sampled_from((1, 2, 1_000, 1 << 30))


@given(SEEDS, STEPS, st.integers(0, 3_000), st.sampled_from(NUMBERS))
def test_the_cutter_is_the_simple_loop_of_the_format(
    seed: int, step: int, count: int, numbers: tuple[CutRule, tuple[int, ...]]
) -> None:
    rule, told = numbers
    keys = keys_of(seed, count, step)
    ends = closed_ends(keys, rule, seed % 9)
    assert ends.tolist() == closed(keys.tolist(), told, seed % 9)
    lengths = np.diff(ends, prepend=0)
    assert all(rule.minimum <= n <= rule.maximum for n in lengths.tolist())
    assert count - (int(ends[-1]) if len(ends) else 0) < rule.maximum


@given(SEEDS, STEPS, st.integers(0, 5_000), st.integers(0, 7))
def test_rungs_nest(seed: int, step: int, count: int, top: int) -> None:
    ladder = rung_ends(keys_of(seed, count, step), top)
    assert ladder[0].tolist() == list(range(1, count + 1))
    for fine, coarse in itertools.pairwise(ladder):
        assert set(coarse.tolist()) <= set(fine.tolist())


@given(SEEDS, st.integers(0, 4_000), st.integers(0, 7), st.data())
def test_a_track_is_divided_as_the_format_says(
    seed: int, count: int, rung: int, data: st.DataObject
) -> None:
    floor = data.draw(st.integers(0, rung))
    keys = keys_of(seed, count)
    cuts = track_cuts(keys, rung, floor)
    found = list(zip(cuts.ends.tolist(), cuts.rungs.tolist(), strict=True))
    assert found == cut(keys.tolist(), rung, floor)
    assert (found[-1][0] if found else 0) == count
    order = [-1 if r == OPEN else r for r in cuts.rungs.tolist()]
    assert order == sorted(order, reverse=True)
    assert order.count(-1) <= 1


@given(SEEDS, st.integers(1, 4_000), st.integers(0, 7), st.data())
def test_closed_chunks_do_not_depend_on_what_follows(
    seed: int, count: int, rung: int, data: st.DataObject
) -> None:
    keys = keys_of(seed, count)
    less = data.draw(st.integers(0, count))
    whole, part = rung_ends(keys, rung)[rung], rung_ends(keys[:less], rung)[rung]
    assert part.tolist() == whole[whole <= less].tolist()


@given(SEEDS, st.integers(500, 4_000), st.integers(1, 3), st.data())
def test_any_boundary_starts_the_ladder_anew(
    seed: int, count: int, rung: int, data: st.DataObject
) -> None:
    keys = keys_of(seed, count)
    ends = rung_ends(keys, rung)[rung].tolist()
    if ends:
        at = data.draw(st.sampled_from(ends))
        again = rung_ends(keys[at:], rung)[rung] + at
        assert again.tolist() == [end for end in ends if end > at]


@given(SEEDS, st.data())
def test_cuts_find_back_after_an_edit(seed: int, data: st.DataObject) -> None:
    """An edit moves boundaries near it only; far behind it they are the old ones."""
    keys = keys_of(seed, 6_000)
    at = data.draw(st.integers(0, 1_000))
    if data.draw(st.booleans()):
        edited = np.delete(keys, at)
    else:
        edited = np.union1d(keys, keys[at : at + 1] + np.uint64(1))
    for rung in (1, 2):
        before = set(keys[rung_ends(keys, rung)[rung] - 1].tolist())
        after = set(edited[rung_ends(edited, rung)[rung] - 1].tolist())
        changed = before ^ after
        assert not changed or max(changed) <= int(keys[at + 1_500])
        untouched = {k for k in before if k < int(keys[at])}
        assert untouched <= after


@pytest.mark.parametrize("step", [1, 40_000_000])
def test_measured_means_are_within_five_per_cent(step: int) -> None:
    keys = keys_of(3, 1_500_000, step)
    for rung, ends in enumerate(rung_ends(keys, 5)):
        mean = int(ends[-1]) / len(ends)
        assert mean == pytest.approx(LADDER[rung], rel=0.05), rung
    nodes = closed_ends(keys[:600_000], NODE_RULE, node_salt(1))
    assert int(nodes[-1]) / len(nodes) == pytest.approx(NODE_RULE.mean, rel=0.05)


@pytest.mark.deep
def test_measured_means_of_the_upper_rungs() -> None:
    keys = keys_of(5, 40_000_000)
    for rung, ends in enumerate(rung_ends(keys, 7)):
        assert int(ends[-1]) / len(ends) == pytest.approx(LADDER[rung], rel=0.05), rung


def test_adversarial_keys_stay_within_the_bounds() -> None:
    """Keys chosen so that no hash, or every hash, is below the threshold."""
    from tests.format.independent_reader import mix

    never = [key for key in range(4_000_000, 4_020_000) if mix(key, 1) >> 55 >= 160][:5_000]
    ends = closed_ends(np.array(never, np.uint64), FIRST_RULE, 1)
    assert set(np.diff(ends, prepend=0).tolist()) == {64}
    always = [key for key in range(1, 400_000) if mix(key, 1) >> 55 < 16][:5_000]
    ends = closed_ends(np.array(always, np.uint64), FIRST_RULE, 1)
    assert set(np.diff(ends, prepend=0).tolist()) == {4}


def test_the_nearest_rung_is_by_ratio() -> None:
    for rung, mean in enumerate(LADDER):
        assert nearest_rung(mean) == rung
        assert nearest_rung(mean * 1.9 if mean > 1 else 3.9) == rung
    assert nearest_rung(0.001) == 0
    assert nearest_rung(1e12) == 7
    assert nearest_rung(32) == 2  # half way between 16 and 64: the coarser one
