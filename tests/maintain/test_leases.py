"""Writers under leases beside a collector: no published commit ever breaks."""

from __future__ import annotations

import contextlib
import itertools
import threading
from pathlib import Path
from typing import Any

import pytest

import dreamdb as vd
from dreamdb.maintain import collect_leased
from dreamdb.objects import from_text
from dreamdb.store import (
    Backend,
    LeasedBackend,
    LeaseTerms,
    documents_of,
    open_backend,
)
from dreamdb.store.leases import Condemned, read_condemned
from dreamdb.testing import Fault, FaultBackend, FaultPlan, SimulatedCrash
from tests.maintain.interleaving import Outcome, run_schedule
from tests.maintain.spaces import LATER, fresh, make, named, objects, open_caches, state, well
from tests.maintain.test_collect import reached


def total(outcomes: list[Outcome]) -> Outcome:
    """Add outcomes up."""
    out = Outcome()
    for one in outcomes:
        out.commits += one.commits
        out.refused += one.refused
        out.removed += one.removed
        out.collections += one.collections
        out.broken += one.broken
    return out


def check_schedules(seeds: range) -> None:
    """Run schedules; nothing may break, and enough must have happened."""
    found = total([run_schedule(seed) for seed in seeds])
    assert found.broken == []
    assert found.commits > 10 * len(seeds)
    assert found.collections > len(seeds)
    assert found.removed > len(seeds)


def test_no_published_commit_breaks() -> None:
    check_schedules(range(60))


@pytest.mark.deep
@pytest.mark.parametrize("part", range(10))
def test_no_published_commit_breaks_in_ten_thousand_schedules(part: int) -> None:
    check_schedules(range(1_000 * (part + 1), 1_000 * (part + 2)))


class _Blind(LeasedBackend):
    """Removes whatever has the address, as a store without conditional deletion would."""

    def __init__(self, backend: Backend, terms: LeaseTerms) -> None:
        super().__init__(backend, terms)
        inner = backend.objects

        def delete(address: Any, stamp: bytes) -> bool:
            inner.delete(address)
            return True

        self.objects.inner.delete_stamped = delete  # type: ignore[method-assign]


class _Reusing(LeasedBackend):
    """Rests on condemned objects, as a writer that never reads the list would."""

    def __init__(self, backend: Backend, terms: LeaseTerms) -> None:
        super().__init__(backend, terms)
        inner = self.leases.documents.read

        def read(key: str) -> Any:
            found = inner(key)
            return None if key == "condemned" and not _collecting() else found

        self.leases.documents.read = read  # type: ignore[method-assign]


def _collecting() -> bool:
    import sys

    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name in ("publish", "_wait_for"):
            return True
        frame = frame.f_back
    return False


@pytest.mark.parametrize("weakened", [_Blind, _Reusing])
def test_each_part_of_the_protocol_is_needed(weakened: Any) -> None:
    """Without it the same schedules break commits: so the test above can fail."""
    found: list[str] = []
    for seed in range(400):
        found += run_schedule(seed, make=weakened).broken
        if found:
            return
    raise AssertionError("nothing broke")


