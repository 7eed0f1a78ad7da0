"""Columns for engines: batches that end where fragments end, without anchors, read ahead.

Source: design/0020 section 3.  An engine takes batches of any length and in any form that Arrow
has, so nothing is cut to size: numbers are slices of fragments, categoricals keep the dictionaries
they are stored with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.model import ANCHOR
from dreamdb.read.ordered import visible_rows
from dreamdb.read.output import output_array, output_schema
from dreamdb.read.plan import ScanPlan
from dreamdb.read.predicate import Predicate
from dreamdb.read.scan import windows
from dreamdb.tracks import Track, View, gather
from dreamdb.types import BLOB_KINDS

__all__ = ["column_schema", "scan_columns"]

Positions = npt.NDArray[np.int64]
Load = Callable[[int, int], pa.RecordBatch | None]

_ROWS: Final = 65_536
_NBYTES: Final = 16 << 20
_AHEAD: Final = 3
_WIDE: Final = BLOB_KINDS | {"embedding", "tensor", "text", "list", "struct"}


def column_schema(view: View, fields: Sequence[str]) -> pa.Schema:
    """Return the schema of :func:`scan_columns`: categoricals are dictionaries.

    Parameters
    ----------
    view : View
        What is read.
    fields : sequence of str
        Which columns, ``_anchor`` too.
    """
    names = [name for name in fields if name != ANCHOR]
    full = output_schema(view.content.schema, names, categoricals="dictionary")
    return pa.schema([full.field(name) for name in fields])


def scan_columns(
    view: View,
    fields: Sequence[str],
    predicate: Predicate | None = None,
    *,
    limit: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield columns of the visible records for which a condition holds, in order.

    Parameters
    ----------
    view : View
        What to read.
    fields : sequence of str
        Which columns, at least one.
    predicate : Predicate, optional
        Which records.
    limit : int, optional
        Stop after so many.

    Notes
    -----
    Cost: 1 object open per fragment of the columns, except those that statistics exclude.  The
    first batches are small, and what follows them is read ahead: a reader that stops early has
    read little.
    """
    schema = column_schema(view, fields)
    tracks = [view.track(name) for name in fields]

    def load(start: int, stop: int) -> pa.RecordBatch | None:
        rows = _rows(view, predicate, start, stop)
        if rows is not None and not len(rows):
            return None
        return pa.RecordBatch.from_arrays(
            [
                _column(view, track, field, start, stop, rows)
                for track, field in zip(tracks, schema, strict=True)
            ],
            schema=schema,
        )

    left = limit
    for batch in _loaded(view, _ranges(view, tracks, predicate), load):
        if left is None:
            yield batch
            continue
        if left <= 0:
            return
        yield batch.slice(0, left)
        left -= batch.num_rows
        if left <= 0:
            return


def _loaded(view: View, ranges: Iterator[tuple[int, int]], load: Load) -> Iterator[pa.RecordBatch]:
    """Load one range after the other; from the third on, some in front of the reader."""
    pool = view.source.pool()
    jobs: deque[Future[pa.RecordBatch | None]] = deque()
    try:
        for count, (start, stop) in enumerate(ranges):
            if count < 2:
                batch = load(start, stop)
                if batch is not None:
                    yield batch
                continue
            jobs.append(pool.submit(load, start, stop))
            if len(jobs) >= _AHEAD:
                batch = jobs.popleft().result()
                if batch is not None:
                    yield batch
        while jobs:
            batch = jobs.popleft().result()
            if batch is not None:
                yield batch
    finally:
        for job in jobs:
            job.cancel()


def _ranges(
    view: View, tracks: Sequence[Track], predicate: Predicate | None
) -> Iterator[tuple[int, int]]:
    """Yield runs of rows to load: whole fragments of the largest column, first few, then more."""
    if predicate is None:
        runs: Iterator[tuple[int, int]] = iter([(0, view.rows)])
    else:
        runs = windows(view, ScanPlan(fields=(), predicate=predicate, start=0, stop=view.rows))
    driver = max(tracks, key=lambda track: track.nbytes)
    width = max(1, driver.nbytes // max(1, driver.rows))
    most = max(1, min(_ROWS, _NBYTES // width))
    wanted = min(most, 1_024)
    for low, high in runs:
        start = low
        while start < high:
            stop = _fragment_end(driver, start, min(start + wanted, high), high)
            yield start, stop
            start = stop
            wanted = min(most, 4 * wanted)


def _fragment_end(track: Track, start: int, target: int, high: int) -> int:
    """Return the end of the fragment that a row is in, or of the last one before a target."""
    entries, at = track.between(start, target)
    ends = at + np.cumsum(entries["rows"]).astype(np.int64)
    whole = ends[(ends > start) & (ends <= target)]
    end = int(whole[-1]) if len(whole) else int(ends[-1]) if len(ends) else target
    # A fragment much longer than was asked for is taken in parts.
    return min(end, high, max(target, start + 2 * _ROWS))


def _rows(view: View, predicate: Predicate | None, start: int, stop: int) -> Positions | None:
    """Return which rows of a run are wanted, counted from its start; None for all."""
    keep = visible_rows(view, start, stop)
    if predicate is None:
        return keep
    columns = {name: view.track(name).slice(start, stop) for name in predicate.fields}
    found = predicate.matches(columns)
    if keep is not None:
        return np.intersect1d(found, keep, assume_unique=True)
    return None if len(found) == stop - start else found


def _column(
    view: View, track: Track, field: pa.Field, start: int, stop: int, rows: Positions | None
) -> pa.Array:
    few = rows is not None and len(rows) * 8 < stop - start
    if few and rows is not None and track.ftype.kind in _WIDE:
        array = gather(track, rows + start)
    else:
        if pa.types.is_dictionary(field.type):
            array = track.dictionary_slice(start, stop)
        else:
            array = track.slice(start, stop)
        if rows is not None:
            array = array.take(numbers_array(rows))
    if field.name == ANCHOR or pa.types.is_dictionary(field.type):
        return array
    return output_array(track.ftype, array, field.type)
