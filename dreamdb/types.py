"""The vocabulary that codecs, model and store share without importing each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NewType, TypeAlias

__all__ = [
    "ADDRESS_SIZE",
    "BLOB_KINDS",
    "SCALAR_KINDS",
    "STRING_KINDS",
    "ZERO_ADDRESS",
    "Address",
    "Bytes",
    "FieldType",
]

Address = NewType("Address", bytes)
"""33 bytes that name an object: ``0x1e`` and a BLAKE3-256 digest."""

ADDRESS_SIZE: Final = 33
ZERO_ADDRESS: Final = Address(bytes(ADDRESS_SIZE))
"""Stands for an all-null chunk in a tree entry: no object is stored."""

Bytes: TypeAlias = bytes | bytearray | memoryview
"""Anything that exposes a contiguous byte buffer (``memoryview(x).cast("B")`` works)."""

BLOB_KINDS: Final = frozenset({"image", "video", "audio", "binary"})
STRING_KINDS: Final = frozenset({"text", "string", "categorical"})
SCALAR_KINDS: Final = frozenset({"bool", "int", "float", "string", "categorical", "timestamp"})


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a field's values are, independent of how they are stored.

    Parameters
    ----------
    kind : str
        One of ``image video audio binary`` (bytes), ``embedding`` (float32 vector), ``tensor``
        (fixed shape), ``text string categorical`` (UTF-8), ``bool int float timestamp``
        (int64, float64, int64 nanoseconds UTC), ``list``, ``struct``, and ``anchor`` (the
        timeline's own uint64 values).
    mime : str, optional
        Media type of ``image video audio``, such as ``"jpeg"``.
    dim : int, optional
        Length of an embedding.
    dtype : str, optional
        numpy name of a tensor's elements, such as ``"float16"``.
    shape : tuple of int, optional
        Shape of a tensor.
    item : FieldType, optional
        Element type of a ``list``: a scalar kind or ``text``.
    fields : tuple of (str, FieldType), optional
        Members of a ``struct``, in order.
    codec : str, optional
        How an embedding is stored when not exactly, such as ``"sq8"``; see design/0017.
    """

    kind: str
    mime: str | None = None
    dim: int | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    item: FieldType | None = None
    fields: tuple[tuple[str, FieldType], ...] | None = None
    codec: str | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the canonical JSON form: only the members that are set."""
        out: dict[str, Any] = {"kind": self.kind}
        if self.mime is not None:
            out["mime"] = self.mime
        if self.dim is not None:
            out["dim"] = self.dim
        if self.dtype is not None:
            out["dtype"] = self.dtype
        if self.shape is not None:
            out["shape"] = list(self.shape)
        if self.item is not None:
            out["item"] = self.item.to_document()
        if self.fields is not None:
            out["fields"] = [[name, member.to_document()] for name, member in self.fields]
        if self.codec is not None:
            out["codec"] = self.codec
        return out

    def __str__(self) -> str:
        if self.kind == "embedding":
            stored = "" if self.codec is None else f" as {self.codec.partition(':')[0]}"
            return f"embedding[{self.dim}]{stored}"
        if self.kind == "tensor":
            return f"tensor<{self.dtype}>{list(self.shape or ())}"
        if self.kind == "list":
            return f"list<{self.item}>"
        if self.kind == "struct":
            return "struct<" + ", ".join(f"{n}: {t}" for n, t in self.fields or ()) + ">"
        return f"{self.kind}({self.mime})" if self.mime else self.kind
