"""Plans: which samples each rank trains on in each step, counted.

Source: design/0019 sections 4 and 5.  A place in an epoch is a tuple of integers: the position
for batches of equal count, window and batch for formed ones.  It is the same on every rank and
means the same for any number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dreamdb.stream import StepPlan
from dreamdb.training.members import EpochMembers, Members

__all__ = ["Batch", "CountPlan", "Place"]

Positions = npt.NDArray[np.int64]
Place = tuple[int, ...]
_ORDER_ROWS: Final = 32_768


@dataclass(frozen=True)
class Batch:
    """What one rank trains on in one step.

    Parameters
    ----------
    epoch : int
        Which epoch.
    members : Members
        The samples.
    packs : ndarray of int64, shape (n,), optional
        In which packed row each sample lies.
    """

    epoch: int
    members: Members
    packs: Positions | None = None

    def __len__(self) -> int:
        return len(self.members)


class CountPlan:
    """Batches of equal count.

    Parameters
    ----------
    members : EpochMembers
        The samples.
    batch_size : int
        Samples per batch and rank.
    drop_last : bool
        Whether a last step that is not full is left out.
    """

    start: Place = (0,)

    def __init__(self, members: EpochMembers, batch_size: int, drop_last: bool) -> None:
        self.members = members
        self._batch_size, self._drop_last = batch_size, drop_last

    def _steps(self, world_size: int) -> StepPlan:
        return StepPlan(self.members.total, self._batch_size, world_size, self._drop_last)

    def count(self, epoch: int, place: Place, world_size: int) -> int:
        """Return how many steps follow a place.

        Parameters
        ----------
        epoch, world_size : int
            Which epoch, and how many ranks.
        place : tuple of int
            Where.
        """
        del epoch
        return self._steps(world_size).count(place[0])

    def _share(self, start: int, stop: int, rank: int, world_size: int) -> Positions | slice:
        """Return which of the samples of a step belong to a rank, counted from ``start``."""
        size = stop - start
        low, high = size * rank // world_size, size * (rank + 1) // world_size
        lanes = self.members.lanes(np.arange(start, stop, dtype=np.int64))
        if lanes is None:
            return slice(low, high)
        return np.argsort(lanes, kind="stable")[low:high]

    def batches(
        self, epoch: int, place: Place, rank: int, world_size: int
    ) -> Iterator[tuple[Place, Batch]]:
        """Yield each step's batch of one rank, and the place behind it.

        Parameters
        ----------
        epoch, rank, world_size : int
            Which epoch, and whose batches.
        place : tuple of int
            Where to begin.
        """
        plan, position = self._steps(world_size), place[0]
        total, step, some = plan.count(position), 0, 1
        while step < total:
            # The order is far cheaper to compute for many steps at once.
            last = min(step + some, total)
            start, stop = plan.bounds(position, step)[0], plan.bounds(position, last - 1)[1]
            block = self.members.window(epoch, start, stop)
            for number in range(step, last):
                low, high = plan.bounds(position, number)
                mine = self._share(low, high, rank, world_size)
                part = block.take(slice(low - start, high - start)).take(mine)
                after = self.members.total if number == total - 1 else high
                yield (after,), Batch(epoch, part)
            step = last
            some = max(1, min(4 * some, _ORDER_ROWS // plan.step_rows))

    def batch(self, epoch: int, step: int, rank: int, world_size: int) -> Batch:
        """Return the batch of one rank in a step of an epoch run from its start.

        Parameters
        ----------
        epoch, step, rank, world_size : int
            Which.
        """
        low, high = self._steps(world_size).bounds(0, step)
        block = self.members.window(epoch, low, high)
        return Batch(epoch, block.take(self._share(low, high, rank, world_size)))

    def after(self, epoch: int, place: Place, steps: int, world_size: int) -> Place:
        """Return the place behind some steps.

        Parameters
        ----------
        epoch, steps, world_size : int
            How far, in which epoch, for how many ranks.
        place : tuple of int
            Where they begin.
        """
        del epoch
        return (self._steps(world_size).after(place[0], steps),)

    def is_end(self, place: Place) -> bool:
        """Return whether nothing follows a place.

        Parameters
        ----------
        place : tuple of int
            Where.
        """
        return place[0] >= self.members.total

    def check(self, place: Place) -> bool:
        """Return whether a place can lie in an epoch.

        Parameters
        ----------
        place : tuple of int
            What a state says.
        """
        return len(place) == 1 and 0 <= place[0] <= self.members.total

    def locate(self, epoch: int, position: int, world_size: int) -> tuple[int, int, int] | None:
        """Return step, rank and index in the batch of a position.

        Parameters
        ----------
        epoch, position, world_size : int
            Where in which epoch, for how many ranks.
        """
        del epoch
        plan = self._steps(world_size)
        total = plan.count(0)
        step = min(position // plan.step_rows, total - 1)
        for near in (step, step - 1):
            if near < 0:
                continue
            low, high = plan.bounds(0, near)
            if low <= position < high:
                for rank in range(world_size):
                    mine = np.arange(high - low)[self._share(low, high, rank, world_size)]
                    at = np.flatnonzero(mine == position - low)
                    if len(at):
                        return near, rank, int(at[0])
        return None
