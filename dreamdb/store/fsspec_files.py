"""Whole files through any fsspec file system, with typed errors that hold no secrets.

Source: design/0004 section 1, design/0006 section 7.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from dreamdb.errors import DreamDBError, ReadOnlyError, StorageError

__all__ = ["FileSystem", "RemoteFiles", "collect_secrets", "public_options"]

FileSystem = Any
"""An ``fsspec.AbstractFileSystem``; fsspec has no types and is imported when first used."""

_OBJECT_STORES: Final = frozenset(
    {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"}
)
_RENAMING: Final = frozenset({"file", "local", "sftp", "ssh", "smb", "hdfs", "arrow_hdfs"})
# The clients' own classes, by name: none of them is imported here.
_TRANSIENT: Final = frozenset(
    {"HTTPClientError", "EndpointConnectionError", "ClientConnectionError", "ClientPayloadError"}
)
# What may travel in a pickle; everything else may be a credential.
_PUBLIC_OPTIONS: Final = frozenset(
    {
        *("single_writer", "anon", "endpoint_url", "use_ssl", "profile", "region_name", "verify"),
        *("client_kwargs", "config_kwargs", "s3", "addressing_style", "signature_version"),
        *("max_pool_connections", "connect_timeout", "read_timeout", "retries", "max_attempts"),
        *("mode", "requester_pays", "default_block_size", "project", "account_name"),
        *("host", "port", "target_protocol", "target_options", "path"),
    }
)
_Result = TypeVar("_Result")


def _is_public(key: str, value: object) -> bool:
    if key not in _PUBLIC_OPTIONS:
        return False
    if isinstance(value, str):
        return "@" not in value  # A URL with credentials before its host.
    return value is None or isinstance(value, (bool, int, float))


def public_options(options: Mapping[str, object]) -> dict[str, object]:
    """Return the storage options that are known to hold no credentials, at every depth."""
    kept: dict[str, object] = {}
    for key, value in options.items():
        if isinstance(value, Mapping) and key in _PUBLIC_OPTIONS:
            kept[key] = public_options(value)
        elif _is_public(key, value):
            kept[key] = value
    return kept


def collect_secrets(options: Mapping[str, object]) -> frozenset[str]:
    """Return every text among the options that may be a credential."""
    found: set[str] = set()
    for key, value in options.items():
        if isinstance(value, Mapping):
            found |= collect_secrets(value)
        elif isinstance(value, str) and len(value) > 3 and not _is_public(key, value):
            found.add(value)
    return frozenset(found)


class RemoteFiles:
    """Files below one root of an fsspec file system.

    Parameters
    ----------
    connect : callable
        Returns the file system and the root's path in it.  Called when first needed, and again
        in a forked process: connections and event loops do not survive a fork.
    url : str
        Canonical URL without credentials, for messages.
    secrets : frozenset of str
        Texts that must not appear in messages.
    secrets_missing : bool
        Whether credentials were left behind when this was sent to another process.
    """

    def __init__(
        self,
        connect: Callable[[], tuple[FileSystem, str]],
        *,
        url: str,
        secrets: frozenset[str] = frozenset(),
        secrets_missing: bool = False,
    ) -> None:
        self.url = url
        self._connect = connect
        self._secrets = secrets
        self._secrets_missing = secrets_missing
        self._connected: tuple[int, FileSystem, str] | None = None
        self._folders: set[str] = set()

    def read(self, key: str) -> bytes | None:
        """Return a file's bytes, or None when it is missing."""
        return self._attempt(f"read {key}", lambda fs, root: bytes(fs.cat_file(f"{root}/{key}")))

    def read_range(self, key: str, start: int, stop: int) -> bytes | None:
        """Return bytes ``[start, stop)`` clipped to the file's end, or None when it is missing."""
        try:
            return self._attempt(
                f"read {key}",
                lambda fs, root: bytes(fs.cat_file(f"{root}/{key}", start=start, end=stop)),
            )
        except StorageError:
            # Servers answer a range behind the end with an error, not with nothing.
            size = self.size(key)
            if size is not None and start >= size:
                return b""
            raise

    def size(self, key: str) -> int | None:
        """Return a file's length in bytes, or None when it is missing."""

        def look(fs: FileSystem, root: str) -> int | None:
            fs.invalidate_cache()
            entry = fs.info(f"{root}/{key}")
            return int(entry["size"]) if entry["type"] == "file" else None

        return self._attempt(f"look for {key}", look)

    def write(self, key: str, body: bytes) -> None:
        """Write a file so that readers see it whole or not at all.

        Object stores put whole objects.  Where files grow under their name, the bytes go to a
        temporary that is renamed; whether that is durable is the file system's own promise.
        """

        def put(fs: FileSystem, root: str) -> bool:
            protocols = _protocols(fs)
            if not protocols & _OBJECT_STORES:
                self._ensure_folder(fs, f"{root}/{key}".rpartition("/")[0])
            if protocols & _RENAMING:
                self._write_and_rename(fs, root, key, body)
            else:
                fs.pipe_file(f"{root}/{key}", body)
            return True

        if self._attempt(f"write {key}", put, writing=True) is None:
            raise StorageError(
                f"cannot write {key} in {self.url}: its bucket or folder does not exist",
                hint="check the name, or create it first",
            )

    def remove(self, key: str) -> None:
        """Remove a file; missing is not an error."""
        self._attempt(f"remove {key}", lambda fs, root: fs.rm_file(f"{root}/{key}"), writing=True)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; empty when there is none."""

        def look(fs: FileSystem, root: str) -> list[str]:
            fs.invalidate_cache()
            return [str(path) for path in fs.ls(f"{root}/{folder}", detail=False)]

        found = self._attempt(f"list {folder}", look) or []
        names = {path.rstrip("/").rpartition("/")[2] for path in found}
        # Object stores list a folder's own placeholder among its files.
        return sorted(name for name in names if name and name != folder.rpartition("/")[2])

    def files(self, folder: str) -> Iterator[tuple[str, str, int]]:
        """Yield (parent's name, name, length) of every file below a folder."""

        def look(fs: FileSystem, root: str) -> dict[str, dict[str, Any]]:
            fs.invalidate_cache()
            return dict(fs.find(f"{root}/{folder}", detail=True))

        for path, entry in (self._attempt(f"list {folder}", look) or {}).items():
            parts = path.rsplit("/", 2)
            if len(parts) == 3 and entry.get("size") is not None:
                yield parts[1], parts[2], int(entry["size"])

    def _attempt(
        self, doing: str, call: Callable[[FileSystem, str], _Result], *, writing: bool = False
    ) -> _Result | None:
        """Run a call on the file system; None when the file is missing."""
        try:
            return call(*self._open())
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - each file system raises its own classes
            raise self._failed(error, doing, writing=writing) from None

    def _write_and_rename(self, fs: FileSystem, root: str, key: str, body: bytes) -> None:
        self._ensure_folder(fs, f"{root}/tmp")
        temporary = f"{root}/tmp/{secrets.token_hex(16)}"
        try:
            fs.pipe_file(temporary, body)
            fs.mv(temporary, f"{root}/{key}")
        except BaseException:
            with contextlib.suppress(Exception):
                fs.rm_file(temporary)
            raise

    def _open(self) -> tuple[FileSystem, str]:
        process = os.getpid()
        connected = self._connected
        if connected is None or connected[0] != process:
            fs, root = self._connect()
            connected = self._connected = (process, fs, root.rstrip("/"))
        return connected[1], connected[2]

    def _ensure_folder(self, fs: FileSystem, path: str) -> None:
        if path not in self._folders:
            fs.makedirs(path, exist_ok=True)
            self._folders.add(path)

    def _failed(self, error: Exception, doing: str, *, writing: bool = False) -> DreamDBError:
        if isinstance(error, DreamDBError):
            return error
        reason = self._scrub(f"{type(error).__name__}: {error}")
        text = f"cannot {doing} in {self.url}: {reason}"
        hint = None
        if isinstance(error, PermissionError):
            hint = "check the credentials and what they may do"
            if self._secrets_missing:
                hint = (
                    "credentials are never pickled: give them to worker processes through the "
                    "environment or a profile"
                )
            if writing:
                return ReadOnlyError(text, hint=hint)
        transient = isinstance(error, (TimeoutError, ConnectionError)) or any(
            kind.__name__ in _TRANSIENT for kind in type(error).__mro__
        )
        return StorageError(text, hint=hint, transient=transient)

    def _scrub(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def _protocols(fs: FileSystem) -> frozenset[str]:
    """Return the protocol names of a file system, of the innermost one when it is wrapped."""
    inner = fs
    for _ in range(8):
        deeper = getattr(inner, "fs", None)
        if deeper is None or not hasattr(deeper, "cat_file"):
            break
        inner = deeper
    protocol = inner.protocol
    return frozenset([protocol] if isinstance(protocol, str) else protocol)
