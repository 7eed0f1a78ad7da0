"""Schema, content, manifest, tag, space: round trips, and strictness against every mutation.

The law for hostile input: decoding raises FormatError, or encoding the result gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.errors import FormatError, SchemaError, UnsupportedFormatError
from dreamdb.model import (
    Content,
    Field,
    FieldList,
    Manifest,
    Tag,
    check_space,
    field_type,
    new_space,
    skip_generation,
)
from dreamdb.objects import Kind, address_of, encode_document
from dreamdb.types import Bytes

HERE, THERE = (address_of(Kind.MANIFEST, [text]) for text in (b"here", b"there"))

FIELDS = FieldList.of(
    [
        Field(
            "image", field_type("image", mime="image/png"), required=True, rung=3, floor=2, order=0
        ),
        Field("vec", field_type("embedding", dim=3), order=1, algorithm="dreamdb.flat-dot"),
        Field("t", field_type("tensor", dtype="uint8", shape=(2, 3)), order=2),
        Field("tags", field_type("list", item=field_type("string")), order=3),
        Field("key", field_type("string"), rung=2, floor=0, order=4),
        Field("guess", field_type("categorical"), parent="image"),
        Field(
            "box",
            field_type(
                "struct",
                fields=[
                    ("x", field_type("int")),
                    ("l", field_type("list", item=field_type("int"))),
                ],
            ),
        ),
    ],
    key="key",
)
CONTENT = Content(FIELDS, HERE, dict.fromkeys(FIELDS, THERE), None, {"note": "ä"})
MANIFEST = Manifest(
    HERE, (THERE,), 4, THERE, "me", "why", 77, {"name": "append", "rows": 3}, {"run": "1"}, "00ff"
)
TAG = Tag("v1/x", HERE, "me", "why", 5, {"auc": "0.9"})
DECODERS: dict[str, tuple[bytes, Callable[[Bytes], Any]]] = {
    "content": (CONTENT.encode(), Content.decode),
    "manifest": (MANIFEST.encode(), Manifest.decode),
    "tag": (TAG.encode(), Tag.decode),
}
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 1 << 63, (1 << 64) - 1, 1 << 200, "", "x", "i4", "(2,)i4", "{",
    [], [0], [[]], ["x"], [["x"]], [["a", "b", "c"]], {}, {"x": 1}, {"kind": "int"},
    {"kind": "list"}, {"kind": "list", "item": {"kind": "image", "mime": "x"}},
]  # fmt: skip


def mutations(value: Any) -> Iterator[Any]:
    """Yield a document with one member replaced, removed, renamed or added, at any depth."""
    yield from ODD
    if isinstance(value, dict):
        for key in value:
            rest = {k: v for k, v in value.items() if k != key}
            yield rest
            yield {**rest, key + "x": value[key]}
            for odd in mutations(value[key]):
                yield {**rest, key: odd}
        for key in ("zz", "item", "fields", "mime", "required", "order", "key", "kind", "format"):
            if key not in value:
                for odd in (None, 1, "x", []):
                    yield {**value, key: odd}
    elif isinstance(value, list):
        for at in range(len(value)):
            yield value[:at] + value[at + 1 :]
            yield [*value, value[at]]
            for odd in mutations(value[at]):
                yield [*value[:at], odd, *value[at + 1 :]]
    elif isinstance(value, str):
        yield value.upper() if value.upper() != value else value + "\n"
        yield value + "a"
    elif isinstance(value, int):
        yield value + 1
        yield -value


def encode_loosely(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


@pytest.mark.parametrize("what", DECODERS)
def test_round_trip(what: str) -> None:
    payload, decode = DECODERS[what]
    assert decode(payload).encode() == payload
    assert decode(memoryview(payload)) == decode(payload)
    assert encode_loosely(json.loads(payload)) == payload


@pytest.mark.parametrize("what", DECODERS)
def test_every_mutation_is_refused_or_means_what_it_says(what: str) -> None:
    payload, decode = DECODERS[what]
    refused = 0
    for document in mutations(json.loads(payload)):
        raw = encode_loosely(document)
        try:
            found = decode(raw)
        except FormatError:
            refused += 1
        else:
            if what == "manifest" and document["indexes"]:
                continue  # Reserved: a reader passes over indexes that it does not know.
            assert found.encode() == raw, raw
    assert refused > 200


@pytest.mark.parametrize("what", DECODERS)
def test_every_byte_changed_is_refused_or_means_what_it_says(what: str) -> None:
    payload, decode = DECODERS[what]
    for at in range(len(payload)):
        for bits in (1, 2, 16, 32, 128):
            raw = payload[:at] + bytes([payload[at] ^ bits]) + payload[at + 1 :]
            with contextlib.suppress(FormatError):
                assert decode(raw).encode() == raw


@given(raw=st.binary(max_size=300))
def test_random_bytes_are_refused(raw: bytes) -> None:
    for _, decode in DECODERS.values():
        with pytest.raises(FormatError):
            decode(raw)


@given(cut=st.integers(0, 10_000), tail=st.binary(max_size=8))
def test_truncated_and_extended_documents_are_refused(cut: int, tail: bytes) -> None:
    for payload, decode in DECODERS.values():
        raw = payload[: cut % len(payload)] + tail
        if raw != payload:
            with pytest.raises(FormatError):
                decode(raw)
        with pytest.raises(FormatError):
            decode(payload + b" ")


def test_a_newer_format_is_told_apart_from_damage() -> None:
    for payload, decode in DECODERS.values():
        document = json.loads(payload)
        with pytest.raises(UnsupportedFormatError):
            decode(encode_document({**document, "format": 9, "new": []}))


def test_equal_state_has_equal_bytes_in_any_order() -> None:
    shuffled = Content(
        FIELDS, HERE, dict.fromkeys(reversed(list(FIELDS)), THERE), None, {"note": "ä"}
    )
    assert shuffled.encode() == CONTENT.encode()
    later = FieldList.of(list(reversed(FIELDS.fields)), key="key")
    assert later == FIELDS
    assert [f.name for f in later.fields][-2:] == ["box", "guess"]


def test_a_manifest_without_nonce_given_is_unique() -> None:
    first, second = (Manifest(HERE, (), 0, None, "me", "", 1, {"name": "create"}) for _ in range(2))
    assert first.encode() != second.encode()


@given(st.integers(0, 1 << 62))
def test_skip_generation_clears_the_lowest_set_bit(generation: int) -> None:
    skip = skip_generation(generation)
    if generation == 0:
        assert skip == 0
    else:
        assert 0 <= skip < generation
        assert bin(skip).count("1") == bin(generation).count("1") - 1


@pytest.mark.parametrize(
    "members",
    [
        {"kind": "embedding"}, {"kind": "embedding", "dim": 0}, {"kind": "embedding", "dim": True},
        {"kind": "embedding", "dim": 1 << 21}, {"kind": "tensor", "dtype": "O", "shape": (1,)},
        {"kind": "tensor", "dtype": "i4,i4", "shape": (1,)},
        {"kind": "tensor", "dtype": "int8", "shape": ()},
        {"kind": "tensor", "dtype": "int8", "shape": (1 << 20, 1 << 20)},
        {"kind": "image"}, {"kind": "image", "mime": "a b"}, {"kind": "list"},
        {"kind": "list", "item": field_type("image", mime="png")}, {"kind": "struct"},
        {"kind": "struct", "fields": [("a", field_type("int")), ("a", field_type("int"))]},
        {"kind": "nothing"},
    ],
)  # fmt: skip
def test_wrong_types_are_refused(members: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        field_type(**members)


def test_field_lists_refuse_what_cannot_stand_together() -> None:
    one = Field("a", field_type("int"))
    for fields, key in (([one, one], None), ([one], "b")):
        with pytest.raises(SchemaError):
            FieldList.of(fields, key)
    for name in ("_anchor", "_score", "", "a b", "a" * 201, "ä"):
        document = {"fields": [{**one.to_document(), "name": name}]}
        with pytest.raises(FormatError):
            FieldList.from_document(document)


def test_space_document() -> None:
    check_space(new_space(), "here")
    document = json.loads(new_space())
    for name, value, error in (
        ("format", 2, UnsupportedFormatError),
        ("format", True, UnsupportedFormatError),
        ("required", ["leases"], UnsupportedFormatError),
        ("required", {}, FormatError),
        ("required", [1], FormatError),
        ("dreamdb", "other", FormatError),
    ):
        with pytest.raises(error):
            check_space(encode_document({**document, name: value}), "here")
    check_space(encode_document({**document, "optional": ["something new"]}), "here")
