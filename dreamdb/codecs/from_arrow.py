"""Arrow arrays of any suitable type as arrays of a field's logical type.

Source: design/0004 section 3.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dreamdb.codecs.arrays import (
    bytes_arrays,
    joined_array,
    list_array,
    spread_vectors,
    struct_array,
)
from dreamdb.codecs.columns import fixed_values, numpy_type, validity_of
from dreamdb.codecs.from_numpy import convert_numbers, convert_vectors, nanoseconds, shape_error
from dreamdb.codecs.logical import (
    arrow_type,
    is_any_binary,
    is_any_string,
    tensor_to_storage,
)
from dreamdb.codecs.place import Place, a_field
from dreamdb.errors import InvalidInputError
from dreamdb.types import BLOB_KINDS, STRING_KINDS, FieldType

__all__ = ["convert_arrow"]

_UNIT_NS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_DAY_NS: Final = 86_400_000_000_000


def convert_arrow(ftype: FieldType, array: pa.Array[Any], place: Place) -> list[pa.Array[Any]]:
    """Convert an Arrow array, without a copy where its memory already fits.

    Parameters
    ----------
    ftype : FieldType
        The field's type.
    array : pyarrow.Array
        Values of any Arrow type.
    place : Place
        For messages.

    Returns
    -------
    list of pyarrow.Array
        Arrays of the logical type; several when 32-bit offsets do not reach.

    Raises
    ------
    InvalidInputError
        When the type does not fit or a value is refused.
    """
    _validate(array, place)
    return _convert(ftype, array, place)


def _validate(array: pa.Array[Any], place: Place) -> None:
    """Check offsets, indices and UTF-8 of an array that may come from anywhere."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise place.error(_first_invalid(array), f"the Arrow array is not valid: {error}") from None


def _first_invalid(array: pa.Array[Any]) -> int | None:
    """Return the row at which a slice stops being valid, or None when it can't be told."""
    low, high = 0, len(array)
    while low < high:
        middle = (low + high) // 2
        try:
            array.slice(low, middle + 1 - low).validate(full=True)
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle + 1
    return low if low < len(array) else None


def _wrong_type(ftype: FieldType, array: pa.Array[Any], place: Place, hint: str) -> Exception:
    return place.error(
        0 if len(array) else None, f"Arrow type {array.type} given for {a_field(ftype)}", hint
    )


def _convert(ftype: FieldType, array: Any, place: Place) -> list[pa.Array[Any]]:
    types = pa.types
    dtype = array.type
    if types.is_null(dtype):
        return [pa.nulls(len(array), arrow_type(ftype))]
    if isinstance(dtype, pa.FixedShapeTensorType) and ftype.kind == "tensor":
        return _convert_tensors(ftype, array, place)
    if isinstance(dtype, pa.BaseExtensionType):
        return _convert(ftype, array.storage, place)
    if types.is_dictionary(dtype):
        if types.is_string_view(dtype.value_type):
            # polars' categoricals; Arrow cannot look values of this type up.
            values = array.dictionary.cast(pa.large_string())
            array = pa.DictionaryArray.from_arrays(array.indices, values)
        return _convert(ftype, array.dictionary_decode(), place)
    if types.is_run_end_encoded(dtype):
        return _convert(ftype, pc.run_end_decode(array), place)
    if ftype.kind in BLOB_KINDS or ftype.kind in STRING_KINDS:
        return _convert_bytes(ftype, array, place)
    if ftype.kind in ("embedding", "tensor"):
        return [_convert_fixed(ftype, array, place)]
    if ftype.kind == "list":
        return [_convert_lists(ftype, array, place)]
    if ftype.kind == "struct":
        return [_convert_structs(ftype, array, place)]
    return [_convert_numbers(ftype, array, place)]


