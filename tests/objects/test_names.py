"""Ref names: what is allowed, and flat keys that no disk can confuse."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.errors import FormatError, RefNameError
from dreamdb.objects import check_ref_name, decode_ref_key, encode_ref_key

CHARACTERS = "abcXYZ019._@=+-"
SEGMENTS = st.text(CHARACTERS, min_size=1, max_size=12).filter(
    lambda s: s[0] not in "-." and ".." not in s and not s.endswith(".lock")
)
NAMES = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


@given(NAMES)
def test_keys_are_flat_and_lead_back(name: str) -> None:
    key = encode_ref_key(name)
    assert decode_ref_key(key) == name
    assert "/" not in key
    assert key == key.lower()
    assert key.isascii()
    assert len(key) <= 240
    assert key not in (".", "..")
    assert not key.startswith(".")


@given(NAMES, NAMES)
def test_no_two_names_share_a_key_on_any_disk(one: str, other: str) -> None:
    assert (encode_ref_key(one).casefold() == encode_ref_key(other).casefold()) == (one == other)


@pytest.mark.parametrize(
    "name",
    [
        "main", "sweep", "sweep/x", "sweep/lp-lr0.001-bs128", "prod-2026-11-20-ab12cd", "a@b=c+d_e",
        "Sweep/X", "v1.0", "1", "a/b/c/d/e/f", "x.lockx", "a" * 240,
    ],
)  # fmt: skip
def test_names_that_people_use(name: str) -> None:
    assert check_ref_name(name) == name
    assert decode_ref_key(encode_ref_key(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "a/", "/a", "a//b", ".", "..", "../x", "a/..", "a/../b", ".hidden", "a/.b", "-x",
        "a/-b", "a..b", "a.lock", "a.lock/b", "a b", "a\nb", "a\n", "a\0", "ä", "a:b", "a\\b", "a*",
        "a%41", "a" * 241, "A" * 81, None, 3, b"main",
    ],
)  # fmt: skip
def test_names_that_are_refused(name: object) -> None:
    with pytest.raises(RefNameError):
        check_ref_name(name)


@given(st.text(max_size=20))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    with contextlib.suppress(RefNameError):
        assert decode_ref_key(encode_ref_key(text)) == text


@given(st.text(CHARACTERS + "%/ABCDEF", max_size=12))
def test_foreign_keys_are_refused(key: str) -> None:
    with contextlib.suppress(FormatError):
        assert encode_ref_key(decode_ref_key(key)) == key


@pytest.mark.parametrize(
    "key", ["", "%", "%2", "%2F", "a%2", "%61", "a/b", "A", "..", "%2e%2e", "%00"]
)
def test_keys_that_no_name_has(key: str) -> None:
    with pytest.raises(FormatError):
        decode_ref_key(key)


def test_known_keys() -> None:
    assert encode_ref_key("sweep/X") == "sweep%2f%58"
    assert encode_ref_key("prod-1.0") == "prod-1.0"
