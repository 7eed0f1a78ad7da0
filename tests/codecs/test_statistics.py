"""Stored minima and maxima enclose the values."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.codecs import coerce, encode, stats_width, value_bounds
from dreamdb.errors import FormatError
from dreamdb.types import FieldType
from tests.codecs.samples import FIELD_TYPES, INT64

INT, FLOAT, TEXT = FieldType("int"), FieldType("float"), FieldType("text")
NAN, INF = float("nan"), float("inf")


def stats_of(ftype: FieldType, values: list[object]) -> tuple[bytes, bytes]:
    return encode(ftype, coerce(ftype, values, field="f").chunks).stats


def bounds_of(ftype: FieldType, values: list[object]) -> tuple[object, object] | None:
    return value_bounds(ftype, *stats_of(ftype, values))


def test_width_follows_the_kind() -> None:
    wide = {"text": 16, "string": 16, "categorical": 16}
    wide |= {"bool": 8, "int": 8, "float": 8, "timestamp": 8}
    for ftype in FIELD_TYPES.values():
        expected = wide.get(ftype.kind, 0)
        assert stats_width(ftype) == expected
        assert list(map(len, stats_of(ftype, []))) == [expected, expected]
        assert stats_of(ftype, [None]) == (bytes(expected), bytes(expected))
    assert stats_width(FieldType("anchor")) == 8


def test_exact_bytes() -> None:
    assert stats_of(INT, [5, None, -2]) == (struct.pack("<q", -2), struct.pack("<q", 5))
    assert stats_of(FieldType("bool"), [True, None]) == (struct.pack("<q", 1),) * 2
    assert stats_of(FLOAT, [-0.0, NAN]) == (bytes(8), bytes(8))
    assert stats_of(FLOAT, [NAN]) == (struct.pack("<d", INF), struct.pack("<d", -INF))
    assert stats_of(TEXT, ["b", "a" * 20]) == (b"a" * 16, b"b".ljust(16, b"\0"))
    assert stats_of(TEXT, ["a\0"]) == (b"a".ljust(16, b"\0"), b"\xff" * 16)
    anchors = encode(FieldType("anchor"), [pa.array([1, 2**64 - 1], pa.uint64())])
    assert anchors.stats == (struct.pack("<Q", 1), b"\xff" * 8)


@given(st.lists(INT64, min_size=1))
def test_integer_bounds_are_exact(values: list[int]) -> None:
    assert bounds_of(INT, values) == (min(values), max(values))


@given(st.lists(st.floats(allow_nan=True), min_size=1))
def test_float_bounds_are_exact_without_nan(values: list[float]) -> None:
    numbers = [v for v in values if v == v]
    assert bounds_of(FLOAT, values) == (min(numbers, default=INF), max(numbers, default=-INF))


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=24)
AWKWARD = st.text(st.sampled_from("\0a\x7f\x80é퟿\ue000\U0010ffff"), max_size=20)


@pytest.mark.parametrize("kind", ["text", "string", "categorical"])
@given(values=st.lists(ANY_TEXT | AWKWARD, min_size=1, max_size=80))
def test_text_bounds_enclose_every_value(kind: str, values: list[str]) -> None:
    bounds = bounds_of(FieldType(kind), values)
    assert bounds is not None
    low, high = bounds
    assert low <= min(values)
    assert high is None or high >= max(values)
    if len(max(values).encode()) < 16 and not max(values).endswith("\0"):
        assert high == max(values)


def test_text_upper_bound_is_tight_or_absent() -> None:
    assert bounds_of(TEXT, ["a" * 16]) == ("a" * 16, "a" * 15 + "b")
    assert bounds_of(TEXT, ["a" * 15 + "é"]) == ("a" * 15, "a" * 14 + "b")
    assert bounds_of(TEXT, ["a" * 13 + "퟿" + "x"]) == (
        "a" * 13 + "퟿",
        "a" * 13 + "\ue000",
    )
    assert bounds_of(TEXT, ["\U0010ffff" * 5]) == ("\U0010ffff" * 4, None)
    assert bounds_of(TEXT, [""]) == ("", "")
    assert bounds_of(TEXT, ["\0"]) == ("", None)


def test_bool_bounds_are_bools() -> None:
    low, high = bounds_of(FieldType("bool"), [True, False]) or (None, None)
    assert (low, high) == (False, True)
    assert isinstance(low, bool)


def test_kinds_without_statistics_have_no_bounds() -> None:
    assert value_bounds(FIELD_TYPES["embedding"], b"", b"") is None


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("int", b"", b""),
        ("int", bytes(8), bytes(7)),
        ("int", struct.pack("<q", 1), struct.pack("<q", 0)),
        ("float", struct.pack("<d", 1), struct.pack("<d", 0)),
        ("float", struct.pack("<d", NAN), struct.pack("<d", 0)),
        ("text", bytes(8), bytes(8)),
        ("image", bytes(8), bytes(8)),
    ],
)
def test_impossible_statistics_are_refused(kind: str, low: bytes, high: bytes) -> None:
    with pytest.raises(FormatError):
        value_bounds(FieldType(kind), low, high)


def test_garbage_under_nulls_does_not_reach_the_statistics() -> None:
    for dtype, ftype in ((np.int64, INT), (np.float64, FLOAT)):
        data = pa.py_buffer(np.array([1, 99, 2], dtype))
        array = pa.Array.from_buffers(
            pa.from_numpy_dtype(dtype), 3, [pa.py_buffer(bytes([0b101])), data]
        )
        assert value_bounds(ftype, *encode(ftype, [array]).stats) == (1, 2)
