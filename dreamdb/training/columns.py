"""Columns of a relation: stored beside each other in several datasets, or computed.

Source: design/0019 section 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dreamdb.codecs import arrow_type
from dreamdb.errors import ExpressionError, InvalidInputError
from dreamdb.model import ANCHOR
from dreamdb.read import output_array
from dreamdb.tracks import NUMPY_KINDS, View, gather, gather_numpy, increasing
from dreamdb.types import FieldType

__all__ = [
    "Column",
    "Derived",
    "Stored",
    "Values",
    "derived_column",
    "named_columns",
    "read_arrow",
    "read_values",
]

Positions = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Values = tuple[Any, Bools | None]
"""An array or a list, and which of its values are there (None: all)."""

_KIND_OF: Final = (
    (pa.types.is_boolean, "bool"),
    (pa.types.is_integer, "int"),
    (pa.types.is_floating, "float"),
    (pa.types.is_string, "text"),
    (pa.types.is_timestamp, "timestamp"),
)


@dataclass(frozen=True)
class Stored:
    """A field of one of the relation's datasets.

    Parameters
    ----------
    side : int
        Which dataset.
    field : str
        Its field, or ``_anchor``.
    type : FieldType
        What the values are.
    """

    side: int
    field: str
    type: FieldType

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of the values."""
        return arrow_type(self.type)

    def moved(self, by: int) -> Stored:
        """Return the column after a join, where its dataset stands further back.

        Parameters
        ----------
        by : int
            How much further.
        """
        return Stored(self.side + by, self.field, self.type)