def _convert_bytes(ftype: FieldType, array: Any, place: Place) -> list[pa.Array[Any]]:
    types = pa.types
    dtype, wanted = array.type, arrow_type(ftype)
    if ftype.kind in STRING_KINDS and not is_any_string(dtype):
        hint = "cast the column to string first"
        if is_any_binary(dtype):
            hint = "decode the bytes, or use a binary field"
        raise _wrong_type(ftype, array, place, hint)
    if ftype.kind in BLOB_KINDS and not is_any_binary(dtype):
        hint = "give the encoded bytes"
        if is_any_string(dtype):
            hint = "encode the strings, or use a text or string field"
        raise _wrong_type(ftype, array, place, hint)
    if dtype == wanted:
        return [array]
    if types.is_binary_view(dtype) or types.is_string_view(dtype):
        # Views lie anywhere; gathering them needs one copy, with offsets of any size.
        array = array.cast(pa.large_binary() if types.is_binary_view(dtype) else pa.large_string())
        dtype = array.type
    elif types.is_fixed_size_binary(dtype):
        array = array.cast(pa.large_binary())
    rows = len(array)
    _, offsets, data = array.buffers()
    ends = np.zeros(1, np.int64)
    if offsets is not None and rows:
        ends = np.frombuffer(memoryview(offsets), np.int64, rows + 1, array.offset * 8)
    if data is None:
        data = pa.py_buffer(b"")
    return bytes_arrays(wanted, data, ends, validity_of(array), place)


def _convert_numbers(ftype: FieldType, array: Any, place: Place) -> pa.Array[Any]:
    types = pa.types
    dtype, wanted = array.type, arrow_type(ftype)
    if dtype == wanted and ftype.kind != "timestamp":
        return array
    validity = validity_of(array)
    if types.is_boolean(dtype):
        values = np.zeros(len(array), np.bool_)
        return convert_numbers(ftype, values, validity, place)
    if types.is_integer(dtype) or types.is_floating(dtype):
        return convert_numbers(ftype, fixed_values(array, numpy_type(dtype)), validity, place)
    if ftype.kind == "timestamp":
        factor = None
        if types.is_timestamp(dtype):
            # Zoned timestamps count from the same instant, so their zone can simply go.
            factor = _UNIT_NS[dtype.unit]
        elif types.is_date64(dtype):
            factor = _UNIT_NS["ms"]
        elif types.is_date32(dtype):
            factor = _DAY_NS
        if factor is not None:
            width = np.int32 if types.is_date32(dtype) else np.int64
            numbers = fixed_values(array, width).astype(np.int64, copy=False)
            converted = nanoseconds(numbers, factor, validity, place)
            return array if dtype == wanted else converted
    raise _wrong_type(ftype, array, place, f"cast the column to {wanted} first")


def _convert_tensors(ftype: FieldType, array: Any, place: Place) -> list[pa.Array[Any]]:
    try:
        storage = tensor_to_storage(ftype, array)
    except InvalidInputError as error:
        raise place.error(0, str(error), error.hint) from None
    return [_convert_fixed(ftype, storage, place)]


