"""Vectors and their stored codes as Arrow arrays.

A field whose type has a codec is stored as a tensor of uint8: everything that cuts, moves, merges
and compares values handles codes as bytes.  What users hand in is encoded once, by ``coerce``;
what leaves is decoded once, in the output.

Source: design/0017 section 8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs.columns import as_bytes, bools_to_bits, validity_of
from dreamdb.codecs.logical import arrow_type
from dreamdb.types import FieldType
from dreamdb.vectors import decode_rows, encode_unchecked, parse_codec, stored_type

__all__ = ["decode_vectors", "encode_vectors", "rows_of_lists", "vectors_array"]


def rows_of_lists(array: pa.Array[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return the values of a fixed-size list array, shape (n, size); whatever is under nulls."""
    kind, size = np.dtype(dtype), array.type.list_size
    child = array.values
    at = (child.offset + array.offset * size) * kind.itemsize
    flat = np.frombuffer(child.buffers()[1] or b"", kind, len(array) * size, at)
    return flat.reshape(len(array), size)


def vectors_array(
    rows: npt.NDArray[Any], dtype: pa.DataType, valid: npt.NDArray[np.bool_] | None = None
) -> pa.Array[Any]:
    """Return rows as a fixed-size list array of an Arrow type, without copying.

    Parameters
    ----------
    rows : ndarray, shape (n, size)
        Contiguous.
    dtype : pyarrow.DataType
        The list's type.
    valid : ndarray of bool, shape (n,), optional
        Which rows are not null.
    """
    child = pa.Array.from_buffers(
        dtype.value_type, rows.size, [None, pa.py_buffer(as_bytes(rows.reshape(-1)))]
    )
    bitmap, nulls = None, 0
    if valid is not None and not valid.all():
        bitmap, nulls = pa.py_buffer(bools_to_bits(valid)), int(len(valid) - valid.sum())
    return pa.Array.from_buffers(dtype, len(rows), [bitmap], nulls, children=[child])


def encode_vectors(ftype: FieldType, array: pa.Array[Any]) -> pa.Array[Any]:
    """Return checked vectors as the codes that a field stores.

    Parameters
    ----------
    ftype : FieldType
        An embedding with a codec.
    array : FixedSizeListArray of float32
        Finite vectors; nulls stay null.

    Raises
    ------
    InvalidInputError
        When numbers are too large for the codec; ``details`` has the ``row``.
    """
    codec = parse_codec(ftype.codec, ftype.dim)
    rows = np.ascontiguousarray(rows_of_lists(array, np.float32))
    valid = validity_of(array)
    if valid is not None:
        rows = np.where(valid[:, None], rows, np.float32(0))
    return vectors_array(encode_unchecked(codec, rows), arrow_type(stored_type(ftype)), valid)


def decode_vectors(ftype: FieldType, array: pa.Array[Any]) -> pa.Array[Any]:
    """Return stored codes as vectors: the least-squares reconstruction.

    Parameters
    ----------
    ftype : FieldType
        An embedding with a codec.
    array : FixedSizeListArray of uint8
        Codes as :func:`encode_vectors` returns them.
    """
    codec = parse_codec(ftype.codec, ftype.dim)
    valid = validity_of(array)
    rows = decode_rows(codec, rows_of_lists(array, np.uint8))
    if valid is not None:
        rows[~valid] = 0
    return vectors_array(rows, arrow_type(ftype), valid)
