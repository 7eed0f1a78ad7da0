"""An open space: its backend and the caches that all its handles share in one process.

Source: design/0004 section 1.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from dreamdb.errors import InvalidInputError, NotFoundError
from dreamdb.history import load_marks, read_partial, write_partial
from dreamdb.model import PARTIAL, Partial, check_space, new_space
from dreamdb.store import Backend, ObjectCache, PromisorBackend, check_origin, open_backend
from dreamdb.tracks import Source

__all__ = ["BackendLike", "OpenSpace", "make_space", "open_space"]

BackendLike = str | os.PathLike[str] | Backend

_ORIGIN_OPTIONS: Final = "origin_options"

_OPEN: weakref.WeakValueDictionary[tuple[Any, ...], OpenSpace] = weakref.WeakValueDictionary()
_LOCK = threading.Lock()


class OpenSpace:
    """A backend with its caches.

    Parameters
    ----------
    backend : Backend
        Both ports.
    given : str or Backend
        What to open again in another process.
    storage_options : mapping
        As given by the user; never shown.
    document : bytes
        The space's ``space.json``, checked.
    """

    def __init__(
        self,
        backend: Backend,
        given: str | Backend,
        storage_options: Mapping[str, Any],
        document: bytes,
    ) -> None:
        self.stored = backend
        self.partial = read_partial(backend, document)
        self.backend = _with_promises(backend, self.partial, storage_options)
        self.cache = ObjectCache(self.backend.objects, kept=backend.objects)
        self.cache.fields = None if self.partial is None else self.partial.fields
        load_marks(self.cache, backend, document)
        self.source = Source(self.cache)
        self.given = given
        self.storage_options = dict(storage_options)

    @property
    def url(self) -> str:
        """The canonical URL, without credentials."""
        return self.backend.url

    def kept_source(self) -> Source:
        """Return caches over what is really here: through them nothing is fetched."""
        if self.stored is self.backend:
            return self.source
        cache = ObjectCache(self.stored.objects)
        cache.documents, cache.cuts = self.cache.documents, self.cache.cuts
        cache.fields = self.cache.fields
        return Source(cache)

    def __repr__(self) -> str:
        return f"OpenSpace({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.given, self.storage_options)


def _with_promises(
    backend: Backend, partial: Partial | None, storage_options: Mapping[str, Any]
) -> Backend:
    """Return a backend that fetches what a partial space lacks; others as they are."""
    if partial is None:
        return backend
    origin, options = partial.origin, storage_options.get(_ORIGIN_OPTIONS)

    def open_origin() -> Backend:
        return open_backend(check_origin(origin), storage_options=options)

    return PromisorBackend(backend, open_origin, origin)


def _reopen(given: str | Backend, storage_options: Mapping[str, Any]) -> OpenSpace:
    try:
        return open_space(given, storage_options=storage_options)
    except NotFoundError as error:
        if not str(given).startswith("memory:"):
            raise
        raise NotFoundError(
            f"{error}: memory spaces do not cross processes",
            hint="use a directory, such as backend='./data'",
            **error.details,
        ) from None


_Key: TypeAlias = tuple[Any, ...]


def _locate(
    backend: BackendLike, options: Mapping[str, Any]
) -> tuple[Backend, str | Backend, _Key]:
    """Return a backend, what to open again in another process, and the key of the open space."""
    if isinstance(backend, (str, os.PathLike)):
        own = {name: value for name, value in options.items() if name != _ORIGIN_OPTIONS}
        opened = open_backend(backend, storage_options=own)
        return opened, opened.url, (opened.url, os.getpid(), repr(sorted(options.items())))
    if not isinstance(backend, Backend):
        raise InvalidInputError(
            f"a backend is a URL, a path or a Backend, not a {type(backend).__name__}"
        )
    return backend, backend, (id(backend), os.getpid())


def make_space(
    backend: BackendLike,
    partial: Partial | None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> OpenSpace:
    """Open a space that will be filled from another one, after making it if there is none.

    Parameters
    ----------
    backend : str, PathLike or Backend
        See :func:`dreamdb.connect`.
    partial : Partial or None
        Which fields a new one will keep; None: all.  One that is there stays what it is.
    storage_options : mapping, optional
        As for :func:`open_space`.

    Notes
    -----
    Cost: 1 read and 1 write of ``space.json``, 1 document more for a partial one.
    """
    options = dict(storage_options or {})
    opened, _, key = _locate(backend, options)
    document = opened.read_space()
    if document is None and partial is not None:
        # First what it keeps, then the space: one that is there always says what it is.
        write_partial(opened, partial)
        opened.create_space(new_space(PARTIAL))
    if document is not None:
        check_space(document, opened.url)
    kept = None if document is None else read_partial(opened, document)
    with _LOCK:
        known = _OPEN.get(key)
        if known is not None and (document is None or kept != known.partial):
            # The space was removed while a handle on it lives; a new one may be another kind.
            del _OPEN[key]
    return open_space(backend, storage_options=options, create=True)


def open_space(
    backend: BackendLike,
    *,
    storage_options: Mapping[str, Any] | None = None,
    create: bool = False,
) -> OpenSpace:
    """Open the space at a URL.

    Parameters
    ----------
    backend : str, PathLike or Backend
        See :func:`dreamdb.connect`.
    storage_options : mapping, optional
        Credentials and settings of the file system; ``origin_options`` are those of the space
        that a partial clone fetches from.
    create : bool
        Make the space when there is none.

    Raises
    ------
    NotFoundError
        When there is no space and ``create`` is false.
    UnsupportedFormatError
        When a newer version made it.

    Notes
    -----
    Cost: 1 read of ``space.json`` per process; 1 document more when the history was cut, and for
    a partial clone.
    """
    options = dict(storage_options or {})
    opened, given, key = _locate(backend, options)
    with _LOCK:
        known = _OPEN.get(key)
    if known is not None and (isinstance(backend, (str, os.PathLike)) or known.given is backend):
        return known
    document = opened.read_space()
    if document is None:
        if not create:
            raise NotFoundError(
                f"there is no space at {opened.url}",
                hint="check the URL, or make one: dreamdb init <url>, or Dataset.create(...)",
                url=opened.url,
            )
        opened.create_space(new_space())
        document = opened.read_space()
        if document is None:
            raise NotFoundError(f"the space at {opened.url} vanished while it was made")
    check_space(document, opened.url)
    space = OpenSpace(opened, given, options, document)
    with _LOCK:
        return _OPEN.setdefault(key, space)
