"""Spaces in this process's memory: equal names are one space, until the process ends.

Source: design/0004 section 1.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dreamdb.errors import (
    InternalError,
    InvalidInputError,
    ObjectMissingError,
    StorageError,
)
from dreamdb.objects import SealedObject, check_ref_name, object_key, to_text
from dreamdb.store.locking import SharedLock, reentrant
from dreamdb.store.ports import LogEntries, LogEntry, RefValue
from dreamdb.store.ref_values import check_new, conflict
from dreamdb.types import Address

__all__ = ["MemoryBackend"]

_HINT = "use a directory, such as backend='./data', to share a space between processes"
# Tells handles that were pickled here from those of another process; a forked child has a copy
# of everything and keeps it.
_PROCESS = secrets.token_hex(16)


class _Space:
    """The state behind all handles of one name."""

    def __init__(self, name: str, *, elsewhere: bool = False) -> None:
        self.name = name
        self.elsewhere = elsewhere
        self.owner = os.getpid()
        self.guard = SharedLock()
        self.lock = SharedLock()
        self.document: bytes | None = None
        self.objects: dict[Address, bytes] = {}
        self.refs: dict[str, Address] = {}
        self.logs: dict[str, list[LogEntry]] = {}

    def here(self) -> _Space:
        """Return the state for reading, unless another process has it."""
        if self.elsewhere:
            raise StorageError(
                f"memory space {self.name!r} lives in another process; memory spaces do not "
                "cross processes",
                hint=_HINT,
            )
        return self

    def changing(self) -> AbstractContextManager[None]:
        """Take the lock of the state for a write."""
        if self.here().owner != os.getpid():
            raise StorageError(
                f"memory space {self.name!r} belongs to the process that made it; this forked "
                "process has a copy, and writing to the copy would be lost",
                hint=_HINT,
            )
        return self.guard.exclusive()


_SPACES: dict[str, _Space] = {}


class MemoryBackend:
    """Both ports over dictionaries.

    Parameters
    ----------
    name : str
        The space's name; handles of equal names share one space.
    """

    def __init__(self, name: str) -> None:
        name = name.strip("/")
        if not name:
            raise InvalidInputError("a memory space needs a name", hint="write it as memory://name")
        # setdefault is atomic: two threads get the same space.
        self._bind(_SPACES.get(name) or _SPACES.setdefault(name, _Space(name)))

    def _bind(self, space: _Space) -> None:
        self._space = space
        self.objects = MemoryObjects(space)
        self.refs = MemoryRefs(space)

    @property
    def url(self) -> str:
        """``memory://name``."""
        return f"memory://{self._space.name}"

    def read_space(self) -> bytes | None:
        """Return the bytes of the space's document, or None when there is no space yet."""
        return self._space.here().document

    def create_space(self, document: bytes) -> bool:
        """Keep the document unless there is one; return whether this call did."""
        with self._space.changing():
            if self._space.document is not None:
                return False
            self._space.document = bytes(document)
            return True

    def replace_space(self, expected: bytes, document: bytes) -> bool:
        """Replace the document if it still is what is expected; return whether it was."""
        with self._space.changing():
            if self._space.document != expected:
                return False
            self._space.document = bytes(document)
            return True

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._space.name, _PROCESS)

    def __repr__(self) -> str:
        return f"MemoryBackend({self._space.name!r})"


def _reopen(name: str, process: str) -> MemoryBackend:
    if process == _PROCESS:
        return MemoryBackend(name)
    # Raising here would hide the reason: a worker that cannot unpickle dies without a word.
    backend = MemoryBackend.__new__(MemoryBackend)
    backend._bind(_Space(name, elsewhere=True))
    return backend


