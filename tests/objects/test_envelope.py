"""Envelopes: what is written, what is refused, and that nothing declared is believed."""

from __future__ import annotations

import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.errors import FormatError, HashMismatchError, IntegrityError, UnsupportedFormatError
from dreamdb.objects import (
    ENVELOPE_SIZE,
    PAGE_SIZE,
    Compression,
    Envelope,
    Kind,
    OpenedObject,
    seal,
)

LAYOUT = "<8sHBBIQQ8s24s"


def head(
    magic: bytes = b"DREAMDB\0", version: int = 1, kind: int = 1, codec: int = 0, reserved: int = 0,
    raw: int = 5, body: int = 5, nonce: bytes = b"12345678", rest: bytes = bytes(24),
) -> bytes:  # fmt: skip
    return struct.pack(LAYOUT, magic, version, kind, codec, reserved, raw, body, nonce, rest)


@given(st.binary(max_size=3 * PAGE_SIZE), st.booleans(), st.sampled_from(list(Kind)))
def test_sealed_objects_open(payload: bytes, compress: bool, kind: Kind) -> None:
    sealed = seal(kind, [payload[:7], payload[7:]], compress=compress)
    stored = sealed.to_bytes()
    assert (sealed.nbytes, sealed.raw_nbytes) == (len(stored), len(payload))
    opened = OpenedObject(sealed.address, memoryview(stored), kind)
    assert bytes(opened.view()) == payload
    assert opened.kind is kind
    again = seal(kind, [payload], compress=not compress)
    assert again.address == sealed.address  # the envelope is outside the hash


def test_the_layout_of_a_plain_object() -> None:
    payload = bytes(2 * PAGE_SIZE)
    stored = seal(Kind.FRAGMENT, [payload], compress=False).to_bytes()
    fields = struct.unpack(LAYOUT, stored[:64])
    assert fields[:7] == (b"DREAMDB\0", 1, 1, 0, 0, len(payload), len(payload))
    assert fields[8] == bytes(24)
    assert stored[64 : 64 + len(payload)] == payload
    assert len(stored) == 64 + len(payload) + 2 * 32
    other = seal(Kind.FRAGMENT, [payload], compress=False).to_bytes()
    assert other[:32] == stored[:32]
    assert other[40:] == stored[40:]
    assert other[32:40] != stored[32:40]  # the nonce


def test_compression_is_kept_only_when_it_helps() -> None:
    noise = zstandard.ZstdCompressor().compress(bytes(range(256)) * 3)
    for payload, codec in ((b"a" * 5_000, 1), (noise[:60], 0), (b"a" * 64, 0), (b"a" * 65, 1)):
        stored = seal(Kind.NODE, [payload], compress=True).to_bytes()
        assert stored[11] == codec, len(payload)
        if codec:
            assert zstandard.ZstdDecompressor().decompress(stored[64:]) == payload


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (head(magic=b"DREAMDB1"), FormatError),
        (head(version=2), UnsupportedFormatError),
        (head(version=0), UnsupportedFormatError),
        (head(kind=0), FormatError),
        (head(kind=13), FormatError),
        (head(codec=2), FormatError),
        (head(reserved=1), FormatError),
        (head(rest=bytes(23) + b"\1"), FormatError),
        (head(raw=6), FormatError),
        (head(raw=(1 << 31) + 1, body=(1 << 31) + 1), FormatError),
        (head(raw=(1 << 64) - 1, body=(1 << 64) - 1), FormatError),
        (head(codec=1, raw=1 << 30, body=100), FormatError),
        (head()[:63], FormatError),
        (b"", FormatError),
    ],
)
def test_malformed_heads(raw: bytes, error: type[FormatError]) -> None:
    with pytest.raises(error):
        Envelope.parse(raw, None, "name")


def test_the_stored_length_must_agree() -> None:
    assert Envelope.parse(head(), 69, "name").compression is Compression.NONE
    for nbytes in (0, 64, 68, 70, 1 << 40):
        with pytest.raises(FormatError):
            Envelope.parse(head(), nbytes, "name")


@given(st.binary(min_size=ENVELOPE_SIZE, max_size=ENVELOPE_SIZE + 8))
def test_random_heads(raw: bytes) -> None:
    with pytest.raises(FormatError):
        Envelope.parse(raw, None, "name")


def forged(payload: bytes, frame: bytes, declared: int) -> tuple[bytes, memoryview]:
    address = seal(Kind.NODE, [payload], compress=False).address
    return address, memoryview(head(kind=2, codec=1, raw=declared, body=len(frame)) + frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x28\xb5\x2f\xfd",
        b"not a frame",
        zstandard.ZstdCompressor().compress(b"a" * 999),
        zstandard.ZstdCompressor().compress(b"a" * 1_001),
        zstandard.ZstdCompressor().compress(b"b" * 1_000),
        zstandard.ZstdCompressor().compress(b"a" * 1_000)[:-1],
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 24)),
    ],
)
def test_frames_that_are_not_the_payload(frame: bytes) -> None:
    address, stored = forged(b"a" * 1_000, frame, 1_000)
    with pytest.raises(IntegrityError):
        OpenedObject(address, stored, Kind.NODE)  # type: ignore[arg-type]


def test_a_bomb_is_bounded_by_what_the_envelope_declares() -> None:
    frame = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 27))
    for declared in (1 << 20, 1 << 27, 1 << 30):
        address, stored = forged(b"x", frame, declared)
        with pytest.raises(
            FormatError if declared > len(frame) * 4_096 + 1_024 else IntegrityError
        ):
            OpenedObject(address, stored, Kind.NODE)  # type: ignore[arg-type]


def test_a_page_list_that_is_another_one() -> None:
    sealed = seal(Kind.FRAGMENT, [bytes(9 * PAGE_SIZE)], compress=False)
    raw = bytearray(sealed.to_bytes())
    raw[-1] ^= 1
    with pytest.raises(HashMismatchError):
        OpenedObject(sealed.address, memoryview(raw), Kind.FRAGMENT)
