"""Well-hashed lies: every object is intact, but what they say together cannot be.

Reading gives a typed error or, where a lie concerns hints only, right data; ``verify`` finds all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import dreamdb as vd
from dreamdb.codecs import encode
from dreamdb.model import (
    Content,
    Entries,
    Field,
    FieldList,
    Manifest,
    Node,
    Tag,
    empty_entries,
    field_type,
    new_space,
)
from dreamdb.objects import Kind, seal
from dreamdb.store.local import LocalBackend
from dreamdb.types import Address, FieldType

ANCHOR = FieldType("anchor")


class Forger:
    """Writes objects and refs straight into a space."""

    def __init__(self, root: Path) -> None:
        self.backend = LocalBackend(root)
        self.backend.create_space(new_space())

    def put(self, kind: Kind, payload: bytes) -> Address:
        sealed = seal(kind, [payload], compress=True)
        upload = self.backend.objects.upload()
        upload.put(sealed)
        upload.finish()
        return sealed.address

    def entry(self, ftype: FieldType, values: list[Any], key: int, rung: int = 255) -> Entries:
        """Store a fragment and return its honest entry."""
        stats = {"int": 1, "string": 3}.get(ftype.kind, 0)
        dtype = {"int": pa.int64(), "string": pa.string(), "anchor": pa.uint64()}[ftype.kind]
        encoded = encode(ftype, [pa.array(values, dtype)])
        out = empty_entries(stats, 1)
        out["key"], out["rows"], out["nulls"] = key, encoded.rows, encoded.nulls
        out["nbytes"], out["rung"] = encoded.nbytes, rung
        payload = b"".join(bytes(part) for part in encoded.parts)
        out["address"] = np.void(self.put(Kind.FRAGMENT, payload))
        for name, bound in zip(("low", "high") if stats else (), encoded.stats, strict=False):
            out[name] = np.frombuffer(bound, out.dtype[name])
        return out

    def node(self, entries: Entries, level: int = 1) -> Address:
        stats = {0: 0, 8: 1, 16: 3}[
            0 if "low" not in (entries.dtype.names or ()) else entries["low"].itemsize
        ]
        return self.put(Kind.NODE, Node(level, stats, entries).encode())

    def publish(self, content: Content, **changes: Any) -> Address:
        manifest = Manifest(
            self.put(Kind.CONTENT, content.encode()), (), 0, None, "x", "", 5, {"name": "create"}
        )
        address = self.put(Kind.MANIFEST, replace(manifest, **changes).encode())
        self.backend.refs.swap("main", self.backend.refs.read("main"), address)
        return address


SCHEMA = FieldList.of(
    [Field("n", field_type("int"), order=0), Field("s", field_type("string"), order=1)]
)


@pytest.fixture
def forger(tmp_path: Path) -> Forger:
    return Forger(tmp_path / "space")


def honest(forger: Forger) -> tuple[Content, dict[str, Entries]]:
    """Return a small honest content and the entries of its three tracks."""
    entries = {
        "timeline": forger.entry(ANCHOR, [10, 20, 30], 30),
        "n": forger.entry(FieldType("int"), [1, None, -2], 30),
        "s": forger.entry(FieldType("string"), ["a", "b", None], 30),
    }
    roots = {name: forger.node(entry) for name, entry in entries.items()}
    content = Content(SCHEMA, roots["timeline"], {"n": roots["n"], "s": roots["s"]})
    return content, entries


def read(forger: Forger) -> list[dict[str, Any]]:
    backend = LocalBackend(forger.backend.path)
    return list(vd.Dataset.open_ref("main", backend).scan().to_arrow().to_pylist())


def damage_of(forger: Forger) -> list[Any]:
    return list(vd.connect(LocalBackend(forger.backend.path)).verify().damage)


def test_an_honest_forgery_is_a_dataset(forger: Forger) -> None:
    content, _ = honest(forger)
    forger.publish(content)
    assert [row["n"] for row in read(forger)] == [1, None, -2]
    assert not damage_of(forger)
    ds = vd.Dataset.create("main2", vd.Schema.of_fields(SCHEMA), backend=forger.backend)
    ds.append_many([{"_anchor": 10 * i, "n": n, "s": s} for i, n, s in
                    ((1, 1, "a"), (2, None, "b"), (3, -2, None))])  # fmt: skip
    assert ds.content_id == vd.Dataset.open_ref("main", forger.backend).content_id


Lie = Callable[[Forger, Content, dict[str, Entries]], Content]


def with_entry(name: str, **columns: Any) -> Lie:
    """Return a lie: one track's only entry says something else."""

    def lie(forger: Forger, content: Content, entries: dict[str, Entries]) -> Content:
        forged = entries[name].copy()
        for column, value in columns.items():
            forged[column] = value
        root = forger.node(forged)
        if name == "timeline":
            return replace(content, timeline=root)
        return replace(content, tracks={**content.tracks, name: root})

    return lie


def missing_rows(forger: Forger, content: Content, entries: dict[str, Entries]) -> Content:
    short = forger.node(forger.entry(FieldType("int"), [1, 2], 30))
    return replace(content, tracks={**content.tracks, "n": short})


def wrong_kind(forger: Forger, content: Content, entries: dict[str, Entries]) -> Content:
    tracks = {"n": content.tracks["s"], "s": content.tracks["n"]}
    return replace(content, tracks=tracks)


def fragment_of_another_kind(
    forger: Forger, content: Content, entries: dict[str, Entries]
) -> Content:
    return with_entry("n", address=entries["s"]["address"][0])(forger, content, entries)


