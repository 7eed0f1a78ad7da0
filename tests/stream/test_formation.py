"""Batches of one window: every row once, within budget, well filled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.stream import Budget, arrange, form_buckets, form_packs, spread

SIZES = st.lists(st.integers(0, 400), min_size=0, max_size=300)


def _cost(budget: Budget, rows: np.ndarray[Any, Any]) -> int:
    return len(rows) * int(budget.padded[rows].max())


@given(
    sizes=SIZES,
    limit=st.integers(512, 5_000),
    multiple=st.sampled_from([1, 8, 128]),
    most=st.sampled_from([None, 1, 7]),
    sort=st.booleans(),
)
def test_batches_keep_the_budget(
    sizes: list[int], limit: int, multiple: int, most: int | None, sort: bool
) -> None:
    budget = Budget(np.array(sizes, np.int64), limit, multiple)
    order = np.argsort(-budget.sizes, kind="stable") if sort else np.arange(len(sizes))
    batches = form_buckets(order, [budget], most=most)
    assert np.array_equal(np.concatenate([*batches, []]), order)
    for rows in batches:
        assert _cost(budget, rows) <= limit
        assert most is None or len(rows) <= most


def test_every_budget_holds_and_there_is_no_remnant() -> None:
    rng = np.random.default_rng(3)
    tokens = Budget(rng.integers(1, 900, 2_000), 40_000, 64)
    frames = Budget(rng.integers(1, 30, 2_000), 900)
    order = np.argsort(-tokens.sizes, kind="stable")
    batches = form_buckets(order, [tokens, frames])
    assert all(
        _cost(budget, rows) <= budget.limit for rows in batches for budget in (tokens, frames)
    )
    assert [len(b) for b in form_buckets(np.arange(100), [], most=40)] == [34, 34, 32]


def test_token_efficiency_of_log_normal_lengths() -> None:
    rng = np.random.default_rng(5)
    lengths = np.clip(rng.lognormal(6, 1, 200_000), 8, 8192).astype(np.int64)
    longer = rng.random(200_000) < 0.2  # a fifth of the documents are code, twice as long
    lengths[longer] = np.minimum(2 * lengths[longer], 8192)
    padded = real = 0
    for start in range(0, len(lengths), 65_536):
        budget = Budget(lengths[start : start + 65_536], 131_072, 128)
        order = np.argsort(-budget.sizes, kind="stable")
        for rows in form_buckets(order, [budget]):
            assert _cost(budget, rows) <= budget.limit
            padded += _cost(budget, rows)
            real += int(budget.sizes[rows].sum())
    assert real == lengths.sum()
    assert real / padded >= 0.91


@given(sizes=st.lists(st.integers(1, 512), max_size=300))
def test_packs_hold_every_row_once(sizes: list[int]) -> None:
    lengths = np.array(sizes, np.int64)
    packs = form_packs(np.argsort(-lengths, kind="stable"), lengths, 512)
    assert sorted(np.concatenate([*packs, []]).tolist()) == list(range(len(sizes)))
    assert all(lengths[pack].sum() <= 512 for pack in packs)


def test_packs_are_full() -> None:
    lengths = np.clip(np.random.default_rng(1).lognormal(5, 1, 8_192), 8, 2048).astype(np.int64)
    packs = form_packs(np.argsort(-lengths, kind="stable"), lengths, 2048)
    assert lengths.sum() / (2048 * len(packs)) > 0.99


@given(count=st.integers(0, 200), group=st.integers(1, 9), across=st.booleans())
def test_every_batch_is_given_out_once(count: int, group: int, across: bool) -> None:
    order = arrange(count, 12345, group=group, across=across)
    assert sorted(order.tolist()) == list(range(count))


def test_neighbours_stay_together_or_lie_apart() -> None:
    grouped = arrange(64, 5, group=8)
    assert all(np.ptp(grouped[i : i + 8]) == 7 for i in range(0, 64, 8))
    apart = arrange(64, 5, across=True)
    means = [apart[i : i + 8].mean() for i in range(57)]
    assert np.ptp(means) < 16  # neighbours: 57


def test_spread_rows_hold_all_streams_everywhere() -> None:
    rng = np.random.default_rng(2)
    streams = rng.choice(3, 4_000, p=[0.7, 0.1, 0.2])
    lengths = rng.lognormal(6, 1, 4_000) * (1 + 3 * (streams == 2))
    order = spread(streams, [lengths], rng.integers(0, 2**63, 4_000).astype(np.uint64))
    assert np.array_equal(np.sort(order), np.arange(4_000))
    for start in range(0, 4_000, 100):
        run = streams[order[start : start + 100]]
        assert (run == 2).mean() == pytest.approx((streams == 2).mean(), abs=0.03)
