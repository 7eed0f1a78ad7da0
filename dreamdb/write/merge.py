"""Carrying a merge plan out: the result's trees, edited out of one side's.

Source: design/0008 sections 6 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.errors import SchemaError
from dreamdb.model import Content, FieldList
from dreamdb.tracks import View, gather
from dreamdb.types import Address
from dreamdb.write.append import Appender
from dreamdb.write.cells import replace_cells
from dreamdb.write.conflicts import Conflicts
from dreamdb.write.merge_plan import plan_merge
from dreamdb.write.merge_sides import CellEdit, MergePlan, MergeSide, member
from dreamdb.write.rows import SLAB_NBYTES
from dreamdb.write.stage import Stage
from dreamdb.write.tracks import edit_records, edit_tombstones, set_cells

__all__ = ["Columns", "Merged", "insert_records", "merge_contents"]

Anchors = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
Columns: TypeAlias = Callable[[int, int], Mapping[str, pa.ChunkedArray]]
"""Values of the inserted records ``[start, stop)`` by field."""

_NONE: Final = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge has made.

    Parameters
    ----------
    content : Content
        The result; its objects are staged.
    old, new : ndarray of uint64
        Anchors of records that gave way to others, before and after.
    mover : int
        The side whose records moved: 0 ours, 1 theirs.
    decided : int
        Conflicts that were decided.
    renames : tuple of mapping
        For each side the fields that have another name, or are gone (None), in the result.
    """

    content: Content
    old: Anchors
    new: Anchors
    mover: int
    decided: int
    renames: tuple[dict[str, str | None], dict[str, str | None]]


def merge_contents(
    stage: Stage,
    base: View,
    sides: tuple[MergeSide, MergeSide],
    conflicts: Conflicts,
    *,
    called: tuple[str, str] = ("ours", "theirs"),
) -> Merged:
    """Merge two contents over their base and stage the result.

    Parameters
    ----------
    stage : Stage
        Where objects go.
    base : View
        The merge base.
    sides : tuple of MergeSide
        Ours and theirs.
    conflicts : Conflicts
        Decides what both changed.
    called : tuple of str
        What the sides are called, for messages.

    Raises
    ------
    MergeConflictError
        When a conflict stays open; nothing was staged.
    SchemaError
        When the schemas cannot be joined.

    Notes
    -----
    Cost: one side's trees are edited where the other has changed: objects in proportion to the
    changes of the side that has fewer.
    """
    plan = plan_merge(base, sides, conflicts)
    conflicts.check(*called)
    _check_required(plan)
    content = _assemble(plan, stage)
    old, new = plan.moved
    renames = (_renamed(plan, 0), _renamed(plan, 1))
    return Merged(content, old, new, plan.mover, conflicts.decided, renames)


def _check_required(plan: MergePlan) -> None:
    """Refuse a required field that records of the other side would lack."""
    for merged in plan.schema.fields:
        if merged.field.required and None in merged.names:
            owner = 0 if merged.names[1] is None else 1
            other = plan.sides[1 - owner]
            come = other.rows.added_anchors
            if bool((~other.is_dead(come)).any()) if len(come) else False:
                raise SchemaError(
                    f"the field {merged.field.name!r} is required, and records of the other side "
                    "have no value for it",
                    hint="add the field there too, and merge again",
                    field=merged.field.name,
                )


def _renamed(plan: MergePlan, side: int) -> dict[str, str | None]:
    """Return which of a side's fields have another name in the result, or none."""
    after = {f.names[side]: f.field.name for f in plan.schema.fields if f.names[side] is not None}
    before = plan.sides[side].view.content.schema
    return {name: after.get(name) for name in before if after.get(name) != name}


def _assemble(plan: MergePlan, stage: Stage) -> Content:
    """Edit the carrier's trees, and those of the fields that only the other side has."""
    carrier, other = plan.carrier, 1 - plan.carrier
    near = _edited(
        plan,
        carrier,
        stage,
        inserted=plan.inserted,
        removed=plan.removed,
        columns=_columns(plan, carrier),
        graves=True,
    )
    roots: dict[str, Address | None] = {}
    lone = []
    for merged in plan.schema.fields:
        name = merged.names[carrier]
        if name is None:
            lone.append(merged)
        else:
            roots[merged.field.name] = near.tracks[name]
    if lone:
        far = _edited(
            plan,
            other,
            stage,
            inserted=plan.lacking,
            removed=plan.surplus,
            columns=_own_columns(plan, other),
            graves=False,
        )
        for merged in lone:
            roots[merged.field.name] = far.tracks[merged.names[other] or ""]
    return Content(plan.schema.field_list(), near.timeline, roots, near.tombstones, plan.notes)


def _edited(
    plan: MergePlan,
    index: int,
    stage: Stage,
    *,
    inserted: Anchors,
    removed: Anchors,
    columns: Columns,
    graves: bool,
) -> Content:
    """Return one side's content after the plan's cells, tombstones and records."""
    view = plan.sides[index].view
    content = _restricted(plan, index)
    if content != view.content:
        restricted = View(view.source, content)
        restricted.adopt(view)
        view = restricted
    for (side, name), edits in plan.cells.items():
        if side == index:
            rows, values = _joined(view, edits)
            if len(rows):
                root = set_cells(view, stage, name, rows, values).tracks[name]
                content = replace(content, tracks={**content.tracks, name: root})
    if graves and (len(plan.buried) or len(plan.unburied)):
        buried = edit_tombstones(view, stage, added=plan.buried, removed=plan.unburied)
        content = replace(content, tombstones=buried.tombstones)
    if not len(inserted) and not len(removed):
        return content
    return insert_records(_look(view, stage, content), stage, inserted, removed, columns)


