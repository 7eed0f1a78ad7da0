"""Real writers and a real collector, interleaved call by call as a seed says.

Every call of a port is a step; between two steps another of the threads may run.  Exactly one runs
at a time, so a seed always gives the same schedule.  Time is the number of steps.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dreamdb.errors import DreamDBError
from dreamdb.maintain import collect_leased
from dreamdb.maintain.reach import reachable_objects
from dreamdb.model import Content, FieldList, Manifest, Node, empty_entries
from dreamdb.objects import Kind, SealedObject, seal
from dreamdb.store import LeasedBackend, LeaseTerms, ObjectCache
from dreamdb.store.memory import MemoryBackend
from dreamdb.tracks import Source
from dreamdb.types import Address
from tests.maintain.spaces import named

__all__ = ["Outcome", "run_schedule"]

TTL = 150
STATES = 14
WRITERS = 4


class Finished(BaseException):
    """The schedule is over; every thread ends where it is, as a process that is killed."""


class Schedule:
    """Lets one thread run at a time, chosen by a seed."""

    def __init__(self, seed: int, steps: int) -> None:
        self.random = random.Random(seed)
        self.steps = steps
        self.now = 0
        self.over = False
        self.errors: list[BaseException] = []
        self._gates: dict[int, threading.Semaphore] = {}
        self._runnable: list[int] = []
        self._stalled: dict[int, int] = {}
        self._idle = threading.Semaphore(0)
        self._me = threading.local()

    def start(self, jobs: list[Callable[[], None]]) -> None:
        """Run jobs until all have ended."""
        threads = []
        for number, job in enumerate(jobs):
            self._gates[number] = threading.Semaphore(0)
            self._runnable.append(number)
            thread = threading.Thread(target=self._body, args=(number, job), daemon=True)
            threads.append(thread)
            thread.start()
        self._gates[self._choose()].release()
        self._idle.acquire()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        if self.errors:
            raise self.errors[0]

    def _body(self, number: int, job: Callable[[], None]) -> None:
        self._me.number = number
        self._gates[number].acquire()
        try:
            job()
        except Finished:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by start
            self.errors.append(error)
        finally:
            self._runnable.remove(number)
            if self._runnable:
                self._gates[self._choose()].release()
            else:
                self._idle.release()

    def _choose(self) -> int:
        ready = [n for n in self._runnable if self._stalled.get(n, 0) <= self.now]
        return self.random.choice(ready or self._runnable)

    def step(self, *, stall: bool = True) -> None:
        """Let another thread run, perhaps."""
        self.now += 1
        if self.now >= self.steps:
            self.over = True
        if self.over:
            raise Finished
        me = self._me.number
        if stall and self.random.random() < 0.004:
            # Now and then a process sleeps for longer than its lease lasts.
            self._stalled[me] = self.now + self.random.randrange(2 * TTL)
        following = self._choose()
        if following != me:
            self._gates[following].release()
            self._gates[me].acquire()
            if self.over:
                raise Finished


class Stepped:
    """Passes every call on, one step each."""

    def __init__(self, inner: Any, schedule: Schedule, names: tuple[str, ...]) -> None:
        self._inner = inner
        for name in names:
            setattr(self, name, self._wrapped(getattr(inner, name), schedule))

    @staticmethod
    def _wrapped(call: Callable[..., Any], schedule: Schedule) -> Callable[..., Any]:
        # The protocol assumes that a swap arrives within half a lease after it was checked.
        stall = getattr(call, "__name__", "") != "swap"

        def run(*arguments: Any) -> Any:
            schedule.step(stall=stall)
            return call(*arguments)

        return run


class SteppedObjects(Stepped):
    """The object port, one step per call; uploads too."""

    def __init__(self, inner: Any, schedule: Schedule) -> None:
        names = ("open", "read", "size", "stamp", "delete_stamped", "replace", "delete")
        super().__init__(inner, schedule, (*names, "hold", "hold_exclusive"))
        self._schedule = schedule

    def list(self) -> Iterator[tuple[Address, int]]:
        self._schedule.step()
        return iter(list(self._inner.list()))

    def upload(self) -> Any:
        return Stepped(self._inner.upload(), self._schedule, ("put", "finish", "abort"))


class SteppedBackend:
    """A memory space, one step per call."""

    def __init__(self, inner: MemoryBackend, schedule: Schedule) -> None:
        self.inner = inner
        self.url = inner.url
        self.objects = SteppedObjects(inner.objects, schedule)
        names = ("read", "swap", "list", "append_log", "read_log", "logs")
        self.refs = Stepped(inner.refs, schedule, names)
        self.documents = Stepped(inner.documents, schedule, ("read", "swap", "list"))

    def read_space(self) -> bytes | None:
        return self.inner.read_space()

    def create_space(self, document: bytes) -> bool:
        return self.inner.create_space(document)


def _state(number: int) -> list[tuple[Kind, bytes]]:
    """Return the objects of one of a few states, children first; equal numbers, equal bytes."""
    fragment = f"values {number}".encode()
    address = seal(Kind.FRAGMENT, [fragment], compress=False).address
    entry = empty_entries(0, 1)
    entry["key"], entry["rows"], entry["nbytes"], entry["rung"] = 5, 1, len(fragment), 255
    entry["address"] = np.void(address)
    node = Node(1, 0, entry).encode()
    content = Content(
        FieldList.of([]), seal(Kind.NODE, [node], compress=False).address,
        metadata={"state": str(number)},
    ).encode()  # fmt: skip
    manifest = Manifest(
        seal(Kind.CONTENT, [content], compress=False).address,
        (), 0, None, "w", "", 1, {"name": "test"}, nonce=str(number),
    ).encode()  # fmt: skip
    return [
        (Kind.FRAGMENT, fragment),
        (Kind.NODE, node),
        (Kind.CONTENT, content),
        (Kind.MANIFEST, manifest),
    ]


PAYLOADS = [_state(number) for number in range(STATES)]


@dataclass
class Outcome:
    """What a schedule has led to."""

    commits: int = 0
    refused: int = 0
    removed: int = 0
    collections: int = 0
    broken: list[str] = field(default_factory=list)


def run_schedule(
    seed: int,
    *,
    steps: int = 1_000,
    make: Callable[..., LeasedBackend] = LeasedBackend,
) -> Outcome:
    """Run four writers and a collector; check every commit when it is made and at the end."""
    schedule = Schedule(seed, steps)
    memory = MemoryBackend(f"interleaving-{seed}-{id(schedule)}")
    terms = LeaseTerms(TTL, 1.0, clock=lambda: float(schedule.now), sleep=lambda _: schedule.step())
    outcome = Outcome()

    def leased() -> LeasedBackend:
        return make(SteppedBackend(memory, schedule), terms)  # type: ignore[arg-type]

    def check(name: str, manifest: Address, when: str) -> None:
        source = Source(ObjectCache(memory.objects))
        for address, _ in reachable_objects(memory, source, [manifest], lenient=True):
            if memory.objects.size(address) is None:
                outcome.broken.append(f"{name} {when}: step {schedule.now}")
                return

    def write(number: int) -> None:
        backend = leased()
        rng = random.Random(seed * 31 + number)
        while True:
            name = f"w{number}-{rng.randrange(2)}"
            try:
                if rng.random() < 0.5:
                    backend.refs.swap(name, memory.refs.read(name), None)
                else:
                    _commit(backend, memory, name, rng)
                    value = memory.refs.read(name)
                    assert value is not None
                    outcome.commits += 1
                    check(name, value.address, "when it was published")
            except DreamDBError:
                outcome.refused += 1

    def collect() -> None:
        backend = leased()
        # A ref that never moves: there is always a root.
        while True:
            source = Source(ObjectCache(backend.objects))
            try:
                outcome.removed += collect_leased(backend, source, dry_run=False).removed
                outcome.collections += 1
            except DreamDBError:
                outcome.refused += 1

    anchor = [seal(kind, [payload], compress=False) for kind, payload in PAYLOADS[0]]
    upload = memory.objects.upload()
    for sealed in anchor:
        upload.put(sealed)
    upload.finish()
    memory.refs.swap("root", None, anchor[-1].address)
    jobs: list[Callable[[], None]] = [lambda n=n: write(n) for n in range(WRITERS)]  # type: ignore[misc]
    schedule.start([*jobs, collect])
    for name, address in named(memory).items():
        check(name, address, "at the end")
    return outcome


def _commit(backend: LeasedBackend, memory: MemoryBackend, name: str, rng: random.Random) -> None:
    sealed: list[SealedObject] = [
        seal(kind, [payload], compress=False)
        for kind, payload in PAYLOADS[rng.randrange(1, STATES)]
    ]
    with backend.objects.hold():
        upload = backend.objects.upload()
        for one in sealed:
            upload.put(one)
        upload.finish()
        backend.refs.swap(name, memory.refs.read(name), sealed[-1].address)
