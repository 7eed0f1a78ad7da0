"""Scans: visible records in order, a few fields, a condition, as batches of one schema.

Source: design/0004 section 5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.errors import InvalidInputError
from dreamdb.model import ANCHOR
from dreamdb.read.output import output_array, output_schema
from dreamdb.read.predicate import Bounds, Predicate
from dreamdb.tracks import Track, View, gather

__all__ = ["ScanPlan", "ScanReport", "count_matching", "matching_rows", "scan_batches", "to_batch"]

Positions = npt.NDArray[np.int64]

_AHEAD_NBYTES: Final = 32 << 20
_WINDOW: Final = 65_536


@dataclass(slots=True)
class ScanReport:
    """What a scan has read so far; shown by ``Scan.explain(analyze=True)``.

    Parameters
    ----------
    windows, pruned : int
        Runs of rows looked at, and those that statistics excluded.
    rows : int
        Rows returned.
    """

    windows: int = 0
    pruned: int = 0
    rows: int = 0


@dataclass(frozen=True)
class ScanPlan:
    """What a scan returns.

    Parameters
    ----------
    fields : tuple of str
        Fields, in output order.
    predicate : Predicate or None
        Which records.
    start, stop : int
        Row range of the timeline.
    limit : int or None
        At most so many records.
    batch_size : int
        Records per batch; the last one may have fewer.
    categoricals : str
        ``"string"`` or ``"dictionary"``.
    descending : bool
        From the last record to the first.
    """

    fields: tuple[str, ...]
    predicate: Predicate | None = None
    start: int = 0
    stop: int = 0
    limit: int | None = None
    batch_size: int = 8_192
    categoricals: str = "string"
    descending: bool = False
    report: ScanReport = field(default_factory=ScanReport)

    def schema(self, view: View) -> pa.Schema:
        """Return the one schema of all batches."""
        return output_schema(view.content.schema, self.fields, categoricals=self.categoricals)


def check_batch_size(batch_size: object) -> int:
    """Return a batch size, checked."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
        raise InvalidInputError(f"batch_size must be an integer, not {batch_size!r}")
    if not 1 <= int(batch_size) <= 1 << 31:
        raise InvalidInputError(f"batch_size must be positive, not {batch_size}")
    return int(batch_size)


