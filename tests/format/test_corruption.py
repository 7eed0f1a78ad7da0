"""Damage anywhere in a space: a typed error that names the object, or the same data.

Every read goes through a backend that has just been opened, so nothing comes from a cache.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import dreamdb as vd
from dreamdb.objects import OpenedObject, from_text
from dreamdb.store.local import LocalBackend
from dreamdb.types import Address
from tests.format.independent_reader import KINDS
from tests.format.spaces import append, comparable, files_of, plain, rows_of, schema_at

NAMES = ("raw", "vector", "label", "count", "tags")
BIG = 200_000  # thirteen pages, so that one object is verified by ranges


def build(root: Path) -> Path:
    """Make a small space with every kind of object that records need, and a large plain one."""
    ds = vd.Dataset.create("main", schema_at((2, 1), *NAMES), backend=root)
    rows = rows_of(list(range(1, 31)), NAMES, 1)
    rows[4]["raw"] = bytes(range(250)) * (BIG // 250)
    append(ds, rows)
    ds.snapshot("first", "kept", metadata={"why": "test"})
    other = ds.branch("other/One")
    other.delete([3, 9])
    other.add_scalar_layer("guess", "label", "int", [(5, 7), (6, 300)])
    ds.snapshot("gone")
    vd.connect(root).delete_ref("gone", reason="test")
    return root


def read_all(root: Path) -> dict[str, Any]:
    """Read everything that a space says, through a handle that has seen nothing."""
    backend = LocalBackend(root)
    space = vd.connect(backend)
    out: dict[str, Any] = {"refs": [str(ref) for ref in space.refs()]}
    for name in space.list_refs():
        ds = vd.Dataset.open_ref(name, backend)
        table = ds.scan().to_arrow()
        columns = {
            column: [comparable(v) for v in plain(table[column])] for column in table.column_names
        }
        out[name] = columns, ds.content_id, [str(record) for record in ds.log()]
        if table.num_rows:
            out[f"{name} taken"] = comparable(plain(ds.take([1, 7, 2], fields=["raw"])["raw"]))
    out["reflog"] = str(space.reflog("gone"))
    return out


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def truth(space: Path) -> dict[str, Any]:
    return read_all(space)


@contextmanager
def holding(path: Path, damaged: bytes | None) -> Iterator[None]:
    """Let a file hold other bytes, or be missing, for a while."""
    good, mode = path.read_bytes(), path.stat().st_mode
    os.chmod(path, 0o644)
    if damaged is None:
        path.unlink()
    else:
        path.write_bytes(damaged)
    try:
        yield
    finally:
        path.write_bytes(good)
        os.chmod(path, mode)


def outcome(root: Path) -> dict[str, Any] | vd.DreamDBError:
    """Return what a space says, or the typed error; anything else is raised."""
    try:
        return read_all(root)
    except vd.DreamDBError as error:
        return error


def flip(raw: bytes, at: int, bits: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ bits]) + raw[at + 1 :]


def named(error: vd.DreamDBError, path: Path) -> bool:
    return error.details.get("object") == path.name or path.name in str(error)


def kind_of(path: Path) -> str:
    return KINDS[path.read_bytes()[10]]


def test_the_space_has_every_kind_of_object(space: Path, truth: dict[str, Any]) -> None:
    # Damage in those of vectors and of version tags: tests/vectors, tests/maintain.
    told = {"fragment", "node", "content", "manifest", "tag"}
    assert {kind_of(path) for path in files_of(space)} == told
    assert truth == read_all(space)
    assert len(truth["refs"]) == 3
    assert any(path.stat().st_size > BIG for path in files_of(space))


def open_whole(address: Address, stored: bytes) -> bytes | vd.IntegrityError:
    try:
        return bytes(OpenedObject(address, memoryview(stored), None).view())
    except vd.IntegrityError as error:
        return error


def test_every_byte_of_every_object_is_covered(space: Path) -> None:
    """The cheap half: opening and verifying alone must notice; a byte of each page if large."""
    for path in files_of(space):
        raw, address = path.read_bytes(), from_text(path.name)
        good = bytes(OpenedObject(address, memoryview(raw), None).view())
        step = 1 if len(raw) < 4_000 else 211
        for at in range(0, len(raw), step):
            for bits in (1, 0x80):
                found = open_whole(address, flip(raw, at, bits))
                if isinstance(found, vd.DreamDBError):
                    assert named(found, path), (path.name, at, repr(found))
                else:
                    assert found == good, (path.name, at)


def places(path: Path) -> list[int]:
    """Return the first byte of every field of the envelope, and a spread of the rest."""
    size = path.stat().st_size
    return sorted({0, 8, 10, 11, 12, 16, 24, 32, 63, *range(64, size, size // 9), size - 1})


def test_a_flipped_byte_is_noticed_or_harmless(space: Path, truth: dict[str, Any]) -> None:
    harmless = 0
    for path in files_of(space):
        raw = path.read_bytes()
        for at in places(path):
            with holding(path, flip(raw, at, 1 << at % 8)):
                found = outcome(space)
            if isinstance(found, vd.DreamDBError):
                assert isinstance(found, vd.IntegrityError), (path.name, at, repr(found))
                assert named(found, path), (path.name, at, repr(found))
            else:
                assert found == truth, (path.name, at)
                harmless += 1
                # Outside every check are the nonce and spare bits of a zstd frame's head.
                spare = raw[11] == 1 and 68 <= at < 80
                assert spare or 32 <= at < 40 or not _needed(space, path), (path.name, at)
    assert harmless


def _needed(space: Path, path: Path) -> bool:
    with holding(path, None):
        return isinstance(outcome(space), vd.DreamDBError)


def test_a_truncated_object_is_noticed(space: Path, truth: dict[str, Any]) -> None:
    for path in files_of(space):
        raw = path.read_bytes()
        for size in {0, 63, 64, len(raw) // 2, len(raw) - 1}:
            if not 0 <= size < len(raw):
                continue
            for damaged in (raw[:size], raw[:size] + bytes(len(raw) - size)):
                with holding(path, damaged):
                    found = outcome(space)
                if isinstance(found, vd.DreamDBError):
                    assert isinstance(found, vd.IntegrityError), size
                    assert named(found, path), size
                else:
                    assert found == truth
                    assert damaged == raw or not _needed(space, path)


def test_longer_objects_are_noticed(space: Path, truth: dict[str, Any]) -> None:
    for path in files_of(space):
        with holding(path, path.read_bytes() + b"\0"):
            found = outcome(space)
        assert found == truth or (isinstance(found, vd.IntegrityError) and named(found, path))


def test_swapped_objects_are_noticed(space: Path, truth: dict[str, Any]) -> None:
    files = files_of(space)
    for one, other in zip(files, files[1:] + files[:1], strict=True):
        same = [path for path in files if path != one and kind_of(path) == kind_of(one)]
        for wrong in {other, *same[:2]}:
            with holding(one, wrong.read_bytes()):
                found = outcome(space)
            if isinstance(found, vd.DreamDBError):
                assert isinstance(found, vd.IntegrityError)
                assert named(found, one)
            else:
                assert found == truth
                assert not _needed(space, one)


def test_a_missing_object_is_named(space: Path, truth: dict[str, Any]) -> None:
    missed = 0
    for path in files_of(space):
        with holding(path, None):
            found = outcome(space)
        if isinstance(found, vd.DreamDBError):
            assert isinstance(found, vd.ObjectMissingError)
            assert named(found, path)
            missed += 1
        else:
            assert found == truth
    assert missed > 10


def test_damaged_refs(space: Path, truth: dict[str, Any]) -> None:
    for path in sorted((space / "refs").iterdir()):
        raw = path.read_bytes()
        bodies = [flip(raw, at, 1 << at % 8) for at in range(33)]
        bodies += [raw[:at] for at in (0, 1, 32)] + [raw + b"\0", bytes(33)]
        for body in bodies:
            with holding(path, body):
                found = outcome(space)
            assert isinstance(found, (vd.IntegrityError, vd.ObjectMissingError)), repr(found)


def test_a_ref_cannot_name_what_is_no_history(space: Path) -> None:
    """Also a snapshot's ref cannot hold another snapshot's tag."""
    from tests.format.independent_reader import address_from

    reached = 0
    for path in files_of(space):
        kind = kind_of(path)
        if kind in ("manifest",):
            continue
        with holding(space / "refs" / "main", address_from(path.name)):
            found = outcome(space)
        assert isinstance(found, vd.IntegrityError), (kind, repr(found))
        reached += 1
    assert reached > 10


def test_damaged_space_document(space: Path, truth: dict[str, Any]) -> None:
    path = space / "space.json"
    raw = path.read_bytes()
    bodies = [flip(raw, at, 1 << bit) for at in range(len(raw)) for bit in (0, 3, 5)]
    bodies += [raw[:at] for at in range(len(raw))] + [b"[]", b"null", b"{}", raw * 2, b"\xff"]
    for body in bodies:
        with holding(path, body):
            found = outcome(space)
        if isinstance(found, vd.DreamDBError):
            assert isinstance(found, vd.FormatError), repr(found)
        else:
            assert found == truth
            assert b'"format":1' in body
            assert b'"required":[]' in body


def test_a_space_that_needs_an_unknown_feature_is_refused(space: Path) -> None:
    path = space / "space.json"
    for good, bad in ((b'"format":1', b'"format":2'), (b'"required":[]', b'"required":["x"]')):
        with holding(path, path.read_bytes().replace(good, bad)):
            assert isinstance(outcome(space), vd.UnsupportedFormatError)
    with holding(path, path.read_bytes().replace(b'"optional":[]', b'"optional":["x"]')):
        assert isinstance(outcome(space), dict)


def test_damaged_reflogs(space: Path, truth: dict[str, Any]) -> None:
    (path,) = (space / "logs").iterdir()
    raw = path.read_bytes()
    for at in range(0, len(raw), 3):
        with holding(path, flip(raw, at, 1 << at % 7)):
            found = outcome(space)
        # A log is text without a hash: damage shows as an error or in the log, never in data.
        if not isinstance(found, vd.DreamDBError):
            assert {k: v for k, v in found.items() if k != "reflog"} == {
                k: v for k, v in truth.items() if k != "reflog"
            }
        else:
            assert isinstance(found, vd.IntegrityError)


def zero_middle(raw: bytes) -> bytes:
    middle = len(raw) // 2 if len(raw) > 200 else len(raw) - 1
    return flip(raw, middle, 0x10)


@pytest.mark.parametrize(
    "damage", [zero_middle, lambda raw: raw[:-1], lambda raw: None], ids=["flip", "cut", "remove"]
)
def test_verify_finds_every_damage(
    space: Path, truth: dict[str, Any], damage: Callable[[bytes], bytes | None]
) -> None:
    assert vd.connect(LocalBackend(space)).verify().ok
    for path in files_of(space)[:: 2 if damage is zero_middle else 3]:
        with holding(path, damage(path.read_bytes())):
            hurts = isinstance(outcome(space), vd.DreamDBError)
            report = vd.connect(LocalBackend(space)).verify()
        if hurts:
            assert path.name in {found.object for found in report.damage}, kind_of(path)
            assert all(found.refs for found in report.damage)
        if kind_of(path) != "tag":
            assert not report.ok, kind_of(path)
    assert vd.connect(LocalBackend(space)).verify().ok


def test_verify_finds_damaged_refs(space: Path) -> None:
    for path in sorted((space / "refs").iterdir()):
        with holding(path, flip(path.read_bytes(), 0, 1)):
            report = vd.connect(LocalBackend(space)).verify()
        assert any(ref[:4] == path.name[:4] for d in report.damage for ref in d.refs)


def test_verify_names_every_ref_that_a_damage_hurts(tmp_path: Path, space: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(space, root)
    fragments = [path for path in files_of(root) if kind_of(path) == "fragment"]
    shared = 0
    for path in fragments:
        with holding(path, None):
            hurt = set()
            for name in ("main", "first", "other/One"):
                try:
                    vd.Dataset.open_ref(name, LocalBackend(root)).scan().to_arrow()
                except vd.ObjectMissingError:
                    hurt.add(name)
            report = vd.connect(LocalBackend(root)).verify()
        told = {ref for found in report.damage if found.object == path.name for ref in found.refs}
        assert hurt <= told, (hurt, told)
        shared += len(hurt) > 1
    assert shared
