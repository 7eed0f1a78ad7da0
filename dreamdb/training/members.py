"""Members: which sample of which stream stands at each position of an epoch.

Source: design/0019 sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from dreamdb.stream import Interleaving, SampleOrder, scramble
from dreamdb.training.sampling import SampleStream

__all__ = ["EpochMembers", "Members"]

Positions = npt.NDArray[np.int64]
_KEPT = 4


@dataclass(frozen=True)
class Members:
    """Some samples, one per entry of each array.

    Parameters
    ----------
    positions : ndarray of int64, shape (n,)
        Where they stand in the epoch.
    streams : ndarray of int64, shape (n,)
        Which stream.
    index : ndarray of int64, shape (n,)
        Number of the row in its stream's population.
    passes : ndarray of int64, shape (n,)
        How many times the stream has been gone through before.
    sides : ndarray of int64, shape (n, datasets)
        Rows of the datasets' timelines; -1 where there is none.
    """

    positions: Positions
    streams: Positions
    index: Positions
    passes: Positions
    sides: Positions

    def __len__(self) -> int:
        return len(self.streams)

    def take(self, where: Any) -> Members:
        """Return some of them.

        Parameters
        ----------
        where : ndarray or slice
            Which.
        """
        return Members(
            self.positions[where],
            self.streams[where],
            self.index[where],
            self.passes[where],
            self.sides[where],
        )

    @staticmethod
    def joined(parts: Sequence[Members]) -> Members:
        """Return several one after the other.

        Parameters
        ----------
        parts : sequence of Members
            At least one.
        """
        if len(parts) == 1:
            return parts[0]
        return Members(
            np.concatenate([p.positions for p in parts]),
            np.concatenate([p.streams for p in parts]),
            np.concatenate([p.index for p in parts]),
            np.concatenate([p.passes for p in parts]),
            np.concatenate([p.sides for p in parts]),
        )


class EpochMembers:
    """Finds the samples of any epoch by position, and positions by sample.

    Parameters
    ----------
    sampled : SampleStream
        Populations and order.

    Notes
    -----
    Cost: evaluates the relations' joins and filters, once.
    """

    def __init__(self, sampled: SampleStream) -> None:
        mixture = sampled.source
        self.names = [stream.name for stream in mixture.streams]
        self.counts = mixture.counts()
        self.populations = [stream.relation.population() for stream in mixture.streams]
        self.orders: list[SampleOrder] = [
            sampled.order.build(stream.relation, sampled.identity) for stream in mixture.streams
        ]
        self.total = sum(self.counts)
        self._seed = mixture.seed
        self._width = max(len(population.views) for population in self.populations)
        self._deals: dict[int, Interleaving] = {}

    def _deal(self, epoch: int) -> Interleaving:
        found = self._deals.get(epoch)
        if found is None:
            found = Interleaving(self.counts, seed=self._seed, epoch=epoch)
            # Replaced, never changed: another thread may be reading it.
            self._deals = dict([*list(self._deals.items())[1 - _KEPT :], (epoch, found)])
        return found

    def window(self, epoch: int, start: int, stop: int) -> Members:
        """Return the samples at positions ``[start, stop)`` of an epoch.

        Parameters
        ----------
        epoch : int
            Which epoch.
        start, stop : int
            Positions; ``stop`` may lie behind the end.
        """
        stop = min(stop, self.total)
        size = max(0, stop - start)
        positions = np.arange(start, start + size, dtype=np.int64)
        if len(self.counts) == 1:
            streams, within = np.zeros(size, np.int64), positions
        else:
            streams, within = self._deal(epoch).window(start, stop)
        index = np.empty(size, np.int64)
        passes = np.empty(size, np.int64)
        sides = np.full((size, self._width), -1, np.int64)
        for stream, (order, population) in enumerate(
            zip(self.orders, self.populations, strict=True)
        ):
            chosen = np.arange(size) if len(self.counts) == 1 else np.flatnonzero(streams == stream)
            if not len(chosen):
                continue
            number, place = np.divmod(
                within[chosen] + epoch * self.counts[stream], population.count
            )
            rows = np.empty(len(chosen), np.int64)
            for one in np.unique(number).tolist():
                inside = np.flatnonzero(number == one)
                rows[inside] = order.rows(place[inside], one)
            index[chosen], passes[chosen] = rows, number
            for side, found in enumerate(population.rows(rows)):
                sides[chosen, side] = found
        return Members(positions, streams, index, passes, sides)

    def lanes(self, positions: Positions) -> Positions | None:
        """Return the lane of each position; None when ranks need not keep to lanes.

        Parameters
        ----------
        positions : ndarray of int64
            Positions of an epoch.
        """
        if len(self.orders) > 1 or self.counts[0] != self.populations[0].count:
            return None
        return self.orders[0].lanes(positions)

    def places(self, epoch: int, stream: int, row: int) -> list[int]:
        """Return every position of an epoch at which a row stands.

        Parameters
        ----------
        epoch : int
            Which epoch.
        stream : int
            Which stream.
        row : int
            Number of the row in its population.
        """
        count, size = self.counts[stream], self.populations[stream].count
        first, last = epoch * count, (epoch + 1) * count
        found = []
        for number in range(first // size, (last - 1) // size + 1):
            at = int(self.orders[stream].positions(np.array([row]), number)[0])
            within = number * size + at - first
            if 0 <= within < count:
                found.append(
                    within if len(self.counts) == 1 else self._deal(epoch).place(stream, within)
                )
        return sorted(found)

    def anchors(self, members: Members) -> npt.NDArray[np.uint64]:
        """Return the anchors of some samples.

        Parameters
        ----------
        members : Members
            Which.
        """
        out = np.empty(len(members), np.uint64)
        for stream, population in enumerate(self.populations):
            chosen = np.flatnonzero(members.streams == stream)
            if len(chosen):
                out[chosen] = population.anchors(members.index[chosen])
        return out


def sample_ids(
    names: Sequence[str], streams: Positions, anchors: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Return a number for each sample by which its random numbers are found.

    Parameters
    ----------
    names : sequence of str
        Names of the streams.
    streams : ndarray of int64
        Stream of each sample.
    anchors : ndarray of uint64
        Anchor of each sample.
    """
    salts = np.array(
        [
            int.from_bytes(blake3(name.encode()).digest(length=8), "little") if i else 0
            for i, name in enumerate(names)
        ],
        np.uint64,
    )
    with np.errstate(over="ignore"):
        return scramble(anchors ^ salts[streams])
