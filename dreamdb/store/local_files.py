"""Durable files: temporaries, syncs and renames, with every failure typed.

Source: design/0006 section 1.  A file appears under its name complete or not at all: it is written
as a temporary, synced, renamed, and then its directory is synced.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dreamdb.errors import DreamDBError, ReadOnlyError, StorageError
from dreamdb.types import Bytes

if sys.platform != "win32":
    import fcntl

__all__ = [
    "Disk",
    "Temporary",
    "disk_error",
    "ensure_directory",
    "is_out_of_descriptors",
    "sync_directory",
]

_DENIED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_TRANSIENT = _OUT_OF_DESCRIPTORS | {errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR}
# The kernel takes at most IOV_MAX (1,024) pieces per call; a piece is at most 1 GiB because
# Linux writes at most 2 GiB - 4 KiB at once.
_MAX_PIECES = 1024
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
# One synchronous write instead of a write and a sync.  macOS needs its own way of syncing.
_DSYNC = getattr(os, "O_DSYNC", 0) if sys.platform == "linux" else 0
_BINARY = getattr(os, "O_BINARY", 0)
_COUNTER = itertools.count()


def disk_error(error: OSError, doing: str, *, writing: bool) -> DreamDBError:
    """Return the typed error for a failed system call.

    Parameters
    ----------
    error : OSError
        What the system said.
    doing : str
        Verb and object, such as ``"write object q7..."``.
    writing : bool
        Whether a refusal means that the space is read-only.

    Returns
    -------
    DreamDBError
        ReadOnlyError or StorageError; an error of this library is returned as it is.
    """
    if isinstance(error, DreamDBError):
        return error
    reason = error.strerror or str(error)
    code = error.errno
    if writing and code in _DENIED:
        return ReadOnlyError(
            f"cannot {doing}: {reason}; nothing was published",
            hint="the space is read-only for this user; check the directory's owner and mode",
            errno=code,
        )
    hint = None
    if code in _FULL:
        hint = "free space on the disk that holds the space, then run the same call again"
    elif code in _OUT_OF_DESCRIPTORS:
        hint = "raise the limit of open files (ulimit -n) or lower DREAMDB_OPEN_OBJECTS"
    suffix = "; nothing was published" if writing else ""
    return StorageError(
        f"cannot {doing}: {reason}{suffix}", hint=hint, errno=code, transient=code in _TRANSIENT
    )


def is_out_of_descriptors(error: OSError) -> bool:
    """Return whether a call failed because too many files are open."""
    code = error.details.get("errno") if isinstance(error, StorageError) else error.errno
    return code in _OUT_OF_DESCRIPTORS


def _load_writeback() -> Callable[[int], None]:
    """Return a function that starts write-back of a file without waiting for it."""

    def nothing(descriptor: int) -> None:
        return None

    if sys.platform != "linux":
        return nothing
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (ImportError, OSError, AttributeError):
        return nothing
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    call.restype = ctypes.c_int
    write = 2  # SYNC_FILE_RANGE_WRITE

    def start(descriptor: int) -> None:
        call(descriptor, 0, 0, write)  # A hint: the fsync that follows reports what went wrong.

    return start


_start_writeback: Callable[[int], None] | None = None


def _writeback(descriptor: int) -> None:
    global _start_writeback
    if _start_writeback is None:
        _start_writeback = _load_writeback()
    _start_writeback(descriptor)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        # Only this reaches the medium on macOS; some file systems do not know it.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    if sys.platform == "win32":
        return  # Directories cannot be opened there; NTFS journals its names.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
    try:
        _sync(descriptor)
    except OSError as error:
        # Some network file systems refuse to sync a directory and need none.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def ensure_directory(path: str) -> None:
    """Make a directory and its parents, durably; an existing one costs one call."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        ensure_directory(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    sync_directory(parent)


def _write_all(descriptor: int, parts: Sequence[Bytes]) -> None:
    """Write all parts one after the other, however short the kernel's writes are."""
    views = [view for part in parts if (view := memoryview(part).cast("B")).nbytes]
    gather = getattr(os, "writev", None)
    at = 0
    while at < len(views):
        if gather is None:
            done = os.write(descriptor, views[at])
        else:
            done = gather(descriptor, views[at : at + _MAX_PIECES])
        while at < len(views) and done >= views[at].nbytes:
            done -= views[at].nbytes
            at += 1
        if done:
            views[at] = views[at][done:]


