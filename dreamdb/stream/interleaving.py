"""Mixing: which stream stands at each position of an epoch, in exact integer arithmetic.

Source: design/0019 section 3.  Streams are paired, the two with the fewest samples first, until
one pair is left.  Within a pair of ``n`` samples, of which the second stream has ``c``, position
``p`` belongs to the second stream when ``(p*c + phase) // n`` grows there: counts are exact over
the epoch, and any position is found from both sides without looking at the others.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dreamdb.errors import InvalidInputError
from dreamdb.stream.order import derive_key

__all__ = ["Interleaving"]

Positions = npt.NDArray[np.int64]
_CHUNK: Final = 1 << 16
# A chunk times a total must fit 63 bits.
_MOST: Final = 1 << 46


@dataclass(frozen=True, slots=True)
class _Pair:
    """An inner node: ``share`` of ``total`` positions go to the second branch."""

    total: int
    share: int
    phase: int
    first: _Pair | int
    second: _Pair | int

    def before(self, position: int) -> int:
        """Return how many of the positions before this one go to the second branch."""
        return (position * self.share + self.phase) // self.total

    def place(self, index: int, *, second: bool) -> int:
        """Return the position of a branch's ``index``-th sample."""
        if second:
            # The smallest p with before(p + 1) > index.
            return -((self.phase - (index + 1) * self.total) // self.share) - 1
        low, high = index, self.total - 1
        while low < high:
            middle = (low + high) // 2
            if middle + 1 - self.before(middle + 1) > index:
                high = middle
            else:
                low = middle + 1
        return low


class Interleaving:
    """Deals the positions of one epoch to streams.

    Parameters
    ----------
    counts : sequence of int
        Samples of each stream in the epoch, each positive.
    seed, epoch : int
        They shift the pattern.
    """

    def __init__(self, counts: Sequence[int], *, seed: int = 0, epoch: int = 0) -> None:
        self.counts = tuple(map(int, counts))
        self.total = sum(self.counts)
        if not self.counts or min(self.counts) < 1 or self.total > _MOST:
            raise InvalidInputError(
                f"streams of {list(self.counts)} samples cannot be mixed",
                hint=f"every stream needs a sample, and an epoch has at most {_MOST:,}",
            )
        heap: list[tuple[int, int, _Pair | int]] = [(c, i, i) for i, c in enumerate(self.counts)]
        heapq.heapify(heap)
        number = len(heap)
        while len(heap) > 1:
            small, _, light = heapq.heappop(heap)
            large, _, heavy = heapq.heappop(heap)
            total = small + large
            phase = derive_key(f"mix {number}", seed, epoch) % total
            heapq.heappush(heap, (total, number, _Pair(total, small, phase, heavy, light)))
            number += 1
        self._root = heap[0][2]
        self._paths: dict[int, list[tuple[_Pair, bool]]] = {}
        self._trace(self._root, [])

    def _trace(self, node: _Pair | int, path: list[tuple[_Pair, bool]]) -> None:
        if isinstance(node, int):
            self._paths[node] = path
            return
        self._trace(node.first, [*path, (node, False)])
        self._trace(node.second, [*path, (node, True)])

    def window(self, start: int, stop: int) -> tuple[Positions, Positions]:
        """Return the streams at positions ``[start, stop)`` and each one's index in its stream.

        Parameters
        ----------
        start, stop : int
            Positions of the epoch.

        Returns
        -------
        streams, indices : ndarray of int64
            Indices count a stream's samples within the epoch, from 0.
        """
        streams = np.empty(stop - start, np.int64)
        indices = np.empty(stop - start, np.int64)
        for begin in range(start, stop, _CHUNK):
            end = min(begin + _CHUNK, stop)
            self._deal(self._root, begin, slice(begin - start, end - start), streams, indices)
        return streams, indices

    def _deal(
        self,
        node: _Pair | int,
        start: int,
        where: slice | Positions,
        streams: Positions,
        indices: Positions,
    ) -> None:
        """Deal consecutive positions of a node, from ``start``, whose results go to ``where``."""
        out = np.arange(where.start, where.stop) if isinstance(where, slice) else where
        if isinstance(node, int):
            streams[out] = node
            indices[out] = np.arange(start, start + len(out))
            return
        if not len(out):
            return
        # Exact in 64 bits: the large part of the product is divided in Python's integers.
        before, rest = divmod(start * node.share + node.phase, node.total)
        steps = np.arange(len(out) + 1, dtype=np.int64)
        grown = (rest + steps * node.share) // node.total
        second = grown[1:] > grown[:-1]
        self._deal(node.first, start - before, out[~second], streams, indices)
        self._deal(node.second, before, out[second], streams, indices)

    def place(self, stream: int, index: int) -> int:
        """Return the position of a stream's sample: the inverse of :meth:`window`."""
        at = index
        for pair, second in reversed(self._paths[stream]):
            at = pair.place(at, second=second)
        return at
