"""Comparing refs: fields of several contents side by side, joined by anchor.

Source: design/0004 section 7.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dreamdb.codecs import numbers_array
from dreamdb.errors import FieldNotFoundError, InvalidInputError, nearest_hint
from dreamdb.model import ANCHOR
from dreamdb.read.output import output_array, output_type
from dreamdb.tracks import View, gather

__all__ = ["Comparison", "compare_views"]

Anchors = npt.NDArray[np.uint64]

# polars.from_arrow makes a frame of an Arrow stream only when its class looks like pyarrow's own,
# and a series of any other; so Comparison shares the empty base of all pyarrow classes.
_ArrowObject: Any = pa.Table.__mro__[-2]


class Comparison(_ArrowObject):
    """The result of ``compare_refs``: an Arrow table that can count agreement.

    Everything a ``pyarrow.Table`` offers works on it (``column``, ``to_pandas``, ``num_rows`` ...),
    and so does anything that takes Arrow streams (polars, DuckDB, pandas).

    Parameters
    ----------
    table : Table
        ``_anchor`` and one column ``<field>@<ref>`` per field and ref.
    refs, fields : sequence of str
        What was compared.
    """

    def __init__(self, table: pa.Table, refs: Sequence[str], fields: Sequence[str]) -> None:
        self._table = table
        self.refs = tuple(refs)
        self.fields = tuple(fields)

    def to_arrow(self) -> pa.Table:
        """Return the table itself."""
        return self._table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._table, name)

    def __getitem__(self, key: Any) -> Any:
        return self._table[key]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self._table.to_batches())

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return Comparison, (self._table, self.refs, self.fields)

    def agreement(self, field: str | None = None) -> pa.Table:
        """Return how often each pair of refs holds the same value.

        Parameters
        ----------
        field : str, optional
            Which field; needed when several were compared.

        Returns
        -------
        Table
            Column ``ref``, then one float64 column per ref: the share of records with equal
            values among those where both have one; null where there is none.
        """
        if field is None:
            if len(self.fields) != 1:
                raise InvalidInputError(
                    "several fields were compared", hint=f"agreement(field=...) of {self.fields}"
                )
            field = self.fields[0]
        if field not in self.fields:
            raise FieldNotFoundError(
                f"{field!r} was not compared", hint=nearest_hint(field, self.fields, "fields")
            )
        kinds = {str(self._table.schema.field(f"{field}@{ref}").type) for ref in self.refs}
        if len(kinds) > 1:
            raise InvalidInputError(
                f"agreement needs one type, {field!r} is {' and '.join(sorted(kinds))}", field=field
            )
        columns = [self._codes(field, ref) for ref in self.refs]
        matrix: list[list[float | None]] = []
        for codes, valid in columns:
            row: list[float | None] = []
            for others, also in columns:
                both = valid & also
                total = int(both.sum())
                row.append(float((codes == others)[both].sum() / total) if total else None)
            matrix.append(row)
        return pa.table(
            [pa.array(self.refs)]
            + [pa.array([row[i] for row in matrix], pa.float64()) for i in range(len(self.refs))],
            names=["ref", *self.refs],
        )

    def _codes(self, field: str, ref: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return values as comparable numpy codes, shared by all refs, and which are not null."""
        column = self._table.column(f"{field}@{ref}")
        kind = column.type
        if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
            raise InvalidInputError(f"agreement needs scalars or texts, {field!r} is {kind}")
        valid = np.array(pc.is_valid(column).combine_chunks().to_numpy(zero_copy_only=False))
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind):
            whole = column.combine_chunks()
            dtype = np.float64 if pa.types.is_floating(kind) else np.int64
            return np.frombuffer(whole.buffers()[1], dtype, len(whole), whole.offset * 8), valid
        shared = self._vocabulary(field)
        codes = pc.fill_null(pc.index_in(column, value_set=shared), -1).combine_chunks()
        return np.frombuffer(codes.buffers()[1], np.int32, len(codes), codes.offset * 4), valid

    def _vocabulary(self, field: str) -> pa.Array:
        parts = [pc.unique(self._table.column(f"{field}@{ref}")) for ref in self.refs]
        return pc.unique(pa.concat_arrays(parts)).drop_null()

    def __repr__(self) -> str:
        lines = [
            f"Comparison of {len(self.refs)} refs, {len(self.fields)} fields, {len(self):,} records"
        ]
        if len(self.fields) == 1 and len(self.refs) <= 9:
            lines += self._agreement_lines()
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        title = f"{len(self.refs)} refs, {len(self.fields)} fields, {len(self):,} records"
        tables = "".join(self._html_of(field) for field in self.fields)
        return f"<div><b>{html.escape(title)}</b>{tables}</div>"

    def _html_of(self, field: str) -> str:
        """Return the agreement matrix of a field, darker where refs agree more."""
        try:
            rows = self.agreement(field).to_pylist()
        except InvalidInputError:
            return ""
        head = "".join(f"<th>{html.escape(ref)}</th>" for ref in ("", *self.refs))
        body = ""
        for row in rows:
            ref, *shares = row.values()
            cells = "".join(
                "<td></td>"
                if share is None
                else f'<td style="background:rgba(70,110,160,{share:.2f})">{share:.3f}</td>'
                for share in shares
            )
            body += f"<tr><th>{html.escape(ref)}</th>{cells}</tr>"
        caption = f"<caption>agreement of {html.escape(field)}</caption>"
        return f"<table>{caption}<tr>{head}</tr>{body}</table>"

    def _agreement_lines(self) -> list[str]:
        try:
            table = self.agreement()
        except InvalidInputError:
            return []
        width = max(len(r) for r in self.refs)
        return [
            f"  {ref:<{width}}  "
            + " ".join("   -" if v is None else f"{v:4.2f}" for v in list(row.values())[1:])
            for ref, row in zip(self.refs, table.to_pylist(), strict=True)
        ]


