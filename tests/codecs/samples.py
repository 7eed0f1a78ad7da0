"""Field types and values that the codec tests share."""

from __future__ import annotations

import datetime as dt
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa

from dreamdb.codecs import arrow_type, decode, encode
from dreamdb.codecs.decode import DecodedFragment
from dreamdb.types import FieldType

EMBEDDING = FieldType("embedding", dim=3)
TENSOR = FieldType("tensor", dtype="int16", shape=(2, 2))
LIST = FieldType("list", item=FieldType("string"))
STRUCT = FieldType(
    "struct",
    fields=(
        ("number", FieldType("int")),
        ("words", FieldType("list", item=FieldType("text"))),
        ("inner", FieldType("struct", fields=(("flag", FieldType("bool")),))),
    ),
)
FIELD_TYPES = {
    "image": FieldType("image", mime="png"),
    "binary": FieldType("binary"),
    "embedding": EMBEDDING,
    "tensor": TENSOR,
    "half_tensor": FieldType("tensor", dtype="float16", shape=(3,)),
    "text": FieldType("text"),
    "string": FieldType("string"),
    "categorical": FieldType("categorical"),
    "bool": FieldType("bool"),
    "int": FieldType("int"),
    "float": FieldType("float"),
    "timestamp": FieldType("timestamp"),
    "list": LIST,
    "list_of_times": FieldType("list", item=FieldType("timestamp")),
    "struct": STRUCT,
}
INT64 = st.one_of(
    st.integers(-128, 127), st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63) + 1, 2**63 - 1)
)
TIMES = st.datetimes(dt.datetime(1678, 1, 1), dt.datetime(2262, 1, 1))
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FEW_WORDS = st.sampled_from(["", "a", "ab", "é", "zebra", "\0", "a much longer class name"])


def value_strategy(ftype: FieldType) -> st.SearchStrategy[Any]:
    """Return a strategy for one Python value of a field, never None."""
    kind = ftype.kind
    if kind in ("image", "binary"):
        return st.binary(max_size=40)
    if kind == "embedding":
        return st.lists(st.floats(-10, 10, width=32), min_size=ftype.dim, max_size=ftype.dim)
    if kind == "tensor":
        size = int(np.prod(ftype.shape))
        number = st.integers(-30_000, 30_000)
        if ftype.dtype == "float16":
            number = st.floats(-10, 10, width=16)
        flat = st.lists(number, min_size=size, max_size=size)
        return flat.map(lambda row: np.array(row, ftype.dtype).reshape(ftype.shape))
    if kind == "list":
        return st.lists(st.none() | value_strategy(ftype.item), max_size=4)
    if kind == "struct":
        return st.fixed_dictionaries(
            {name: st.none() | value_strategy(member) for name, member in ftype.fields}
        )
    return {
        "text": WORDS,
        "string": WORDS | FEW_WORDS,
        "categorical": FEW_WORDS,
        "bool": st.booleans(),
        "int": INT64,
        "float": st.floats(allow_nan=True),
        "timestamp": TIMES,
    }[kind]


def column_strategy(ftype: FieldType, *, max_size: int = 30) -> st.SearchStrategy[list[Any]]:
    """Return a strategy for a column: values and nulls."""
    one = value_strategy(ftype)
    return st.lists(one, max_size=max_size) | st.lists(st.none() | one, max_size=max_size)


def payload_of(ftype: FieldType, arrays: list[pa.Array]) -> bytes:
    """Encode arrays and return the payload as one bytes object."""
    encoded = encode(ftype, arrays)
    payload = b"".join(bytes(part) for part in encoded.parts)
    assert len(payload) == encoded.nbytes
    return payload


def decoded(ftype: FieldType, payload: bytes, rows: int, **options: Any) -> DecodedFragment:
    """Decode a payload held in bytes."""
    return decode(ftype, memoryview(payload), rows=rows, **options)


def same_values(left: pa.Array, right: pa.Array) -> bool:
    """Return whether two arrays hold the same values bit by bit (NaN equals NaN)."""
    return left.type == right.type and repr(left.to_pylist()) == repr(right.to_pylist())


def example_column(name: str, rows: int, *, nulls: bool, seed: int = 0) -> pa.Array:
    """Return a pseudo-random column of a field type's logical Arrow type."""
    ftype = FIELD_TYPES[name]
    rng = np.random.default_rng([seed, rows, len(name)])
    values = [
        None if nulls and rng.random() < 0.2 else _example_value(ftype, rng) for _ in range(rows)
    ]
    return pa.array(values, arrow_type(ftype))


def _example_value(ftype: FieldType, rng: np.random.Generator) -> Any:
    kind = ftype.kind
    if kind in ("image", "binary"):
        return rng.bytes(int(rng.integers(0, 12)))
    if kind in ("embedding", "tensor"):
        size = ftype.dim or int(np.prod(ftype.shape))
        numbers = rng.integers(-100, 100, size)
        half = ftype.dtype == "float16"
        return [np.float16(n) for n in numbers] if half else [int(n) for n in numbers]
    if kind == "list":
        return [_example_value(ftype.item, rng) for _ in range(int(rng.integers(0, 4)))]
    if kind == "struct":
        return {name: _example_value(member, rng) for name, member in ftype.fields}
    if kind == "bool":
        return bool(rng.random() < 0.5)
    if kind in ("int", "timestamp"):
        return int(rng.integers(-1000, 1000))
    if kind == "float":
        return float(rng.standard_normal())
    return "wörd" * int(rng.integers(0, 4)) + str(int(rng.integers(0, 9)))