def to_batch(view: View, arrays: Mapping[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """Return logical arrays as one output batch."""
    columns = []
    for column in schema:
        array = arrays[column.name]
        if column.name != ANCHOR:
            array = output_array(view.content.schema[column.name].type, array, column.type)
        columns.append(array)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class _ReadAhead:
    """Opens and verifies the fragments in front of a scan, within a byte limit.

    Parameters
    ----------
    tracks : sequence of Track
        The tracks the scan reads.
    stop : int
        Row at which it ends.
    """

    def __init__(self, view: View, tracks: Sequence[Track], start: int, stop: int) -> None:
        self._pool = view.source.pool()
        self._tracks = tracks
        self._stop = stop
        self._at = [start] * len(tracks)
        self._jobs: deque[tuple[int, int, Future[None]]] = deque()
        self._nbytes = 0

    @staticmethod
    def _load(track: Track, entry: np.void) -> None:
        fragment = track.fragment(entry)
        if fragment is not None:
            fragment.verify(0, fragment.decoded.rows)

    def advance(self, row: int) -> None:
        """Tell where the scan is; schedule what comes next."""
        while self._jobs and (self._jobs[0][2].done() or self._jobs[0][0] <= row):
            self._nbytes -= self._jobs.popleft()[1]
        while self._nbytes < _AHEAD_NBYTES:
            index = min(range(len(self._tracks)), key=self._at.__getitem__)
            start = max(self._at[index], row)
            if start >= self._stop:
                return
            entries, first = self._tracks[index].between(start, start + 1)
            entry = entries[0]
            self._at[index] = first + int(entry["rows"])
            if first <= row:
                # The scan is inside this fragment and verifies what it touches by itself.
                continue
            nbytes = int(entry["nbytes"])
            self._nbytes += nbytes
            job = self._pool.submit(self._load, self._tracks[index], entry)
            self._jobs.append((first, nbytes, job))

    def close(self) -> None:
        """Drop what has not begun."""
        for _, _, job in self._jobs:
            job.cancel()
        self._jobs.clear()


def _keep(view: View, start: int, stop: int) -> Positions | None:
    """Return the visible rows of ``[start, stop)`` relative to start; None when all are."""
    dead = view.dead()
    low, high = np.searchsorted(dead, [start, stop])
    if low == high:
        return None
    mask = np.ones(stop - start, np.bool_)
    mask[dead[low:high] - start] = False
    return np.flatnonzero(mask)


def scan_batches(view: View, plan: ScanPlan) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a scan.

    Memory is bounded by the batch and by what is read ahead, not by the dataset.  The first batch
    verifies only the pages it touches.

    Parameters
    ----------
    view : View
        What to read.
    plan : ScanPlan
        Which records and fields.

    Notes
    -----
    Cost: 1 object open per fragment of the fields read; fragments that statistics exclude are not
    opened.
    """
    schema = plan.schema(view)
    if plan.limit is not None and plan.limit <= 0:
        return
    if plan.descending:
        yield from _descending(view, plan, schema)
    elif plan.predicate is None:
        yield from _plain(view, plan, schema)
    else:
        yield from _filtered(view, plan, schema)


def _plain(view: View, plan: ScanPlan, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    names = [ANCHOR, *plan.fields]
    tracks = [view.track(name) for name in names]
    dead = view.dead()
    low, high = np.searchsorted(dead, [plan.start, plan.stop])
    first = plan.start - int(low)
    last = plan.stop - int(high)
    if plan.limit is not None:
        last = min(last, first + plan.limit)
    ahead = _ReadAhead(view, tracks, plan.start, plan.stop)
    try:
        for begin in range(first, last, plan.batch_size):
            end = min(begin + plan.batch_size, last)
            if len(dead):
                span = view.row_of_visible(np.array([begin, end - 1]))
                start, stop = int(span[0]), int(span[1]) + 1
                keep = _keep(view, start, stop)
            else:
                start, stop, keep = begin, end, None
            arrays = {}
            for name, track in zip(names, tracks, strict=True):
                array = track.slice(start, stop)
                arrays[name] = array if keep is None else array.take(pa.array(keep))
            plan.report.rows += end - begin
            yield to_batch(view, arrays, schema)
            ahead.advance(stop)
    finally:
        ahead.close()


def _windows(view: View, plan: ScanPlan) -> Iterator[tuple[int, int]]:
    """Yield runs of rows in which the condition may hold, pruned by statistics."""
    assert plan.predicate is not None
    tracks = {name: view.track(name) for name in plan.predicate.fields}
    step = _WINDOW * 16
    below = 0
    for block in range(plan.start, plan.stop, step):
        end = min(block + step, plan.stop)
        edges = {block, end}
        entries = {}
        for name, track in tracks.items():
            found, at = track.between(block, end)
            ends = at + np.cumsum(found["rows"]).astype(np.int64)
            entries[name] = (found, ends)
            edges.update(e for e in ends.tolist() if block < e < end)
        bounds = _merge_short(sorted(edges))
        runs = [
            {
                name: _anchor_bounds(entries[name], low, high, below)
                if name == ANCHOR
                else _bounds_of(tracks[name], entries[name], low, high)
                for name in tracks
            }
            for low, high in pairwise(bounds)
        ]
        alive = plan.predicate.may_match(runs)
        for low, high, wanted in zip(bounds[:-1], bounds[1:], alive, strict=True):
            plan.report.windows += 1
            if wanted:
                yield low, high
            else:
                plan.report.pruned += 1
        if ANCHOR in entries:
            found, ends = entries[ANCHOR]
            whole = found["key"][: int(np.searchsorted(ends, end, "right"))]
            below = int(whole[-1]) + 1 if len(whole) else below


def _merge_short(edges: list[int]) -> list[int]:
    """Leave out edges that would make very short runs."""
    out = [edges[0]]
    for edge in edges[1:-1]:
        if edge - out[-1] >= 256:
            out.append(edge)
    return [*out, edges[-1]]


def _bounds_of(track: Track, entries: tuple[Any, Positions], low: int, high: int) -> Bounds:
    """Join the bounds of the fragments that overlap a run."""
    found, ends = entries
    first = int(np.searchsorted(ends, low, "right"))
    last = int(np.searchsorted(ends, high, "left"))
    joined: Bounds | None = None
    for entry in found[first : last + 1]:
        own = Bounds.of_entry(track.ftype, entry)
        joined = own if joined is None else _join(joined, own)
    assert joined is not None
    return joined


def _anchor_bounds(entries: tuple[Any, Positions], low: int, high: int, below: int) -> Bounds:
    """Return the bounds of the anchors in a run: the timeline's keys are their maxima.

    Parameters
    ----------
    entries : pair
        Timeline entries of the block, and their end rows.
    low, high : int
        The run.
    below : int
        The least anchor that the block can hold.
    """
    found, ends = entries
    first = int(np.searchsorted(ends, low, "right"))
    last = min(int(np.searchsorted(ends, high, "left")), len(ends) - 1)
    smallest = int(found["key"][first - 1]) + 1 if first else below
    return Bounds(smallest, int(found["key"][last]), 0, high - low)


def _join(a: Bounds, b: Bounds) -> Bounds:
    nulls, rows = a.nulls + b.nulls, a.rows + b.rows
    if a.nulls == a.rows:
        return Bounds(b.low, b.high, nulls, rows)
    if b.nulls == b.rows:
        return Bounds(a.low, a.high, nulls, rows)
    low = None if a.low is None or b.low is None else min(a.low, b.low)
    high = None if a.high is None or b.high is None else max(a.high, b.high)
    return Bounds(low, high, nulls, rows)


def matching_rows(view: View, plan: ScanPlan) -> Iterator[Positions]:
    """Yield the visible rows for which a condition holds, increasing, run by run.

    Notes
    -----
    Cost: the fragments of the condition's fields that statistics cannot exclude.
    """
    assert plan.predicate is not None
    for low, high in _windows(view, plan):
        keep = _keep(view, low, high)
        for start in range(low, high, _WINDOW):
            stop = min(start + _WINDOW, high)
            columns = {name: view.track(name).slice(start, stop) for name in plan.predicate.fields}
            rows = plan.predicate.matches(columns) + start
            if keep is not None:
                rows = np.intersect1d(rows, keep + low, assume_unique=True)
            if len(rows):
                yield rows


def _filtered(view: View, plan: ScanPlan, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    left = plan.limit
    held: list[Positions] = []
    count = 0
    for rows in matching_rows(view, plan):
        if left is not None:
            rows = rows[: left - count]
        held.append(rows)
        count += len(rows)
        full = left is not None and count >= left
        if count >= plan.batch_size or full:
            joined = np.concatenate(held)
            whole = len(joined) if full else len(joined) // plan.batch_size * plan.batch_size
            for begin in range(0, whole, plan.batch_size):
                yield _gathered(
                    view, plan, joined[begin : min(begin + plan.batch_size, whole)], schema
                )
            held, count = [joined[whole:]], len(joined) - whole
            if left is not None:
                left -= whole
            if full:
                return
    if count:
        yield _gathered(view, plan, np.concatenate(held), schema)


def _gathered(view: View, plan: ScanPlan, rows: Positions, schema: pa.Schema) -> pa.RecordBatch:
    arrays = {column.name: gather(view.track(column.name), rows) for column in schema}
    plan.report.rows += len(rows)
    return to_batch(view, arrays, schema)


def _descending(view: View, plan: ScanPlan, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    if plan.predicate is None:
        low, high = np.searchsorted(view.dead(), [plan.start, plan.stop])
        index = np.arange(plan.start - int(low), plan.stop - int(high), dtype=np.int64)
        rows = view.row_of_visible(index)
    else:
        found = list(matching_rows(view, plan))
        rows = np.concatenate(found) if found else np.empty(0, np.int64)
    rows = rows[::-1][: plan.limit]
    for begin in range(0, len(rows), plan.batch_size):
        yield _gathered(view, plan, rows[begin : begin + plan.batch_size], schema)


def count_matching(view: View, plan: ScanPlan) -> int:
    """Return how many records a scan returns, without reading the fields it returns."""
    if plan.predicate is None:
        low, high = np.searchsorted(view.dead(), [plan.start, plan.stop])
        total = plan.stop - plan.start - int(high - low)
    else:
        total = sum(len(rows) for rows in matching_rows(view, plan))
    return total if plan.limit is None else min(total, plan.limit)
