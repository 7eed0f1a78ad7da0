"""A space behind any fsspec file system.

Source: design/0004 section 1, design/0006.  Objects are whole files, refs change through a
:class:`~dreamdb.store.fsspec_refs.ConditionalWriter`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dreamdb import config
from dreamdb.errors import (
    FormatError,
    InternalError,
    InvalidInputError,
    ObjectMissingError,
    StorageError,
)
from dreamdb.objects import (
    ENVELOPE_SIZE,
    Envelope,
    SealedObject,
    from_text,
    object_key,
    to_text,
)
from dreamdb.store.fsspec_files import (
    FileSystem,
    RemoteFiles,
    collect_secrets,
    public_options,
)
from dreamdb.store.fsspec_refs import (
    ConditionalWriter,
    FsspecRefs,
    PreconditionFailed,
    SingleWriter,
    UnconditionalStorage,
)
from dreamdb.store.fsspec_urls import parse_remote
from dreamdb.store.locking import NamedLocks, reentrant
from dreamdb.types import Address

__all__ = ["FsspecBackend", "FsspecObjects", "FsspecUpload", "open_remote"]

_SPACE = "space.json"
_SPACES = NamedLocks()


class FsspecBackend:
    """Both ports over an fsspec file system.

    Parameters
    ----------
    files : RemoteFiles
        Where the files are.
    writer : ConditionalWriter
        How refs and ``space.json`` change.
    pickled : tuple, optional
        URL and public options to open it again elsewhere.
    """

    def __init__(
        self,
        files: RemoteFiles,
        writer: ConditionalWriter,
        *,
        pickled: tuple[str, dict[str, object], bool] | None = None,
    ) -> None:
        self._files = files
        self._writer = writer
        self._pickled = pickled
        self.objects = FsspecObjects(files)
        self.refs = FsspecRefs(files, writer)

    @classmethod
    def from_filesystem(
        cls, fs: FileSystem, root: str, *, url: str, single_writer: bool = False
    ) -> FsspecBackend:
        """Wrap a file system that the caller has made.

        Parameters
        ----------
        fs : fsspec.AbstractFileSystem
            Its own caches of listings are dropped before each look.
        root : str
            The space's path in it.
        url : str
            What names the space in messages and locks, without credentials.
        single_writer : bool
            The user promises that one process writes; without it the space is read-only.
        """

        def connect() -> tuple[FileSystem, str]:
            # Asynchronous file systems are tied to the process that made them.
            if files._connected is not None and getattr(fs, "async_impl", False):
                options = {**fs.storage_options, "skip_instance_cache": True}
                return type(fs)(*fs.storage_args, **options), root
            return fs, root

        secrets = collect_secrets(getattr(fs, "storage_options", None) or {})
        files = RemoteFiles(connect, url=url, secrets=secrets)
        return cls(files, _writer(files, single_writer))

    @property
    def url(self) -> str:
        """Canonical URL without credentials."""
        return self._files.url

    def read_space(self) -> bytes | None:
        """Return the bytes of ``space.json``, or None when there is no space here."""
        return self._files.read(_SPACE)

    def create_space(self, document: bytes) -> bool:
        """Write ``space.json`` unless there is one; return whether this call wrote it."""
        if self._files.read(_SPACE) is not None:
            return False
        try:
            self._writer.create(_SPACE, bytes(document))
        except PreconditionFailed:
            return False
        return True

    def replace_space(self, expected: bytes, document: bytes) -> bool:
        """Replace ``space.json`` if it still is what is expected; return whether it was."""
        found = self._writer.read(_SPACE)
        if found is None or found[0] != expected:
            return False
        try:
            self._writer.replace(_SPACE, bytes(document), found[1])
        except PreconditionFailed:
            return False
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        if self._pickled is None:
            raise InvalidInputError(
                f"{self!r} wraps a file system object and cannot be sent to another process",
                hint="open the space from its URL",
            )
        return _reopen, self._pickled

    def __repr__(self) -> str:
        return f"FsspecBackend({self.url!r})"


def open_remote(url: str, options: Mapping[str, object]) -> FsspecBackend:
    """Return the backend of a remote URL; connects when first used.

    Parameters
    ----------
    url : str
        ``s3://``, ``http(s)://`` (an S3-compatible endpoint) or another fsspec URL.
    options : mapping
        ``single_writer`` and the arguments of the file system.

    Raises
    ------
    InvalidInputError
        When the URL is malformed, of an unknown protocol, or holds credentials.
    MissingDependencyError
        When the protocol needs a package that is not installed.
    """
    return _reopen(url, dict(options), False)


def _reopen(url: str, options: dict[str, object], secrets_missing: bool) -> FsspecBackend:
    arguments = {key: value for key, value in options.items() if key != "single_writer"}
    location = parse_remote(url, arguments)
    secrets = collect_secrets(options)
    files = RemoteFiles(
        location.connect, url=location.url, secrets=secrets, secrets_missing=secrets_missing
    )
    kept = public_options(options)
    pickled = (url, kept, secrets_missing or kept != options)
    return FsspecBackend(files, _writer(files, bool(options.get("single_writer"))), pickled=pickled)


def _writer(files: RemoteFiles, single_writer: bool) -> ConditionalWriter:
    return SingleWriter(files) if single_writer else UnconditionalStorage(files)


class FsspecObjects:
    """The object port over whole files."""

    def __init__(self, files: RemoteFiles) -> None:
        self._files = files

    def upload(self) -> FsspecUpload:
        """Begin an upload."""
        return FsspecUpload(self, self._files)

    def open(self, address: Address) -> memoryview:
        """Return a whole stored object, downloaded."""
        return memoryview(self._present(self._files.read(object_key(address)), address))

    def read(self, address: Address, start: int, stop: int) -> memoryview:
        """Return stored bytes ``[start, stop)``, clipped to the object's end."""
        if start < 0:
            raise InvalidInputError(f"a range cannot start at {start}")
        if stop <= start:
            return memoryview(b"")
        found = self._files.read_range(object_key(address), start, stop)
        return memoryview(self._present(found, address))

    def size(self, address: Address) -> int | None:
        """Return the stored length in bytes, or None when the object is missing."""
        return self._files.size(object_key(address))

    def list(self) -> Iterator[tuple[Address, int]]:
        """Yield every object and its stored length; foreign files are passed over."""
        for shard, name, size in self._files.files("objects"):
            try:
                address = from_text(name)
            except InvalidInputError:
                continue
            if name[2] == shard:
                yield address, size

    def delete(self, address: Address) -> None:
        """Remove an object; missing is not an error."""
        self._files.remove(object_key(address))

    def hold(self) -> AbstractContextManager[None]:
        """Keep the collector of this process away while a commit runs."""
        return self._hold(exclusive=False)

    def hold_exclusive(self) -> AbstractContextManager[None]:
        """Keep every commit of this process away while the collector deletes."""
        return self._hold(exclusive=True)

    @contextmanager
    def _hold(self, *, exclusive: bool) -> Iterator[None]:
        lock = _SPACES.get(self._files.url)
        acquire: Callable[[], AbstractContextManager[None]]
        acquire = lock.exclusive if exclusive else lock.shared
        with reentrant(("fsspec", self._files.url), exclusive=exclusive, acquire=acquire):
            yield

    def _has(self, sealed: SealedObject) -> bool:
        """Return whether the store holds this object whole."""
        key = object_key(sealed.address)
        size = self._files.size(key)
        if size is None or size == sealed.nbytes:
            return size is not None
        try:
            head = self._files.read_range(key, 0, ENVELOPE_SIZE)
            Envelope.parse(head or b"", size, to_text(sealed.address))
        except FormatError:
            return False
        return True

    def _present(self, body: bytes | None, address: Address) -> bytes:
        if body is None:
            name = to_text(address)
            raise ObjectMissingError(
                f"object {name} is not in {self._files.url}",
                hint="run `dreamdb verify` to see what it affects",
                object=name,
            )
        return body


