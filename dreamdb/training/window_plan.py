"""Plans of formed batches: windows cut into batches, batches dealt to ranks.

Source: design/0019 sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dreamdb.errors import InvalidInputError
from dreamdb.training.members import EpochMembers, Members
from dreamdb.training.plans import Batch, CountPlan, Place

__all__ = ["Plan", "Window", "WindowPlan"]

Positions = npt.NDArray[np.int64]
_KEPT: Final = 8


@dataclass(frozen=True)
class Window:
    """A formed window.

    Parameters
    ----------
    members : Members
        Its samples, in order of position.
    batches : list of list of ndarray
        For each batch its packed rows; without packing a single one.
    packed : bool
        Whether the rows were packed.
    """

    members: Members
    batches: list[list[Positions]]
    packed: bool


_Formed = tuple[Members, list[Positions]]


class WindowPlan:
    """Batches formed window by window, from the sizes of their samples.

    Parameters
    ----------
    members : EpochMembers
        The samples.
    window_size : int
        Samples formed together.
    form : callable
        Takes epoch, window number and members; returns the batches in the order of their steps.
    drop_last : bool
        Whether last batches that are fewer than the ranks are left out.
    packed : bool
        Whether batches are of packed rows.

    Notes
    -----
    Cost: a window's sizes are read when it is formed; the last few are kept.
    """

    start: Place = (0, 0)

    def __init__(
        self,
        members: EpochMembers,
        window_size: int,
        form: Callable[[int, int, Members], list[list[Positions]]],
        drop_last: bool,
        packed: bool,
    ) -> None:
        self.members = members
        self._size, self._form = window_size, form
        self._drop_last, self._packed = drop_last, packed
        self._windows: dict[tuple[int, int], Window] = {}
        self._counts: dict[int, dict[int, int]] = {}

    @property
    def num_windows(self) -> int:
        """Windows of an epoch."""
        return -(-self.members.total // self._size)

    def window(self, epoch: int, number: int) -> Window:
        """Return a window, formed.

        Parameters
        ----------
        epoch, number : int
            Which.
        """
        found = self._windows.get((epoch, number))
        if found is None:
            low = number * self._size
            members = self.members.window(epoch, low, low + self._size)
            found = Window(members, self._form(epoch, number, members), self._packed)
            # Replaced, never changed: another thread may be reading them.
            kept = list(self._windows.items())[1 - _KEPT :]
            self._windows = dict([*kept, ((epoch, number), found)])
            counts = {**self._counts.get(epoch, {}), number: len(found.batches)}
            others = [item for item in self._counts.items() if item[0] != epoch][1 - _KEPT :]
            self._counts = dict([*others, (epoch, counts)])
        return found

    def _size_of(self, epoch: int, number: int) -> int:
        known = self._counts.get(epoch, {}).get(number)
        return len(self.window(epoch, number).batches) if known is None else known

    def _left(self, epoch: int, place: Place) -> int:
        if len(place) > 2:
            return sum(1 for _ in self._following(epoch, place))
        sizes = (self._size_of(epoch, v) for v in range(place[0], self.num_windows))
        return sum(sizes) - place[1]

    def count(self, epoch: int, place: Place, world_size: int) -> int:
        """Return how many steps follow a place.

        Parameters
        ----------
        epoch, world_size : int
            Which epoch, and how many ranks.
        place : tuple of int
            Where.

        Notes
        -----
        Cost: forms every window that follows, once.
        """
        full, rest = divmod(self._left(epoch, place), world_size)
        return full + int(rest > 0 and not self._drop_last)

    def _following(self, epoch: int, place: Place) -> Iterator[tuple[Place, _Formed]]:
        """Yield the batches from a place on, and the place behind each."""
        gone = place[2] if len(place) > 2 else 0
        for number in range(place[0], self.num_windows):
            window = self.window(epoch, number)
            first = place[1] if number == place[0] else 0
            for i in range(first, len(window.batches)):
                last = i + 1 == len(window.batches)
                after = (number + 1, 0) if last else (number, i + 1)
                formed = window.members, window.batches[i]
                size = _samples(formed[1])
                if gone >= size:
                    gone -= size
                    continue
                if gone:
                    formed = formed[0], _dropped(formed[1], gone)
                    gone = 0
                yield after, formed

    def steps(
        self, epoch: int, place: Place, world_size: int
    ) -> Iterator[tuple[Place, list[Batch]]]:
        """Yield the batches of all ranks step by step, and the place behind each step.

        Parameters
        ----------
        epoch, world_size : int
            Which epoch, and how many ranks.
        place : tuple of int
            Where to begin.
        """
        end = (self.num_windows, 0)
        waiting: list[_Formed] = []
        for after, formed in self._following(epoch, place):
            waiting.append(formed)
            if len(waiting) < world_size:
                continue
            if not self._is_full_from(epoch, after, world_size):
                rest = [formed for _, formed in self._following(epoch, after)]
                if not rest or self._drop_last:
                    yield end, self._batches(epoch, waiting)
                    return
                if sum(_samples(rows) for _, rows in rest) < world_size:
                    yield from self._last_two(epoch, place, waiting + rest, world_size)
                    return
            yield after, self._batches(epoch, waiting)
            place, waiting = after, []
        if waiting and not self._drop_last:
            yield end, self._batches(epoch, _split(waiting, world_size))

    def _last_two(
        self, epoch: int, place: Place, tail: list[_Formed], world_size: int
    ) -> Iterator[tuple[Place, list[Batch]]]:
        """Yield two steps when the samples of the last one are fewer than the ranks.

        The place between them counts samples: what is left there is the same for any world size.
        """
        total = sum(_samples(rows) for _, rows in tail)
        taken = max(total - world_size, 0)
        head: list[_Formed] = []
        rest: list[_Formed] = []
        before = 0
        for members, rows in tail:
            size = _samples(rows)
            inside = min(max(taken - before, 0), size)
            if inside:
                head.append((members, _dropped(rows, 0, inside)))
            if inside < size:
                rest.append((members, _dropped(rows, inside)))
            before += size
        head, rest = _split(head, world_size), _split(rest, world_size)
        gone = place[2] if len(place) > 2 else 0
        yield (place[0], place[1], gone + taken), self._batches(epoch, head)
        yield (self.num_windows, 0), self._batches(epoch, rest)

    def _is_full_from(self, epoch: int, place: Place, world_size: int) -> bool:
        """Return whether at least one more full step follows."""
        left = 0
        for number in range(place[0], self.num_windows):
            left += self._size_of(epoch, number) - (place[1] if number == place[0] else 0)
            if left >= world_size:
                return True
        return False

    def _batches(self, epoch: int, formed: list[_Formed]) -> list[Batch]:
        return [self._batch(epoch, members, rows) for members, rows in formed]

    def _batch(self, epoch: int, members: Members, rows: list[Positions]) -> Batch:
        chosen = np.concatenate(rows)
        packs = np.repeat(np.arange(len(rows)), [len(r) for r in rows]) if self._packed else None
        return Batch(epoch, members.take(chosen), packs)

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
        for after, batches in self.steps(epoch, place, world_size):
            yield after, batches[rank]

    def batch(self, epoch: int, step: int, rank: int, world_size: int) -> Batch:
        """Return the batch of one rank in a step of an epoch run from its start.

        Parameters
        ----------
        epoch, step, rank, world_size : int
            Which.

        Notes
        -----
        Cost: forms the windows up to it.
        """
        place = self.after(epoch, self.start, step, world_size)
        return next(self.batches(epoch, place, rank, world_size))[1]

    def after(self, epoch: int, place: Place, steps: int, world_size: int) -> Place:
        """Return the place behind some steps.

        Parameters
        ----------
        epoch, steps, world_size : int
            How far, in which epoch, for how many ranks.
        place : tuple of int
            Where they begin.

        Notes
        -----
        Cost: forms the windows between.
        """
        total = self.count(epoch, place, world_size)
        if not 0 <= steps <= total:
            raise InvalidInputError(f"{steps} steps were asked for, {total} follow {list(place)}")
        if steps == total:
            return (self.num_windows, 0)
        if len(place) > 2 or steps == total - 1:
            # The last two steps may share what is left; see _last_two.
            near = max(0, steps - 1) if len(place) == 2 else 0
            for behind, _ in self.steps(
                epoch, self.after(epoch, place, near, world_size) if near else place, world_size
            ):
                near += 1
                if near == steps:
                    return behind
        if not steps:
            return place
        number, index = place[0], place[1] + steps * world_size
        while index >= (size := self._size_of(epoch, number)):
            number, index = number + 1, index - size
        return (number, index)

    def is_end(self, place: Place) -> bool:
        """Return whether nothing follows a place.

        Parameters
        ----------
        place : tuple of int
            Where.
        """
        return place[0] >= self.num_windows

    def check(self, place: Place) -> bool:
        """Return whether a place can lie in an epoch.

        Parameters
        ----------
        place : tuple of int
            What a state says.
        """
        if len(place) not in (2, 3) or not 0 <= place[0] <= self.num_windows:
            return False
        if len(place) == 3 and not 0 <= place[2] < self.members.total:
            return False
        return 0 <= place[1] <= (self._size if place[0] < self.num_windows else 0)

    def locate(self, epoch: int, position: int, world_size: int) -> tuple[int, int, int] | None:
        """Return step, rank and index in the batch of a position.

        Parameters
        ----------
        epoch, position, world_size : int
            Where in which epoch, for how many ranks.
        """
        number, local = divmod(position, self._size)
        before = sum(self._size_of(epoch, v) for v in range(number))
        for i, rows in enumerate(self.window(epoch, number).batches):
            if not any((one == local).any() for one in rows):
                continue
            step = (before + i) // world_size
            total = self.count(epoch, self.start, world_size)
            if step >= total:
                return None
            place = self.after(epoch, self.start, step, world_size)
            _, batches = next(self.steps(epoch, place, world_size))
            for rank, batch in enumerate(batches):
                at = np.flatnonzero(batch.members.positions == position)
                if len(at):
                    return step, rank, int(at[0])
        return None


def _split(waiting: list[_Formed], world_size: int) -> list[_Formed]:
    """Split the largest of the last batches until there is one for every rank."""
    parts = list(waiting)
    while len(parts) < world_size:
        at = max(range(len(parts)), key=lambda i: (_samples(parts[i][1]), -i), default=-1)
        if at < 0 or _samples(parts[at][1]) < 2:
            raise InvalidInputError(
                f"the last steps have {sum(_samples(r) for _, r in parts)} samples for "
                f"{world_size} ranks, and a rank without a batch would stop the others",
                hint="last=DropPartial leaves them out",
                world_size=world_size,
            )
        members, rows = parts[at]
        if len(rows) > 1:
            middle = len(rows) // 2
            halves = [rows[:middle], rows[middle:]]
        else:
            middle = len(rows[0]) // 2
            halves = [[rows[0][:middle]], [rows[0][middle:]]]
        parts[at : at + 1] = [(members, half) for half in halves]
    return parts


def _samples(rows: list[Positions]) -> int:
    return sum(map(len, rows))


def _dropped(rows: list[Positions], first: int, stop: int | None = None) -> list[Positions]:
    """Return a batch's rows without its first samples, and without those from ``stop`` on."""
    out, before = [], 0
    for row in rows:
        part = row[max(first - before, 0) : None if stop is None else max(stop - before, 0)]
        if len(part):
            out.append(part)
        before += len(row)
    return out


Plan = CountPlan | WindowPlan
"""How an epoch is cut into steps."""
