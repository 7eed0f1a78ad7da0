"""A second reader of the format: standard library, BLAKE3 and zstd only, written from design/0002.

It shares no code with the library.  Everything it reads it also checks: addresses, canonical
documents, tree shapes, statistics, and every cut boundary.  Anything odd is an AssertionError.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from blake3 import blake3

from tests.format.independent_arrow import read_stream
from tests.vectors.independent_codes import decode_row

PAGE = 16_384
KINDS = {
    1: "fragment", 2: "node", 3: "content", 4: "manifest", 5: "tag", 6: "codec",
    7: "spatial-index", 8: "index", 11: "catalog", 12: "index-segment",
}  # fmt: skip
OPEN = 255
MASK = (1 << 64) - 1
FIRST, NEXT, NODE = (4, 16, 64, 16, 160), (2, 4, 8, 128, 306), (64, 256, 1_024, 1, 11)
TIMELINE = (6, 5)
STATS = {"bool": 1, "int": 1, "timestamp": 1, "float": 2, "string": 3, "categorical": 3, "text": 3}
BLOBS = ("image", "video", "audio", "binary")
ELEMENTS = {
    "int8": "b", "int16": "h", "int32": "i", "int64": "q",
    "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q",
    "float16": "e", "float32": "f", "float64": "d",
}  # fmt: skip


def text_of(address: bytes) -> str:
    """Return the 53 characters of an address."""
    return base64.b32encode(address).decode().lower().rstrip("=")


def address_from(text: str) -> bytes:
    """Parse the 53 characters of an address."""
    assert re.fullmatch("[a-z2-7]{53}", text), text
    raw = base64.b32decode(text.upper() + "===")
    assert len(raw) == 33
    assert raw[0] == 0x1E
    assert text_of(raw) == text
    return raw


def address_of(kind: str, payload: bytes) -> bytes:
    """Return the address of a payload."""
    pages = b"".join(
        blake3(payload[at : at + PAGE]).digest() for at in range(0, len(payload), PAGE)
    )
    context = f"dreamdb v1 {kind}"
    head = struct.pack("<Q", len(payload))
    return b"\x1e" + blake3(head + pages, derive_key_context=context).digest()


def document_of(raw: bytes) -> dict[str, Any]:
    """Parse a canonical document."""
    found = json.loads(raw)
    again = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert isinstance(found, dict)
    assert again.encode() == raw, "not canonical"
    return found


def mix(key: int, salt: int) -> int:
    """Return the hash that cuts."""
    z = (key + salt * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def closed(keys: list[int], rule: tuple[int, ...], salt: int) -> list[int]:
    """Return the exclusive ends of the closed chunks of a run of keys."""
    minimum, mean, maximum, hard, easy = rule
    ends, start = [], 0
    for at, key in enumerate(keys, 1):
        length = at - start
        if length < minimum:
            continue
        limit = hard if length <= mean else easy
        if length == maximum or mix(key, salt) >> 55 < limit:
            ends.append(at)
            start = at
    return ends


def cut(keys: list[int], rung: int, floor: int) -> list[tuple[int, int]]:
    """Return end and rung of each fragment of a track over these anchors."""
    ladder = [list(range(1, len(keys) + 1))]
    for level in range(1, rung + 1):
        below = ladder[-1]
        chosen = closed([keys[end - 1] for end in below], FIRST if level == 1 else NEXT, level)
        ladder.append([below[end - 1] for end in chosen])
    out: list[tuple[int, int]] = []
    at = 0
    for level in range(rung, floor - 1, -1):
        more = [(end, level) for end in ladder[level] if end > at]
        out += more
        at = out[-1][0] if out else 0
    if at < len(keys):
        out.append((len(keys), OPEN))
    return out


@dataclass
class Entry:
    """One entry of a tree node."""

    key: int
    rows: int
    nulls: int
    nbytes: int
    rung: int
    address: bytes
    low: Any = None
    high: Any = None


class IndependentReader:
    """Reads one space in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.carried: dict[bytes, bytes] = {}
        space = document_of((root / "space.json").read_bytes())
        features = space.pop("required")
        assert space == {"dreamdb": "space", "format": 1, "optional": []}
        assert features == sorted(features)
        assert set(features) <= {"catalog", "cuts", "redactions"}
        self.cuts: dict[str, list[str]] = {}
        if "cuts" in features:
            told = document_of((root / "cuts").read_bytes())
            assert set(told) == {"cuts", "format"}
            self.cuts = told["cuts"]

    def refs(self) -> dict[str, bytes]:
        """Return every ref and the address it holds."""
        out = {}
        for file in sorted((self.root / "refs").iterdir()):
            name = re.sub("%([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), file.name)
            body = file.read_bytes()
            assert body[0] == 0x1E
            out[name] = body[:33]
            if body[33:]:
                assert len(body) <= 33 + 16_384
                self.carried[body[:33]] = body[33:]
        return out

    def stored(self, address: bytes) -> bytes:
        """Return an object as it is stored: carried by a ref, or a file of its own."""
        if address in self.carried:
            return self.carried[address]
        text = text_of(address)
        return (self.root / "objects" / text[2] / text).read_bytes()

    def kind(self, address: bytes) -> str:
        """Return what an object is."""
        return KINDS[self.stored(address)[10]]

    def payload(self, address: bytes, kind: str) -> bytes:
        """Return an object's payload, its address checked."""
        raw = self.stored(address)
        magic, version, code, codec, zero, length, stored = struct.unpack_from("<8sHBBIQQ", raw)
        assert (magic, version, zero, raw[40:64]) == (b"DREAMDB\0", 1, 0, bytes(24))
        assert KINDS[code] == kind
        body, trailer = raw[64 : 64 + stored], raw[64 + stored :]
        if codec == 1:
            assert not trailer
            body = zstandard.ZstdDecompressor().decompress(body, max_output_size=length)
        else:
            assert codec == 0
            pages = [body[at : at + PAGE] for at in range(0, length, PAGE)]
            hashes = b"".join(blake3(page).digest() for page in pages)
            assert trailer == (hashes if length > PAGE else b"")
        assert len(body) == length
        assert address_of(kind, body) == address
        return body

    def document(self, text: str, kind: str) -> dict[str, Any]:
        """Return a content, manifest or tag by the text of its address.

        A content that was redacted is replaced, a manifest at a cut has the parents of the cut.
        """
        if kind == "content" and not (self.root / "objects" / text[2] / text).exists():
            told = document_of((self.root / "redactions" / text).read_bytes())
            assert told["content"] == text
            return self.document(told["replacement"], kind)
        found = document_of(self.payload(address_from(text), kind))
        coded = [f["type"] for f in found.get("schema", {}).get("fields", []) if _codec(f["type"])]
        assert found["format"] == (2 if coded else 1)
        for ftype in coded:
            codec = {"codec": ftype["codec"], "dim": ftype["dim"], "format": 1}
            raw = json.dumps(codec, separators=(",", ":"), sort_keys=True).encode()
            assert self.payload(address_of("codec", raw), "codec") == raw
        if kind == "manifest" and text in self.cuts:
            found |= {"parents": self.cuts[text], "skip": None}
        return found

    def manifest_of(self, ref: str) -> str:
        """Return the text address of the manifest a ref leads to."""
        address = self.refs()[ref]
        if self.kind(address) == "manifest":
            return text_of(address)
        tag = self.document(text_of(address), "tag")
        assert tag["label"] == ref
        return str(tag["manifest"])

    def catalog_of(self, ref: str) -> dict[str, str]:
        """Return the manifests that a version tag names, by table."""
        catalog = self.document(text_of(self.refs()[ref]), "catalog")
        assert catalog["label"] == ref
        assert catalog["time_ns"] % 1_000 == 0
        for manifest in catalog["tables"].values():
            assert self.document(manifest, "manifest")["time_ns"] <= catalog["time_ns"]
        return dict(catalog["tables"])

    def history(self, manifest: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield a branch's own line, newest first, its skip addresses checked."""
        line = []
        at: str | None = manifest
        while at is not None:
            found = self.document(at, "manifest")
            line.append((at, found))
            at = found["parents"][0] if found["parents"] else None
        place = {text: found["generation"] for text, found in line}
        for (_text, found), following in zip(line, [*line[1:], (None, None)], strict=True):
            generation = found["generation"]
            if following[1] is not None:
                assert generation > following[1]["generation"]
                assert found["time_ns"] > following[1]["time_ns"]
            target = generation & (generation - 1)
            if self.cuts:
                continue  # What a skip address names may have been cut away.
            if following[1] is None or target >= following[1]["generation"]:
                assert found["skip"] is None
            else:
                nearest = max(g for g in place.values() if g <= target)
                assert place[found["skip"]] == nearest
        yield from line

    def node(self, address: bytes) -> tuple[int, int, list[Entry]]:
        """Return level, statistics kind and entries of a tree node."""
        raw = self.payload(address, "node")
        magic, level, stats, zero, count, zero2 = struct.unpack_from("<4sBBHII", raw)
        assert (magic, zero, zero2) == (b"DDN1", 0, 0)
        assert level >= 1
        assert 1 <= count <= 1_024
        at = 16
        columns: list[Any] = []
        for code in ("Q", "Q", "Q", "Q", "B", "33s", *{0: [], 1: "qq", 2: "dd"}.get(stats, [])):
            size = struct.calcsize(f"<{code}")
            columns.append(
                [x for (x,) in struct.iter_unpack(f"<{code}", raw[at : at + size * count])]
            )
            at += size * count
        if stats == 3:
            for _ in range(2):
                columns.append([raw[i : i + 16] for i in range(at, at + 16 * count, 16)])
                at += 16 * count
        assert at == len(raw)
        entries = [Entry(*row) for row in zip(*columns, strict=True)]
        assert all(a.key < b.key for a, b in itertools.pairwise(entries))
        return level, stats, entries

    def leaves(self, root: bytes | None, stats: int) -> list[Entry]:
        """Return a tree's fragment entries, its whole shape checked."""
        if root is None:
            return []
        level, found, entries = self.node(root)
        assert found == stats
        assert level == 1 or len(entries) > 1
        groups = [entries]
        for at in range(level, 0, -1):
            flat = [entry for group in groups for entry in group]
            ends, size = [], 0
            for group in groups:
                size += len(group)
                ends.append(size)
            expected = closed([entry.key for entry in flat], NODE, 64 + at)
            if not expected or expected[-1] < len(flat):
                expected.append(len(flat))
            assert ends == expected, "a node is cut elsewhere"
            if at == 1:
                return flat
            groups = [self._child(entry, at - 1, stats) for entry in flat]
        raise AssertionError("unreachable")

    def _child(self, entry: Entry, level: int, stats: int) -> list[Entry]:
        own, found, below = self.node(entry.address)
        assert (own, found, entry.rung) == (level, stats, 0)
        assert entry.key == below[-1].key
        for name in ("rows", "nulls", "nbytes"):
            assert getattr(entry, name) == sum(getattr(e, name) for e in below)
        valued = [e for e in below if e.nulls < e.rows]
        if stats and valued:
            assert entry.low == min(e.low for e in valued)
            assert entry.high == max(e.high for e in valued)
        return below

    def anchors(self, root: str | None) -> list[int]:
        """Return the anchors of a timeline or of tombstones, every cut checked."""
        entries = self.leaves(None if root is None else address_from(root), 0)
        out: list[int] = []
        for entry in entries:
            differences, kind = self._column(entry)
            assert kind.startswith("uint")
            assert differences[0] == 0
            assert min(differences[1:] or [1]) > 0
            assert kind == _narrowest(0, max(differences), "uint")
            first = entry.key - sum(differences)
            for difference in differences:
                first += difference
                out.append(first)
        self._check_cuts(entries, out, *TIMELINE)
        return out

    def column(self, field: dict[str, Any], root: str | None, anchors: list[int]) -> list[Any]:
        """Return a field's values in anchor order, deleted records included."""
        kind = field["type"]["kind"]
        entries = self.leaves(None if root is None else address_from(root), STATS.get(kind, 0))
        self._check_cuts(entries, anchors, field["rung"], field["floor"])
        out: list[Any] = []
        for entry in entries:
            if entry.address == bytes(33):
                assert entry.nulls == entry.rows
                assert entry.nbytes == 0
                out += [None] * entry.rows
                continue
            values, physical = self._column(entry)
            _check_physical(kind, physical, values)
            _check_stats(kind, entry, values)
            out += [_value(field["type"], value) for value in values]
        return out

    def _column(self, entry: Entry) -> tuple[list[Any], str]:
        payload = self.payload(entry.address, "fragment")
        values, physical = read_stream(payload)
        assert len(values) == entry.rows
        assert len(payload) == entry.nbytes
        assert values.count(None) == entry.nulls < entry.rows
        return values, physical

    @staticmethod
    def _check_cuts(entries: list[Entry], anchors: list[int], rung: int, floor: int) -> None:
        found, at = [], 0
        for entry in entries:
            at += entry.rows
            found.append((at, entry.rung))
            assert anchors[at - 1] == entry.key
        assert found == cut(anchors, rung, floor), "a fragment is cut elsewhere"

    def rows(self, manifest: str) -> tuple[list[int], dict[str, list[Any]]]:
        """Return the visible anchors and the values of every field."""
        content = self.document(self.document(manifest, "manifest")["content"], "content")
        anchors = self.anchors(content["timeline"])
        dead = set(self.anchors(content["tombstones"]))
        assert dead <= set(anchors)
        keep = [anchor not in dead for anchor in anchors]
        columns = {}
        for field in content["schema"]["fields"]:
            values = self.column(field, content["tracks"][field["name"]], anchors)
            assert not field.get("required") or None not in values
            columns[field["name"]] = [v for v, k in zip(values, keep, strict=True) if k]
        return [a for a, k in zip(anchors, keep, strict=True) if k], columns


def _codec(ftype: dict[str, Any]) -> str | None:
    return ftype.get("codec") if ftype["kind"] == "embedding" else None


def _narrowest(low: int, high: int, sign: str) -> str:
    for bits in (8, 16, 32, 64):
        least, most = (0, 1 << bits) if sign == "uint" else (-(1 << bits - 1), 1 << bits - 1)
        if least <= low and high < most:
            return f"{sign}{bits}"
    raise AssertionError("not a 64-bit integer")


def _check_physical(kind: str, physical: str, values: list[Any]) -> None:
    """Require the one physical type that the values allow."""
    present = [v for v in values if v is not None]
    if kind in ("int", "timestamp"):
        assert physical == _narrowest(min(present), max(present), "int")
    elif kind in ("string", "categorical"):
        distinct = len(set(present))
        repeated = len(values) >= 64 and 4 * distinct <= len(values) and distinct <= 32_768
        if kind == "categorical" or repeated:
            assert physical == "dictionary " + _narrowest(0, max(distinct - 1, 0), "int")
        else:
            assert physical == "utf8"
    else:
        fixed = {"bool": "bool", "float": "float64", "text": "utf8", "list": "list"}
        fixed |= {"struct": "struct", "embedding": "fixed", "tensor": "fixed"}
        assert physical == ("binary" if kind in BLOBS else fixed[kind])


def _check_stats(kind: str, entry: Entry, values: list[Any]) -> None:
    present = [v for v in values if v is not None]
    if STATS.get(kind) == 1:
        assert (entry.low, entry.high) == (int(min(present)), int(max(present)))
    elif STATS.get(kind) == 2:
        numbers = [v for v in present if not math.isnan(v)]
        found = (entry.low, entry.high)
        assert found == (min(numbers, default=math.inf), max(numbers, default=-math.inf))
        assert all(math.copysign(1, bound) > 0 for bound in found if bound == 0)
    elif STATS.get(kind) == 3:
        raw = [v.encode() for v in present]
        low, high = min(raw)[:16], max(raw)[:16]
        assert entry.low == low.ljust(16, b"\0")
        assert entry.high == (b"\xff" * 16 if high.endswith(b"\0") else high.ljust(16, b"\0"))


def _value(ftype: dict[str, Any], value: Any) -> Any:
    """Turn the raw bytes of a vector into numbers."""
    if value is None or ftype["kind"] not in ("embedding", "tensor"):
        return value
    if _codec(ftype):
        return decode_row(ftype["codec"], ftype["dim"], value)
    code, count = "f", ftype.get("dim")
    if ftype["kind"] == "tensor":
        code, count = ELEMENTS[ftype["dtype"]], math.prod(ftype["shape"])
    return list(struct.unpack(f"<{count}{code}", value))
