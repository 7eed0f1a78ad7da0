"""A backend that counts what is asked of it, for request budgets.

Source: design/0006 section 8.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from dreamdb.objects import SealedObject
from dreamdb.store import Backend, LogEntry, ObjectStore, RefStore, RefValue, Upload
from dreamdb.store.ports import LogEntries
from dreamdb.types import Address

__all__ = ["CountingBackend", "Tally"]


@dataclass
class Tally:
    """What was asked of a backend.

    Parameters
    ----------
    calls : Counter of str
        Calls by operation, such as ``"objects.open"``, ``"objects.put"``, ``"refs.swap"``.
        ``"objects.put.new"`` counts the puts that stored something.
    nbytes : Counter of str
        Stored bytes by operation: ``"objects.open"``, ``"objects.read"``, ``"objects.put"``
        (new objects only).
    opened : list of Address
        Objects opened or read, in order, with repetitions.
    stored : list of Address
        New objects, in order.
    """

    calls: Counter[str] = field(default_factory=Counter)
    nbytes: Counter[str] = field(default_factory=Counter)
    opened: list[Address] = field(default_factory=list)
    stored: list[Address] = field(default_factory=list)


class CountingBackend:
    """Wraps a backend and counts; otherwise behaves as it does.

    Parameters
    ----------
    backend : Backend
        What does the work.
    """

    def __init__(self, backend: Backend) -> None:
        self.inner = backend
        self._lock = threading.Lock()
        self._tally = Tally()
        self.objects: ObjectStore = _CountingObjects(backend.objects, self)
        self.refs: RefStore = _CountingRefs(backend.refs, self)

    @property
    def url(self) -> str:
        """URL of the wrapped backend."""
        return self.inner.url

    @property
    def tally(self) -> Tally:
        """Everything counted since the last :meth:`reset`."""
        return self._tally

    def reset(self) -> None:
        """Start again at zero."""
        with self._lock:
            self._tally = Tally()

    @contextmanager
    def measured(self) -> Iterator[Tally]:
        """Count from zero within the block.

        Returns
        -------
        context manager of Tally
            Keeps its counts after the block.
        """
        self.reset()
        try:
            yield self._tally
        finally:
            self.reset()

    def read_space(self) -> bytes | None:
        """Count and pass on."""
        self.count("read_space")
        return self.inner.read_space()

    def create_space(self, document: bytes) -> bool:
        """Count and pass on."""
        self.count("create_space")
        return self.inner.create_space(document)

    def replace_space(self, expected: bytes, document: bytes) -> bool:
        """Count and pass on."""
        self.count("replace_space")
        return self.inner.replace_space(expected, document)

    def count(
        self,
        operation: str,
        *,
        nbytes: int = 0,
        opened: Address | None = None,
        stored: Address | None = None,
    ) -> None:
        """Add one call to the tally.

        Parameters
        ----------
        operation : str
            What was called.
        nbytes : int
            Stored bytes moved.
        opened, stored : Address, optional
            The object concerned.
        """
        with self._lock:
            tally = self._tally
            tally.calls[operation] += 1
            if nbytes:
                tally.nbytes[operation] += nbytes
            if opened is not None:
                tally.opened.append(opened)
            if stored is not None:
                tally.stored.append(stored)


class _CountingObjects:
    def __init__(self, inner: ObjectStore, counter: CountingBackend) -> None:
        self._inner = inner
        self._counter = counter

    def upload(self) -> Upload:
        self._counter.count("objects.upload")
        return _CountingUpload(self._inner.upload(), self._counter)

    def open(self, address: Address) -> memoryview:
        stored = self._inner.open(address)
        self._counter.count("objects.open", nbytes=stored.nbytes, opened=address)
        return stored

    def read(self, address: Address, start: int, stop: int) -> memoryview:
        part = self._inner.read(address, start, stop)
        self._counter.count("objects.read", nbytes=part.nbytes, opened=address)
        return part

    def size(self, address: Address) -> int | None:
        self._counter.count("objects.size")
        return self._inner.size(address)

    def list(self) -> Iterator[tuple[Address, int]]:
        self._counter.count("objects.list")
        return self._inner.list()

    def delete(self, address: Address) -> None:
        self._counter.count("objects.delete")
        self._inner.delete(address)

    def hold(self) -> AbstractContextManager[None]:
        self._counter.count("objects.hold")
        return self._inner.hold()

    def hold_exclusive(self) -> AbstractContextManager[None]:
        self._counter.count("objects.hold_exclusive")
        return self._inner.hold_exclusive()


class _CountingUpload:
    def __init__(self, inner: Upload, counter: CountingBackend) -> None:
        self._inner = inner
        self._counter = counter

    def put(self, sealed: SealedObject) -> bool:
        new = self._inner.put(sealed)
        if new:
            self._counter.count("objects.put", nbytes=sealed.nbytes, stored=sealed.address)
            self._counter.count("objects.put.new")
        else:
            self._counter.count("objects.put")
        return new

    def finish(self) -> None:
        self._counter.count("objects.finish")
        self._inner.finish()

    def abort(self) -> None:
        self._counter.count("objects.abort")
        self._inner.abort()


class _CountingRefs:
    def __init__(self, inner: RefStore, counter: CountingBackend) -> None:
        self._inner = inner
        self._counter = counter

    def read(self, name: str) -> RefValue | None:
        self._counter.count("refs.read")
        return self._inner.read(name)

    def swap(self, name: str, expected: RefValue | None, new: Address | None) -> RefValue | None:
        self._counter.count("refs.swap")
        return self._inner.swap(name, expected, new)

    def list(self) -> Iterator[tuple[str, Address]]:
        self._counter.count("refs.list")
        return self._inner.list()

    def append_log(self, name: str, entry: LogEntry) -> None:
        self._counter.count("refs.append_log")
        self._inner.append_log(name, entry)

    def read_log(self, name: str) -> LogEntries:
        self._counter.count("refs.read_log")
        return self._inner.read_log(name)

    def logs(self) -> Iterator[str]:
        self._counter.count("refs.logs")
        return self._inner.logs()
