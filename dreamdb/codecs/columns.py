"""Canonical buffers of a column: equal values give equal bytes, whatever arrays they came in.

The rules, for a column of any logical type:

* A column is the concatenation of its arrays; the result has offset 0 and buffers of exactly the
  length that its rows need.
* Validity: no bitmap (length 0) when there is no null; else one bit per row, least significant
  first, the bits after the last row zero.
* Fixed-width values: little-endian, bit-exact; zero under nulls.
* Booleans: one bit per row like a bitmap; zero under nulls and after the last row.
* Binary and strings: ``rows + 1`` int32 offsets from 0; nothing under nulls.
* Fixed-size lists: the child has no nulls; its values are zero under null lists.
* Lists: ``rows + 1`` int32 offsets from 0; no items under null lists; the child is canonical.
* Structs: a member is null wherever the struct is; each member is canonical.

Big buffers are passed on as views of the caller's memory, never copied.

Source: design/0002 section 6.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.errors import InternalError, InvalidInputError
from dreamdb.types import Bytes

__all__ = [
    "Arrays",
    "Column",
    "bits_to_bools",
    "bools_to_bits",
    "fixed_values",
    "numpy_type",
    "validity_of",
]

Arrays: TypeAlias = "Sequence[pa.Array[Any]]"
Bools: TypeAlias = npt.NDArray[np.bool_]
Offsets: TypeAlias = npt.NDArray[np.int32]
MAX_OFFSET = (1 << 31) - 1


def bits_to_bools(buffer: Bytes | pa.Buffer, start: int, count: int) -> Bools:
    """Return bits ``[start, start + count)`` of a bitmap, one bool each."""
    first = start // 8
    raw = np.frombuffer(memoryview(buffer), np.uint8, (start + count + 7) // 8 - first, first)
    bits = np.unpackbits(raw, bitorder="little")
    return bits[start - 8 * first :][:count].view(np.bool_)


def bools_to_bits(bools: Bools) -> npt.NDArray[np.uint8]:
    """Return a bitmap of the bools, least significant bit first, trailing bits zero."""
    return np.packbits(bools, bitorder="little")


def validity_of(array: pa.Array[Any]) -> Bools | None:
    """Return which slots of an array hold a value, or None when all do."""
    if array.null_count == 0:
        return None
    bitmap = array.buffers()[0]
    if bitmap is None:
        return np.zeros(len(array), np.bool_)
    return bits_to_bools(bitmap, array.offset, len(array))


def joint_validity(arrays: Arrays) -> Bools | None:
    """Return the validity of a concatenation, or None when nothing is null."""
    parts = [validity_of(array) for array in arrays]
    if all(part is None for part in parts):
        return None
    return np.concatenate(
        [
            np.ones(len(array), np.bool_) if part is None else part
            for array, part in zip(arrays, parts, strict=True)
        ]
    )


_FLOAT_NAMES: Final = {"halffloat": "float16", "float": "float32", "double": "float64"}


def numpy_type(dtype: pa.DataType) -> np.dtype[Any]:
    """Return the numpy type of an Arrow integer or float type."""
    name = str(dtype)
    return np.dtype(_FLOAT_NAMES.get(name, name))


def fixed_values(array: pa.Array[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return the values of a fixed-width array as a view, garbage under nulls included."""
    width = np.dtype(dtype).itemsize
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return np.zeros(len(array), dtype)
    return np.frombuffer(memoryview(buffer), np.dtype(dtype), len(array), array.offset * width)


def offsets_of(array: pa.Array[Any]) -> Offsets:
    """Return the ``rows + 1`` int32 offsets of a binary, string or list array as a view."""
    buffer = array.buffers()[1]
    if buffer is None or buffer.size == 0:
        return np.zeros(1, np.int32)
    return np.frombuffer(memoryview(buffer), np.int32, len(array) + 1, array.offset * 4)


