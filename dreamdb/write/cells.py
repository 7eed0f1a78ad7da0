"""Arrays with some values replaced."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array

__all__ = ["place_cells", "replace_cells"]

Positions = npt.NDArray[np.int64]


def _single(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if values.num_chunks == 1:
        return values.chunk(0)
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.nulls(0, values.type)


def _fixed_width_rows(array: pa.Array) -> npt.NDArray[np.void] | None:
    """Return a vector array without nulls as one numpy item per row, else None."""
    if not pa.types.is_fixed_size_list(array.type) or array.null_count:
        return None
    child = array.type.value_type
    if not pa.types.is_primitive(child) or pa.types.is_boolean(child):
        return None
    width = array.type.list_size * child.bit_width // 8
    buffer = array.values.buffers()[1]
    at = array.offset * width + array.values.offset * child.bit_width // 8
    return np.frombuffer(buffer, np.dtype((np.void, width)), len(array), at)


def replace_cells(old: pa.Array, rows: Positions, values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a copy of an array with the values at some rows replaced.

    Parameters
    ----------
    old : Array
        The values before.
    rows : ndarray of int64
        Increasing rows to replace.
    values : ChunkedArray or Array
        One value per row, of the same type.
    """
    new = _single(values)
    before, after = _fixed_width_rows(old), _fixed_width_rows(new)
    if before is not None and after is not None:
        changed = before.copy()
        changed[rows] = after
        child = pa.Array.from_buffers(
            old.type.value_type,
            len(old) * old.type.list_size,
            [None, pa.py_buffer(changed.view(np.uint8))],
        )
        return pa.FixedSizeListArray.from_arrays(child, type=old.type)
    if len(rows) == len(old):
        return new
    index = np.arange(len(old), dtype=np.int64)
    index[rows] = len(old) + np.arange(len(rows))
    return pa.concat_arrays([old, new]).take(numbers_array(index))


def place_cells(count: int, rows: Positions, values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return an array of ``count`` values that is null except at some rows."""
    new = _single(values)
    index = np.zeros(count, np.int64)
    index[rows] = np.arange(len(rows))
    missing = np.ones(count, np.bool_)
    missing[rows] = False
    return new.take(numbers_array(index, ~missing))