def anchors_that_overlap(forger: Forger, content: Content, entries: dict[str, Entries]) -> Content:
    parts = [forger.entry(ANCHOR, [10, 20], 20, 5), forger.entry(ANCHOR, [15, 30], 30)]
    parts[1]["key"] = 30
    return replace(content, timeline=forger.node(np.concatenate([parts[0], parts[1][:1]])))


def anchors_that_are_null(forger: Forger, content: Content, entries: dict[str, Entries]) -> Content:
    void = empty_entries(0, 1)
    void["key"], void["rows"], void["nulls"], void["rung"] = 30, 3, 3, 255
    return replace(content, timeline=forger.node(void))


def endless_rows(forger: Forger, content: Content, entries: dict[str, Entries]) -> Content:
    def void(stats: int) -> Address:
        out = empty_entries(stats, 1)
        out["key"], out["rung"] = 30, 255
        out["rows"] = out["nulls"] = (1 << 48) - 1
        return forger.node(out)

    return replace(content, timeline=void(0), tracks={"n": void(1), "s": void(3)})


def strange_tombstone(forger: Forger, content: Content, entries: dict[str, Entries]) -> Content:
    return replace(content, tombstones=forger.node(forger.entry(ANCHOR, [11], 11)))


def too_deep(forger: Forger, content: Content, entries: dict[str, Entries]) -> Content:
    above = entries["timeline"].copy()
    above["rung"], above["address"] = 0, np.void(content.timeline or b"")
    return replace(content, timeline=forger.node(above, level=3))


REFUSED: dict[str, Lie] = {
    "a track with too few rows": missing_rows,
    "tracks of another kind": wrong_kind,
    "a fragment of another kind": fragment_of_another_kind,
    "anchors that overlap": anchors_that_overlap,
    "anchors that are null": anchors_that_are_null,
    "endless rows": endless_rows,
    "a tombstone of nothing": strange_tombstone,
    "a level too deep": too_deep,
    "more rows than the fragment": with_entry("n", rows=4),
    "rows that only the timeline has": with_entry("timeline", rows=4),
    "a last anchor that is too small": with_entry("timeline", key=3),
    "a fragment that is not there": with_entry("s", address=np.void(b"\x1e" * 33)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_lies_that_reading_refuses(forger: Forger, name: str) -> None:
    forger.publish(REFUSED[name](forger, *honest(forger)))
    with pytest.raises((vd.IntegrityError, vd.ObjectMissingError)):
        read(forger)
    assert damage_of(forger)


SUBTLE: dict[str, Lie] = {
    "a statistic that is too small": with_entry("n", high=0),
    "a statistic that is too large": with_entry("s", high=b"zz"),
    "wrong nulls": with_entry("n", nulls=2),
    "wrong bytes": with_entry("s", nbytes=9),
    "another rung": with_entry("n", rung=5),
    "another key": with_entry("n", key=31),
}


@pytest.mark.parametrize("name", SUBTLE)
def test_lies_that_only_verify_finds(forger: Forger, name: str) -> None:
    """Hints are not data: a full scan still returns the values of the fragments."""
    forger.publish(SUBTLE[name](forger, *honest(forger)))
    assert damage_of(forger)
    with contextlib.suppress(vd.IntegrityError):
        assert [row["n"] for row in read(forger)] == [1, None, -2]


def test_a_needless_level_is_not_canonical(forger: Forger) -> None:
    content, entries = honest(forger)
    above = entries["timeline"].copy()
    above["rung"], above["address"] = 0, np.void(content.timeline or b"")
    forger.publish(replace(content, timeline=forger.node(above, level=2)))
    assert any("canonical" in found.message for found in damage_of(forger))


def test_a_history_that_lies(forger: Forger) -> None:
    content, _ = honest(forger)
    root = forger.publish(content)
    for changes in (
        {"parents": (root,), "generation": 1, "time_ns": 5},
        {"parents": (root,), "generation": 1, "time_ns": 9, "skip": root},
        {"parents": (root,), "generation": 3, "time_ns": 9, "skip": None},
    ):
        forger.publish(content, **changes)
        found = damage_of(forger)
        assert [one.refs for one in found[:1]] == [("main",)], changes
        list(vd.Dataset.open_ref("main", LocalBackend(forger.backend.path)).log())


def test_a_tag_under_another_name(forger: Forger) -> None:
    content, _ = honest(forger)
    manifest = forger.publish(content)
    tag = forger.put(Kind.TAG, Tag("v1", manifest, "x", "", 6).encode())
    forger.backend.refs.swap("v1", None, tag)
    assert vd.Dataset.open_ref("v1", LocalBackend(forger.backend.path)).count() == 3
    forger.backend.refs.swap("v2", None, tag)
    with pytest.raises(vd.FormatError):
        vd.Dataset.open_ref("v2", LocalBackend(forger.backend.path))
    assert any(found.refs == ("v2",) for found in damage_of(forger))


@pytest.mark.parametrize("kind", [Kind.CONTENT, Kind.NODE, Kind.FRAGMENT, Kind.TAG])
def test_a_tag_of_what_is_no_manifest(forger: Forger, kind: Kind) -> None:
    content, entries = honest(forger)
    manifest = forger.publish(content)
    target = {
        Kind.CONTENT: forger.put(Kind.CONTENT, content.encode()),
        Kind.NODE: content.timeline,
        Kind.FRAGMENT: Address(bytes(entries["n"]["address"][0])),
        Kind.TAG: forger.put(Kind.TAG, Tag("v0", manifest, "x", "", 6).encode()),
    }[kind]
    assert target is not None
    forger.backend.refs.swap(
        "v1", None, forger.put(Kind.TAG, Tag("v1", target, "x", "", 6).encode())
    )
    with pytest.raises(vd.FormatError):
        vd.Dataset.open_ref("v1", LocalBackend(forger.backend.path)).count()
    assert damage_of(forger)