def compare_views(views: Sequence[tuple[str, View]], fields: Sequence[str]) -> Comparison:
    """Join fields of several contents by anchor (outer join).

    Parameters
    ----------
    views : sequence of (str, View)
        Name and content of each ref; names are distinct.
    fields : sequence of str
        Fields that every ref must have.

    Raises
    ------
    FieldNotFoundError
        Naming the ref that lacks a field.

    Notes
    -----
    Cost: contents with the same timeline are joined by position; each column is read once.
    """
    for name, view in views:
        for field in fields:
            if field not in view.content.schema:
                raise FieldNotFoundError(
                    f"the ref {name!r} has no field {field!r}",
                    hint=nearest_hint(field, view.content.schema, "fields"),
                    field=field,
                    ref=name,
                )
    roots = {(v.content.timeline, v.content.tombstones) for _, v in views}
    aligned = len(roots) <= 1
    if aligned:
        anchors = views[0][1].visible_anchors()
    else:
        anchors = np.unique(np.concatenate([v.visible_anchors() for _, v in views]))
    columns = [pa.chunked_array([numbers_array(anchors)])]
    names = [ANCHOR]
    for field in fields:
        for name, view in views:
            columns.append(_column(view, field, anchors, aligned=aligned))
            names.append(f"{field}@{name}")
    return Comparison(pa.table(columns, names=names), [n for n, _ in views], fields)


def _column(view: View, field: str, anchors: Anchors, *, aligned: bool) -> pa.ChunkedArray:
    track = view.track(field)
    dtype = output_type(track.declared)
    if aligned and not view.num_dead:
        chunks = track.chunks(0, track.rows)
        return pa.chunked_array([output_array(track.declared, c, dtype) for c in chunks], dtype)
    rows = view.find(anchors)
    found = rows >= 0
    values = gather(track, rows[found])
    if not found.all():
        index = np.zeros(len(rows), np.int64)
        index[found] = np.arange(int(found.sum()))
        values = values.take(numbers_array(index, found))
    return pa.chunked_array([output_array(track.declared, values, dtype)], dtype)
