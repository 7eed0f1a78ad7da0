"""Forming batches of one window: by budget, or packed.

Source: design/0019 section 4.  A window is formed whole from its rows' sizes, the same on every
rank; nothing is carried into the next one, so a window is found without its predecessors.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dreamdb.stream.order import RowPermutation

__all__ = ["Budget", "arrange", "form_buckets", "form_packs", "spread"]

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Budget:
    """What one batch may cost.

    Parameters
    ----------
    sizes : ndarray of int64, shape (n,)
        What one sample costs in a measure: tokens, frames or bytes.
    limit : int
        At most so much for the batch, every sample counted at the largest one's padded size.
    multiple : int
        Sizes are padded to a multiple of this.
    """

    sizes: Positions
    limit: int
    multiple: int = 1

    @property
    def padded(self) -> Positions:
        """The sizes after padding."""
        return -(-self.sizes // self.multiple) * self.multiple


def _cut(costs: Sequence[Positions], limits: Sequence[int], most: int) -> list[int]:
    """Return where greedy batches of consecutive rows begin, and the end."""
    count = len(costs[0]) if costs else 0
    edges, begin = [0], 0
    while begin < count:
        length = min(most, count - begin)
        for cost, limit in zip(costs, limits, strict=True):
            # No more rows than fit at the smallest cost that the batch can have.
            length = max(1, min(length, limit // max(1, int(cost[begin]))))
            running = np.maximum.accumulate(cost[begin : begin + length])
            fits = running * np.arange(1, length + 1) <= limit
            length = length if fits.all() else max(1, int(np.argmin(fits)))
        begin += length
        edges.append(begin)
    return edges


def form_buckets(
    order: Positions, budgets: Sequence[Budget], *, most: int | None = None
) -> list[Positions]:
    """Cut sorted rows into batches within a budget.

    Parameters
    ----------
    order : ndarray of int64
        Rows of the window, sorted so that similar ones are neighbours.
    budgets : sequence of Budget
        Every one holds for every batch; no single row may exceed one.
    most : int, optional
        Samples of a batch, at most.

    Returns
    -------
    list of ndarray
        Rows of each batch.  There are as few as the order allows, and the last one is not a
        remnant: the limits are lowered as far as the number of batches stays the same.
    """
    if not len(order):
        return []
    costs = [budget.padded[order] for budget in budgets]
    limits = [budget.limit for budget in budgets]
    samples = len(order) if most is None else most
    edges = _cut(costs or [np.ones(len(order), np.int64)], limits or [len(order)], samples)
    wanted = len(edges)
    low, high = 0.0, 1.0
    for _ in range(8):
        share = (low + high) / 2
        tried = [
            max(int(cost.max()), math.ceil(limit * share))
            for cost, limit in zip(costs, limits, strict=True)
        ]
        again = _cut(
            costs or [np.ones(len(order), np.int64)],
            tried or [max(1, math.ceil(len(order) * share))],
            max(1, math.ceil(samples * share)) if most is not None else samples,
        )
        if len(again) <= wanted:
            edges, high = again, share
        else:
            low = share
    return [order[a:b] for a, b in itertools.pairwise(edges)]


def form_packs(order: Positions, sizes: Positions, capacity: int) -> list[Positions]:
    """Pack rows into bins by best fit.

    Parameters
    ----------
    order : ndarray of int64
        Rows of the window, largest first.
    sizes : ndarray of int64
        What each row of the window takes; none is above ``capacity``.
    capacity : int
        What a bin holds.

    Returns
    -------
    list of ndarray
        Rows of each bin, in the order in which they were put there.
    """
    bins: list[list[int]] = []
    # Bins by the space that is left, so that the tightest fit is found in O(log).
    heaps: dict[int, list[int]] = {}
    spaces = _Spaces()
    for row in order.tolist():
        size = int(sizes[row])
        space = spaces.at_least(size)
        if space is None:
            number, space = len(bins), capacity
            bins.append([])
        else:
            number = heapq.heappop(heaps[space])
            if not heaps[space]:
                del heaps[space]
                spaces.remove(space)
        bins[number].append(row)
        left = space - size
        if left:
            if left not in heaps:
                heaps[left] = []
                spaces.add(left)
            heapq.heappush(heaps[left], number)
    return [np.array(members, np.int64) for members in bins]


class _Spaces:
    """A sorted set of numbers."""

    def __init__(self) -> None:
        self._sorted: list[int] = []

    def at_least(self, size: int) -> int | None:
        import bisect

        at = bisect.bisect_left(self._sorted, size)
        return self._sorted[at] if at < len(self._sorted) else None

    def add(self, value: int) -> None:
        import bisect

        bisect.insort(self._sorted, value)

    def remove(self, value: int) -> None:
        import bisect

        del self._sorted[bisect.bisect_left(self._sorted, value)]


def arrange(count: int, key: int, *, group: int = 1, across: bool = False) -> Positions:
    """Return in which order the batches of a window are given out.

    Parameters
    ----------
    count : int
        Batches, sorted by size.
    key : int
        Which order.
    group : int
        Neighbours that follow each other, so that the ranks of a step get batches alike.
    across : bool
        Instead, batches that follow each other lie far apart in size, so that any run of them
        resembles the whole window.
    """
    if count < 2:
        return np.arange(count)
    if across:
        stride = max(1, round(count * 0.6180339887498949))
        while math.gcd(stride, count) != 1:
            stride += 1
        return (np.arange(count) * stride + key % count) % count
    groups = -(-count // group)
    order = RowPermutation(groups, key)(np.arange(groups)) if groups > 1 else np.arange(1)
    places = [np.arange(g * group, min((g + 1) * group, count)) for g in order.tolist()]
    return np.concatenate(places)


def spread(
    streams: Positions, keys: Sequence[npt.NDArray[np.float64]], ties: npt.NDArray[np.uint64]
) -> Positions:
    """Sort rows by their rank within their own stream, so that every run holds all streams.

    Parameters
    ----------
    streams : ndarray of int64
        Stream of each row.
    keys : sequence of ndarray
        What to sort by, the most important first; the largest come first.
    ties : ndarray of uint64
        What decides between equal keys.
    """
    quantile = np.empty(len(streams))
    for stream in np.unique(streams).tolist():
        members = np.flatnonzero(streams == stream)
        inner = np.lexsort((ties[members], *(-key[members] for key in reversed(keys))))
        rank = np.empty(len(members))
        rank[inner] = np.arange(len(members))
        quantile[members] = (rank + 0.5) / len(members)
    return np.lexsort((ties, quantile))
