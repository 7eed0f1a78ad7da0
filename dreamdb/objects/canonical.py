"""Canonical JSON: one value, one sequence of bytes.

Source: design/0002 section 4.  Reading is strict: the bytes are decoded, encoded again and must be
identical, so no two documents differ only in white space, key order or number spelling.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn, cast

from dreamdb.errors import FormatError
from dreamdb.types import Bytes

__all__ = ["MAX_DOCUMENT", "decode_document", "encode_document"]

MAX_DOCUMENT: Final = 64 << 20
MAX_DEPTH: Final = 32
_INT_RANGE: Final = 1 << 64


def _refuse_float(text: str) -> NoReturn:
    raise FormatError(f"document holds the number {text[:40]!r}; only integers are canonical")


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise FormatError(f"document is nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key, member in value.items():
            if not isinstance(key, str):
                raise FormatError(f"document key {key!r} is not text")
            _check_text(key)
            _check(member, depth + 1)
    elif isinstance(value, (list, tuple)):
        for member in value:
            _check(member, depth + 1)
    elif isinstance(value, int):
        if not -_INT_RANGE < value < _INT_RANGE:
            raise FormatError("document holds an integer beyond 64 bits")
    elif isinstance(value, str):
        _check_text(value)
    elif value is not None:
        raise FormatError(f"document holds a {type(value).__name__}")


def _check_text(text: str) -> None:
    """Refuse half of a surrogate pair: JSON can spell it, but no UTF-8 can show it."""
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        raise FormatError(f"document holds the text {text[:40]!a}, which is not Unicode") from None


def encode_document(value: dict[str, Any]) -> bytes:
    """Encode a document: sorted keys, no spaces, ASCII escapes, integers only.

    Raises
    ------
    FormatError
        When a value is not null, bool, integer, text, list or dictionary.
    """
    _check(value, 0)
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def decode_document(payload: Bytes, *, what: str = "document") -> dict[str, Any]:
    """Decode a document strictly.

    Parameters
    ----------
    payload : bytes-like
        The document's bytes.
    what : str
        Noun for error messages.

    Raises
    ------
    FormatError
        When the bytes are not the canonical encoding of a dictionary.
    """
    raw = bytes(payload)
    if len(raw) > MAX_DOCUMENT:
        raise FormatError(f"{what} has {len(raw)} bytes, more than {MAX_DOCUMENT}")
    if raw.count(b"[") + raw.count(b"{") > 4 * MAX_DEPTH:
        _check_nesting(raw, what)
    try:
        value = json.loads(raw, parse_float=_refuse_float, parse_constant=_refuse_float)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not a dictionary")
    if encode_document(value) != raw:
        raise FormatError(f"{what} is not in canonical form")
    return cast("dict[str, Any]", value)


def _check_nesting(raw: bytes, what: str) -> None:
    """Bound the nesting before the recursive parser sees it."""
    depth = 0
    in_text = False
    skip = False
    for char in raw:
        if skip:
            skip = False
        elif char == 0x5C:
            skip = in_text
        elif char == 0x22:
            in_text = not in_text
        elif not in_text:
            if char in b"[{":
                depth += 1
                if depth > MAX_DEPTH + 1:
                    raise FormatError(f"{what} is nested deeper than {MAX_DEPTH}")
            elif char in b"]}":
                depth -= 1
