"""What is said about a space beside its objects, and what is derived, on its way to another one."""

from __future__ import annotations

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.history import redactions
from dreamdb.objects import Kind
from dreamdb.store import Backend, documents_of
from tests.transfer.spaces import (
    KINDS,
    addresses,
    backend_of,
    counting,
    memory,
    needed,
    rows,
    sample,
    state,
)


def _purged(backend: Backend) -> vd.Dataset:
    """Return ``main``, of which two records are gone from every version."""
    ds = sample(backend)
    ds.maintain.purge([5, 250], reason="asked", dry_run=False)
    vd.connect(backend).gc(dry_run=False, trash=False)
    return ds.refresh()


# ---------------------------------------------------------------- snapshots


def test_a_tag_travels_in_its_ref() -> None:
    ours, theirs = memory(), memory()
    sample(ours)
    vd.clone(ours, theirs)
    assert theirs.refs.read("v1") == ours.refs.read("v1")
    held = theirs.refs.read("v1")
    assert held is not None
    assert held.carried is not None
    assert held.address not in addresses(theirs)
    again = counting(theirs)
    with again.measured() as spent:
        vd.Dataset.open_ref("v1", ours).push(again, "v1")
    assert spent.stored == []
    assert spent.calls["refs.swap"] == 0


def test_a_tag_that_is_an_object_travels_as_one() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    ds.snapshot("long", metadata={"notes": "n" * 20_000})
    made = vd.clone(ours, theirs, "long")
    held = theirs.refs.read("long")
    assert held is not None
    assert held.carried is None
    assert held.address in addresses(theirs)
    assert made.open("long").count() == ds.count()
    assert made.verify().ok


# ---------------------------------------------------------------- purged contents


@pytest.mark.parametrize("kind", KINDS)
def test_a_clone_of_a_purged_space_reads_and_verifies(kind: str, tmp_path: object) -> None:
    ours, theirs = memory(), backend_of(kind, tmp_path)  # type: ignore[arg-type]
    _purged(ours)
    made = vd.clone(ours, theirs)
    assert state(made) == state(ours)
    report = made.verify()
    assert report.ok
    assert report.redactions
    assert addresses(theirs) == needed(ours)
    found = {one.content for one in redactions(documents_of(theirs))}
    assert found == {one.content for one in redactions(documents_of(ours))}
    assert not found & addresses(theirs)
    assert made.gc().garbage == ()
    assert made.open("v1").maintain.absent([5, 250]).ok


def test_purged_contents_are_pushed_and_fetched() -> None:
    ours, pushed, fetched = memory(), memory(), memory()
    ds = _purged(ours)
    vd.connect(pushed, create=True)
    ds.push(pushed)
    vd.connect(fetched, create=True).fetch(ours, ["v1"])
    for backend, name in ((pushed, "main"), (fetched, "v1")):
        there = vd.Dataset.open_ref(name, backend)
        here = vd.Dataset.open_ref(name, ours)
        assert there.scan().to_arrow().equals(here.scan().to_arrow())
        assert vd.connect(backend).verify().ok


def test_what_was_purged_does_not_come_back() -> None:
    ours, theirs = memory(), memory()
    sample(ours)
    vd.clone(ours, theirs, "main")
    there = vd.Dataset.open_ref("main", theirs)
    there.maintain.purge([5], reason="asked", dry_run=False)
    vd.connect(theirs).gc(dry_run=False, trash=False)
    gone = {one.content for one in redactions(documents_of(theirs))}
    # `side` has a version of its own, and a version that the purge has replaced there.
    made = vd.connect(theirs)
    made.fetch(ours, ["side", "v1"])
    assert not gone & addresses(theirs)
    assert made.verify().ok
    assert 5 not in made.open("v1").scan().to_arrow()["_anchor"].to_pylist()
    # Repair leaves it away as well.
    assert made.repair(ours).repaired == []
    kept = next(a for a in needed(theirs, "v1") if ours.objects.size(a) is not None)
    theirs.objects.delete(kept)
    vd.connect(theirs)._space.cache.clear()
    assert made.repair(ours).ok
    assert not gone & addresses(theirs)


# ---------------------------------------------------------------- expired history


