"""Objects as read-only files: ``objects/<1>/<53>``, written durably and mapped for reading.

Source: design/0002 sections 1 and 2 (keys), design/0006 section 1 (write order).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from dreamdb.errors import (
    FormatError,
    IntegrityError,
    InternalError,
    InvalidInputError,
    ObjectMissingError,
    StorageError,
)
from dreamdb.objects import (
    ENVELOPE_SIZE,
    Envelope,
    OpenedObject,
    SealedObject,
    from_text,
    object_key,
    to_text,
)
from dreamdb.store.local_files import (
    Disk,
    Temporary,
    disk_error,
    ensure_directory,
    is_out_of_descriptors,
)
from dreamdb.store.local_locks import FileLocks
from dreamdb.store.locking import reentrant
from dreamdb.types import Address

__all__ = ["MAP_THRESHOLD", "SPACE_LOCK", "LocalObjects", "LocalUpload"]

SPACE_LOCK: Final = ".space"
"""Lock file of the whole space; no ref key starts with a dot."""

MAP_THRESHOLD: Final = 64 << 10
"""Smaller objects are read into memory: cheaper than a map, and no descriptor is kept."""

_LARGE: Final = 256 << 10
_MAX_KEPT: Final = 256
_MAX_LAG: Final = 16
_O_READ: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# Without this a map keeps a descriptor of its file open (CPython before 3.13 has no choice).
_MAP_OPTIONS: Final[dict[str, Any]] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class LocalObjects:
    """The object port over a directory.

    Parameters
    ----------
    disk : Disk
        The space's directory.
    locks : FileLocks
        Its locks.
    """

    def __init__(self, disk: Disk, locks: FileLocks) -> None:
        self._disk = disk
        self._locks = locks
        self._root = disk.path("objects")
        self._prefix = disk.root + os.sep

    def upload(self) -> LocalUpload:
        """Begin an upload."""
        return LocalUpload(self)

    def open(self, address: Address) -> memoryview:
        """Return a whole stored object: mapped, or read when it is small.

        Cost: 1 open file; a map of 64 KiB or more keeps a descriptor before Python 3.13.
        """
        try:
            descriptor = os.open(self._prefix + object_key(address), _O_READ)
        except OSError as error:
            raise _reading_failed(error, address) from None
        try:
            size = os.fstat(descriptor).st_size
            if size < ENVELOPE_SIZE:
                name = to_text(address)
                raise FormatError(
                    f"object {name} is truncated: its file has {size} bytes", object=name
                )
            if size < MAP_THRESHOLD:
                return memoryview(os.read(descriptor, size))
            return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ, **_MAP_OPTIONS))
        except OSError as error:
            raise _reading_failed(error, address) from None
        finally:
            os.close(descriptor)

    def read(self, address: Address, start: int, stop: int) -> memoryview:
        """Return stored bytes ``[start, stop)``, clipped to the object's end."""
        if start < 0:
            raise InvalidInputError(f"a range cannot start at {start}")
        try:
            descriptor = os.open(self._prefix + object_key(address), _O_READ)
        except OSError as error:
            raise _reading_failed(error, address) from None
        try:
            wanted = min(stop, os.fstat(descriptor).st_size) - start
            if wanted <= 0:
                return memoryview(b"")
            os.lseek(descriptor, start, os.SEEK_SET)
            pieces = []
            while wanted > 0 and (piece := os.read(descriptor, wanted)):
                pieces.append(piece)
                wanted -= len(piece)
            return memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        except OSError as error:
            raise _reading_failed(error, address) from None
        finally:
            os.close(descriptor)

    def size(self, address: Address) -> int | None:
        """Return the stored length in bytes, or None when the object is missing."""
        try:
            return os.stat(self._prefix + object_key(address)).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _reading_failed(error, address) from None

    def list(self) -> Iterator[tuple[Address, int]]:
        """Yield every object and its stored length; foreign files are passed over."""
        for shard in _entries(self._root):
            if shard.is_dir(follow_symlinks=False):
                for entry in _entries(shard.path):
                    found = _as_object(entry)
                    if found is not None:
                        yield found

    def delete(self, address: Address) -> None:
        """Remove an object; missing is not an error."""
        try:
            os.unlink(self._prefix + object_key(address))
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_error(error, f"delete object {to_text(address)}", writing=True) from error

    def hold(self) -> AbstractContextManager[None]:
        """Keep the collector away while a commit runs.

        Re-entrant within a thread; never blocks on other commits.  The kernel does not queue
        fairly: an exclusive holder may wait as long as commits overlap without a gap.
        """
        return self._hold(exclusive=False)

    def hold_exclusive(self) -> AbstractContextManager[None]:
        """Keep every commit away while the collector deletes."""
        return self._hold(exclusive=True)

    @contextmanager
    def _hold(self, *, exclusive: bool) -> Iterator[None]:
        what = f"the space {self._disk.root}"
        lock = self._locks.exclusive if exclusive else self._locks.shared
        with reentrant(
            (self._locks.directory, SPACE_LOCK),
            exclusive=exclusive,
            acquire=lambda: lock(SPACE_LOCK, what=what),
        ):
            yield

    def _has(self, sealed: SealedObject, path: str) -> bool:
        """Return whether the store holds this object whole.

        A truncated file is not it, nor, where looking costs little, a damaged one: a commit must
        not rest on an object that cannot be read.
        """
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            return False
        if size <= MAP_THRESHOLD:
            try:
                OpenedObject(sealed.address, self.open(sealed.address), None)
            except (IntegrityError, ObjectMissingError):
                return False
            return True
        if size == sealed.nbytes:
            return True
        # Another zstd may have stored it with another length: ask its own envelope.
        try:
            head = self.read(sealed.address, 0, ENVELOPE_SIZE)
            Envelope.parse(head, size, to_text(sealed.address))
        except (FormatError, ObjectMissingError):
            return False
        return True

    def _restore_folder(self, path: str) -> None:
        """Make a folder again that a copied space lacks, durably: tools may drop empty ones."""
        ensure_directory(self._root)
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(path))
        self._disk.sync_directory(self._root)


