"""Refs over storage that has conditional writes, or one writer.

Source: design/0005, design/0006 section 1.  :class:`ConditionalWriter` is the seam: what a server
can do with ``If-None-Match`` and ``If-Match`` plugs in there.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeAlias

from dreamdb import config
from dreamdb.errors import FormatError, StorageError
from dreamdb.objects import decode_ref_key, encode_ref_key
from dreamdb.store.fsspec_files import RemoteFiles
from dreamdb.store.locking import NamedLocks
from dreamdb.store.ports import LogEntries, LogEntry, RefValue
from dreamdb.store.ref_values import check_new, conflict, encode_body, parse_body
from dreamdb.store.reflog import decode_entry, encode_entry
from dreamdb.types import Address

__all__ = [
    "ConditionalWriter",
    "FsspecRefs",
    "PreconditionFailed",
    "SingleWriter",
    "UnconditionalStorage",
]

_WRITERS = NamedLocks()
_Keys: TypeAlias = list[str]
_Bodies: TypeAlias = list[bytes | None]


class PreconditionFailed(Exception):
    """A conditional request was refused because the file is not what was expected."""


class ConditionalWriter(Protocol):
    """Small files that change only when they are what the caller believes.

    A version is whatever the storage compares, such as an ETag.  Each method either applies
    completely or raises; a lost answer is for the implementation to find out about.
    """

    def read(self, key: str) -> tuple[bytes, object] | None:
        """Return a file's bytes and version, or None when it is missing."""
        ...

    def create(self, key: str, body: bytes) -> object:
        """Write a file that must not exist; return its version or raise PreconditionFailed."""
        ...

    def replace(self, key: str, body: bytes, version: object) -> object:
        """Replace a file that must have this version; return the new one."""
        ...

    def remove(self, key: str, version: object) -> None:
        """Remove a file that must have this version."""
        ...


class SingleWriter:
    """Read, compare, write under a lock of this process; right while no other process writes.

    Parameters
    ----------
    files : RemoteFiles
        Where the files are.  A file's version is its bytes.
    """

    def __init__(self, files: RemoteFiles) -> None:
        self._files = files
        self._lock = _WRITERS.get(files.url)

    def read(self, key: str) -> tuple[bytes, object] | None:
        """Return a file's bytes and version, or None when it is missing."""
        body = self._files.read(key)
        return None if body is None else (body, body)

    def create(self, key: str, body: bytes) -> object:
        """Write a file that must not exist."""
        return self._change(key, None, body)

    def replace(self, key: str, body: bytes, version: object) -> object:
        """Replace a file that must have this version."""
        return self._change(key, version, body)

    def remove(self, key: str, version: object) -> None:
        """Remove a file that must have this version."""
        self._change(key, version, None)

    def _change(self, key: str, version: object, body: bytes | None) -> object:
        with self._lock.exclusive():
            if self._files.read(key) != version:
                raise PreconditionFailed(key)
            if body is None:
                self._files.remove(key)
            else:
                self._files.write(key, body)
            return body


class UnconditionalStorage:
    """Reads; refuses every change, because two writers could overwrite each other's commits.

    Parameters
    ----------
    files : RemoteFiles
        Where the files are.
    """

    def __init__(self, files: RemoteFiles) -> None:
        self._files = files

    def read(self, key: str) -> tuple[bytes, object] | None:
        """Return a file's bytes and version, or None when it is missing."""
        body = self._files.read(key)
        return None if body is None else (body, body)

    def create(self, key: str, body: bytes) -> object:
        """Refuse."""
        raise self._refusal(key)

    def replace(self, key: str, body: bytes, version: object) -> object:
        """Refuse."""
        raise self._refusal(key)

    def remove(self, key: str, version: object) -> None:
        """Refuse."""
        raise self._refusal(key)

    def _refusal(self, key: str) -> StorageError:
        return StorageError(
            f"cannot change {key} in {self._files.url}: this storage cannot compare-and-swap",
            hint="when exactly one process writes, open with "
            "storage_options={'single_writer': True}",
        )


class FsspecRefs:
    """The ref port: ``refs/<key>`` holds a body, ``logs/<key>/<time>-<id>`` one entry each.

    Parameters
    ----------
    files : RemoteFiles
        Where the files are.
    writer : ConditionalWriter
        How refs change.
    """

    def __init__(self, files: RemoteFiles, writer: ConditionalWriter) -> None:
        self._files = files
        self._writer = writer

    def read(self, name: str) -> RefValue | None:
        """Return the value of a ref, or None when there is none."""
        found = self._writer.read(f"refs/{encode_ref_key(name)}")
        if found is None:
            return None
        body, version = found
        return parse_body(body, name, version)

    def swap(
        self,
        name: str,
        expected: RefValue | None,
        new: Address | None,
        carried: bytes | None = None,
    ) -> RefValue | None:
        """Move a ref if it still holds what is expected.

        Cost: 1 conditional request; 1 read more when it is refused, 1 more without a token.
        """
        key = f"refs/{encode_ref_key(name)}"
        check_new(name, new, carried)
        if expected is not None and expected.token is None:
            expected = self._with_version(name, expected)
        try:
            if expected is None:
                if new is not None:
                    body = encode_body(new, carried)
                    return RefValue(new, self._writer.create(key, body), carried)
                if self._writer.read(key) is not None:
                    raise PreconditionFailed(key)
                return None
            if new is None:
                self._writer.remove(key, expected.token)
                return None
            body = encode_body(new, carried)
            return RefValue(new, self._writer.replace(key, body, expected.token), carried)
        except PreconditionFailed:
            raise conflict(name, expected, self.read(name)) from None

    def list(self) -> Iterator[tuple[str, RefValue]]:
        """Yield every ref and its value, sorted by name."""
        names = _decoded(self._files.names("refs"))
        bodies = self._read_all([f"refs/{key}" for _, key in names])
        for (name, _), body in zip(names, bodies, strict=True):
            if body is not None:
                yield name, parse_body(body, name)

    def append_log(self, name: str, entry: LogEntry) -> None:
        """Add one entry to a ref's log; entries are ordered by their time."""
        file = f"{entry.time_ns:020d}-{secrets.token_hex(8)}"
        self._files.write(f"logs/{encode_ref_key(name)}/{file}", encode_entry(entry))

    def read_log(self, name: str) -> LogEntries:
        """Return a ref's log, oldest first."""
        folder = f"logs/{encode_ref_key(name)}"
        bodies = self._read_all([f"{folder}/{file}" for file in self._files.names(folder)])
        return [
            decode_entry(body, name=name, number=number)
            for number, body in enumerate(bodies, start=1)
            if body is not None
        ]

    def logs(self) -> Iterator[str]:
        """Yield the names that have a log, sorted."""
        for name, _ in _decoded(self._files.names("logs")):
            yield name

    def _with_version(self, name: str, expected: RefValue) -> RefValue:
        current = self.read(name)
        if current is None or current != expected:
            raise conflict(name, expected, current)
        return current

    def _read_all(self, keys: _Keys) -> _Bodies:
        if len(keys) < 2:
            return [self._files.read(key) for key in keys]
        with ThreadPoolExecutor(min(len(keys), config.num_threads())) as pool:
            return list(pool.map(self._files.read, keys))


def _decoded(keys: list[str]) -> list[tuple[str, str]]:
    found = []
    for key in keys:
        try:
            found.append((decode_ref_key(key), key))
        except FormatError:
            continue  # Not ours; verify reports it.
    return sorted(found)
