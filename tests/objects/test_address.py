"""Addresses: pages, kinds, text; and verification by range."""

from __future__ import annotations

import itertools

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.errors import FormatError, HashMismatchError, InvalidInputError
from dreamdb.objects import (
    ENVELOPE_SIZE,
    PAGE_SIZE,
    Kind,
    OpenedObject,
    address_of,
    from_text,
    object_key,
    seal,
    to_text,
)
from dreamdb.types import ZERO_ADDRESS, Address
from tests.format import independent_reader as independent

SIZES = st.one_of(
    st.integers(0, 100),
    st.sampled_from([PAGE_SIZE * n + d for n in (1, 2, 9) for d in (-1, 0, 1)]),
)


def payload_of(size: int) -> bytes:
    """Return bytes no two pages of which are equal."""
    return blake3(b"payload").digest(size)


@given(SIZES, st.lists(st.integers(0, 10 * PAGE_SIZE), max_size=5), st.sampled_from(list(Kind)))
def test_the_address_is_that_of_the_concatenation(size: int, cuts: list[int], kind: Kind) -> None:
    payload = payload_of(size)
    bounds = [0, *sorted(min(cut, size) for cut in cuts), size]
    parts = [memoryview(payload)[a:b] for a, b in itertools.pairwise(bounds)]
    name = kind.name.lower().replace("_", "-")
    expected = independent.address_of(name, payload)
    assert address_of(kind, parts) == address_of(kind, [payload]) == expected


def test_every_kind_and_length_has_its_own_address() -> None:
    found = {address_of(kind, [bytes(size)]) for kind in Kind for size in range(40)}
    assert len(found) == len(Kind) * 40


@given(st.binary(min_size=32, max_size=32))
def test_text_round_trip(digest: bytes) -> None:
    address = Address(b"\x1e" + digest)
    text = to_text(address)
    assert len(text) == 53
    assert text == independent.text_of(address)
    assert from_text(text) == address
    assert object_key(address) == f"objects/{text[2]}/{text}"
    for at in range(53):
        for other in "aq7AZ1 ":
            changed = text[:at] + other + text[at + 1 :]
            try:
                assert from_text(changed) == (address if changed == text else from_text(changed))
                assert to_text(from_text(changed)) == changed
            except InvalidInputError:
                pass


@pytest.mark.parametrize(
    "text",
    ["", "d" * 53, "d" * 52, to_text(address_of(Kind.TAG, [b""])) + "\n", "é" * 53, "D" * 53],
)
def test_what_is_no_text_of_an_address(text: str) -> None:
    with pytest.raises(InvalidInputError):
        from_text(text)


def test_what_has_no_key() -> None:
    for wrong in (ZERO_ADDRESS, b"", b"\x1e" * 32, b"\x1e" * 34):
        with pytest.raises(FormatError):
            object_key(Address(wrong))


def damaged(stored: bytes, payload_at: int) -> memoryview:
    raw = bytearray(stored)
    raw[ENVELOPE_SIZE + payload_at] ^= 1
    return memoryview(raw)


@given(st.data())
def test_only_the_touched_pages_are_verified(data: st.DataObject) -> None:
    size = 20 * PAGE_SIZE + data.draw(st.integers(-5, 5))
    sealed = seal(Kind.FRAGMENT, [payload_of(size)], compress=False)
    at = data.draw(st.integers(0, size - 1))
    opened = OpenedObject(sealed.address, damaged(sealed.to_bytes(), at), Kind.FRAGMENT)
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    touched = start < stop and start // PAGE_SIZE <= at // PAGE_SIZE <= (stop - 1) // PAGE_SIZE
    if touched:
        with pytest.raises(HashMismatchError) as caught:
            opened.verify(start, stop)
        assert caught.value.details["page"] == at // PAGE_SIZE
        assert caught.value.details["object"] == to_text(sealed.address)
    else:
        opened.verify(start, stop)
    assert not opened.verified
    for _ in range(2):
        with pytest.raises(HashMismatchError):
            opened.view()


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=9))
def test_verified_ranges_add_up(ranges: list[tuple[int, int]]) -> None:
    payload = payload_of(12 * PAGE_SIZE + 7)
    sealed = seal(Kind.FRAGMENT, [payload], compress=False)
    opened = OpenedObject(sealed.address, memoryview(sealed.to_bytes()), Kind.FRAGMENT)
    covered: set[int] = set()
    for first, last in ranges:
        opened.verify(first * PAGE_SIZE, min(last * PAGE_SIZE + 1, len(payload)))
        covered |= set(range(first, min(last, 12) + 1))
        assert opened.verified == (len(covered) == 13)
    assert bytes(opened.view()) == payload
    assert opened.verified


def test_small_objects_are_verified_when_opened() -> None:
    for size in (1, PAGE_SIZE, PAGE_SIZE + 1, 8 * PAGE_SIZE):
        sealed = seal(Kind.FRAGMENT, [payload_of(size)], compress=False)
        assert OpenedObject(sealed.address, memoryview(sealed.to_bytes()), None).verified
        with pytest.raises(HashMismatchError):
            OpenedObject(sealed.address, damaged(sealed.to_bytes(), size - 1), None)


def test_bytes_of_one_kind_are_not_those_of_another() -> None:
    sealed = seal(Kind.CONTENT, [b"{}"], compress=False)
    with pytest.raises(FormatError):
        OpenedObject(sealed.address, memoryview(sealed.to_bytes()), Kind.MANIFEST)
    relabelled = bytearray(sealed.to_bytes())
    relabelled[10] = Kind.MANIFEST
    with pytest.raises(HashMismatchError):
        OpenedObject(sealed.address, memoryview(relabelled), Kind.MANIFEST)
