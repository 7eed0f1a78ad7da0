"""Appending records behind the tip, in slabs, with bounded memory.

Source: design/0003 section 4.  Closed chunks of a track's rung are written as soon as they close;
what is behind the last of them stays in memory until :meth:`Appender.finish`, so that a long
ingest writes each fragment once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.model import ANCHOR, LADDER, OPEN, Content, edit_tree
from dreamdb.tracks import Track, View
from dreamdb.types import Address
from dreamdb.write.plan import Piece, extend_tail
from dreamdb.write.stage import PendingEntry, Stage
from dreamdb.write.tracks import join_entries

__all__ = ["Appender"]

Anchors = npt.NDArray[np.uint64]


@dataclass(slots=True)
class _FieldTail:
    """A field's old track and the appended rows that are not written yet."""

    track: Track
    rows: int
    pending: list[tuple[int, pa.Array]] = field(default_factory=list)
    entries: list[PendingEntry] = field(default_factory=list)

    def values(self, start: int, stop: int) -> list[pa.Array]:
        """Return rows ``[start, stop)`` from the old track and from memory."""
        out = self.track.chunks(start, min(stop, self.rows)) if start < self.rows else []
        for at, array in self.pending:
            low, high = max(start, at), min(stop, at + len(array))
            if low < high:
                out.append(array.slice(low - at, high - low))
        return out

    def trim(self, start: int) -> None:
        """Forget pending rows before ``start``."""
        kept = []
        for at, array in self.pending:
            if at + len(array) > start:
                cut = max(0, start - at)
                kept.append((at + cut, array.slice(cut)))
        self.pending = kept


@dataclass(slots=True)
class _Group:
    """The fields that share a rung and a floor, and so their cuts."""

    rung: int
    floor: int
    tail: list[Piece]
    stored: frozenset[Piece]
    open_keys: Anchors
    fields: dict[str, _FieldTail] = field(default_factory=dict)
    closed: set[Piece] = field(default_factory=set)


def tail_pieces(track: Track) -> list[Piece]:
    """Return the fragments behind the last closed chunk of a track's rung.

    Notes
    -----
    Cost: the nodes over the tail; not the whole tree.
    """
    rows, reach = track.rows, 2 * LADDER[track.rung]
    if not rows:
        return []
    while True:
        start = max(0, rows - reach)
        entries, at = track.between(start, rows)
        closed = np.flatnonzero(entries["rung"] == track.rung)
        if len(closed) or at == 0:
            break
        reach *= 4
    ends = at + np.cumsum(entries["rows"]).astype(np.int64)
    first = int(closed[-1]) + 1 if len(closed) else 0
    begin = int(ends[first - 1]) if first else at
    out = []
    for index in range(first, len(entries)):
        end = int(ends[index])
        out.append(Piece(begin, end, int(entries["key"][index]), int(entries["rung"][index])))
        begin = end
    return out


class Appender:
    """Adds records whose anchors are larger than all stored ones.

    Parameters
    ----------
    view : View
        The content to append to.
    stage : Stage
        Where fragments and nodes go.
    """

    def __init__(self, view: View, stage: Stage) -> None:
        self._view = view
        self._stage = stage
        self.rows = view.rows
        self.last_key = view.timeline.last_key
        self._groups: dict[tuple[int, int], _Group] = {}
        for name in (ANCHOR, *view.content.schema):
            track = view.track(name)
            key = (track.rung, track.floor)
            if key not in self._groups:
                tail = tail_pieces(track)
                start = tail[-1].start if tail and tail[-1].rung == OPEN else self.rows
                self._groups[key] = _Group(
                    *key, tail, frozenset(tail), view.anchors(start, self.rows)
                )
            self._groups[key].fields[name] = _FieldTail(track, self.rows)

    def feed(self, anchors: Anchors, columns: Mapping[str, pa.ChunkedArray]) -> None:
        """Append one slab.

        Parameters
        ----------
        anchors : ndarray of uint64
            Strictly increasing, all above :attr:`last_key`.
        columns : mapping of str to ChunkedArray
            Values of the logical types; a missing field is null.
        """
        count = len(anchors)
        if not count:
            return
        for group in self._groups.values():
            pieces = extend_tail(
                group.tail, group.open_keys, anchors, self.rows, group.rung, group.floor
            )
            num_closed = sum(piece.rung == group.rung for piece in pieces)
            closed, group.tail = pieces[:num_closed], pieces[num_closed:]
            keys = np.concatenate([group.open_keys, anchors])
            opened = group.tail and group.tail[-1].rung == OPEN
            open_rows = group.tail[-1].stop - group.tail[-1].start if opened else 0
            group.open_keys = keys[len(keys) - open_rows :]
            group.closed.update(closed)
            for name, tail in group.fields.items():
                self._take_in(tail, name, anchors, columns)
                for piece in closed:
                    self._write(tail, piece)
                if closed:
                    tail.trim(closed[-1].stop)
        self.rows += count
        self.last_key = int(anchors[-1])

    def _take_in(
        self,
        tail: _FieldTail,
        name: str,
        anchors: Anchors,
        columns: Mapping[str, pa.ChunkedArray],
    ) -> None:
        at = self.rows
        if name == ANCHOR:
            tail.pending.append((at, numbers_array(anchors)))
            return
        column = columns.get(name)
        if column is None:
            tail.pending.append((at, pa.nulls(len(anchors), tail.track.arrow)))
            return
        for chunk in column.chunks:
            if len(chunk):
                tail.pending.append((at, chunk))
                at += len(chunk)

    def _write(self, tail: _FieldTail, piece: Piece) -> None:
        chunks = tail.values(piece.start, piece.stop)
        tail.entries.append(
            self._stage.fragment(
                tail.track.ftype,
                chunks,
                key=piece.key,
                rows=piece.stop - piece.start,
                rung=piece.rung,
            )
        )

    def finish(self) -> Content:
        """Write the tails and return the content with all appended records."""
        for group in self._groups.values():
            for piece in group.tail:
                if piece not in group.stored:
                    for tail in group.fields.values():
                        self._write(tail, piece)
        roots: dict[str, Address | None] = {}
        for group in self._groups.values():
            left = group.stored - set(group.tail) - group.closed
            gone = np.array(sorted(piece.key for piece in left), np.uint64)
            for name, tail in group.fields.items():
                roots[name] = edit_tree(
                    tail.track.root,
                    gone,
                    join_entries(tail.entries, tail.track.stats),
                    tail.track.stats,
                    load=self._stage.node,
                    emit=self._stage.emit,
                )
        timeline = roots.pop(ANCHOR)
        return replace(self._view.content, timeline=timeline, tracks=dict(roots))
