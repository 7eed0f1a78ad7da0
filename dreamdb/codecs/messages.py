"""Arrow IPC messages as templates: fixed bytes with a few int64 slots that vary.

Each physical Arrow type has one schema message, one record batch message and, for dictionary
types, one dictionary batch message.  A message is ``ffffffff``, the int32 length of what follows,
the Flatbuffer and zero padding up to a multiple of 64; the continuation marker counts.  All
messages carry metadata version V5 and little-endian byte order, the column is called ``v`` and is
nullable, list items are called ``item``, and there is no custom metadata.

Only these slots of a batch message vary: ``bodyLength`` of the message, ``length`` of the record
batch, ``length`` and ``null_count`` of each node, ``offset`` and ``length`` of each buffer.

Source: design/0002 sections 6.1 and 6.2; Arrow columnar format 1.5, ``Message.fbs`` and
``Schema.fbs``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import pyarrow as pa

from dreamdb.codecs.flatbuffer import Longs, Node, Number, Reference, Table, Tables, Text, Writer
from dreamdb.errors import FormatError, InternalError

__all__ = ["ALIGNMENT", "END_OF_STREAM", "BatchTemplate", "StreamTemplate", "stream_template"]

ALIGNMENT: Final = 64
END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_CONTINUATION: Final = b"\xff\xff\xff\xff"
_VERSION_5: Final = 4
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_FLOAT_PRECISION: Final = {16: 0, 32: 1, 64: 2}
_NANOSECOND: Final = 3


def _int_table(bit_width: int, *, signed: bool) -> Table:
    return Table([Number(0, 4, bit_width), Number(1, 1, int(signed))])


def _type_table(dtype: pa.DataType) -> tuple[int, Table]:
    """Return the member of Arrow's ``Type`` union and its table."""
    if pa.types.is_integer(dtype):
        return 2, _int_table(dtype.bit_width, signed=pa.types.is_signed_integer(dtype))
    if pa.types.is_floating(dtype):
        return 3, Table([Number(0, 2, _FLOAT_PRECISION[dtype.bit_width])])
    if pa.types.is_binary(dtype):
        return 4, Table([])
    if pa.types.is_string(dtype):
        return 5, Table([])
    if pa.types.is_boolean(dtype):
        return 6, Table([])
    if pa.types.is_timestamp(dtype) and dtype.unit == "ns" and dtype.tz is None:
        return 10, Table([Number(0, 2, _NANOSECOND)])
    if pa.types.is_list(dtype):
        return 12, Table([])
    if pa.types.is_struct(dtype):
        return 13, Table([])
    if pa.types.is_fixed_size_list(dtype):
        return 16, Table([Number(0, 4, dtype.list_size)])
    raise InternalError(f"no fragment layout for Arrow type {dtype}")


def children_of(dtype: pa.DataType) -> list[tuple[str, pa.DataType]]:
    """Return names and types of the child columns of a physical type."""
    if pa.types.is_struct(dtype):
        return [(dtype.field(i).name, dtype.field(i).type) for i in range(dtype.num_fields)]
    if pa.types.is_list(dtype) or pa.types.is_fixed_size_list(dtype):
        return [("item", dtype.value_type)]
    return []


def _field_table(name: str, dtype: pa.DataType) -> Table:
    stored = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    tag, details = _type_table(stored)
    children = Tables([_field_table(*child) for child in children_of(stored)])
    fields: list[Number | Reference] = [
        Reference(0, Text(name)),
        Number(1, 1, 1),
        Number(2, 1, tag),
        Reference(3, details),
    ]
    if pa.types.is_dictionary(dtype):
        index = _int_table(dtype.index_type.bit_width, signed=True)
        fields.append(
            Reference(
                4,
                Table([Number(0, 8, 0), Reference(1, index), Number(2, 1, 0), Number(3, 2, 0)]),
            )
        )
    fields.append(Reference(5, children))
    return Table(fields)


def _count_parts(dtype: pa.DataType) -> tuple[int, int]:
    """Return how many nodes and buffers a column of a physical type has."""
    if pa.types.is_dictionary(dtype):
        return _count_parts(dtype.index_type)
    own = 2
    if pa.types.is_string(dtype) or pa.types.is_binary(dtype):
        own = 3
    elif pa.types.is_struct(dtype) or pa.types.is_fixed_size_list(dtype):
        own = 1
    counts = [_count_parts(child) for _, child in children_of(dtype)]
    return 1 + sum(nodes for nodes, _ in counts), own + sum(buffers for _, buffers in counts)


def _message(tag: int, header: Node) -> tuple[bytes, dict[str, int]]:
    """Return a padded message with zero slots and the positions of its slots."""
    writer = Writer()
    buffer = writer.finish(
        Table(
            [
                Number(0, 2, _VERSION_5),
                Number(1, 1, tag),
                Reference(2, header),
                Number(3, 8, 0, mark="body"),
            ]
        )
    )
    padding = -(8 + len(buffer)) % ALIGNMENT
    prefix = _CONTINUATION + struct.pack("<i", len(buffer) + padding)
    marks = {name: 8 + at for name, at in writer.marks.items()}
    return prefix + buffer + bytes(padding), marks


