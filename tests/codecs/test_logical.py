"""Field types and Arrow types."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dreamdb.codecs import arrow_type, field_type_of, tensor_type
from dreamdb.errors import SchemaError
from dreamdb.types import FieldType
from tests.codecs.samples import FIELD_TYPES

INT = FieldType("int")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("image", "binary"),
        ("embedding", "fixed_size_list<item: float>[3]"),
        ("tensor", "fixed_size_list<item: int16>[4]"),
        ("text", "string"),
        ("categorical", "string"),
        ("bool", "bool"),
        ("int", "int64"),
        ("float", "double"),
        ("timestamp", "timestamp[ns]"),
        ("list", "list<item: string>"),
    ],
)
def test_arrow_types(name: str, expected: str) -> None:
    assert str(arrow_type(FIELD_TYPES[name])) == expected


def test_anchor_and_tensor_types() -> None:
    assert arrow_type(FieldType("anchor")) == pa.uint64()
    assert tensor_type(FIELD_TYPES["tensor"]) == pa.fixed_shape_tensor(pa.int16(), [2, 2])


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (pa.bool_(), FieldType("bool")),
        (pa.int8(), INT),
        (pa.uint64(), INT),
        (pa.float16(), FieldType("float")),
        (pa.large_string(), FieldType("string")),
        (pa.string_view(), FieldType("string")),
        (pa.dictionary(pa.int8(), pa.string()), FieldType("categorical")),
        (pa.dictionary(pa.int8(), pa.int64()), INT),
        (pa.large_binary(), FieldType("binary")),
        (pa.binary_view(), FieldType("binary")),
        (pa.binary(4), FieldType("binary")),
        (pa.timestamp("s", "UTC"), FieldType("timestamp")),
        (pa.date32(), FieldType("timestamp")),
        (pa.list_(pa.float32(), 8), FieldType("embedding", dim=8)),
        (pa.list_(pa.float64(), 8), FieldType("tensor", dtype="float64", shape=(8,))),
        (
            pa.fixed_shape_tensor(pa.uint8(), [2, 3]),
            FieldType("tensor", dtype="uint8", shape=(2, 3)),
        ),
        (pa.large_list(pa.int32()), FieldType("list", item=INT)),
        (
            pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]),
            FieldType(
                "struct",
                fields=(("a", INT), ("b", FieldType("list", item=FieldType("string")))),
            ),
        ),
    ],
)
def test_inference(dtype: pa.DataType, expected: FieldType) -> None:
    assert field_type_of(dtype) == expected
    arrow_type(expected)


@pytest.mark.parametrize(
    "dtype",
    [
        pa.null(),
        pa.decimal128(10, 2),
        pa.time64("ns"),
        pa.duration("s"),
        pa.map_(pa.string(), pa.int8()),
        pa.list_(pa.list_(pa.int8())),
        pa.list_(pa.string(), 2),
        pa.list_(pa.null()),
        pa.struct([]),
        pa.struct([("a", pa.null())]),
    ],
)
def test_types_without_a_field_type_are_refused(dtype: pa.DataType) -> None:
    with pytest.raises(SchemaError) as caught:
        field_type_of(dtype)
    assert "supported" in str(caught.value.hint)


@pytest.mark.parametrize(
    "ftype",
    [
        FieldType("picture"),
        FieldType("embedding"),
        FieldType("embedding", dim=0),
        FieldType("embedding", dim=1 << 40),
        FieldType("tensor", dtype="float32"),
        FieldType("tensor", dtype="float32", shape=()),
        FieldType("tensor", dtype="float32", shape=(2, 0)),
        FieldType("tensor", dtype="bool", shape=(2,)),
        FieldType("tensor", dtype="object", shape=(2,)),
        FieldType("tensor", dtype="float64", shape=(1 << 20, 1 << 20)),
        FieldType("list"),
        FieldType("list", item=FieldType("list", item=INT)),
        FieldType("struct"),
        FieldType("struct", fields=(("a", INT), ("a", INT))),
        FieldType("struct", fields=(("a", FieldType("embedding", dim=2)),)),
    ],
)
def test_incomplete_field_types_are_refused(ftype: FieldType) -> None:
    with pytest.raises(SchemaError):
        arrow_type(ftype)
