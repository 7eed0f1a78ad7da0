"""Which codec a vector is stored with: its name, its seed, and the bytes of one row.

Source: design/0017 sections 2 and 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from dreamdb.errors import InvalidInputError, SchemaError, nearest_hint
from dreamdb.objects import Kind, address_of, decode_document, encode_document
from dreamdb.types import Address, Bytes, FieldType

__all__ = ["CODECS", "Codec", "padded_dim", "parse_codec", "seed_bytes", "stored_type"]

CODECS: Final = (
    "float32",
    "float16",
    "sq8",
    "rabitq-1",
    "rabitq-2",
    "rabitq-4",
    "rabitq-8",
)
"""Names of all codecs, the exact one first."""

MAX_DIM: Final = 1 << 16
_TEXT = re.compile(r"(float16|sq8)|(rabitq-[1248]):([0-9a-f]{64})")
_FORMAT: Final = 1


def padded_dim(dim: int) -> int:
    """Return the dimension inside RaBitQ: the next multiple of 64."""
    return max(64, -(-dim // 64) * 64)


def seed_bytes(seed: object) -> bytes:
    """Return a seed as 32 bytes.

    Parameters
    ----------
    seed : int or bytes
        A number from 0 to 2**256 - 1, little-endian, or the 32 bytes themselves.

    Raises
    ------
    InvalidInputError
        For anything else.
    """
    if isinstance(seed, (bytes, bytearray)) and len(seed) == 32:
        return bytes(seed)
    if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 1 << 256:
        return seed.to_bytes(32, "little")
    raise InvalidInputError(
        f"{seed!r} is not a seed", hint="give a number from 0 to 2**256 - 1, or 32 bytes"
    )


@dataclass(frozen=True, slots=True)
class Codec:
    """How the vectors of a field are stored.

    Parameters
    ----------
    name : str
        One of :data:`CODECS`.
    dim : int
        Length of a vector.
    seed : bytes
        32 bytes that choose RaBitQ's rotation; empty for the other codecs.
    """

    name: str
    dim: int
    seed: bytes = b""

    def __post_init__(self) -> None:
        if self.name not in CODECS:
            raise SchemaError(
                f"there is no codec {self.name!r}", hint=nearest_hint(self.name, CODECS, "codecs")
            )
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise SchemaError(f"a codec's dim must be a positive integer, not {self.dim!r}")
        if self.dim > MAX_DIM:
            raise SchemaError(f"a codec's dim is at most {MAX_DIM}, not {self.dim}")
        if len(self.seed) != (32 if self.bits else 0):
            raise SchemaError(f"the codec {self.name!r} has a seed of {len(self.seed)} bytes")

    @property
    def bits(self) -> int:
        """Bits per dimension of a RaBitQ code; 0 for the other codecs."""
        return int(self.name[7:]) if self.name.startswith("rabitq-") else 0

    @property
    def width(self) -> int:
        """Bytes of one stored row."""
        if self.bits:
            return 8 + padded_dim(self.dim) * self.bits // 8
        return {"float32": 4 * self.dim, "float16": 2 * self.dim, "sq8": 4 + self.dim}[self.name]

    @property
    def text(self) -> str:
        """The form in a field's type: the name, for RaBitQ a colon and the seed in hexadecimal."""
        return f"{self.name}:{self.seed.hex()}" if self.bits else self.name

    def encode(self) -> bytes:
        """Return the payload of the codec object."""
        return encode_document({"format": _FORMAT, "codec": self.text, "dim": self.dim})

    @property
    def address(self) -> Address:
        """The codec object's name: the same in every space."""
        return address_of(Kind.CODEC, [self.encode()])

    @classmethod
    def decode(cls, payload: Bytes) -> Codec:
        """Parse and check a codec object.

        Raises
        ------
        FormatError
            When the document is malformed.
        SchemaError
            When the codec is unknown.
        """
        document: dict[str, Any] = decode_document(payload, what="a codec")
        text, dim = document.get("codec"), document.get("dim")
        if set(document) != {"format", "codec", "dim"} or document["format"] != _FORMAT:
            raise SchemaError("a codec object has an unknown form", hint="pip install -U dreamdb")
        if text == "float32" and isinstance(dim, int):
            return cls("float32", dim)
        return parse_codec(text, dim)


@lru_cache(maxsize=1024)
def parse_codec(text: Any, dim: Any) -> Codec:
    """Return the codec that a text in a field's type stands for.

    Parameters
    ----------
    text : str
        As in :attr:`Codec.text`; ``float32`` has none, since it is how vectors are stored anyway.
    dim : int
        Length of a vector.

    Raises
    ------
    SchemaError
        For any other text.
    """
    found = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise SchemaError(f"there is no codec {text!r}", hint=f"known codecs: {CODECS}")
    return Codec(found[1] or found[2], dim, bytes.fromhex(found[3] or ""))


@lru_cache(maxsize=1024)
def stored_type(ftype: FieldType) -> FieldType:
    """Return the type of what a field's fragments hold: codes for a field with a codec."""
    if ftype.codec is None:
        return ftype
    width = parse_codec(ftype.codec, ftype.dim).width
    return FieldType("tensor", dtype="uint8", shape=(width,))
