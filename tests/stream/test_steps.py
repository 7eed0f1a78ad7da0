"""Dealing positions to ranks: disjoint, complete, equally many steps, from any position."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dreamdb.errors import InvalidInputError
from dreamdb.stream import StepPlan


def dealt(plan: StepPlan, position: int, steps: Sequence[int] | None = None) -> list[list[int]]:
    """Return the positions of each step, all ranks together, checking every share."""
    out = []
    for step in range(plan.count(position)) if steps is None else steps:
        shares = [plan.share(position, step, rank) for rank in range(plan.world_size)]
        sizes = [stop - start for start, stop in shares]
        assert min(sizes) >= 1
        assert max(sizes) <= plan.batch_size
        assert max(sizes) - min(sizes) <= 1
        out.append([p for start, stop in shares for p in range(start, stop)])
    return out


def flat(steps: list[list[int]]) -> list[int]:
    return list(itertools.chain(*steps))


@given(
    rows=st.integers(0, 300),
    position=st.integers(0, 300),
    batch_size=st.integers(1, 20),
    world_size=st.integers(1, 9),
)
def test_every_position_is_read_once_in_order(
    rows: int, position: int, batch_size: int, world_size: int
) -> None:
    position = min(position, rows)
    rest = (rows - position) % (batch_size * world_size)
    assume(not 0 < rest < world_size or (batch_size > 1 and rows - position > rest))
    plan = StepPlan(rows, batch_size, world_size)
    assert flat(dealt(plan, position)) == list(range(position, rows))


@given(
    rows=st.integers(1, 300),
    batch_size=st.integers(2, 20),
    worlds=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    cut=st.integers(0, 30),
)
def test_another_number_of_ranks_continues_with_the_rest(
    rows: int, batch_size: int, worlds: tuple[int, int], cut: int
) -> None:
    before = StepPlan(rows, batch_size, worlds[0])
    after = StepPlan(rows, batch_size, worlds[1])
    assume(rows >= worlds[0])
    cut = min(cut, before.count())
    position = before.after(0, cut)
    assume(rows == position or rows - position >= worlds[1])
    seen = flat(dealt(before, 0, range(cut)))
    assert seen + flat(dealt(after, position)) == list(range(rows))


@given(rows=st.integers(1, 300), batch_size=st.integers(2, 20), world_size=st.integers(1, 7))
def test_the_same_ranks_continue_with_the_same_steps(
    rows: int, batch_size: int, world_size: int
) -> None:
    assume(rows >= world_size)
    plan = StepPlan(rows, batch_size, world_size)
    whole = dealt(plan, 0)
    for cut in range(len(whole) + 1):
        assert dealt(plan, plan.after(0, cut)) == whole[cut:]


@given(rows=st.integers(0, 300), batch_size=st.integers(1, 9), world_size=st.integers(1, 5))
def test_drop_last_leaves_full_steps(rows: int, batch_size: int, world_size: int) -> None:
    plan = StepPlan(rows, batch_size, world_size, drop_last=True)
    full = rows // plan.step_rows
    assume(full or not rows)
    steps = dealt(plan, 0)
    assert [len(step) for step in steps] == [plan.step_rows] * full


@pytest.mark.parametrize(("rows", "batch_size", "world_size"), [(3, 8, 4), (9, 1, 4)])
def test_ranks_without_a_batch_are_refused(rows: int, batch_size: int, world_size: int) -> None:
    with pytest.raises(InvalidInputError, match="ranks"):
        StepPlan(rows, batch_size, world_size).count()


def test_dropping_everything_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="drop_last leaves nothing"):
        StepPlan(10, 16, drop_last=True).count()


def test_more_steps_than_there_are_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="5 steps were asked for, 4 follow"):
        StepPlan(100, 30).after(0, 5)


def test_a_plan_of_a_billion_rows_is_arithmetic() -> None:
    plan = StepPlan(10**12 + 7, 256, 1_000)
    last = plan.count() - 1
    assert plan.share(0, last, 999)[1] == 10**12 + 7
