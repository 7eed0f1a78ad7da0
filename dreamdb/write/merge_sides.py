"""The sides of a merge, and the plan that turns one of them into the result.

Source: design/0008 sections 6 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.tracks import Alignment, View, align, find_in_keys, gather
from dreamdb.types import Address
from dreamdb.write.conflicts import THEIRS
from dreamdb.write.merge_schema import MergedSchema

__all__ = ["CellEdit", "MergePlan", "MergeSide", "Ranges", "member", "without"]

Anchors = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Ranges: TypeAlias = Callable[[], list[tuple[int, int]]]

_NONE: Final = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class CellEdit:
    """Values for some cells of one field.

    Parameters
    ----------
    anchors : ndarray of uint64
        Increasing.
    values : Array
        One per anchor, of the logical type.
    """

    anchors: Anchors
    values: pa.Array


class MergeSide:
    """One side of a merge, compared with the base.

    Parameters
    ----------
    base, view : View
        The merge base and the side.
    address : Address
        Of the side's content.
    renames : mapping of str to str
        Base names to the side's names of fields that were renamed since.
    automatic : callable
        Returns the ranges of anchors that the library chose on this side.
    """

    def __init__(
        self,
        base: View,
        view: View,
        address: Address,
        renames: Mapping[str, str],
        automatic: Ranges,
    ) -> None:
        self.base = base
        self.view = view
        self.address = address
        self.renames = renames
        self.automatic = automatic

    @cached_property
    def rows(self) -> Alignment:
        """How the base's rows map onto the side's."""
        return align(self.base.timeline, self.view.timeline)

    @cached_property
    def graves(self) -> Alignment:
        """How the base's tombstones map onto the side's."""
        return align(self.base.tombstones, self.view.tombstones)

    @property
    def buried(self) -> Anchors:
        """Anchors that the side has marked as deleted."""
        return self.graves.added_anchors

    @property
    def revived(self) -> Anchors:
        """Deleted anchors that the side has made visible again, or removed for good."""
        return self.graves.removed_anchors

    @cached_property
    def lost(self) -> Anchors:
        """Records that the base shows and the side does not."""
        removed = self.rows.removed_anchors
        if len(removed):
            removed = removed[find_in_keys(self.base.tombstones, removed) < 0]
        return np.union1d(without(self.buried, self.rows.added_anchors), removed)

    def position(self, anchors: Anchors) -> Positions:
        """Return the rows of anchors on this side, -1 where it has none."""
        return find_in_keys(self.view.timeline, anchors)

    def is_dead(self, anchors: Anchors) -> Bools:
        """Return which anchors are marked as deleted on this side."""
        return np.asarray(find_in_keys(self.view.tombstones, anchors) >= 0)

    def values(self, name: str, anchors: Anchors) -> pa.Array:
        """Return a field's values for anchors that the side has."""
        return gather(self.view.track(name), self.position(anchors))


@dataclass(slots=True)
class MergePlan:
    """What is to be done to the carrier, the side whose trees are edited, to reach the result.

    Parameters
    ----------
    sides : tuple of MergeSide
        Ours and theirs.
    carrier : int
        Which of them is edited.
    schema : MergedSchema
        The fields.
    notes : dict of str to str
        The metadata.
    inserted, origins : ndarray of uint64
        Increasing anchors that the carrier lacks, and where the other side has their values.
    removed : ndarray of uint64
        Anchors that leave the carrier's timeline.
    lacking, surplus : ndarray of uint64
        Increasing anchors that the other side lacks, and has too many, for its own fields.
    buried, unburied : ndarray of uint64
        Increasing anchors that join, and leave, the carrier's tombstones.
    cells : dict of (int, str) to list of CellEdit
        Edits by side and the field's name there; later ones win.
    moved : tuple of ndarray of uint64
        Old and new anchors of records that gave way.
    mover : int
        The side whose records moved.
    """

    sides: tuple[MergeSide, MergeSide]
    carrier: int
    schema: MergedSchema
    notes: dict[str, str]
    inserted: Anchors = field(default_factory=lambda: _NONE)
    origins: Anchors = field(default_factory=lambda: _NONE)
    removed: Anchors = field(default_factory=lambda: _NONE)
    lacking: Anchors = field(default_factory=lambda: _NONE)
    surplus: Anchors = field(default_factory=lambda: _NONE)
    buried: Anchors = field(default_factory=lambda: _NONE)
    unburied: Anchors = field(default_factory=lambda: _NONE)
    cells: dict[tuple[int, str], list[CellEdit]] = field(default_factory=dict)
    moved: tuple[Anchors, Anchors] = (_NONE, _NONE)
    mover: int = THEIRS


def member(members: npt.NDArray[np.generic], values: npt.NDArray[np.generic]) -> Bools:
    """Return which values are among increasing members."""
    if not len(members) or not len(values):
        return np.zeros(len(values), np.bool_)
    at = np.minimum(np.searchsorted(members, values), len(members) - 1)
    return np.asarray(members[at] == values)


def without(values: Anchors, others: Anchors) -> Anchors:
    """Return the values that are not among increasing others."""
    return values[~member(others, values)] if len(others) else values
