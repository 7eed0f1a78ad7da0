"""Refs as small files, moved by compare-and-swap under a lock; logs as files of lines.

Source: design/0005, design/0006 section 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from dreamdb.errors import DreamDBError, FormatError, IntegrityError, StorageError
from dreamdb.objects import decode_ref_key, encode_ref_key
from dreamdb.store.local_files import Disk, disk_error, ensure_directory
from dreamdb.store.local_locks import FileLocks
from dreamdb.store.ports import LogEntries, LogEntry, RefValue
from dreamdb.store.ref_values import MAX_BODY, check_new, conflict, encode_body, parse_body
from dreamdb.store.reflog import decode_entry, encode_entry
from dreamdb.types import Address

__all__ = ["LocalRefs"]

_O_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class LocalRefs:
    """The ref port over a directory: ``refs/<key>``, ``logs/<key>``, ``locks/<key>``.

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
        self._refs = disk.path("refs")
        self._logs = disk.path("logs")

    def read(self, name: str) -> RefValue | None:
        """Return the value of a ref, or None when there is none."""
        return self._read_key(encode_ref_key(name), name)

    def swap(
        self,
        name: str,
        expected: RefValue | None,
        new: Address | None,
        carried: bytes | None = None,
    ) -> RefValue | None:
        """Move a ref if it still holds what is expected, durably.

        Cost: 1 lock, 1 read, 2 syncs; a crashed holder never blocks it.
        """
        key = encode_ref_key(name)
        check_new(name, new, carried)
        with self._locks.exclusive(key, what=f"ref {name!r}"):
            actual = self._read_key(key, name)
            if actual != expected:
                raise conflict(name, expected, actual)
            if new is not None:
                self._write_key(key, name, new, carried)
                return RefValue(new, bytes(new), carried)
            if actual is not None:
                self._remove_key(key, name)
                self._locks.discard(key)
            return None

    def list(self) -> Iterator[tuple[str, RefValue]]:
        """Yield every ref and its value, sorted by name; foreign files are passed over.

        A damaged ref is reported once all others have been yielded.
        """
        damage: IntegrityError | None = None
        for name, key in _names(self._refs):
            try:
                value = self._read_key(key, name)
            except IntegrityError as error:
                damage = damage or error
                continue
            if value is not None:
                yield name, value
        if damage is not None:
            raise damage

    def append_log(self, name: str, entry: LogEntry) -> None:
        """Add one durable line to a ref's log."""
        key = encode_ref_key(name)
        line = encode_entry(entry) + b"\n"
        with self._locks.exclusive(key, what=f"the log of ref {name!r}"):
            try:
                self._append(os.path.join(self._logs, key), line)
            except OSError as error:
                raise disk_error(error, f"log a move of ref {name!r}", writing=True) from error

    def read_log(self, name: str) -> LogEntries:
        """Return a ref's log, oldest first; a line that a crash cut short is not in it."""
        try:
            with open(os.path.join(self._logs, encode_ref_key(name)), "rb") as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error(error, f"read the log of ref {name!r}", writing=False) from error
        return [
            decode_entry(line, name=name, number=number)
            for number, line in enumerate(lines[:-1], start=1)
        ]

    def logs(self) -> Iterator[str]:
        """Yield the names that have a log, sorted."""
        for name, _ in _names(self._logs):
            yield name

    def _read_key(self, key: str, name: str) -> RefValue | None:
        try:
            descriptor = os.open(os.path.join(self._refs, key), _O_READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_error(error, f"read ref {name!r}", writing=False) from error
        try:
            body = os.read(descriptor, MAX_BODY + 1)
        except OSError as error:
            raise disk_error(error, f"read ref {name!r}", writing=False) from error
        finally:
            os.close(descriptor)
        return parse_body(body, name)

    def _write_key(self, key: str, name: str, new: Address, carried: bytes | None) -> None:
        try:
            self._disk.publish([encode_body(new, carried)], self._refs, key)
        except OSError as error:
            raise self._moving_failed(error, key, name, new) from error

    def _remove_key(self, key: str, name: str) -> None:
        try:
            os.unlink(os.path.join(self._refs, key))
            self._disk.sync_directory(self._refs)
        except OSError as error:
            raise self._moving_failed(error, key, name, None) from error

    def _moving_failed(
        self, error: OSError, key: str, name: str, new: Address | None
    ) -> DreamDBError:
        """Say whether the move is visible although it failed."""
        try:
            found = self._read_key(key, name)
            applied = (None if found is None else found.address) == new
        except DreamDBError:
            applied = True
        if not applied:
            return disk_error(error, f"move ref {name!r} in {self._disk.root}", writing=True)
        return StorageError(
            f"ref {name!r} moved in {self._disk.root}, but the disk did not confirm that it "
            f"is durable: {error.strerror or error}",
            hint="check the disk, then read the ref before trying again",
            errno=error.errno,
            outcome="unknown",
        )

    def _append(self, path: str, line: bytes) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        flags |= getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(path, flags, 0o644)
        except FileNotFoundError:
            ensure_directory(self._logs)
            descriptor = os.open(path, flags, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            whole = _end_of_last_line(descriptor, size)
            if whole < size:
                os.ftruncate(descriptor, whole)  # Cut short by a crash, acknowledged to nobody.
            left = memoryview(line)
            while left.nbytes:
                left = left[os.write(descriptor, left) :]
            self._disk.syncs += 1
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if size == 0:
            self._disk.sync_directory(self._logs)


def _names(directory: str) -> list[tuple[str, str]]:
    """Return the (ref name, key) pairs of a folder, sorted by name."""
    try:
        keys = os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise disk_error(error, f"list {directory}", writing=False) from error
    found = []
    for key in keys:
        try:
            found.append((decode_ref_key(key), key))
        except FormatError:
            continue  # Not ours, such as a desktop's folder settings; verify reports it.
    return sorted(found)


def _end_of_last_line(descriptor: int, size: int) -> int:
    """Return the length of the file up to its last newline."""
    step = 4096
    stop = size
    while stop > 0:
        start = max(0, stop - step)
        os.lseek(descriptor, start, os.SEEK_SET)
        at = os.read(descriptor, stop - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        stop = start
    return 0
