"""Smallest and largest value of a fragment, as a tree entry stores them.

The rules:

* ``bool int timestamp``: two little-endian int64 over the values that are not null; false is 0.
  ``anchor``: two little-endian uint64.
* ``float``: two little-endian float64, NaN ignored and zero always positive; when every value is
  NaN, minimum +infinity and maximum -infinity.
* ``string categorical text``: the first 16 bytes of the smallest and of the largest value in byte
  order, padded with zeros.  When the 16 bytes or the whole shorter value behind the maximum end
  with a zero byte, padding could not be told from data: then the maximum is sixteen ``ff`` bytes,
  which no UTF-8 holds and which mean that there is no upper bound.
* All values null: zeros.  Other kinds: nothing.

Source: design/0002 sections 6.5 and 7.1.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamdb.errors import FormatError
from dreamdb.types import STRING_KINDS, FieldType

__all__ = ["float_bounds", "integer_bounds", "stats_width", "string_bounds", "value_bounds"]

PREFIX: Final = 16
_UNBOUNDED: Final = b"\xff" * PREFIX
_NUMBER_FORMAT: Final = {
    "bool": "<q",
    "int": "<q",
    "timestamp": "<q",
    "anchor": "<Q",
    "float": "<d",
}

Bounds = tuple[bytes, bytes]


def stats_width(ftype: FieldType) -> int:
    """Return how many bytes each of minimum and maximum takes for a field: 0, 8 or 16."""
    if ftype.kind in STRING_KINDS:
        return PREFIX
    return 8 if ftype.kind in _NUMBER_FORMAT else 0


def empty_bounds(ftype: FieldType) -> Bounds:
    """Return the bounds of a fragment without values."""
    width = stats_width(ftype)
    return bytes(width), bytes(width)


def integer_bounds(low: int, high: int, *, signed: bool) -> Bounds:
    """Return the stored form of two integers."""
    code = "<q" if signed else "<Q"
    return struct.pack(code, low), struct.pack(code, high)


def float_bounds(values: npt.NDArray[np.float64]) -> Bounds:
    """Return the stored form of the bounds of at least one float.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Values that are not null; NaN allowed.
    """
    low, high = float(np.fmin.reduce(values)), float(np.fmax.reduce(values))
    if low != low:
        low, high = float("inf"), float("-inf")
    # Adding zero turns a negative zero into a positive one.
    return struct.pack("<d", low + 0.0), struct.pack("<d", high + 0.0)


def string_bounds(low: bytes, high: bytes) -> Bounds:
    """Return the stored form of the smallest and the largest UTF-8 value."""
    shown = high[:PREFIX]
    upper = _UNBOUNDED if shown.endswith(b"\0") else shown.ljust(PREFIX, b"\0")
    return low[:PREFIX].ljust(PREFIX, b"\0"), upper


def value_bounds(ftype: FieldType, low: bytes, high: bytes) -> tuple[Any, Any] | None:
    """Return Python values between which all values of a fragment lie, for pruning.

    Parameters
    ----------
    ftype : FieldType
        The field's type.
    low, high : bytes
        Statistics as a tree entry holds them.  They say nothing when every row is null; the
        caller knows that from the null count.

    Returns
    -------
    tuple or None
        ``bool``, ``int`` (also nanoseconds and anchors), ``float`` or ``str`` bounds, both
        inclusive.  NaN is outside the bounds of a float field: a predicate that NaN can satisfy
        must not prune by them.  A string's lower bound is at most every value; its upper bound is
        at least every value, or None when there is none.  None for kinds without statistics.

    Raises
    ------
    FormatError
        When the statistics have another width than the field's kind, or the minimum is above
        the maximum.
    """
    width = stats_width(ftype)
    if len(low) != width or len(high) != width:
        raise FormatError(
            f"statistics of a {ftype.kind} field have {len(low)} and {len(high)} bytes"
        )
    if width == 0:
        return None
    if width == PREFIX:
        return _lower_text(low), _upper_text(high)
    code = _NUMBER_FORMAT[ftype.kind]
    first, last = struct.unpack(code, low)[0], struct.unpack(code, high)[0]
    if ftype.kind == "float":
        if first <= last or (first, last) == (float("inf"), float("-inf")):
            return first, last
    elif first <= last:
        return (bool(first), bool(last)) if ftype.kind == "bool" else (first, last)
    raise FormatError(f"statistics of a {ftype.kind} field say {first} to {last}")


def _valid_prefix(raw: bytes) -> str:
    """Return the longest prefix that is UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return raw[: error.start].decode()


def _lower_text(low: bytes) -> str:
    return _valid_prefix(low.rstrip(b"\0"))


def _upper_text(high: bytes) -> str | None:
    if high == _UNBOUNDED:
        return None
    exact = high.rstrip(b"\0")
    prefix = _valid_prefix(exact)
    if len(exact) < PREFIX and len(prefix.encode()) == len(exact):
        return prefix
    # Every value that starts with the prefix is below the prefix with its last character raised.
    while prefix:
        code = ord(prefix[-1]) + 1
        if code == 0xD800:
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[:-1] + chr(code)
        prefix = prefix[:-1]
    return None
