"""Arrow arrays from numpy memory, without copies and without pandas.

``pyarrow.array`` imports pandas where it is installed, which costs more than most commands take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs.columns import Bools, as_bytes, bools_to_bits, fixed_values, numpy_type
from dreamdb.codecs.place import Place

__all__ = [
    "bool_array",
    "bytes_arrays",
    "fixed_array",
    "joined_array",
    "list_array",
    "numbers_array",
    "spread_vectors",
    "struct_array",
    "validity_buffer",
    "vector_array",
]

CHUNK_NBYTES: Final = 1 << 30
_MAX_VALUE_NBYTES: Final = (1 << 31) - 1


def validity_buffer(validity: Bools | None) -> tuple[pa.Buffer | None, int]:
    """Return the bitmap of a validity and how many rows are null."""
    if validity is None:
        return None, 0
    nulls = len(validity) - int(np.count_nonzero(validity))
    if nulls == 0:
        return None, 0
    return pa.py_buffer(as_bytes(bools_to_bits(validity))), nulls


def fixed_array(
    dtype: pa.DataType, values: npt.NDArray[Any], validity: Bools | None
) -> pa.Array[Any]:
    """Return an array over fixed-width values of the same width."""
    bitmap, nulls = validity_buffer(validity)
    return pa.Array.from_buffers(
        dtype, len(values), [bitmap, pa.py_buffer(as_bytes(values))], nulls
    )


def numbers_array(values: npt.NDArray[Any], validity: Bools | None = None) -> pa.Array[Any]:
    """Return a numpy array of numbers as Arrow, sharing its memory.

    ``pyarrow.array`` does the same but imports pandas when it is installed, which takes longer
    than a first batch may.

    Parameters
    ----------
    values : ndarray
        One-dimensional, of any integer or float type.
    validity : ndarray of bool, optional
        Which values are not null.
    """
    return fixed_array(pa.from_numpy_dtype(values.dtype), values, validity)


def bool_array(values: Bools, validity: Bools | None) -> pa.Array[Any]:
    """Return a boolean array."""
    bitmap, nulls = validity_buffer(validity)
    bits = pa.py_buffer(as_bytes(bools_to_bits(values)))
    return pa.Array.from_buffers(pa.bool_(), len(values), [bitmap, bits], nulls)


def vector_array(dtype: Any, values: npt.NDArray[Any], validity: Bools | None) -> pa.Array[Any]:
    """Return a fixed-size list array over an array of rows with as many elements each."""
    child = fixed_array(dtype.value_type, values.reshape(-1), None)
    bitmap, nulls = validity_buffer(validity)
    return pa.Array.from_buffers(dtype, len(values), [bitmap], nulls, 0, [child])


def spread_vectors(vectors: Any, validity: Bools) -> pa.Array[Any]:
    """Return vectors without nulls at the rows that ``validity`` marks, null elsewhere."""
    dtype = vectors.type
    rows = np.zeros((len(validity), dtype.list_size), numpy_type(dtype.value_type))
    rows[validity] = fixed_values(vectors.values, rows.dtype).reshape(-1, dtype.list_size)
    return vector_array(dtype, rows, validity)


def joined_array(arrays: Sequence[pa.Array[Any]]) -> pa.Array[Any]:
    """Return one or more arrays of a type as one; a single one is not copied."""
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def list_array(
    dtype: pa.DataType, counts: npt.NDArray[Any], validity: Bools | None, items: pa.Array[Any]
) -> pa.Array[Any]:
    """Return a list array.

    Parameters
    ----------
    dtype : pyarrow.DataType
        The list type.
    counts : ndarray of int, shape (rows,)
        Number of items of each row, 0 for null rows.
    validity : ndarray of bool, optional
        Which rows hold a value.
    items : pyarrow.Array
        The items of all rows, one after the other.
    """
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    bitmap, nulls = validity_buffer(validity)
    buffers = [bitmap, pa.py_buffer(as_bytes(offsets))]
    return pa.Array.from_buffers(dtype, len(counts), buffers, nulls, 0, [items])


def struct_array(
    dtype: pa.DataType, rows: int, validity: Bools | None, members: Sequence[pa.Array[Any]]
) -> pa.Array[Any]:
    """Return a struct array.

    Parameters
    ----------
    dtype : pyarrow.DataType
        The struct type.
    rows : int
        Number of rows.
    validity : ndarray of bool, optional
        Which rows hold a value.
    members : sequence of pyarrow.Array
        One column per member, in the type's order.
    """
    bitmap, nulls = validity_buffer(validity)
    return pa.Array.from_buffers(dtype, rows, [bitmap], nulls, 0, list(members))


def bytes_arrays(
    dtype: pa.DataType,
    data: pa.Buffer,
    ends: npt.NDArray[np.int64],
    validity: Bools | None,
    place: Place,
) -> list[pa.Array[Any]]:
    """Return binary or string arrays with 32-bit offsets over one buffer of any size.

    Parameters
    ----------
    dtype : pyarrow.DataType
        ``binary`` or ``string``.
    data : pyarrow.Buffer
        The values one after the other; not copied.
    ends : ndarray of int64, shape (rows + 1,)
        Start of the first value in ``data``, then the end of each.
    validity : ndarray of bool, optional
        Which rows hold a value.
    place : Place
        For messages.

    Returns
    -------
    list of pyarrow.Array
        Several when the values have more than 1 GiB.
    """
    lengths = np.diff(ends)
    if len(lengths) and int(lengths.max()) > _MAX_VALUE_NBYTES:
        row = int(lengths.argmax())
        raise place.error(
            row,
            f"a value of {int(lengths[row])} bytes is above the limit of 2 GiB",
            "split it, or store a reference to it",
        )
    arrays: list[pa.Array[Any]] = []
    start = 0
    while start < len(lengths) or not arrays:
        stop = int(np.searchsorted(ends, ends[start] + CHUNK_NBYTES, side="right")) - 1
        stop = min(max(stop, start + 1), len(lengths))
        offsets = (ends[start : stop + 1] - ends[start]).astype(np.int32)
        bitmap, nulls = validity_buffer(None if validity is None else validity[start:stop])
        part = data.slice(int(ends[start]), int(ends[stop] - ends[start]))
        buffers = [bitmap, pa.py_buffer(as_bytes(offsets)), part]
        arrays.append(pa.Array.from_buffers(dtype, stop - start, buffers, nulls))
        start = stop
    return arrays
