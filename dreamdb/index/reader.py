"""Reading an index: which cells to look at, candidates, and what no segment covers.

Source: design/0018 sections 7 and 9.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from dreamdb.errors import ObjectMissingError
from dreamdb.index.build import cell_centres, index_root, metric_vectors, read_vectors
from dreamdb.index.groups import Group, chunk_groups
from dreamdb.index.root import IndexRoot
from dreamdb.index.scan import (
    NOTHING,
    CodedQuery,
    Extents,
    code_query,
    members_of,
    refine,
    scan_extents,
)
from dreamdb.index.segment import Segment
from dreamdb.objects import Kind
from dreamdb.tracks import Source, Track, View
from dreamdb.types import Address
from dreamdb.vectors.rotation import rotation_of

__all__ = ["Found", "IndexReader", "Loose", "open_reader"]

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.uint8]

_KEPT_NBYTES: Final = 64 << 20
_READERS: weakref.WeakKeyDictionary[View, dict[tuple[str, Address], IndexReader]] = (
    weakref.WeakKeyDictionary()
)
# Segments live as long as some reader holds them; contents share them.
_SEGMENTS: weakref.WeakValueDictionary[tuple[int, Address, int, int], Segment] = (
    weakref.WeakValueDictionary()
)
_LOCK = threading.Lock()


def _renew() -> None:
    # A fork may happen while another thread holds the lock.
    global _LOCK
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


class Found(NamedTuple):
    """Candidates of one query.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the timeline, the nearest first.
    estimates : ndarray of float32, shape (n,)
        Squared distance (for ``cosine`` of the normalised vectors), or the negative inner product.
    probed : int
        Cells looked at.
    scanned : int
        Vectors estimated.
    """

    rows: Positions
    estimates: Floats
    probed: int
    scanned: int


class Loose(NamedTuple):
    """Vectors that no segment covers.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the timeline.
    vectors : ndarray of float32, shape (n, dim)
        As stored.
    compared : ndarray of float32, shape (n, dim)
        Of the metric.
    squares : ndarray of float32, shape (n,)
        Their squared lengths.
    """

    rows: Positions
    vectors: Floats
    compared: Floats
    squares: Floats


@dataclass
class IndexReader:
    """An index over one content.

    Parameters
    ----------
    root : IndexRoot
        How it is made.
    track : Track
        The field's track.
    centres : ndarray of float32, shape (k, dim)
        The cells.
    groups : list of Group
        Groups that have a segment, in order.
    segments : list of Segment
        Their segments.
    loose : list of (int, int)
        Runs of rows without a segment.
    """

    root: IndexRoot
    track: Track
    centres: Floats
    groups: list[Group]
    segments: list[Segment]
    loose: list[tuple[int, int]]
    _loose: Loose | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._squares = np.einsum("ij,ij->i", self.centres, self.centres)
        self._rotation = rotation_of(self.root.codec.seed, self.root.codec.dim)
        self._bases = np.array([s.blocks_address for s in self.segments], np.uint64)
        self._refine_bases = np.array([s.refine_address for s in self.segments], np.uint64)
        self._checked = np.zeros(len(self.centres), np.bool_)
        counts = [0, *(segment.rows for segment in self.segments)]
        self._refine_starts = np.cumsum(counts)[:-1]
        self._refine_seen = np.zeros(sum(counts), np.bool_)
        self._starts = np.array([g.start for g in self.groups], np.int64)
        edges = [s.edges for s in self.segments]
        self._edges = np.stack(edges) if edges else np.empty((0, len(self.centres) + 1), np.int64)

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.centres)

    @property
    def indexed(self) -> int:
        """Vectors that some segment holds."""
        return sum(segment.rows for segment in self.segments)

    @property
    def loose_rows(self) -> int:
        """Rows that no segment covers, nulls included."""
        return sum(stop - start for start, stop in self.loose)

    def default_nprobe(self) -> int:
        """Return how many cells a search looks at unless told otherwise."""
        return min(self.cells, max(8, round(2 * self.cells**0.5)))

    def loose_vectors(self) -> Loose | None:
        """Return rows and vectors that no segment covers; None when they are too many to keep."""
        if self._loose is None:
            dim = self.root.codec.dim
            if self.loose_rows * dim * 4 > _KEPT_NBYTES:
                return None
            rows, parts = [np.empty(0, np.int64)], [np.empty((0, dim), np.float32)]
            for start, stop in self.loose:
                inside, vectors = read_vectors(self.track, start, stop)
                rows.append(inside + start)
                parts.append(vectors)
            joined = np.concatenate(parts)
            compared = metric_vectors(joined, self.root.metric)
            squares = np.einsum("ij,ij->i", compared, compared)
            self._loose = Loose(np.concatenate(rows), joined, compared, squares)
        return self._loose

    def loose_candidates(
        self, query: Floats, pool: int, alive: npt.NDArray[np.bool_] | None
    ) -> Positions:
        """Return places in :meth:`loose_vectors` that may be among the nearest.

        Parameters
        ----------
        query : ndarray of float32, shape (dim,)
            Of the metric.
        pool : int
            How many; as they are chosen in float32, ask for a few more than are wanted.
        alive : ndarray of bool, optional
            Which places count.

        Returns
        -------
        ndarray of int64
            Empty when there are too many to keep: compare them where they lie.
        """
        kept = self.loose_vectors()
        if kept is None:
            return np.empty(0, np.int64)
        scores = kept.compared @ query
        if self.root.metric == "l2":
            scores = np.float32(2) * scores - kept.squares
        if alive is not None:
            places = np.flatnonzero(alive)
            scores = scores[places]
        else:
            places = np.arange(len(scores), dtype=np.int64)
        if len(scores) > pool:
            places = places[np.argpartition(-scores, pool)[:pool]]
        return places

    def candidates(
        self,
        query: Floats,
        pool: int,
        *,
        nprobe: int,
        mask: Mask | None = None,
        wanted: int = 0,
    ) -> Found:
        """Return the nearest indexed vectors by their codes.

        Parameters
        ----------
        query : ndarray of float32, shape (dim,)
            Of the metric: for ``cosine`` of length 1.
        pool : int
            How many.
        nprobe : int
            Cells to look at; more are, until enough vectors were seen.
        mask : ndarray of uint8, optional
            A bit per row of the timeline, least significant first: which rows count.
        wanted : int
            How many vectors must have been seen; fewer only when there are no more.
        """
        best = np.full(pool, NOTHING, np.float32)
        rows = np.full(pool, np.iinfo(np.int64).max)
        slots = np.zeros(pool, np.int64)
        if not self.segments or pool < 1:
            return Found(np.empty(0, np.int64), np.empty(0, np.float32), 0, 0)
        coded = code_query(self._rotation, query)
        distances = self._distances(query)
        ranked = np.argsort(distances)
        tables: list[Extents] = []
        done = seen = 0
        stop = min(max(1, nprobe), self.cells)
        while True:
            extents = self._extents(ranked[done:stop], distances)
            first = sum(len(table.segments) for table in tables)
            seen += scan_extents(self.segments, extents, first, coded, mask, best, rows, slots)
            tables.append(extents)
            done = stop
            if done >= self.cells or seen >= min(wanted, pool):
                break
            stop = min(self.cells, 2 * done)
        kept = np.flatnonzero(best < NOTHING)
        kept = kept[np.lexsort((rows[kept], best[kept]))]
        found = Found(rows[kept], best[kept], done, seen)
        if self.root.codec.bits == 1 or not len(kept):
            return found
        return self._refined(tables, found, slots[kept], coded)

    def _distances(self, query: Floats) -> Floats:
        """Return what each cell adds to the estimates: how far its centroid is."""
        inner = self.centres @ query
        if self.root.metric == "dot":
            out: Floats = -inner
        else:
            out = self._squares - np.float32(2) * inner + query @ query
        return out.astype(np.float32, copy=False)

    def _extents(self, cells: Positions, distances: Floats) -> Extents:
        """Return the cells in all segments, cell by cell; empty ones are left out."""
        low = self._edges[:, cells].T
        counts = self._edges[:, cells + 1].T - low
        cell, segment = np.nonzero(counts)
        if not self._checked[cells].all():
            for one in self.segments:
                one.verify_cells(cells)
            self._checked[cells] = True
        table = np.empty((len(cell), 4), np.uint64)
        table[:, 0] = self._bases[segment]
        table[:, 1] = low[cell, segment]
        table[:, 2] = counts[cell, segment]
        table[:, 3] = self._starts[segment]
        return Extents(table, distances[cells[cell]], segment)

    def _refined(
        self, tables: list[Extents], found: Found, slots: Positions, coded: CodedQuery
    ) -> Found:
        """Return candidates by their finer codes, the nearest first."""
        one = tables[0] if len(tables) == 1 else None
        offsets = one.offsets if one else np.concatenate([table.offsets for table in tables])
        segments = one.segments if one else np.concatenate([table.segments for table in tables])
        extent, vectors = slots >> 32, slots & 0xFFFFFFFF
        numbers = segments[extent]
        self._verify_refine(numbers, vectors)
        estimates = refine(
            self.segments,
            self._refine_bases,
            numbers,
            vectors,
            offsets[extent],
            coded,
            self.root.codec.bits,
        )
        order = np.lexsort((found.rows, estimates))
        return found._replace(rows=found.rows[order], estimates=estimates[order])

    def _verify_refine(self, numbers: Positions, vectors: Positions) -> None:
        """Check the finer codes of some vectors, each once."""
        at = self._refine_starts[numbers] + vectors
        missing = ~self._refine_seen[at]
        if missing.any():
            for number in members_of(numbers[missing]):
                self.segments[number].verify_refine(vectors[missing & (numbers == number)])
            self._refine_seen[at] = True


def open_reader(view: View, name: str, address: Address) -> IndexReader:
    """Return the reader of an index over a content.

    Parameters
    ----------
    view : View
        The content.
    name : str
        An embedding field.
    address : Address
        The index's root.

    Raises
    ------
    ObjectMissingError
        When the root or its centroids are gone.

    Notes
    -----
    Cost: 1 object open for the root, the centroids and each segment, cached; a segment that is
    gone leaves its rows to exact comparison.
    """
    with _LOCK:
        readers = _READERS.setdefault(view, {})
        found = readers.get((name, address))
    if found is not None:
        return found
    root = index_root(view.source, address)
    centres = cell_centres(view.source, root)
    track = view.track(name)
    groups, segments = [], []
    for group in chunk_groups(track):
        indexed = root.segments.get(group.digest)
        if indexed is None:
            continue
        try:
            segment = _segment(view.source, indexed.segment, root, len(centres), group)
        except ObjectMissingError:
            continue
        if segment.rows:
            segments.append(segment)
        groups.append(group)
    loose, at = [], 0
    for group in groups:
        if at < group.start:
            loose.append((at, group.start))
        at = group.stop
    if at < track.rows:
        loose.append((at, track.rows))
    held = [g for g in groups if root.segments[g.digest].rows]
    reader = IndexReader(root, track, centres, held, segments, loose)
    with _LOCK:
        readers[name, address] = reader
    return reader


def _segment(
    source: Source, address: Address, root: IndexRoot, cells: int, group: Group
) -> Segment:
    # An object that lies about one of these fails when it is opened for it.
    key = (id(source), address, cells, root.codec.bits)
    with _LOCK:
        segment = _SEGMENTS.get(key)
    if segment is None or segment.span != group.stop - group.start:
        opened = source.cache.open(address, Kind.INDEX_SEGMENT)
        segment = Segment(opened, root.codec, cells, group.stop - group.start)
        with _LOCK:
            _SEGMENTS[key] = segment
    return segment
