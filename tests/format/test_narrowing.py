"""The physical types of design/0002 section 6.3, at the edges of each rule."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from dreamdb.codecs import encode
from dreamdb.types import FieldType
from tests.format.independent_arrow import read_stream


def physical(kind: str, values: list[Any], dtype: pa.DataType) -> str:
    """Return the physical type that the library chooses, after reading the values back."""
    encoded = encode(FieldType(kind), [pa.array(values, dtype)])
    found, chosen = read_stream(b"".join(bytes(part) for part in encoded.parts))
    if kind != "anchor":
        assert found == values
    return chosen


@pytest.mark.parametrize("kind", ["int", "timestamp"])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_integers_are_as_narrow_as_their_values_allow(kind: str, bits: int) -> None:
    dtype = pa.int64() if kind == "int" else pa.timestamp("ns")
    most, least = (1 << bits - 1) - 1, -(1 << bits - 1)
    for values in ([most], [least], [least, most], [None, most, 0]):
        assert physical(kind, values, dtype) == f"int{bits}"
    for values in ([most + 1], [least - 1], [0, None, most + 1]):
        assert physical(kind, values, dtype) == f"int{2 * bits}"


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_differences_are_as_narrow_as_they_allow(bits: int) -> None:
    most = (1 << bits) - 1
    start = 1 << 60
    assert physical("anchor", [start, start + most], pa.uint64()) == f"uint{bits}"
    assert physical("anchor", [start, start + most + 1], pa.uint64()) == f"uint{2 * bits}"
    assert physical("anchor", [(1 << 64) - 1], pa.uint64()) == "uint8"


@pytest.mark.parametrize(
    ("rows", "distinct", "nulls", "repeats"),
    [
        (64, 16, 0, True),
        (64, 17, 0, False),
        (63, 1, 0, False),
        (64, 1, 0, True),
        (64, 16, 48, True),
        (68, 17, 20, True),
        (67, 17, 20, False),
        (4 * 32_768, 32_768, 0, True),
        (4 * 32_769, 32_769, 0, False),
    ],
)
def test_strings_with_few_values_have_a_dictionary(
    rows: int, distinct: int, nulls: int, repeats: bool
) -> None:
    words = [f"w{at % distinct}" for at in range(rows - nulls)]
    values = words + [None] * nulls
    chosen = physical("string", values, pa.string())
    assert chosen.startswith("dictionary") == repeats
    assert physical("text", values, pa.string()) == "utf8"
    assert physical("categorical", values, pa.string()).startswith("dictionary")


@pytest.mark.parametrize(
    ("distinct", "index"), [(0, 8), (1, 8), (128, 8), (129, 16), (32_768, 16), (32_769, 32)]
)
def test_indices_are_as_narrow_as_the_dictionary_allows(distinct: int, index: int) -> None:
    values = [f"w{at}" for at in range(distinct)] + [None]
    assert physical("categorical", values, pa.string()) == f"dictionary int{index}"
