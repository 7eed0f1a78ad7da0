"""Purged records: gone from every version and from every byte, and nothing else is."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from dreamdb.history import redactions
from dreamdb.maintain import check_absent, purge_records
from dreamdb.model import required_features
from dreamdb.objects import OpenedObject, from_text, to_text
from dreamdb.store import Backend, documents_of, open_backend
from dreamdb.testing import Fault, FaultBackend, FaultPlan, SimulatedCrash
from dreamdb.write import CommitNote
from tests.maintain.spaces import (
    collect,
    fresh,
    make,
    named,
    objects,
    open_caches,
    state,
    well,
)

SECRET = "the name that must go"


def history(backend: Any) -> vd.Dataset:
    """Return a dataset with a secret record that was changed, kept, deleted and branched from."""
    ds = make(backend, rows=30)
    ds.append_many([{"_anchor": 55, "x": 424_242, "s": SECRET, "t": SECRET * 3}], message="in")
    ds.snapshot("with-it")
    ds.update([55], {"s": [SECRET + "!"]}, message="changed")
    side = ds.branch("side")
    side.append_many([{"_anchor": 5_000, "x": 5}])
    ds.delete([55, 100], reason="asked")
    ds.snapshot("hidden")
    ds.append_many([{"_anchor": 6_000, "x": 6}], message="after")
    return ds


def purge(backend: Any, manifest: str, anchors: list[int], **options: Any) -> Any:
    """Purge with nothing in the caches."""
    return purge_records(
        backend,
        open_caches(backend).source,
        from_text(manifest),
        np.array(anchors, np.uint64),
        CommitNote("ada", "her request"),
        dry_run=False,
        **options,
    )


def without(seen: dict[str, Any], anchors: list[int]) -> dict[str, Any]:
    """Return what readers should see of the records after a purge."""
    return {
        name: (kind, [r for r in rows if r["_anchor"] not in anchors], notes)
        for name, (kind, rows, notes, _) in seen.items()
    }


def shown(backend: Any) -> dict[str, Any]:
    """Return what readers see, without the histories."""
    return {name: seen[:3] for name, seen in state(backend).items()}


def holds(backend: Backend, needle: bytes) -> bool:
    """Return whether the bytes are anywhere in the payload of any object."""
    return any(
        needle in bytes(OpenedObject(address, backend.objects.open(address), None).view())
        for address, _ in backend.objects.list()
    )


def test_the_record_is_gone_from_every_version_and_byte(tmp_path: Path) -> None:
    backend = open_backend(tmp_path / "space")
    ds = history(backend)
    tip = ds.current_manifest()
    before, seen = objects(backend), state(backend)
    assert holds(backend, SECRET.encode())
    looked = vd.Dataset.open_ref("main", backend).maintain.purge([55])
    assert looked.dry_run
    assert objects(backend) == before
    report = purge(backend, tip, [55])
    assert (report.records, report.unknown, report.contents) == (1, (), 5)
    assert report.refs == ("hidden", "main", "side", "with-it")
    assert report.moved == ("main", "side")
    assert (looked.contents, looked.refs, looked.moved) == (5, report.refs, report.moved)
    # Readers see the others as before, in every version, at once.
    assert shown(backend) == without(seen, [55])
    assert well(backend)
    collect(backend, trash=False)
    assert shown(backend) == without(seen, [55])
    assert well(backend)
    assert not holds(backend, SECRET.encode())
    assert not holds(backend, (424_242).to_bytes(4, "little"))
    files = [p.read_bytes() for p in (tmp_path / "space").rglob("*") if p.is_file()]
    assert not any(SECRET.encode() in body for body in files)
    assert list((tmp_path / "space" / "trash").rglob("*")) == []
    absent = check_absent(
        backend, open_caches(backend).source, from_text(tip), np.array([55], np.uint64)
    )
    assert absent.ok
    assert required_features(backend.read_space() or b"", "here") == {"redactions"}


def test_what_is_left_is_the_canonical_content() -> None:
    backend = fresh()
    ds = history(backend)
    purge(backend, ds.current_manifest(), [55, 100, 10])
    other = make(fresh(), rows=30)
    other.append_many([{"_anchor": 6_000, "x": 6}])
    plain = fresh()
    expected = make(plain, rows=0)
    table = other.scan().to_arrow().to_pylist()
    expected.append_many([r for r in table if r["_anchor"] not in (100, 10)])
    opened = open_caches(backend)
    main = backend.refs.read("main")
    assert main is not None
    assert vd.Dataset(opened, "main", main.address, None).content_id == expected.content_id


def test_verify_and_log_say_what_happened() -> None:
    backend = fresh()
    ds = history(backend)
    purge(backend, ds.current_manifest(), [55])
    collect(backend, trash=False)
    report = vd.connect(backend).verify()
    assert report.ok
    assert len(report.redactions) == 5
    told = redactions(documents_of(backend))
    assert {(r.who, r.why, r.records) for r in told} == {("ada", "her request", 1)}
    log = ds.refresh().log()
    assert (log[0].operation["name"], log[0].operation["rows"]) == ("purge", 1)
    assert log[0].message == "her request"
    assert log[1].message == "after"


def test_handles_follow_their_own_purge() -> None:
    backend = fresh()
    ds = history(backend)
    ds.maintain.purge([100, 20], reason="asked", dry_run=False)
    assert 20 not in ds
    assert ds.count() == len(ds.scan().to_arrow()) == 29
    assert ds.append_many([{"_anchor": 20, "x": 1}]) == 1
    assert 20 in ds
    old = vd.Dataset.open_at("with-it", backend)
    assert 20 not in old
    assert ds.maintain.absent([100]).held_by == ()
    assert ds.maintain.absent([20]).held_by == ((ds.current_manifest(), 20),)


def test_a_stale_handle_brings_nothing_back() -> None:
    backend = fresh()
    ds = history(backend)
    assert ds.count() == 30
    purge(backend, ds.current_manifest(), [20])
    collect(backend, trash=False)
    # It still remembers the old content and commits on what is there now.
    assert ds.append_many([{"_anchor": 7_000, "x": 7}]) == 1
    assert well(backend)
    assert 20 not in [r["_anchor"] for r in shown(backend)["main"][1]]
    assert ds.maintain.absent([20]).held_by == ()
    with pytest.raises((vd.ConflictError, vd.AnchorNotFoundError, vd.ObjectMissingError)):
        vd.Dataset(ds._space, "side", from_text(ds.log()[3].manifest), None).update(
            [20], {"x": [1]}
        )
    assert well(backend)


def test_other_datasets_of_the_space_are_not_meant() -> None:
    backend = fresh()
    ds = history(backend)
    other = make(backend, rows=30, name="unrelated", commits=2)
    other.update([20], {"s": ["of another dataset"]})
    ds.maintain.purge([20], dry_run=False)
    collect(backend, trash=False)
    assert 20 in vd.Dataset.open_ref("unrelated", backend)
    assert well(backend)


def test_one_purge_after_the_other() -> None:
    backend = fresh()
    ds = history(backend)
    seen = state(backend)
    for anchor in (55, 20, 30):
        purge(backend, ds.current_manifest(), [anchor])
    collect(backend, trash=False)
    assert shown(backend) == without(seen, [55, 20, 30])
    assert well(backend)
    snap = open_caches(backend)
    value = backend.refs.read("with-it")
    assert value is not None
    with pytest.raises(vd.AnchorNotFoundError, match="no version"):
        purge(backend, ds.current_manifest(), [55])
    report = purge(backend, ds.current_manifest(), [55, 40])
    assert report.unknown == (55,)
    assert snap.url == backend.url


def test_every_record_may_go() -> None:
    backend = fresh()
    ds = make(backend, rows=5)
    ds.snapshot("v1")
    ds.maintain.purge([0, 10, 20, 30, 40], dry_run=False)
    collect(backend, trash=False)
    assert shown(backend) == {"main": (False, [], {}), "v1": (True, [], {})}
    assert well(backend)
    assert ds.append_many([{"_anchor": 3, "x": 3}]) == 1


def test_snapshots_are_opened_by_what_was_written_down() -> None:
    backend = fresh()
    ds = make(backend, rows=20)
    snap = ds.snapshot("v1")
    ds.maintain.purge(20, dry_run=False)
    collect(backend, trash=False)
    opened = open_caches(backend)
    from dreamdb.dataset import find_manifest

    assert to_text(find_manifest(opened, snap)) == snap["manifest"]
    assert vd.Dataset.open_at(snap, backend).count() == 19
    with pytest.raises(vd.NotFoundError, match="purged"):
        vd.prove(snap, 20, backend=backend)
    proof = vd.verify_proof(ds.maintain.prove(20), ds.current_manifest())
    assert not proof


@pytest.mark.parametrize("anchors", [[], [99_999], ["x"], [-1], None, [1.5]])
def test_what_cannot_be_purged(anchors: Any) -> None:
    backend = fresh()
    ds = make(backend, rows=5)
    before = objects(backend)
    with pytest.raises((vd.InvalidInputError, vd.AnchorNotFoundError)):
        ds.maintain.purge(anchors, dry_run=False)
    assert objects(backend) == before
    assert required_features(backend.read_space() or b"", "here") == frozenset()


def test_a_purge_may_die_anywhere() -> None:
    probe = FaultBackend(fresh())
    small(probe.inner)
    tip = named(probe.inner)["main"]
    purge(probe, to_text(tip), [20])
    assert {"documents.swap", "refs.swap", "trash.throw"} <= set(probe.trace)
    for at, fault in itertools.product(range(probe.mutations), Fault):
        backend = fresh()
        small(backend)
        seen = {name: found[:3] for name, found in state(backend).items()}
        wanted = without(state(backend), [20])
        tip = named(backend)["main"]
        label = f"{fault.value} at {at} of {probe.trace}"
        error: BaseException | None = None
        try:
            purge(FaultBackend(backend, FaultPlan(at=at, fault=fault)), to_text(tip), [20])
        except (SimulatedCrash, vd.StorageError) as caught:
            error = caught
        assert error is not None, label
        now = shown(backend)
        for name, found in now.items():
            assert found in (seen[name], wanted[name]), label
        assert well(backend), label
        try:
            purge(backend, to_text(tip), [20])
        except vd.AnchorNotFoundError:
            assert now == wanted, label
        collect(backend, trash=False)
        assert shown(backend) == wanted, label
        assert well(backend), label
        tip = named(backend)["main"]
        source = open_caches(backend).source
        assert check_absent(backend, source, tip, np.array([20], np.uint64)).ok, label


def small(backend: Backend) -> None:
    """Make two versions and a snapshot, quickly."""
    schema = vd.Schema().add_scalar_int("x")
    ds = vd.Dataset.create("main", schema, backend=backend)
    ds.append_many([{"_anchor": 10 * i, "x": i} for i in range(4)])
    ds.snapshot("v1")
    ds.append_many([{"_anchor": 500, "x": 5}])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["append", "delete", "update", "branch", "snapshot", "layer"]),
            st.integers(0, 40),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sets(st.integers(0, 40), min_size=1, max_size=6),
)
def test_any_history_loses_those_records_and_no_other(
    steps: list[tuple[str, int]], gone: set[int]
) -> None:
    backend = fresh()
    schema = vd.Schema().add_scalar_int("x").add_scalar_string("s")
    ds = vd.Dataset.create("main", schema, backend=backend)
    ds.append_many([{"_anchor": a, "x": a, "s": f"s{a % 3}"} for a in range(0, 41, 2)])
    for number, (verb, anchor) in enumerate(steps):
        there = anchor in ds
        if verb == "append" and not there:
            ds.append_many([{"_anchor": anchor, "x": -number}])
        elif verb == "delete" and there:
            ds.delete([anchor])
        elif verb == "update" and there:
            ds.update([anchor], {"s": [f"changed {number}"]})
        elif verb == "branch":
            ds = ds.branch(f"b{number}")
        elif verb == "snapshot":
            ds.snapshot(f"s{number}")
        elif verb == "layer" and "p" not in ds.schema:
            ds.add_scalar_layer("p", "x", "int", [(anchor, 1)] if there else [])
    seen = state(backend)
    try:
        purge(backend, ds.current_manifest(), sorted(gone))
    except vd.AnchorNotFoundError:
        assert not any(r["_anchor"] in gone for _, rows, *_ in seen.values() for r in rows)
        return
    assert shown(backend) == without(seen, sorted(gone))
    collect(backend, trash=False)
    assert shown(backend) == without(seen, sorted(gone))
    assert well(backend)
    source = open_caches(backend).source
    tip = named(backend)["main"]
    assert check_absent(backend, source, tip, np.array(sorted(gone), np.uint64)).ok
