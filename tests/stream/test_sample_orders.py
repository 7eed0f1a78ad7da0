"""Sample orders: permutations with exact inverses, and how well they mix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.stream import BlockOrder, BucketOrder, GlobalOrder, SampleOrder, SequentialOrder


def _block(draw: Any) -> SampleOrder:
    sizes = draw(st.lists(st.integers(0, 60), min_size=1, max_size=30).filter(any))
    return BlockOrder(
        np.array(sizes), draw(st.integers(0, 9)), draw(st.integers(1, 500)), draw(st.integers(1, 9))
    )


def _bucket(draw: Any) -> SampleOrder:
    hashes = np.array(
        draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=300)), np.uint64
    )
    return BucketOrder(hashes, 3, draw(st.integers(1, 40)), draw(st.sampled_from([None, 5])))


@st.composite
def orders(draw: Any) -> SampleOrder:
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return _block(draw)
    if kind == 1:
        return _bucket(draw)
    count = draw(st.integers(1, 500))
    return GlobalOrder(count, 7) if kind == 2 else SequentialOrder(count)


@given(order=orders(), number=st.integers(0, 5))
def test_a_pass_visits_every_row_once(order: SampleOrder, number: int) -> None:
    positions = np.arange(order.count)
    rows = order.rows(positions, number)
    assert np.array_equal(np.sort(rows), positions)
    assert np.array_equal(order.positions(rows, number), positions)
    some = positions[::3]
    assert np.array_equal(order.rows(some, number), rows[::3])


def test_passes_differ_and_repeat() -> None:
    order = BlockOrder(np.full(40, 100), 17, 1_000, 1)
    first, second = (order.rows(np.arange(4_000), n) for n in (0, 1))
    assert (first != second).mean() > 0.99
    for number in (1, 2, 3, 0):
        order.rows(np.arange(10), number)
    assert np.array_equal(order.rows(np.arange(4_000), 0), first)


def test_the_order_is_held_for_ever() -> None:
    order = BlockOrder(np.array([3, 5, 4]), 17, 5, 2)
    assert order.rows(np.arange(12), 1).tolist() == [4, 9, 7, 10, 5, 8, 6, 1, 3, 2, 0, 11]
    buckets = BucketOrder(np.arange(12, dtype=np.uint64), 5, 4, 6)
    assert buckets.rows(np.arange(12), 1).tolist() == [5, 1, 2, 10, 9, 4, 8, 7, 0, 11, 6, 3]


def test_a_bucket_does_not_depend_on_the_stored_order() -> None:
    hashes = np.arange(1000, dtype=np.uint64)
    mixed = np.random.default_rng(1).permutation(1000)
    first = BucketOrder(hashes, 5, 16, 6)
    second = BucketOrder(hashes[mixed], 5, 16, 6)
    parts = [
        np.split(h[o.rows(np.arange(1000), 0)], np.cumsum(_sizes(o))[:-1])
        for h, o in ((hashes, first), (hashes[mixed], second))
    ]
    for one, other in zip(*parts, strict=True):
        assert set(one.tolist()) == set(other.tolist())


def _sizes(order: BucketOrder) -> np.ndarray[Any, Any]:
    layout = order._layout(0)[1]
    return np.diff(np.concatenate([[0], layout]))


def _quality(rows: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Return the spread of batch means, and the distinct labels of a batch."""
    batches = labels[rows[: len(rows) // 256 * 256]].reshape(-1, 256)
    distinct = np.mean([len(np.unique(batch)) for batch in batches])
    return float(batches.mean(1).std()), float(distinct)


def test_a_full_block_shuffle_is_as_good_as_a_permutation() -> None:
    count = 512_000
    labels = np.sort(np.random.default_rng(0).integers(0, 1_000, count))
    order = BlockOrder(np.full(count // 1_000, 1_000), 5, count, 1)
    rng = np.random.default_rng(4)
    ours = np.mean([_quality(order.rows(np.arange(count), e), labels) for e in range(8)], axis=0)
    ideal = np.mean([_quality(rng.permutation(count), labels) for _ in range(8)], axis=0)
    assert np.allclose(ours, ideal, rtol=0.05)


def test_pairs_meet_again_as_rarely_as_in_a_permutation() -> None:
    count, batch, epochs = 25_600, 256, 12
    order = BlockOrder(np.full(100, 256), 11, count, 1)

    def met_again(batch_of: list[np.ndarray[Any, Any]]) -> float:
        first = [np.flatnonzero(batch_of[0] == b) for b in range(count // batch)]
        again = 0
        for later in batch_of[1:]:
            for members in first:
                met = np.bincount(later[members])
                again += int((met * (met - 1) // 2).sum())
        return again / (epochs - 1)

    def in_batches(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        out = np.empty(count, np.int64)
        out[rows] = np.arange(count) // batch
        return out

    rng = np.random.default_rng(2)
    ours = met_again([in_batches(order.rows(np.arange(count), e)) for e in range(epochs)])
    ideal = met_again([in_batches(rng.permutation(count)) for _ in range(epochs)])
    assert ours == pytest.approx(ideal, rel=0.05)


def test_a_plan_of_a_billion_rows_needs_memory_for_granules_only() -> None:
    order = BlockOrder(np.full(65_536, 16_384), 1, 1_000_000, 48)
    rows = order.rows(np.arange(2**29, 2**29 + 256), 3)
    assert len(np.unique(rows)) == 256
    assert np.array_equal(order.positions(rows, 3), np.arange(2**29, 2**29 + 256))
