"""Nearest vectors by exact comparison with every stored one.

Source: design/0004 section 8.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.errors import InvalidInputError, SchemaError
from dreamdb.model import ANCHOR
from dreamdb.read.plan import ScanPlan
from dreamdb.read.predicate import Predicate
from dreamdb.read.scan import matching_rows
from dreamdb.tracks import Track, View, gather, validity, vectors_of

__all__ = [
    "METRICS",
    "best_of",
    "check_k",
    "check_queries",
    "metric_of",
    "normalised",
    "result_table",
    "score_blocks",
    "scores_of",
    "search_exact",
]

METRICS: Final = ("cosine", "dot", "l2")
_BLOCK: Final = 65_536
_LARGEST: Final = float(np.finfo(np.float32).max)
Vectors = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]


def metric_of(view: View, name: str, metric: str | None) -> str:
    """Return the similarity to use for an embedding field."""
    field = view.content.schema[name]
    if field.type.kind != "embedding":
        raise SchemaError(f"{name!r} is a {field.type}, not an embedding", field=name)
    if metric is None:
        metric = (field.algorithm or "dreamdb.flat-cosine").rsplit("-", 1)[1]
    if metric not in METRICS:
        raise InvalidInputError(f"there is no metric {metric!r}", hint=f"use one of {METRICS}")
    return metric


def check_queries(queries: object, dim: int) -> Vectors:
    """Return queries as a float32 matrix, checked.

    Raises
    ------
    InvalidInputError
        For another dimension, NaN, infinity, or no numbers.
    """
    try:
        array = np.asarray(queries, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"the queries are not vectors: {error}") from None
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2 or array.shape[1] != dim:
        raise InvalidInputError(
            f"a query has shape {array.shape[1:]}, the field's vectors have {dim} dimensions"
        )
    if not bool(np.isfinite(array).all()):
        raise InvalidInputError("a query holds NaN or infinity")
    return np.ascontiguousarray(array)


def check_k(k: object) -> int:
    """Return how many records a query asks for, checked."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InvalidInputError(f"k must be a positive integer, not {k!r}")
    return int(k)


def search_exact(
    view: View,
    name: str,
    queries: object,
    k: int,
    *,
    predicate: Predicate | None = None,
    metric: str | None = None,
) -> pa.Table:
    """Return the best ``k`` records for each query.

    Parameters
    ----------
    view : View
        Where to search.
    name : str
        An embedding field.
    queries : array-like of float32, shape (dim,) or (n, dim)
        One or many queries.
    k : int
        Records per query; fewer come back when fewer exist.
    predicate : Predicate, optional
        Only records for which it holds.
    metric : str, optional
        ``cosine``, ``dot`` or ``l2``; default by the field's algorithm.

    Returns
    -------
    Table
        ``_query`` int32, ``_anchor`` uint64, ``_score`` float32, best first; larger is better:
        cosine similarity, inner product, or the negative squared distance.

    Notes
    -----
    Cost: the whole track of the field, once for all queries.
    """
    metric = metric_of(view, name, metric)
    k = check_k(k)
    track = view.track(name)
    matrix = check_queries(queries, int(track.declared.dim or 0))
    if metric == "cosine":
        matrix = normalised(matrix)
    wanted = None
    if predicate is not None:
        plan = ScanPlan(fields=(), predicate=predicate, start=0, stop=view.rows)
        found = list(matching_rows(view, plan))
        wanted = np.concatenate(found) if found else np.empty(0, np.int64)
    return result_table(view, *score_blocks(view, track, wanted, matrix, metric, k))


def score_blocks(
    view: View, track: Track, wanted: Positions | None, matrix: Vectors, metric: str, k: int
) -> tuple[list[Positions], list[Vectors]]:
    """Return the best rows of each query and their scores, by comparing every vector.

    Parameters
    ----------
    view, track : View, Track
        What to compare.
    wanted : ndarray of int64, optional
        Increasing rows that count.
    matrix : ndarray of float32, shape (n, dim)
        Queries; for ``cosine`` of length 1.
    metric : str
        ``cosine``, ``dot`` or ``l2``.
    k : int
        Records per query.
    """
    best_rows = np.empty((len(matrix), 0), np.int64)
    best_scores = np.empty((len(matrix), 0), np.float32)
    for rows, vectors in _blocks(view, track, wanted):
        scores = scores_of(matrix, vectors, metric)
        best_rows, best_scores = _merge(best_rows, best_scores, rows, scores, k)
    return list(best_rows), list(best_scores)


