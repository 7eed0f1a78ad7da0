"""Sample orders: in which order a pass visits the rows of one population.

Source: design/0019 section 2.  Every order is a function of pass and position with an exact
inverse; none of them materialises the order of the rows, except the bucketed one, which keeps one
bucket number per row.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from dreamdb.stream.order import RowPermutation, derive_key
from dreamdb.stream.randomness import scramble

__all__ = ["BlockOrder", "BucketOrder", "GlobalOrder", "SampleOrder", "SequentialOrder"]

Positions = npt.NDArray[np.int64]
_U = np.uint64
_ROUNDS: Final = 8
_GAMMA: Final = 0x9E3779B97F4A7C15
_KEPT: Final = 2


class SampleOrder(Protocol):
    """Which row stands at each position of a pass over ``count`` rows."""

    count: int

    def rows(self, positions: Positions, number: int) -> Positions:
        """Return the rows at some positions of pass ``number``."""
        ...

    def positions(self, rows: Positions, number: int) -> Positions:
        """Return where some rows stand in pass ``number``: the inverse of :meth:`rows`."""
        ...

    def lanes(self, positions: Positions) -> Positions | None:
        """Return the lane of each position; None when there is only one."""
        ...


class SequentialOrder:
    """Rows as they are stored.

    Parameters
    ----------
    count : int
        Rows of the population.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def rows(self, positions: Positions, number: int) -> Positions:
        """Return the rows at some positions."""
        return np.asarray(positions, np.int64)

    def positions(self, rows: Positions, number: int) -> Positions:
        """Return where some rows stand."""
        return np.asarray(rows, np.int64)

    def lanes(self, positions: Positions) -> Positions | None:
        """Return None."""
        return None


