"""One value of a fragment, against the whole fragment decoded."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.codecs import anchors_behind, cell_value, encode
from dreamdb.codecs.logical import arrow_type
from dreamdb.errors import FormatError
from dreamdb.types import FieldType

INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-100, 100)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LIST = FieldType("list", item=FieldType("string"))
STRUCT = FieldType(
    "struct",
    fields=(("a", FieldType("int")), ("b", LIST), ("c", FieldType("binary"))),
)
KINDS: dict[str, tuple[FieldType, st.SearchStrategy[Any]]] = {
    "int": (FieldType("int"), INTEGERS),
    "timestamp": (FieldType("timestamp"), INTEGERS),
    "float": (FieldType("float"), st.floats(allow_nan=False)),
    "bool": (FieldType("bool"), st.booleans()),
    "text": (FieldType("text"), TEXTS),
    "string": (FieldType("string"), TEXTS | st.sampled_from(["a", "b", "ä"])),
    "categorical": (FieldType("categorical"), TEXTS),
    "binary": (FieldType("binary"), st.binary(max_size=40)),
    "list": (LIST, st.lists(st.none() | TEXTS, max_size=4)),
    "struct": (
        STRUCT,
        st.fixed_dictionaries(
            {
                "a": st.none() | st.integers(0, 9),
                "b": st.none() | st.lists(TEXTS, max_size=3),
                "c": st.none() | st.binary(max_size=5),
            }
        ),
    ),
    "embedding": (
        FieldType("embedding", dim=3),
        st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3),
    ),
    "tensor": (
        FieldType("tensor", dtype="int16", shape=(2, 2)),
        st.lists(st.integers(-9, 9), min_size=4, max_size=4),
    ),
}


class Counted:
    """Gives ranges of a payload and remembers them."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.ranges: list[tuple[int, int]] = []

    def __call__(self, start: int, stop: int) -> bytes:
        assert 0 <= start <= stop <= len(self.payload)
        self.ranges.append((start, stop))
        return self.payload[start:stop]


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(data=st.data())
def test_each_cell_is_the_value_of_its_row(kind: str, data: st.DataObject) -> None:
    ftype, values = KINDS[kind]
    given_values = data.draw(st.lists(st.none() | values, min_size=1, max_size=90))
    array = pa.array(given_values, arrow_type(ftype))
    payload = b"".join(encode(ftype, [array]).parts)
    for row in {0, len(array) - 1, data.draw(st.integers(0, len(array) - 1))}:
        found = cell_value(ftype, Counted(payload), len(payload), rows=len(array), row=row)
        wanted = given_values[row]
        if kind == "timestamp" and wanted is not None:
            assert found.dtype == np.dtype("datetime64[ns]")
            assert int(found.astype(np.int64)) == wanted
        elif isinstance(found, np.ndarray):
            assert found.shape == ((2, 2) if kind == "tensor" else (3,))
            assert found.ravel().tolist() == array[row].as_py()
        else:
            assert found == array[row].as_py() == wanted


def test_a_cell_of_many_reads_little() -> None:
    rows = 50_000
    numbers = np.random.default_rng(0).normal(size=rows)
    words = [f"class {n % 97}" for n in range(rows)]
    for ftype, values in (("float", numbers), ("categorical", words), ("string", words)):
        array = pa.array(values, arrow_type(FieldType(ftype)))
        payload = b"".join(encode(FieldType(ftype), [array]).parts)
        read = Counted(payload)
        value = cell_value(FieldType(ftype), read, len(payload), rows=rows, row=40_000)
        assert value == array[40_000].as_py()
        assert sum(stop - start for start, stop in read.ranges) < 4_000


@given(
    st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=60, unique=True),
    st.integers(0, 59),
)
def test_anchors_are_summed_from_the_end(anchors: list[int], start: int) -> None:
    anchors = sorted(anchors)
    start = min(start, len(anchors) - 1)
    array = pa.array(anchors, pa.uint64())
    payload = b"".join(encode(FieldType("anchor"), [array]).parts)
    found = anchors_behind(
        Counted(payload), len(payload), rows=len(anchors), start=start, last_key=anchors[-1]
    )
    assert found.tolist() == anchors[start:]


def test_an_impossible_last_anchor_is_refused() -> None:
    payload = b"".join(encode(FieldType("anchor"), [pa.array([1, 500], pa.uint64())]).parts)
    with pytest.raises(FormatError, match="does not fit"):
        anchors_behind(Counted(payload), len(payload), rows=2, start=0, last_key=3)


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(data=st.data())
def test_a_changed_payload_is_an_error_or_some_value(kind: str, data: st.DataObject) -> None:
    ftype, values = KINDS[kind]
    given_values = data.draw(st.lists(st.none() | values, min_size=1, max_size=70))
    payload = bytearray(b"".join(encode(ftype, [pa.array(given_values, arrow_type(ftype))]).parts))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= 1 << data.draw(st.integers(0, 7))

    def read(start: int, stop: int) -> bytes:
        if not 0 <= start <= stop <= len(payload):
            raise FormatError("outside")
        return bytes(payload[start:stop])

    row = data.draw(st.integers(0, len(given_values) - 1))
    with contextlib.suppress(FormatError):
        cell_value(ftype, read, len(payload), rows=len(given_values), row=row)
