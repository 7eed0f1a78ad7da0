"""Reading in order: runs of rows, zero copy where fragments allow, with reading ahead.

Source: design/0004 section 5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.model import ANCHOR
from dreamdb.read.plan import ScanPlan, to_batch
from dreamdb.tracks import Track, View
from dreamdb.types import BLOB_KINDS

__all__ = ["ordered_batches", "visible_rows"]

Positions = npt.NDArray[np.int64]

_AHEAD_NBYTES: Final = 32 << 20
_EDGE_BLOCK: Final = 1 << 18
_SHORTEST: Final = 64
_WIDE: Final = BLOB_KINDS | {"embedding", "tensor"}


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
        while self._nbytes < _AHEAD_NBYTES:
            index = min(range(len(self._tracks)), key=self._at.__getitem__)
            start = max(self._at[index], row)
            if start >= self._stop:
                return
            entries, first = self._tracks[index].between(start, start + 1)
            entry = entries[0]
            self._at[index] = first + int(entry["rows"])
            if first <= row or self._tracks[index].is_ready(entry):
                # Where the scan is inside a fragment, it verifies what it touches by itself.
                continue
            nbytes = int(entry["nbytes"])
            self._nbytes += nbytes
            job = self._pool.submit(self._load, self._tracks[index], entry)
            self._jobs.append((first, nbytes, job))

    def wait(self, stop: int) -> None:
        """Wait for the fragments that begin before a row: two threads would verify them twice."""
        while self._jobs and self._jobs[0][0] < stop:
            _, nbytes, job = self._jobs.popleft()
            self._nbytes -= nbytes
            job.result()

    def close(self) -> None:
        """Drop what has not begun."""
        for _, _, job in self._jobs:
            job.cancel()
        self._jobs.clear()


def visible_rows(view: View, start: int, stop: int) -> Positions | None:
    """Return the visible rows of ``[start, stop)`` relative to start; None when all are."""
    dead = view.dead()
    low, high = np.searchsorted(dead, [start, stop])
    if low == high:
        return None
    mask = np.ones(stop - start, np.bool_)
    mask[dead[low:high] - start] = False
    return np.flatnonzero(mask)


def ordered_batches(view: View, plan: ScanPlan, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield all visible records of a plan without a condition, in order.

    Parameters
    ----------
    view : View
        What to read.
    plan : ScanPlan
        Which rows and fields.
    schema : Schema
        Of the batches.
    """
    tracks = {name: view.track(name) for name in (ANCHOR, *plan.fields)}
    left = plan.limit
    ahead = _ReadAhead(view, list(tracks.values()), plan.start, plan.stop)
    ranges = _exact_ranges(view, plan) if plan.exact else _aligned_ranges(view, plan)
    try:
        for start, stop in ranges:
            keep = visible_rows(view, start, stop)
            count = stop - start if keep is None else len(keep)
            if left is not None and count > left:
                keep = (np.arange(count) if keep is None else keep)[:left]
                count = left
            if not count:
                continue
            ahead.wait(stop)
            arrays = {}
            for name, track in tracks.items():
                array = track.slice(start, stop)
                arrays[name] = array if keep is None else array.take(numbers_array(keep))
            plan.report.rows += count
            yield to_batch(view, arrays, schema)
            if left is not None:
                left -= count
                if not left:
                    return
            ahead.advance(stop)
    finally:
        ahead.close()


def _exact_ranges(view: View, plan: ScanPlan) -> Iterator[tuple[int, int]]:
    """Yield runs of rows that hold ``batch_size`` visible records each."""
    dead = view.dead()
    low, high = np.searchsorted(dead, [plan.start, plan.stop])
    first, last = plan.start - int(low), plan.stop - int(high)
    for begin in range(first, last, plan.batch_size):
        end = min(begin + plan.batch_size, last)
        if len(dead):
            span = view.row_of_visible(np.array([begin, end - 1]))
            yield int(span[0]), int(span[1]) + 1
        else:
            yield begin, end


def _aligned_ranges(view: View, plan: ScanPlan) -> Iterator[tuple[int, int]]:
    """Yield runs that end where wide fragments end, unless that would make them very short."""
    wide = [view.track(n) for n in plan.fields if view.content.schema[n].type.kind in _WIDE]
    shortest = min(_SHORTEST, plan.batch_size)
    start = plan.start
    for block in range(plan.start, plan.stop, _EDGE_BLOCK):
        end = min(block + _EDGE_BLOCK, plan.stop)
        edges: list[int] = []
        for track in wide:
            entries, at = track.between(block, end)
            edges += (at + np.cumsum(entries["rows"]).astype(np.int64)).tolist()
        for edge in sorted({e for e in edges if block < e < end} | {end}):
            if edge - start < shortest and edge < plan.stop:
                continue
            while start < edge:
                stop = min(edge, start + plan.batch_size)
                yield start, stop
                start = stop
