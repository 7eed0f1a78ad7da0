"""The worked examples of design/0002, executed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dreamdb.model import Content, Manifest, Node, Tag, check_space
from dreamdb.model.cuts import FIRST_RULE, NEXT_RULE, NODE_RULE
from dreamdb.objects import Kind, OpenedObject, address_of, to_text
from dreamdb.types import Address
from tests.format.examples import examples
from tests.format.independent_arrow import read_stream
from tests.format.independent_reader import address_of as independent_address
from tests.format.independent_reader import closed, cut, document_of, mix

DOCUMENT = Path(__file__).resolve().parents[2] / "design" / "0002-format.md"
BLOCK = re.compile(
    r"^```(hex|text|json) name=(\S+)(?: base=(\S+) length=(\d+))?\n(.*?)^```$", re.M | re.S
)


def parse_hex(text: str, base: bytes, length: int) -> bytes:
    """Return the bytes of a block of hexadecimal lines, or of a table of offsets."""
    out, at = bytearray(base.ljust(length, b"\0")), 0
    for line in text.splitlines():
        if "|" not in line:
            out += bytes.fromhex(line)
            continue
        offset, raw, meaning = line.split("|", 2)
        piece = bytes.fromhex(raw.strip())
        assert meaning.strip(), line
        if not base:
            assert int(offset) == at, line
        at = int(offset) + len(piece)
        out[int(offset) : at] = piece
    return bytes(out[:length]) if base else bytes(out)


def read_blocks() -> dict[str, bytes]:
    """Return every named block of the document as bytes."""
    out: dict[str, bytes] = {}
    for form, name, base, length, body in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")):
        assert name not in out, name
        if form == "hex":
            out[name] = parse_hex(body, out.get(base, b""), int(length or 0))
        else:
            out[name] = body.replace("\n", "" if form == "json" else "\n").rstrip("\n").encode()
    return out


BLOCKS = read_blocks()
EXAMPLES = examples()


def test_every_block_is_an_example_and_the_reverse() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(BLOCKS) == len(re.findall(r"^```\w+ name=", text, re.M))
    assert set(BLOCKS) == set(EXAMPLES) - {"address-text"}


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_the_library_makes_these_bytes(name: str) -> None:
    assert BLOCKS[name] == EXAMPLES[name]


def test_the_addresses_are_what_another_program_computes() -> None:
    assert BLOCKS["address"] == independent_address("fragment", b"abc")
    assert BLOCKS["two-pages-address"] == independent_address("fragment", bytes(16_384) + b"end")
    assert BLOCKS["object-key"].decode().endswith(to_text(Address(BLOCKS["address"])))
    assert BLOCKS["ref"] == independent_address("manifest", BLOCKS["manifest"])
    body = BLOCKS["snapshot-ref"]
    assert body[:33] == independent_address("tag", BLOCKS["tag"])
    opened = OpenedObject(Address(body[:33]), memoryview(body[33:]), Kind.TAG)
    assert bytes(opened.view()) == BLOCKS["tag"]


def test_the_stored_objects_open() -> None:
    opened = OpenedObject(Address(BLOCKS["address"]), memoryview(BLOCKS["stored"]), Kind.FRAGMENT)
    assert bytes(opened.view()) == b"abc"
    stored = BLOCKS["two-pages-head"] + bytes(16_384) + BLOCKS["two-pages-tail"]
    opened = OpenedObject(Address(BLOCKS["two-pages-address"]), memoryview(stored), Kind.FRAGMENT)
    assert bytes(opened.view()) == bytes(16_384) + b"end"


def test_the_fragments_say_what_the_document_says() -> None:
    assert read_stream(BLOCKS["int-fragment"]) == ([1, None, -2], "int8")
    assert read_stream(BLOCKS["binary-fragment"]) == ([b"ab", None, b"c"], "binary")


def test_the_documents_name_each_other() -> None:
    content = Content.decode(BLOCKS["content"])
    manifest = Manifest.decode(BLOCKS["manifest"])
    tag = Tag.decode(BLOCKS["tag"])
    assert manifest.content == address_of(Kind.CONTENT, [BLOCKS["content"]])
    assert tag.manifest == BLOCKS["ref"]
    assert content.timeline == address_of(Kind.NODE, [BLOCKS["timeline-node"]])
    assert content.tracks["label"] == address_of(Kind.NODE, [BLOCKS["track-node"]])
    (entry,) = Node.decode(BLOCKS["track-node"]).entries
    assert bytes(entry["address"]) == address_of(Kind.FRAGMENT, [BLOCKS["int-fragment"]])
    assert (entry["low"], entry["high"], entry["key"]) == (-2, 1, 30)
    assert len(Node.decode(BLOCKS["two-entries"]).entries) == 2
    assert document_of(BLOCKS["reflog"])["old"] == to_text(Address(BLOCKS["ref"]))
    check_space(BLOCKS["space"], "here")


def test_the_cuts_are_what_another_program_computes() -> None:
    for line in BLOCKS["mix"].decode().splitlines():
        key, salt, result = line.split()
        assert f"{mix(int(key), int(salt)):016x}" == result
    keys = list(range(1, 201))
    first = closed(keys, (4, 16, 64, 16, 160), 1)
    assert " ".join(map(str, first)).encode() == BLOCKS["rung-1"]
    track = cut(keys, 2, 1)
    assert " ".join(f"{end}:{rung}" for end, rung in track).encode() == BLOCKS["track"]


def test_the_table_of_rules_is_the_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, rule in (("first", FIRST_RULE), ("next", NEXT_RULE), ("node", NODE_RULE)):
        numbers = (rule.minimum, rule.mean, rule.maximum, rule.hard, rule.easy)
        assert f"| {name} | " + " | ".join(f"{n:,}" for n in numbers) + " |" in text
