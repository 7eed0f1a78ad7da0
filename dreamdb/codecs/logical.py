"""Which Arrow type a field's values have, and which field type an Arrow type suggests.

Source: design/0002 section 6.3; design/0004 section 2.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa

from dreamdb.errors import InvalidInputError, SchemaError
from dreamdb.types import BLOB_KINDS, SCALAR_KINDS, STRING_KINDS, FieldType

__all__ = [
    "TENSOR_DTYPES",
    "arrow_type",
    "field_type_of",
    "is_plain",
    "row_nbytes",
    "tensor_from_storage",
    "tensor_to_storage",
    "tensor_type",
]

TENSOR_DTYPES: Final[dict[str, pa.DataType]] = {
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}
"""Element types of tensors by their numpy name."""

_MAX_ROW_NBYTES: Final = 1 << 30
_ITEM_KINDS: Final = SCALAR_KINDS | {"text"}
_MEMBER_KINDS: Final = _ITEM_KINDS | BLOB_KINDS | {"list", "struct"}
_SUPPORTED: Final = (
    "supported: bool, integers, float16/32/64, string, dictionary, binary, timestamp, date, "
    "fixed_size_list of numbers, fixed_shape_tensor, list of scalars, struct"
)


@lru_cache(maxsize=4096)
def arrow_type(ftype: FieldType) -> pa.DataType:
    """Return the Arrow type of a field's values inside this library.

    Parameters
    ----------
    ftype : FieldType
        The field's type.

    Returns
    -------
    pyarrow.DataType
        ``binary`` for media, ``fixed_size_list<item: float>[dim]`` for embeddings, a fixed-size
        list of the flattened elements for tensors (:func:`tensor_type` gives the extension type
        that readers see), ``string``, ``bool``, ``int64``, ``double``, ``timestamp[ns]`` without
        zone (UTC), ``list<item>``, ``struct``, and ``uint64`` for anchors.

    Raises
    ------
    SchemaError
        When the field type is incomplete or its kind is unknown.
    """
    kind = ftype.kind
    if kind in BLOB_KINDS:
        return pa.binary()
    if kind in STRING_KINDS:
        return pa.string()
    if kind == "embedding":
        return _fixed_list(pa.float32(), ftype.dim, ftype)
    if kind == "tensor":
        return _fixed_list(_element_type(ftype), _num_elements(ftype), ftype)
    simple: pa.DataType | None = {
        "bool": pa.bool_(),
        "int": pa.int64(),
        "float": pa.float64(),
        "timestamp": pa.timestamp("ns"),
        "anchor": pa.uint64(),
    }.get(kind)
    if simple is not None:
        return simple
    if kind == "list":
        if ftype.item is None or ftype.item.kind not in _ITEM_KINDS:
            raise SchemaError(
                f"a list cannot hold {ftype.item}",
                hint=f"items are one of: {', '.join(sorted(_ITEM_KINDS))}",
            )
        return pa.list_(pa.field("item", arrow_type(ftype.item)))
    if kind == "struct":
        return _struct_type(ftype)
    raise SchemaError(f"unknown field kind {kind!r}")


def _fixed_list(element: pa.DataType, size: int | None, ftype: FieldType) -> pa.DataType:
    if size is None or size < 1 or size * element.bit_width // 8 > _MAX_ROW_NBYTES:
        raise SchemaError(f"{ftype} must have between 1 element and 1 GiB per row")
    return pa.list_(pa.field("item", element), size)


def _element_type(ftype: FieldType) -> pa.DataType:
    element = TENSOR_DTYPES.get(ftype.dtype or "")
    if element is None:
        hint = f"elements are one of: {', '.join(TENSOR_DTYPES)}"
        if ftype.dtype in ("bool", "bool_"):
            hint = "store masks as uint8"
        raise SchemaError(f"a tensor cannot hold elements of dtype {ftype.dtype!r}", hint=hint)
    return element


def _num_elements(ftype: FieldType) -> int | None:
    if not ftype.shape or min(ftype.shape) < 1:
        raise SchemaError(
            f"{ftype} has no shape of positive sizes",
            hint="a single number per row is an int or float field",
        )
    return math.prod(ftype.shape)


def _struct_type(ftype: FieldType) -> pa.DataType:
    if not ftype.fields:
        raise SchemaError("a struct needs at least one member")
    names = [name for name, _ in ftype.fields]
    if len(set(names)) != len(names):
        raise SchemaError(f"{ftype} names a member twice")
    for name, member in ftype.fields:
        if member.kind not in _MEMBER_KINDS:
            raise SchemaError(
                f"member {name!r} of a struct cannot be {member}",
                hint="make it a field of its own",
            )
    return pa.struct([pa.field(name, arrow_type(member)) for name, member in ftype.fields])


def field_type_of(dtype: Any) -> FieldType:
    """Infer the field type that holds values of an Arrow type.

    Parameters
    ----------
    dtype : pyarrow.DataType
        Type of a column, as a user gives it.

    Returns
    -------
    FieldType
        Integers become ``int``, floats ``float``, strings ``string``, dictionaries of strings
        ``categorical``, binary ``binary``, dates and timestamps ``timestamp``, fixed-size lists of
        float32 ``embedding``, other fixed-size lists of numbers and fixed-shape tensors
        ``tensor``, lists and structs themselves.

    Raises
    ------
    SchemaError
        For any other type; the message names it, the hint lists what is supported.
    """
    types = pa.types
    if types.is_boolean(dtype):
        return FieldType("bool")
    if types.is_integer(dtype):
        return FieldType("int")
    if types.is_floating(dtype):
        return FieldType("float")
    if is_any_string(dtype):
        return FieldType("string")
    if is_any_binary(dtype):
        return FieldType("binary")
    if types.is_timestamp(dtype) or types.is_date(dtype):
        return FieldType("timestamp")
    if types.is_dictionary(dtype):
        inner = field_type_of(dtype.value_type)
        return FieldType("categorical") if inner.kind == "string" else inner
    if isinstance(dtype, pa.FixedShapeTensorType):
        return _tensor_of(dtype.value_type, tuple(dtype.shape), dtype)
    if types.is_fixed_size_list(dtype):
        if dtype.value_type == pa.float32():
            return FieldType("embedding", dim=dtype.list_size)
        return _tensor_of(dtype.value_type, (dtype.list_size,), dtype)
    if types.is_list(dtype) or types.is_large_list(dtype):
        item = field_type_of(dtype.value_type)
        if item.kind not in _ITEM_KINDS:
            raise SchemaError(f"no field can hold Arrow type {dtype}", hint=_SUPPORTED)
        return FieldType("list", item=item)
    if types.is_struct(dtype) and dtype.num_fields:
        members = tuple(
            (dtype.field(i).name, field_type_of(dtype.field(i).type))
            for i in range(dtype.num_fields)
        )
        struct = FieldType("struct", fields=members)
        arrow_type(struct)
        return struct
    raise SchemaError(f"no field can hold Arrow type {dtype}", hint=_SUPPORTED)


def _tensor_of(element: pa.DataType, shape: tuple[int, ...], dtype: pa.DataType) -> FieldType:
    for name, known in TENSOR_DTYPES.items():
        if known == element:
            ftype = FieldType("tensor", dtype=name, shape=shape)
            arrow_type(ftype)
            return ftype
    raise SchemaError(f"no field can hold Arrow type {dtype}", hint=_SUPPORTED)


def is_any_string(dtype: pa.DataType) -> bool:
    """Return whether a type is a string with any kind of offsets."""
    types = pa.types
    return bool(
        types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype)
    )


def is_any_binary(dtype: pa.DataType) -> bool:
    """Return whether a type is binary with any kind of offsets or a fixed width."""
    types = pa.types
    return bool(
        types.is_binary(dtype)
        or types.is_large_binary(dtype)
        or types.is_binary_view(dtype)
        or types.is_fixed_size_binary(dtype)
    )


def is_plain(ftype: FieldType) -> bool:
    """Return whether fragments of a field are stored uncompressed, so that they can be mapped."""
    return ftype.kind in BLOB_KINDS or ftype.kind in ("embedding", "tensor")


def row_nbytes(ftype: FieldType) -> int:
    """Return the bytes per row of an embedding or tensor, 0 for every other kind."""
    if ftype.kind not in ("embedding", "tensor"):
        return 0
    dtype: Any = arrow_type(ftype)
    return int(dtype.list_size * dtype.value_type.bit_width // 8)


def tensor_type(ftype: FieldType) -> Any:
    """Return the extension type under which readers see a tensor field.

    Parameters
    ----------
    ftype : FieldType
        A tensor's type.

    Returns
    -------
    pyarrow.FixedShapeTensorType
        ``arrow.fixed_shape_tensor`` of the field's element type and shape.
    """
    _num_elements(ftype)
    return pa.fixed_shape_tensor(_element_type(ftype), ftype.shape or ())


def tensor_from_storage(ftype: FieldType, storage: pa.Array[Any]) -> pa.Array[Any]:
    """Wrap flattened rows as fixed-shape tensors, without a copy.

    Parameters
    ----------
    ftype : FieldType
        A tensor's type.
    storage : pyarrow.FixedSizeListArray
        Array of type ``arrow_type(ftype)``.

    Returns
    -------
    pyarrow.FixedShapeTensorArray
        The same buffers under :func:`tensor_type`.
    """
    return pa.ExtensionArray.from_storage(tensor_type(ftype), storage)


def tensor_to_storage(ftype: FieldType, tensors: Any) -> pa.Array[Any]:
    """Unwrap fixed-shape tensors into flattened rows, without a copy.

    Parameters
    ----------
    ftype : FieldType
        A tensor's type.
    tensors : pyarrow.FixedShapeTensorArray
        Array whose element type and shape are the field's, stored in row-major order.

    Returns
    -------
    pyarrow.FixedSizeListArray
        The same buffers under ``arrow_type(ftype)``.

    Raises
    ------
    InvalidInputError
        When the shape or element type differs, or the axes are permuted.
    """
    dtype = tensors.type
    if not isinstance(dtype, pa.FixedShapeTensorType):
        raise InvalidInputError(f"{dtype} is not a fixed-shape tensor type")
    permutation = dtype.permutation
    if permutation is not None and list(permutation) != sorted(permutation):
        raise InvalidInputError(
            f"{dtype} has permuted axes", hint="transpose the values into row-major order first"
        )
    if tuple(dtype.shape) != ftype.shape or dtype.value_type != _element_type(ftype):
        raise InvalidInputError(f"{dtype} does not fit {ftype}")
    storage: pa.Array[Any] = tensors.storage
    return storage
