"""Reading verbs of a dataset.

Source: design/0004 section 5.
"""

from __future__ import annotations

import asyncio
import io
import operator
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.dataset.handle import Handle
from dreamdb.dataset.records import column_values, records_of
from dreamdb.dataset.scan import Scan
from dreamdb.dataset.splits import split_rows
from dreamdb.errors import AnchorNotFoundError, InvalidInputError, SchemaError
from dreamdb.model import ANCHOR
from dreamdb.read import (
    FieldSummary,
    ScanPlan,
    check_batch_size,
    col,
    distinct_values,
    output_schema,
    parse_where,
    scan_batches,
    summarise,
    to_batch,
)
from dreamdb.stream import Epoch
from dreamdb.tracks import gather
from dreamdb.types import BLOB_KINDS
from dreamdb.write import anchor_array

__all__ = ["Reading", "scalar_of"]

_OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in", "is null", "is not null")


_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def scalar_of(value: Any) -> Any:
    """Return a value that Arrow understands; records hold times as numpy's.

    Parameters
    ----------
    value : object
        As a record holds it.
    """
    if isinstance(value, np.datetime64):
        return pa.scalar(int(value.astype("M8[ns]").astype(np.int64)), pa.timestamp("ns"))
    return value


class Reading(Handle):
    """The verbs that read."""

    def _plan(
        self,
        fields: Sequence[str] | str | None,
        where: object,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        limit: int | None = None,
        batch_size: int = 8_192,
        order: str = "ascending",
        categoricals: str = "string",
        exact: bool = True,
    ) -> ScanPlan:
        view = self._view
        names = view.check_fields(fields)
        if order not in ("ascending", "descending"):
            raise InvalidInputError(
                f"order={order!r} is not a choice", hint="'ascending' or 'descending'"
            )
        whole = isinstance(limit, (int, np.integer)) and not isinstance(limit, bool)
        if limit is not None and not (whole and limit >= 0):
            raise InvalidInputError(f"limit must be a number of records, not {limit!r}")
        bounds = [0, view.rows]
        for index, edge in enumerate((start_ns, end_ns)):
            if edge is not None:
                wanted = anchor_array([edge], what="time range")
                bounds[index] = view.row_at(int(wanted[0]))
        return ScanPlan(
            fields=tuple(names),
            predicate=parse_where(where, view.content.schema),
            start=bounds[0],
            stop=max(bounds),
            limit=limit,
            batch_size=check_batch_size(batch_size),
            categoricals=categoricals,
            descending=order == "descending",
            exact=exact,
        )

    def scan(
        self,
        fields: Sequence[str] | None = None,
        where: object = None,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        anchors: Any = None,
        limit: int | None = None,
        order: str = "ascending",
        batch_size: int = 8_192,
        categoricals: str = "string",
    ) -> Scan:
        """Describe records to read; the result is lazy.

        Parameters
        ----------
        fields : sequence of str, optional
            Default: all.  An empty list reads the anchors only.
        where : Expression or str, optional
            ``vd.col("label") > 3``, a pyarrow expression, or a SQL condition.
        start_ns, end_ns : int, optional
            Anchors from ``start_ns`` (inclusive) to ``end_ns`` (exclusive).
        anchors : array-like of uint64, optional
            Only these records; unknown ones are an error.
        limit : int, optional
            At most so many records.
        order : str
            ``"ascending"`` or ``"descending"`` by anchor.
        batch_size : int
            Records per batch at most: batches end where fragments end, so that wide fields are
            not copied.  :meth:`iter_arrow_batches` has batches of exact size.
        categoricals : str
            ``"string"`` or ``"dictionary"``.

        Returns
        -------
        Scan
            ``to_arrow()``, ``to_pandas()``, ``count()``, ``explain()``, or iterate.

        Raises
        ------
        FieldNotFoundError, ExpressionError
            For unknown fields and unusable conditions.

        Notes
        -----
        Cost: nothing until it is read; then 1 object open per fragment of the fields named,
        except those that statistics exclude.
        """
        if anchors is not None:
            wanted = np.unique(anchor_array(anchors, what="anchors"))
            self._view.rows_of(wanted)
            chosen = col(ANCHOR).isin(numbers_array(wanted))
            parsed = parse_where(where, self._view.content.schema)
            where = chosen if parsed is None else chosen & parsed.expression
        plan = self._plan(
            fields,
            where,
            start_ns=start_ns,
            end_ns=end_ns,
            limit=limit,
            batch_size=batch_size,
            order=order,
            categoricals=categoricals,
            exact=False,
        )
        return Scan(self._view, plan)

    def iter_arrow_batches(
        self,
        batch_size: int = 256,
        fields: Sequence[str] | None = None,
        shuffle_seed: int | None = None,
        where: object = None,
        *,
        categoricals: str = "string",
    ) -> Iterator[pa.RecordBatch]:
        """Stream the records as Arrow batches.

        Parameters
        ----------
        batch_size : int
            Records per batch; the last one may have fewer.
        fields : sequence of str, optional
            Default: all.
        shuffle_seed : int, optional
            A true permutation of all records, the same for the same seed and manifest.
        where : Expression or str, optional
            As in :meth:`scan`.
        categoricals : str
            ``"string"`` or ``"dictionary"``.

        Returns
        -------
        iterator of RecordBatch
            ``_anchor`` uint64 and one column per field; one schema for the whole stream.

        Notes
        -----
        Cost: 1 object open per fragment of the fields named.  Memory is bounded by the batch and
        what is read ahead.
        """
        plan = self._plan(fields, where, batch_size=batch_size, categoricals=categoricals)
        if shuffle_seed is None:
            return scan_batches(self._view, plan)
        epoch = Epoch(
            self._view,
            plan.fields,
            batch_size=plan.batch_size,
            seed=shuffle_seed,
            predicate=plan.predicate,
            categoricals=categoricals,
        )
        return epoch.batches()

    async def iter_stream(
        self,
        batch_size: int = 256,
        fields: Sequence[str] | None = None,
        shuffle_seed: int | None = None,
        where: object = None,
        *,
        categoricals: str = "string",
    ) -> AsyncIterator[pa.RecordBatch]:
        """Stream like :meth:`iter_arrow_batches`, without blocking the event loop.

        Parameters
        ----------
        batch_size, fields, shuffle_seed, where, categoricals
            As in :meth:`iter_arrow_batches`.

        Yields
        ------
        RecordBatch
            Each is read in a thread.
        """
        batches = self.iter_arrow_batches(
            batch_size, fields, shuffle_seed, where, categoricals=categoricals
        )
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            yield batch

    def iter_all_batches(
        self,
        batch_size: int = 256,
        fields: Sequence[str] | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Stream the records as dictionaries of columns, for existing programs.

        Parameters
        ----------
        batch_size, fields
            As in :meth:`iter_arrow_batches`.
        start_ns, end_ns : int, optional
            Anchors from ``start_ns`` (inclusive) to ``end_ns`` (exclusive).

        Yields
        ------
        dict
            ``_time_anchors`` (uint64 array) and one list per field; vectors come as one matrix.
        """
        plan = self._plan(fields, None, start_ns=start_ns, end_ns=end_ns, batch_size=batch_size)
        for batch in scan_batches(self._view, plan):
            yield self._columns_of(batch)

    def _columns_of(self, batch: pa.RecordBatch) -> dict[str, Any]:
        anchors = batch.column(0)
        out: dict[str, Any] = {
            "_time_anchors": np.frombuffer(
                anchors.buffers()[1], np.uint64, len(anchors), anchors.offset * 8
            )
        }
        for name in batch.schema.names[1:]:
            ftype = self._view.content.schema[name].type
            values = column_values(ftype, batch.column(name))
            if ftype.kind in ("embedding", "tensor") and all(v is not None for v in values):
                shape = (0, ftype.dim) if ftype.kind == "embedding" else (0, *(ftype.shape or ()))
                out[name] = np.stack(values) if values else np.empty(shape, np.float32)
            else:
                out[name] = values
        return out

    def take(
        self,
        anchors: Any = None,
        fields: Sequence[str] | None = None,
        *,
        positions: Any = None,
        categoricals: str = "string",
    ) -> pa.Table:
        """Read some records, in the order asked for.

        Parameters
        ----------
        anchors : array-like of uint64, optional
            Which records, by anchor.
        fields : sequence of str, optional
            Default: all.
        positions : array-like of int, optional
            Which records, counted from 0 in anchor order; negative ones count from the end.
        categoricals : str
            ``"string"`` or ``"dictionary"``.

        Returns
        -------
        Table
            ``_anchor`` and one column per field.

        Raises
        ------
        AnchorNotFoundError, InvalidInputError
            Naming the first anchor or position that does not exist.

        Notes
        -----
        Cost: 1 object open per fragment touched, cached; only touched pages are verified.
        """
        view = self._view
        names = view.check_fields(fields)
        if (anchors is None) == (positions is None):
            raise InvalidInputError("take needs either anchors or positions")
        if anchors is not None:
            rows = view.rows_of(anchor_array(anchors, what="anchors"))
        else:
            rows = view.row_of_visible(self._positions(positions))
        schema = output_schema(view.content.schema, names, categoricals=categoricals)
        arrays = {c.name: gather(view.track(c.name), rows) for c in schema}
        return pa.Table.from_batches([to_batch(view, arrays, schema)], schema)

    def _positions(self, positions: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
        index = np.asarray(positions)
        if index.size == 0:
            return np.empty(0, np.int64)
        if index.dtype.kind not in "iu" or index.ndim != 1:
            raise InvalidInputError("positions must be a list of integers")
        count = self.count()
        index = index.astype(np.int64)
        low, high = int(index.min()), int(index.max())
        if low < -count or high >= count:
            outside = low if low < -count else high
            raise InvalidInputError(f"position {outside} is outside the {count} records")
        return np.where(index < 0, index + count, index) if low < 0 else index

    def __getitem__(self, key: Any) -> Any:
        """``ds[3]`` a record, ``ds[10:20]`` and ``ds[[1, 5]]`` tables, ``ds["label"]`` a column."""
        if isinstance(key, str):
            return self.scan([key]).to_arrow().column(key)
        if isinstance(key, slice):
            return self.take(positions=np.arange(*key.indices(self.count())))
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            count = self.count()
            if not -count <= key < count:
                raise IndexError(f"record {key} of {count}")
            return self._records([int(key)])[0]
        if isinstance(key, (list, tuple, np.ndarray, range)):
            return self.take(positions=np.asarray(list(key), dtype=None if len(key) else np.int64))
        raise InvalidInputError(
            f"cannot index with a {type(key).__name__}",
            hint="use a field name, a position, a slice or a list of positions",
        )

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        """Return several records; PyTorch's DataLoader calls this for a batch.

        Anchors are uint64 arrays without dimensions and timestamps are integers (nanoseconds):
        ``default_collate`` makes exact tensors of both, and fails on other forms of them.
        """
        records = self._records(positions)
        for record in records:
            record[ANCHOR] = np.array(record[ANCHOR], np.uint64)
            for name, value in record.items():
                if isinstance(value, np.datetime64):
                    record[name] = int(value.astype(np.int64))
        return records

    def _records(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        table = self.take(positions=positions)
        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        columns = {
            name: c.chunk(0) if isinstance(c, pa.ChunkedArray) else c for name, c in columns.items()
        }
        return records_of(self._view.content.schema, columns)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in scan_batches(self._view, self._plan(None, None, batch_size=1_024)):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            yield from records_of(self._view.content.schema, columns)

    def __contains__(self, anchor: object) -> bool:
        try:
            wanted = anchor_array([anchor])
        except InvalidInputError:
            return False
        return bool(self._view.find(wanted)[0] >= 0)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.scan().__arrow_c_stream__(requested_schema)

    def open_blob(self, anchor: int, field: str) -> io.BufferedIOBase:
        """Open one media value as a seekable file.

        Parameters
        ----------
        anchor : int
            The record.
        field : str
            A field of images, videos, sound or bytes.

        Returns
        -------
        file object
            Read-only.

        Raises
        ------
        AnchorNotFoundError
            When the record does not exist or has no value.
        """
        view = self._view
        kind = view.content.schema[field].type.kind
        if kind not in BLOB_KINDS:
            raise SchemaError(f"{field!r} is a {kind}, not bytes", field=field)
        rows = view.rows_of(anchor_array([anchor]))
        value = gather(view.track(field), rows)
        if value.null_count:
            raise AnchorNotFoundError(f"the record {anchor} has no {field!r}", anchor=anchor)
        return io.BytesIO(value[0].as_py())

    def splits(
        self,
        ratios: Mapping[str, float],
        *,
        by: str | None = None,
        seed: int = 0,
    ) -> dict[str, np.ndarray[Any, np.dtype[np.uint64]]]:
        """Divide the records by a hash of their anchor, or of a field.

        Parameters
        ----------
        ratios : mapping of str to float
            Share of each part, adding up to 1.
        by : str, optional
            Keep records with equal values of this field together.
        seed : int
            Another seed, another division.

        Returns
        -------
        dict of str to ndarray of uint64
            Anchors of each part, increasing.  Appends never move a record to another part.
        """
        return split_rows(self._view, ratios, by=by, seed=seed)

    def query_scalar(self, field: str, op: str, value: Any = None) -> list[int]:
        """Return the anchors of the records whose field compares so with a value.

        Parameters
        ----------
        field : str
            A scalar or text field.
        op : str
            ``== != < <= > >= in``, ``"not in"``, ``"is null"``, ``"is not null"``; ``=`` and
            names such as ``eq`` are accepted.
        value : object
            What to compare with; a list for ``in``.

        Returns
        -------
        list of int
            Increasing.
        """
        self._view.check_fields([field])
        names = {"=": "==", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
        verb = names.get(op, op)
        if verb not in _OPERATORS:
            raise InvalidInputError(f"there is no operator {op!r}", hint=f"use one of {_OPERATORS}")
        try:
            where = self._comparison(field, verb, value)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise InvalidInputError(
                f"cannot compare {field!r} with {value!r}: {error}", field=field
            ) from None
        found: list[int] = self.scan([], where=where).to_arrow().column(0).to_pylist()
        return found

    def _comparison(self, field: str, verb: str, value: Any) -> Any:
        column, kind = col(field), self._view.content.schema[field].type.kind
        if verb in ("is null", "is not null"):
            return column.is_null() if verb == "is null" else column.is_valid()
        if verb in ("in", "not in"):
            values = [scalar_of(v) for v in value]
            if kind == "float" and 0 in values:
                # Arrow looks values up by their bits: zero has two forms.
                values += [0.0, -0.0]
            found = column.isin(values)
            return ~found & column.is_valid() if verb == "not in" else found
        return _COMPARE[verb](column, scalar_of(value))

    def distinct_values(self, field: str) -> list[Any]:
        """Return the distinct values of a scalar field, sorted, without null.

        Parameters
        ----------
        field : str
            A scalar or text field.
        """
        (name,) = self._view.check_fields([field])
        kind = self._view.content.schema[name].type.kind
        if kind in BLOB_KINDS or kind in ("embedding", "tensor", "list", "struct"):
            raise SchemaError(f"{name!r} is a {kind}; distinct values need scalars", field=name)
        return distinct_values(self._view, name)

    def stats(self) -> list[FieldSummary]:
        """Return rows, nulls, bytes and bounds of every field, from the trees alone.

        Notes
        -----
        Cost: 1 object read per tree node; no values are read.
        """
        return [summarise(self._view, name) for name in self._view.content.schema]
