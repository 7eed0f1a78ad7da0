"""Tree nodes: strict and bounded reading, whatever the bytes."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.errors import FormatError
from dreamdb.model import Entries, Node, empty_entries
from dreamdb.objects import Kind, address_of
from dreamdb.types import Address

WIDTHS = {0: 66, 1: 82, 2: 82, 3: 98}


def entries_of(count: int, stats: int, seed: int = 0) -> Entries:
    """Return plausible fragment entries, some of them all null."""
    dice = np.random.default_rng(seed)
    out = empty_entries(stats, count)
    out["key"] = np.cumsum(dice.integers(1, 1 << 40, count, dtype=np.uint64))
    out["rows"] = dice.integers(1, 100, count)
    out["nulls"] = dice.integers(0, 100, count) % out["rows"]
    out["nbytes"] = dice.integers(1, 1 << 20, count)
    out["rung"] = dice.choice([0, 3, 7, 255], count)
    for at in range(count):
        out["address"][at] = np.void(address_of(Kind.FRAGMENT, [bytes([seed % 256, at % 256])]))
        if at % 5 == 4:
            out["address"][at], out["nulls"][at] = np.void(bytes(33)), out["rows"][at]
            out["nbytes"][at] = 0
    for name, bound in (("low", -3), ("high", 9)) if stats else ():
        out[name] = str(bound).encode() if stats == 3 else bound
        out[name][4::5] = 0 if stats < 3 else b""
    return out


@pytest.mark.parametrize("stats", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 1_024])
def test_round_trip(stats: int, count: int) -> None:
    node = Node(1, stats, entries_of(count, stats))
    payload = node.encode()
    assert len(payload) == 16 + count * WIDTHS[stats]
    found = Node.decode(payload)
    assert (found.level, found.stats) == (1, stats)
    assert found.entries.tobytes() == node.entries.tobytes()
    assert found.encode() == payload
    with pytest.raises(FormatError):
        Node.decode(payload, level=2)


@pytest.mark.parametrize("stats", [0, 1, 2, 3])
def test_every_byte_changed_is_refused_or_means_what_it_says(stats: int) -> None:
    payload = Node(1, stats, entries_of(6, stats)).encode()
    for at in range(len(payload)):
        for bits in (1, 0x80, 0xFF):
            raw = payload[:at] + bytes([payload[at] ^ bits]) + payload[at + 1 :]
            with contextlib.suppress(FormatError):
                assert Node.decode(raw).encode() == raw
    for size in range(len(payload)):
        with pytest.raises(FormatError):
            Node.decode(payload[:size])
    with pytest.raises(FormatError):
        Node.decode(payload + b"\0")


@given(st.binary(max_size=400), st.integers(0, 5), st.integers(0, 20), st.integers(0, 6))
def test_random_bytes_behind_a_plausible_head(
    raw: bytes, stats: int, level: int, count: int
) -> None:
    for payload in (raw, struct.pack("<4sBBHII", b"DDN1", level, stats, 0, count, 0) + raw):
        with contextlib.suppress(FormatError):
            assert Node.decode(payload).encode() == payload


def broken(column: str, at: int, value: object, *, level: int = 1) -> bytes:
    entries = entries_of(4, 1)
    if level > 1:
        entries["rung"] = 0
    entries[column][at] = value
    return Node(level, 1, entries).encode()


def all_null(column: str, value: object) -> Entries:
    entries = entries_of(5, 1)
    assert bytes(entries["address"][4]) == bytes(33)
    entries[column][4] = value
    return entries


@pytest.mark.parametrize(
    "payload",
    [
        struct.pack("<4sBBHII", b"DDN1", 1, 0, 0, 0, 0),
        struct.pack("<4sBBHII", b"DDN1", 1, 0, 0, (1 << 32) - 1, 0),
        struct.pack("<4sBBHII", b"DDN1", 17, 0, 0, 1, 0) + bytes(66),
        struct.pack("<4sBBHII", b"DDN1", 1, 4, 0, 1, 0) + bytes(66),
        Node(1, 0, entries_of(1_025, 0)).encode(),
        broken("key", 1, 0),
        broken("key", 2, int(entries_of(4, 1)["key"][1])),
        broken("rows", 0, 0),
        broken("rows", 0, 1 << 48),
        broken("nulls", 0, 1 << 20),
        broken("nbytes", 0, 1 << 62),
        broken("rung", 0, 8),
        broken("rung", 0, 254),
        broken("rung", 0, 1, level=2),
        broken("address", 0, np.void(bytes(33))),
        Node(1, 1, all_null("nbytes", 1)).encode(),
        Node(1, 1, all_null("high", 1)).encode(),
        Node(1, 1, all_null("nulls", 0)).encode(),
        Node(1, 1, all_null("address", np.void(bytes(32) + b"\1"))).encode(),
        broken("address", 0, np.void(b"\x1d" + bytes(32))),
        broken("address", 0, np.void(bytes(33)), level=2),
    ],
)
def test_what_no_writer_makes_is_refused(payload: bytes) -> None:
    with pytest.raises(FormatError):
        Node.decode(payload)


def test_inner_nodes_have_addresses_and_no_rung() -> None:
    entries = entries_of(4, 1)
    entries["rung"] = 0
    assert Node.decode(Node(2, 1, entries).encode(), level=2).level == 2


@pytest.mark.parametrize("stats", [0, 1, 2, 3])
def test_the_summary_adds_up(stats: int) -> None:
    entries = entries_of(9, stats, seed=3)
    valued = [e for e in entries if e["nulls"] < e["rows"]]
    if stats in (1, 2):
        entries["low"], entries["high"] = range(9), range(10, 19)
        entries["low"][4] = entries["high"][4] = 99 - 198 * (stats == 1)  # all null: no say
        valued = [e for e in entries if e["nulls"] < e["rows"]]
    own = Node(1, stats, entries).summary(Address(bytes(entries["address"][0])))[0]
    assert own["key"] == entries["key"][-1]
    for name in ("rows", "nulls", "nbytes"):
        assert int(own[name]) == sum(int(e[name]) for e in entries)
    if stats:
        assert own["low"] == min(e["low"] for e in valued)
        assert own["high"] == max(e["high"] for e in valued)
