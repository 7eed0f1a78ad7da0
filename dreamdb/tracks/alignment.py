"""Two contents side by side: which rows are the same records, and which of their cells differ.

Source: design/0008 sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.model import EntryRuns, differing_entries, leaf_entries
from dreamdb.tracks.equality import cells_equal
from dreamdb.tracks.gather import gather
from dreamdb.tracks.track import Track

__all__ = ["Alignment", "align", "differing_cells", "differing_fragments"]

Anchors = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_BLOCK_ROWS: Final = 1 << 16
_BLOCK_NBYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the rows of one timeline map onto another's.

    Rows of both are counted among the shared ones: the n-th shared row of the left is the n-th
    shared row of the right.

    Parameters
    ----------
    removed, added : ndarray of int64
        Increasing rows of the left that the right lacks, and of the right that the left lacks.
    removed_anchors, added_anchors : ndarray of uint64
        Their anchors.
    left_rows, right_rows : int
        Rows of each timeline.
    """

    removed: Positions
    added: Positions
    removed_anchors: Anchors
    added_anchors: Anchors
    left_rows: int
    right_rows: int

    @property
    def identical(self) -> bool:
        """Whether both timelines hold the same anchors."""
        return not len(self.removed) and not len(self.added)

    @property
    def shared_rows(self) -> int:
        """How many rows both have."""
        return self.left_rows - len(self.removed)

    def to_right(self, rows: Positions) -> Positions:
        """Return where shared rows of the left are on the right."""
        return _row_of(self.added, rows - np.searchsorted(self.removed, rows))

    def to_left(self, rows: Positions) -> Positions:
        """Return where shared rows of the right are on the left."""
        return _row_of(self.removed, rows - np.searchsorted(self.added, rows))

    def same(self, left: int, right: int, count: int) -> bool:
        """Return whether ``count`` rows from ``left`` and ``right`` on are the same records."""
        gone, come = self.removed, self.added
        low, high = np.searchsorted(gone, left), np.searchsorted(come, right)
        return bool(
            left - low == right - high
            and low == np.searchsorted(gone, left + count)
            and high == np.searchsorted(come, right + count)
        )

    def shared_of_left(self, rows: Positions) -> tuple[Positions, Positions]:
        """Return those of increasing rows of the left that are shared, on both sides."""
        kept = rows[~_among(rows, self.removed)] if len(self.removed) else rows
        return kept, self.to_right(kept)


def _row_of(left_out: Positions, rank: Positions) -> Positions:
    """Return the row of each rank, counted among the rows that are not left out."""
    if not len(left_out):
        return rank
    return rank + np.searchsorted(left_out - np.arange(len(left_out)), rank, "right")


def _among(values: Positions, members: Positions) -> Bools:
    if not len(members):
        return np.zeros(len(values), np.bool_)
    at = np.minimum(np.searchsorted(members, values), len(members) - 1)
    return np.asarray(members[at] == values)


def align(left: Track, right: Track) -> Alignment:
    """Compare two tracks of anchors: timelines, or tombstones.

    Notes
    -----
    Cost: the tree paths to the differing fragments of anchors, and these.
    """
    load = left.source.node
    if left.root == right.root:
        runs = differing_entries(None, None, left.stats, load=load)
    else:
        # Among anchors equal addresses under equal last keys are equal anchors, wherever they are.
        runs = differing_entries(left.root, right.root, left.stats, load=load)
    (here, rows), (there, others) = _anchors_of(left, runs[0]), _anchors_of(right, runs[1])
    gone, come = _lone(here, there)
    return Alignment(rows[gone], others[come], here[gone], there[come], left.rows, right.rows)


def _anchors_of(track: Track, runs: EntryRuns) -> tuple[Anchors, Positions]:
    """Return the anchors of some fragments, and their rows."""
    anchors, rows = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for entry, start in zip(runs.entries, runs.starts.tolist(), strict=True):
        fragment = track.fragment(entry)
        assert fragment is not None  # a track of anchors has no nulls, and says so
        array = fragment.slice(0, int(entry["rows"]))
        anchors.append(np.frombuffer(array.buffers()[1], np.uint64, len(array), array.offset * 8))
        rows.append(np.arange(start, start + len(array), dtype=np.int64))
    return np.concatenate(anchors), np.concatenate(rows)


def _lone(left: Anchors, right: Anchors) -> tuple[Bools, Bools]:
    """Return which of two runs of increasing anchors are not in the other."""
    if len(left) == len(right) and np.array_equal(left, right):
        none = np.zeros(len(left), np.bool_)
        return none, none
    joined = np.concatenate([left, right])
    # Sorting two sorted runs is merging them: several times quicker than searching.
    order = np.argsort(joined, kind="stable")
    ordered = joined[order]
    repeated = ordered[1:] == ordered[:-1]
    alone = np.ones(len(joined), np.bool_)
    alone[1:] &= ~repeated
    alone[:-1] &= ~repeated
    lone = np.empty(len(joined), np.bool_)
    lone[order] = alone
    return lone[: len(left)], lone[len(left) :]


