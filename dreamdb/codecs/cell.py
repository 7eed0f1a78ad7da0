"""One value of a fragment from a few of its bytes: what a proof needs instead of the fragment.

The bytes come from a function that gives ranges of the payload, each verified before it is given.
Metadata are held against the template and buffers must lie one after the other, as in
:mod:`dreamdb.codecs.decode`; padding and the values of other rows are not looked at.

Source: design/0002 sections 6.1 to 6.4, design/0016.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs.columns import numpy_type
from dreamdb.codecs.decode import physical_types
from dreamdb.codecs.messages import END_OF_STREAM, BatchSlots, StreamTemplate, children_of
from dreamdb.codecs.messages import stream_template as template_of
from dreamdb.errors import FormatError
from dreamdb.types import FieldType

__all__ = ["ReadRange", "anchors_behind", "cell_value"]

ReadRange: TypeAlias = Callable[[int, int], bytes]
"""Returns bytes ``[start, stop)`` of a payload, verified."""

_ANCHOR: Final = FieldType("anchor")


def cell_value(ftype: FieldType, read: ReadRange, nbytes: int, *, rows: int, row: int) -> Any:
    """Return the value of one row of a fragment.

    Parameters
    ----------
    ftype : FieldType
        The field's type; not ``anchor``.
    read : callable
        Gives ranges of the payload.
    nbytes : int
        Length of the payload.
    rows : int
        Rows that the tree entry declares.
    row : int
        Which one, from 0.

    Returns
    -------
    object
        None, bool, int, float, str, bytes, list, dict; a ``numpy.datetime64`` for a timestamp, an
        array for an embedding or tensor.

    Raises
    ------
    FormatError
        When the bytes are not such a payload.
    """
    template, slots, body = _first_batch(ftype, read, nbytes)
    if len(template.batches) == 1:
        _check_end(read, nbytes, body, slots)
        walk = _Walk(read, body, slots)
        value = walk.cells(template.batch_types[0], rows, row, row + 1)[0]
        return _finished(ftype, value)
    at = body + slots.body_nbytes
    codes = _batch(template, 1, read, nbytes, at)
    start = at + len(template.batches[1].fixed)
    _check_end(read, nbytes, start, codes)
    code = _Walk(read, start, codes).cells(template.batch_types[1], rows, row, row + 1)[0]
    if code is None:
        return None
    if not 0 <= code < slots.rows:
        raise FormatError(f"fragment has an index outside its {slots.rows} dictionary values")
    words = _Walk(read, body, slots)
    return words.cells(template.batch_types[0], slots.rows, code, code + 1)[0]


def anchors_behind(
    read: ReadRange, nbytes: int, *, rows: int, start: int, last_key: int
) -> npt.NDArray[np.uint64]:
    """Return the anchors of rows ``[start, rows)`` of a fragment of anchors.

    Differences are summed from the end, since the last anchor is known from the tree entry.

    Parameters
    ----------
    read : callable
        Gives ranges of the payload.
    nbytes : int
        Length of the payload.
    rows, last_key : int
        Rows and last key that the tree entry declares.
    start : int
        First row that is wanted.
    """
    template, slots, body = _first_batch(_ANCHOR, read, nbytes)
    _check_end(read, nbytes, body, slots)
    walk = _Walk(read, body, slots)
    low, high, _ = walk.numbers(template.batch_types[0], rows, start + 1, rows)
    width = numpy_type(template.batch_types[0])
    steps = np.frombuffer(read(low, high), width).astype(np.uint64)
    gaps = np.cumsum(np.concatenate([np.zeros(1, np.uint64), steps[::-1]]))
    # A sum that overflows is smaller than the one before it.
    if not (gaps[1:] > gaps[:-1]).all() or int(gaps[-1]) > last_key:
        raise FormatError(f"fragment of anchors does not fit its last key {last_key}")
    return np.uint64(last_key) - gaps[::-1]


def _first_batch(
    ftype: FieldType, read: ReadRange, nbytes: int
) -> tuple[StreamTemplate, BatchSlots, int]:
    """Return the template of a payload, the slots of its first batch and where its body begins."""
    for dtype in physical_types(ftype):
        template = template_of(dtype)
        size = len(template.schema)
        if size <= nbytes and read(0, size) == template.schema:
            slots = _batch(template, 0, read, nbytes, 0)
            return template, slots, len(template.batches[0].fixed)
    raise FormatError("fragment has another schema than its field's kind allows")


def _batch(
    template: StreamTemplate, index: int, read: ReadRange, nbytes: int, at: int
) -> BatchSlots:
    batch = template.batches[index]
    stop = at + len(batch.fixed)
    if stop + len(END_OF_STREAM) > nbytes:
        raise FormatError(f"fragment of {nbytes} bytes ends inside its metadata")
    return batch.read(memoryview(read(at, stop)), 0)


def _check_end(read: ReadRange, nbytes: int, body: int, slots: BatchSlots) -> None:
    expected = body + slots.body_nbytes + len(END_OF_STREAM)
    if nbytes != expected:
        raise FormatError(f"fragment has {nbytes} bytes, its metadata says {expected}")


def _finished(ftype: FieldType, value: Any) -> Any:
    """Return a stored value as what the field's kind means."""
    if value is None:
        return None
    if ftype.kind == "timestamp":
        return np.datetime64(value, "ns")
    if ftype.kind == "tensor":
        return np.asarray(value).reshape(ftype.shape or ())
    return value


