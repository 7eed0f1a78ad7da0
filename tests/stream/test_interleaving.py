"""Mixing: exact counts, small deviations, an exact inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.errors import InvalidInputError
from dreamdb.stream import Interleaving

COUNTS = st.lists(st.integers(1, 5_000), min_size=1, max_size=8)


@given(counts=COUNTS, seed=st.integers(0, 99), epoch=st.integers(0, 3))
def test_counts_are_exact_and_indices_run(counts: list[int], seed: int, epoch: int) -> None:
    deal = Interleaving(counts, seed=seed, epoch=epoch)
    streams, indices = deal.window(0, sum(counts))
    for stream, count in enumerate(counts):
        assert np.array_equal(indices[streams == stream], np.arange(count))


@given(counts=COUNTS, data=st.data())
def test_a_window_is_part_of_the_whole(counts: list[int], data: st.DataObject) -> None:
    deal = Interleaving(counts, seed=3)
    start = data.draw(st.integers(0, sum(counts)))
    stop = data.draw(st.integers(start, min(sum(counts), start + 500)))
    whole, part = deal.window(0, sum(counts)), deal.window(start, stop)
    for all_of_it, some in zip(whole, part, strict=True):
        assert np.array_equal(all_of_it[start:stop], some)
    for stream, index, position in zip(*part, range(start, stop), strict=True):
        assert deal.place(int(stream), int(index)) == position


@given(
    counts=st.lists(st.integers(1, 10**9), min_size=1, max_size=6),
    size=st.sampled_from([32, 256, 1000]),
    data=st.data(),
)
def test_a_window_is_within_two_or_three_samples(
    counts: list[int], size: int, data: st.DataObject
) -> None:
    total = sum(counts)
    start = data.draw(st.integers(0, max(0, total - size)))
    stop = min(total, start + size)
    streams, _ = Interleaving(counts, seed=1).window(start, stop)
    for stream, count in enumerate(counts):
        wanted = (stop - start) * count / total
        # Two pairs above each other at most for three streams, and the bound grows with them.
        bound = 2 if len(counts) <= 3 else 3
        assert abs(int((streams == stream).sum()) - wanted) < bound


def test_the_mix_of_the_text_example_is_within_two_in_every_batch() -> None:
    streams, _ = Interleaving([70_000, 10_000, 20_000], seed=9176).window(0, 100_000)
    for stream, share in enumerate((0.7, 0.1, 0.2)):
        before = np.concatenate([[0], np.cumsum(streams == stream)])
        assert np.abs(before[256:] - before[:-256] - 256 * share).max() <= 2


def test_far_positions_are_exact() -> None:
    counts = [7 * 10**12, 10**12, 2 * 10**12]
    deal = Interleaving(counts, seed=9)
    start = 10**13 - 4096
    streams, indices = deal.window(start, 10**13)
    for stream, count in enumerate(counts):
        found = indices[streams == stream]
        assert np.array_equal(found, np.arange(count - len(found), count))
        assert deal.place(stream, int(found[0])) == start + int(np.argmax(streams == stream))


def test_epochs_have_patterns_of_their_own() -> None:
    counts = [700, 100, 200]
    first, second = (Interleaving(counts, seed=1, epoch=e).window(0, 1000)[0] for e in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("counts", [[], [0, 3], [-1], [1 << 46, 1]])
def test_impossible_counts_are_refused(counts: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="cannot be mixed"):
        Interleaving(counts)