@dataclass(slots=True)
class Temporary:
    """A file that is written and not in place yet; its descriptor is open.

    Parameters
    ----------
    path : str
        Where it lies now.
    descriptor : int
        Open for writing, and locked so that others can tell that its writer lives; -1 when closed.
    synced : bool
        Whether its bytes are durable.
    """

    path: str
    descriptor: int
    synced: bool = False

    def close(self) -> None:
        """Close the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def discard(self) -> None:
        """Close and remove the file; never fails."""
        with contextlib.suppress(OSError):
            self.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)


class Disk:
    """One space's directory: where temporaries go, and a count of syncs.

    Parameters
    ----------
    root : str
        Absolute path of the space.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.temporaries = os.path.join(root, "tmp")
        self.syncs = 0

    def path(self, *names: str) -> str:
        """Return a path below the root."""
        return os.path.join(self.root, *names)

    def write(
        self, parts: Sequence[Bytes], *, mode: int = 0o444, synchronous: bool = False
    ) -> Temporary:
        """Write a new temporary; its bytes are durable only when it was written synchronously."""
        temporary = self._create(mode, _DSYNC if synchronous else 0)
        temporary.synced = bool(synchronous and _DSYNC)
        try:
            _write_all(temporary.descriptor, parts)
        except BaseException:
            temporary.discard()
            raise
        return temporary

    def _create(self, mode: int, extra: int = 0) -> Temporary:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CLOEXEC | _BINARY | extra
        name = f"{os.getpid()}-{next(_COUNTER)}-{secrets.token_hex(8)}"
        path = os.path.join(self.temporaries, name)
        try:
            descriptor = os.open(path, flags, mode)
        except FileNotFoundError:
            # A copied space may lack empty directories.
            ensure_directory(self.temporaries)
            descriptor = os.open(path, flags, mode)
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return Temporary(path, descriptor)

    def start_writeback(self, temporary: Temporary) -> None:
        """Let the kernel begin to write a temporary out, without waiting."""
        _writeback(temporary.descriptor)

    def sync(self, temporary: Temporary) -> None:
        """Wait until a temporary's bytes are durable."""
        self.syncs += 1
        _sync(temporary.descriptor)
        temporary.synced = True

    def rename(self, temporary: Temporary, path: str) -> None:
        """Give a temporary its name, replacing what is there."""
        if sys.platform == "win32":
            temporary.close()  # An open file cannot be renamed there.
        os.replace(temporary.path, path)
        temporary.close()

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""
        self.syncs += 1
        sync_directory(path)

    def publish(self, parts: Sequence[Bytes], directory: str, name: str) -> None:
        """Write one small file durably: temporary, sync, rename, sync of the directory."""
        temporary = self.write(parts, mode=0o644, synchronous=True)
        try:
            if not temporary.synced:
                self.sync(temporary)
            try:
                self.rename(temporary, os.path.join(directory, name))
            except FileNotFoundError:
                ensure_directory(directory)
                self.rename(temporary, os.path.join(directory, name))
        except BaseException:
            temporary.discard()
            raise
        self.sync_directory(directory)

    def remove_stale_temporaries(self, *, min_age_s: float) -> int:
        """Remove temporaries whose writer is gone; return how many.

        A living writer holds a lock on each of its temporaries, in whatever container it runs;
        the age covers the moment between a temporary's creation and its lock.
        """
        try:
            names = os.listdir(self.temporaries)
        except FileNotFoundError:
            return 0
        probe = self._create(0o444)  # Its time is the file system's clock.
        try:
            now = os.fstat(probe.descriptor).st_mtime
        finally:
            probe.discard()
        paths = (os.path.join(self.temporaries, name) for name in names)
        return sum(_remove_if_stale(path, before=now - min_age_s) for path in paths)


def _remove_if_stale(path: str, *, before: float) -> bool:
    if sys.platform == "win32":
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | _CLOEXEC)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_mtime > before:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
