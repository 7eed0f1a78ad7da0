"""The bytes of a certificate: a claim, the objects that prove it or pages of them, a checksum.

Source: design/0016 section 2.  A part never says which object it is: its address is computed from
what it holds, so a part that was changed is another object, which nothing names.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
from blake3 import blake3

from dreamdb.errors import FormatError, UnsupportedFormatError
from dreamdb.objects import HASH_SIZE, PAGE_SIZE, Kind, decode_document, encode_document
from dreamdb.objects.address import address_of_pages, num_pages, page_hashes
from dreamdb.types import Address, Bytes

__all__ = ["MAX_CERTIFICATE_NBYTES", "Certificate", "Part"]

MAX_CERTIFICATE_NBYTES: Final = 1 << 28
_MAGIC: Final = b"DDPROOF"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<7sBII")
_PART: Final = struct.Struct("<BBHIIQ")
_PAGED: Final = 1
_ZSTD: Final = 2
_MAX_RATIO: Final = 4096
_MAX_PARTS: Final = 4096


@dataclass(slots=True)
class Part:
    """One object, whole or some of its pages.

    Parameters
    ----------
    kind : Kind
        What it is.
    nbytes : int
        Length of its payload.
    hashes : bytes
        32 bytes per page of the payload.
    pages : dict of int to bytes
        The pages that are there.
    """

    kind: Kind
    nbytes: int
    hashes: bytes
    pages: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, kind: Kind, payload: Bytes) -> Part:
        """Return a part that knows the hashes of a payload and holds none of its pages yet."""
        length, hashes = page_hashes([payload])
        return cls(kind, length, hashes)

    @property
    def address(self) -> Address:
        """The address that these pages have."""
        return address_of_pages(self.kind, self.nbytes, self.hashes)

    def keep(self, payload: memoryview, start: int, stop: int) -> None:
        """Take in the pages that hold payload bytes ``[start, stop)``."""
        if stop > start:
            for page in range(start // PAGE_SIZE, (stop - 1) // PAGE_SIZE + 1):
                if page not in self.pages:
                    at = page * PAGE_SIZE
                    self.pages[page] = bytes(payload[at : at + PAGE_SIZE])

    def read(self, start: int, stop: int) -> bytes:
        """Return payload bytes ``[start, stop)``.

        Raises
        ------
        FormatError
            When a page is not there.
        """
        if not 0 <= start <= stop <= self.nbytes:
            raise FormatError("a certificate is asked for bytes outside an object")
        if start == stop:
            return b""
        first, last = start // PAGE_SIZE, (stop - 1) // PAGE_SIZE
        missing = [page for page in range(first, last + 1) if page not in self.pages]
        if missing:
            raise FormatError(f"a certificate lacks page {missing[0]} of an object")
        joined = b"".join(self.pages[page] for page in range(first, last + 1))
        return joined[start - first * PAGE_SIZE : stop - first * PAGE_SIZE]

    def encode(self) -> bytes:
        """Return the bytes of the part."""
        count = num_pages(self.nbytes)
        paged = len(self.pages) < count
        body = b"".join(self.pages[page] for page in sorted(self.pages))
        if paged:
            held = bytearray((count + 7) // 8)
            for page in self.pages:
                held[page // 8] |= 1 << page % 8
            absent = [
                self.hashes[page * HASH_SIZE : (page + 1) * HASH_SIZE]
                for page in range(count)
                if page not in self.pages
            ]
            body = b"".join([held, *absent, body])
        squeezed = pa.Codec("zstd", compression_level=3).compress(body, asbytes=True)
        form, stored = _PAGED * paged, body
        if len(squeezed) < len(body) and len(body) <= len(squeezed) * _MAX_RATIO:
            form, stored = form | _ZSTD, squeezed
        return _PART.pack(self.kind, form, 0, len(stored), len(body), self.nbytes) + stored

    @classmethod
    def decode(cls, raw: memoryview, at: int) -> tuple[Part, int]:
        """Parse the part at an offset; return it and where the next one begins."""
        if at + _PART.size > raw.nbytes:
            raise FormatError("a certificate ends inside a part")
        kind, form, reserved, stored, length, nbytes = _PART.unpack_from(raw, at)
        at += _PART.size
        if reserved or form > (_PAGED | _ZSTD) or stored > raw.nbytes - at:
            raise FormatError("a part of a certificate is malformed")
        if length > MAX_CERTIFICATE_NBYTES or nbytes > 1 << 31:
            raise FormatError("a part of a certificate declares too many bytes")
        body = bytes(raw[at : at + stored])
        if form & _ZSTD:
            body = _inflate(body, length)
        if len(body) != length:
            raise FormatError("a part of a certificate has another length")
        try:
            part = cls(Kind(kind), nbytes, b"")
        except ValueError:
            raise FormatError(f"a part of a certificate has the kind {kind}") from None
        part._fill(body, paged=bool(form & _PAGED))
        return part, at + stored

    def _fill(self, body: bytes, *, paged: bool) -> None:
        """Take pages and hashes from a body and compute the hashes of the pages."""
        count = num_pages(self.nbytes)
        present = list(range(count))
        at = 0
        absent: list[int] = []
        if paged:
            at = (count + 7) // 8
            held = body[:at]
            if len(held) != at or int.from_bytes(held, "little") >> count:
                raise FormatError("a part of a certificate has a malformed list of pages")
            present = [page for page in range(count) if held[page // 8] >> page % 8 & 1]
            there = set(present)
            absent = [page for page in range(count) if page not in there]
        hashes: dict[int, bytes] = {}
        for page in absent:
            hashes[page] = body[at : at + HASH_SIZE]
            at += HASH_SIZE
        for page in present:
            size = min(PAGE_SIZE, self.nbytes - page * PAGE_SIZE)
            self.pages[page] = body[at : at + size]
            hashes[page] = blake3(self.pages[page]).digest()
            at += size
        if at != len(body):
            raise FormatError("a part of a certificate has another length")
        self.hashes = b"".join(hashes[page] for page in range(count))


@dataclass(slots=True)
class Certificate:
    """A claim and the parts that prove it.

    Parameters
    ----------
    claim : dict
        ``manifest`` (text address), ``anchor``, ``fields``.
    parts : dict of Address to Part
        Objects, whole or in part.
    """

    claim: dict[str, Any]
    parts: dict[Address, Part] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the certificate's bytes."""
        claim = encode_document(self.claim)
        body = b"".join(
            [
                _HEAD.pack(_MAGIC, _VERSION, len(claim), len(self.parts)),
                claim,
                *(part.encode() for part in self.parts.values()),
            ]
        )
        return body + blake3(body).digest()

    @classmethod
    def decode(cls, raw: Bytes) -> Certificate:
        """Parse a certificate, check its checksum and compute the address of each part.

        Raises
        ------
        FormatError
            When it is malformed or was changed.
        UnsupportedFormatError
            When a newer version made it.
        """
        view = memoryview(raw).cast("B")
        if not _HEAD.size + HASH_SIZE <= view.nbytes <= MAX_CERTIFICATE_NBYTES:
            raise FormatError(f"{view.nbytes} bytes are no certificate")
        magic, version, claim_nbytes, count = _HEAD.unpack_from(view)
        if magic != _MAGIC:
            raise FormatError("this is no certificate: it starts with other bytes")
        if version != _VERSION:
            raise UnsupportedFormatError(
                f"a certificate has version {version}",
                hint="a newer dreamdb made it: pip install -U dreamdb",
            )
        body, at = view[:-HASH_SIZE], _HEAD.size
        if blake3(body).digest() != bytes(view[-HASH_SIZE:]):
            raise FormatError("the certificate was changed or damaged: its checksum is wrong")
        if count > _MAX_PARTS or claim_nbytes > body.nbytes - at:
            raise FormatError("a certificate has a malformed head")
        out = cls(decode_document(body[at : at + claim_nbytes], what="a claim"))
        at += claim_nbytes
        for _ in range(count):
            part, at = Part.decode(body, at)
            if part.address in out.parts:
                raise FormatError("a certificate holds an object twice")
            out.parts[part.address] = part
        if at != body.nbytes:
            raise FormatError("a certificate has bytes behind its last part")
        return out


def _inflate(body: bytes, length: int) -> bytes:
    if length > len(body) * _MAX_RATIO:
        raise FormatError("a part of a certificate declares an absurd compression ratio")
    try:
        return bytes(pa.Codec("zstd").decompress(pa.py_buffer(body), length, asbytes=True))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(f"a part of a certificate does not decompress: {error}") from None
