"""Steps: how an epoch's positions are dealt to ranks and workers, in integer arithmetic.

Source: design/0009.  A step starts at a position, never at a multiple of anything, so a run can
continue with any number of ranks and workers.
"""

from __future__ import annotations

from dataclasses import dataclass

from dreamdb.errors import InvalidInputError

__all__ = ["StepPlan"]


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Where the steps of an epoch begin and end, and which part of each a rank reads.

    Every rank has the same number of steps, every step gives every rank at least one record and
    at most ``batch_size``, and together they read every position once.

    Parameters
    ----------
    num_rows : int
        Records of the epoch.
    batch_size : int
        Records per rank and step.
    world_size : int
        Number of ranks.
    drop_last : bool
        Leave out the last step when it would not be full.
    """

    num_rows: int
    batch_size: int
    world_size: int = 1
    drop_last: bool = False

    @property
    def step_rows(self) -> int:
        """Records of one full step, over all ranks."""
        return self.batch_size * self.world_size

    def count(self, position: int = 0) -> int:
        """Return how many steps follow a position.

        Raises
        ------
        InvalidInputError
            When the last records cannot give every rank one, or there is no full step.
        """
        full, rest = divmod(self.num_rows - position, self.step_rows)
        if self.drop_last and full == 0 and position == 0 and rest:
            raise InvalidInputError(
                f"drop_last leaves nothing: {rest} records, and a step takes {self.step_rows}",
                hint="a smaller batch_size, or drop_last=False",
            )
        if rest == 0 or self.drop_last:
            return full
        if rest < self.world_size and (full == 0 or self.batch_size == 1):
            raise InvalidInputError(
                f"the last step has {rest} records for {self.world_size} ranks, "
                "and a rank without a batch would stop the others",
                hint="drop_last=True leaves them out; a larger batch_size spreads them",
                rows=rest,
                world_size=self.world_size,
            )
        return full + 1

    def bounds(self, position: int, step: int) -> tuple[int, int]:
        """Return the positions ``[start, stop)`` of a step, counted from ``position``."""
        start = position + step * self.step_rows
        full, rest = divmod(self.num_rows - position, self.step_rows)
        if self.drop_last or rest == 0 or rest >= self.world_size or step < full - 1:
            return start, min(start + self.step_rows, self.num_rows)
        # Too few are left to give every rank one: the last two steps share what they have.
        before = position + (full - 1) * self.step_rows
        middle = before + (self.num_rows - before + 1) // 2
        return (before, middle) if step == full - 1 else (middle, self.num_rows)

    def share(self, position: int, step: int, rank: int) -> tuple[int, int]:
        """Return the positions ``[start, stop)`` of one rank in a step."""
        start, stop = self.bounds(position, step)
        size = stop - start
        low, high = size * rank // self.world_size, size * (rank + 1) // self.world_size
        return start + low, start + high

    def after(self, position: int, steps: int) -> int:
        """Return the position that follows some steps; ``num_rows`` at the end of the epoch.

        Raises
        ------
        InvalidInputError
            When there are fewer steps.
        """
        total = self.count(position)
        if not 0 <= steps <= total:
            raise InvalidInputError(
                f"{steps} steps were asked for, {total} follow position {position}"
            )
        if steps == total:
            return self.num_rows
        return self.bounds(position, steps)[0]