@dataclass(frozen=True)
class Derived:
    """A column that is computed from others.

    Parameters
    ----------
    expression : pyarrow.compute.Expression
        How.
    inputs : mapping of str to Column
        The columns it names.
    type : FieldType
        What the values are.
    """

    expression: pc.Expression
    inputs: Mapping[str, Column]
    type: FieldType

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of the values."""
        return arrow_type(self.type)

    def moved(self, by: int) -> Derived:
        """Return the column after a join, where its dataset stands further back.

        Parameters
        ----------
        by : int
            How much further.
        """
        inputs = {name: column.moved(by) for name, column in self.inputs.items()}
        return Derived(self.expression, inputs, self.type)


Column = Stored | Derived


def derived_column(name: str, expression: pc.Expression, columns: Mapping[str, Column]) -> Derived:
    """Return a computed column, its type found by computing it over no rows.

    Parameters
    ----------
    name : str
        For messages.
    expression : pyarrow.compute.Expression
        Over ``columns``.
    columns : mapping of str to Column
        What it may name.

    Raises
    ------
    InvalidInputError
        When it names something else, or its type has no counterpart.
    """
    inputs = named_columns(expression, columns)
    try:
        dtype = _compute(expression, _empty(inputs)).type
    except pa.ArrowException as error:
        raise ExpressionError(
            f"the column {name!r} cannot be computed as {expression}: {str(error).splitlines()[0]}",
            hint=f"columns: {', '.join(columns)}",
        ) from None
    for is_kind, kind in _KIND_OF:
        if is_kind(dtype):
            return Derived(expression, inputs, FieldType(kind))
    raise InvalidInputError(
        f"the column {name!r} would be {dtype}", hint="compute numbers, booleans, texts or times"
    )


def named_columns(expression: pc.Expression, columns: Mapping[str, Column]) -> dict[str, Column]:
    """Return the columns that an expression names.

    Parameters
    ----------
    expression : pyarrow.compute.Expression
        Over some of ``columns``.
    columns : mapping of str to Column
        What it may name.
    """
    text = str(expression)
    named = {n: c for n, c in columns.items() if n in text}
    # "a" stands in the text "label" too: a column is named when nothing works without it.
    for name in list(named):
        others = {n: c for n, c in named.items() if n != name}
        try:
            _compute(expression, _empty(others))
        except pa.ArrowException:
            continue
        named = others
    return named


def _empty(columns: Mapping[str, Column]) -> pa.Table:
    return pa.table({n: pa.nulls(0, c.arrow) for n, c in columns.items()} or {"\0": pa.nulls(0)})


def _compute(expression: pc.Expression, table: pa.Table) -> pa.Array:
    import pyarrow.dataset as pads

    found = pads.dataset(table).to_table(columns={"\0": expression}, use_threads=False)
    return found.column(0).combine_chunks()


def read_arrow(
    views: Sequence[View],
    columns: Mapping[str, Column],
    names: Iterable[str],
    rows: Sequence[Positions],
) -> dict[str, pa.Array]:
    """Return some columns as Arrow arrays.

    Parameters
    ----------
    views : sequence of View
        The datasets.
    columns : mapping of str to Column
        The relation's columns.
    names : iterable of str
        Which; ``_anchor`` is that of the first dataset.
    rows : sequence of ndarray of int64
        For each dataset the rows of its timeline; -1 where a left join found none.
    """
    out = {}
    for name in names:
        column = Stored(0, ANCHOR, FieldType("anchor")) if name == ANCHOR else columns[name]
        out[name] = _arrow_column(views, column, rows)
    return out


def _arrow_column(views: Sequence[View], column: Column, rows: Sequence[Positions]) -> pa.Array:
    if isinstance(column, Derived):
        inputs = read_arrow(views, column.inputs, column.inputs, rows)
        table = pa.table(inputs or {"\0": pa.nulls(len(rows[0]))})
        try:
            return _compute(column.expression, table).cast(column.arrow)
        except pa.ArrowException as error:
            raise ExpressionError(f"{column.expression} cannot be computed: {error}") from None
    at = rows[column.side]
    missing = at < 0
    array = gather(views[column.side].track(column.field), np.maximum(at, 0))
    if column.field != ANCHOR:
        array = output_array(column.type, array, arrow_type(column.type))
    if missing.any():
        array = pc.if_else(pa.array(~missing), array, pa.scalar(None, array.type))
    return array


def read_values(
    views: Sequence[View],
    columns: Mapping[str, Column],
    names: Iterable[str],
    rows: Sequence[Positions],
) -> dict[str, Values]:
    """Return some columns as numpy arrays and lists.

    Parameters
    ----------
    views, columns, names, rows
        As in :func:`read_arrow`.

    Returns
    -------
    dict of str to (ndarray or list, ndarray of bool or None)
        Numbers, times (int64 nanoseconds), booleans, vectors and tensors as arrays, with zero
        where there is no value; others as lists, with None there.  Lists of numbers are lists of
        arrays.
    """
    out: dict[str, Values] = {}
    for name in names:
        column = Stored(0, ANCHOR, FieldType("anchor")) if name == ANCHOR else columns[name]
        if isinstance(column, Stored) and column.type.kind in NUMPY_KINDS:
            out[name] = _numpy_column(views, column, rows)
        else:
            out[name] = arrow_values(_arrow_column(views, column, rows))
    return out


def _numpy_column(views: Sequence[View], column: Stored, rows: Sequence[Positions]) -> Values:
    at = rows[column.side]
    missing = at < 0
    ordered, order = increasing(np.maximum(at, 0))
    values, valid = gather_numpy(views[column.side].track(column.field), ordered, order)
    if missing.any():
        valid = ~missing if valid is None else valid & ~missing
        values[missing] = 0
    return values, valid


def arrow_values(array: pa.Array) -> Values:
    """Return an Arrow array as numpy values or a list.

    Parameters
    ----------
    array : pyarrow.Array
        Of a logical type.
    """
    valid = None
    if array.null_count:
        valid = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    dtype = array.type
    if pa.types.is_timestamp(dtype):
        array, dtype = array.cast(pa.int64()), pa.int64()
    if pa.types.is_boolean(dtype) or pa.types.is_integer(dtype) or pa.types.is_floating(dtype):
        filled = array.fill_null(False if pa.types.is_boolean(dtype) else 0)
        return np.array(filled.to_numpy(zero_copy_only=False)), valid
    if pa.types.is_list(dtype) and not pa.types.is_string(dtype.value_type):
        return _number_lists(array), valid
    return array.to_pylist(), valid


def _number_lists(array: pa.Array) -> list[Any]:
    offsets = array.offsets.to_numpy().tolist()
    flat = np.array(array.values.to_numpy(zero_copy_only=False))
    gone = None if not array.null_count else ~array.is_valid().to_numpy(zero_copy_only=False)
    return [
        None if gone is not None and gone[i] else flat[offsets[i] : offsets[i + 1]]
        for i in range(len(array))
    ]