def test_a_clone_of_a_space_with_expired_history() -> None:
    ours, theirs = memory(), memory()
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), ours)
    for number in range(12):
        ds.append([{"x": number}])
        if number == 5:
            ds.snapshot("v1")
    space = vd.connect(ours)
    assert space.expire(2, dry_run=False).expired
    space.gc(dry_run=False, trash=False)
    made = vd.clone(ours, theirs)
    assert state(made) == state(ours)
    assert made.verify().ok
    assert addresses(theirs) == addresses(ours)
    # History goes on at both ends.
    ds.append([{"x": 100}])
    made.open("main").pull(ours)
    made.open("main").append([{"x": 101}])
    made.open("main").push(ours)
    assert ds.refresh().count() == 14
    assert state(made) == state(ours)
    assert vd.connect(ours).verify().ok
    # Again, after the origin was cut once more: nothing here is shortened.
    assert space.expire(1, dry_run=False).expired
    log = len(made.open("main").log())
    vd.clone(ours, theirs)
    assert len(made.open("main").log()) == log
    assert made.verify().ok


def test_a_target_whose_history_was_expired_gets_the_rest_only() -> None:
    ours, theirs = memory(), memory()
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), ours)
    for number in range(8):
        ds.append([{"x": number}])
    made = vd.clone(ours, theirs)
    made.expire(1, dry_run=False)
    made.gc(dry_run=False, trash=False)
    left = addresses(theirs)
    ds.append([{"x": 100}])
    assert made.open("main").pull(ours).manifests == 1
    assert addresses(theirs) > left
    assert len(made.open("main").log()) == 2
    assert made.verify().ok
    assert made.gc().garbage == ()


# ---------------------------------------------------------------- partial clones


def test_a_partial_clone_collects_no_work_and_purges() -> None:
    ours, theirs = memory(), memory()
    sample(ours)
    made = vd.clone(ours, theirs, "main", fields=["x"])
    here = made.open("main")
    here.append(rows(1_000, 1_020))
    here.update([1], {"word": ["changed"]})
    work = state(made)
    made.open("main").branch("gone").append(rows(2_000, 2_010))
    made.delete_ref("gone")
    assert made.du().refs
    collected = made.gc(dry_run=False, trash=False)
    assert collected.removed == len(collected.garbage)
    assert state(made) == work
    assert made.verify().ok
    here.refresh().maintain.purge([1_003], reason="asked", dry_run=False)
    made.gc(dry_run=False, trash=False)
    assert made.verify().ok
    assert here.refresh().count() == len(work["main"][3]["x"]) - 1
    here.push(ours)
    assert vd.connect(ours).verify().ok


def test_a_partial_clone_of_a_purged_space_reads_without_its_origin() -> None:
    ours, theirs = memory(), memory()
    ds = _purged(ours)
    made = vd.clone(ours, theirs, "main", fields=["x"], shallow=True)
    values = ds["x"].to_pylist()
    objects: dict[object, bytes] = ours._space.objects  # type: ignore[attr-defined]
    kept = dict(objects)
    objects.clear()
    here = made.open("main")
    assert here["x"].to_pylist() == values
    assert len(here.log()) == 1
    assert made.verify().ok
    objects.update(kept)
    here.append(rows(1_000, 1_001))
    objects.clear()
    assert len(here.log()) == 2
    assert made.verify().ok


# ---------------------------------------------------------------- codecs and indexes


def test_codecs_and_indexes_travel() -> None:
    ours, theirs = memory(), memory()
    vectors = np.random.default_rng(1).standard_normal((4_000, 8)).astype(np.float32)
    schema = (
        vd.Schema()
        .add_embedding("v", 8, compressor="sq8")
        .add_embedding("w", 8, rows_per_fragment=64)
    )
    ds = vd.Dataset.create("main", schema, ours)
    ds.append({"v": vectors, "w": vectors})
    ds.index.build("w", cells=4)
    made = vd.clone(ours, theirs)
    assert addresses(theirs) == needed(ours) == needed(theirs)
    assert made.verify().ok
    kinds = {made._space.cache.open(a, None).kind for a in addresses(theirs)}
    assert {Kind.CODEC, Kind.INDEX, Kind.INDEX_SEGMENT, Kind.SPATIAL_INDEX} <= kinds
    ds.append({"v": vectors[:50], "w": vectors[:50]})
    assert made.open("main").pull(ours).manifests == 1
    assert addresses(theirs) == needed(ours)
    # The index of a field that is kept elsewhere stays there.
    partial = memory()
    other = vd.clone(ours, partial, fields=["v"])
    assert other.verify().ok
    kinds = {other._space.cache.open(a, None).kind for a in addresses(partial)}
    assert Kind.CODEC in kinds
    assert Kind.INDEX not in kinds
    assert len(other.open("main").search("w", vectors[0], k=5)) == 5
    # A part of an index that the origin has lost costs speed there, and nothing here.
    lost = next(
        a for a in addresses(ours)
        if vd.connect(ours)._space.cache.open(a, None).kind is Kind.INDEX_SEGMENT
    )  # fmt: skip
    ours.objects.delete(lost)
    last = vd.clone(ours, memory())
    assert last.verify().ok
    assert last.open("main").count() == 4_050
