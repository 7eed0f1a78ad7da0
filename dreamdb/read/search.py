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
from dreamdb.tracks import Track, View, gather, validity

__all__ = ["METRICS", "search_exact"]

METRICS: Final = ("cosine", "dot", "l2")
_BLOCK: Final = 65_536
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
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InvalidInputError(f"k must be a positive integer, not {k!r}")
    track = view.track(name)
    matrix = check_queries(queries, int(track.ftype.dim or 0))
    if metric == "cosine":
        matrix = _normalised(matrix)
    wanted = None
    if predicate is not None:
        plan = ScanPlan(fields=(), predicate=predicate, start=0, stop=view.rows)
        found = list(matching_rows(view, plan))
        wanted = np.concatenate(found) if found else np.empty(0, np.int64)
    best_rows = np.empty((len(matrix), 0), np.int64)
    best_scores = np.empty((len(matrix), 0), np.float32)
    for rows, vectors in _blocks(view, track, wanted):
        scores = _scores(matrix, vectors, metric)
        best_rows, best_scores = _merge(best_rows, best_scores, rows, scores, int(k))
    return _result(view, best_rows, best_scores)


def _normalised(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(norms == 0, 1.0, norms)).astype(np.float32)


def _blocks(view: View, track: Track, wanted: Positions | None) -> Any:
    """Yield rows and their vectors: visible, not null, and wanted."""
    dim = int(track.ftype.dim or 0)
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
            child = array.values
            vectors = np.frombuffer(
                child.buffers()[1],
                np.float32,
                len(array) * dim,
                (child.offset + array.offset * dim) * 4,
            ).reshape(-1, dim)
            rows = np.arange(start, stop)
            if not keep.all():
                rows, vectors = rows[keep], vectors[keep]
            if len(rows):
                yield rows, vectors


def _scores(queries: Vectors, vectors: Vectors, metric: str) -> Vectors:
    scores: npt.NDArray[Any]
    if metric == "l2":
        # The difference of large squares: float32 would lose the distance between near vectors.
        scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    else:
        scores = queries @ vectors.T
    if metric == "cosine":
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        scores = scores / np.where(norms == 0, 1.0, norms)[None, :]
    elif metric == "l2":
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        own = np.einsum("ij,ij->i", queries, queries, dtype=np.float64)
        scores = 2.0 * scores - squares[None, :] - own[:, None]
        scores = np.minimum(scores, 0.0)
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


def _result(view: View, rows: Positions, scores: Vectors) -> pa.Table:
    flat = rows.reshape(-1)
    anchors = np.empty(len(flat), np.uint64)
    if len(flat):
        unique, inverse = np.unique(flat, return_inverse=True)
        column = gather(view.timeline, unique)
        anchors = np.frombuffer(column.buffers()[1], np.uint64, len(column))[inverse]
    query = np.repeat(np.arange(len(rows), dtype=np.int32), rows.shape[1])
    return pa.table(
        {
            "_query": numbers_array(query),
            ANCHOR: numbers_array(anchors),
            "_score": numbers_array(scores.reshape(-1)),
        }
    )
