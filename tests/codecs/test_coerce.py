"""What users may give, and what is refused with field and row."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.codecs import arrow_type, coerce
from dreamdb.errors import InvalidInputError
from dreamdb.types import FieldType
from tests.codecs.samples import FIELD_TYPES, column_strategy, same_values

BOOL, INT, FLOAT = FieldType("bool"), FieldType("int"), FieldType("float")
TIME, TEXT, IMAGE = FieldType("timestamp"), FieldType("text"), FieldType("image", mime="png")
CATEGORY, ANCHOR = FieldType("categorical"), FieldType("anchor")
VECTOR = FieldType("embedding", dim=3)
MATRIX = FieldType("tensor", dtype="int16", shape=(2, 2))
FLOATS = FieldType("tensor", dtype="float32", shape=(2,))
INTS = FieldType("list", item=INT)
WORDS = FieldType("list", item=FieldType("string"))
PERSON = FieldType("struct", fields=(("age", INT), ("names", WORDS)))
NAN, INF = float("nan"), float("inf")
PLUS_2 = dt.timezone(dt.timedelta(hours=2))
Y2K = dt.datetime(2000, 1, 1)
Y2K_NS = 946_684_800_000_000_000
F32 = pa.list_(pa.float32(), 3)


class Colour(enum.IntEnum):
    RED = 7


def ns(*values: int | None) -> list[int | None]:
    return list(values)


ACCEPTED: list[tuple[FieldType, Any, list[Any]]] = [
    (BOOL, [True, None, np.bool_(False)], [True, None, False]),
    (BOOL, np.array([True, False]), [True, False]),
    (INT, [1, None, np.int8(-3), Colour.RED], [1, None, -3, 7]),
    (INT, [-(2**63), 2**63 - 1], [-(2**63), 2**63 - 1]),
    (INT, (1, 2), [1, 2]),
    (INT, np.array([1, 2], ">i2"), [1, 2]),
    (INT, np.array([1, 2], np.uint64), [1, 2]),
    (INT, np.arange(6)[::2], [0, 2, 4]),
    (INT, np.array([1, None], object), [1, None]),
    (INT, pa.array([1, None], pa.uint64()), [1, None]),
    (INT, pa.array([1, None], pa.int8()), [1, None]),
    (INT, pa.array([None, None]), [None, None]),
    (INT, pa.chunked_array([[1], [], [2]], pa.int32()), [1, 2]),
    (INT, torch.arange(3), [0, 1, 2]),
    (INT, pd.Series([1, 2]), [1, 2]),
    (INT, pl.Series([1, None]), [1, None]),
    (INT, [], []),
    (INT, np.array([]), []),
    (FLOAT, [1, 2.5, None, np.float32(0.5), -(2**53)], [1.0, 2.5, None, 0.5, -(2.0**53)]),
    (FLOAT, [INF, -INF], [INF, -INF]),
    (FLOAT, np.array([1, 2], np.float16), [1.0, 2.0]),
    (FLOAT, np.array([3], np.uint8), [3.0]),
    (FLOAT, pa.array([0.5, None], pa.float32()), [0.5, None]),
    (FLOAT, pa.array([2**53, None]), [2.0**53, None]),
    (TIME, [Y2K, dt.date(2000, 1, 1), None, Y2K_NS], ns(Y2K_NS, Y2K_NS, None, Y2K_NS)),
    (TIME, [Y2K.replace(tzinfo=PLUS_2)], ns(Y2K_NS - 7_200_000_000_000)),
    (TIME, [np.datetime64("2000-01-01"), np.datetime64("NaT")], ns(Y2K_NS, None)),
    (TIME, [pd.Timestamp(7), pd.NaT], ns(7, None)),
    (TIME, np.array(["2000", "NaT"], "M8[Y]"), ns(Y2K_NS, None)),
    (TIME, np.array(["2000-01"], "M8[M]"), ns(Y2K_NS)),
    (TIME, np.array([5], "M8[10ms]"), ns(50_000_000)),
    (TIME, np.array([5], ">M8[ns]"), ns(5)),
    (TIME, np.array(["NaT"], "M8"), ns(None)),
    (TIME, np.array([5], np.int32), ns(5)),
    (TIME, pa.array([Y2K, None], pa.timestamp("s")), ns(Y2K_NS, None)),
    (
        TIME,
        pa.array([Y2K.replace(tzinfo=PLUS_2)], pa.timestamp("us", "Europe/Berlin")),
        ns(Y2K_NS - 7_200_000_000_000),
    ),
    (TIME, pa.array([dt.date(2000, 1, 1)], pa.date32()), ns(Y2K_NS)),
    (TIME, pa.array([dt.date(2000, 1, 1)], pa.date64()), ns(Y2K_NS)),
    (TEXT, ["a", "é", None, np.str_("n")], ["a", "é", None, "n"]),
    (TEXT, np.array(["a", "bc"]), ["a", "bc"]),
    (TEXT, pl.Series(["a", None]), ["a", None]),
    (TEXT, pd.Series(["a", None]), ["a", None]),
    (CATEGORY, pa.array(["a", None]).dictionary_encode(), ["a", None]),
    (CATEGORY, pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
    (CATEGORY, pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]), ["a", "a", "b"]),
    (IMAGE, [b"a", None, bytearray(b"b"), memoryview(b"cd")[1:]], [b"a", None, b"b", b"d"]),
    (IMAGE, [pa.py_buffer(b"x"), np.frombuffer(b"yz", np.uint8)], [b"x", b"yz"]),
    (IMAGE, pa.array([b"ab", None], pa.binary(2)), [b"ab", None]),
    (VECTOR, np.ones((2, 3)), [[1.0] * 3] * 2),
    (VECTOR, np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)), [[0, 1, 2], [3, 4, 5]]),
    (VECTOR, np.ones((1, 3), np.int8), [[1.0] * 3]),
    (VECTOR, np.zeros((0, 3)), []),
    (VECTOR, [[1, 2, 3], None, (4.0, 5, 6)], [[1, 2, 3], None, [4, 5, 6]]),
    (VECTOR, [None, np.ones(3, "f2"), torch.ones(3)], [None, [1.0] * 3, [1.0] * 3]),
    (VECTOR, [None], [None]),
    (VECTOR, torch.ones(1, 3), [[1.0] * 3]),
    (VECTOR, pa.array([[1, 2, 3], None], pa.list_(pa.float64())), [[1, 2, 3], None]),
    (VECTOR, pa.array([None, [1, 2, 3]], pa.large_list(pa.float32())), [None, [1, 2, 3]]),
    (VECTOR, pa.array([[1, 2, 3], None], pa.list_(pa.float16(), 3)), [[1, 2, 3], None]),
    (VECTOR, pl.Series([[1.0, 2, 3]], dtype=pl.Array(pl.Float32, 3)), [[1, 2, 3]]),
    (MATRIX, np.ones((1, 2, 2), np.int64), [[1, 1, 1, 1]]),
    (MATRIX, [[[1, 2], [3, 4]], None], [[1, 2, 3, 4], None]),
    (MATRIX, pa.array([[[1, 2], [3, 4]], None]), [[1, 2, 3, 4], None]),
    (MATRIX, pa.array([[1, 2, 3, 4], None], pa.list_(pa.int16(), 4)), [[1, 2, 3, 4], None]),
    (FLOATS, [[NAN, INF]], [[NAN, INF]]),
    (FLOATS, np.array([[1, 2**24]]), [[1.0, 2.0**24]]),
    (INTS, [[1, None], None, (), np.array([2])], [[1, None], None, [], [2]]),
    (INTS, np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (INTS, pa.array([[1], None], pa.large_list(pa.int8())), [[1], None]),
    (INTS, pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), [[1, 2], None]),
    (WORDS, pl.Series([["a", None], None]), [["a", None], None]),
    (
        PERSON,
        [{"age": 1}, None, {"names": ["a"]}],
        [{"age": 1, "names": None}, None, {"age": None, "names": ["a"]}],
    ),
    (PERSON, pa.array([{"names": ["a"]}, None]), [{"age": None, "names": ["a"]}, None]),
    (ANCHOR, [0, 2**64 - 1], [0, 2**64 - 1]),
    (ANCHOR, np.array([5], np.int64), [5]),
]


@pytest.mark.parametrize(("ftype", "values", "expected"), ACCEPTED)
def test_accepted(ftype: FieldType, values: Any, expected: list[Any]) -> None:
    column = coerce(ftype, values, field="f")
    assert column.type == arrow_type(ftype)
    column.validate(full=True)
    if ftype == TIME:
        column = pa.chunked_array([c.view(pa.int64()) for c in column.chunks], pa.int64())
    assert repr(column.to_pylist()) == repr(
        [[*map(type_of(ftype), row)] if vectorial(ftype, row) else row for row in expected]
    )


def vectorial(ftype: FieldType, row: Any) -> bool:
    return row is not None and ftype.kind in ("embedding", "tensor")


def type_of(ftype: FieldType) -> type:
    return int if ftype.dtype == "int16" else float


REFUSED: list[tuple[FieldType, Any, int | None, str]] = [
    (BOOL, [True, 1], 1, "int"),
    (BOOL, np.array([0, 1]), 0, "integer values"),
    (BOOL, pa.array([1]), 0, "integer values"),
    (BOOL, ["true"], 0, "str"),
    (INT, [1, True], 1, "bool"),
    (INT, [1, np.bool_(True)], 1, "bool"),
    (INT, np.array([True]), 0, "bool values"),
    (INT, pa.array([True]), 0, "bool values"),
    (INT, [1, 2.0], 1, "float"),
    (INT, np.array([1.0]), 0, "float values"),
    (INT, pa.array([1.5]), 0, "float values"),
    (INT, [0, 2**63], 1, "outside"),
    (INT, [-(2**63) - 1], 0, "outside"),
    (INT, [0, np.uint64(2**63)], 1, "outside"),
    (INT, np.array([0, 2**63], np.uint64), 1, "outside"),
    (INT, pa.array([None, 2**63], pa.uint64()), 1, "outside"),
    (INT, ["1"], 0, "str"),
    (INT, [None, NAN], 1, "nan"),
    (INT, pa.array(["1"]), 0, "string"),
    (INT, np.ones((2, 2), int), 0, "shape"),
    (INT, 7, None, "int"),
    (INT, "123", None, "str"),
    (INT, {"a": 1}, None, "dict"),
    (INT, np.array(7), None, "single value"),
    (INT, np.ma.masked_array([1, 2], [True, False]), None, "masked"),
    (INT, [pd.NA], 0, "NA"),
    (INT, pd.Series([1, "a"]), None, "Series"),
    (FLOAT, [1.0, True], 1, "bool"),
    (FLOAT, [0, 2**53 + 1], 1, "2^53"),
    (FLOAT, [10**400], 0, "2^53"),
    (FLOAT, np.array([0, -(2**53) - 1]), 1, "2^53"),
    (FLOAT, pa.array([None, 2**60]), 1, "2^53"),
    (FLOAT, ["1.5"], 0, "str"),
    (FLOAT, np.array([1j]), 0, "complex"),
    (TIME, ["2000-01-01"], 0, "str"),
    (TIME, pa.array(["2000-01-01"]), 0, "string"),
    (TIME, [Y2K, 1.5], 1, "float"),
    (TIME, [True], 0, "bool"),
    (TIME, np.array([1.5]), 0, "float values"),
    (TIME, [Y2K, dt.datetime(1677, 1, 1)], 1, "1677 to 2262"),
    (TIME, [dt.datetime(2263, 1, 1)], 0, "1677 to 2262"),
    (TIME, [None, 2**63], 1, "1677 to 2262"),
    (TIME, np.array(["2000", "9999"], "M8[Y]"), 1, "1677 to 2262"),
    (TIME, np.array(["2262-04-12"], "M8[D]"), 0, "1677 to 2262"),
    (TIME, np.array([0, 2**62], "M8[us]"), 1, "1677 to 2262"),
    (TIME, [Y2K, np.datetime64("9999-01-01")], 1, "1677 to 2262"),
    (TIME, np.array([1], "M8[ps]"), 0, "finer"),
    (TIME, pa.array([None, 10**12], pa.timestamp("s")), 1, "1677 to 2262"),
    (TIME, pa.array([dt.date(9999, 1, 1)]), 0, "1677 to 2262"),
    (TIME, pa.array([5], pa.time64("ns")), 0, "time64"),
    (TEXT, ["a", b"b"], 1, "bytes"),
    (TEXT, ["a", 1], 1, "int"),
    (TEXT, [NAN], 0, "nan"),
    (TEXT, ["a", "\ud800"], 1, "surrogates"),
    (TEXT, pa.array([b"a"]), 0, "binary"),
    (TEXT, pa.array([1]), 0, "int64"),
    (TEXT, np.array([b"a"]), 0, "bytes"),
    (IMAGE, [b"a", "b"], 1, "str"),
    (IMAGE, [b"a", np.zeros((2, 2), np.uint8)], 1, "ndarray"),
    (IMAGE, [np.zeros(2, np.int16)], 0, "ndarray"),
    (IMAGE, np.zeros((1, 2), np.int16), 0, "ndarray"),
    (IMAGE, np.array([b"a"]), 0, "zero bytes"),
    (IMAGE, pa.array(["a"]), 0, "string"),
    (VECTOR, np.ones((2, 4)), 0, "dimension 4"),
    (VECTOR, np.ones(3), 0, "shape"),
    (VECTOR, np.ones((1, 3), bool), 0, "bool values"),
    (VECTOR, np.array([[1, 1, 1], [1, NAN, 1]]), 1, "nan at position 1"),
    (VECTOR, np.array([[1, 1, -INF]], "f4"), 0, "-inf at position 2"),
    (VECTOR, np.array([[0, 0, 0], [0, 1e300, 0]]), 1, "overflows float32"),
    (VECTOR, np.array([[0, 0, 2**24 + 1]]), 0, "not exact"),
    (VECTOR, [[1, 2, 3], [1, 2]], 1, "dimension 2"),
    (VECTOR, [None, [1, None, 3]], 1, "null elements"),
    (VECTOR, [[1, 2, 3], None, [1, 2, INF]], 2, "inf"),
    (VECTOR, [[1, 2, "x"]], 0, "number"),
    (VECTOR, [[1, 2, 3], 5], 1, "int"),
    (VECTOR, [np.ones(3), np.ones(3, bool)], 1, "bool"),
    (VECTOR, ["abc"], 0, "str"),
    (VECTOR, [[[1], [2, 3]]], 0, "differ in length"),
    (VECTOR, torch.ones(1, 3, dtype=torch.bfloat16), None, "BFloat16"),
    (VECTOR, [None, torch.ones(3, requires_grad=True)], 1, "requires grad"),
    (VECTOR, pa.array([None, [1.0, None, 2.0]]), 1, "null elements"),
    (VECTOR, pa.array([None, [1.0, None, 2.0]], F32), 1, "null elements"),
    (VECTOR, pa.array([None, [1.0, NAN, 2.0]], F32), 1, "nan"),
    (VECTOR, pa.array([[1.0, 2, 3], None, [1.0]]), 2, "dimension 1"),
    (VECTOR, pa.array([[1.0]], pa.list_(pa.float32(), 1)), 0, "dimension 1"),
    (VECTOR, pa.array([["a"] * 3]), 0, "string"),
    (VECTOR, pa.array([1.0]), 0, "double"),
    (MATRIX, np.ones((1, 2, 3), np.int16), 0, "shape [2, 3]"),
    (MATRIX, np.ones((1, 2, 2)), 0, "float values"),
    (MATRIX, np.array([[[0, 0], [0, 0]], [[0, 0], [0, 70_000]]]), 1, "out of range"),
    (MATRIX, [[[1, 2], [3]]], 0, "differ in length"),
    (MATRIX, [None, [[1, 2]]], 1, "shape [1, 2]"),
    (MATRIX, pa.array([[[1, 2], [3, 4]], None, [[1, 2], [3]]]), 2, "shape [2, 1]"),
    (MATRIX, pa.array([[[1, 2], None]]), 0, "null parts"),
    (MATRIX, pa.array([[[1, 2], [3, None]]]), 0, "null elements"),
    (FLOATS, np.array([[0, 2**24 + 1]]), 0, "not exact"),
    (INTS, [[1], [2, "x"]], 1, "'x'"),
    (INTS, [[1], [2, 1.5]], 1, "1.5"),
    (INTS, [[], None, [2**63]], 2, "outside"),
    (INTS, ["ab"], 0, "str"),
    (INTS, [5], 0, "int"),
    (INTS, pa.array([[1], [2, 2**63]], pa.list_(pa.uint64())), 1, "outside"),
    (INTS, pa.array([1]), 0, "int64"),
    (PERSON, [{"age": 1}, {"size": 2}], 1, "'size'"),
    (PERSON, [{"age": 1}, {"age": "x"}], 1, "'f.age'"),
    (PERSON, [None, {"names": ["a", 3]}], 1, "'f.names[]'"),
    (PERSON, [[1]], 0, "list"),
    (PERSON, pa.array([{"size": 1}]), 0, "'size'"),
    (
        PERSON,
        pa.array([{"age": 1}, {"age": None}, {"age": 2**63}], pa.struct([("age", pa.uint64())])),
        2,
        "outside",
    ),
    (PERSON, pa.array([1]), 0, "int64"),
    (ANCHOR, [0, -1], 1, "outside"),
    (ANCHOR, [2**64], 0, "outside"),
    (ANCHOR, pa.array([5, -1]), 1, "outside"),
]


@pytest.mark.parametrize(("ftype", "values", "row", "said"), REFUSED)
def test_refused_with_field_and_row(
    ftype: FieldType, values: Any, row: int | None, said: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        coerce(ftype, values, field="f", first_row=1000)
    message = str(caught.value)
    assert caught.value.details["field"] == "f"
    assert said in message
    assert message.startswith("field 'f")
    if row is None:
        assert "row" not in caught.value.details
    else:
        assert caught.value.details["row"] == 1000 + row
        assert f", row {1000 + row}: " in message


@pytest.mark.parametrize("ftype", [*FIELD_TYPES.values(), ANCHOR])
def test_required_refuses_the_first_null(ftype: FieldType) -> None:
    nothing = pa.nulls(3, arrow_type(ftype))
    for values in ([None], pa.array([None]), nothing, pa.chunked_array([nothing[:0], nothing])):
        assert coerce(ftype, values, field="f").null_count == len(values)
        with pytest.raises(InvalidInputError) as caught:
            coerce(ftype, values, field="f", required=True, first_row=7)
        assert caught.value.details == {"field": "f", "row": 7}
        assert "required" in str(caught.value)
    chunks = pa.chunked_array([[1, 2], [3, None]])
    with pytest.raises(InvalidInputError, match="row 3"):
        coerce(INT, chunks, field="f", required=True)


def test_rows_are_counted_across_chunks() -> None:
    chunks = pa.chunked_array([[1, 2], [3, 2**63]], pa.uint64())
    with pytest.raises(InvalidInputError, match="row 3"):
        coerce(INT, chunks, field="f")


def test_invalid_arrow_arrays_are_refused() -> None:
    offsets = pa.py_buffer(np.array([0, 1, 2, 3], np.int32))
    bad = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"a\xffb")])
    for values in (bad, bad.cast(pa.large_string(), safe=False), pa.chunked_array([bad])):
        with pytest.raises(InvalidInputError, match=r"row 1: .*UTF8"):
            coerce(TEXT, values, field="f")
    wild = pa.py_buffer(np.array([0, 900, 2, 3], np.int32))
    for dtype, ftype in ((pa.binary(), IMAGE), (pa.string(), TEXT)):
        array = pa.Array.from_buffers(dtype, 3, [None, wild, pa.py_buffer(b"abc")])
        with pytest.raises(InvalidInputError, match="not valid"):
            coerce(ftype, array, field="f")


def test_permuted_tensors_are_refused() -> None:
    dtype = pa.fixed_shape_tensor(pa.int16(), [2, 2], permutation=[1, 0])
    storage = pa.array([[1, 2, 3, 4]], pa.list_(pa.int16(), 4))
    with pytest.raises(InvalidInputError, match="permuted") as caught:
        coerce(MATRIX, pa.ExtensionArray.from_storage(dtype, storage), field="f")
    assert "transpose" in str(caught.value.hint)


def test_long_values_are_shortened_in_messages() -> None:
    with pytest.raises(InvalidInputError) as caught:
        coerce(INT, ["x" * 10_000], field="f")
    assert len(str(caught.value)) < 200


@given(data=st.data(), name=st.sampled_from(sorted(FIELD_TYPES)))
def test_coercing_again_changes_nothing(data: st.DataObject, name: str) -> None:
    ftype = FIELD_TYPES[name]
    once = coerce(ftype, data.draw(column_strategy(ftype)), field="f")
    again = coerce(ftype, once, field="f")
    assert len(once) == len(again)
    for left, right in zip(once.chunks, again.chunks, strict=True):
        assert same_values(left, right)


@given(st.lists(st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.booleans()))
def test_mixed_lists_are_taken_exactly_or_refused(values: list[Any]) -> None:
    fitting = {BOOL: bool, INT: int, FLOAT: float, TEXT: str, IMAGE: bytes}
    for ftype, wanted in fitting.items():
        present = [value for value in values if value is not None]
        if all(type(value) is wanted for value in present) and (
            ftype != INT or all(-(2**63) <= value < 2**63 for value in present)
        ):
            assert repr(coerce(ftype, values, field="f").to_pylist()) == repr(values)
        elif ftype != FLOAT or not all(type(value) in (int, float) for value in present):
            with pytest.raises(InvalidInputError) as caught:
                coerce(ftype, values, field="f")
            assert values[caught.value.details["row"]] is not None


def test_values_beyond_32_bit_offsets_are_split_without_a_copy() -> None:
    # Untouched zero pages: large in address space only.
    gib = 1 << 30
    data = pa.py_buffer(np.zeros(3 * gib, np.uint8))
    ends = pa.py_buffer(np.array([0, gib, gib, 2 * gib, 3 * gib]))
    bits = pa.py_buffer(bytes([0b1101]))
    column = coerce(
        IMAGE, pa.Array.from_buffers(pa.large_binary(), 4, [bits, ends, data]), field="f"
    )
    assert [chunk.offset for chunk in column.chunks] == [0] * column.num_chunks
    lengths = [n for chunk in column.chunks for n in pa.compute.binary_length(chunk).to_pylist()]
    assert lengths == [gib, None, gib, gib]
    assert all(chunk.buffers()[2].size <= gib for chunk in column.chunks)
    assert column.chunk(1).buffers()[2].address == data.address + gib
    ends = pa.py_buffer(np.array([0, 1, 3 * gib]))
    with pytest.raises(InvalidInputError, match=r"row 1: a value of .* above the limit of 2 GiB"):
        coerce(IMAGE, pa.Array.from_buffers(pa.large_binary(), 2, [None, ends, data]), field="f")
