"""Stored objects: the 64-byte envelope, the payload, and the page list that verifies ranges.

Source: design/0002 section 3.  Layout of a stored object::

    envelope (64) | body (payload, or its zstd frame) | page hashes (32 per page)

The page list is present when the body is plain and longer than one page.  The envelope is outside
the hash: recompression never changes an address, and a random nonce makes two uploads differ.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from dreamdb.errors import FormatError, HashMismatchError, UnsupportedFormatError
from dreamdb.objects.address import (
    HASH_SIZE,
    PAGE_SIZE,
    Kind,
    address_of_pages,
    num_pages,
    page_hashes,
    to_text,
)
from dreamdb.types import Address, Bytes

__all__ = ["ENVELOPE_SIZE", "Compression", "Envelope", "SealedObject", "decompress", "seal"]

MAGIC: Final = b"DREAMDB\x00"
VERSION: Final = 1
ENVELOPE_SIZE: Final = 64
MAX_OBJECT: Final = 1 << 31
MAX_RATIO: Final = 4096
_STRUCT: Final = struct.Struct("<8sHBBIQQ8s24x")
_ZSTD_LEVEL: Final = 1
_LOCAL = threading.local()


class Compression(IntEnum):
    """How the body of a stored object holds its payload."""

    NONE = 0
    ZSTD = 1


@dataclass(frozen=True, slots=True)
class Envelope:
    """The parsed head of a stored object.

    Parameters
    ----------
    kind : Kind
        What the object is.
    compression : Compression
        How the body holds the payload.
    raw_nbytes : int
        Bytes of the payload.
    body_nbytes : int
        Bytes of the body as stored.
    """

    kind: Kind
    compression: Compression
    raw_nbytes: int
    body_nbytes: int

    @property
    def trailer_nbytes(self) -> int:
        """Bytes of the page list behind the body."""
        if self.compression is Compression.NONE and self.raw_nbytes > PAGE_SIZE:
            return HASH_SIZE * num_pages(self.raw_nbytes)
        return 0

    @property
    def stored_nbytes(self) -> int:
        """Bytes of the whole stored object."""
        return ENVELOPE_SIZE + self.body_nbytes + self.trailer_nbytes

    def pack(self) -> bytes:
        """Return the 64 bytes with a fresh random nonce."""
        return _STRUCT.pack(
            MAGIC,
            VERSION,
            self.kind,
            self.compression,
            0,
            self.raw_nbytes,
            self.body_nbytes,
            os.urandom(8),
        )

    @staticmethod
    def nonce_of(head: Bytes) -> bytes:
        """Return the nonce of a stored object, given at least its envelope."""
        return bytes(memoryview(head)[32:40])

    @classmethod
    def parse(cls, head: Bytes, stored_nbytes: int | None, name: str) -> Envelope:
        """Parse and check the first 64 bytes of a stored object.

        Parameters
        ----------
        head : bytes-like
            At least the first 64 bytes.
        stored_nbytes : int or None
            Length of the whole stored object, when known.
        name : str
            The object's text address, for messages.

        Raises
        ------
        FormatError
            When a field is out of its range or the length does not agree.
        UnsupportedFormatError
            When a newer version wrote it.
        """
        view = memoryview(head)
        if view.nbytes < ENVELOPE_SIZE:
            raise FormatError(f"object {name} is truncated: {view.nbytes} bytes", object=name)
        magic, version, kind, compression, reserved, raw, body, _ = _STRUCT.unpack_from(view)
        if magic != MAGIC:
            raise FormatError(f"object {name} does not start with the magic bytes", object=name)
        if version != VERSION:
            raise UnsupportedFormatError(
                f"object {name} has envelope version {version}",
                hint="a newer dreamdb wrote it: pip install -U dreamdb",
                object=name,
            )
        if reserved or any(view[40:ENVELOPE_SIZE]):
            raise FormatError(f"object {name} has non-zero reserved bytes", object=name)
        try:
            parsed = cls(Kind(kind), Compression(compression), raw, body)
        except ValueError as error:
            raise FormatError(f"object {name}: {error}", object=name) from None
        if raw > MAX_OBJECT or body > MAX_OBJECT:
            raise FormatError(f"object {name} declares {max(raw, body)} bytes", object=name)
        if parsed.compression is Compression.NONE and raw != body:
            raise FormatError(f"object {name} has two lengths for one payload", object=name)
        if parsed.compression is Compression.ZSTD and raw > body * MAX_RATIO + 1024:
            raise FormatError(f"object {name} declares an absurd compression ratio", object=name)
        if stored_nbytes is not None and parsed.stored_nbytes != stored_nbytes:
            raise FormatError(
                f"object {name} has {stored_nbytes} bytes, its envelope says "
                f"{parsed.stored_nbytes}",
                object=name,
            )
        return parsed


@dataclass(frozen=True, slots=True)
class SealedObject:
    """An object ready to be stored.

    Parameters
    ----------
    address : Address
        Its name.
    parts : tuple of bytes-like
        Envelope, body and page list; write them one after the other.
    nbytes : int
        Bytes of all parts.
    raw_nbytes : int
        Bytes of the payload.
    """

    address: Address
    parts: tuple[Bytes, ...]
    nbytes: int
    raw_nbytes: int

    def to_bytes(self) -> bytes:
        """Return the stored form as one bytes object (a copy)."""
        return b"".join(self.parts)


def seal(kind: Kind, parts: Sequence[Bytes], *, compress: bool) -> SealedObject:
    """Hash a payload and put it into its envelope.

    Parameters
    ----------
    kind : Kind
        What the object is.
    parts : sequence of bytes-like
        The payload in pieces; plain payloads are not copied.
    compress : bool
        Try zstd and keep it when it is smaller.

    Returns
    -------
    SealedObject
        Hashing and compression release the GIL for large payloads.
    """
    raw, hashes = page_hashes(parts)
    if raw > MAX_OBJECT:
        raise FormatError(f"an object of {raw} bytes is larger than {MAX_OBJECT}")
    address = address_of_pages(kind, raw, hashes)
    compression = Compression.NONE
    body: tuple[Bytes, ...] = tuple(p for p in parts if memoryview(p).nbytes)
    body_nbytes = raw
    if compress and raw > 64:
        squeezed = _codec().compress(b"".join(body), asbytes=True)
        if len(squeezed) < raw and raw <= len(squeezed) * MAX_RATIO:
            compression, body, body_nbytes = Compression.ZSTD, (squeezed,), len(squeezed)
    envelope = Envelope(kind, compression, raw, body_nbytes)
    trailer: tuple[Bytes, ...] = (hashes,) if envelope.trailer_nbytes else ()
    return SealedObject(address, (envelope.pack(), *body, *trailer), envelope.stored_nbytes, raw)


def decompress(envelope: Envelope, body: Bytes, name: str) -> memoryview:
    """Return the payload of a zstd body, never longer than the envelope declares.

    Raises
    ------
    HashMismatchError
        When the frame is damaged or has another length.
    """
    import pyarrow as pa

    try:
        # Into bytes: Arrow's own allocator now and then takes milliseconds for a first block.
        out = _codec().decompress(pa.py_buffer(body), envelope.raw_nbytes, asbytes=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise HashMismatchError(
            f"object {name} does not decompress: {error}", object=name
        ) from None
    view = memoryview(out)
    if view.nbytes != envelope.raw_nbytes:
        raise HashMismatchError(f"object {name} decompresses to another length", object=name)
    return view


def _codec() -> Any:
    codec = getattr(_LOCAL, "zstd", None)
    if codec is None:
        import pyarrow as pa

        codec = _LOCAL.zstd = pa.Codec("zstd", compression_level=_ZSTD_LEVEL)
    return codec


def check_address(address: Address, kind: Kind, length: int, hashes: bytes) -> None:
    """Raise HashMismatchError when page hashes do not lead to the address."""
    if address_of_pages(kind, length, hashes) != address:
        name = to_text(address)
        raise HashMismatchError(
            f"object {name} does not hash to its address: it is damaged",
            hint="run `dreamdb verify` to see what it affects",
            object=name,
        )
