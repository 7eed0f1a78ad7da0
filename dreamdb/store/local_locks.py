"""Locks between processes on one directory: ``flock`` on small files that hold nothing.

Source: design/0006 section 1.  The kernel frees a lock when its process dies, so a crash never
leaves one behind.  A lock belongs to an open file description: a fresh descriptor per acquisition
makes threads exclude each other exactly as processes do.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dreamdb.errors import StorageError
from dreamdb.store.local_files import disk_error, ensure_directory
from dreamdb.store.locking import NamedLocks

if sys.platform != "win32":
    import fcntl

__all__ = ["FileLocks"]

_IN_PROCESS = NamedLocks()


class FileLocks:
    """Named locks below one directory.

    Parameters
    ----------
    directory : str
        Where the lock files lie.
    in_process : bool
        Lock between the threads of this process only, for file systems without ``flock``; the
        user then promises that no other process writes.
    """

    def __init__(self, directory: str, *, in_process: bool = False) -> None:
        self.directory = directory
        self.in_process = in_process

    @contextmanager
    def exclusive(self, name: str, *, what: str) -> Iterator[None]:
        """Hold a lock alone; ``what`` names it in errors."""
        if self.in_process:
            with _IN_PROCESS.get((self.directory, name)).exclusive():
                yield
            return
        descriptor = self._acquire(name, exclusive=True, what=what)
        try:
            yield
        finally:
            _release(descriptor)

    @contextmanager
    def shared(self, name: str, *, what: str) -> Iterator[None]:
        """Hold a lock together with other shared holders."""
        if self.in_process:
            with _IN_PROCESS.get((self.directory, name)).shared():
                yield
            return
        descriptor = self._acquire(name, exclusive=False, what=what)
        try:
            yield
        finally:
            _release(descriptor)

    def discard(self, name: str) -> None:
        """Remove the file of a lock that the caller holds exclusively."""
        if not self.in_process:
            # When it fails, an empty file stays; it is in nobody's way.
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.directory, name))

    def _acquire(self, name: str, *, exclusive: bool, what: str) -> int:
        path = os.path.join(self.directory, name)
        while True:
            descriptor = _open_lock_file(path, what)
            try:
                _lock(descriptor, exclusive=exclusive, what=what)
                # discard() may have removed the file while we waited: a lock on a file that
                # nobody else can open excludes nobody.
                if _is_at(path, descriptor):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _open_lock_file(path: str, what: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    try:
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            ensure_directory(os.path.dirname(path))
            return os.open(path, flags, 0o666)
    except OSError as error:
        raise disk_error(error, f"lock {what}", writing=True) from error


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _lock(descriptor: int, *, exclusive: bool, what: str) -> None:
    if sys.platform == "win32":
        raise StorageError(
            f"cannot lock {what}: writing to a directory is not supported on Windows yet",
            hint="write from WSL, or pass storage_options={'single_writer': True} when only one "
            "process writes",
        )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    except OSError as error:
        raise StorageError(
            f"cannot lock {what}: this file system has no working locks ({error.strerror})",
            hint="move the space to a local disk, or pass "
            "storage_options={'single_writer': True} when only one process writes",
            errno=error.errno,
        ) from error


def _release(descriptor: int) -> None:
    # Unlock before closing: a forked child may hold a copy of the descriptor for hours.
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
