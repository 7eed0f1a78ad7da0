"""Turning what users hand in into checked slabs of records.

Source: design/0004 section 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import coerce, numbers_array
from dreamdb.errors import FieldNotFoundError, InvalidInputError, nearest_hint
from dreamdb.model import ANCHOR, FieldList

__all__ = ["SLAB_NBYTES", "Slab", "anchor_array", "check_anchors", "slabs"]

SLAB_NBYTES: Final = 64 << 20
MAX_ANCHOR: Final = (1 << 64) - 1
Anchors = npt.NDArray[np.uint64]


@dataclass(slots=True)
class Slab:
    """Some checked records, in the order they were given.

    Parameters
    ----------
    anchors : ndarray of uint64 or None
        None when the library is to choose them.
    columns : dict of str to ChunkedArray
        Values of the logical types; fields not given are absent.
    rows : int
        Number of records.
    first_row : int
        Index of the first record in the call, for messages.
    """

    anchors: Anchors | None
    columns: dict[str, pa.ChunkedArray]
    rows: int
    first_row: int = 0

    def take(self, index: npt.NDArray[np.int64]) -> Slab:
        """Return the slab with its records picked and reordered."""
        taken = numbers_array(index)
        return Slab(
            None if self.anchors is None else self.anchors[index],
            {name: take_rows(column, taken) for name, column in self.columns.items()},
            len(index),
            self.first_row,
        )


def take_rows(column: pa.ChunkedArray, index: pa.Array) -> pa.ChunkedArray:
    """Return picked rows of a column."""
    single = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
    return pa.chunked_array([single.take(index)], column.type)


def anchor_array(values: object, *, what: str = "_anchor", first_row: int = 0) -> Anchors:
    """Return anchors as uint64, checked.

    Parameters
    ----------
    values : array-like
        Integers from 0 to 2**64 - 1; numpy, Arrow, a list, or timestamps in nanoseconds.
    what : str
        Name for messages.
    first_row : int
        Index of the first one in the call.

    Raises
    ------
    InvalidInputError
        Naming the row that is null, negative, too large or not an integer.
    """

    def refuse(row: int, why: str) -> InvalidInputError:
        return InvalidInputError(
            f"{what!r} in row {row + first_row}: {why}",
            hint="an anchor is an integer from 0 to 2**64 - 1, by convention nanoseconds",
            field=what,
            row=row + first_row,
        )

    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        column = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ns")).cast(pa.int64())
        if not pa.types.is_integer(column.type) and len(column):
            raise refuse(0, f"the column is {column.type}, not integers")
        if column.null_count:
            row = next(i for i, v in enumerate(column) if not v.is_valid)
            raise refuse(row, "it is null")
        chunks = [
            np.frombuffer(
                c.buffers()[1], c.type.to_pandas_dtype(), len(c), c.offset * c.type.bit_width // 8
            )
            for c in column.chunks
            if len(c)
        ]
        array = np.concatenate(chunks) if chunks else np.empty(0, np.uint64)
    elif isinstance(values, np.ndarray) and values.dtype.kind in "iuM":
        array = values.reshape(-1)
        if array.dtype.kind == "M":
            array = array.astype("M8[ns]").view(np.int64)
    else:
        try:
            listed = list(values)  # type: ignore[call-overload]
        except TypeError:
            raise InvalidInputError(
                f"{what!r} must be a list of integers, not a {type(values).__name__}", field=what
            ) from None
        for row, value in enumerate(listed):
            if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
                raise refuse(row, f"{value!r} is not an integer")
            if not 0 <= int(value) <= MAX_ANCHOR:
                raise refuse(row, f"{value} is out of range")
        return np.array([int(v) for v in listed], np.uint64)
    if array.dtype.kind == "i" and len(array) and int(array.min()) < 0:
        row = int(np.argmax(array < 0))
        raise refuse(row, f"{int(array[row])} is negative")
    return np.ascontiguousarray(array).astype(np.uint64, copy=False)


def check_anchors(anchors: Anchors, *, first_row: int = 0) -> npt.NDArray[np.int64] | None:
    """Return the order that sorts anchors, or None when they are sorted.

    Raises
    ------
    InvalidInputError
        When one occurs twice.
    """
    if len(anchors) < 2 or bool((anchors[1:] > anchors[:-1]).all()):
        return None
    order = np.argsort(anchors, kind="stable")
    ordered = anchors[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(same):
        row = int(order[same[0] + 1])
        raise InvalidInputError(
            f"row {row + first_row} repeats the anchor {int(anchors[row])} of row "
            f"{int(order[same[0]]) + first_row}",
            hint="an anchor names one record: remove one of the rows or give it another anchor",
            field=ANCHOR,
            row=row + first_row,
        )
    return order


def _is_table_like(value: object) -> bool:
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")


def _to_reader(value: Any) -> Iterator[pa.RecordBatch]:
    """Yield record batches of anything tabular."""
    if isinstance(value, pa.RecordBatch):
        yield value
    elif isinstance(value, pa.Table):
        yield from value.to_batches()
    elif isinstance(value, pa.RecordBatchReader):
        yield from value
    elif type(value).__module__.split(".")[0] == "pandas":
        try:
            table = pa.Table.from_pandas(value, preserve_index=False)
        except (pa.ArrowException, OverflowError) as error:
            why = "; ".join(map(str, error.args))
            raise InvalidInputError(f"the pandas frame has no Arrow form: {why}") from None
        yield from table.to_batches()
    elif hasattr(value, "__arrow_c_stream__"):
        yield from pa.RecordBatchReader.from_stream(value)
    elif hasattr(value, "__arrow_c_array__"):
        yield pa.record_batch(value)
    elif isinstance(value, Mapping):
        # Arrow columns from an iterator; a single dictionary is checked column by column.
        try:
            yield from pa.table(dict(value)).to_batches()
        except pa.ArrowException as error:
            raise InvalidInputError(f"the columns do not make a table: {error}") from None
    else:
        raise InvalidInputError(
            f"cannot read records from a {type(value).__name__}",
            hint="give an Arrow table, batch or reader, a pandas or polars frame, a dictionary of "
            "columns, a list of dictionaries, or an iterator of these",
        )


def _pieces(data: object) -> Iterator[tuple[int, object]]:
    """Yield ``(rows, piece)``: tables of bounded size, columns, or lists of dictionaries."""
    if _is_table_like(data) or isinstance(data, (pa.Table, pa.RecordBatch)):
        yield from _bounded(_to_reader(data))
    elif isinstance(data, Mapping):
        first = next(iter(data.values()), ())
        yield len(first) if hasattr(first, "__len__") else 0, data
    elif isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        if data and not isinstance(data[0], Mapping):
            for item in data:
                yield from _pieces(item)
            return
        for start in range(0, len(data), 65_536):
            part = data[start : start + 65_536]
            yield len(part), part
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        yield from _from_iterator(iter(data))
    else:
        yield from _bounded(_to_reader(data))


def _from_iterator(items: Iterator[object]) -> Iterator[tuple[int, object]]:
    first = next(items, None)
    if first is None:
        return
    rest = itertools.chain([first], items)
    if isinstance(first, Sequence):
        for item in rest:
            yield from _pieces(item)
        return
    if not isinstance(first, Mapping) or _holds_columns(first):
        yield from _bounded(batch for item in rest for batch in _to_reader(item))
        return
    while part := list(itertools.islice(rest, 4_096)):
        yield len(part), part


def _holds_columns(value: Mapping[str, Any]) -> bool:
    """Tell a dictionary of columns from a record."""
    return any(isinstance(v, (pa.Array, pa.ChunkedArray)) for v in value.values())


def _bounded(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, object]]:
    """Join small batches and split large ones to about SLAB_NBYTES."""
    held: list[pa.RecordBatch] = []
    nbytes = rows = 0
    schema: pa.Schema | None = None
    for batch in batches:
        schema = batch.schema if schema is None else schema
        if batch.schema != schema:
            raise InvalidInputError(
                "the batches of one call have different schemas",
                hint=f"first: {schema.names}, then: {batch.schema.names}",
            )
        step = batch.num_rows
        if batch.nbytes > SLAB_NBYTES:
            step = max(1, int(batch.num_rows * SLAB_NBYTES / batch.nbytes))
        for start in range(0, batch.num_rows, step or 1):
            part = batch.slice(start, step)
            size = part.nbytes
            if held and nbytes + size > SLAB_NBYTES:
                yield rows, pa.Table.from_batches(held)
                held, nbytes, rows = [], 0, 0
            held.append(part)
            nbytes += size
            rows += part.num_rows
    if schema is not None:
        yield rows, pa.Table.from_batches(held, schema)


def slabs(
    data: object,
    schema: FieldList,
    *,
    anchor: str | None = None,
    fields: Iterable[str] | None = None,
) -> Iterator[Slab]:
    """Yield checked slabs of records.

    Parameters
    ----------
    data : object
        See :meth:`Dataset.append`.
    schema : FieldList
        The fields; each value is checked against its type.
    anchor : str, optional
        The column that holds the anchors; default ``_anchor`` when there is one.
    fields : iterable of str, optional
        Check as if only these fields could be required (for upserts).

    Raises
    ------
    InvalidInputError, FieldNotFoundError
        Naming field and row.
    """
    first_row = 0
    given: bool | None = None
    for rows, piece in _pieces(data):
        if isinstance(piece, pa.Table):
            slab = _from_table(piece, schema, anchor, first_row)
        elif isinstance(piece, Mapping):
            slab = _from_columns(piece, rows, schema, anchor, first_row)
        else:
            slab = _from_dictionaries(piece, schema, anchor, first_row)  # type: ignore[arg-type]
        if given is None:
            given = slab.anchors is not None
        elif given is not (slab.anchors is not None):
            raise InvalidInputError(
                f"row {first_row}: some records carry an anchor and some do not",
                hint="give all records of one call an '_anchor', or none",
                row=first_row,
            )
        _check_required(slab, schema, fields)
        yield slab
        first_row += rows


def _check_required(slab: Slab, schema: FieldList, fields: Iterable[str] | None) -> None:
    if not slab.rows:
        return
    for name in schema if fields is None else fields:
        if schema[name].required and name not in slab.columns:
            raise InvalidInputError(
                f"field {name!r} is required and missing in row {slab.first_row}",
                hint=f"give every record a value for {name!r}",
                field=name,
                row=slab.first_row,
            )


def _unknown(name: object, schema: FieldList, row: int) -> FieldNotFoundError:
    return FieldNotFoundError(
        f"row {row} has the field {name!r}, which is not in the schema",
        hint=nearest_hint(str(name), list(schema), "fields")
        or "add it first: ds.add_fields(Schema().add_text(...))",
        field=name,
        row=row,
    )


def _from_table(table: pa.Table, schema: FieldList, anchor: str | None, first_row: int) -> Slab:
    names = table.column_names
    if len(set(names)) != len(names):
        raise InvalidInputError("a column name occurs twice", hint=f"columns: {names}")
    given = dict(zip(names, table.columns, strict=True))
    return _from_columns(given, table.num_rows, schema, anchor, first_row)


def _from_columns(
    given: Mapping[str, Any], rows: int, schema: FieldList, anchor: str | None, first_row: int
) -> Slab:
    names = list(given)
    column_of_anchor = anchor if anchor is not None else ANCHOR if ANCHOR in names else None
    if anchor is not None and anchor not in names:
        raise FieldNotFoundError(
            f"the anchor column {anchor!r} is not in the data",
            hint=nearest_hint(str(anchor), names, "columns"),
        )
    anchors = None
    columns: dict[str, pa.ChunkedArray] = {}
    for name in names:
        column = given[name]
        if name == column_of_anchor:
            anchors = anchor_array(column, what=name, first_row=first_row)
            _check_length(name, len(anchors), rows)
            if name not in schema:
                continue
        if name not in schema:
            raise _unknown(name, schema, first_row)
        field = schema[name]
        columns[name] = coerce(
            field.type, column, field=name, required=field.required, first_row=first_row
        )
        _check_length(name, len(columns[name]), rows)
    return Slab(anchors, columns, rows, first_row)


def _check_length(name: str, length: int, rows: int) -> None:
    if length != rows:
        raise InvalidInputError(
            f"the column {name!r} has {length} values, the first column {rows}", field=name
        )


def _from_dictionaries(
    records: Sequence[Mapping[str, Any]], schema: FieldList, anchor: str | None, first_row: int
) -> Slab:
    anchor_name = anchor or ANCHOR
    given = 0
    used: dict[str, None] = {}
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise InvalidInputError(
                f"row {row + first_row} is a {type(record).__name__}, not a dictionary",
                row=row + first_row,
            )
        for name in record:
            if name == anchor_name:
                given += 1
                if name not in schema:
                    continue
            if name not in used:
                if name not in schema:
                    raise _unknown(name, schema, row + first_row)
                used[name] = None
    if given not in (0, len(records)):
        row = next(
            i for i, r in enumerate(records) if (anchor_name in r) != (anchor_name in records[0])
        )
        raise InvalidInputError(
            f"row {row + first_row}: some records carry an anchor and some do not",
            hint="give all records of one call an '_anchor', or none",
            row=row + first_row,
        )
    anchors = None
    if given:
        anchors = anchor_array(
            [record[anchor_name] for record in records], what=anchor_name, first_row=first_row
        )
    elif anchor is not None and records:
        raise FieldNotFoundError(f"the anchor column {anchor!r} is not in the data")
    columns = {
        name: coerce(
            schema[name].type,
            [record.get(name) for record in records],
            field=name,
            required=schema[name].required,
            first_row=first_row,
        )
        for name in used
    }
    return Slab(anchors, columns, len(records), first_row)
