"""The testing tools: counts are right, faults happen as planned, bad backends are found out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from dreamdb.errors import DreamDBError, HashMismatchError, IntegrityError, StorageError
from dreamdb.objects import Kind, OpenedObject
from dreamdb.store import Backend, RefValue, open_backend
from dreamdb.store.memory import MemoryBackend
from dreamdb.testing import (
    CHECKS,
    CountingBackend,
    Fault,
    FaultBackend,
    FaultPlan,
    SimulatedCrash,
    check_backend,
    enumerate_faults,
    flip_bit,
    truncate,
)
from dreamdb.testing.samples import (
    numbered_address,
    numbered_value,
    payload_of,
    sample_object,
    store_all,
)

NUMBERS = itertools.count()


def fresh() -> MemoryBackend:
    return MemoryBackend(f"testing-{next(NUMBERS)}")


def test_counts_of_a_commit() -> None:
    backend = CountingBackend(fresh())
    first, second = sample_object(1), sample_object(2, 5_000)
    store_all(backend, first)
    with backend.measured() as tally:
        store_all(backend, first, second)
        backend.refs.swap("main", backend.refs.read("main"), second.address)
        backend.objects.open(second.address)
        backend.objects.read(first.address, 0, 10)
    assert tally.calls == {
        "objects.upload": 1,
        "objects.put": 2,
        "objects.put.new": 1,
        "objects.finish": 1,
        "refs.read": 1,
        "refs.swap": 1,
        "objects.open": 1,
        "objects.read": 1,
    }
    assert tally.nbytes == {
        "objects.put": second.nbytes,
        "objects.open": second.nbytes,
        "objects.read": 10,
    }
    assert tally.stored == [second.address]
    assert tally.opened == [second.address, first.address]


def commit(backend: Backend, held: RefValue | None, number: int) -> None:
    with backend.objects.hold():
        upload = backend.objects.upload()
        try:
            upload.put(sample_object(number, 2_000))
            upload.put(sample_object(-number))
            upload.finish()
        except DreamDBError:
            upload.abort()
            raise
        backend.refs.swap("main", held, sample_object(number, 2_000).address)


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_every_fault_leaves_the_old_state_or_the_new(kind: str, tmp_path: Any) -> None:
    def make(number: int) -> Backend:
        return fresh() if kind == "memory" else open_backend(tmp_path / str(number))

    trial = FaultBackend(make(0))
    commit(trial, None, 1)
    assert trial.trace == ["objects.put", "objects.put", "objects.finish", "refs.swap"]
    plans = list(enumerate_faults(trial.mutations))
    assert len(plans) == 4 * len(Fault)
    for number, plan in enumerate(plans, start=1):
        inner = make(number)
        commit(inner, None, 1)
        held = inner.refs.read("main")
        faulty = FaultBackend(inner, plan)
        with pytest.raises((SimulatedCrash, StorageError)):
            commit(faulty, held, 2)
        found = inner.refs.read("main")
        assert found is not None
        new = found.address == sample_object(2, 2_000).address
        assert new == (plan.at == 3 and plan.fault in (Fault.DIE_AFTER, Fault.LOSE_RESPONSE))
        assert payload_of(inner, found.address)
        for address, _ in inner.objects.list():
            payload_of(inner, address)
        commit(inner, found, 3)  # Still writable, and nothing half-written stands in the way.
        commit(inner, inner.refs.read("main"), 2)
        assert payload_of(inner, sample_object(-2).address)


def test_after_a_crash_nothing_answers() -> None:
    inner = fresh()
    faulty = FaultBackend(inner, FaultPlan(at=0, fault=Fault.DIE_AFTER))
    with pytest.raises(SimulatedCrash):
        faulty.refs.swap("main", None, numbered_address(1))
    for call in (faulty.read_space, lambda: faulty.refs.read("main"), faulty.objects.upload):
        with pytest.raises(SimulatedCrash):
            call()
    assert numbered_value(inner.refs.read("main")) == 1


def test_a_lost_response_says_that_it_is_unknown() -> None:
    faulty = FaultBackend(fresh(), FaultPlan(at=0, fault=Fault.LOSE_RESPONSE))
    with pytest.raises(StorageError) as caught:
        faulty.refs.swap("main", None, numbered_address(1))
    assert caught.value.details["outcome"] == "unknown"
    assert caught.value.transient
    assert numbered_value(faulty.refs.read("main")) == 1


def test_no_single_damaged_bit_or_cut_gives_other_data() -> None:
    inner = fresh()
    sealed = sample_object(1, 300)
    store_all(inner, sealed)
    payload = payload_of(inner, sealed.address)
    damages = [flip_bit(bit) for bit in range(8 * sealed.nbytes)]
    damages += [truncate(nbytes) for nbytes in range(sealed.nbytes)]
    harmless = 0
    for damage in damages:
        faulty = FaultBackend(inner, FaultPlan(damage={sealed.address: damage}))
        stored = faulty.objects.open(sealed.address)
        try:
            found = OpenedObject(sealed.address, stored, Kind.FRAGMENT).view()
        except IntegrityError:
            continue
        assert bytes(found) == payload
        harmless += 1
    assert harmless == 8 * 8  # The nonce: outside the hash, and nobody reads it.
    faulty = FaultBackend(inner, FaultPlan(damage={sealed.address: flip_bit(8 * 70)}))
    with pytest.raises(HashMismatchError):
        payload_of(faulty, sealed.address)
    assert bytes(faulty.objects.read(sealed.address, 64, 80)) != payload[:16]


class Lenient(MemoryBackend):
    """A backend with one broken promise."""

    def __init__(self, name: str, breach: str) -> None:
        super().__init__(name)
        inner: Any = self.refs
        if breach == "swap without comparing":

            def swap(name: str, expected: RefValue | None, *rest: Any) -> Any:
                return inner.swap(name, inner.read(name), *rest)

            self.refs = _Replaced(inner, "swap", swap)
        elif breach == "names lose their case":
            self.refs = _Replaced(
                inner, "swap", lambda name, *rest: inner.swap(name.lower(), *rest)
            )
        elif breach == "what a ref carries is dropped":
            self.refs = _Replaced(inner, "swap", lambda *given: inner.swap(*given[:3]))
        elif breach == "logs are forgotten":
            self.refs = _Replaced(inner, "append_log", lambda name, entry: None)
        elif breach == "the last bytes are lost":
            objects: Any = self.objects
            self.objects = _Replaced(objects, "open", lambda address: objects.open(address)[:-1])
        elif breach == "the collector does not wait":
            objects = self.objects
            self.objects = _Replaced(objects, "hold_exclusive", lambda: objects.hold())
        elif breach == "space is overwritten":
            self.create_space = self._overwrite  # type: ignore[method-assign]

    def _overwrite(self, document: bytes) -> bool:
        self._space.document = document
        return True


class _Replaced:
    def __init__(self, inner: Any, name: str, function: Callable[..., Any]) -> None:
        self._inner = inner
        setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_correct_backend_passes_the_whole_suite() -> None:
    def make_space() -> Callable[[], Backend]:
        name = f"testing-{next(NUMBERS)}"
        return lambda: MemoryBackend(name)

    check_backend(make_space)
    assert len(CHECKS) == len({check.__name__ for check in CHECKS})


@pytest.mark.parametrize(
    "breach",
    [
        "swap without comparing",
        "names lose their case",
        "what a ref carries is dropped",
        "logs are forgotten",
        "the last bytes are lost",
        "the collector does not wait",
        "space is overwritten",
    ],
)
def test_a_broken_promise_is_found(breach: str) -> None:
    def make_space() -> Callable[[], Backend]:
        name = f"testing-{next(NUMBERS)}"
        return lambda: Lenient(name, breach)

    with pytest.raises((AssertionError, DreamDBError)):
        check_backend(make_space)