class _Walk:
    """Walks nodes and buffers of one batch, reading the cells of a few rows only."""

    def __init__(self, read: ReadRange, body: int, slots: BatchSlots) -> None:
        self._read = read
        self._body = body
        self._slots = slots
        self._next_node = 0
        self._next_buffer = 0
        self._at = 0

    def _node(self, rows: int | None, stop: int) -> tuple[int, int]:
        """Take the next node, which must reach to row ``stop``."""
        length, nulls = self._slots.nodes[self._next_node : self._next_node + 2]
        self._next_node += 2
        if (rows is not None and length != rows) or nulls > length or stop > length:
            raise FormatError(f"fragment node has {length} rows and {nulls} nulls, not {rows} rows")
        return length, nulls

    def _take(self, nbytes: int | None) -> int:
        """Take the next buffer and return where it begins."""
        offset, length = self._slots.buffers[self._next_buffer : self._next_buffer + 2]
        self._next_buffer += 2
        if offset != self._at or (nbytes is not None and length != nbytes):
            raise FormatError(f"fragment buffer at {offset} of {length} bytes is not expected")
        self._at += length + -length % 8
        if self._at > self._slots.body_nbytes + 7:
            raise FormatError(f"fragment buffer at {offset} of {length} bytes leaves the body")
        return self._body + offset

    def _valid(self, rows: int, nulls: int, start: int, stop: int) -> list[bool]:
        at = self._take((rows + 7) // 8 if nulls else 0)
        if not nulls or start >= stop:
            return [True] * (stop - start)
        first = start // 8
        raw = self._read(at + first, at + (stop + 7) // 8)
        return [bool(raw[row // 8 - first] >> row % 8 & 1) for row in range(start, stop)]

    def numbers(
        self, dtype: Any, rows: int | None, start: int, stop: int
    ) -> tuple[int, int, list[bool]]:
        """Return where the values of some rows of a fixed-width column lie, and which are null."""
        length, nulls = self._node(rows, stop)
        valid = self._valid(length, nulls, start, stop)
        width = dtype.bit_width
        at = self._take((length * width + 7) // 8)
        return at + start * width // 8, at + (stop * width + 7) // 8, valid

    def cells(self, dtype: Any, rows: int | None, start: int, stop: int) -> list[Any]:
        """Return the values of rows ``[start, stop)``."""
        types = pa.types
        if types.is_binary(dtype) or types.is_string(dtype):
            return self._texts(dtype, rows, start, stop)
        if types.is_fixed_size_list(dtype):
            length, nulls = self._node(rows, stop)
            valid = self._valid(length, nulls, start, stop)
            size = dtype.list_size
            low, high, _ = self.numbers(dtype.value_type, length * size, start * size, stop * size)
            values = np.frombuffer(self._read(low, high), numpy_type(dtype.value_type))
            parts = values.reshape(stop - start, size)
            return [part if ok else None for part, ok in zip(parts, valid, strict=True)]
        if types.is_list(dtype):
            length, nulls = self._node(rows, stop)
            valid = self._valid(length, nulls, start, stop)
            ends = self._offsets(length, start, stop)
            items = self.cells(dtype.value_type, None, ends[0], ends[-1])
            first = ends[0]
            return [
                items[a - first : b - first] if ok else None
                for a, b, ok in zip(ends[:-1], ends[1:], valid, strict=True)
            ]
        if types.is_struct(dtype):
            length, nulls = self._node(rows, stop)
            valid = self._valid(length, nulls, start, stop)
            members = {
                name: self.cells(member, length, start, stop) for name, member in children_of(dtype)
            }
            return [
                {name: column[at] for name, column in members.items()} if ok else None
                for at, ok in enumerate(valid)
            ]
        return self._scalars(dtype, rows, start, stop)

    def _offsets(self, rows: int, start: int, stop: int) -> list[int]:
        at = self._take(4 * (rows + 1))
        raw = self._read(at + 4 * start, at + 4 * (stop + 1))
        ends: list[int] = np.frombuffer(raw, np.int32).tolist()
        if ends[0] < 0 or any(b < a for a, b in pairwise(ends)):
            raise FormatError("fragment offsets fall")
        return ends

    def _texts(self, dtype: Any, rows: int | None, start: int, stop: int) -> list[Any]:
        length, nulls = self._node(rows, stop)
        valid = self._valid(length, nulls, start, stop)
        ends = self._offsets(length, start, stop)
        size = self._slots.buffers[self._next_buffer + 1]
        at = self._take(None)
        if ends[-1] > size:
            raise FormatError("fragment offsets leave the values")
        raw = self._read(at + ends[0], at + ends[-1])
        out: list[Any] = []
        for a, b, ok in zip(ends[:-1], ends[1:], valid, strict=True):
            piece = raw[a - ends[0] : b - ends[0]]
            try:
                text = piece.decode() if pa.types.is_string(dtype) else piece
            except UnicodeDecodeError as error:
                raise FormatError(f"fragment strings are not UTF-8: {error}") from None
            out.append(text if ok else None)
        return out

    def _scalars(self, dtype: Any, rows: int | None, start: int, stop: int) -> list[Any]:
        low, high, valid = self.numbers(dtype, rows, start, stop)
        raw = self._read(low, high)
        if pa.types.is_boolean(dtype):
            first = start // 8 * 8
            values: list[Any] = [
                bool(raw[(row - first) // 8] >> row % 8 & 1) for row in range(start, stop)
            ]
        elif pa.types.is_timestamp(dtype):
            values = list(np.frombuffer(raw, np.int64).astype("datetime64[ns]"))
        else:
            values = np.frombuffer(raw, numpy_type(dtype)).tolist()
        return [value if ok else None for value, ok in zip(values, valid, strict=True)]