def normalised(vectors: Vectors) -> Vectors:
    """Return vectors of length 1; zero vectors stay zero."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(norms == 0, 1.0, norms)).astype(np.float32)


def best_of(rows: Positions, scores: Vectors, k: int) -> tuple[Positions, Vectors]:
    """Return the ``k`` best of some rows, best first; equal scores go to the earlier row."""
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def _blocks(view: View, track: Track, wanted: Positions | None) -> Any:
    """Yield rows and their vectors: visible, not null, and wanted."""
    _, starts, ends = track.flat()
    dead = view.dead()
    for index in range(len(starts)):
        for start in range(int(starts[index]), int(ends[index]), _BLOCK):
            stop = min(start + _BLOCK, int(ends[index]))
            keep = np.ones(stop - start, np.bool_)
            low, high = np.searchsorted(dead, [start, stop])
            keep[dead[low:high] - start] = False
            if wanted is not None:
                low, high = np.searchsorted(wanted, [start, stop])
                if low == high:
                    continue
                chosen = np.zeros(stop - start, np.bool_)
                chosen[wanted[low:high] - start] = True
                keep &= chosen
            array = track.slice(start, stop)
            if array.null_count:
                if array.null_count == len(array):
                    continue
                keep &= validity(array)
            vectors = vectors_of(track, array)
            rows = np.arange(start, stop)
            if not keep.all():
                rows, vectors = rows[keep], vectors[keep]
            if len(rows):
                yield rows, vectors


def scores_of(queries: Vectors, vectors: Vectors, metric: str) -> Vectors:
    """Return the score of each vector for each query, shape (queries, vectors)."""
    scores: npt.NDArray[Any]
    if metric == "l2":
        # The difference of large squares: float32 would lose the distance between near vectors.
        scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    else:
        scores = queries @ vectors.T
    if metric == "cosine":
        wide = vectors.astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        scores = scores / np.where(norms == 0, 1.0, norms)[None, :]
    elif metric == "l2":
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        own = np.einsum("ij,ij->i", queries, queries, dtype=np.float64)
        scores = 2.0 * scores - squares[None, :] - own[:, None]
        scores = np.clip(scores, -_LARGEST, 0.0)
    out: Vectors = scores.astype(np.float32)
    return out


def _merge(
    rows: Positions, scores: Vectors, new_rows: Positions, new_scores: Vectors, k: int
) -> tuple[Positions, Vectors]:
    """Keep the best ``k`` per query; equal scores go to the earlier row."""
    rows = np.concatenate([rows, np.broadcast_to(new_rows, new_scores.shape)], axis=1)
    scores = np.concatenate([scores, new_scores], axis=1)
    if scores.shape[1] > 4 * k:
        part = np.argpartition(-scores, k - 1, axis=1)
        limit = np.take_along_axis(scores, part[:, k - 1 : k], axis=1)
        width = int((scores >= limit).sum(axis=1).max())
        part = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        rows, scores = np.take_along_axis(rows, part, 1), np.take_along_axis(scores, part, 1)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)


def result_table(view: View, rows: list[Positions], scores: list[Vectors]) -> pa.Table:
    """Return what was found as a table: query, anchor, score."""
    flat = np.concatenate([*rows, np.empty(0, np.int64)])
    anchors = np.empty(len(flat), np.uint64)
    if len(flat):
        column = gather(view.timeline, flat)
        anchors = np.frombuffer(column.buffers()[1], np.uint64, len(column))
    query = np.repeat(np.arange(len(rows), dtype=np.int32), [len(one) for one in rows])
    joined = np.concatenate([*scores, np.empty(0, np.float32)])
    return pa.table(
        {
            "_query": numbers_array(query),
            ANCHOR: numbers_array(anchors),
            "_score": numbers_array(joined.astype(np.float32)),
        }
    )
