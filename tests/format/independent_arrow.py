"""Arrow IPC streams with one column, read with the standard library alone.

Flatbuffers are followed through their vtables, as any Arrow reader does, not compared with
templates: so the payloads are seen to be Arrow.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

UNION = {2: "int", 3: "float", 4: "binary", 5: "utf8", 6: "bool", 10: "timestamp", 12: "list",
         13: "struct", 16: "fixed"}  # fmt: skip
CODES = {
    "int8": "b", "int16": "h", "int32": "i", "int64": "q",
    "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q",
    "float16": "e", "float32": "f", "float64": "d", "timestamp": "q",
}  # fmt: skip


class Table:
    """One Flatbuffers table."""

    def __init__(self, raw: bytes, at: int) -> None:
        self.raw, self.at = raw, at
        self.vtable = at - struct.unpack_from("<i", raw, at)[0]
        self.size = struct.unpack_from("<H", raw, self.vtable)[0]

    def where(self, slot: int) -> int | None:
        """Return where a field lies, None when it is absent."""
        entry = 4 + 2 * slot
        if entry >= self.size:
            return None
        offset = struct.unpack_from("<H", self.raw, self.vtable + entry)[0]
        return self.at + offset if offset else None

    def number(self, slot: int, code: str, default: int = 0) -> int:
        """Return a scalar field."""
        at = self.where(slot)
        return default if at is None else int(struct.unpack_from(f"<{code}", self.raw, at)[0])

    def follow(self, slot: int) -> int | None:
        """Return where a field's target lies."""
        at = self.where(slot)
        return None if at is None else at + struct.unpack_from("<I", self.raw, at)[0]

    def table(self, slot: int) -> Table:
        """Return a table that a field refers to."""
        at = self.follow(slot)
        assert at is not None
        return Table(self.raw, at)

    def tables(self, slot: int) -> list[Table]:
        """Return a vector of tables."""
        at = self.follow(slot)
        if at is None:
            return []
        (count,) = struct.unpack_from("<I", self.raw, at)
        places = range(at + 4, at + 4 + 4 * count, 4)
        return [Table(self.raw, p + struct.unpack_from("<I", self.raw, p)[0]) for p in places]

    def pairs(self, slot: int) -> list[tuple[int, int]]:
        """Return a vector of structs of two int64."""
        at = self.follow(slot)
        assert at is not None
        (count,) = struct.unpack_from("<I", self.raw, at)
        return [struct.unpack_from("<qq", self.raw, at + 4 + 16 * i) for i in range(count)]

    def text(self, slot: int) -> str:
        """Return a string field."""
        at = self.follow(slot)
        assert at is not None
        (count,) = struct.unpack_from("<I", self.raw, at)
        return self.raw[at + 4 : at + 4 + count].decode()


@dataclass
class Column:
    """A field of the schema message."""

    name: str
    kind: str
    width: int
    children: list[Column]
    index: str | None

    @classmethod
    def of(cls, table: Table) -> Column:
        """Read a field table."""
        kind, width = UNION[table.number(1 + 1, "B")], 0
        details = table.table(3)
        if kind == "int":
            kind = _integer(details)
        elif kind == "float":
            kind = ("float16", "float32", "float64")[details.number(0, "h")]
        elif kind == "timestamp":
            assert details.number(0, "h") == 3
            assert details.where(1) is None
        elif kind == "fixed":
            width = details.number(0, "i")
        index = None
        if table.where(4) is not None:
            encoding = table.table(4)
            assert encoding.number(0, "q") == 0
            index = _integer(encoding.table(1))
        assert table.number(1, "B") == 1, "every column is nullable"
        return cls(table.text(0), kind, width, [cls.of(t) for t in table.tables(5)], index)


def _integer(table: Table) -> str:
    return ("int" if table.number(1, "B") else "uint") + str(table.number(0, "i"))


def _messages(payload: bytes) -> Iterator[tuple[int, Table, bytes]]:
    at = 0
    while True:
        marker, length = struct.unpack_from("<Ii", payload, at)
        assert marker == 0xFFFFFFFF
        at += 8
        if length == 0:
            assert at == len(payload), "bytes after the end of the stream"
            return
        metadata = payload[at : at + length]
        message = Table(metadata, struct.unpack_from("<I", metadata)[0])
        at += length
        assert at % 64 == 0
        assert message.number(0, "h") == 4
        nbytes = message.number(3, "q")
        yield message.number(1, "B"), message.table(2), payload[at : at + nbytes]
        at += nbytes


