"""The rows of a relation: evaluated once, then addressed by number.

Source: design/0019 section 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dreamdb.errors import InvalidInputError
from dreamdb.model import ANCHOR
from dreamdb.read import Predicate
from dreamdb.stream import select_rows
from dreamdb.tracks import View, anchor_values, gather_numpy, increasing
from dreamdb.training.columns import Column, Stored, read_arrow

if TYPE_CHECKING:
    from dreamdb.training.relation import Relation

__all__ = ["Filter", "Join", "Population", "populate"]

Positions = npt.NDArray[np.int64]
_BLOCK = 65_536


@dataclass(frozen=True)
class Filter:
    """A condition over a relation's columns as they were then.

    Parameters
    ----------
    predicate : Predicate
        What must hold.
    columns : mapping of str to Column
        What its names meant.
    """

    predicate: Predicate
    columns: Mapping[str, Column]

    @property
    def on_first(self) -> bool:
        """Whether it reads fields of the first dataset only."""
        used = [self.columns[name] for name in self.predicate.fields if name != ANCHOR]
        return all(isinstance(column, Stored) and column.side == 0 for column in used)


@dataclass(frozen=True)
class Join:
    """A partner for every row.

    Parameters
    ----------
    left, right : Column
        The keys; ``right`` as the other relation numbers its datasets.
    other : Relation
        The other relation.
    first, sides : int
        Where its datasets stand here, and how many they are.
    keep : bool
        Whether rows without a partner stay.
    """

    left: Column
    right: Column
    other: Relation
    first: int
    sides: int
    keep: bool


@dataclass
class Population:
    """Rows of a relation, numbered from 0 in stored order.

    Parameters
    ----------
    views : tuple of View
        The datasets.
    count : int
        How many rows.
    sides : tuple of ndarray of int64, optional
        For each dataset the row of its timeline, -1 where there is none; None: all visible
        records of the only dataset.
    trace : list of (int, int)
        The steps as they were evaluated, -1 for the dataset itself, and the rows left after each.
    """

    views: tuple[View, ...]
    count: int
    sides: tuple[Positions, ...] | None = None
    trace: list[tuple[int, int]] = field(default_factory=list)

    def rows(self, index: Positions) -> list[Positions]:
        """Return for each dataset the rows of its timeline.

        Parameters
        ----------
        index : ndarray of int64
            Numbers of rows.
        """
        if self.sides is None:
            return [self.views[0].row_of_visible(index)]
        return [side[index] for side in self.sides]

    def anchors(self, index: Positions) -> npt.NDArray[np.uint64]:
        """Return the anchors of some rows.

        Parameters
        ----------
        index : ndarray of int64
            Numbers of rows.
        """
        ordered, order = increasing(self.rows(index)[0])
        return gather_numpy(self.views[0].timeline, ordered, order)[0]

    def find(self, row: int) -> int:
        """Return the number of the row that stands at a row of the first dataset's timeline.

        Parameters
        ----------
        row : int
            Row of the timeline.

        Returns
        -------
        int
            -1 when it is not among them.
        """
        if self.sides is None:
            dead = self.views[0].dead()
            before = int(np.searchsorted(dead, row))
            gone = before < len(dead) and int(dead[before]) == row
            return -1 if gone or not 0 <= row < self.views[0].rows else row - before
        at = int(np.searchsorted(self.sides[0], row))
        return at if at < self.count and int(self.sides[0][at]) == row else -1

    def granules(self) -> Positions:
        """Return how many rows lie in each chunk of the timeline, in stored order.

        Notes
        -----
        Cost: the timeline's tree; no record is read.
        """
        _, _, ends = self.views[0].timeline.flat()
        return np.diff(self._before(ends), prepend=0)

    def _before(self, ends: Positions) -> Positions:
        if self.sides is None:
            return ends - np.searchsorted(self.views[0].dead(), ends)
        return np.searchsorted(self.sides[0], ends)

    def granules_by(self, names: Sequence[str], columns: Mapping[str, Column]) -> Positions:
        """Return how many rows lie between changes of some columns or chunks.

        Parameters
        ----------
        names : sequence of str
            Columns whose change ends a granule.
        columns : mapping of str to Column
            The relation's columns.

        Notes
        -----
        Cost: reads these columns once.
        """
        edges = np.zeros(self.count + 1, np.bool_)
        edges[self._before(self.views[0].timeline.flat()[2])] = True
        last: dict[str, pa.Array] = {}
        for start in range(0, self.count, _BLOCK):
            index = np.arange(start, min(start + _BLOCK, self.count), dtype=np.int64)
            for name, array in read_arrow(self.views, columns, names, self.rows(index)).items():
                whole = pa.concat_arrays([last[name], array]) if name in last else array
                same = pc.fill_null(pc.equal(whole[1:], whole[:-1]), False)
                changed = ~np.asarray(same.to_numpy(zero_copy_only=False), np.bool_)
                begin = start if name in last else start + 1
                edges[begin : begin + len(changed)] |= changed
                last[name] = whole[-1:]
        edges[0] = edges[-1] = True
        return np.diff(np.flatnonzero(edges)).astype(np.int64)


def populate(views: tuple[View, ...], steps: Sequence[Filter | Join]) -> Population:
    """Return the rows of a relation.

    Parameters
    ----------
    views : tuple of View
        The datasets.
    steps : sequence of Filter or Join
        In order.

    Notes
    -----
    Conditions on the first dataset alone are evaluated first, where statistics exclude whole runs;
    a join neither adds a row nor changes one, so the result is the same.
    """
    first = views[0]
    trace = [(-1, first.count())]
    if not steps:
        return Population((first,), first.count(), None, trace)
    rows: Positions | None = None
    for number, step in enumerate(steps):
        if isinstance(step, Filter) and step.on_first:
            found = select_rows(first, step.predicate)
            assert found is not None
            rows = found if rows is None else np.intersect1d(rows, found, assume_unique=True)
            trace.append((number, len(rows)))
    if rows is None:
        rows = first.row_of_visible(np.arange(first.count(), dtype=np.int64))
    sides = [rows]
    for number, step in enumerate(steps):
        if isinstance(step, Join):
            sides = _join(views, sides, step)
        elif not step.on_first:
            sides = _filter(views, sides, step)
        else:
            continue
        trace.append((number, len(sides[0])))
    return Population(views, len(sides[0]), tuple(sides), trace)


def _filter(views: tuple[View, ...], sides: list[Positions], step: Filter) -> list[Positions]:
    kept = []
    for start in range(0, len(sides[0]), _BLOCK):
        part = [side[start : start + _BLOCK] for side in sides]
        arrays = read_arrow(views, step.columns, step.predicate.fields, part)
        kept.append(step.predicate.matches(arrays) + start)
    index = np.concatenate(kept) if kept else np.empty(0, np.int64)
    return [side[index] for side in sides]


def _join(views: tuple[View, ...], sides: list[Positions], step: Join) -> list[Positions]:
    other = step.other.population()
    everything = other.rows(np.arange(other.count, dtype=np.int64))
    if (
        isinstance(step.left, Stored)
        and isinstance(step.right, Stored)
        and step.left.field == step.right.field == ANCHOR
        and step.right.side == 0
    ):
        wanted = anchor_values(views[0].timeline, 0, views[0].rows)[sides[0]]
        found = other.views[0].find(wanted)
        at = np.searchsorted(everything[0], found)
        hit = (found >= 0) & (at < other.count)
        hit[hit] = everything[0][at[hit]] == found[hit]
        partner = np.where(hit, at, -1)
    else:
        keys = read_arrow(other.views, {"key": step.right}, ["key"], everything)["key"]
        _check_unique(keys, step)
        mine = [
            read_arrow(
                views, {"key": step.left}, ["key"], [s[start : start + _BLOCK] for s in sides]
            )["key"]
            for start in range(0, len(sides[0]), _BLOCK)
        ]
        chunked = pa.chunked_array(mine, keys.type)
        places = pc.index_in(chunked, value_set=keys, skip_nulls=True)
        partner = np.asarray(
            places.combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False), np.int64
        )
    if not step.keep:
        matched = np.flatnonzero(partner >= 0)
        sides = [side[matched] for side in sides]
        partner = partner[matched]
    if not other.count:
        return [*sides, *(np.full(len(partner), -1, np.int64) for _ in everything)]
    # A partner may itself lack one.
    return [*sides, *(np.where(partner >= 0, rows[partner], -1) for rows in everything)]


def _check_unique(keys: pa.Array, step: Join) -> None:
    present = keys.drop_null()
    if len(present.unique()) == len(present):
        return
    counts = pc.value_counts(present)
    at = pc.index(pc.greater(counts.field("counts"), 1), True).as_py()
    value = counts.field("values")[at].as_py()
    raise InvalidInputError(
        f"the key {value!r} stands {counts.field('counts')[at].as_py()} times in "
        f"{step.other.name!r}, and a join must not multiply samples",
        hint="filter the other side, or join on a key that is unique there",
        key=value,
    )
