"""Leases: keeping a collector away from commits where no lock reaches all writers.

Source: design/0015 section 8.  A writer takes a lease, then reads the list of condemned objects.
It stores a condemned object again rather than rest on it, and publishes nothing once its lease has
run out.  The collector's side is :mod:`dreamdb.maintain.condemn`.  No clocks are compared: each
side measures spans of its own time.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from dreamdb.errors import ConflictError, FormatError, RefConflictError, StorageError
from dreamdb.objects import (
    Kind,
    OpenedObject,
    SealedObject,
    decode_document,
    encode_document,
    from_text,
    to_text,
)
from dreamdb.store.locking import reentrant
from dreamdb.store.ports import (
    Backend,
    DocumentStore,
    LogEntries,
    LogEntry,
    RefStore,
    RefValue,
    StampedObjects,
    StoredDocument,
    Upload,
    documents_of,
)
from dreamdb.store.ref_values import check_new
from dreamdb.types import Address

__all__ = ["CONDEMNED", "LEASES", "Condemned", "LeaseTerms", "LeasedBackend", "read_condemned"]

LEASES: Final = "leases"
CONDEMNED: Final = "condemned"


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """How long leases last, and what time is.

    Parameters
    ----------
    seconds : float
        A writer publishes nothing after that time without a renewal; a collector takes a lease
        for dead when it has not seen it renewed for one and a half times as long.
    poll_seconds : float
        How long to wait before looking again.
    clock : callable
        Seconds that never go back; only spans of one process are used.
    sleep : callable
        Waits so many seconds.
    """

    seconds: float = 600.0
    poll_seconds: float = 1.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @property
    def dead_after(self) -> float:
        """Seconds without a renewal after which a lease is dead."""
        return 1.5 * self.seconds


@dataclass(frozen=True, slots=True)
class Condemned:
    """The list that a collector has published.

    Parameters
    ----------
    collector : str
        The collector's lease.
    closed : bool
        Whether no commit may begin.
    objects : frozenset of Address
        What it is going to remove.
    stored : StoredDocument or None
        The document, for a later swap.
    """

    collector: str = ""
    closed: bool = False
    objects: frozenset[Address] = frozenset()
    stored: StoredDocument | None = None

    def encode(self) -> bytes:
        """Return the document."""
        return encode_document(
            {
                "closed": self.closed,
                "collector": self.collector,
                "format": 1,
                "objects": sorted(map(to_text, self.objects)),
            }
        )


def read_condemned(documents: DocumentStore) -> Condemned:
    """Return the list of condemned objects; empty when no collector runs."""
    found = documents.read(CONDEMNED)
    if found is None:
        return Condemned()
    told = decode_document(found.body, what="the list of condemned objects")
    objects = told.get("objects")
    if set(told) != {"closed", "collector", "format", "objects"} or not isinstance(objects, list):
        raise FormatError("the list of condemned objects is malformed")
    named = frozenset(from_text(str(one)) for one in objects)
    return Condemned(str(told["collector"]), bool(told["closed"]), named, found)


@dataclass(slots=True)
class _Lease:
    """One lease as its holder sees it."""

    documents: DocumentStore
    terms: LeaseTerms
    name: str
    stored: StoredDocument | None = None
    renewed: float = 0.0
    condemned: frozenset[Address] = frozenset()
    again: set[Address] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> None:
        """Write the lease."""
        now = self.terms.clock()
        self.stored = self.documents.swap(f"{LEASES}/{self.name}", None, self._body(0))
        self.renewed = now

    def _body(self, number: int) -> bytes:
        return encode_document({"format": 1, "lease": self.name, "renewals": number})

    def renew(self) -> None:
        """Write the lease again when a third of its time has passed.

        Raises
        ------
        StorageError
            When it has run out, or a collector has ended it: nothing may be published.
        """
        with self.lock:
            now = self.terms.clock()
            if now - self.renewed < self.terms.seconds / 3:
                return
            if self.stored is None or now - self.renewed >= self.terms.seconds:
                raise self._run_out()
            number = decode_document(self.stored.body, what="a lease").get("renewals", 0)
            try:
                self.stored = self.documents.swap(
                    f"{LEASES}/{self.name}", self.stored, self._body(int(number) + 1)
                )
            except RefConflictError:
                self.stored = None
                raise self._run_out() from None
            self.renewed = now

    def check(self) -> None:
        """Raise StorageError unless the lease is good for a swap right now."""
        self.renew()
        if self.terms.clock() - self.renewed >= self.terms.seconds:
            raise self._run_out()

    def give_back(self) -> None:
        """Remove the lease; a collector ends it when that fails."""
        if self.stored is not None:
            with contextlib.suppress(StorageError, RefConflictError):
                self.documents.swap(f"{LEASES}/{self.name}", self.stored, None)
            self.stored = None

    def _run_out(self) -> StorageError:
        return StorageError(
            f"this commit took longer than its lease of {self.terms.seconds:g} s; "
            "nothing was published",
            hint="run it again; larger commits need longer leases",
            transient=True,
            published=False,
        )


class _Held(threading.local):
    """The leases of the current thread, by space."""

    def __init__(self) -> None:
        self.leases: dict[str, _Lease] = {}


_HELD = _Held()


class LeasedBackend:
    """Wraps a backend whose store is shared without locks.

    Parameters
    ----------
    backend : Backend
        Must offer documents, and :class:`~dreamdb.store.ports.StampedObjects`.
    terms : LeaseTerms, optional
        How long leases last.

    Raises
    ------
    StorageError
        When the backend lacks what leases need.
    """

    def __init__(self, backend: Backend, terms: LeaseTerms | None = None) -> None:
        if not isinstance(backend.objects, StampedObjects):
            raise StorageError(
                f"{backend.url} cannot tell two uploads of one object apart",
                hint="leases need stamp, delete_stamped and replace: see dreamdb.store.ports",
            )
        self.inner = backend
        self.terms = terms or LeaseTerms()
        self.documents = documents_of(backend)
        self.leases = Leases(self.documents, self.terms, backend.url)
        self.objects = LeasedObjects(backend.objects, self.leases)
        self.refs: RefStore = _LeasedRefs(backend.refs, self.leases)

    @property
    def url(self) -> str:
        """URL of the wrapped backend."""
        return self.inner.url

    def read_space(self) -> bytes | None:
        """Pass on."""
        return self.inner.read_space()

    def create_space(self, document: bytes) -> bool:
        """Pass on."""
        return self.inner.create_space(document)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.inner, self.terms)


class Leases:
    """The leases of one process on one space.

    Parameters
    ----------
    documents : DocumentStore
        Where they are kept.
    terms : LeaseTerms
        How long they last.
    url : str
        The space.
    """

    def __init__(self, documents: DocumentStore, terms: LeaseTerms, url: str) -> None:
        self.documents = documents
        self.terms = terms
        self._url = url

    @property
    def current(self) -> _Lease | None:
        """The lease that this thread holds on this space, through whatever handle."""
        return _HELD.leases.get(self._url)

    @contextmanager
    def _holding(self, lease: _Lease) -> Iterator[None]:
        _HELD.leases[self._url] = lease
        try:
            yield
        finally:
            _HELD.leases.pop(self._url, None)

    @contextmanager
    def hold(self, *, exclusive: bool) -> Iterator[None]:
        """Hold a lease; with ``exclusive`` wait until nobody else does, and let nobody in."""
        key = ("leases", self._url)
        acquire = self._close if exclusive else self._enter
        with reentrant(key, exclusive=exclusive, acquire=acquire):
            yield

    def _new(self) -> _Lease:
        return _Lease(self.documents, self.terms, secrets.token_hex(16))

    @contextmanager
    def _enter(self) -> Iterator[None]:
        while True:
            lease = self._new()
            lease.take()
            try:
                told = read_condemned(self.documents)
            except BaseException:
                lease.give_back()
                raise
            if not told.closed:
                break
            lease.give_back()
            self._wait_for(told)
        lease.condemned = told.objects
        try:
            with self._holding(lease):
                yield
        finally:
            lease.give_back()

    @contextmanager
    def _close(self) -> Iterator[None]:
        """Close the space to commits, wait for those that run, and open it again."""
        with self.collecting() as lease:
            found = self.publish(lease.name, frozenset(), closed=True, lease=lease)
            try:
                self.drain(lease.name, lease)
                with self._holding(lease):
                    yield
            finally:
                self.withdraw(found)

    @contextmanager
    def collecting(self) -> Iterator[_Lease]:
        """Hold the lease of a collector, which lets others see that it lives."""
        lease = self._new()
        lease.take()
        try:
            yield lease
        finally:
            lease.give_back()

    def withdraw(self, published: StoredDocument) -> None:
        """Remove a list that this collector has published; the next one does when this fails."""
        with contextlib.suppress(StorageError, RefConflictError):
            self.documents.swap(CONDEMNED, published, None)

    def publish(
        self, collector: str, objects: frozenset[Address], *, closed: bool, lease: _Lease
    ) -> StoredDocument:
        """Publish a list of condemned objects, after waiting for another collector to end.

        Parameters
        ----------
        collector : str
            This collector's lease.
        objects : frozenset of Address
            What is going to be removed.
        closed : bool
            Whether no commit may begin.
        lease : lease
            Renewed while waiting.
        """
        while True:
            told = read_condemned(self.documents)
            if told.stored is not None and told.collector != collector:
                self._wait_for(told, lease)
                continue
            new = Condemned(collector, closed, objects).encode()
            try:
                stored = self.documents.swap(CONDEMNED, told.stored, new)
            except RefConflictError:
                continue
            assert stored is not None
            return stored

    def drain(self, own: str, lease: _Lease) -> None:
        """Wait until every lease that is there now has been given back, or is dead.

        Parameters
        ----------
        own : str
            A lease not to wait for.
        lease : lease
            Renewed while waiting.
        """
        waiting = {name: _Watched() for name in self.documents.list(LEASES) if name != own}
        while waiting:
            for name, watched in list(waiting.items()):
                if self._is_over(name, watched):
                    del waiting[name]
            if waiting:
                self.terms.sleep(self.terms.poll_seconds)
                lease.renew()

    def _wait_for(self, told: Condemned, own: _Lease | None = None) -> None:
        """Wait until a collector has ended; tidy up after one that has died."""
        watched = _Watched()
        while True:
            found = self.documents.read(CONDEMNED)
            if found is None or told.stored is None or found.body != told.stored.body:
                return
            if self._is_over(told.collector, watched):
                with contextlib.suppress(RefConflictError):
                    self.documents.swap(CONDEMNED, found, None)
                return
            self.terms.sleep(self.terms.poll_seconds)
            if own is not None:
                own.renew()

    def _is_over(self, name: str, watched: _Watched) -> bool:
        """Return whether a lease is gone; end it when nobody has renewed it for too long."""
        key = f"{LEASES}/{name}"
        found = self.documents.read(key)
        if found is None:
            return True
        now = self.terms.clock()
        if found.body != watched.body:
            watched.body, watched.since = found.body, now
            return False
        if now - watched.since < self.terms.dead_after:
            return False
        try:
            self.documents.swap(key, found, None)
        except RefConflictError:
            return False
        return True


@dataclass(slots=True)
class _Watched:
    """What a lease looked like, and since when."""

    body: bytes | None = None
    since: float = 0.0


class LeasedObjects:
    """The object port of a leased backend.

    Parameters
    ----------
    inner : StampedObjects
        What does the work.
    leases : Leases
        Of this process.
    """

    def __init__(self, inner: StampedObjects, leases: Leases) -> None:
        self.inner = inner
        self._leases = leases

    def upload(self) -> Upload:
        """Begin an upload under the lease of this thread."""
        return _LeasedUpload(self.inner, self._leases.current)

    def open(self, address: Address) -> memoryview:
        """Pass on."""
        return self.inner.open(address)

    def read(self, address: Address, start: int, stop: int) -> memoryview:
        """Pass on."""
        return self.inner.read(address, start, stop)

    def size(self, address: Address) -> int | None:
        """Return the stored length; None also when the object is about to be removed."""
        lease = self._leases.current
        if lease is not None and address in lease.condemned and address not in lease.again:
            return None
        return self.inner.size(address)

    def list(self) -> Iterator[tuple[Address, int]]:
        """Pass on."""
        return self.inner.list()

    def delete(self, address: Address) -> None:
        """Pass on; only right while the space is held alone."""
        self._renew()
        self.inner.delete(address)

    def hold(self) -> AbstractContextManager[None]:
        """Hold a lease while a commit runs.

        Cost: 3 document requests.
        """
        return self._leases.hold(exclusive=False)

    def hold_exclusive(self) -> AbstractContextManager[None]:
        """Close the space to commits and wait for those that run."""
        return self._leases.hold(exclusive=True)

    def _renew(self) -> None:
        lease = self._leases.current
        if lease is not None:
            lease.renew()


class _LeasedUpload:
    def __init__(self, inner: StampedObjects, lease: _Lease | None) -> None:
        self._objects = inner
        self._inner = inner.upload()
        self._lease = lease

    def put(self, sealed: SealedObject) -> bool:
        lease = self._lease
        if lease is not None:
            lease.renew()
            if sealed.address in lease.condemned:
                if sealed.address not in lease.again:
                    self._objects.replace(sealed)
                    lease.again.add(sealed.address)
                return True
        return self._inner.put(sealed)

    def finish(self) -> None:
        self._inner.finish()

    def abort(self) -> None:
        self._inner.abort()


class _LeasedRefs:
    def __init__(self, inner: RefStore, leases: Leases) -> None:
        self._inner = inner
        self._leases = leases

    def read(self, name: str) -> RefValue | None:
        return self._inner.read(name)

    def swap(
        self,
        name: str,
        expected: RefValue | None,
        new: Address | None,
        carried: bytes | None = None,
    ) -> RefValue | None:
        check_new(name, new, carried)
        if new is None:
            return self._inner.swap(name, expected, new)
        with self._leases.hold(exclusive=False):
            lease = self._leases.current
            assert lease is not None
            for named in [new] if carried is None else _named_by(new, carried):
                if named in lease.condemned and named not in lease.again:
                    raise ConflictError(
                        f"{to_text(named)} is being collected: no ref led to it",
                        hint="try again later; when it is gone, it has to be written again",
                        object=to_text(named),
                    )
            lease.check()
            return self._inner.swap(name, expected, new, carried)

    def list(self) -> Iterator[tuple[str, RefValue]]:
        return self._inner.list()

    def append_log(self, name: str, entry: LogEntry) -> None:
        self._inner.append_log(name, entry)

    def read_log(self, name: str) -> LogEntries:
        return self._inner.read_log(name)

    def logs(self) -> Iterator[str]:
        return self._inner.logs()


def _named_by(address: Address, carried: bytes) -> list[Address]:
    """Return the manifests that a carried tag or catalog names: the ref alone leads to them."""
    opened = OpenedObject(address, memoryview(carried), None)
    if opened.kind is Kind.TAG:
        return [from_text(str(decode_document(opened.view(), what="a tag")["manifest"]))]
    if opened.kind is Kind.CATALOG:
        tables = decode_document(opened.view(), what="a catalog")["tables"]
        return [from_text(str(manifest)) for manifest in tables.values()]
    return [address]
