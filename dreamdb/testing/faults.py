"""A backend that fails on purpose, at a chosen call, in a chosen way.

Source: design/0006 section 3.  Run an operation over it once for every mutating call and every
way to fail, open the wrapped backend again, and check what is there: the old state or the new
one, everything acknowledged, and a space that can still be written.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import TypeVar

from dreamdb.errors import StorageError
from dreamdb.objects import SealedObject
from dreamdb.store import Backend, LogEntry, ObjectStore, RefStore, RefValue, Upload
from dreamdb.store.ports import LogEntries
from dreamdb.types import Address

__all__ = [
    "Damage",
    "Fault",
    "FaultBackend",
    "FaultPlan",
    "SimulatedCrash",
    "enumerate_faults",
    "flip_bit",
    "truncate",
]

_Result = TypeVar("_Result")
Damage = Callable[[bytes], bytes]
"""Turns the stored bytes of an object into what a reader gets."""


class Fault(Enum):
    """How a mutating call fails."""

    DIE_BEFORE = "die before"
    """The process ends before the call has any effect."""
    DIE_AFTER = "die after"
    """The call takes effect, then the process ends."""
    LOSE_RESPONSE = "lose response"
    """The call takes effect, the caller gets an error."""
    TORN_WRITE = "torn write"
    """The process ends in the middle of writing: part of the bytes, no name."""
    DISK_FULL = "disk full"
    """The call fails with ENOSPC and has no effect."""
    IO_ERROR = "io error"
    """The call fails with EIO and has no effect."""


class SimulatedCrash(BaseException):
    """The process has died here; no handler for errors may catch it."""


@dataclass(frozen=True)
class FaultPlan:
    """Where and how a backend fails.

    Parameters
    ----------
    at : int or None
        Number of the mutating call that fails, from 0; None only counts.
    fault : Fault
        How it fails.
    damage : mapping of Address to Damage
        Objects whose stored bytes are changed on the way to the reader.
    """

    at: int | None = None
    fault: Fault = Fault.DIE_BEFORE
    damage: Mapping[Address, Damage] = field(default_factory=lambda: MappingProxyType({}))


def enumerate_faults(num_calls: int, plan: FaultPlan | None = None) -> Iterator[FaultPlan]:
    """Yield a plan for every mutating call and every fault.

    Parameters
    ----------
    num_calls : int
        How many mutating calls the operation makes: ``FaultBackend.mutations`` after a run
        without faults.
    plan : FaultPlan, optional
        What else each plan contains.
    """
    for at in range(num_calls):
        for fault in Fault:
            yield replace(plan or FaultPlan(), at=at, fault=fault)


def flip_bit(bit: int) -> Damage:
    """Return a damage that inverts one bit, counted from the start of the stored object."""

    def apply(stored: bytes) -> bytes:
        damaged = bytearray(stored)
        damaged[bit // 8] ^= 1 << (bit % 8)
        return bytes(damaged)

    return apply


def truncate(nbytes: int) -> Damage:
    """Return a damage that keeps only the first bytes."""
    return lambda stored: stored[:nbytes]


class FaultBackend:
    """Wraps a backend and fails as planned.

    After a simulated crash every call raises :class:`SimulatedCrash`, except that locks are given
    back and uploads are left as they are, as the end of a process would.

    Parameters
    ----------
    backend : Backend
        What does the work; open it again to see what a crash has left.
    plan : FaultPlan
        Where and how to fail.
    """

    def __init__(self, backend: Backend, plan: FaultPlan | None = None) -> None:
        self.inner = backend
        self.plan = plan or FaultPlan()
        self.mutations = 0
        self.crashed = False
        self.trace: list[str] = []
        self._lock = threading.Lock()
        self.objects: ObjectStore = _FaultObjects(backend.objects, self)
        self.refs: RefStore = _FaultRefs(backend.refs, self)

    @property
    def url(self) -> str:
        """URL of the wrapped backend."""
        return self.inner.url

    def read_space(self) -> bytes | None:
        """Pass on."""
        self.check_alive()
        return self.inner.read_space()

    def create_space(self, document: bytes) -> bool:
        """Pass on, or fail."""
        return self.mutate("create_space", lambda: self.inner.create_space(document))

    def replace_space(self, expected: bytes, document: bytes) -> bool:
        """Pass on, or fail."""
        return self.mutate("replace_space", lambda: self.inner.replace_space(expected, document))

    def check_alive(self) -> None:
        """Raise SimulatedCrash after the crash."""
        if self.crashed:
            raise SimulatedCrash("this process has died")

    def mutate(
        self,
        operation: str,
        call: Callable[[], _Result],
        *,
        torn: Callable[[], object] | None = None,
    ) -> _Result:
        """Run one mutating call, or fail as planned.

        Parameters
        ----------
        operation : str
            Its name, for :attr:`trace`.
        call : callable
            Does it.
        torn : callable, optional
            Does a part of it that must never become visible.
        """
        with self._lock:
            self.check_alive()
            number = self.mutations
            self.mutations += 1
            self.trace.append(operation)
        if number != self.plan.at:
            return call()
        fault = self.plan.fault
        if fault is Fault.DISK_FULL:
            raise _failure(operation, errno.ENOSPC)
        if fault is Fault.IO_ERROR:
            raise _failure(operation, errno.EIO)
        if fault is Fault.LOSE_RESPONSE:
            call()
            raise StorageError(
                f"the answer to {operation} was lost", transient=True, outcome="unknown"
            )
        if fault is Fault.DIE_AFTER:
            call()
        elif fault is Fault.TORN_WRITE and torn is not None:
            torn()
        self.crashed = True
        raise SimulatedCrash(f"{fault.value} {operation} (mutating call {number})")

    def damaged(self, address: Address, stored: memoryview) -> memoryview:
        """Return what a reader gets of an object."""
        damage = self.plan.damage.get(address)
        return stored if damage is None else memoryview(damage(bytes(stored)))


def _failure(operation: str, code: int) -> StorageError:
    return StorageError(
        f"cannot {operation}: {os.strerror(code)}; nothing was published", errno=code
    )


class _FaultObjects:
    def __init__(self, inner: ObjectStore, faults: FaultBackend) -> None:
        self._inner = inner
        self._faults = faults

    def upload(self) -> Upload:
        self._faults.check_alive()
        return _FaultUpload(self._inner.upload(), self._faults)

    def open(self, address: Address) -> memoryview:
        self._faults.check_alive()
        return self._faults.damaged(address, self._inner.open(address))

    def read(self, address: Address, start: int, stop: int) -> memoryview:
        self._faults.check_alive()
        if address in self._faults.plan.damage:
            return self.open(address)[start : max(start, stop)]
        return self._inner.read(address, start, stop)

    def size(self, address: Address) -> int | None:
        self._faults.check_alive()
        return self._inner.size(address)

    def list(self) -> Iterator[tuple[Address, int]]:
        self._faults.check_alive()
        return self._inner.list()

    def delete(self, address: Address) -> None:
        self._faults.mutate("objects.delete", lambda: self._inner.delete(address))

    def hold(self) -> AbstractContextManager[None]:
        self._faults.check_alive()
        return self._inner.hold()

    def hold_exclusive(self) -> AbstractContextManager[None]:
        self._faults.check_alive()
        return self._inner.hold_exclusive()


class _FaultUpload:
    def __init__(self, inner: Upload, faults: FaultBackend) -> None:
        self._inner = inner
        self._faults = faults

    def put(self, sealed: SealedObject) -> bool:
        whole = sealed.to_bytes()
        part = replace(sealed, parts=(whole[: len(whole) // 2],))
        return self._faults.mutate(
            "objects.put",
            lambda: self._inner.put(sealed),
            torn=lambda: self._inner.put(part),
        )

    def finish(self) -> None:
        self._faults.mutate("objects.finish", self._inner.finish)

    def abort(self) -> None:
        # A dead process tidies nothing up.
        if not self._faults.crashed:
            self._inner.abort()


class _FaultRefs:
    def __init__(self, inner: RefStore, faults: FaultBackend) -> None:
        self._inner = inner
        self._faults = faults

    def read(self, name: str) -> RefValue | None:
        self._faults.check_alive()
        return self._inner.read(name)

    def swap(self, name: str, expected: RefValue | None, new: Address | None) -> RefValue | None:
        return self._faults.mutate("refs.swap", lambda: self._inner.swap(name, expected, new))

    def list(self) -> Iterator[tuple[str, Address]]:
        self._faults.check_alive()
        return self._inner.list()

    def append_log(self, name: str, entry: LogEntry) -> None:
        self._faults.mutate("refs.append_log", lambda: self._inner.append_log(name, entry))

    def read_log(self, name: str) -> LogEntries:
        self._faults.check_alive()
        return self._inner.read_log(name)

    def logs(self) -> Iterator[str]:
        self._faults.check_alive()
        return self._inner.logs()