@dataclass(frozen=True, slots=True)
class BatchSlots:
    """The values of the varying slots of one batch message.

    Parameters
    ----------
    body_nbytes : int
        Length of the body that follows the message.
    rows : int
        Rows of the batch.
    nodes : tuple of int
        Length and null count of each node, one after the other.
    buffers : tuple of int
        Offset in the body and length of each buffer, one after the other.
    """

    body_nbytes: int
    rows: int
    nodes: tuple[int, ...]
    buffers: tuple[int, ...]


class BatchTemplate:
    """The head of one batch: fixed bytes, and the slots in them.

    Parameters
    ----------
    lead : bytes
        What precedes the batch message: the schema message for the first batch.
    dtype : pyarrow.DataType
        Physical type of the column in the batch.
    dictionary : bool
        Make a dictionary batch (of id 0) instead of a record batch.
    """

    __slots__ = ("_body", "_buffers", "_buffers_at", "_nodes", "_nodes_at", "_rows", "fixed")

    def __init__(self, lead: bytes, dtype: pa.DataType, *, dictionary: bool) -> None:
        num_nodes, num_buffers = _count_parts(dtype)
        header = Table(
            [
                Number(0, 8, 0, mark="rows"),
                Reference(1, Longs(num_nodes, 2, "nodes")),
                Reference(2, Longs(num_buffers, 2, "buffers")),
            ]
        )
        tag = _BATCH
        if dictionary:
            header = Table([Number(0, 8, 0), Reference(1, header), Number(2, 1, 0)])
            tag = _DICTIONARY
        message, marks = _message(tag, header)
        self.fixed = lead + message
        self._body = len(lead) + marks["body"]
        self._rows = len(lead) + marks["rows"]
        self._nodes_at = len(lead) + marks["nodes"]
        self._buffers_at = len(lead) + marks["buffers"]
        self._nodes = struct.Struct(f"<{2 * num_nodes}q")
        self._buffers = struct.Struct(f"<{2 * num_buffers}q")

    def _patch(self, head: bytearray, slots: BatchSlots) -> None:
        struct.pack_into("<q", head, self._body, slots.body_nbytes)
        struct.pack_into("<q", head, self._rows, slots.rows)
        self._nodes.pack_into(head, self._nodes_at, *slots.nodes)
        self._buffers.pack_into(head, self._buffers_at, *slots.buffers)

    def fill(self, slots: BatchSlots) -> bytes:
        """Return the head with its slots set."""
        head = bytearray(self.fixed)
        self._patch(head, slots)
        return bytes(head)

    def read(self, payload: memoryview, at: int) -> BatchSlots:
        """Read the slots of a head at ``at`` and require everything else to be the template.

        Raises
        ------
        FormatError
            When the bytes are not that template, or a slot is negative.
        """
        head = bytes(payload[at : at + len(self.fixed)])
        if len(head) != len(self.fixed):
            raise FormatError(
                f"fragment of {payload.nbytes} bytes ends inside its metadata "
                f"({at + len(self.fixed)} bytes)"
            )
        slots = BatchSlots(
            struct.unpack_from("<q", head, self._body)[0],
            struct.unpack_from("<q", head, self._rows)[0],
            self._nodes.unpack_from(head, self._nodes_at),
            self._buffers.unpack_from(head, self._buffers_at),
        )
        # Writing the slots back into the template gives the only bytes that are acceptable.
        if self.fill(slots) != head:
            raise FormatError("fragment metadata is not that of the field's type")
        if min(slots.body_nbytes, slots.rows, *slots.nodes, *slots.buffers) < 0:
            raise FormatError("fragment metadata holds a negative length")
        return slots


@dataclass(frozen=True, slots=True)
class StreamTemplate:
    """Everything fixed about payloads of one physical type.

    Parameters
    ----------
    dtype : pyarrow.DataType
        Physical type: what the schema message says.
    schema : bytes
        The schema message, the start of every payload of that type.
    batches : sequence of BatchTemplate
        The record batch, or the dictionary batch and the record batch.  The schema message is
        part of the first.
    batch_types : sequence of pyarrow.DataType
        Types of the columns in the batches.
    """

    dtype: pa.DataType
    schema: bytes
    batches: Sequence[BatchTemplate]
    batch_types: Sequence[pa.DataType]


@lru_cache(maxsize=1024)
def stream_template(dtype: pa.DataType) -> StreamTemplate:
    """Return the template of a physical type, made once per process."""
    schema, _ = _message(
        _SCHEMA, Table([Number(0, 2, 0), Reference(1, Tables([_field_table("v", dtype)]))])
    )
    if pa.types.is_dictionary(dtype):
        types = [dtype.value_type, dtype.index_type]
        batches = [
            BatchTemplate(schema, types[0], dictionary=True),
            BatchTemplate(b"", types[1], dictionary=False),
        ]
    else:
        types = [dtype]
        batches = [BatchTemplate(schema, dtype, dictionary=False)]
    return StreamTemplate(dtype, schema, batches, types)