def as_bytes(values: npt.NDArray[Any]) -> memoryview:
    """Return a contiguous array's memory as bytes."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


@dataclass(slots=True)
class Column:
    """Nodes and buffers of one column in Arrow's depth-first order.

    Parameters
    ----------
    nodes : list of int
        Length and null count of each node, one after the other.
    buffers : list of list of bytes-like
        Each buffer in pieces.
    """

    nodes: list[int] = field(default_factory=list)
    buffers: list[list[Bytes]] = field(default_factory=list)

    def add_node(self, rows: int, validity: Bools | None) -> None:
        """Append a node and its validity bitmap."""
        nulls = 0 if validity is None else rows - int(np.count_nonzero(validity))
        self.nodes += (rows, nulls)
        if validity is None or nulls == 0:
            self.buffers.append([])
        else:
            self.buffers.append([as_bytes(bools_to_bits(validity))])

    def add_values(self, values: npt.NDArray[Any], validity: Bools | None) -> None:
        """Append a fixed-width column whose values are already zero under nulls."""
        self.add_node(len(values), validity)
        self.buffers.append([as_bytes(values)])

    def add_bools(self, values: Bools, validity: Bools | None) -> None:
        """Append a boolean column whose values are already false under nulls."""
        self.add_node(len(values), validity)
        self.buffers.append([as_bytes(bools_to_bits(values))])

    def add_arrays(self, dtype: Any, arrays: Sequence[Any]) -> None:
        """Append the concatenation of ``arrays``, all of type ``dtype``, in canonical form."""
        types = pa.types
        if types.is_fixed_size_list(dtype):
            self._add_fixed_lists(dtype, arrays)
        elif types.is_binary(dtype) or types.is_string(dtype):
            self._add_strings(arrays)
        elif types.is_boolean(dtype):
            validity = joint_validity(arrays)
            values = joint_bools(arrays)
            self.add_bools(values if validity is None else values & validity, validity)
        elif types.is_list(dtype):
            self._add_lists(dtype, arrays)
        elif types.is_struct(dtype):
            members = [array.flatten() for array in arrays]
            self.add_node(sum(map(len, arrays)), joint_validity(arrays))
            for index in range(dtype.num_fields):
                self.add_arrays(dtype.field(index).type, [member[index] for member in members])
        elif types.is_primitive(dtype):
            self.add_node(sum(map(len, arrays)), joint_validity(arrays))
            width = dtype.bit_width // 8
            self.buffers.append(
                [_cells(array, array.buffers()[1], array.offset * width, width) for array in arrays]
            )
        else:
            raise InternalError(f"no canonical form for Arrow type {dtype}")

    def _add_fixed_lists(self, dtype: Any, arrays: Sequence[Any]) -> None:
        rows, size = sum(map(len, arrays)), dtype.list_size
        self.add_node(rows, joint_validity(arrays))
        self.nodes += (rows * size, 0)
        self.buffers.append([])
        width = dtype.value_type.bit_width // 8
        pieces: list[Bytes] = []
        for array in arrays:
            child = array.values
            _refuse_null_elements(array, child, size)
            start = (child.offset + array.offset * size) * width
            pieces.append(_cells(array, child.buffers()[1], start, size * width))
        self.buffers.append(pieces)

    def _add_strings(self, arrays: Arrays) -> None:
        pieces: list[Bytes] = []
        runs: list[Offsets] = []
        at = 0
        for array in arrays:
            offsets, data = _string_run(array)
            nbytes = int(offsets[-1]) - int(offsets[0])
            if at + nbytes > MAX_OFFSET:
                raise InvalidInputError(
                    f"a fragment cannot hold {at + nbytes} or more bytes of values",
                    hint="give the field a smaller rows_per_fragment",
                )
            if nbytes:
                pieces.append(data)
            runs.append(offsets[1:] if offsets[0] == at else offsets[1:] + (at - offsets[0]))
            at += nbytes
        rows = sum(map(len, arrays))
        self.add_node(rows, joint_validity(arrays))
        self.buffers.append([bytes(4), *(as_bytes(run) for run in runs)])
        self.buffers.append(pieces)

    def _add_lists(self, dtype: Any, arrays: Sequence[Any]) -> None:
        validity = joint_validity(arrays)
        lengths = [np.diff(offsets_of(array)) for array in arrays]
        counts = np.concatenate(lengths) if lengths else np.zeros(0, np.int32)
        if validity is not None:
            counts = counts * validity
        offsets = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        if offsets[-1] > MAX_OFFSET:
            raise InvalidInputError(
                f"a fragment cannot hold {offsets[-1]} list items",
                hint="give the field a smaller rows_per_fragment",
            )
        self.add_node(len(counts), validity)
        self.buffers.append([as_bytes(offsets.astype(np.int32))])
        self.add_arrays(dtype.value_type, [array.flatten() for array in arrays])


def _cells(array: pa.Array[Any], buffer: pa.Buffer | None, start: int, width: int) -> Bytes:
    """Return the rows of ``array``, ``width`` bytes each from ``start`` on, zero under nulls."""
    if buffer is None or len(array) == 0:
        return bytes(len(array) * width)
    cells = memoryview(buffer).cast("B")[start : start + len(array) * width]
    validity = validity_of(array)
    if validity is None:
        return cells
    copied = np.frombuffer(cells, np.uint8).reshape(len(array), width).copy()
    copied[~validity] = 0
    return as_bytes(copied)


def _refuse_null_elements(array: pa.Array[Any], child: pa.Array[Any], size: int) -> None:
    """Refuse nulls inside a list that is not null: their bytes would be read as values."""
    if child.null_count == 0:
        return
    own = child.slice(array.offset * size, len(array) * size)
    valid = validity_of(own)
    if valid is None:
        return
    outer = validity_of(array)
    rows = valid.reshape(len(array), size).all(axis=1)
    if not (rows if outer is None else rows | ~outer).all():
        raise InvalidInputError("a vector that is not null has null elements")


def joint_bools(arrays: Arrays) -> Bools:
    """Return the bits of boolean arrays, garbage under nulls included."""
    parts = []
    for array in arrays:
        buffer = array.buffers()[1]
        if buffer is None:
            parts.append(np.zeros(len(array), np.bool_))
        else:
            parts.append(bits_to_bools(buffer, array.offset, len(array)))
    return np.concatenate(parts) if parts else np.zeros(0, np.bool_)


def _string_run(array: pa.Array[Any]) -> tuple[Offsets, memoryview]:
    """Return offsets of an array's values and the bytes between the first and the last."""
    offsets = offsets_of(array)
    buffer = array.buffers()[2]
    data = memoryview(buffer).cast("B") if buffer is not None else memoryview(b"")
    validity = validity_of(array)
    if validity is not None:
        lengths = np.diff(offsets)
        if np.any(lengths[~validity]):
            return _without_null_bytes(offsets, data, validity)
    return offsets, data[int(offsets[0]) : int(offsets[-1])]


def _without_null_bytes(
    offsets: Offsets, data: memoryview, validity: Bools
) -> tuple[Offsets, memoryview]:
    """Copy the bytes of the values that are not null next to each other."""
    lengths = np.diff(offsets) * validity
    packed = np.zeros(len(offsets), np.int32)
    np.cumsum(lengths, out=packed[1:])
    keep = np.repeat(validity, np.diff(offsets))
    source = np.frombuffer(data, np.uint8)[int(offsets[0]) : int(offsets[-1])]
    return packed, as_bytes(source[keep])
