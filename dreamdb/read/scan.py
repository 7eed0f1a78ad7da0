"""Scans: visible records in order, a few fields, a condition, as batches of one schema.

Source: design/0004 section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.model import ANCHOR
from dreamdb.read.ordered import ordered_batches, visible_rows
from dreamdb.read.plan import ScanPlan, to_batch
from dreamdb.read.predicate import Bounds
from dreamdb.tracks import Track, View, gather

__all__ = ["count_matching", "matching_rows", "scan_batches", "windows"]

Positions = npt.NDArray[np.int64]

_WINDOW: Final = 65_536


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
        yield from ordered_batches(view, plan, schema)
    else:
        yield from _filtered(view, plan, schema)


def windows(view: View, plan: ScanPlan) -> Iterator[tuple[int, int]]:
    """Yield runs of rows in which the condition may hold, pruned by statistics.

    Parameters
    ----------
    view : View
        What to read.
    plan : ScanPlan
        With a condition.
    """
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
    for low, high in windows(view, plan):
        keep = visible_rows(view, low, high)
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