def _convert_fixed(ftype: FieldType, array: Any, place: Place) -> pa.Array[Any]:
    """Convert (nested) fixed-size or equally long lists of numbers."""
    wanted: Any = arrow_type(ftype)
    shape = (ftype.dim or 0,) if ftype.kind == "embedding" else ftype.shape or ()
    rows, validity = len(array), validity_of(array)
    # A flat list of a tensor's elements is how this library hands tensors out, so it takes it.
    flat = pa.types.is_fixed_size_list(array.type) and array.type.list_size == wanted.list_size
    sizes = (wanted.list_size,) if flat else shape
    present = np.arange(rows) if validity is None else np.flatnonzero(validity)
    elements = array
    for depth, size in enumerate(sizes):
        elements = _flatten_level(ftype, elements, (*shape[:depth], size), present, place)
    types = pa.types
    if not (types.is_integer(elements.type) or types.is_floating(elements.type)):
        hint = f"elements must be numbers, best {wanted.value_type}"
        raise _wrong_type(ftype, array, place, hint)
    if elements.null_count:
        position = int((~_require(validity_of(elements))).argmax())
        row = int(present[position // wanted.list_size])
        raise place.error(row, "a vector that is not null has null elements")
    numbers = fixed_values(elements, numpy_type(elements.type))
    inner = place if validity is None else place.among(present)
    converted = convert_vectors(ftype, numbers.reshape(len(present), *shape), None, inner)
    if array.type == wanted:
        return array
    return converted if validity is None else spread_vectors(converted, validity)


def _require(validity: Any) -> Any:
    assert validity is not None
    return validity


def _flatten_level(
    ftype: FieldType, array: Any, shape: tuple[int, ...], present: Any, place: Place
) -> Any:
    """Return the elements of lists that all have ``shape[-1]`` of them; null lists are left out."""
    types = pa.types
    size = shape[-1]
    per_row = math.prod(shape[:-1])
    if types.is_fixed_size_list(array.type):
        if array.type.list_size != size and len(array):
            raise shape_error(ftype, (*shape[:-1], array.type.list_size), 0, place)
    elif types.is_list(array.type) or types.is_large_list(array.type):
        width = np.int64 if types.is_large_list(array.type) else np.int32
        counts = _list_counts(array, width)
        validity = validity_of(array)
        bad = counts != size if validity is None else (counts != size) & validity
        if bad.any():
            position = int(bad.argmax())
            row = position if per_row == 1 else int(present[position // per_row])
            raise shape_error(ftype, (*shape[:-1], int(counts[position])), row, place)
    else:
        raise _wrong_type(ftype, array, place, "give one list of numbers per row")
    if per_row > 1 and array.null_count:
        position = int((~_require(validity_of(array))).argmax())
        raise place.error(int(present[position // per_row]), "a tensor has null parts")
    return array.flatten()


def _list_counts(array: Any, width: Any) -> Any:
    """Return how many items each row of a list array has, null rows included."""
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return np.zeros(0, np.int64)
    itemsize = np.dtype(width).itemsize
    offsets = np.frombuffer(memoryview(buffer), width, len(array) + 1, array.offset * itemsize)
    return np.diff(offsets)


def _convert_lists(ftype: FieldType, array: Any, place: Place) -> pa.Array[Any]:
    types = pa.types
    dtype, wanted = array.type, arrow_type(ftype)
    validity = validity_of(array)
    if types.is_fixed_size_list(dtype):
        counts = np.full(len(array), dtype.list_size, np.int64)
    elif types.is_list(dtype) or types.is_large_list(dtype):
        counts = _list_counts(array, np.int64 if types.is_large_list(dtype) else np.int32)
    else:
        raise _wrong_type(ftype, array, place, "give a list per row")
    if validity is not None:
        counts = counts * validity
    owners = np.repeat(np.arange(len(array)), counts)
    if len(owners) > np.iinfo(np.int32).max:
        raise place.error(None, f"{len(owners)} list items in one array", "append fewer rows")
    assert ftype.item is not None
    items = joined_array(_convert(ftype.item, array.flatten(), place.items(owners)))
    return array if dtype == wanted else list_array(wanted, counts, validity, items)


def _convert_structs(ftype: FieldType, array: Any, place: Place) -> pa.Array[Any]:
    dtype, wanted = array.type, arrow_type(ftype)
    if not pa.types.is_struct(dtype):
        raise _wrong_type(ftype, array, place, "give a struct per row")
    given = [dtype.field(i).name for i in range(dtype.num_fields)]
    known = [name for name, _ in ftype.fields or ()]
    for name in given:
        if name not in known or given.count(name) > 1:
            problem = "twice" if name in known else "which the field does not have"
            raise place.error(0, f"the struct has member {name!r} {problem}")
    columns = dict(zip(given, array.flatten(), strict=True))
    members = []
    for name, member in ftype.fields or ():
        if name in columns:
            members.append(joined_array(_convert(member, columns[name], place.member(name))))
        else:
            members.append(pa.nulls(len(array), arrow_type(member)))
    if dtype == wanted:
        return array
    return struct_array(wanted, len(array), validity_of(array), members)