def _restricted(plan: MergePlan, index: int) -> Content:
    """Return a side's content with those fields alone that the result takes from it."""
    content = plan.sides[index].view.content
    wanted = {
        merged.names[index]
        for merged in plan.schema.fields
        if merged.names[index] is not None
        and (index == plan.carrier or merged.names[plan.carrier] is None)
    }
    fields = [field for name, field in content.schema.items() if name in wanted]
    if len(fields) == len(content.schema):
        return content
    tracks = {name: root for name, root in content.tracks.items() if name in wanted}
    return replace(content, schema=FieldList.of(fields), tracks=tracks)


def _look(view: View, stage: Stage, content: Content) -> View:
    """Return a view of what is staged."""
    if content == view.content:
        return view
    stage.flush()
    fresh = View(view.source, content)
    fresh.adopt(view)
    return fresh


def _joined(view: View, edits: list[CellEdit]) -> tuple[Positions, pa.ChunkedArray]:
    """Return rows and values of several edits; later ones win; records not there are left out."""
    anchors = np.concatenate([edit.anchors for edit in edits])
    values = pa.concat_arrays([edit.values for edit in edits])
    _, first = np.unique(anchors[::-1], return_index=True)
    index = len(anchors) - 1 - first
    rows = view.find(anchors[index], deleted=True)
    index = index[rows >= 0].astype(np.int64)
    return rows[rows >= 0], pa.chunked_array([values.take(numbers_array(index))])


def insert_records(
    view: View, stage: Stage, inserted: Anchors, removed: Anchors, columns: Columns
) -> Content:
    """Insert and remove records, in slabs of bounded size; the last ones behind the tip.

    Parameters
    ----------
    view, stage : View, Stage
        What to edit, and where objects go.
    inserted, removed : ndarray of uint64
        Increasing anchors, the first not stored, the others stored.
    columns : callable
        Values of the inserted records by field; a missing field is null.
    """
    step = _slab_rows(view)
    tail = int(np.searchsorted(inserted, np.uint64(max(view.timeline.last_key, 0)), "right"))
    if view.timeline.last_key < 0:
        tail = 0
    if len(inserted) <= step:
        tail = len(inserted)
    content = view.content
    for start in range(0, tail, step) or ([0] if len(removed) else []):
        stop = min(start + step, tail)
        given = columns(start, stop) if stop > start else {}
        content = edit_records(
            view, stage, added=inserted[start:stop], columns=given, removed=removed
        )
        removed = _NONE
        if stop < len(inserted):
            view = _look(view, stage, content)
    if tail == len(inserted):
        return content
    appender = Appender(view, stage)
    for start in range(tail, len(inserted), step):
        stop = min(start + step, len(inserted))
        appender.feed(inserted[start:stop], columns(start, stop))
    return appender.finish()


def _slab_rows(view: View) -> int:
    nbytes = sum(view.track(name).nbytes for name in view.content.schema)
    return max(256, int(SLAB_NBYTES / max(8.0, nbytes / max(1, view.rows))))


def _columns(plan: MergePlan, carrier: int) -> Columns:
    """Return the other side's values of the records that the carrier lacks."""
    far = plan.sides[1 - carrier]
    decided = {name: edits for (side, name), edits in plan.cells.items() if side == carrier}
    pairs = [(merged.names[carrier], merged.names[1 - carrier]) for merged in plan.schema.fields]

    def values(start: int, stop: int) -> Mapping[str, pa.ChunkedArray]:
        rows = far.position(plan.origins[start:stop])
        out = {}
        for name, theirs in pairs:
            if name is not None and theirs is not None:
                array = gather(far.view.track(theirs), rows)
                for edit in decided.get(name, []):
                    array = _overridden(array, plan.inserted[start:stop], edit)
                out[name] = pa.chunked_array([array])
        return out

    return values


def _overridden(array: pa.Array, anchors: Anchors, edit: CellEdit) -> pa.Array:
    """Return inserted values with those replaced that were decided otherwise."""
    hit = np.flatnonzero(member(edit.anchors, anchors))
    if not len(hit):
        return array
    at = np.searchsorted(edit.anchors, anchors[hit])
    return replace_cells(array, hit, edit.values.take(numbers_array(at.astype(np.int64))))


def _own_columns(plan: MergePlan, side: int) -> Columns:
    """Return a side's own values of records that moved; other records have none."""
    own = plan.sides[side]
    old, new = plan.moved
    names = [
        merged.names[side]
        for merged in plan.schema.fields
        if merged.names[1 - side] is None and merged.names[side] is not None
    ]

    def values(start: int, stop: int) -> Mapping[str, pa.ChunkedArray]:
        if plan.mover != side or not len(new):
            return {}
        anchors = plan.lacking[start:stop]
        moved = member(new, anchors)
        if not moved.any():
            return {}
        rows = own.position(old[np.searchsorted(new, anchors[moved])])
        index = np.zeros(len(anchors), np.int64)
        index[moved] = np.arange(len(rows))
        out = {}
        for name in names:
            if name is not None:
                array = gather(own.view.track(name), rows).take(numbers_array(index, moved))
                out[name] = pa.chunked_array([array])
        return out

    return values