class GlobalOrder:
    """A true permutation of all rows, another one in each pass.

    Parameters
    ----------
    count : int
        Rows of the population.
    seed : int
        Which permutations.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self._seed = seed

    def _permutation(self, number: int) -> RowPermutation:
        return RowPermutation(self.count, derive_key("epoch", self._seed, number))

    def rows(self, positions: Positions, number: int) -> Positions:
        """Return the rows at some positions."""
        return self._permutation(number)(positions)

    def positions(self, rows: Positions, number: int) -> Positions:
        """Return where some rows stand."""
        return self._permutation(number).inverse(rows)

    def lanes(self, positions: Positions) -> Positions | None:
        """Return None."""
        return None


class _Granules:
    """The granules of one pass in their order: where each begins in it."""

    def __init__(self, sizes: Positions, seed: int, number: int) -> None:
        key = derive_key("granules", seed, number)
        with np.errstate(over="ignore"):
            hashes = scramble(np.arange(len(sizes), dtype=np.uint64) * _U(_GAMMA) + _U(key))
        self.order = np.argsort(hashes, kind="stable")
        self.ends = np.cumsum(sizes[self.order])
        self.starts = self.ends - sizes[self.order]


class BlockOrder:
    """Granules in random order, their rows shuffled block by block.

    The granules, in an order of their own for each pass, are laid end to end; the line is cut into
    ``lanes`` equal runs, and position ``p`` belongs to lane ``p % lanes``.  Each run is cut into
    blocks, and the rows of a block are permuted.  At any time a pass reads about ``lanes`` times
    the granules of one block.

    Parameters
    ----------
    sizes : ndarray of int64
        Rows of each granule, in stored order.
    seed : int
        Which orders.
    block : int
        Rows that are permuted together.
    lanes : int
        Runs that are read side by side.

    Notes
    -----
    Cost: O(granules) once per pass, then O(1) per position; memory O(granules).
    """

    def __init__(self, sizes: Positions, seed: int, block: int, lanes: int = 1) -> None:
        self._sizes = np.asarray(sizes, np.int64)
        self._first = np.cumsum(self._sizes) - self._sizes
        self.count = int(self._sizes.sum())
        self._seed, self._block = seed, int(block)
        self._lanes = max(1, min(int(lanes), self.count))
        self._short, self._longer = divmod(self.count, self._lanes)
        self._passes: dict[int, _Granules] = {}

    @property
    def sizes(self) -> Positions:
        """Rows of each granule, in stored order."""
        return self._sizes

    def _pass(self, number: int) -> _Granules:
        found = self._passes.get(number)
        if found is None:
            found = _Granules(self._sizes, self._seed, number)
            # Replaced, never changed: another thread may be reading it.
            self._passes = dict([*list(self._passes.items())[1 - _KEPT :], (number, found)])
        return found

    def _permute(
        self, lane: Positions, block: Positions, inside: Positions, number: int, *, backwards: bool
    ) -> Positions:
        """Permute places inside blocks; every block has a key of its own."""
        length = self._short + (lane < self._longer)
        sizes = np.minimum(self._block, length - block * self._block)
        base = _U(derive_key("blocks", self._seed, number))
        with np.errstate(over="ignore"):
            keys = (lane.astype(np.uint64) << _U(40)) | block.astype(np.uint64)
            keys = scramble(keys * _U(_GAMMA) + base)
        out = inside.copy()
        # A full block, and the last blocks of the longer and the shorter lanes: three sizes.
        for size in np.unique(sizes).tolist():
            chosen = np.flatnonzero(sizes == size)
            if size > 1:
                out[chosen] = _walk(inside[chosen], keys[chosen], size, backwards=backwards)
        return out

    def _lane_start(self, lane: Positions) -> Positions:
        return lane * self._short + np.minimum(lane, self._longer)

    def rows(self, positions: Positions, number: int) -> Positions:
        """Return the rows at some positions."""
        found = self._pass(number)
        index, lane = np.divmod(np.asarray(positions, np.int64), self._lanes)
        block, inside = np.divmod(index, self._block)
        inside = self._permute(lane, block, inside, number, backwards=False)
        at = self._lane_start(lane) + block * self._block + inside
        granule = np.searchsorted(found.ends, at, "right")
        return self._first[found.order[granule]] + (at - found.starts[granule])

    def positions(self, rows: Positions, number: int) -> Positions:
        """Return where some rows stand."""
        found = self._pass(number)
        rows = np.asarray(rows, np.int64)
        granule = np.searchsorted(self._first + self._sizes, rows, "right")
        rank = np.empty_like(found.order)
        rank[found.order] = np.arange(len(rank))
        at = found.starts[rank[granule]] + rows - self._first[granule]
        edge = self._longer * (self._short + 1)
        lane = np.where(
            at < edge,
            at // (self._short + 1),
            self._longer + (at - edge) // max(1, self._short),
        )
        block, inside = np.divmod(at - self._lane_start(lane), self._block)
        inside = self._permute(lane, block, inside, number, backwards=True)
        return (block * self._block + inside) * self._lanes + lane

    def lanes(self, positions: Positions) -> Positions | None:
        """Return the lane of each position; None when there is only one."""
        return None if self._lanes == 1 else positions % self._lanes


class BucketOrder:
    """Rows in buckets by a hash of their identity; buckets in an order of their own each pass.

    Which bucket a row is in depends on its identity alone, not on when it was stored.

    Parameters
    ----------
    hashes : ndarray of uint64
        One per row.
    seed : int
        Which buckets and orders inside them.
    buckets : int
        How many.
    bucket_seed : int or None
        Which orders of the buckets; None keeps them in their numbers' order.

    Notes
    -----
    Cost: O(rows) once, O(buckets) per pass; memory 8 bytes per row.
    """

    def __init__(
        self, hashes: npt.NDArray[np.uint64], seed: int, buckets: int, bucket_seed: int | None
    ) -> None:
        self.count = len(hashes)
        self._seed, self._bucket_seed = seed, bucket_seed
        with np.errstate(over="ignore"):
            mixed = scramble(hashes + _U(derive_key("bucket of a row", seed)))
        which = (mixed % _U(buckets)).astype(np.int64)
        self._members = np.argsort(which, kind="stable")
        self._sizes = np.bincount(which, minlength=buckets)
        self._firsts = np.cumsum(self._sizes) - self._sizes
        self._which = which
        self._passes: dict[int, tuple[Positions, Positions]] = {}

    def _layout(self, number: int) -> tuple[Positions, Positions]:
        """Return the buckets in order, and the position at which each one ends."""
        found = self._passes.get(number)
        if found is None:
            order = np.arange(len(self._sizes))
            if self._bucket_seed is not None:
                key = derive_key("bucket order", self._bucket_seed, number)
                order = RowPermutation(len(order), key)(order)
            found = order, np.cumsum(self._sizes[order])
            self._passes = dict([*list(self._passes.items())[1 - _KEPT :], (number, found)])
        return found

    def _inside(
        self, bucket: Positions, inside: Positions, number: int, *, backwards: bool
    ) -> Positions:
        base = _U(derive_key("inside a bucket", self._seed, number))
        with np.errstate(over="ignore"):
            keys = scramble(bucket.astype(np.uint64) * _U(_GAMMA) + base)
        sizes = self._sizes[bucket]
        out = inside.copy()
        for size in np.unique(sizes).tolist():
            chosen = np.flatnonzero(sizes == size)
            if size > 1:
                out[chosen] = _walk(inside[chosen], keys[chosen], size, backwards=backwards)
        return out

    def rows(self, positions: Positions, number: int) -> Positions:
        """Return the rows at some positions."""
        order, ends = self._layout(number)
        rank = np.searchsorted(ends, positions, "right")
        bucket = order[rank]
        inside = np.asarray(positions, np.int64) - (ends[rank] - self._sizes[bucket])
        inside = self._inside(bucket, inside, number, backwards=False)
        return self._members[self._firsts[bucket] + inside]

    def positions(self, rows: Positions, number: int) -> Positions:
        """Return where some rows stand."""
        order, ends = self._layout(number)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        bucket = self._which[rows]
        # Inside its bucket a row stands where the stored order puts it.
        place = np.empty(self.count, np.int64)
        place[self._members] = np.arange(self.count)
        inside = place[rows] - self._firsts[bucket]
        inside = self._inside(bucket, inside, number, backwards=True)
        return ends[rank[bucket]] - self._sizes[bucket] + inside

    def lanes(self, positions: Positions) -> Positions | None:
        """Return None."""
        return None


def _walk(
    values: Positions, keys: npt.NDArray[np.uint64], size: int, *, backwards: bool
) -> Positions:
    """Permute values of ``[0, size)``, each under its own key: Feistel with cycle walking."""
    bits = max(2, (size - 1).bit_length())
    left_bits = bits // 2
    right_bits = _U(bits - left_bits)
    masks = (_U((1 << left_bits) - 1), _U((1 << (bits - left_bits)) - 1))
    rounds = range(_ROUNDS - 1, -1, -1) if backwards else range(_ROUNDS)

    def once(x: npt.NDArray[np.uint64], key: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = x >> right_bits, x & masks[1]
        for i in rounds:
            with np.errstate(over="ignore"):
                turn = key * _U(2 * i + 1) + _U((_GAMMA * (i + 1)) & 0xFFFFFFFFFFFFFFFF)
                if i & 1:
                    right = right ^ (scramble(left + turn) & masks[1])
                else:
                    left = left ^ (scramble(right + turn) & masks[0])
        return (left << right_bits) | right

    y = once(values.astype(np.uint64), keys)
    outside = np.flatnonzero(y >= _U(size))
    while len(outside):
        y[outside] = once(y[outside], keys[outside])
        outside = outside[y[outside] >= _U(size)]
    return y.astype(np.int64)