def quick(backend: Backend) -> LeasedBackend:
    """Return a leased backend for which time passes while it waits, and only then."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return LeasedBackend(backend, LeaseTerms(10.0, 1.0, clock=lambda: now[0], sleep=sleep))


def collect(backend: LeasedBackend) -> Any:
    """Collect as if some time had passed."""
    import time

    source = open_caches(backend).source
    return collect_leased(backend, source, dry_run=False, now_ns=time.time_ns() + LATER)


def littered() -> tuple[Backend, set[bytes]]:
    """Return a space with an abandoned branch, and what is needed of it."""
    backend = fresh()
    ds = make(quick(backend), rows=8, commits=1)
    side = ds.branch("side")
    side.append_many([{"_anchor": 5_000, "x": 7}])
    vd.connect(ds._space.backend).delete_ref("side")
    return backend, reached(backend, named(backend)["main"])


def test_a_dataset_lives_under_leases() -> None:
    backend, needed = littered()
    leased = quick(backend)
    seen = state(backend)
    ds = vd.Dataset.open_ref("main", leased)
    looked = vd.connect(leased).gc()
    assert looked.garbage == ()
    report = collect(leased)
    assert report.removed == len(report.garbage) > 0
    assert objects(backend) == needed
    backend._space.logs.clear()  # type: ignore[attr-defined]  # As after 30 days.
    assert state(backend) == seen
    with ds.transaction() as tx:
        tx.append_many([{"_anchor": 6_000, "x": 1}])
        tx.update([6_000], {"x": [2]})
    ds.snapshot("v1")
    assert well(backend)
    assert list(leased.documents.list("leases")) == []
    with pytest.raises(vd.StorageError, match="no trash"):
        vd.connect(leased).gc(dry_run=False)
    vd.connect(leased).gc(dry_run=False, trash=False)
    assert objects(backend) == _needed(backend)
    ds.maintain.purge([10], dry_run=False)
    assert vd.connect(leased).expire(1, dry_run=False).expired
    collect(leased)
    assert well(backend)


def test_condemned_objects_are_stored_again_or_refused() -> None:
    backend, _ = littered()
    leased = quick(backend)
    ds = vd.Dataset.open_ref("main", leased)
    lost = [a for a, _ in backend.objects.list() if bytes(a) not in _needed(backend)]
    body = Condemned("nobody", False, frozenset(lost)).encode()
    documents_of(backend).swap("condemned", None, body)
    stamps = {address: backend.objects.stamp(address) for address in lost}  # type: ignore[attr-defined]
    manifest = next(a for a in lost if _kind(backend, a) == "MANIFEST")
    with pytest.raises(vd.NotFoundError, match="collected"):
        ds.branch("side", at=str(vd.Dataset.open_by_manifest(bytes(manifest), leased)
                                 .current_manifest()))  # fmt: skip
    # The same records again: each of the objects that they need is stored anew.
    again = ds.branch("side")
    again.append_many([{"_anchor": 5_000, "x": 7}])
    renewed = [a for a in lost if backend.objects.stamp(a) != stamps[a]]  # type: ignore[attr-defined]
    assert {_kind(backend, a) for a in renewed} == {"FRAGMENT", "NODE", "CONTENT"}
    with pytest.raises(vd.ConflictError, match="being collected"):
        leased.refs.swap("gone", None, manifest)


def _needed(backend: Backend) -> set[bytes]:
    return set().union(*(reached(backend, address) for _, address in named(backend).items()))


def _kind(backend: Backend, address: Any) -> str:
    from dreamdb.objects import OpenedObject

    return OpenedObject(address, backend.objects.open(address), None).kind.name


def test_a_dead_writer_holds_the_collector_up_for_a_while_only() -> None:
    backend, needed = littered()
    documents_of(backend).swap("leases/dead", None, b'{"format":1,"lease":"dead","renewals":0}')
    assert collect(quick(backend)).removed > 0
    assert objects(backend) == needed
    assert documents_of(backend).read("leases/dead") is None


def test_a_living_writer_holds_the_collector_up() -> None:
    backend, _ = littered()
    terms = LeaseTerms(2.0, 0.005)
    leased = LeasedBackend(backend, terms)
    done = threading.Event()

    def run() -> None:
        collect(LeasedBackend(backend, terms))
        done.set()

    with leased.objects.hold():
        thread = threading.Thread(target=run)
        thread.start()
        assert not done.wait(0.3)
    thread.join(30)
    assert done.is_set()


def test_a_commit_that_outlives_its_lease_publishes_nothing() -> None:
    backend, _ = littered()
    now = [0.0]
    leased = LeasedBackend(backend, LeaseTerms(10.0, 1.0, clock=lambda: now[0]))
    ds = vd.Dataset.open_ref("main", leased)
    tip = ds.current_manifest()
    with pytest.raises(vd.StorageError, match="longer than its lease") as caught:
        _append_slowly(ds, now)
    assert caught.value.details["published"] is False
    assert caught.value.transient
    assert backend.refs.read("main").address == from_text(tip)  # type: ignore[union-attr]
    assert ds.append_many([{"_anchor": 9_001, "x": 1}]) == 1


def _append_slowly(ds: vd.Dataset, now: list[float]) -> None:
    with ds.transaction() as tx:
        tx.append_many([{"_anchor": 9_000, "x": 1}])
        now[0] += 11.0


def test_after_a_dead_collector_everything_goes_on() -> None:
    backend, needed = littered()
    probe = FaultBackend(backend)
    probe.objects = _Stamping(probe.objects, backend.objects, probe)  # type: ignore[assignment]
    report = collect(quick(probe))
    assert report.removed > 0
    faults = (Fault.DIE_BEFORE, Fault.DIE_AFTER, Fault.LOSE_RESPONSE, Fault.IO_ERROR)
    for at, fault in itertools.product(range(probe.mutations), faults):
        backend, needed = littered()
        faulty = FaultBackend(backend, FaultPlan(at=at, fault=fault))
        faulty.objects = _Stamping(faulty.objects, backend.objects, faulty)  # type: ignore[assignment]
        label = f"{fault.value} at {at} of {probe.trace}"
        with contextlib.suppress(SimulatedCrash, vd.StorageError):
            collect(quick(faulty))
        assert needed <= objects(backend), label
        leased = quick(backend)
        assert vd.Dataset.open_ref("main", leased).append_many([{"_anchor": 7_000}]) == 1, label
        collect(leased)
        assert read_condemned(documents_of(backend)).stored is None, label
        assert objects(backend) == _needed(backend), label
        assert well(backend), label


class _Stamping:
    """Gives the faults what leases need."""

    def __init__(self, faulty: Any, inner: Any, faults: FaultBackend) -> None:
        self._faulty, self._inner, self._faults = faulty, inner, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._faulty, name)

    def stamp(self, address: Any) -> Any:
        self._faults.check_alive()
        return self._inner.stamp(address)

    def delete_stamped(self, address: Any, stamp: bytes) -> Any:
        call = self._inner.delete_stamped
        return self._faults.mutate("objects.delete_stamped", lambda: call(address, stamp))

    def replace(self, sealed: Any) -> None:
        self._faults.mutate("objects.replace", lambda: self._inner.replace(sealed))

    def upload(self) -> Any:
        return self._faulty.upload()

    def open(self, address: Any) -> Any:
        return self._faulty.open(address)

    def read(self, address: Any, start: int, stop: int) -> Any:
        return self._faulty.read(address, start, stop)

    def size(self, address: Any) -> Any:
        return self._faulty.size(address)

    def list(self) -> Any:
        return self._faulty.list()

    def delete(self, address: Any) -> None:
        self._faulty.delete(address)

    def hold(self) -> Any:
        return self._faulty.hold()

    def hold_exclusive(self) -> Any:
        return self._faulty.hold_exclusive()


def test_a_backend_without_stamps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(vd.StorageError, match="two uploads"):
        LeasedBackend(open_backend(tmp_path / "space"))
