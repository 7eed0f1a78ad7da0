"""The shape in which values leave the library: one Arrow schema per stream.

Source: design/0004 section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa

from dreamdb.codecs import arrow_type, decode_vectors, tensor_from_storage, tensor_type
from dreamdb.errors import InvalidInputError
from dreamdb.model import ANCHOR, FieldList
from dreamdb.types import FieldType

__all__ = ["CATEGORICALS", "output_array", "output_schema", "output_type"]

CATEGORICALS = ("string", "dictionary")


def output_type(ftype: FieldType, categoricals: str = "string") -> pa.DataType:
    """Return the Arrow type a field has in batches and tables.

    Parameters
    ----------
    ftype : FieldType
        The field's type.
    categoricals : str
        ``"string"`` or ``"dictionary"``.
    """
    if ftype.kind == "tensor":
        return tensor_type(ftype)
    if ftype.kind == "categorical" and categoricals == "dictionary":
        return pa.dictionary(pa.int32(), pa.string())
    return arrow_type(ftype)


def output_schema(
    schema: FieldList, fields: Sequence[str], *, categoricals: str = "string", anchor: bool = True
) -> pa.Schema:
    """Return the Arrow schema of a scan.

    Parameters
    ----------
    schema : FieldList
        The stored schema.
    fields : sequence of str
        Which fields, in order.
    categoricals : str
        ``"string"`` or ``"dictionary"``.
    anchor : bool
        Whether ``_anchor`` comes first.

    Raises
    ------
    InvalidInputError
        When ``categoricals`` is neither choice.
    """
    if categoricals not in CATEGORICALS:
        raise InvalidInputError(
            f"categoricals={categoricals!r} is not a choice", hint="'string' or 'dictionary'"
        )
    return _schema_of(schema, tuple(fields), categoricals, anchor)


@lru_cache(maxsize=256)
def _schema_of(
    schema: FieldList, fields: tuple[str, ...], categoricals: str, anchor: bool
) -> pa.Schema:
    columns = [pa.field(ANCHOR, pa.uint64(), nullable=False)] if anchor else []
    for name in fields:
        field = schema[name]
        columns.append(
            pa.field(name, output_type(field.type, categoricals), nullable=not field.required)
        )
    return pa.schema(columns)


def output_array(ftype: FieldType, array: pa.Array, dtype: pa.DataType) -> pa.Array:
    """Convert a stored array to its output type; codes become the vectors they stand for.

    Vectors come with offset 0 and a child of exactly their rows, so that
    ``column.values.to_numpy().reshape(rows, dim)`` is right; nothing is copied.
    """
    if ftype.kind in ("embedding", "tensor"):
        if ftype.codec is not None:
            return decode_vectors(ftype, array)
        array = _rebase(array)
        if ftype.kind == "tensor":
            return tensor_from_storage(ftype, array)
        return array
    if pa.types.is_dictionary(dtype):
        return array.dictionary_encode().cast(dtype)
    return array


def _rebase(array: pa.Array) -> pa.Array:
    size = array.type.list_size
    child = array.values
    if array.offset == 0 and len(child) == len(array) * size and child.offset == 0:
        return array
    child = child.slice(array.offset * size, len(array) * size)
    bitmap, nulls = None, array.null_count
    if nulls:
        packed = array.is_valid()
        if packed.offset % 8:
            packed = pa.concat_arrays([packed, pa.nulls(0, pa.bool_())])
        bitmap = packed.buffers()[1]
        if packed.offset:
            bitmap = bitmap.slice(packed.offset // 8)
    return pa.Array.from_buffers(array.type, len(array), [bitmap], nulls, children=[child])
