"""Editing tracks: records in the middle, single cells, whole layers, tombstones.

Source: design/0003 section 4.  Each function takes a view and returns the content after the
change; every object it needs is staged, nothing is visible yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.model import (
    ANCHOR,
    Content,
    Entries,
    Field,
    build_tree,
    edit_tree,
    empty_entries,
    stats_kind,
)
from dreamdb.tracks import Track, View, anchor_values, find_in_keys
from dreamdb.types import Address
from dreamdb.vectors import stored_type
from dreamdb.write.cells import place_cells, replace_cells
from dreamdb.write.plan import EditPlan, plan_edit
from dreamdb.write.stage import PendingEntry, Stage

__all__ = [
    "Removed",
    "add_layer",
    "edit_records",
    "edit_tombstones",
    "join_entries",
    "remove_records",
    "set_cells",
]

Anchors = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]

Removed = dict[tuple[Address | None, Address | None, int, int], Address | None]
"""Track before -> track after, by timeline, root, rung and floor."""


def join_entries(entries: Sequence[PendingEntry], stats: int) -> Entries:
    """Return finished entries in key order."""
    if not entries:
        return empty_entries(stats)
    joined = np.concatenate([entry.result() for entry in entries])
    return joined[np.argsort(joined["key"], kind="stable")]


def _slices(column: pa.ChunkedArray | None, start: int, stop: int, track: Track) -> list[pa.Array]:
    if column is None:
        return [pa.nulls(stop - start, track.arrow)]
    return [c for c in column.slice(start, stop - start).chunks if len(c)]


def _edit_track(
    track: Track, plan: EditPlan, column: pa.ChunkedArray | None, stage: Stage
) -> Address | None:
    entries = []
    for planned in plan.planned:
        chunks: list[pa.Array] = []
        for is_new, start, stop in planned.ranges:
            chunks += _slices(column, start, stop, track) if is_new else track.chunks(start, stop)
        entries.append(
            stage.fragment(
                track.ftype, chunks, key=planned.key, rows=planned.rows, rung=planned.rung
            )
        )
    return edit_tree(
        track.root,
        plan.gone,
        join_entries(entries, track.stats),
        track.stats,
        load=stage.node,
        emit=stage.emit,
    )


def edit_records(
    view: View,
    stage: Stage,
    *,
    added: Anchors,
    columns: Mapping[str, pa.ChunkedArray],
    removed: Anchors | None = None,
) -> Content:
    """Insert records anywhere, and remove others from all tracks.

    Parameters
    ----------
    view, stage : View, Stage
        What to change, and where objects go.
    added : ndarray of uint64
        Increasing anchors that are not stored.
    columns : mapping of str to ChunkedArray
        Values of the added records by field; a missing field is null.
    removed : ndarray of uint64, optional
        Increasing anchors that are stored.

    Notes
    -----
    Cost: rewrites the fragments around each change, one per field on average.
    """
    leaving = np.empty(0, np.uint64) if removed is None else removed
    plans: dict[tuple[int, int], EditPlan] = {}
    roots: dict[str, Address | None] = {}
    given = {**columns, ANCHOR: pa.chunked_array([numbers_array(added)])}
    for name in (ANCHOR, *view.content.schema):
        track = view.track(name)
        key = (track.rung, track.floor)
        if key not in plans:
            plans[key] = plan_edit(track.flat()[0], view.anchors, added, leaving, *key)
        roots[name] = _edit_track(track, plans[key], given.get(name), stage)
    timeline = roots.pop(ANCHOR)
    return replace(view.content, timeline=timeline, tracks=roots)


def remove_records(view: View, stage: Stage, removed: Anchors, known: Removed) -> Content:
    """Remove records from the timeline, from all tracks and from the tombstones.

    Parameters
    ----------
    view, stage : View, Stage
        What to change, and where objects go.
    removed : ndarray of uint64
        Increasing anchors that are stored, deleted ones or not.
    known : dict
        What earlier calls with the same anchors made of tracks that other versions share; is added
        to.

    Notes
    -----
    Cost: rewrites the fragments around each record, of every track that is not known yet.
    """
    none = np.empty(0, np.uint64)
    timeline = view.content.timeline
    plans: dict[tuple[int, int], EditPlan] = {}
    roots: dict[str, Address | None] = {}
    for name in (ANCHOR, *view.content.schema):
        track = view.track(name)
        mark = (timeline, track.root, track.rung, track.floor)
        if mark not in known:
            cut = (track.rung, track.floor)
            if cut not in plans:
                plans[cut] = plan_edit(track.flat()[0], view.anchors, none, removed, *cut)
            known[mark] = _edit_track(track, plans[cut], None, stage)
        roots[name] = known[mark]
    dead = removed[find_in_keys(view.tombstones, removed) >= 0]
    content = view.content
    if len(dead):
        content = edit_tombstones(view, stage, added=none, removed=dead)
    return replace(content, timeline=roots.pop(ANCHOR), tracks=roots)


def edit_tombstones(view: View, stage: Stage, *, added: Anchors, removed: Anchors) -> Content:
    """Mark records as deleted, or make deleted ones visible again.

    Parameters
    ----------
    added, removed : ndarray of uint64
        Increasing anchors to mark and to unmark.
    """
    track = view.tombstones
    plan = plan_edit(
        track.flat()[0],
        lambda start, stop: anchor_values(track, start, stop),
        added,
        removed,
        track.rung,
        track.floor,
    )
    column = pa.chunked_array([numbers_array(added)])
    return replace(view.content, tombstones=_edit_track(track, plan, column, stage))


def set_cells(
    view: View, stage: Stage, name: str, rows: Positions, values: pa.ChunkedArray
) -> Content:
    """Replace cells of one field.

    Parameters
    ----------
    name : str
        The field.
    rows : ndarray of int64
        Increasing rows of the timeline.
    values : ChunkedArray
        One value per row, of the field's logical type.

    Notes
    -----
    Cost: rewrites each touched fragment of that field and the path above it.
    """
    track = view.track(name)
    entries, starts, _ = track.flat()
    changed: list[PendingEntry] = []
    for begin, end, index, inside in track.groups(rows):
        entry = entries[index]
        count, first = int(entry["rows"]), int(starts[index])
        old = track.slice(first, first + count)
        new = replace_cells(old, inside, values.slice(begin, end - begin))
        changed.append(
            stage.fragment(
                track.ftype, [new], key=int(entry["key"]), rows=count, rung=int(entry["rung"])
            )
        )
    root = edit_tree(
        track.root,
        np.empty(0, np.uint64),
        join_entries(changed, track.stats),
        track.stats,
        load=stage.node,
        emit=stage.emit,
    )
    return replace(view.content, tracks={**view.content.tracks, name: root})


def _layout(view: View, rung: int, floor: int) -> tuple[Positions, list[int], list[int]]:
    """Return ends, rungs and last keys of the fragments of a new track."""
    for name in (ANCHOR, *view.content.schema):
        track = view.track(name)
        if (track.rung, track.floor) == (rung, floor):
            entries, _, ends = track.flat()
            return ends, entries["rung"].tolist(), entries["key"].tolist()
    cuts = view.source.cuts(view.content.timeline, rung, floor, view.anchors)
    keys = view.anchors()
    return cuts.ends, cuts.rungs.tolist(), keys[cuts.ends - 1].tolist()


def add_layer(
    view: View, stage: Stage, field: Field, rows: Positions, values: pa.ChunkedArray
) -> Content:
    """Add a field over existing records, or replace the whole track of one.

    Parameters
    ----------
    field : Field
        Its definition; replaces the one of the same name.
    rows : ndarray of int64
        Increasing rows that have a value; all others are null.
    values : ChunkedArray
        One value per row, of the field's logical type.

    Notes
    -----
    Cost: one fragment per chunk that holds a value; all-null chunks store nothing.
    """
    ends, rungs, keys = _layout(view, field.rung, field.floor)
    cuts = np.searchsorted(rows, ends).tolist()
    entries: list[PendingEntry] = []
    start = begin = 0
    stats = stats_kind(field.type.kind)
    stored = stored_type(field.type)
    stage.codec_of(field.type)
    for end, stop, rung, key in zip(ends.tolist(), cuts, rungs, keys, strict=True):
        count = end - start
        part = values.slice(begin, stop - begin)
        if stop - begin == count:
            chunks = [c for c in part.chunks if len(c)]
        elif stop == begin:
            chunks = [pa.nulls(count, values.type)]
        else:
            chunks = [place_cells(count, rows[begin:stop] - start, part)]
        entries.append(stage.fragment(stored, chunks, key=key, rows=count, rung=rung))
        start, begin = end, stop
    root = build_tree(join_entries(entries, stats), stats, load=stage.node, emit=stage.emit)
    schema = view.content.schema
    if field.name in schema:
        schema = schema.drop(field.name)
    return replace(
        view.content,
        schema=schema.add(field),
        tracks={**view.content.tracks, field.name: root},
    )