class _Batch:
    """Nodes and buffers of one batch, taken one after the other."""

    def __init__(self, table: Table, body: bytes) -> None:
        self.rows = table.number(0, "q")
        self.nodes = iter(table.pairs(1))
        self.buffers = iter(table.pairs(2))
        self.body, self.at = body, 0

    def buffer(self) -> bytes:
        offset, length = next(self.buffers)
        assert offset == self.at
        self.at += length + -length % 8
        assert not any(self.body[offset + length : self.at]), "padding is not zero"
        return self.body[offset : offset + length]

    def bits(self, count: int) -> list[bool]:
        raw = self.buffer()
        assert len(raw) == (count + 7) // 8
        number = int.from_bytes(raw, "little")
        assert number >> count == 0, "trailing bits are not zero"
        return [bool(number >> i & 1) for i in range(count)]

    def read(self, column: Column, kind: str, rows: int) -> list[Any]:
        """Return the values of a column; canonical zeros under nulls are required."""
        length, nulls = next(self.nodes)
        assert length == rows
        valid = self.bits(rows) if nulls else [True] * rows
        if not nulls:
            assert self.buffer() == b""
        assert valid.count(False) == nulls
        values = list(self._values(column, kind, rows))
        for value, is_valid in zip(values, valid, strict=True):
            assert is_valid or not _has_content(value), "bytes under a null"
        return [v if ok else None for v, ok in zip(values, valid, strict=True)]

    def _values(self, column: Column, kind: str, rows: int) -> list[Any]:
        if kind == "bool":
            return list(self.bits(rows))
        if kind in CODES:
            return [v for (v,) in struct.iter_unpack(f"<{CODES[kind]}", self._exact(kind, rows))]
        if kind == "fixed":
            return self._vectors(column, rows)
        if kind == "struct":
            members = [self.read(child, child.kind, rows) for child in column.children]
            names = [child.name for child in column.children]
            return [dict(zip(names, row, strict=True)) for row in zip(*members, strict=True)]
        offsets = [v for (v,) in struct.iter_unpack("<i", self.buffer())]
        assert len(offsets) == rows + 1
        assert offsets[0] == 0
        assert offsets == sorted(offsets)
        spans = list(itertools.pairwise(offsets))
        if kind == "list":
            items = self.read(column.children[0], column.children[0].kind, offsets[-1])
            return [items[a:b] for a, b in spans]
        data = self.buffer()
        assert len(data) == offsets[-1]
        pieces = [data[a:b] for a, b in spans]
        return [piece.decode() for piece in pieces] if kind == "utf8" else pieces

    def _exact(self, kind: str, rows: int) -> bytes:
        data = self.buffer()
        assert len(data) == rows * struct.calcsize("<" + CODES[kind])
        return data

    def _vectors(self, column: Column, rows: int) -> list[bytes]:
        child = column.children[0]
        length, nulls = next(self.nodes)
        assert length == rows * column.width
        assert nulls == 0
        assert self.buffer() == b""
        data = self._exact(child.kind, length)
        width = len(data) // rows
        return [data[i : i + width] for i in range(0, len(data), width)]


def _has_content(value: Any) -> bool:
    if isinstance(value, bytes):
        return any(value)
    if isinstance(value, dict):
        return any(member is not None for member in value.values())
    return bool(value)


def read_stream(payload: bytes) -> tuple[list[Any], str]:
    """Return the values of the only column of a stream, and its physical type."""
    messages = list(_messages(payload))
    assert messages[0][0] == 1
    assert messages[0][2] == b""
    (field,) = messages[0][1].tables(1)
    column = Column.of(field)
    assert column.name == "v"
    words: list[Any] = []
    if column.index is not None:
        messages = messages[1:]
        tag, header, body = messages[0]
        assert tag == 2
        assert header.number(0, "q") == 0
        assert header.number(2, "B") == 0
        batch = _Batch(header.table(1), body)
        words = batch.read(column, column.kind, batch.rows)
        raw = [word.encode() for word in words]
        assert raw == sorted(set(raw)), "the dictionary is not sorted"
    ((_, _, _), (tag, header, body)) = messages
    assert tag == 3
    batch = _Batch(header, body)
    if column.index is None:
        return batch.read(column, column.kind, batch.rows), column.kind
    codes = batch.read(column, column.index, batch.rows)
    assert {c for c in codes if c is not None} == set(range(len(words))), "an unused word"
    return [None if c is None else words[c] for c in codes], f"dictionary {column.index}"
