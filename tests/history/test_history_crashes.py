"""Crashes in the middle of merge, revert, cherry-pick, reset, undo and restore, at every call."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest

import dreamdb as vd
from dreamdb.store import Backend
from dreamdb.store.memory import MemoryBackend
from dreamdb.testing import Fault, FaultBackend, FaultPlan, SimulatedCrash

_NUMBERS = itertools.count()
Verb = Callable[[vd.Dataset, dict[str, str]], Any]


def _restore(ds: vd.Dataset, known: dict[str, str]) -> None:
    vd.connect(ds._space.backend).restore("gone")


VERBS: dict[str, Verb] = {
    "merge": lambda d, k: d.merge("side"),
    "merge, decided": lambda d, k: d.merge("rival", strategy="theirs"),
    "merge of layers": lambda d, k: d.merge("layered"),
    "merge many": lambda d, k: d.merge_many(["side", "layered"]),
    "fast-forward": lambda d, k: d.merge("ahead"),
    "revert": lambda d, k: d.revert(k["update"]),
    "revert of an append": lambda d, k: d.revert(k["append"]),
    "cherry-pick": lambda d, k: d.cherry_pick(k["side"]),
    "reset": lambda d, k: d.reset(k["append"]),
    "reset to another line": lambda d, k: d.reset("side"),
    "undo": lambda d, k: d.undo(),
    "restore": _restore,
}


def _space() -> tuple[Backend, dict[str, str]]:
    """Return a copy of a space with lines that have gone apart, and manifests to name."""
    original, known = _original()
    copied = MemoryBackend(f"history-crash-{next(_NUMBERS)}")
    for name in ("documents", "objects", "refs", "logs"):
        setattr(copied._space, name, copy.copy(getattr(original._space, name)))
    return copied, known


@functools.cache
def _original() -> tuple[MemoryBackend, dict[str, str]]:
    backend = MemoryBackend(f"history-crash-{next(_NUMBERS)}")
    schema = vd.Schema().add_scalar_int("x").add_scalar_string("s")
    ds = vd.Dataset.create("main", schema, backend=backend)
    ds.append_many([{"_anchor": i, "x": i, "s": "a"} for i in range(20)])
    known: dict[str, str] = {}
    side = ds.branch("side")
    side.append_many([{"_anchor": 100, "x": 1, "s": "b"}, {"_anchor": 7_000, "x": 1, "s": "c"}])
    side.update([2], {"s": ["z"]})
    side.delete([4])
    known["side"] = side.history()[1].manifest
    layered = ds.branch("layered")
    layered.add_scalar_layer("p", "x", "int", [(3, 1)])
    rival = ds.branch("rival")
    rival.update([5], {"x": [-5]})
    gone = ds.branch("gone")
    gone.update([6], {"x": [-6]})
    vd.connect(backend).delete_ref("gone")
    ds.append_many([{"_anchor": 200, "x": 2, "s": "d"}])
    known["append"] = ds.current_manifest()
    ds.update([5, 8], {"x": [50, 80]})
    known["update"] = ds.current_manifest()
    ds.branch("ahead").update([9], {"x": [90]})
    return backend, known


def _state(backend: Backend) -> Any:
    """Return what every ref holds: equal states have equal addresses."""
    space = vd.connect(backend)
    return {ref.name: (ref.kind, space.open(ref.name).content_id) for ref in space.refs()}


def _run(verb: Verb, plan: FaultPlan) -> tuple[Backend, FaultBackend, BaseException | None]:
    backend, known = _space()
    faulty = FaultBackend(backend)
    ds = vd.Dataset.open_ref("main", faulty)
    ds.count()
    faulty.plan = plan
    error: BaseException | None = None
    try:
        verb(ds, known)
    except (SimulatedCrash, vd.DreamDBError) as caught:
        error = caught
    return backend, faulty, error


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
def test_every_fault_leaves_the_old_state_or_the_new(verb: Verb) -> None:
    backend, counted, error = _run(verb, FaultPlan())
    assert error is None
    old, new = _state(_space()[0]), _state(backend)
    assert old != new
    assert counted.mutations >= 1
    for at, fault in itertools.product(range(counted.mutations), Fault):
        backend, _, error = _run(verb, FaultPlan(at=at, fault=fault))
        label = f"{fault.value} at {at} of {counted.trace}"
        after = _state(backend)
        assert after in (old, new), label
        if error is None:
            assert after == new, label
        if isinstance(error, (vd.ConflictError, vd.AlreadyExistsError)):
            assert after == old, label
        if fault in (Fault.DISK_FULL, Fault.IO_ERROR):
            assert isinstance(error, vd.StorageError), label
            assert after == old, label
        if isinstance(error, vd.StorageError) and error.details.get("published") is False:
            assert after == old, label
        if fault in (Fault.DIE_BEFORE, Fault.DIE_AFTER, Fault.TORN_WRITE):
            assert isinstance(error, SimulatedCrash), label
        assert vd.connect(backend).verify().ok, label
        # The space can be written on, and the same verb still does its work.
        again = vd.Dataset.open_ref("main", backend)
        count = again.count()
        assert again.append_many([{}]) == 1
        assert vd.Dataset.open_ref("main", backend).count() == count + 1, label


@pytest.mark.parametrize("name", ["reset", "reset to another line", "undo"])
def test_a_move_is_logged_before_it_is_made(name: str) -> None:
    counted = _run(VERBS[name], FaultPlan())[1]
    moves = [call for call in counted.trace if call.startswith("refs.")]
    assert moves == ["refs.append_log", "refs.swap"]


def test_a_lost_answer_to_the_last_swap_is_success() -> None:
    for name, verb in VERBS.items():
        counted = _run(verb, FaultPlan())[1]
        assert counted.trace[-1] == "refs.swap"
        plan = FaultPlan(at=counted.mutations - 1, fault=Fault.LOSE_RESPONSE)
        backend, _, error = _run(verb, plan)
        assert error is None, name
        assert vd.connect(backend).verify().ok
