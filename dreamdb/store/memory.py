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
from dreamdb.objects import Envelope, SealedObject, check_ref_name, object_key, to_text
from dreamdb.store.document_keys import (
    SPACE_DOCUMENT,
    check_document_key,
    check_folder,
    document_conflict,
)
from dreamdb.store.locking import SharedLock, reentrant
from dreamdb.store.ports import LogEntries, LogEntry, RefValue, StoredDocument, TrashedObject
from dreamdb.store.ref_values import check_new, conflict, encode_body, parse_body
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
        self.documents: dict[str, bytes] = {}
        self.trash: dict[Address, tuple[bytes, int]] = {}
        self.objects: dict[Address, bytes] = {}
        self.refs: dict[str, RefValue] = {}
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
        self.documents = MemoryDocuments(space)
        self.trash = MemoryTrash(space)

    @property
    def url(self) -> str:
        """``memory://name``."""
        return f"memory://{self._space.name}"

    def read_space(self) -> bytes | None:
        """Return the bytes of the space's document, or None when there is no space yet."""
        return self._space.here().documents.get(SPACE_DOCUMENT)

    def create_space(self, document: bytes) -> bool:
        """Keep the document unless there is one; return whether this call did."""
        with self._space.changing():
            if SPACE_DOCUMENT in self._space.documents:
                return False
            self._space.documents[SPACE_DOCUMENT] = bytes(document)
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

    def stamp(self, address: Address) -> bytes | None:
        """Return the nonce of an object's envelope, or None when it is missing."""
        stored = self._space.here().objects.get(address)
        return None if stored is None else Envelope.nonce_of(stored)

    def delete_stamped(self, address: Address, stamp: bytes) -> bool:
        """Remove an object if it still carries a stamp; return whether it did."""
        with self._space.changing():
            stored = self._space.objects.get(address)
            if stored is None or Envelope.nonce_of(stored) != stamp:
                return False
            del self._space.objects[address]
            return True

    def replace(self, sealed: SealedObject) -> None:
        """Store one object even if the space has it."""
        object_key(sealed.address)  # Refuses what is not an address.
        with self._space.changing():
            self._space.objects[sealed.address] = sealed.to_bytes()

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
        return self._space.here().refs.get(check_ref_name(name))

    def swap(
        self,
        name: str,
        expected: RefValue | None,
        new: Address | None,
        carried: bytes | None = None,
    ) -> RefValue | None:
        """Move a ref if it still holds what is expected."""
        check_ref_name(name)
        check_new(name, new, carried)
        with self._space.changing():
            actual = self._space.refs.get(name)
            if actual != expected:
                raise conflict(name, expected, actual)
            if new is None:
                self._space.refs.pop(name, None)
                return None
            value = parse_body(encode_body(new, carried), name)
            self._space.refs[name] = value
            return value

    def list(self) -> Iterator[tuple[str, RefValue]]:
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


class MemoryDocuments:
    """The document port over a dictionary."""

    def __init__(self, space: _Space) -> None:
        self._space = space

    def read(self, key: str) -> StoredDocument | None:
        """Return a document, or None when there is none."""
        check_document_key(key)
        body = self._space.here().documents.get(key)
        return None if body is None else StoredDocument(body, body)

    def swap(
        self, key: str, expected: StoredDocument | None, new: bytes | None
    ) -> StoredDocument | None:
        """Replace a document if it still is what is expected."""
        check_document_key(key)
        with self._space.changing():
            if self._space.documents.get(key) != (expected and expected.body):
                raise document_conflict(key, f"memory space {self._space.name!r}")
            if new is None:
                self._space.documents.pop(key, None)
                return None
            self._space.documents[key] = bytes(new)
            return StoredDocument(bytes(new), bytes(new))

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names below a folder, sorted."""
        start = check_folder(folder) + "/"
        found = list(self._space.here().documents)
        yield from sorted(key.removeprefix(start) for key in found if key.startswith(start))


class MemoryTrash:
    """The trash over a dictionary."""

    def __init__(self, space: _Space) -> None:
        self._space = space

    def throw(self, address: Address, time_ns: int) -> None:
        """Move an object from the store to the trash; missing is not an error."""
        with self._space.changing():
            stored = self._space.objects.pop(address, None)
            if stored is not None:
                self._space.trash[address] = stored, time_ns

    def flush(self) -> None:
        """Nothing is ever durable here."""

    def list(self) -> Iterator[TrashedObject]:
        """Yield what lies in the trash."""
        for address, (stored, time_ns) in list(self._space.here().trash.items()):
            yield TrashedObject(address, len(stored), time_ns)

    def open(self, address: Address) -> memoryview:
        """Return a whole stored object from the trash."""
        try:
            return memoryview(self._space.here().trash[address][0])
        except KeyError:
            name = to_text(address)
            raise ObjectMissingError(f"object {name} is not in the trash", object=name) from None

    def restore(self, address: Address) -> None:
        """Move an object back into the store; one that is there again is left alone."""
        with self._space.changing():
            found = self._space.trash.pop(address, None)
            if found is not None:
                self._space.objects.setdefault(address, found[0])

    def remove(self, address: Address) -> None:
        """Delete an object from the trash for good; missing is not an error."""
        with self._space.changing():
            self._space.trash.pop(address, None)
