"""Equal values give equal bytes, whatever arrays they come in."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.codecs import arrow_type, coerce, encode
from dreamdb.errors import InvalidInputError
from dreamdb.types import FieldType
from tests.codecs.samples import (
    EMBEDDING,
    FIELD_TYPES,
    column_strategy,
    example_column,
    payload_of,
)

SIZES = (0, 1, 7, 8, 9, 64, 300)


def through_coerce(ftype: FieldType, values: Any) -> bytes:
    return payload_of(ftype, coerce(ftype, values, field="f").chunks)


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("name", FIELD_TYPES)
def test_slices_and_chunks_give_the_same_bytes(name: str, nulls: bool, rows: int) -> None:
    ftype = FIELD_TYPES[name]
    array = example_column(name, rows, nulls=nulls)
    expected = payload_of(ftype, [array])
    before = example_column(name, 13, nulls=nulls, seed=1)
    after = example_column(name, 5, nulls=nulls, seed=2)
    joined = pa.concat_arrays([before, array, after])
    third = rows // 3
    assert payload_of(ftype, [joined.slice(13, rows)]) == expected
    assert payload_of(ftype, [array.slice(0, third), array.slice(third)]) == expected
    assert payload_of(ftype, [joined.slice(13 + i, 1) for i in range(rows)]) == expected
    assert through_coerce(ftype, joined.slice(13, rows)) == expected


@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("rows", SIZES)
def test_string_representations_give_the_same_bytes(rows: int, nulls: bool) -> None:
    array = example_column("string", rows, nulls=nulls)
    for kind in ("text", "string", "categorical"):
        ftype = FieldType(kind)
        expected = payload_of(ftype, [array])
        forms = [
            array.cast(pa.large_string()),
            array.cast(pa.string_view()),
            array.dictionary_encode(),
            array.cast(pa.large_string()).dictionary_encode(),
            pa.chunked_array([array.slice(0, rows // 2), array.slice(rows // 2)]),
            array.to_pylist(),
        ]
        assert [through_coerce(ftype, form) == expected for form in forms] == [True] * len(forms)


@pytest.mark.parametrize("nulls", [False, True])
def test_other_representations_give_the_same_bytes(nulls: bool) -> None:
    blobs = example_column("binary", 50, nulls=nulls)
    for form in (blobs.cast(pa.large_binary()), blobs.cast(pa.binary_view()), blobs.to_pylist()):
        assert through_coerce(FIELD_TYPES["binary"], form) == payload_of(
            FIELD_TYPES["binary"], [blobs]
        )
    lists = example_column("list", 50, nulls=nulls)
    expected = payload_of(FIELD_TYPES["list"], [lists])
    for form in (lists.cast(pa.large_list(pa.large_string())), lists.to_pylist()):
        assert through_coerce(FIELD_TYPES["list"], form) == expected
    vectors = example_column("embedding", 50, nulls=nulls)
    expected = payload_of(EMBEDDING, [vectors])
    for form in (vectors.to_pylist(), pa.array(vectors.to_pylist(), pa.list_(pa.float64()))):
        assert through_coerce(EMBEDDING, form) == expected
    structs = example_column("struct", 50, nulls=nulls)
    reordered = pa.array(structs.to_pylist(), pa.struct(list(structs.type)[::-1]))
    expected = payload_of(FIELD_TYPES["struct"], [structs])
    assert through_coerce(FIELD_TYPES["struct"], structs.to_pylist()) == expected
    assert through_coerce(FIELD_TYPES["struct"], reordered) == expected


def with_garbage(array: pa.Array, width: int) -> pa.Array:
    """Return the array with other bytes under its nulls."""
    bitmap, data = array.buffers()[0], array.buffers()[-1]
    raw = np.frombuffer(data, np.uint8).copy()[: len(array) * width].reshape(-1, width)
    missing = np.array([not value.is_valid for value in array])
    raw[missing] = 77
    if pa.types.is_fixed_size_list(array.type):
        child = pa.Array.from_buffers(
            array.type.value_type,
            len(array) * array.type.list_size,
            [None, pa.py_buffer(raw.tobytes())],
        )
        return pa.Array.from_buffers(array.type, len(array), [bitmap], children=[child])
    return pa.Array.from_buffers(array.type, len(array), [bitmap, pa.py_buffer(raw.tobytes())])


@pytest.mark.parametrize(
    ("name", "width"),
    [("int", 8), ("float", 8), ("timestamp", 8), ("embedding", 12), ("tensor", 8)],
)
def test_garbage_under_nulls_of_fixed_width_is_gone(name: str, width: int) -> None:
    array = example_column(name, 40, nulls=True)
    dirty = with_garbage(array, width)
    assert array.null_count
    assert dirty.to_pylist() == array.to_pylist()
    assert payload_of(FIELD_TYPES[name], [dirty]) == payload_of(FIELD_TYPES[name], [array])


def test_garbage_under_null_strings_blobs_lists_and_structs_is_gone() -> None:
    bits = pa.py_buffer(bytes([0b101]))
    offsets = pa.py_buffer(np.array([0, 1, 4, 5], np.int32))
    for kind in ("text", "string", "categorical", "binary"):
        dtype = arrow_type(FieldType(kind))
        dirty = pa.Array.from_buffers(dtype, 3, [bits, offsets, pa.py_buffer(b"axxxb")])
        clean = pa.array(["a", None, "b"]).cast(dtype)
        secret = payload_of(FieldType(kind), [dirty])
        assert secret == payload_of(FieldType(kind), [clean])
        assert b"xxx" not in secret
    items = pa.array(["a", "x", "x", "x", "b"])
    ftype = FIELD_TYPES["list"]
    dirty = pa.Array.from_buffers(arrow_type(ftype), 3, [bits, offsets], children=[items])
    clean = pa.array([["a"], None, ["b"]], arrow_type(ftype))
    assert payload_of(ftype, [dirty]) == payload_of(ftype, [clean])
    ftype = FieldType("struct", fields=(("s", FieldType("string")),))
    dirty = pa.StructArray.from_arrays(
        [pa.array(["a", "xxx", "b"])], ["s"], mask=pa.array([False, True, False])
    )
    clean = pa.array([{"s": "a"}, None, {"s": "b"}], arrow_type(ftype))
    assert payload_of(ftype, [dirty]) == payload_of(ftype, [clean])


def test_neighbouring_rows_do_not_leak() -> None:
    array = pa.array(["public", "SECRET", "public"])
    for kind in ("text", "string", "categorical", "binary"):
        column = array.cast(arrow_type(FieldType(kind)))
        assert b"SECRET" not in payload_of(FieldType(kind), [column.slice(0, 1), column.slice(2)])
    items = pa.array([["public"], ["SECRET"]], arrow_type(FIELD_TYPES["list"]))
    assert b"SECRET" not in payload_of(FIELD_TYPES["list"], [items.slice(0, 1)])


@given(data=st.data(), name=st.sampled_from(sorted(FIELD_TYPES)))
def test_any_column_cut_anywhere_gives_the_same_bytes(data: st.DataObject, name: str) -> None:
    ftype = FIELD_TYPES[name]
    column = coerce(ftype, data.draw(column_strategy(ftype)), field="f")
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(array)), max_size=4)))
    edges = [0, *cuts, len(array)]
    parts = [array.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    assert payload_of(ftype, parts) == payload_of(ftype, [array])


def test_float_bits_are_kept() -> None:
    bits = np.array([0x7FF8000000000001, 0xFFF8000000000000, 1 << 63, 1], np.uint64)
    array = pa.Array.from_buffers(pa.float64(), 4, [None, pa.py_buffer(bits)])
    assert bits.tobytes() in payload_of(FieldType("float"), [array])


@pytest.mark.parametrize(
    ("values", "bit_width"),
    [
        ([], 8),
        ([None], 8),
        ([-128, 127], 8),
        ([-129], 16),
        ([128, None], 16),
        ([2**15], 32),
        ([-(2**31)], 32),
        ([2**31], 64),
        ([-(2**63)], 64),
    ],
)
def test_integers_take_the_narrowest_width(values: list[int | None], bit_width: int) -> None:
    payload = payload_of(FieldType("int"), [pa.array(values, pa.int64())])
    assert pa.ipc.open_stream(payload).schema.field("v").type.bit_width == bit_width


@pytest.mark.parametrize(
    ("rows", "distinct", "is_dictionary"),
    [(63, 1, False), (64, 1, True), (64, 16, True), (64, 17, False), (200, 50, True)],
)
def test_strings_become_a_dictionary_by_the_written_rule(
    rows: int, distinct: int, is_dictionary: bool
) -> None:
    values = pa.array([f"word {i % distinct}" for i in range(rows)])
    schemas = {
        kind: pa.ipc.open_stream(payload_of(FieldType(kind), [values])).schema.field("v").type
        for kind in ("string", "text", "categorical")
    }
    assert pa.types.is_dictionary(schemas["string"]) == is_dictionary
    assert schemas["text"] == pa.string()
    assert pa.types.is_dictionary(schemas["categorical"])


@pytest.mark.parametrize(("distinct", "bit_width"), [(128, 8), (129, 16), (32768, 16), (32769, 32)])
def test_dictionary_indices_take_the_narrowest_width(distinct: int, bit_width: int) -> None:
    values = pa.array([f"{i:05}" for i in range(distinct)])
    for kind, repeat in (("categorical", 1), ("string", 4)):
        payload = payload_of(FieldType(kind), [values] * repeat)
        dtype = pa.ipc.open_stream(payload).schema.field("v").type
        if kind == "string" and distinct > 32768:
            assert dtype == pa.string()
        else:
            assert dtype.index_type.bit_width == bit_width


def test_a_hundred_classes_cost_about_a_byte_per_row() -> None:
    labels = np.random.default_rng(0).integers(0, 100, 100_000)
    assert encode(FieldType("int"), [pa.array(labels)]).nbytes < 101_000
    words = pa.array([f"class {i}" for i in range(100)]).take(pa.array(labels))
    assert encode(FieldType("categorical"), [words]).nbytes < 103_000


def test_anchors_are_narrow_differences() -> None:
    anchors = pa.array([2**63, 2**63 + 5, 2**63 + 260], pa.uint64())
    payload = payload_of(FieldType("anchor"), [anchors.slice(0, 1), anchors.slice(1)])
    stored = pa.ipc.open_stream(payload).read_all().column(0)
    assert stored.type == pa.uint8()
    assert stored.to_pylist() == [0, 5, 255]


@pytest.mark.parametrize("values", [[1, 1], [2, 1], [1, None]])
def test_anchors_must_rise(values: list[int | None]) -> None:
    with pytest.raises(InvalidInputError, match="strictly increasing"):
        encode(FieldType("anchor"), [pa.array(values, pa.uint64())])


def test_arrays_of_another_type_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="int32"):
        encode(FieldType("int"), [pa.array([1], pa.int32())])


def test_null_elements_in_a_vector_are_refused() -> None:
    array = pa.array([[1.0, None, 2.0]], arrow_type(EMBEDDING))
    with pytest.raises(InvalidInputError, match="null elements"):
        encode(EMBEDDING, [array])


def test_a_fragment_above_the_limit_names_the_remedy() -> None:
    # One block of memory used many times: the values are large, the memory is not.
    block = pa.py_buffer(bytes(1 << 20))
    offsets = pa.py_buffer(np.array([0, 1 << 20], np.int32))
    for kind in ("binary", "text"):
        one = pa.Array.from_buffers(arrow_type(FieldType(kind)), 1, [None, offsets, block])
        with pytest.raises(InvalidInputError) as caught:
            encode(FieldType(kind), [one] * 1030)
        assert "rows_per_fragment" in str(caught.value.hint)
        with pytest.raises(InvalidInputError) as caught:
            encode(FieldType(kind), [one] * 2100)
        assert "rows_per_fragment" in str(caught.value.hint)
