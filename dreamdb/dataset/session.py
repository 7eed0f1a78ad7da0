"""An open space: its backend and the caches that all its handles share in one process.

Source: design/0004 section 1.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any, Final

from dreamdb.errors import InvalidInputError, NotFoundError
from dreamdb.model import SpaceDocument
from dreamdb.store import Backend, ObjectCache, PromisorBackend, check_origin, open_backend
from dreamdb.tracks import Source

__all__ = ["BackendLike", "OpenSpace", "open_space"]

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
    document : SpaceDocument
        What ``space.json`` says.
    """

    def __init__(
        self,
        backend: Backend,
        given: str | Backend,
        storage_options: Mapping[str, Any],
        document: SpaceDocument,
    ) -> None:
        self.document = document
        self.stored = backend
        self.backend = _with_promises(backend, document, storage_options)
        self.cache = ObjectCache(self.backend.objects, cuts=document.cuts, fields=document.fields)
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
        told = self.document
        return Source(ObjectCache(self.stored.objects, cuts=told.cuts, fields=told.fields))

    def __repr__(self) -> str:
        return f"OpenSpace({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.given, self.storage_options)


def _with_promises(
    backend: Backend, document: SpaceDocument, storage_options: Mapping[str, Any]
) -> Backend:
    """Return a backend that fetches what a partial space lacks; others as they are."""
    origin, options = document.origin, storage_options.get(_ORIGIN_OPTIONS)
    if origin is None:
        return backend

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


def _has_changed(space: OpenSpace) -> bool:
    document = space.stored.read_space()
    return document is None or SpaceDocument.decode(document, space.url) != space.document


def open_space(
    backend: BackendLike,
    *,
    storage_options: Mapping[str, Any] | None = None,
    create: bool | SpaceDocument = False,
) -> OpenSpace:
    """Open the space at a URL.

    Parameters
    ----------
    backend : str, PathLike or Backend
        See :func:`dreamdb.connect`.
    storage_options : mapping, optional
        Credentials and settings of the file system; ``origin_options`` are those of the space
        that a partial clone fetches from.
    create : bool or SpaceDocument
        Make the space when there is none, and what it will say about itself.

    Raises
    ------
    NotFoundError
        When there is no space and ``create`` is false.
    UnsupportedFormatError
        When a newer version made it.

    Notes
    -----
    Cost: 1 read of ``space.json`` per process.
    """
    options = dict(storage_options or {})
    if isinstance(backend, (str, os.PathLike)):
        own = {name: value for name, value in options.items() if name != _ORIGIN_OPTIONS}
        opened = open_backend(backend, storage_options=own)
        given: str | Backend = opened.url
        key: tuple[Any, ...] = (opened.url, os.getpid(), repr(sorted(options.items())))
    elif not isinstance(backend, Backend):
        raise InvalidInputError(
            f"a backend is a URL, a path or a Backend, not a {type(backend).__name__}"
        )
    else:
        opened = given = backend
        key = (id(backend), os.getpid())
    with _LOCK:
        known = _OPEN.get(key)
        if known is not None and isinstance(create, SpaceDocument) and _has_changed(known):
            # The space was removed while a handle on it lives; a new one may be another kind.
            del _OPEN[key]
            known = None
    if known is not None and (isinstance(backend, (str, os.PathLike)) or known.given is backend):
        return known
    document = opened.read_space()
    if document is None:
        if create is False:
            raise NotFoundError(
                f"there is no space at {opened.url}",
                hint="check the URL, or make one: dreamdb init <url>, or Dataset.create(...)",
                url=opened.url,
            )
        opened.create_space((SpaceDocument() if create is True else create).encode())
        document = opened.read_space()
        if document is None:
            raise NotFoundError(f"the space at {opened.url} vanished while it was made")
    space = OpenSpace(opened, given, options, SpaceDocument.decode(document, opened.url))
    with _LOCK:
        return _OPEN.setdefault(key, space)
