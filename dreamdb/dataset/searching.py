"""Searching verbs of a dataset.

Source: design/0004 section 8, design/0018 section 9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa

from dreamdb.dataset.reading import Reading, scalar_of
from dreamdb.errors import InvalidInputError
from dreamdb.history import load_manifest
from dreamdb.model import ANCHOR, FieldList
from dreamdb.read import (
    Predicate,
    SearchOptions,
    check_batch_size,
    col,
    parse_where,
    search_nearest,
)
from dreamdb.types import Address

__all__ = ["Searching"]

_RERANK_MODES: Final[dict[str | None, bool | None]] = {
    None: None,
    "exact": True,
    "full": True,
    "none": False,
}


@lru_cache(maxsize=64)
def _parsed_text(where: str, schema: FieldList) -> Predicate | None:
    return parse_where(where, schema)


def _parsed(where: object, schema: FieldList) -> Predicate | None:
    """Return a condition, parsed; parsing a text takes longer than a search."""
    return _parsed_text(where, schema) if isinstance(where, str) else parse_where(where, schema)


class Searching(Reading):
    """The verbs that find nearest vectors."""

    def _index_of(self, field: str) -> str | None:
        """Return the text address of a field's index at this handle's manifest."""
        known: tuple[Address, Mapping[str, str]] | None = getattr(self, "_indexes", None)
        if known is None or known[0] != self._manifest:
            manifest = load_manifest(self._space.cache, self._manifest)
            known = self._indexes = (self._manifest, manifest.indexes)
        return known[1].get(field)

    def search(
        self,
        field: str,
        queries: Any,
        k: int = 10,
        where: object = None,
        *,
        metric: str | None = None,
        fields: Sequence[str] = (),
        nprobe: int | None = None,
        rerank: int | bool | None = None,
        exact: bool | None = None,
    ) -> pa.Table:
        """Find the nearest vectors.

        A field with an index is searched through it, and candidates are compared with their
        stored vectors; small fields, few matching records and fields without an index are
        compared whole.  Records newer than the index are always found.

        Parameters
        ----------
        field : str
            An embedding field.
        queries : array-like of float32, shape (dim,) or (n, dim)
            One or many queries.
        k : int
            Records per query.
        where : Expression or str, optional
            Only records for which it holds.
        metric : str, optional
            ``cosine``, ``dot`` or ``l2``; default by the field's algorithm.  Another one than the
            index was made for compares all vectors.
        fields : sequence of str
            Further fields to return.
        nprobe : int, optional
            How many cells of the index to look at: more find more.  Default twice the root of
            their number; more are looked at when a condition leaves too few candidates.
        rerank : int or bool, optional
            How many candidates to compare with their vectors: default the larger of 40 and
            ``4 * k``; False returns the estimates of the index's codes.
        exact : bool, optional
            True compares every vector; False uses the index even where that is slower.

        Returns
        -------
        Table
            ``_query``, ``_anchor``, ``_score`` (larger is better; for l2 the negative squared
            distance), then the fields; best first within each query.  When some query has fewer
            than ``k`` records, the metadata has ``dreamdb.short`` and a warning is logged.

        Raises
        ------
        InvalidInputError
            For NaN, infinity, another dimension, and arguments out of range.

        Notes
        -----
        Cost: with an index the touched pages of its segments and a row per candidate; without one
        the field's whole track, once for all queries.
        """
        view = self._view
        names = view.check_fields(list(fields))
        view.check_fields([field])
        predicate = _parsed(where, view.content.schema)
        options = SearchOptions(metric, nprobe, rerank, exact)
        index = self._index_of(field)
        found = search_nearest(view, field, index, queries, k, predicate=predicate, options=options)
        if names:
            extra = self.take(found.column(ANCHOR), names)
            for name in names:
                found = found.append_column(extra.schema.field(name), extra.column(name))
        return found

    def iter_vector(
        self,
        field: str,
        query: Any,
        top_k: int = 10,
        batch_size: int = 256,
        where: object = None,
        where_eq: tuple[str, Any] | Mapping[str, Any] | None = None,
        nprobe: int | None = None,
        fields: Sequence[str] | None = None,
        rerank_mode: str | None = None,
        as_numpy: bool = True,
    ) -> Iterator[dict[str, Any]]:
        """Find the nearest vectors and stream the records, best first, for existing programs.

        Parameters
        ----------
        field : str
            An embedding field.
        query : array-like of float32, shape (dim,)
            One query.
        top_k : int
            How many records.
        batch_size : int
            Records per batch.
        where : Expression or str, optional
            Only records for which it holds.
        where_eq : pair or mapping, optional
            Field and value that records must have.
        nprobe : int, optional
            As in :meth:`search`.
        rerank_mode : str, optional
            ``"exact"`` or ``"full"`` compares the candidates with their vectors, which is the
            default; ``"none"`` gives the codes' estimates.
        fields : sequence of str, optional
            Further fields; default: all.
        as_numpy : bool
            Scores and anchors as numpy arrays, else as lists.

        Yields
        ------
        dict
            ``_time_anchors``, ``_score`` and one list or matrix per field.
        """
        if where_eq is not None:
            pairs = list(where_eq.items() if isinstance(where_eq, Mapping) else [where_eq])
            if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
                raise InvalidInputError(f"where_eq is a field and a value, not {where_eq!r}")
            parsed = parse_where(where, self._view.content.schema)
            joined = None if parsed is None else parsed.expression
            for name, value in pairs:
                self._view.check_fields([name])
                equal = col(name) == scalar_of(value)
                joined = equal if joined is None else joined & equal
            where = joined
        names = self._view.check_fields(fields)
        if rerank_mode not in _RERANK_MODES:
            raise InvalidInputError(
                f"rerank_mode={rerank_mode!r} is not a choice",
                hint=f"use one of {tuple(m for m in _RERANK_MODES if m)}",
            )
        rerank = _RERANK_MODES[rerank_mode]
        found = self.search(field, query, top_k, where, nprobe=nprobe, rerank=rerank)
        size = check_batch_size(batch_size)
        for start in range(0, found.num_rows, size):
            part = found.slice(start, size)
            table = self.take(part.column(ANCHOR), names)
            batch = table.combine_chunks().to_batches()[0]
            out = self._columns_of(batch)
            out["_score"] = np.array(part.column("_score").to_pylist(), np.float32)
            if not as_numpy:
                out["_score"] = out["_score"].tolist()
                out["_time_anchors"] = out["_time_anchors"].tolist()
            yield out
