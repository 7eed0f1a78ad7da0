"""Tree nodes: packed columns over the entries of a track or of lower nodes.

Source: design/0002 section 7.  A node is a 16-byte header and little-endian columns.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamdb.errors import FormatError
from dreamdb.model.cuts import LADDER, NODE_RULE, OPEN
from dreamdb.types import ADDRESS_SIZE, Address, Bytes

__all__ = ["Entries", "Node", "StatsKind", "empty_entries", "entry_dtype", "stats_kind"]

Entries = npt.NDArray[Any]
"""Structured array with the columns key, rows, nulls, nbytes, rung, address[, low, high]."""

StatsKind = int

MAGIC: Final = b"DDN1"
MAX_LEVEL: Final = 16
_HEADER: Final = struct.Struct("<4sBBHII")
_STATS: Final[dict[int, str | None]] = {0: None, 1: "<i8", 2: "<f8", 3: "S16"}
_STATS_OF: Final = {
    "bool": 1,
    "int": 1,
    "timestamp": 1,
    "float": 2,
    "string": 3,
    "categorical": 3,
    "text": 3,
}
_BASE: Final[list[tuple[str, str]]] = [
    ("key", "<u8"),
    ("rows", "<u8"),
    ("nulls", "<u8"),
    ("nbytes", "<u8"),
    ("rung", "u1"),
    ("address", "V33"),
]


_VALUED: Final = frozenset({"nbytes", "address", "low", "high"})
"""Columns that are zero in the entry of an all-null chunk."""


def stats_kind(kind: str) -> StatsKind:
    """Return which statistics a field kind keeps: 0 none, 1 int64, 2 float64, 3 prefixes."""
    return _STATS_OF.get(kind, 0)


_DTYPES: Final = {
    kind: np.dtype(_BASE + ([("low", stat), ("high", stat)] if stat else []))
    for kind, stat in _STATS.items()
}


def entry_dtype(stats: StatsKind) -> np.dtype[Any]:
    """Return the dtype of the entries that keep these statistics."""
    return _DTYPES[stats]


def empty_entries(stats: StatsKind, count: int = 0) -> Entries:
    """Return ``count`` zeroed entries."""
    return np.zeros(count, entry_dtype(stats))


def _row_nbytes(stats: StatsKind) -> int:
    return 33 + ADDRESS_SIZE + (2 * np.dtype(_STATS[stats]).itemsize if _STATS[stats] else 0)


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a canonical tree.

    Parameters
    ----------
    level : int
        1 when the entries are fragments, else one more than the children's level.
    stats : int
        Which statistics the entries keep.
    entries : structured array
        At least one entry; last keys strictly increasing.
    """

    level: int
    stats: StatsKind
    entries: Entries

    def encode(self) -> bytes:
        """Return the payload of the node object."""
        entries = self.entries
        head = _HEADER.pack(MAGIC, self.level, self.stats, 0, len(entries), 0)
        columns = [
            np.ascontiguousarray(entries[name]).tobytes() for name in entries.dtype.names or ()
        ]
        return head + b"".join(columns)

    @classmethod
    def decode(cls, payload: Bytes, *, level: int | None = None) -> Node:
        """Parse and check a node.

        Parameters
        ----------
        payload : bytes-like
            The verified payload of a node object.
        level : int, optional
            The level the parent expects.

        Raises
        ------
        FormatError
            When anything is out of range or order.
        """
        view = memoryview(payload)
        if view.nbytes < _HEADER.size:
            raise FormatError("a node is shorter than its header")
        magic, own, stats, reserved, count, reserved2 = _HEADER.unpack_from(view)
        if magic != MAGIC or reserved or reserved2 or stats not in _STATS:
            raise FormatError("a node has a malformed header")
        if not 1 <= own <= MAX_LEVEL or (level is not None and own != level):
            raise FormatError(f"a node has level {own}, expected {level}")
        if not 1 <= count <= NODE_RULE.maximum:
            raise FormatError(f"a node has {count} entries")
        if view.nbytes != _HEADER.size + count * _row_nbytes(stats):
            raise FormatError("a node's length does not fit its entry count")
        entries = np.empty(count, entry_dtype(stats))
        at = _HEADER.size
        for name in entries.dtype.names or ():
            column = entries.dtype[name]
            entries[name] = np.frombuffer(view, column, count, at)
            at += column.itemsize * count
        _check_entries(entries, own)
        return cls(own, stats, entries)

    def summary(self, address: Address) -> Entries:
        """Return the single entry that stands for this node in its parent."""
        entries = self.entries
        out = empty_entries(self.stats, 1)
        out["key"] = entries["key"][-1]
        for name in ("rows", "nulls", "nbytes"):
            out[name] = entries[name].sum()
        out["address"] = np.void(address)
        if self.stats:
            valued = entries[entries["nulls"] < entries["rows"]]
            if len(valued):
                if self.stats == 3:
                    out["low"] = min(valued["low"].tolist())
                    out["high"] = max(valued["high"].tolist())
                else:
                    out["low"] = valued["low"].min()
                    out["high"] = valued["high"].max()
        return out


def _check_entries(entries: Entries, level: int) -> None:
    keys = entries["key"]
    if len(keys) > 1 and not bool((keys[1:] > keys[:-1]).all()):
        raise FormatError("a node's keys are not increasing")
    rows, nulls = entries["rows"], entries["nulls"]
    if not bool(((rows > 0) & (nulls <= rows) & (rows < (1 << 48))).all()):
        raise FormatError("a node's counts are out of range")
    if not bool((entries["nbytes"] < (1 << 62) // len(entries)).all()):
        raise FormatError("a node's byte counts are out of range")
    raw = np.ascontiguousarray(entries["address"]).tobytes()
    present = np.frombuffer(raw, np.uint8).reshape(-1, ADDRESS_SIZE)[:, 0] == 0x1E
    if level == 1:
        rungs = entries["rung"]
        if not bool(((rungs < len(LADDER)) | (rungs == OPEN)).all()):
            raise FormatError("a node names an unknown rung")
        if not bool((present == (nulls < rows)).all()):
            raise FormatError("a node has an all-null entry with an address, or one without")
        absent = entries[~present]
        told = [absent[name].tobytes() for name in absent.dtype.names or () if name in _VALUED]
        if any(raw.strip(b"\0") for raw in told):
            raise FormatError("a node has a malformed entry without an address")
    elif not bool(present.all()) or bool(entries["rung"].any()):
        raise FormatError("an inner node has a malformed entry")