def differing_fragments(
    left: Track, right: Track, alignment: Alignment
) -> tuple[EntryRuns, EntryRuns]:
    """Return the fragments of each side whose values may differ on shared records.

    Notes
    -----
    Cost: the nodes on the paths to them; no fragment is read.
    """
    load = left.source.node
    if left.root == right.root and alignment.identical:
        return differing_entries(None, None, left.stats, load=load)
    if (left.rung, left.floor) != (right.rung, right.floor) or left.stats != right.stats:
        return _every(left), _every(right)
    same = None if alignment.identical else alignment.same
    return differing_entries(left.root, right.root, left.stats, load=load, same=same)


def _every(track: Track) -> EntryRuns:
    entries, _ = leaf_entries(track.root, track.stats, load=track.source.node)
    rows = entries["rows"].astype(np.int64)
    return EntryRuns(entries, np.cumsum(rows) - rows)


def differing_cells(
    left: Track, right: Track, alignment: Alignment, *, among: Positions | None = None
) -> tuple[Positions, Positions]:
    """Return the shared rows at which two tracks of one type hold different values.

    Parameters
    ----------
    left, right : Track
        Of the same field type.
    alignment : Alignment
        Of their timelines.
    among : ndarray of int64, optional
        Increasing shared rows of the left: look at these only.

    Returns
    -------
    left_rows, right_rows : ndarray of int64
        Increasing; the same records.

    Notes
    -----
    Cost: the fragments that are not shared; with ``among``, those of them that hold such a row.
    Memory: 16 MiB of values at a time.
    """
    spans = _shared_spans(differing_fragments(left, right, alignment), alignment)
    if among is not None:
        return _differing_among(left, right, alignment, spans, among)
    found = [np.empty(0, np.int64)]
    for start, stop in _blocks(spans, left, right):
        here = _values(left, alignment.removed, start, stop)
        there = _values(right, alignment.added, start, stop)
        found.append(np.flatnonzero(~cells_equal(here, there)) + start)
    ranks = np.concatenate(found)
    return _row_of(alignment.removed, ranks), _row_of(alignment.added, ranks)


def _differing_among(
    left: Track, right: Track, alignment: Alignment, spans: list[tuple[int, int]], rows: Positions
) -> tuple[Positions, Positions]:
    ranks = rows - np.searchsorted(alignment.removed, rows)
    bounds = np.array(spans, np.int64).reshape(-1, 2)
    which = np.searchsorted(bounds[:, 0], ranks, "right") - 1
    inside = which >= 0
    inside[inside] = ranks[inside] < bounds[which[inside], 1]
    here = rows[inside]
    there = alignment.to_right(here)
    differs = [np.zeros(0, np.bool_)]
    step = _block_rows(left, right)
    for at in range(0, len(here), step):
        part = slice(at, at + step)
        differs.append(~cells_equal(gather(left, here[part]), gather(right, there[part])))
    changed = np.concatenate(differs)
    return here[changed], there[changed]


def _shared_spans(runs: tuple[EntryRuns, EntryRuns], alignment: Alignment) -> list[tuple[int, int]]:
    """Return the ranks among shared rows that fragments of either side cover, joined."""
    spans: list[tuple[int, int]] = []
    for run, left_out in zip(runs, (alignment.removed, alignment.added), strict=True):
        starts = run.starts
        stops = starts + run.entries["rows"].astype(np.int64)
        low = starts - np.searchsorted(left_out, starts)
        high = stops - np.searchsorted(left_out, stops)
        spans += zip(low.tolist(), high.tolist(), strict=True)
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if start >= stop:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _block_rows(left: Track, right: Track) -> int:
    widest = max(t.nbytes / max(1, t.rows) for t in (left, right))
    return max(1, min(_BLOCK_ROWS, int(_BLOCK_NBYTES / max(1.0, widest))))


def _blocks(spans: list[tuple[int, int]], left: Track, right: Track) -> Iterator[tuple[int, int]]:
    step = _block_rows(left, right)
    for start, stop in spans:
        for at in range(start, stop, step):
            yield at, min(at + step, stop)


def _values(track: Track, left_out: Positions, start: int, stop: int) -> pa.Array:
    """Return the values of the shared rows with ranks ``[start, stop)``."""
    if not len(left_out):
        return track.slice(start, stop)
    low, high = _row_of(left_out, np.array([start, stop - 1], np.int64)).tolist()
    values = track.slice(low, high + 1)
    first, last = np.searchsorted(left_out, [low, high + 1])
    if first == last:
        return values
    kept = np.delete(np.arange(high + 1 - low), left_out[first:last] - low)
    return values.take(numbers_array(kept))
