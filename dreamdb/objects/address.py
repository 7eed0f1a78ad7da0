"""Addresses: how an object's bytes become its name.

Source: design/0002 section 2.  An address commits to the payload's length and to the hash of each
of its 16 KiB pages, so any range can be verified without reading the rest.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final

from blake3 import blake3

from dreamdb.errors import FormatError, InvalidInputError
from dreamdb.types import ADDRESS_SIZE, Address, Bytes

__all__ = [
    "FOLDERS",
    "PAGE_SIZE",
    "Kind",
    "address_of",
    "address_of_pages",
    "from_text",
    "num_pages",
    "object_key",
    "page_hashes",
    "to_text",
]

PAGE_SIZE: Final = 16_384
HASH_SIZE: Final = 32
CODE: Final = b"\x1e"
FOLDERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
"""The folders below ``objects/``: every third character that an address's text can have."""
_TEXT = re.compile(r"[a-z2-7]{53}\Z")


class Kind(IntEnum):
    """What an object is; part of its hash, so bytes of one kind never pass as another."""

    FRAGMENT = 1
    NODE = 2
    CONTENT = 3
    MANIFEST = 4
    TAG = 5
    CODEC = 6
    SPATIAL_INDEX = 7
    INDEX = 8
    REDACTION = 9
    RECEIPT = 10
    CATALOG = 11
    INDEX_SEGMENT = 12


_CONTEXT: Final = {kind: f"dreamdb v1 {kind.name.lower().replace('_', '-')}" for kind in Kind}


def num_pages(length: int) -> int:
    """Return the number of pages of a payload; an empty payload has none."""
    return -(-length // PAGE_SIZE)


def page_hashes(parts: Sequence[Bytes]) -> tuple[int, bytes]:
    """Hash each 16 KiB page of the concatenation of ``parts``.

    Parameters
    ----------
    parts : sequence of buffers
        The payload in pieces; they are not copied together.

    Returns
    -------
    length : int
        Bytes in all parts.
    hashes : bytes
        32 bytes per page, in order.
    """
    out: list[bytes] = []
    length = 0
    open_page = None
    room = PAGE_SIZE
    for part in parts:
        view = memoryview(part).cast("B")
        size = view.nbytes
        length += size
        at = 0
        if open_page is not None:
            at = min(room, size)
            open_page.update(view[:at])
            room -= at
            if room:
                continue
            out.append(open_page.digest())
            open_page, room = None, PAGE_SIZE
        whole = at + (size - at) // PAGE_SIZE * PAGE_SIZE
        for start in range(at, whole, PAGE_SIZE):
            out.append(blake3(view[start : start + PAGE_SIZE]).digest())
        if whole < size:
            open_page = blake3(view[whole:])
            room = PAGE_SIZE - (size - whole)
    if open_page is not None:
        out.append(open_page.digest())
    return length, b"".join(out)


def address_of_pages(kind: Kind, length: int, hashes: bytes) -> Address:
    """Return the address of a payload from its length and its page hashes."""
    digest = blake3(struct.pack("<Q", length), derive_key_context=_CONTEXT[kind])
    digest.update(hashes)
    return Address(CODE + digest.digest())


def address_of(kind: Kind, parts: Sequence[Bytes]) -> Address:
    """Return the address of a payload given in pieces."""
    length, hashes = page_hashes(parts)
    return address_of_pages(kind, length, hashes)


@lru_cache(maxsize=1 << 14)
def to_text(address: Address) -> str:
    """Return the 53 characters of lower-case unpadded base32 that stand for an address."""
    return base64.b32encode(address).decode("ascii").lower().rstrip("=")


@lru_cache(maxsize=1 << 14)
def from_text(text: str) -> Address:
    """Parse the text form of an address.

    Raises
    ------
    InvalidInputError
        When the text is not the canonical form of an address.
    """
    if not _TEXT.match(text):
        raise InvalidInputError(
            f"{text!r} is not an address", hint="an address has 53 characters of a-z and 2-7"
        )
    raw = base64.b32decode(text.upper() + "===")
    if len(raw) != ADDRESS_SIZE or raw[:1] != CODE or to_text(Address(raw)) != text:
        raise InvalidInputError(f"{text!r} is not the canonical text of an address")
    return Address(raw)


def object_key(address: Address) -> str:
    """Return where an object lies below a space's root: ``objects/<1>/<53>``."""
    if len(address) != ADDRESS_SIZE or address[:1] != CODE:
        raise FormatError(f"{address!r} is not an address")
    text = to_text(address)
    return f"objects/{text[2]}/{text}"
