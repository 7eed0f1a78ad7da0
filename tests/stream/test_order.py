"""The order of an epoch is a permutation: exact, even, and the same for ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.errors import InvalidInputError
from dreamdb.stream import RowPermutation, derive_key

GOLDEN_KEY = 15670737595150413357
GOLDEN_TEN = [1, 2, 7, 6, 8, 0, 9, 4, 5, 3]
GOLDEN_BILLION = [844599688, 643173359, 375049630]


@given(count=st.integers(1, 5_000), seed=st.integers(-(2**63), 2**64 - 1))
def test_every_position_holds_one_record(count: int, seed: int) -> None:
    permutation = RowPermutation(count, derive_key("epoch", seed))
    found = permutation(np.arange(count))
    assert np.array_equal(np.sort(found), np.arange(count))
    assert np.array_equal(permutation.inverse(found), np.arange(count))


@given(st.integers(1, 2**62), st.integers(0, 2**62), st.integers(0, 2**32))
def test_huge_domains_answer_at_once_and_invert(count: int, position: int, seed: int) -> None:
    permutation = RowPermutation(count, derive_key("epoch", seed))
    at = np.array([position % count])
    found = permutation(at)
    assert 0 <= found[0] < count
    assert permutation.inverse(found)[0] == at[0]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 255, 256, 257])
def test_small_domains(count: int) -> None:
    found = RowPermutation(count, derive_key("epoch", 7))(np.arange(count))
    assert sorted(found.tolist()) == list(range(count))


def test_positions_alone_give_what_ranges_give() -> None:
    permutation = RowPermutation(1_000, derive_key("epoch", 3))
    whole = permutation(np.arange(1_000))
    picked = np.array([999, 0, 500, 500, 3])
    assert np.array_equal(permutation(picked), whole[picked])


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    keys = {derive_key("epoch", seed, epoch) for seed in range(30) for epoch in range(30)}
    assert len(keys) == 900
    orders = [
        tuple(RowPermutation(200, derive_key("epoch", 1, epoch))(np.arange(200)))
        for epoch in range(20)
    ]
    assert len(set(orders)) == 20


def test_the_order_never_changes() -> None:
    """A resumed run of any later version continues the same order."""
    assert derive_key("epoch", 42, 3) == GOLDEN_KEY
    assert RowPermutation(10, derive_key("epoch", 42))(np.arange(10)).tolist() == GOLDEN_TEN
    found = RowPermutation(10**9, derive_key("epoch", 42, 1))(np.array([0, 1, 10**9 - 1]))
    assert found.tolist() == GOLDEN_BILLION


def test_batches_are_spread_evenly() -> None:
    """Batch means of sorted labels vary as they do for a uniform random order."""
    count, size = 65_536, 256
    ratios = []
    for epoch in range(8):
        order = RowPermutation(count, derive_key("epoch", 0, epoch))(np.arange(count))
        means = (order / count).reshape(-1, size).mean(axis=1)
        ratios.append(means.std() / np.sqrt(1 / 12 / size))
    assert 0.9 < np.mean(ratios) < 1.1


def test_where_a_record_goes_is_uniform_over_epochs() -> None:
    """Chi-square of position buckets for single records, and of distances between neighbours."""
    count, epochs, buckets = 64, 2_000, 16
    at = np.stack(
        [
            RowPermutation(count, derive_key("epoch", 5, epoch)).inverse(np.arange(count))
            for epoch in range(epochs)
        ]
    )
    expected = epochs / buckets
    for record in range(0, count, 7):
        seen = np.bincount(at[:, record] * buckets // count, minlength=buckets)
        chi_square = float(((seen - expected) ** 2 / expected).sum())
        assert chi_square < 44.3  # 15 degrees of freedom, p = 1e-4
    distance = (at[:, 1] - at[:, 0]) % count
    seen = np.bincount(distance, minlength=count)[1:]
    expected = epochs / (count - 1)
    assert float(((seen - expected) ** 2 / expected).sum()) < 112  # 62 degrees, p = 1e-4


@pytest.mark.parametrize("position", [-1, 10, 2**40])
def test_positions_outside_are_refused(position: int) -> None:
    permutation = RowPermutation(10, 1)
    with pytest.raises(InvalidInputError):
        permutation(np.array([position]))
    with pytest.raises(InvalidInputError):
        permutation.inverse(np.array([position]))


@pytest.mark.parametrize("seed", [1.5, "1", None, True, 2**64, -(2**63) - 1])
def test_seeds_that_are_no_integers_are_refused(seed: object) -> None:
    with pytest.raises(InvalidInputError):
        derive_key("epoch", seed)  # type: ignore[arg-type]
