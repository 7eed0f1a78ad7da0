"""A view: one content, opened for reading.

Source: design/0001 section 3.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dreamdb.errors import (
    AnchorNotFoundError,
    FieldNotFoundError,
    FormatError,
    IntegrityError,
    InvalidInputError,
    nearest_hint,
)
from dreamdb.model import ANCHOR, TIMELINE_RUNGS, TOMBSTONE_RUNGS, Content
from dreamdb.tracks.source import Source
from dreamdb.tracks.track import Track
from dreamdb.types import FieldType

__all__ = ["TIMELINE_TYPE", "View", "anchor_values", "find_in_keys"]

Anchors = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]

TIMELINE_TYPE = FieldType("anchor")


def anchor_values(track: Track, start: int, stop: int) -> Anchors:
    """Return rows ``[start, stop)`` of a track of anchors as numpy."""
    out = [
        np.frombuffer(chunk.buffers()[1], np.uint64, len(chunk), chunk.offset * 8)
        for chunk in track.chunks(start, stop)
    ]
    if len(out) == 1:
        return out[0]
    # Inside a fragment anchors increase by construction; between two only if the tree is honest.
    if any(after[0] <= before[-1] for before, after in pairwise(out)):
        raise FormatError("a track of anchors does not increase from one fragment to the next")
    return np.concatenate(out) if out else np.empty(0, np.uint64)


def find_in_keys(track: Track, anchors: Anchors) -> Positions:
    """Return the row of each anchor in a track of anchors, -1 where it is not there.

    Notes
    -----
    Cost: 1 object open per fragment touched, cached.
    """
    out = np.full(len(anchors), -1, np.int64)
    if track.root is None or not len(anchors):
        return out
    entries, starts, _ = track.flat()
    order = None
    if len(anchors) > 1 and not bool((anchors[1:] >= anchors[:-1]).all()):
        order = np.argsort(anchors, kind="stable")
        anchors = anchors[order]
    which = np.searchsorted(entries["key"], anchors)
    found = np.full(len(anchors), -1, np.int64)
    bounds = [0, *(np.flatnonzero(which[1:] != which[:-1]) + 1).tolist(), len(which)]
    for begin, end in pairwise(bounds):
        index = int(which[begin])
        if index >= len(entries):
            break
        begin_row = int(starts[index])
        keys = anchor_values(track, begin_row, begin_row + int(entries["rows"][index]))
        row = np.searchsorted(keys, anchors[begin:end])
        hit = keys[np.minimum(row, len(keys) - 1)] == anchors[begin:end]
        found[begin:end] = np.where(hit, row + begin_row, -1)
    if order is None:
        return found
    out[order] = found
    return out


class View:
    """One content: its tracks, its anchors, and which of them are deleted.

    Parameters
    ----------
    source : Source
        Where objects come from.
    content : Content
        What to read.
    """

    def __init__(self, source: Source, content: Content) -> None:
        self.source = source
        self.content = content
        self._tracks: dict[str, Track] = {}
        self._dead: Positions | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> None:
        raise TypeError("a view does not pickle; pickle the Dataset handle instead")

    @property
    def timeline(self) -> Track:
        """The track of anchors."""
        track = self._tracks.get(ANCHOR)
        if track is None:
            rung, floor = TIMELINE_RUNGS
            track = Track(self.source, TIMELINE_TYPE, rung, floor, self.content.timeline)
            self._tracks[ANCHOR] = track
        return track

    @property
    def tombstones(self) -> Track:
        """The track of deleted anchors."""
        rung, floor = TOMBSTONE_RUNGS
        return Track(self.source, TIMELINE_TYPE, rung, floor, self.content.tombstones)

    def track(self, name: str) -> Track:
        """Return the track of a field.

        Raises
        ------
        FieldNotFoundError
            With the nearest names.
        """
        if name == ANCHOR:
            return self.timeline
        track = self._tracks.get(name)
        if track is None:
            field = self.content.schema[name]
            root = self.content.tracks[name]
            track = Track(self.source, field.type, field.rung, field.floor, root)
            if track.rows != self.timeline.rows:
                raise IntegrityError(
                    f"the track {name!r} has {track.rows} rows, the timeline {self.timeline.rows}",
                    field=name,
                )
            self._tracks[name] = track
        return track

    def adopt(self, older: View) -> None:
        """Take over what this view shares with an older one: opened tracks, deleted rows."""
        mine, others = self.content, older.content
        if mine.timeline == others.timeline and mine.tombstones == others.tombstones:
            self._dead = older._dead
        for name, track in older._tracks.items():
            root = self.content.timeline if name == ANCHOR else self.content.tracks.get(name)
            if root is not None and root == track.root:
                field = self.content.schema[name] if name != ANCHOR else None
                if field is None or field.type == track.declared:
                    self._tracks[name] = track

    def check_fields(self, fields: object) -> list[str]:
        """Return field names as a list, each checked.

        Raises
        ------
        FieldNotFoundError
            Naming the first unknown field.
        """
        if fields is None:
            return list(self.content.schema)
        if not isinstance(fields, (str, Iterable)):
            raise InvalidInputError(f"fields must be a list of names, not {fields!r}")
        names = [fields] if isinstance(fields, str) else list(fields)
        for name in names:
            if name not in self.content.schema:
                raise FieldNotFoundError(
                    f"there is no field {name!r}",
                    hint=nearest_hint(str(name), list(self.content.schema), "fields"),
                    field=name,
                )
        if len(set(names)) != len(names):
            raise FieldNotFoundError("a field is named twice", fields=names)
        return names

    @property
    def rows(self) -> int:
        """Rows of the timeline, deleted ones included."""
        return self.timeline.rows

    @property
    def num_dead(self) -> int:
        """Deleted rows.  Cost: at most 1 object read, cached."""
        return 0 if self.content.tombstones is None else self.tombstones.rows

    def count(self) -> int:
        """Return how many records are visible.

        Notes
        -----
        Cost: 2 object reads at any size, cached.
        """
        return self.rows - self.num_dead

    def dead(self) -> Positions:
        """Return the rows that are deleted, increasing."""
        if self._dead is None:
            tombstones = self.tombstones
            if tombstones.root is None:
                dead = np.empty(0, np.int64)
            else:
                anchors = anchor_values(tombstones, 0, tombstones.rows)
                dead = find_in_keys(self.timeline, anchors)
                if len(dead) and int(dead.min()) < 0:
                    raise IntegrityError("a tombstone names an anchor that was never stored")
            self._dead = dead
        return self._dead

    def anchors(self, start: int = 0, stop: int | None = None) -> Anchors:
        """Return the anchors of rows ``[start, stop)``, deleted ones included."""
        return anchor_values(self.timeline, start, self.rows if stop is None else stop)

    def visible_anchors(self) -> Anchors:
        """Return the anchors of all visible records, increasing."""
        anchors, dead = self.anchors(), self.dead()
        return np.delete(anchors, dead) if len(dead) else anchors

    def row_of_visible(self, index: Positions) -> Positions:
        """Return the row of each visible record, counted among the visible ones."""
        dead = self.dead()
        if not len(dead):
            return index
        return index + np.searchsorted(dead - np.arange(len(dead)), index, "right")

    def find(self, anchors: Anchors, *, deleted: bool = False) -> Positions:
        """Return the row of each anchor, -1 where there is no visible record.

        Parameters
        ----------
        anchors : ndarray of uint64
            In any order.
        deleted : bool
            Find deleted records too.
        """
        rows = find_in_keys(self.timeline, anchors)
        dead = self.dead()
        if len(dead) and not deleted and len(rows):
            at = np.minimum(np.searchsorted(dead, rows), len(dead) - 1)
            rows = np.where(dead[at] == rows, -1, rows)
        return rows

    def rows_of(self, anchors: Anchors) -> Positions:
        """Return the row of each anchor.

        Raises
        ------
        AnchorNotFoundError
            Naming the first anchor that no visible record has.
        """
        rows = self.find(anchors)
        if len(rows) and int(rows.min()) < 0:
            at = int(np.argmin(rows >= 0))
            raise AnchorNotFoundError(
                f"no record has the anchor {int(anchors[at])}",
                hint="`anchor in ds` tells; deleted records have no anchor any more",
                anchor=int(anchors[at]),
                row=at,
            )
        return rows

    def row_at(self, anchor: int) -> int:
        """Return the first row whose anchor is not below ``anchor``.

        Notes
        -----
        Cost: 1 object open, cached.
        """
        timeline = self.timeline
        if timeline.root is None or anchor > timeline.last_key:
            return timeline.rows
        entries, starts, _ = timeline.flat()
        index = int(np.searchsorted(entries["key"], np.uint64(anchor)))
        start = int(starts[index])
        keys = anchor_values(timeline, start, start + int(entries["rows"][index]))
        return start + int(np.searchsorted(keys, np.uint64(anchor)))
