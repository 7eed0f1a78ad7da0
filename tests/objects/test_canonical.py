"""Canonical JSON: one value, one sequence of bytes; anything else is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.errors import FormatError
from dreamdb.objects import decode_document, encode_document

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64) + 1, (1 << 64) - 1) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=6)


@given(DOCUMENTS)
def test_round_trip(document: dict[str, Any]) -> None:
    raw = encode_document(document)
    assert raw.isascii()
    assert b" :" not in raw
    assert decode_document(raw) == document
    assert json.loads(raw) == document
    assert encode_document(dict(reversed(document.items()))) == raw


@given(DOCUMENTS, st.data())
def test_other_spellings_are_refused(document: dict[str, Any], data: st.DataObject) -> None:
    raw = encode_document(document)
    for other in (
        json.dumps(document).encode(),
        json.dumps(document, indent=1).encode(),
        json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(
            errors="surrogatepass"
        ),
        json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode(),
        raw + b"\n",
        b" " + raw,
    ):
        if other != raw:
            with pytest.raises(FormatError):
                decode_document(other)


@given(st.binary(max_size=60))
def test_random_bytes(raw: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert encode_document(decode_document(raw)) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"1", b"null", b'"x"', b"{", b'{"a":1}}', b'{"a":1,"a":1}', b'{"b":1,"a":1}',
        b'{"a":1.0}', b'{"a":1e3}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-0}', b'{"a":01}',
        b'{"a":+1}', b'{"a":18446744073709551616}', b'{"a":"\\u0041"}', b'{"a":"\\/"}',
        b'{"a":"\\u00E4"}', '{"a":"ä"}'.encode(), b'{"a":"\xff"}', b"\xef\xbb\xbf{}",
        b'{"a":' + b"9" * 5_000 + b"}", b'{"a":"\x01"}', b'{"a":"\\ud800"}', b'{"\\udfff":1}',
        b"{'a':1}", b'{"a":1,}',
    ],
)  # fmt: skip
def test_known_traps(raw: bytes) -> None:
    with pytest.raises(FormatError):
        decode_document(raw)


@pytest.mark.parametrize("depth", [40, 1_000, 1_000_000])
def test_depth_is_bounded(depth: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        raw = b'{"a":' + opening * depth + b"1" + closing * depth + b"}"
        with pytest.raises(FormatError):
            decode_document(raw)
    with pytest.raises(FormatError):
        decode_document(b'{"a":' + b"[" * depth)


def test_brackets_inside_texts_do_not_count() -> None:
    document = {"a": "[" * 10_000 + '"\\' + "{" * 10_000}
    assert decode_document(encode_document(document)) == document


@pytest.mark.parametrize("value", [1.5, float("nan"), b"x", {1: 2}, 1 << 64, object(), {"a": {3}}])
def test_what_cannot_be_written(value: Any) -> None:
    with pytest.raises(FormatError):
        encode_document({"a": value})
