"""The bytes that design/0002 shows, made by the library.

A small dataset runs through the examples: anchors 10, 20 and 30, and a field ``label`` of integers
with the values 1, null and -2.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dreamdb.codecs import encode
from dreamdb.index import Indexed, IndexRoot, SpatialIndex, encode_segment
from dreamdb.model import (
    Catalog,
    Content,
    Entries,
    Field,
    FieldList,
    Manifest,
    Node,
    Redaction,
    Tag,
    empty_entries,
    encode_cuts,
    field_type,
    new_space,
    rung_ends,
    stats_kind,
    track_cuts,
    with_feature,
)
from dreamdb.model.cuts import _hash
from dreamdb.objects import Kind, address_of, encode_ref_key, object_key, seal, to_text
from dreamdb.objects.address import page_hashes
from dreamdb.store import LogEntry
from dreamdb.store.ref_values import encode_body
from dreamdb.store.reflog import encode_entry
from dreamdb.types import ZERO_ADDRESS, Address, FieldType
from dreamdb.vectors import Codec, encode_rows, seed_bytes

ANCHORS = [10, 20, 30]
NONCE = bytes(range(1, 9))
ANCHOR = FieldType("anchor")


def fragment(ftype: FieldType, values: list[object], dtype: pa.DataType) -> bytes:
    """Return the payload of a fragment."""
    return b"".join(encode(ftype, [pa.array(values, dtype)]).parts)


def entries_of(kind: str, keys: list[int], rung: int, parts: list[list[object]]) -> Entries:
    """Return the entries of fragments of integers or anchors."""
    out = empty_entries(stats_kind(kind), len(keys))
    ftype, dtype = (ANCHOR, pa.uint64()) if kind == "anchor" else (FieldType(kind), pa.int64())
    for at, (key, values) in enumerate(zip(keys, parts, strict=True)):
        encoded = encode(ftype, [pa.array(values, dtype)])
        out[at]["key"], out[at]["rows"], out[at]["rung"] = key, encoded.rows, rung
        out[at]["nulls"] = encoded.nulls
        out[at]["address"] = np.void(ZERO_ADDRESS)
        if encoded.nulls < encoded.rows:
            out[at]["nbytes"] = encoded.nbytes
            out[at]["address"] = np.void(address_of(Kind.FRAGMENT, encoded.parts))
            if kind == "int":
                for name, bound in zip(("low", "high"), encoded.stats, strict=True):
                    out[at][name] = np.frombuffer(bound, "<i8")[0]
    return out


def stored(payload: bytes, kind: Kind = Kind.FRAGMENT) -> bytes:
    """Return a stored object with a fixed nonce."""
    raw = seal(kind, [payload], compress=False).to_bytes()
    return raw[:32] + NONCE + raw[40:]


def _documents() -> dict[str, bytes]:
    schema = FieldList.of([Field("label", field_type("int"), rung=7, floor=5, order=0)])
    timeline = Node(1, 0, entries_of("anchor", [30], 255, [[*ANCHORS]])).encode()
    track = Node(1, 1, entries_of("int", [30], 255, [[1, None, -2]])).encode()
    roots = [address_of(Kind.NODE, [payload]) for payload in (timeline, track)]
    content = Content(schema, roots[0], {"label": roots[1]}).encode()
    manifest = Manifest(
        content=address_of(Kind.CONTENT, [content]),
        parents=(),
        generation=0,
        skip=None,
        author="ada@host",
        message="first",
        time_ns=1_763_640_000_000_000_000,
        operation={"name": "append", "rows": 3},
        nonce="0102030405060708",
    ).encode()
    head = address_of(Kind.MANIFEST, [manifest])
    tag = Tag("v1", head, "ada@host", "kept", 1_763_640_000_000_000_001, {"auc": "0.93"}).encode()
    notes = {"training.precision": "float32", "training.seed": "42"}
    tables = {"digits": head}
    catalog = Catalog("v2", tables, "ada@host", "", 1_763_640_000_000_001_000, notes).encode()
    entry = LogEntry(1_763_640_000_000_000_002, head, None, "ada@host", "delete")
    return {
        "timeline-node": timeline,
        "track-node": track,
        "content": content,
        "manifest": manifest,
        "tag": tag,
        "catalog": catalog,
        "ref": head,
        "snapshot-ref": encode_body(address_of(Kind.TAG, [tag]), stored(tag, Kind.TAG)),
        "reflog": encode_entry(entry),
        "space": new_space(),
        "cuts": encode_cuts({head: ()}),
        "space-cut": with_feature(new_space(), "cuts", "here"),
        "redaction": _redaction(address_of(Kind.CONTENT, [content])),
    }


def _redaction(content: Address) -> bytes:
    """Return the redaction of the small dataset: all its records went."""
    schema = FieldList.of([Field("label", field_type("int"), rung=7, floor=5, order=0)])
    left = address_of(Kind.CONTENT, [Content(schema).encode()])
    return Redaction(
        content, left, 3, 1_763_640_000_000_000_003, "ada@host", "her request"
    ).encode()


def _cuts() -> dict[str, bytes]:
    keys = np.arange(1, 201, dtype=np.uint64)
    ladder = rung_ends(keys, 3)
    cuts = track_cuts(keys, 2, 1)
    hashes = [
        f"{key} {salt} {int(_hash(np.array([key], np.uint64), salt)[0]):016x}"
        for salt in (1, 65)
        for key in (0, 1, 1_000, (1 << 64) - 1)
    ]
    track = zip(cuts.ends.tolist(), cuts.rungs.tolist(), strict=True)
    return {
        "mix": "\n".join(hashes).encode(),
        "rung-1": " ".join(map(str, ladder[1].tolist())).encode(),
        "rung-2": " ".join(map(str, ladder[2].tolist())).encode(),
        "rung-3": " ".join(map(str, ladder[3].tolist())).encode(),
        "track": " ".join(f"{end}:{rung}" for end, rung in track).encode(),
    }


def examples() -> dict[str, bytes]:
    """Return every example by its name."""
    two_pages = bytes(16_384) + b"end"
    address = address_of(Kind.FRAGMENT, [b"abc"])
    words: list[object] = ["b", "a", None, *["a"] * 61]
    return {
        "page-hash": page_hashes([b"abc"])[1],
        "address": address,
        "address-text": to_text(address).encode(),
        "object-key": object_key(address).encode(),
        "stored": stored(b"abc"),
        "two-pages-head": stored(two_pages)[:64],
        "two-pages-tail": stored(two_pages)[64 + 16_384 :],
        "two-pages-address": address_of(Kind.FRAGMENT, [two_pages]),
        "int-fragment": fragment(FieldType("int"), [1, None, -2], pa.int64()),
        "binary-fragment": fragment(FieldType("binary"), [b"ab", None, b"c"], pa.binary()),
        "anchor-body": fragment(ANCHOR, [*ANCHORS], pa.uint64())[-16:-8],
        "dictionary-bodies": _bodies(fragment(FieldType("string"), words, pa.string())),
        "two-entries": Node(1, 1, entries_of("int", [10, 20], 0, [[5], [None]])).encode(),
        "ref-key": encode_ref_key("sweep/LR-0.1").encode(),
        **_documents(),
        **_cuts(),
        **_vectors(),
    }


def _vectors() -> dict[str, bytes]:
    """Return the examples of section 13."""
    row = np.array([[-0.609375, -0.03125, 0.546875, -0.453125]], np.float32)
    scalar, rabitq = Codec("sq8", 4), Codec("rabitq-1", 4, seed_bytes(7))
    two = np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)
    spatial = SpatialIndex(two, "cosine")
    coarse = Codec("rabitq-1", 2, seed_bytes(7))
    origin = np.zeros((1, 2), np.float32), np.zeros((1, 64), np.float32)
    parts = encode_segment(two, np.array([0, 2]), 3, coarse, "cosine", *origin)
    assert parts is not None
    segment = b"".join(map(bytes, parts))
    held = {"0" * 32: Indexed(address_of(Kind.INDEX_SEGMENT, [segment]), 2)}
    return {
        "codec": scalar.encode(),
        "codec-address": scalar.address,
        "sq8-row": encode_rows(scalar, row).tobytes(),
        "rabitq-row": encode_rows(rabitq, row).tobytes(),
        "spatial-index": spatial.encode(),
        "index": IndexRoot(coarse, "cosine", spatial.address, held).encode(),
        "segment-head": segment[:32],
        "segment": segment,
    }


def _bodies(payload: bytes) -> bytes:
    """Return the two bodies of a payload of 64 rows with a dictionary of two one-byte words."""
    index = payload[-8 - 72 : -8]
    at = payload.index(b"ab", 64)
    start = at - 16
    return payload[start : start + 64] + index