class MemoryObjects:
    """The object port over a dictionary."""

    def __init__(self, space: _Space) -> None:
        self._space = space

    def upload(self) -> MemoryUpload:
        """Begin an upload."""
        return MemoryUpload(self._space)

    def open(self, address: Address) -> memoryview:
        """Return a whole stored object."""
        try:
            return memoryview(self._space.here().objects[address])
        except KeyError:
            name = to_text(address)
            raise ObjectMissingError(
                f"object {name} is not in memory space {self._space.name!r}",
                hint="memory spaces live in one process and end with it",
                object=name,
            ) from None

    def read(self, address: Address, start: int, stop: int) -> memoryview:
        """Return stored bytes ``[start, stop)``, clipped to the object's end."""
        if start < 0:
            raise InvalidInputError(f"a range cannot start at {start}")
        return self.open(address)[start : max(start, stop)]

    def size(self, address: Address) -> int | None:
        """Return the stored length in bytes, or None when the object is missing."""
        stored = self._space.here().objects.get(address)
        return None if stored is None else len(stored)

    def list(self) -> Iterator[tuple[Address, int]]:
        """Yield every object and its stored length."""
        for address, stored in list(self._space.here().objects.items()):
            yield address, len(stored)

    def delete(self, address: Address) -> None:
        """Remove an object; missing is not an error."""
        with self._space.changing():
            self._space.objects.pop(address, None)

    def hold(self) -> AbstractContextManager[None]:
        """Keep the collector away while a commit runs."""
        return self._hold(exclusive=False)

    def hold_exclusive(self) -> AbstractContextManager[None]:
        """Keep every commit away while the collector deletes."""
        return self._hold(exclusive=True)

    @contextmanager
    def _hold(self, *, exclusive: bool) -> Iterator[None]:
        lock = self._space.here().lock
        key = ("memory", self._space.name)
        acquire = lock.exclusive if exclusive else lock.shared
        with reentrant(key, exclusive=exclusive, acquire=acquire):
            yield


class MemoryUpload:
    """Objects that become visible together when the upload finishes."""

    def __init__(self, space: _Space) -> None:
        self._space = space
        self._pending: dict[Address, bytes] = {}
        self._lock = threading.Lock()
        self._state = "open"

    def put(self, sealed: SealedObject) -> bool:
        """Keep one object unless the space has it; return whether it was new."""
        object_key(sealed.address)  # Refuses what is not an address.
        with self._lock:
            self._check_open()
            if sealed.address in self._space.here().objects or sealed.address in self._pending:
                return False
            self._pending[sealed.address] = sealed.to_bytes()
            return True

    def finish(self) -> None:
        """Make the objects visible."""
        with self._lock:
            if self._state == "finished":
                return
            self._check_open()
            with self._space.changing():
                for address, stored in self._pending.items():
                    self._space.objects.setdefault(address, stored)
            self._pending.clear()
            self._state = "finished"

    def abort(self) -> None:
        """Forget the objects; a no-op after :meth:`finish`."""
        with self._lock:
            if self._state == "open":
                self._pending.clear()
                self._state = "aborted"

    def _check_open(self) -> None:
        if self._state != "open":
            raise InternalError(f"this upload is {self._state}")


class MemoryRefs:
    """The ref port over a dictionary."""

    def __init__(self, space: _Space) -> None:
        self._space = space

    def read(self, name: str) -> RefValue | None:
        """Return the value of a ref, or None when there is none."""
        address = self._space.here().refs.get(check_ref_name(name))
        return None if address is None else RefValue(address, bytes(address))

    def swap(self, name: str, expected: RefValue | None, new: Address | None) -> RefValue | None:
        """Move a ref if it still holds what is expected."""
        check_ref_name(name)
        check_new(name, new)
        with self._space.changing():
            actual = self._space.refs.get(name)
            if actual != (None if expected is None else expected.address):
                raise conflict(name, expected, actual)
            if new is None:
                self._space.refs.pop(name, None)
                return None
            self._space.refs[name] = Address(bytes(new))
            return RefValue(new, bytes(new))

    def list(self) -> Iterator[tuple[str, Address]]:
        """Yield every ref and its value, sorted by name."""
        yield from sorted(self._space.here().refs.items())

    def append_log(self, name: str, entry: LogEntry) -> None:
        """Add one entry to a ref's log."""
        check_ref_name(name)
        with self._space.changing():
            self._space.logs.setdefault(name, []).append(entry)

    def read_log(self, name: str) -> LogEntries:
        """Return a ref's log, oldest first."""
        return list(self._space.here().logs.get(check_ref_name(name), ()))

    def logs(self) -> Iterator[str]:
        """Yield the names that have a log, sorted."""
        yield from sorted(self._space.here().logs)
