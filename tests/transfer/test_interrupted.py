"""Transfers that are interrupted: at every mutating call, at every read, and by kill -9."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dreamdb as vd
from dreamdb.objects import Kind, OpenedObject, to_text
from dreamdb.store import Backend
from dreamdb.testing import Fault, FaultBackend, FaultPlan, SimulatedCrash, flip_bit, truncate
from dreamdb.transfer import copier as copier_module
from tests.transfer.spaces import (
    addresses,
    counting,
    duplicate,
    memory,
    needed,
    rows,
    sample,
    state,
)


class Scene:
    """Two spaces before a transfer, and an empty one; equal each time it is made."""

    def __init__(self) -> None:
        near, far = _prototypes()
        self.near, self.far, self.other = duplicate(near), duplicate(far), memory()


@functools.cache
def _prototypes() -> tuple[Backend, Backend]:
    near, far = memory(), memory()
    ds = sample(near, 40)
    vd.clone(near, far, "main")
    ds.append(rows(1_000, 1_010))
    ds.snapshot("v2")
    return near, far


def _push(scene: Scene, origin: Backend, target: Backend) -> Any:
    return vd.Dataset.open_ref("main", origin).push(target)


def _push_snapshot(scene: Scene, origin: Backend, target: Backend) -> Any:
    return vd.Dataset.open_ref("v2", origin).push(target)


def _pull(scene: Scene, origin: Backend, target: Backend) -> Any:
    return vd.Dataset.open_ref("main", target).pull(origin)


def _fetch(scene: Scene, origin: Backend, target: Backend) -> Any:
    return vd.connect(target).fetch(origin)


def _clone(scene: Scene, origin: Backend, target: Backend) -> Any:
    return vd.clone(origin, target)


def _shallow(scene: Scene, origin: Backend, target: Backend) -> Any:
    return vd.clone(origin, target, "v2", shallow=True)


def _partial(scene: Scene, origin: Backend, target: Backend) -> Any:
    return vd.clone(origin, target, "main", fields=["x"])


Verb = Callable[[Scene, Backend, Backend], Any]
VERBS: dict[str, Verb] = {
    "push": _push,
    "push a snapshot": _push_snapshot,
    "pull": _pull,
    "fetch": _fetch,
    "clone": _clone,
    "shallow clone": _shallow,
    "partial clone": _partial,
}


def _target(name: str, scene: Scene) -> Backend:
    return scene.other if "clone" in name else scene.far


def _refs(backend: Backend) -> dict[str, Any]:
    return dict(backend.refs.list())


def _run(name: str, plan: FaultPlan) -> tuple[Scene, FaultBackend, BaseException | None]:
    scene = Scene()
    target = FaultBackend(_target(name, scene), plan)
    try:
        VERBS[name](scene, scene.near, target)
    except (SimulatedCrash, vd.DreamDBError) as caught:
        return scene, target, caught
    return scene, target, None


def _faults(trace: list[str]) -> Iterator[tuple[int, Fault]]:
    """Yield every call with every fault; puts but the first and the last with one in turn."""
    puts = [at for at, operation in enumerate(trace) if operation == "objects.put"]
    for at, fault in itertools.product(range(len(trace)), Fault):
        if at not in puts[1:-1] or fault is list(Fault)[at % len(Fault)]:
            yield at, fault


@pytest.mark.parametrize("name", VERBS)
def test_every_fault_at_the_target_leaves_two_usable_spaces(name: str) -> None:
    old = _refs(_target(name, Scene()))
    scene, counted, error = _run(name, FaultPlan())
    assert error is None
    there = _target(name, scene)
    new, whole = _refs(there), state(there)
    assert new != old
    origin = _refs(scene.near)
    for at, fault in _faults(counted.trace):
        scene, target, error = _run(name, FaultPlan(at=at, fault=fault))
        label = f"{name}: {fault.value} at {at} of {target.trace}"
        there = _target(name, scene)
        after = _refs(there)
        assert after.items() <= old.items() | new.items(), label
        assert set(after) >= set(old), label
        if there.read_space() is not None:
            assert vd.connect(there).verify(data=False).ok, label
        if error is None:
            assert after == new, label
        if fault in (Fault.DISK_FULL, Fault.IO_ERROR):
            assert isinstance(error, vd.StorageError), label
        if fault in (Fault.DIE_BEFORE, Fault.DIE_AFTER, Fault.TORN_WRITE):
            assert isinstance(error, SimulatedCrash), label
        # The same again, by a new process: it goes through.
        VERBS[name](scene, scene.near, there)
        assert _refs(there) == new, label
        assert _refs(scene.near) == origin, label
        assert vd.connect(there).verify(data=fault is Fault.TORN_WRITE).ok, label
    assert state(there) == whole


@pytest.mark.parametrize("name", ["push", "fetch", "clone", "shallow clone", "partial clone"])
def test_a_remote_that_goes_away_while_it_is_read(name: str) -> None:
    scene = Scene()
    counted = FaultBackend(scene.near)
    VERBS[name](scene, counted, _target(name, scene))
    total = counted.reads
    for reads in range(total):
        scene = Scene()
        there = _target(name, scene)
        before = _refs(there)
        dying = FaultBackend(scene.near, FaultPlan(reads=reads))
        with pytest.raises(vd.StorageError, match="cannot reach"):
            VERBS[name](scene, dying, there)
        assert before.items() <= _refs(there).items()
        if there.read_space() is not None:
            assert vd.connect(there).verify(data=False).ok
        present = addresses(there)
        again = counting(there)
        with again.measured() as written:
            VERBS[name](scene, scene.near, again)
        # What had arrived has stayed, and is not sent again.
        assert not present & set(written.stored)
        assert vd.connect(there).verify(data=False).ok


@pytest.mark.parametrize("damage", [flip_bit(8 * 70 + 3), truncate(66), truncate(0)])
@pytest.mark.parametrize("name", ["push", "pull", "clone", "partial clone"])
def test_a_damaged_object_is_never_passed_on(name: str, damage: Any) -> None:
    scene = Scene()
    there = _target(name, scene)
    missing = needed(scene.near, "main") - addresses(there)
    kinds = {
        address: OpenedObject(address, scene.near.objects.open(address), None).kind
        for address in missing
    }
    if name == "partial clone":
        kept = vd.clone(scene.near, memory(), "main", fields=["x"])._space.stored
        kinds = {a: k for a, k in kinds.items() if a in addresses(kept)}
    assert {Kind.FRAGMENT, Kind.NODE, Kind.CONTENT, Kind.MANIFEST} <= set(kinds.values())
    for address in kinds:
        scene = Scene()
        there = _target(name, scene)
        before = _refs(there)
        hurt = FaultBackend(scene.near, FaultPlan(damage={address: damage}))
        with pytest.raises(vd.IntegrityError) as caught:
            VERBS[name](scene, hurt, there)
        assert caught.value.details["object"] == to_text(address)
        assert to_text(address) in str(caught.value)
        assert address not in addresses(there)
        assert _refs(there) == before
        if there.read_space() is not None:
            assert vd.connect(there).verify(data=False).ok


def test_a_missing_object_is_named_and_nothing_moves() -> None:
    scene = Scene()
    for address in needed(scene.near, "main") - addresses(scene.far):
        scene = Scene()
        ds = vd.Dataset.open_ref("main", scene.near)
        ds.count()
        before = state(scene.far)
        scene.near.objects.delete(address)
        ds._space.cache.clear()
        with pytest.raises(vd.ObjectMissingError) as caught:
            ds.push(scene.far)
        assert caught.value.details["object"] == to_text(address)
        assert state(scene.far) == before


def test_a_target_that_refuses_writes(tmp_path: Path) -> None:
    scene = Scene()
    target = FaultBackend(scene.far)
    before = state(scene.far)

    def refuse(operation: str, call: Any, *, torn: Any = None) -> Any:
        raise vd.ReadOnlyError(f"no permission to {operation}")

    target.mutate = refuse  # type: ignore[method-assign]
    with pytest.raises(vd.ReadOnlyError, match="no permission"):
        VERBS["push"](scene, scene.near, target)
    assert state(scene.far) == before
    assert VERBS["push"](scene, scene.near, scene.far).refs


def test_a_ref_that_moves_while_the_objects_travel() -> None:
    scene = Scene()
    rival = vd.Dataset.open_ref("main", scene.far)
    moved: list[str] = []

    def interfere(objects: int, nbytes: int) -> None:
        if not moved:
            rival.append(rows(7_000, 7_003))
            moved.append(rival.current_manifest())

    ds = vd.Dataset.open_ref("main", scene.near)
    with pytest.raises(vd.RefConflictError) as caught:
        ds.push(scene.far, progress=interfere)
    assert "run it again" in (caught.value.hint or "")
    assert vd.Dataset.open_ref("main", scene.far).current_manifest() == moved[0]
    # The next attempt sees the other's commit.
    with pytest.raises(vd.ConflictError, match="cannot move"):
        ds.push(scene.far)


def test_a_local_commit_during_a_pull_is_not_lost() -> None:
    scene = Scene()
    ds = vd.Dataset.open_ref("main", scene.far)
    rival = vd.Dataset.open_ref("main", scene.far)
    once = iter([True])

    def interfere(objects: int, nbytes: int) -> None:
        if next(once, False):
            rival.append(rows(7_000, 7_003))

    with pytest.raises(vd.ConflictError, match="cannot move"):
        ds.pull(scene.near, progress=interfere)
    assert vd.Dataset.open_ref("main", scene.far).count() == rival.count()
    assert vd.Dataset.open_ref("remotes/origin/main", scene.far).count() == 49


# ---------------------------------------------------------------- real processes


_BATCH, _IN_FLIGHT = 12, 4


def _clone_slowly(source: str, target: str, pipe: Any) -> None:
    copier_module._FLUSH_OBJECTS = _BATCH  # type: ignore[misc]
    copier_module._IN_FLIGHT = _IN_FLIGHT  # type: ignore[misc]

    def report(objects: int, nbytes: int) -> None:
        pipe.send(objects)
        time.sleep(0.001)

    vd.clone(source, target, progress=report)
    pipe.send(None)


def _kill_a_clone_after(source: str, target: str, count: int) -> None:
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_clone_slowly, args=(source, target, writer))
    process.start()
    writer.close()
    for _ in range(count):
        assert reader.recv() is not None
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    reader.close()


def test_kill_9_of_a_clone_and_going_on(tmp_path: Path) -> None:
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x").add_binary("raw"), source)
    for at in range(25):
        ds.append_many([{"x": at, "raw": bytes([at]) * 3_000}])
    ds.snapshot("v1")
    whole = needed(source)
    arrived = 0
    for count in (40, 60, 50):
        _kill_a_clone_after(source, target, count)
        opened = vd.connect(target)
        assert opened.list_refs() == []
        present = addresses(opened._space.backend)
        assert present <= whole
        # Whole batches stay: at most one, and what was on its way with it, is lost.
        assert len(present) >= arrived + count - 2 * (_BATCH + _IN_FLIGHT)
        assert len(present) > arrived
        arrived = len(present)
        assert opened.verify().ok
    there = counting(vd.connect(target)._space.backend)
    with there.measured() as written:
        vd.clone(source, there)
    assert len(written.stored) == len(whole) - arrived
    assert not present & set(written.stored)
    assert addresses(vd.connect(target)._space.backend) == whole
    assert state(target) == state(source)
    assert vd.connect(target).verify().ok
