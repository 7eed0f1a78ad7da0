"""A deterministic writer for the few Flatbuffers tables that Arrow messages need.

General builders may share vtables, drop default values or order fields as they like, so their
bytes differ between libraries and versions.  Here the bytes are normative; the rules are:

* A buffer starts with the uint32 offset of the root table.
* Objects follow depth first: a table, then what its fields refer to in the order of their slots;
  a vector of tables is followed by its tables in order.  Nothing is shared.
* A table is its vtable directly followed by the table.  The vtable has entries up to the highest
  slot present.  Every field given is written, default or not.  Inside the table the int32 offset
  to the vtable comes first, then the fields by falling size, then by slot.
* A table that has an 8-byte field starts at 4 modulo 8, any other at a multiple of 4; so no
  padding ever falls between fields.  Zero bytes fill the gap before the vtable.
* A vector of int64 starts (its uint32 count) at 4 modulo 8; strings and vectors of tables start
  at a multiple of 4.  A string is its uint32 length, its bytes and one zero byte.

Source: design/0002 section 6.2.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Longs", "Node", "Number", "Reference", "Table", "Tables", "Text", "Writer"]


@dataclass(frozen=True, slots=True)
class Number:
    """A scalar field.

    Parameters
    ----------
    slot : int
        Index of the field in the Flatbuffers schema.
    size : int
        Bytes: 1, 2, 4 or 8.
    value : int
        What is written, little-endian.
    mark : str, optional
        Name under which the writer records the position of the value.
    """

    slot: int
    size: int
    value: int
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A field that points to another object."""

    slot: int
    target: Node


@dataclass(frozen=True, slots=True)
class Table:
    """A table with the fields it has."""

    fields: Sequence[Number | Reference]


@dataclass(frozen=True, slots=True)
class Tables:
    """A vector of tables."""

    members: Sequence[Table]


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    value: str


@dataclass(frozen=True, slots=True)
class Longs:
    """A vector of structs made of int64, all zero; ``mark`` records where the first one lies.

    Parameters
    ----------
    count : int
        Number of structs.
    per_struct : int
        Number of int64 in each.
    mark : str
        Name of the position.
    """

    count: int
    per_struct: int
    mark: str


Node: TypeAlias = Table | Tables | Text | Longs


@dataclass(slots=True)
class Writer:
    """Writes one buffer; ``marks`` then holds the named positions."""

    out: bytearray = field(default_factory=bytearray)
    marks: dict[str, int] = field(default_factory=dict)

    def finish(self, root: Table) -> bytes:
        """Write ``root`` and all below it and return the buffer."""
        self.out += bytes(4)
        self._point(0, self._node(root))
        return bytes(self.out)

    def _point(self, where: int, target: int) -> None:
        struct.pack_into("<I", self.out, where, target - where)

    def _align(self, extra: int, modulus: int, remainder: int) -> None:
        """Pad until ``extra`` bytes on is a position that is ``remainder`` modulo ``modulus``."""
        self.out += bytes((remainder - len(self.out) - extra) % modulus)

    def _node(self, node: Node) -> int:
        if isinstance(node, Table):
            return self._table(node)
        if isinstance(node, Tables):
            return self._tables(node)
        if isinstance(node, Longs):
            self._align(0, 8, 4)
            start = len(self.out)
            self.out += struct.pack("<I", node.count)
            self.marks[node.mark] = len(self.out)
            self.out += bytes(8 * node.per_struct * node.count)
            return start
        self._align(0, 4, 0)
        start = len(self.out)
        raw = node.value.encode()
        self.out += struct.pack("<I", len(raw)) + raw + b"\0"
        return start

    def _table(self, table: Table) -> int:
        sizes = {f.slot: f.size if isinstance(f, Number) else 4 for f in table.fields}
        num_entries = max(sizes, default=-1) + 1
        vtable_size = 4 + 2 * num_entries
        self._align(vtable_size, *((8, 4) if 8 in sizes.values() else (4, 0)))
        offsets: dict[int, int] = {}
        end = 4
        for slot in sorted(sizes, key=lambda slot: (-sizes[slot], slot)):
            offsets[slot] = end
            end += sizes[slot]
        entries = [offsets.get(slot, 0) for slot in range(num_entries)]
        self.out += struct.pack(f"<{2 + num_entries}H", vtable_size, end, *entries)
        start = len(self.out)
        self.out += struct.pack("<i", vtable_size) + bytes(end - 4)
        pending: list[tuple[int, Node]] = []
        for item in sorted(table.fields, key=lambda item: item.slot):
            where = start + offsets[item.slot]
            if isinstance(item, Reference):
                pending.append((where, item.target))
                continue
            self.out[where : where + item.size] = item.value.to_bytes(item.size, "little")
            if item.mark is not None:
                self.marks[item.mark] = where
        for where, target in pending:
            self._point(where, self._node(target))
        return start

    def _tables(self, vector: Tables) -> int:
        self._align(0, 4, 0)
        start = len(self.out)
        self.out += struct.pack("<I", len(vector.members)) + bytes(4 * len(vector.members))
        for index, member in enumerate(vector.members):
            self._point(start + 4 + 4 * index, self._node(member))
        return start
