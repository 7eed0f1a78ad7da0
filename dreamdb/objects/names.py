"""Ref names: what is allowed, and how a name becomes a flat storage key.

Source: design/0002 section 8.
"""

from __future__ import annotations

import re
from typing import Final

from dreamdb.errors import FormatError, RefNameError

__all__ = ["MAX_KEY", "check_ref_name", "decode_ref_key", "encode_ref_key"]

MAX_KEY: Final = 240
_SEGMENT = re.compile(r"[A-Za-z0-9._@=+-]+\Z")
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._@=+-")


def check_ref_name(name: object) -> str:
    """Return the name when it may name a ref.

    Raises
    ------
    RefNameError
        Saying which rule the name breaks.
    """

    def refuse(why: str) -> RefNameError:
        return RefNameError(
            f"ref name {name!r} is not allowed: {why}",
            hint="use segments of letters, digits and ._@=+- joined by '/', "
            "such as 'sweep/lp-lr0.001-bs128'",
        )

    if not isinstance(name, str):
        raise refuse(f"it is a {type(name).__name__}, not text")
    if not name:
        raise refuse("it is empty")
    for segment in name.split("/"):
        if not segment:
            raise refuse("it has an empty segment")
        if not _SEGMENT.match(segment):
            bad = next(c for c in segment if not _SEGMENT.match(c))
            raise refuse(f"it holds the character {bad!r}")
        if segment[0] in "-.":
            raise refuse(f"the segment {segment!r} starts with {segment[0]!r}")
        if ".." in segment:
            raise refuse("it holds '..'")
        if segment.endswith(".lock"):
            raise refuse(f"the segment {segment!r} ends with '.lock'")
    if len(_encode(name)) > MAX_KEY:
        raise refuse(f"it is longer than {MAX_KEY} bytes when stored")
    return name


def _encode(name: str) -> str:
    return "".join(chr(b) if b in _PLAIN else f"%{b:02x}" for b in name.encode("ascii", "replace"))


def encode_ref_key(name: str) -> str:
    """Return the flat, lower-case storage key of a ref name.

    ``/`` and upper case are escaped, so ``sweep`` and ``sweep/x`` coexist and a case-insensitive
    disk cannot merge two refs.
    """
    return _encode(check_ref_name(name))


def decode_ref_key(key: str) -> str:
    """Return the ref name of a storage key.

    Raises
    ------
    FormatError
        When no ref name has that key.
    """
    try:
        name = re.sub(r"%([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), key)
        if _encode(check_ref_name(name)) == key:
            return name
    except RefNameError:
        pass
    raise FormatError(f"{key!r} is not the key of a ref")
