"""Nearest vectors: by an index and exact comparison of what it finds, or by comparing all.

Source: design/0018 section 9.
"""

from __future__ import annotations

import logging
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.config import num_threads
from dreamdb.errors import InvalidInputError, ObjectMissingError
from dreamdb.index import Found, IndexReader, open_reader
from dreamdb.objects import from_text
from dreamdb.read.plan import ScanPlan
from dreamdb.read.predicate import Predicate
from dreamdb.read.scan import matching_rows
from dreamdb.read.search import (
    best_of,
    check_k,
    check_queries,
    metric_of,
    normalised,
    result_table,
    score_blocks,
    scores_of,
)
from dreamdb.tracks import Track, View, gather, validity, vectors_of
from dreamdb.types import Address
from dreamdb.vectors import compiled_ready

__all__ = ["SearchOptions", "search_nearest"]

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

_EXACT_ELEMENTS: Final = 5 << 20
_FEW_ELEMENTS: Final = 1 << 18
_POOL: Final = 40
_WIDE: Final = 160
_SPARE: Final = 16
_LIMIT: Final = float(2**40)
_MASKS: weakref.WeakKeyDictionary[View, list[tuple[Any, _Counted]]] = weakref.WeakKeyDictionary()
_MASKS_KEPT: Final = 8
_LOG: Final = logging.getLogger("dreamdb")


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How a search is made.

    Parameters
    ----------
    metric : str, optional
        ``cosine``, ``dot`` or ``l2``; default by the field's algorithm.
    nprobe : int, optional
        Cells to look at; default by their number.
    rerank : int or bool, optional
        How many candidates are compared with their stored vectors; default the larger of 40 and
        four per record asked for.  False gives the estimates of the codes.
    exact : bool, optional
        True compares every vector; False uses the index even where comparing is quicker.
    """

    metric: str | None = None
    nprobe: int | None = None
    rerank: int | bool | None = None
    exact: bool | None = None

    def __post_init__(self) -> None:
        _check_count(self.nprobe, "nprobe")
        if not isinstance(self.rerank, bool):
            _check_count(self.rerank, "rerank")

    def pool(self, k: int) -> int:
        """Return how many candidates are kept."""
        if self.rerank is None or isinstance(self.rerank, bool):
            return max(_POOL, 4 * k)
        return max(int(self.rerank), k)


def _check_count(value: object, what: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InvalidInputError(f"{what} must be a positive integer, not {value!r}")


def search_nearest(
    view: View,
    name: str,
    index: str | None,
    queries: object,
    k: int,
    *,
    predicate: Predicate | None = None,
    options: SearchOptions | None = None,
) -> pa.Table:
    """Return the best ``k`` records for each query.

    Parameters
    ----------
    view : View
        Where to search.
    name : str
        An embedding field.
    index : str or None
        Text address of the field's index.
    queries : array-like of float32, shape (dim,) or (n, dim)
        One or many queries.
    k : int
        Records per query; fewer come back when fewer exist, and the table's metadata says so.
    predicate : Predicate, optional
        Only records for which it holds.
    options : SearchOptions, optional
        How.

    Returns
    -------
    Table
        As :func:`~dreamdb.read.search_exact`.

    Notes
    -----
    Cost: with an index the touched pages of its segments and one row per candidate; without one
    the whole track.
    """
    options = SearchOptions() if options is None else options
    metric = metric_of(view, name, options.metric)
    k = check_k(k)
    track = view.track(name)
    matrix = check_queries(queries, int(track.declared.dim or 0))
    if metric == "cosine":
        matrix = normalised(matrix)
    counted = _counted(view, predicate)
    wanted = counted.rows
    reader = None
    if not options.exact:
        reader = _reader(view, name, index, metric)
    if (
        reader is None
        or (options.exact is None and _is_small(view, wanted, int(track.declared.dim or 1)))
        or float(np.abs(matrix).max(initial=0)) > _LIMIT
    ):
        rows, scores = score_blocks(view, track, wanted, matrix, metric, k)
    else:
        rows, scores = _by_index(view, reader, matrix, metric, k, counted, options)
    return _told(result_table(view, rows, scores), rows, k)


def _compared(
    view: View, track: Track, wanted: Positions | None, matrix: Floats, metric: str, k: int
) -> tuple[list[Positions], list[Floats]]:
    """Return the best rows by comparing every vector, or the few that count."""
    if wanted is None or len(wanted) * int(track.declared.dim or 1) > _FEW_ELEMENTS:
        return score_blocks(view, track, wanted, matrix, metric, k)
    array = gather(track, wanted)
    vectors: Any = vectors_of(track, array)
    if array.null_count:
        keep = validity(array)
        wanted, vectors = wanted[keep], vectors[keep]
    best = [best_of(wanted, scores, k) for scores in scores_of(matrix, vectors, metric)]
    return [rows for rows, _ in best], [scores for _, scores in best]


def _told(table: pa.Table, rows: list[Positions], k: int) -> pa.Table:
    """Say so when some query has fewer records than were asked for."""
    counts = [len(found) for found in rows]
    if counts and min(counts) < k:
        note = f"{min(counts)} of {k} records asked for exist"
        _LOG.warning("search: only %s", note)
        return table.replace_schema_metadata({"dreamdb.short": note})
    return table


@dataclass(frozen=True, slots=True)
class _Counted:
    """Which rows count in a search.

    Parameters
    ----------
    rows : ndarray of int64 or None
        Rows for which the condition holds; None without one.
    alive : ndarray of bool or None
        By row of the timeline; None when all count.
    bits : ndarray of uint8 or None
        The same, a bit per row.
    count : int
        How many.
    """

    rows: Positions | None
    alive: npt.NDArray[np.bool_] | None
    bits: npt.NDArray[np.uint8] | None
    count: int


def _counted(view: View, predicate: Predicate | None) -> _Counted:
    """Return the rows that count; those of the latest conditions are kept."""
    asked = None if predicate is None else predicate.expression
    kept = _MASKS.get(view, [])
    for expression, counted in kept:
        # Compared as expressions: their text leaves out digits and long lists.
        if expression is asked or (
            expression is not None and asked is not None and expression.equals(asked)
        ):
            return counted
    counted = _count_rows(view, predicate)
    # A whole list is put in place: readers in other threads see the old one or the new.
    _MASKS[view] = [(asked, counted), *kept][:_MASKS_KEPT]
    return counted


def _count_rows(view: View, predicate: Predicate | None) -> _Counted:
    dead = view.dead()
    if predicate is None and not len(dead):
        return _Counted(None, None, None, view.rows)
    rows = None
    alive = np.ones(view.rows, np.bool_)
    if predicate is not None:
        plan = ScanPlan(fields=(), predicate=predicate, start=0, stop=view.rows)
        found = list(matching_rows(view, plan))
        rows = np.concatenate(found) if found else np.empty(0, np.int64)
        alive[:] = False
        alive[rows] = True
    alive[dead] = False
    return _Counted(rows, alive, np.packbits(alive, bitorder="little"), int(alive.sum()))


def _is_small(view: View, wanted: Positions | None, dim: int) -> bool:
    """Return whether comparing every vector is quicker than looking through an index."""
    if wanted is not None and len(wanted) * dim <= _FEW_ELEMENTS:
        return True
    return view.rows * dim <= _EXACT_ELEMENTS


@lru_cache(maxsize=256)
def _address(text: str) -> Address:
    return from_text(text)


def _reader(view: View, name: str, index: str | None, metric: str) -> IndexReader | None:
    if index is None:
        return None
    try:
        reader = open_reader(view, name, _address(index))
    except ObjectMissingError:
        # Derived data that an older version's collector has taken: everything is compared.
        return None
    return reader if reader.root.metric == metric and reader.segments else None


def _by_index(
    view: View,
    reader: IndexReader,
    matrix: Floats,
    metric: str,
    k: int,
    counted: _Counted,
    options: SearchOptions,
) -> tuple[list[Positions], list[Floats]]:
    wanted, alive, mask = counted.rows, counted.alive, counted.bits
    nprobe = reader.default_nprobe() if options.nprobe is None else int(options.nprobe)
    pool = options.pool(k)
    # One bit leaves much open: the finer codes choose among more than are compared in the end.
    wide = max(_WIDE, 2 * pool) if reader.root.codec.bits > 1 else 2 * pool
    least = min(wide if wanted is not None else k, counted.count)
    kept = reader.loose_vectors()
    here = alive if alive is None or kept is None else alive[kept.rows]
    apart = None if kept is not None else _apart(view, reader, wanted, matrix, metric, k)

    def one(number: int) -> tuple[Positions, Floats]:
        query = matrix[number]
        found = reader.candidates(query, wide, nprobe=nprobe, mask=mask, wanted=least)
        rows, vectors, scores = _pool_of(reader, found, metric, pool, options)
        if kept is not None and len(kept.rows):
            places = reader.loose_candidates(query, k + _SPARE, here)
            rows = np.concatenate([rows, kept.rows[places]])
            vectors = np.concatenate([vectors, kept.vectors[places]])
        if len(vectors):
            scores = np.concatenate([scores, scores_of(query[None], vectors, metric)[0]])
        if apart is not None:
            rows = np.concatenate([rows, apart[0][number]])
            scores = np.concatenate([scores, apart[1][number]])
        return best_of(rows, scores, k)

    if len(matrix) > 3 and compiled_ready():
        with ThreadPoolExecutor(num_threads()) as threads:
            results = list(threads.map(one, range(len(matrix))))
    else:
        results = [one(number) for number in range(len(matrix))]
    return [rows for rows, _ in results], [scores for _, scores in results]


def _apart(
    view: View,
    reader: IndexReader,
    wanted: Positions | None,
    matrix: Floats,
    metric: str,
    k: int,
) -> tuple[list[Positions], list[Floats]]:
    """Return the best of many rows that no segment covers, compared where they lie."""
    chosen = np.concatenate([np.arange(*span) for span in reader.loose])
    if wanted is not None:
        chosen = np.intersect1d(chosen, wanted, assume_unique=True)
    return score_blocks(view, reader.track, chosen, matrix, metric, k)


def _pool_of(
    reader: IndexReader, found: Found, metric: str, pool: int, options: SearchOptions
) -> tuple[Positions, Floats, Floats]:
    """Return candidates with their vectors, or with scores as the codes estimate them."""
    none, nothing = np.empty(0, np.float32), np.empty((0, reader.root.codec.dim), np.float32)
    rows = found.rows[:pool]
    if not len(rows):
        return rows, nothing, none
    if options.rerank is False:
        estimates = found.estimates[:pool]
        scores = np.float32(1) - estimates * np.float32(0.5) if metric == "cosine" else -estimates
        return rows, nothing, scores
    rows = np.sort(rows)
    array = gather(reader.track, rows)
    vectors: Any = vectors_of(reader.track, array)
    if array.null_count:
        keep = validity(array)
        rows, vectors = rows[keep], vectors[keep]
    return rows, vectors, none
