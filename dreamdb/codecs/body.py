"""Reads the buffers of one batch body into arrays, checking every length and offset.

Source: design/0002 section 6.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from dreamdb.codecs.messages import BatchSlots, children_of
from dreamdb.errors import FormatError

__all__ = ["BodyReader"]


class BodyReader:
    """Walks nodes and buffers of one batch in Arrow's depth-first order.

    Parameters
    ----------
    payload : memoryview
        The whole payload.
    body : int
        Payload offset of the body.
    slots : BatchSlots
        The batch's lengths, none negative; the body they declare lies inside the payload.
    """

    __slots__ = (
        "_at",
        "_body",
        "_buffer",
        "_check_last",
        "_next_buffer",
        "_next_node",
        "_payload",
        "_slots",
    )

    def __init__(self, payload: memoryview, body: int, slots: BatchSlots) -> None:
        self._payload = payload
        self._buffer = pa.py_buffer(payload)
        self._body = body
        self._slots = slots
        self._next_node = 0
        self._next_buffer = 0
        self._at = 0
        self._check_last = True

    def read_column(
        self, dtype: pa.DataType, rows: int, *, check_last: bool = True, aligned_to: int = 8
    ) -> pa.Array[Any]:
        """Read the batch's only column.

        Parameters
        ----------
        dtype : pyarrow.DataType
            Type of the column in the batch.
        rows : int
            Its length.
        check_last : bool
            Also look at the last buffer's padding, which may not be verified yet.
        aligned_to : int
            Multiple up to which the body is filled after the last buffer.

        Returns
        -------
        pyarrow.Array
            Views of the payload.

        Raises
        ------
        FormatError
            When lengths, offsets, bitmaps, UTF-8 or padding are wrong.
        """
        self._check_last = check_last
        array = self._read(dtype, rows)
        filled = -self._at % aligned_to
        if self._slots.body_nbytes != self._at + filled:
            raise FormatError(
                f"fragment body of {self._slots.body_nbytes} bytes has {self._at} bytes of buffers"
            )
        if filled:
            self._check_zero(self._body + self._at, self._body + self._at + filled)
        return array

    def _check_zero(self, start: int, stop: int) -> None:
        if any(self._payload[start:stop]):
            raise FormatError(f"fragment padding before byte {stop} is not zero")

    def _node(self, rows: int) -> int:
        """Take the next node, which must have ``rows`` rows, and return its null count."""
        length, nulls = self._slots.nodes[self._next_node : self._next_node + 2]
        self._next_node += 2
        if length != rows or nulls > rows:
            raise FormatError(f"fragment node has {length} rows and {nulls} nulls, not {rows} rows")
        return nulls

    def _take(self, nbytes: int | None) -> tuple[int, int]:
        """Take the next buffer, of ``nbytes`` if given, and return its range in the payload."""
        offset, length = self._slots.buffers[self._next_buffer : self._next_buffer + 2]
        self._next_buffer += 2
        padding = -length % 8
        if offset != self._at or (nbytes is not None and length != nbytes):
            raise FormatError(
                f"fragment buffer at {offset} of {length} bytes, expected at {self._at}"
                + ("" if nbytes is None else f" of {nbytes} bytes")
            )
        self._at += length + padding
        if self._at > self._slots.body_nbytes:
            raise FormatError(f"fragment buffer at {offset} of {length} bytes leaves the body")
        start = self._body + offset
        last = self._next_buffer == len(self._slots.buffers)
        if padding and (self._check_last or not last):
            self._check_zero(start + length, start + length + padding)
        return start, start + length

    def _view(self, span: tuple[int, int]) -> pa.Buffer:
        return self._buffer.slice(span[0], span[1] - span[0])

    def _validity(self, rows: int, nulls: int) -> pa.Buffer | None:
        if nulls == 0:
            self._take(0)
            return None
        span = self._take((rows + 7) // 8)
        bits = int.from_bytes(self._payload[span[0] : span[1]], "little")
        if bits >> rows or bits.bit_count() != rows - nulls:
            raise FormatError(f"fragment bitmap does not have {nulls} nulls in {rows} rows")
        return self._view(span)

    def _offsets(self, rows: int) -> tuple[pa.Buffer, int]:
        """Take an offset buffer, check that it never falls, and return it and its last offset."""
        span = self._take(4 * (rows + 1))
        offsets = np.frombuffer(self._payload, np.int32, rows + 1, span[0])
        if offsets[0] != 0 or not (offsets[1:] >= offsets[:-1]).all():
            raise FormatError("fragment offsets do not start at 0 or fall")
        return self._view(span), int(offsets[-1])

    def _read(self, dtype: Any, rows: int) -> pa.Array[Any]:
        nulls = self._node(rows)
        validity = self._validity(rows, nulls)
        types = pa.types
        if types.is_binary(dtype) or types.is_string(dtype):
            offsets, nbytes = self._offsets(rows)
            data = self._view(self._take(nbytes))
            array = pa.Array.from_buffers(dtype, rows, [validity, offsets, data], nulls)
            if types.is_string(dtype):
                _check_utf8(array)
            return array
        if types.is_fixed_size_list(dtype):
            child = self._read(dtype.value_type, rows * dtype.list_size)
            if child.null_count:
                raise FormatError("fragment of fixed-size lists has null elements")
            return pa.Array.from_buffers(dtype, rows, [validity], nulls, 0, [child])
        if types.is_list(dtype):
            offsets, length = self._offsets(rows)
            child = self._read(dtype.value_type, length)
            return pa.Array.from_buffers(dtype, rows, [validity, offsets], nulls, 0, [child])
        if types.is_struct(dtype):
            members = [self._read(member, rows) for _, member in children_of(dtype)]
            return pa.Array.from_buffers(dtype, rows, [validity], nulls, 0, members)
        nbytes = (rows * dtype.bit_width + 7) // 8
        data = self._view(self._take(nbytes))
        return pa.Array.from_buffers(dtype, rows, [validity, data], nulls)


def _check_utf8(array: pa.Array[Any]) -> None:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise FormatError(f"fragment strings are not UTF-8: {error}") from None
