"""From a URL to a backend.

Source: design/0004 section 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from dreamdb.errors import InvalidInputError
from dreamdb.store.local import LocalBackend
from dreamdb.store.memory import MemoryBackend
from dreamdb.store.ports import Backend

__all__ = ["open_backend"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z0-9+.-]+)*://")
_FORMS = (
    "a path, file:///abs, memory://name, s3://bucket/prefix, "
    "http(s)://host:port/bucket/prefix or another fsspec URL"
)


def open_backend(
    url: str | os.PathLike[str], *, storage_options: Mapping[str, object] | None = None
) -> Backend:
    """Return the backend that a URL names.  Opens nothing and asks no server.

    Parameters
    ----------
    url : str or os.PathLike
        A plain path, ``file:///abs``, ``memory://name``, ``s3://bucket/prefix``,
        ``http(s)://host:port/bucket[/prefix]`` (an S3-compatible endpoint), or any other URL
        that fsspec knows.
    storage_options : mapping, optional
        ``single_writer`` (bool): the user promises that one process writes, for storage that
        cannot compare-and-swap or lock.  Remote storage: also the arguments of its fsspec file
        system, credentials among them.  They never appear in a URL, a repr, an error or a pickle.

    Raises
    ------
    InvalidInputError
        When the URL is empty, of an unknown protocol, holds credentials, or names a file.
    MissingDependencyError
        When the protocol needs a package that is not installed.
    """
    options = dict(storage_options or {})
    if not isinstance(url, (str, os.PathLike)):
        raise InvalidInputError(
            f"a backend is text or a path, not a {type(url).__name__}", hint=f"give {_FORMS}"
        )
    text = os.fspath(url)
    if not isinstance(text, str):
        raise InvalidInputError("a backend's path is text, not bytes")
    if not text.strip():
        raise InvalidInputError("the backend's URL is empty", hint=f"give {_FORMS}")
    if "\0" in text:
        raise InvalidInputError("the backend's URL holds a zero byte")
    if isinstance(url, os.PathLike) or not _SCHEME.match(text):
        return _local(text, options)
    protocol = text.split(":", 1)[0].lower()
    if protocol in ("file", "local"):
        return _local(_path_of(text), options)
    if protocol == "memory":
        _only(options, (), "a memory space")
        return MemoryBackend(unquote(text[len("memory://") :]))
    from dreamdb.store.fsspec_store import open_remote

    return open_remote(text, options)


def _local(path: str, options: dict[str, object]) -> LocalBackend:
    _only(options, ("single_writer",), "a directory")
    return LocalBackend(path, single_writer=bool(options.get("single_writer", False)))


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise InvalidInputError(
            f"a file URL has three slashes; this one names the host {parts.hostname!r}",
            hint="write file:///absolute/path, or a plain path",
        )
    # '?' and '#' are legal in file names; only the percent escapes are the URL's own.
    path = unquote(url.split("://", 1)[1][len(parts.netloc) :])
    if not path:
        raise InvalidInputError("the file URL has no path", hint="write file:///absolute/path")
    if os.name == "nt" and re.match(r"/[A-Za-z]:", path):
        path = path[1:]
    return path


def _only(options: Mapping[str, object], known: tuple[str, ...], what: str) -> None:
    unknown = sorted(set(options) - set(known))
    if unknown:
        listed = ", ".join(known) or "none"
        raise InvalidInputError(
            f"{what} has no storage option {unknown[0]!r}", hint=f"known options: {listed}"
        )
