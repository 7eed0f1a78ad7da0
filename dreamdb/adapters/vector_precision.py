"""Vectors of an export in fewer bytes, and back.

Source: design/0020 section 8.  ``sq8``: each vector has a scale of its own, the largest magnitude
of its elements over 127, and its elements are rounded to multiples of it.  ``rabitq``: the codes
of one bit per dimension of design/0017.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dreamdb.errors import InvalidInputError
from dreamdb.vectors import Codec, encode_rows, seed_bytes

__all__ = ["decode_vectors", "encode_vectors", "exported_fields", "rabitq_codec", "scale_column"]

Vectors = npt.NDArray[np.float32]

_LEVELS: Final = 127


def scale_column(column: str) -> str:
    """Return the name of the column that holds the scales of a vector column.

    Parameters
    ----------
    column : str
        The vectors' column.
    """
    return f"{column}__scale"


def _refuse(precision: str) -> None:
    if precision not in ("float32", "sq8", "rabitq"):
        raise InvalidInputError(
            f"{precision!r} is not a precision of vectors", hint="'float32', 'sq8' or 'rabitq'"
        )


def rabitq_codec(dim: int) -> Codec:
    """Return the codec that ``rabitq`` stands for: one bit per dimension, always the same rotation.

    Parameters
    ----------
    dim : int
        Length of each vector.
    """
    return Codec("rabitq-1", dim, seed_bytes(0))


def exported_fields(column: str, dim: int, precision: str) -> list[pa.Field]:
    """Return the columns that vectors become.

    Parameters
    ----------
    column : str
        The vectors' column.
    dim : int
        Length of each vector.
    precision : str
        ``"float32"``, ``"sq8"`` or ``"rabitq"``.

    Raises
    ------
    InvalidInputError
        For a precision that there is not.
    """
    _refuse(precision)
    if precision == "float32":
        return [pa.field(column, pa.list_(pa.float32(), dim))]
    if precision == "rabitq":
        return [pa.field(column, pa.list_(pa.uint8(), rabitq_codec(dim).width))]
    return [
        pa.field(column, pa.list_(pa.int8(), dim)),
        pa.field(scale_column(column), pa.float32()),
    ]


def encode_vectors(array: pa.Array, precision: str) -> list[pa.Array]:
    """Return vectors as the columns of :func:`exported_fields`.

    Parameters
    ----------
    array : Array
        Fixed-size lists of float32; null stays null.
    precision : str
        ``"float32"``, ``"sq8"`` or ``"rabitq"``.

    Raises
    ------
    InvalidInputError
        For NaN and infinity, which ``rabitq`` cannot hold.
    """
    _refuse(precision)
    if precision == "float32":
        return [array]
    dim = array.type.list_size
    nulls = array.is_null()
    flat = pc.fill_null(_elements(array), 0.0)
    matrix = np.asarray(flat.to_numpy(zero_copy_only=False), np.float32).reshape(-1, dim)
    if precision == "rabitq":
        codec = rabitq_codec(dim)
        rows = pa.array(encode_rows(codec, matrix).reshape(-1), pa.uint8())
        return [pa.FixedSizeListArray.from_arrays(rows, codec.width, mask=nulls)]
    scales = np.abs(matrix).max(axis=1) / np.float32(_LEVELS)
    divisor = np.where(scales > 0, scales, np.float32(1))
    codes = np.clip(np.rint(matrix / divisor[:, None]), -_LEVELS, _LEVELS).astype(np.int8)
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(codes.reshape(-1), pa.int8()), dim, mask=nulls
    )
    return [vectors, pc.if_else(nulls, None, pa.array(scales, pa.float32()))]


def _elements(array: pa.Array) -> pa.Array:
    """Return the elements of all vectors; those of a null vector as nulls."""
    dim = array.type.list_size
    child = array.values.slice(array.offset * dim, len(array) * dim)
    if not array.null_count:
        return child
    valid = np.repeat(array.is_valid().to_numpy(zero_copy_only=False), dim)
    return pc.if_else(pa.array(valid), child, None)


def decode_vectors(codes: npt.NDArray[Any], scales: npt.NDArray[np.float32]) -> Vectors:
    """Return the vectors that ``sq8`` codes stand for.

    Parameters
    ----------
    codes : ndarray of int8, shape (n, dim)
        The codes.
    scales : ndarray of float32, shape (n,)
        One scale per vector.

    Returns
    -------
    ndarray of float32, shape (n, dim)
        Each element within half a scale of the original.
    """
    out: Vectors = codes.astype(np.float32) * scales[:, None]
    return out