@dataclass(slots=True)
class _Pending:
    address: Address
    temporary: Temporary
    path: str


class LocalUpload:
    """Objects on their way to their names.

    Large objects are synced by the thread that puts them; small ones are written out together by
    :meth:`finish`.  Names appear in the order of the puts, so children come before parents.
    """

    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects
        self._disk = objects._disk
        self._lock = threading.Lock()
        self._known: set[Address] = set()
        self._pending: list[_Pending] = []
        # Large temporaries that are being written out; each is synced when _MAX_LAG newer ones
        # are on their way, so that the disk is busy while others are hashed.
        self._lagging: deque[Temporary] = deque()
        # Taken before the other lock: no descriptor is closed while a thread syncs it.
        self._sync_lock = threading.Lock()
        self._touched: set[str] = set()
        self._state = "open"

    def put(self, sealed: SealedObject) -> bool:
        """Store one object unless the store has it; return whether it was new.

        Raises
        ------
        StorageError, ReadOnlyError
            When it cannot be written; the upload is then lost as a whole.
        """
        key = object_key(sealed.address)
        shard = key.split("/")[1]
        path = self._disk.path(*key.split("/"))
        with self._lock:
            self._check_open()
            if sealed.address in self._known:
                return False
            self._known.add(sealed.address)
            # Also for an object that is there: its writer may not have synced the name yet.
            self._touched.add(shard)
        try:
            return self._store(sealed, path)
        except OSError as error:
            self._fail()
            raise disk_error(
                error, f"write object {to_text(sealed.address)} in {self._disk.root}", writing=True
            ) from error
        except BaseException:
            self._fail()
            raise

    def finish(self) -> None:
        """Make every object durable under its name."""
        with self._sync_lock, self._lock:
            if self._state == "finished":
                return
            self._check_open()
            count = len(self._pending)
            try:
                self._place()
                for shard in sorted(self._touched):
                    self._disk.sync_directory(self._disk.path("objects", shard))
            except OSError as error:
                self._drop("failed")
                raise disk_error(
                    error, f"make {count} objects durable in {self._disk.root}", writing=True
                ) from error
            except BaseException:
                self._drop("failed")
                raise
            self._state = "finished"

    def abort(self) -> None:
        """Remove the temporaries; a no-op after :meth:`finish`."""
        with self._sync_lock, self._lock:
            if self._state == "open":
                self._drop("aborted")

    def _store(self, sealed: SealedObject, path: str) -> bool:
        if self._objects._has(sealed, path):
            return False
        temporary = self._write(sealed)
        behind: Temporary | None = None
        try:
            if sealed.nbytes > _LARGE:
                self._disk.start_writeback(temporary)
            with self._lock:
                self._check_open()
                self._pending.append(_Pending(sealed.address, temporary, path))
                if sealed.nbytes > _LARGE:
                    self._lagging.append(temporary)
                    behind = self._lagging.popleft() if len(self._lagging) > _MAX_LAG else None
            if behind is not None:
                with self._sync_lock:
                    if not behind.synced:
                        self._disk.sync(behind)
        except BaseException:
            temporary.discard()
            raise
        if len(self._pending) > _MAX_KEPT:
            self._place_early()
        return True

    def _write(self, sealed: SealedObject) -> Temporary:
        try:
            return self._disk.write(sealed.parts)
        except OSError as error:
            if not is_out_of_descriptors(error):
                raise
        self._place_early()
        return self._disk.write(sealed.parts)

    def _place_early(self) -> None:
        """Bound the descriptors that are kept; nothing refers to these objects yet."""
        with self._sync_lock, self._lock:
            self._check_open()
            self._place()

    def _place(self) -> None:
        """Sync what is pending and give it its names, in order.  The lock is held."""
        small = [entry.temporary for entry in self._pending if not entry.temporary.synced]
        if len(small) > 1:
            for temporary in small:
                self._disk.start_writeback(temporary)
        for temporary in small:
            self._disk.sync(temporary)
        self._lagging.clear()
        placed = 0
        try:
            for entry in self._pending:
                try:
                    self._disk.rename(entry.temporary, entry.path)
                except FileNotFoundError:
                    self._objects._restore_folder(entry.path)
                    self._disk.rename(entry.temporary, entry.path)
                placed += 1
        finally:
            del self._pending[:placed]

    def _check_open(self) -> None:
        if self._state == "failed":
            raise StorageError(
                "this upload failed before; nothing was published",
                hint="begin the commit again",
            )
        if self._state != "open":
            raise InternalError(f"this upload is {self._state}")

    def _fail(self) -> None:
        with self._sync_lock, self._lock:
            if self._state == "open":
                self._drop("failed")

    def _drop(self, state: str) -> None:
        self._state = state
        for entry in self._pending:
            entry.temporary.discard()
        self._pending.clear()


def _reading_failed(error: OSError, address: Address) -> Exception:
    name = to_text(address)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ObjectMissingError(
            f"object {name} is not in the store",
            hint="run `dreamdb verify` to see what it affects",
            object=name,
        )
    return disk_error(error, f"read object {name}", writing=False)


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise disk_error(error, f"list {path}", writing=False) from error


def _as_object(entry: os.DirEntry[str]) -> tuple[Address, int] | None:
    try:
        address = from_text(entry.name)
        if not entry.is_file(follow_symlinks=False):
            return None
        if os.path.basename(os.path.dirname(entry.path)) != entry.name[2]:
            return None  # In the wrong folder: no reader would find it.
        return address, entry.stat(follow_symlinks=False).st_size
    except (InvalidInputError, FileNotFoundError):
        return None
    except OSError as error:
        raise disk_error(error, f"list {entry.path}", writing=False) from error
