"""Garbage goes, everything else stays; the trash gives it back."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from dreamdb.maintain import TRASH_KEEP_NS, collect_garbage
from dreamdb.maintain.roots import REFLOG_KEEP_NS
from dreamdb.objects import Kind, OpenedObject, from_text, seal
from dreamdb.store import Backend, LogEntry, ObjectCache, open_backend, trash_of
from dreamdb.store.fsspec_store import FsspecBackend
from dreamdb.testing import CountingBackend
from dreamdb.testing.samples import store_all
from dreamdb.tracks import Source
from tests.maintain.spaces import LATER, collect, fresh, make, named, objects, state, well


@pytest.fixture(params=["memory", "directory"])
def backend(request: Any, tmp_path: Path) -> Backend:
    return fresh() if request.param == "memory" else open_backend(tmp_path / "space")


def test_a_clean_space_has_no_garbage(backend: Backend) -> None:
    make(backend)
    before = objects(backend)
    report = collect(backend)
    assert report.garbage == ()
    assert report.reachable == len(before)
    assert objects(backend) == before


def test_looking_changes_nothing(backend: Backend) -> None:
    ds = make(backend)
    ds.branch("side").append_many([{"_anchor": 5_000, "x": 7}], message="lost work")
    vd.connect(backend).delete_ref("side")
    before = objects(backend)
    report = vd.connect(backend).gc()
    assert report.dry_run
    assert report.garbage == ()  # The reflog keeps it.
    source = Source(ObjectCache(backend.objects))
    late = collect_garbage(backend, source, now_ns=time.time_ns() + LATER)
    assert objects(backend) == before
    kinds = [one.kind for one in late.garbage]
    assert kinds == sorted(kinds, key=["manifest", "content", "node", "fragment"].index)
    assert "lost work" in late.garbage[0].why
    commit = late.garbage[0].object[:12]
    assert all(commit in one.why for one in late.garbage[1:])
    assert late.garbage_nbytes == sum(one.nbytes for one in late.garbage)


def test_a_deleted_branch_is_kept_by_its_reflog_then_goes(backend: Backend) -> None:
    ds = make(backend)
    kept = objects(backend)
    ds.branch("side").append_many([{"_anchor": 5_000, "x": 7}])
    vd.connect(backend).delete_ref("side")
    everything = objects(backend)
    assert collect(backend, age=0).removed == 0
    assert collect(backend, age=REFLOG_KEEP_NS - 10**12).removed == 0
    seen = state(backend)
    report = collect(backend)
    assert report.trashed
    assert report.removed == len(everything) - len(kept)
    assert objects(backend) == kept
    assert state(backend) == seen
    assert well(backend)


def test_the_trash_gives_back_and_is_emptied(backend: Backend) -> None:
    ds = make(backend)
    kept = objects(backend)
    side = ds.branch("side")
    side.append_many([{"_anchor": 5_000, "x": 7}], message="wanted after all")
    lost = side.current_manifest()
    vd.connect(backend).delete_ref("side")
    everything = objects(backend)
    collect(backend)
    assert objects(backend) == kept
    looked = vd.connect(backend).restore_trash()
    assert looked.dry_run
    assert looked.manifests == ((lost, "wanted after all"),)
    assert objects(backend) == kept
    restored = vd.connect(backend).restore_trash(dry_run=False)
    assert restored == replace(looked, dry_run=False)
    assert objects(backend) == everything
    trash = trash_of(backend)
    assert trash is not None
    assert list(trash.list()) == []
    again = vd.Dataset.open_by_manifest(lost, backend).branch("back")
    assert again.count() == 41
    assert collect(backend).removed == 0
    vd.connect(backend).delete_ref("back")
    collect(backend)
    assert len(list(trash.list())) == len(everything) - len(kept)
    young = collect(backend, age=LATER + TRASH_KEEP_NS // 2)
    assert young.emptied == 0
    old = collect(backend, age=LATER + 2 * TRASH_KEEP_NS)
    assert old.emptied == len(everything) - len(kept)
    assert old.emptied_nbytes > 0
    assert list(trash.list()) == []


def test_without_trash_it_is_gone_at_once(backend: Backend) -> None:
    ds = make(backend)
    ds.branch("side").append_many([{"_anchor": 5_000, "x": 7}])
    vd.connect(backend).delete_ref("side")
    collect(backend)
    ds.branch("side").append_many([{"_anchor": 5_001, "x": 8}])
    vd.connect(backend).delete_ref("side")
    report = collect(backend, trash=False)
    assert report.removed > 0
    assert report.emptied > 0
    trash = trash_of(backend)
    assert trash is not None
    assert list(trash.list()) == []


def test_an_unreadable_root_stops_everything(tmp_path: Path) -> None:
    backend = open_backend(tmp_path / "space")
    ds = make(backend)
    ds.branch("side").append_many([{"_anchor": 5_000, "x": 7}])
    vd.connect(backend).delete_ref("side")
    manifest = from_text(ds.current_manifest())
    backend.objects.delete(manifest)
    before = objects(backend)
    with pytest.raises(vd.IntegrityError, match="while the space is damaged"):
        collect(backend)
    assert objects(backend) == before


def test_what_a_newer_version_wrote_stops_everything(backend: Backend) -> None:
    """A newer manifest may name objects that this version does not know: they are no garbage."""
    ds = make(backend)
    tip = from_text(ds.current_manifest())
    stored = OpenedObject(tip, backend.objects.open(tip), Kind.MANIFEST)
    body = bytes(stored.view()).replace(b'"format":1', b'"format":9')
    sealed = seal(Kind.MANIFEST, [body], compress=True)
    store_all(backend, sealed)
    backend.refs.swap("main", backend.refs.read("main"), sealed.address)
    before = objects(backend)
    with pytest.raises(vd.UnsupportedFormatError, match="format 9"):
        collect(backend)
    assert objects(backend) == before


def test_a_damaged_ref_stops_everything(tmp_path: Path) -> None:
    backend = open_backend(tmp_path / "space")
    ds = make(backend)
    ds.branch("other")
    (tmp_path / "space" / "refs" / "other").write_bytes(b"short")
    before = objects(backend)
    with pytest.raises(vd.IntegrityError):
        collect(backend)
    assert objects(backend) == before


def test_no_roots_at_all_is_refused(backend: Backend) -> None:
    ds = make(backend)
    vd.connect(backend).delete_ref("main")
    before = objects(backend)
    del ds
    with pytest.raises(vd.IntegrityError, match="no ref"):
        collect(backend)
    assert objects(backend) == before
    assert collect(backend, age=0).removed == 0


def test_an_empty_space_has_nothing_to_collect(backend: Backend) -> None:
    vd.connect(backend, create=True)
    assert collect(backend).removed == 0


def test_the_reflog_keeps_both_ends_of_a_move(backend: Backend) -> None:
    ds = make(backend)
    ds.append_many([{"_anchor": 7_000, "x": 1}])
    tip = from_text(ds.current_manifest())
    first = from_text(ds.log()[-1].manifest)
    value = backend.refs.read("main")
    backend.refs.append_log("main", LogEntry(time.time_ns(), tip, first, "ada", "reset"))
    backend.refs.swap("main", value, first)
    before = objects(backend)
    assert collect(backend, age=0).removed == 0
    assert objects(backend) == before
    assert collect(backend).removed > 0
    assert vd.Dataset.open_ref("main", backend).count() == 0


def test_a_stale_handle_cannot_name_what_was_collected(backend: Backend) -> None:
    ds = make(backend)
    side = ds.branch("side")
    side.append_many([{"_anchor": 5_000, "x": 7}])
    assert side.count() == 41
    vd.connect(backend).delete_ref("side")
    collect(backend)
    for name in (lambda: side.branch("again"), lambda: side.snapshot("again")):
        with pytest.raises(vd.NotFoundError, match="collected"):
            name()
    with pytest.raises(vd.ConflictError):
        side.append_many([{"_anchor": 5_002, "x": 7}])
    assert vd.connect(backend).list_refs() == ["main"]
    assert well(backend)


def test_a_transaction_keeps_the_collector_out(tmp_path: Path) -> None:
    backend = open_backend(tmp_path / "space")
    ds = make(backend)
    with ds.transaction() as tx:
        tx.append_many([{"_anchor": 5_000, "x": 7}])
        with pytest.raises(vd.InternalError, match="held for a commit"):
            collect(backend)
    assert ds.count() == 41
    assert collect(backend).removed == 0
    with pytest.raises(vd.AlreadyExistsError):
        _append_twice(ds)
    assert collect(backend).removed > 0
    assert well(backend)


def _append_twice(ds: vd.Dataset) -> None:
    with ds.transaction() as tx:
        tx.append_many([{"_anchor": 5_001, "x": 7}])
        tx.append_many([{"_anchor": 5_001, "x": 7}])


def test_dead_writers_leave_nothing(tmp_path: Path) -> None:
    backend = open_backend(tmp_path / "space")
    make(backend)
    left = tmp_path / "space" / "tmp" / "99999999-0-abc"
    left.write_bytes(b"half an object")
    old = time.time() - 3_600
    os.utime(left, (old, old))
    assert collect(backend).temporaries == 1
    assert not left.exists()


def test_a_copied_space_without_trash_or_tmp(tmp_path: Path) -> None:
    backend = open_backend(tmp_path / "space")
    ds = make(backend)
    ds.branch("side").append_many([{"_anchor": 5_000, "x": 7}])
    vd.connect(backend).delete_ref("side")
    shutil.copytree(tmp_path / "space", tmp_path / "copy", ignore=lambda *_: ["tmp", "locks"])
    copy = open_backend(tmp_path / "copy")
    assert collect(copy).removed > 0
    assert well(copy)


def test_a_store_without_trash_deletes_when_it_is_told_to() -> None:
    backend = FsspecBackend.from_filesystem(
        MemoryFileSystem(), "/collect-me", url="wrapped-memory://collect", single_writer=True
    )
    ds = make(backend)
    kept = objects(backend)
    ds.branch("side").append_many([{"_anchor": 5_000, "x": 7}])
    vd.connect(backend).delete_ref("side")
    everything = objects(backend)
    with pytest.raises(vd.StorageError, match="no trash"):
        collect(backend)
    with pytest.raises(vd.StorageError, match="no trash"):
        vd.connect(backend).restore_trash()
    assert objects(backend) == everything
    assert collect(backend, trash=False).removed == len(everything) - len(kept)
    assert objects(backend) == kept
    for name in list(backend.refs.logs()):
        MemoryFileSystem().rm(f"/collect-me/logs/{name}", recursive=True)
    assert ds.maintain.purge([10], dry_run=False).records == 1
    assert vd.connect(backend).expire(1, dry_run=False).expired
    collect(backend, trash=False)
    assert well(backend)
    assert 10 not in [r["_anchor"] for r in state(backend)["main"][1]]


def test_marking_reads_no_fragment() -> None:
    backend = fresh()
    ds = make(backend, rows=3_000)
    counting = CountingBackend(backend)
    source = Source(ObjectCache(counting.objects))
    report = collect_garbage(counting, source)
    content = ds._view.content
    fragments = set()
    for name in ("_anchor", *content.schema):
        fragments |= set(ds._view.track(name).addresses)
    assert not fragments & set(counting.tally.opened)
    assert report.reachable == len(objects(backend))
    assert len(counting.tally.opened) == len(set(counting.tally.opened))


@given(seed=st.integers(0, 1 << 32), cuts=st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_what_stays_is_what_a_dictionary_says(seed: int, cuts: list[int]) -> None:
    """Branches come and go; the objects that stay are exactly those that fresh copies need."""
    rng = np.random.default_rng(seed)
    backend = fresh()
    handles = {"main": make(backend, rows=12, commits=1)}
    for number, action in enumerate(cuts):
        name = str(rng.choice(sorted(handles)))
        ds = handles[name]
        if action == 0:
            handles[f"b{number}"] = ds.branch(f"b{number}")
        elif action == 1 and len(handles) > 1:
            vd.connect(backend).delete_ref(name)
            del handles[name]
        elif action == 2:
            ds.snapshot(f"s{number}")
        elif action == 3:
            ds.delete([int(ds.scan([]).to_arrow()["_anchor"][0].as_py())])
        else:
            ds.append_many([{"_anchor": 1_000 + number, "x": number}])
    seen = state(backend)
    collect(backend)
    assert state(backend) == seen
    assert well(backend)
    expected: set[bytes] = set()
    for _, address in named(backend).items():
        expected |= reached(backend, address)
    assert objects(backend) == expected


def reached(backend: Backend, address: Any) -> set[bytes]:
    """Return what an address needs, found by the simplest walk there is."""
    from dreamdb.model import Content, Manifest, Node, Tag
    from dreamdb.objects import Kind, OpenedObject

    out = {bytes(address)}
    opened = OpenedObject(address, backend.objects.open(address), None)
    below: list[Any] = []
    if opened.kind is Kind.TAG:
        below = [Tag.decode(opened.view()).manifest]
    elif opened.kind is Kind.MANIFEST:
        manifest = Manifest.decode(opened.view())
        below = [*manifest.parents, manifest.content]
    elif opened.kind is Kind.CONTENT:
        content = Content.decode(opened.view())
        below = [content.timeline, content.tombstones, *content.tracks.values()]
    elif opened.kind is Kind.NODE:
        below = [bytes(a) for a in Node.decode(opened.view()).entries["address"]]
    for one in below:
        if one is not None and any(one):
            out |= reached(backend, one)
    return out