class FsspecUpload:
    """Objects written by a few threads of their own, which end with the upload.

    At most two objects per thread wait in memory; :meth:`put` blocks beyond that.
    """

    def __init__(self, objects: FsspecObjects, files: RemoteFiles) -> None:
        self._objects = objects
        self._files = files
        self._lock = threading.Lock()
        self._known: set[Address] = set()
        self._pool: ThreadPoolExecutor | None = None
        self._room = threading.BoundedSemaphore(2 * config.num_threads())
        self._failure: BaseException | None = None
        self._state = "open"

    def put(self, sealed: SealedObject) -> bool:
        """Store one object unless the store has it; return whether it was new.

        Cost: 1 look; 1 write when it is new, in the background.
        """
        key = object_key(sealed.address)
        with self._lock:
            self._check_open()
            if sealed.address in self._known:
                return False
            self._known.add(sealed.address)
        try:
            if self._objects._has(sealed):
                return False
        except BaseException as error:
            self._failure = error
            raise
        self._room.acquire()
        with self._lock:
            try:
                self._check_open()
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(config.num_threads())
                self._pool.submit(self._write, key, sealed).add_done_callback(self._note)
            except BaseException:
                self._room.release()
                raise
        return True

    def finish(self) -> None:
        """Return once every object is stored."""
        with self._lock:
            if self._state == "finished":
                return
            if self._state != "open":
                raise InternalError(f"this upload is {self._state}")
            self._state = "finishing"
        self._stop(cancel=False)
        with self._lock:
            self._state = "finished" if self._failure is None else "failed"
        if self._failure is not None:
            raise self._failure

    def abort(self) -> None:
        """Stop; objects already stored stay, nothing refers to them."""
        with self._lock:
            if self._state != "open":
                return
            self._state = "aborted"
        self._stop(cancel=True)

    def _write(self, key: str, sealed: SealedObject) -> None:
        self._files.write(key, sealed.to_bytes())

    def _note(self, done: Future[None]) -> None:
        self._room.release()
        if not done.cancelled() and self._failure is None:
            self._failure = done.exception()

    def _stop(self, *, cancel: bool) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=cancel)

    def _check_open(self) -> None:
        if self._failure is not None:
            raise StorageError(
                f"this upload failed before, nothing was published: {self._failure}",
                hint="begin the commit again",
            )
        if self._state != "open":
            raise InternalError(f"this upload is {self._state}")
