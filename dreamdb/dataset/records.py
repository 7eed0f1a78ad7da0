"""Single records as Python values.

Source: design/0004 section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from dreamdb.model import ANCHOR, FieldList
from dreamdb.types import FieldType

__all__ = ["column_values", "records_of"]


def _vector_rows(ftype: FieldType, array: pa.Array) -> list[Any]:
    storage = array.storage if isinstance(array, pa.ExtensionArray) else array
    size = storage.type.list_size
    child = storage.values.slice(storage.offset * size, len(storage) * size)
    dtype = np.dtype(ftype.dtype or "float32")
    flat = np.frombuffer(child.buffers()[1], dtype, len(child), child.offset * dtype.itemsize)
    shaped = flat.reshape(len(storage), *(ftype.shape or (size,)))
    if not storage.null_count:
        return [row.copy() for row in shaped]
    return [
        row.copy() if valid else None
        for row, valid in zip(shaped, storage.is_valid().to_pylist(), strict=True)
    ]


def column_values(ftype: FieldType, array: pa.Array) -> list[Any]:
    """Return a column as Python values: bytes, numpy vectors, numbers, texts, None.

    Parameters
    ----------
    ftype : FieldType
        The field's type.
    array : Array
        Of the output type.
    """
    if ftype.kind in ("embedding", "tensor"):
        return _vector_rows(ftype, array)
    if ftype.kind == "timestamp":
        # Nanoseconds do not fit datetime; numpy keeps them.
        values = array.cast(pa.int64()).to_pylist()
        return [None if v is None else np.datetime64(v, "ns") for v in values]
    out: list[Any] = array.to_pylist()
    return out


def records_of(schema: FieldList, columns: Mapping[str, pa.Array]) -> list[dict[str, Any]]:
    """Return columns as one dictionary per record.

    Parameters
    ----------
    schema : FieldList
        The fields.
    columns : mapping of str to Array
        Columns of the output types, ``_anchor`` among them.
    """
    lists = {
        name: array.to_pylist() if name == ANCHOR else column_values(schema[name].type, array)
        for name, array in columns.items()
    }
    names = list(lists)
    return [dict(zip(names, row, strict=True)) for row in zip(*lists.values(), strict=True)]
