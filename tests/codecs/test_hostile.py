"""Damaged and invented payloads give FormatError or right values, never a crash."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.codecs import arrow_type, check_canonical, decode
from dreamdb.codecs.columns import Column
from dreamdb.codecs.encode import _assemble
from dreamdb.errors import FormatError
from dreamdb.types import FieldType
from tests.codecs.samples import FIELD_TYPES, decoded, example_column, payload_of

ROWS = 9


def samples() -> Iterator[tuple[FieldType, bytes, int, int]]:
    """Yield small payloads of every kind: field type, payload, rows, last key."""
    for name, ftype in FIELD_TYPES.items():
        for nulls in (False, True):
            payload = payload_of(ftype, [example_column(name, ROWS, nulls=nulls, seed=4)])
            yield ftype, payload, ROWS, 0
    words = pa.array(["a", None, "b", "c"] * 16)
    yield FieldType("string"), payload_of(FieldType("string"), [words]), 64, 0
    anchors = pa.array([3, 5, 900], pa.uint64())
    yield FieldType("anchor"), payload_of(FieldType("anchor"), [anchors]), 3, 900


SAMPLES = list(samples())
NAMES = [f"{ftype}-{index}" for index, (ftype, *_) in enumerate(SAMPLES)]


def check_decodes_safely(ftype: FieldType, payload: bytes, rows: int, last_key: int) -> bool:
    """Return whether a payload is accepted; whatever is accepted must be sound to read."""
    try:
        fragment = decode(ftype, memoryview(payload), rows=rows, last_key=last_key)
    except FormatError:
        return False
    assert len(fragment.array) == rows
    fragment.array.validate(full=True)
    repr(fragment.array.to_pylist())
    return True


@pytest.mark.parametrize(("ftype", "payload", "rows", "last_key"), SAMPLES, ids=NAMES)
def test_any_flipped_byte_is_safe_and_seen(
    ftype: FieldType, payload: bytes, rows: int, last_key: int
) -> None:
    damaged = bytearray(payload)
    for position in range(len(payload)):
        for mask in (0x01, 0x80, 0xFF):
            damaged[position] ^= mask
            if check_decodes_safely(ftype, bytes(damaged), rows, last_key):
                # Decoding checks safety only; what it lets pass are other values or another
                # form of the same, which hashing or the canonical check finds.
                same = payload_of(ftype, [_read(ftype, bytes(damaged), rows, last_key)])
                if same != bytes(damaged):
                    with pytest.raises(FormatError):
                        check_canonical(
                            ftype, memoryview(bytes(damaged)), rows=rows, last_key=last_key
                        )
            damaged[position] ^= mask


def _read(ftype: FieldType, payload: bytes, rows: int, last_key: int) -> pa.Array:
    return decoded(ftype, payload, rows, last_key=last_key).array


@pytest.mark.parametrize(("ftype", "payload", "rows", "last_key"), SAMPLES, ids=NAMES)
def test_any_metadata_byte_flipped_is_refused(
    ftype: FieldType, payload: bytes, rows: int, last_key: int
) -> None:
    head = payload.index(b"\xff\xff\xff\xff", 8)
    damaged = bytearray(payload)
    for position in range(head):
        damaged[position] ^= 0x10
        with pytest.raises(FormatError):
            _read(ftype, bytes(damaged), rows, last_key)
        damaged[position] ^= 0x10


@pytest.mark.parametrize(("ftype", "payload", "rows", "last_key"), SAMPLES, ids=NAMES)
def test_any_truncation_and_any_tail_is_refused(
    ftype: FieldType, payload: bytes, rows: int, last_key: int
) -> None:
    for length in range(len(payload)):
        assert not check_decodes_safely(ftype, payload[:length], rows, last_key)
    for tail in (b"\0", bytes(8), bytes(64), payload):
        assert not check_decodes_safely(ftype, payload + tail, rows, last_key)


@pytest.mark.parametrize(("ftype", "payload", "rows", "last_key"), SAMPLES, ids=NAMES)
def test_another_row_count_is_refused(
    ftype: FieldType, payload: bytes, rows: int, last_key: int
) -> None:
    for wrong in (0, rows - 1, rows + 1, 2**31, 2**62):
        with pytest.raises(FormatError, match="rows"):
            _read(ftype, payload, wrong, last_key)


def test_payloads_of_another_kind_are_refused() -> None:
    accepted = {
        (str(reader), str(writer))
        for reader in FIELD_TYPES.values()
        for writer, payload, rows, _ in SAMPLES
        if check_decodes_safely(reader, payload, rows, 0)
    }
    # Kinds that share a physical type cannot be told apart by the bytes; the schema says which.
    shared = [{"image(png)", "binary"}, {"text", "string"}, {"string", "categorical"}]
    shared += [{"int", "timestamp"}]
    for reader, writer in accepted:
        assert reader == writer or {reader, writer} in shared


@given(st.binary(max_size=600), st.sampled_from(sorted(FIELD_TYPES)))
def test_random_bytes_are_refused(payload: bytes, name: str) -> None:
    with pytest.raises(FormatError):
        decode(FIELD_TYPES[name], memoryview(payload), rows=3)


@given(st.data())
def test_random_slots_are_safe(data: st.DataObject) -> None:
    ftype, payload, rows, last_key = data.draw(st.sampled_from(SAMPLES))
    damaged = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(payload) // 8 - 1)) * 8
        number = data.draw(
            st.sampled_from([0, 1, 7, 8, 9, 64, -1, 2**31, 2**62, -(2**63), 2**63 - 1])
        )
        struct.pack_into("<q", damaged, position, number)
    check_decodes_safely(ftype, bytes(damaged), rows, last_key)


def rebuilt(ftype: FieldType, physical: pa.DataType, *columns: Column) -> bytes:
    """Return a payload made of chosen buffers, its metadata in order."""
    encoded = _assemble(ftype, physical, columns, (b"", b""))
    return b"".join(bytes(part) for part in encoded.parts)


def column_of(nodes: list[int], *buffers: bytes) -> Column:
    return Column(nodes, [[buffer] for buffer in buffers])


def int32s(*values: int) -> bytes:
    return np.array(values, np.int32).tobytes()


WORDS = column_of([2, 0], b"", int32s(0, 1, 2), b"ab")
DICTIONARY = pa.dictionary(pa.int8(), pa.string())


@pytest.mark.parametrize(
    ("kind", "physical", "columns", "message"),
    [
        ("binary", pa.binary(), [column_of([2, 0], b"", int32s(0, 3, 2), b"ab")], "offsets"),
        ("binary", pa.binary(), [column_of([2, 0], b"", int32s(1, 1, 2), b"ab")], "offsets"),
        ("binary", pa.binary(), [column_of([2, 0], b"", int32s(0, 1, 9), b"ab")], "buffer"),
        ("binary", pa.binary(), [column_of([2, 0], b"", int32s(0, 1, 1), b"ab")], "buffer"),
        ("binary", pa.binary(), [column_of([2, 0], b"", int32s(0, -1, -2), b"ab")], "offsets"),
        ("binary", pa.binary(), [column_of([2, 1], b"\2", int32s(0, 1, 2, 3), b"abc")], "buffer"),
        ("binary", pa.binary(), [column_of([2, 1], b"\6", int32s(0, 1, 2), b"ab")], "bitmap"),
        ("binary", pa.binary(), [column_of([2, 1], b"\3", int32s(0, 1, 2), b"ab")], "bitmap"),
        ("binary", pa.binary(), [column_of([2, 3], b"\0", int32s(0, 1, 2), b"ab")], "nulls"),
        ("text", pa.string(), [column_of([2, 0], b"", int32s(0, 1, 2), b"a\xff")], "UTF-8"),
        ("text", pa.string(), [column_of([2, 0], b"", int32s(0, 1, 2), "é".encode())], "UTF-8"),
        ("int", pa.int8(), [column_of([2, 0], b"", b"abc")], "buffer"),
        ("int", pa.uint8(), [column_of([2, 0], b"", b"ab")], "schema"),
        ("anchor", pa.uint8(), [column_of([2, 0], b"", b"\1\1")], "difference 0"),
        ("anchor", pa.uint8(), [column_of([2, 0], b"", b"\0\0")], "increasing"),
        ("anchor", pa.uint8(), [column_of([2, 0], b"", b"\0\7")], "last key"),
        ("anchor", pa.uint8(), [column_of([2, 1], b"\1", b"\0\1")], "null"),
        ("categorical", DICTIONARY, [WORDS, column_of([2, 0], b"", b"\0\2")], "index"),
        ("categorical", DICTIONARY, [WORDS, column_of([2, 0], b"", b"\0\xff")], "index"),
        (
            "categorical",
            DICTIONARY,
            [column_of([2, 0], b"", int32s(0, 1, 2), b"ba"), column_of([2, 0], b"", b"\0\1")],
            "sorted",
        ),
        (
            "categorical",
            DICTIONARY,
            [column_of([2, 0], b"", int32s(0, 1, 2), b"aa"), column_of([2, 0], b"", b"\0\1")],
            "sorted",
        ),
        (
            "categorical",
            DICTIONARY,
            [column_of([2, 1], b"\2", int32s(0, 0, 1), b"a"), column_of([2, 0], b"", b"\0\1")],
            "null",
        ),
    ],
)
def test_consistent_metadata_does_not_excuse_bad_contents(
    kind: str, physical: pa.DataType, columns: list[Column], message: str
) -> None:
    payload = rebuilt(FieldType(kind), physical, *columns)
    with pytest.raises(FormatError, match=message):
        decode(FieldType(kind), memoryview(payload), rows=2, last_key=5)


def test_differences_that_overflow_are_refused() -> None:
    sums = np.array([0, 2**64 - 1, 2**64 - 1], np.uint64)
    payload = rebuilt(FieldType("anchor"), pa.uint64(), column_of([3, 0], b"", sums.tobytes()))
    with pytest.raises(FormatError):
        decode(FieldType("anchor"), memoryview(payload), rows=3, last_key=2**64 - 1)


@pytest.mark.parametrize(
    ("kind", "physical", "columns"),
    [
        ("int", pa.int16(), [column_of([2, 0], b"", b"\1\0\2\0")]),
        ("int", pa.int8(), [column_of([2, 1], b"\1", b"\1\2")]),
        ("float", pa.float64(), [column_of([2, 1], b"\1", bytes(8) + b"garbage!")]),
        ("text", pa.string(), [column_of([2, 1], b"\1", int32s(0, 1, 2), b"ab")]),
        ("bool", pa.bool_(), [column_of([2, 0], b"", b"\x07")]),
        ("categorical", DICTIONARY, [WORDS, column_of([2, 0], b"", b"\0\0")]),
        ("categorical", DICTIONARY, [WORDS, column_of([2, 1], b"\1", b"\0\1")]),
        (
            "categorical",
            pa.dictionary(pa.int16(), pa.string()),
            [WORDS, column_of([2, 0], b"", b"\0\0\1\0")],
        ),
        ("anchor", pa.uint16(), [column_of([2, 0], b"", b"\0\0\1\0")]),
    ],
)
def test_other_forms_of_the_same_values_are_not_canonical(
    kind: str, physical: pa.DataType, columns: list[Column]
) -> None:
    payload = memoryview(rebuilt(FieldType(kind), physical, *columns))
    assert decode(FieldType(kind), payload, rows=2, last_key=5).rows == 2
    with pytest.raises(FormatError, match="canonical"):
        check_canonical(FieldType(kind), payload, rows=2, last_key=5)


def test_null_elements_inside_a_stored_vector_are_refused() -> None:
    ftype = FieldType("embedding", dim=2)
    column = column_of([1, 0, 2, 1], b"", b"\1", bytes(8))
    payload = rebuilt(ftype, arrow_type(ftype), column)
    with pytest.raises(FormatError, match="null elements"):
        decode(ftype, memoryview(payload), rows=1)
