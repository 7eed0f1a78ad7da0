"""A space that keeps a part of its objects, and fetches the others from where they are promised.

Source: design/0010 section 6.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

from dreamdb.errors import (
    IntegrityError,
    InvalidInputError,
    ObjectMissingError,
    ReadOnlyError,
    StorageError,
)
from dreamdb.objects import copy_sealed, to_text
from dreamdb.store.ports import Backend, ObjectStore, RefStore, Upload
from dreamdb.types import Address

__all__ = ["PromisedObjects", "PromisorBackend", "check_origin", "kept_objects"]

_LOG = logging.getLogger(__name__)
_STRIPES: Final = 32
_PROTOCOLS: Final = frozenset(
    {"file", "memory", "s3", "s3a", "http", "https", "gs", "gcs", "az", "abfs", "abfss"}
)


def check_origin(url: str) -> str:
    """Return a URL that a space may name as the place of what it lacks.

    A space is data from anyone, and reading it follows this URL: other protocols, and chains of
    them, could make a file system do more than read.

    Raises
    ------
    InvalidInputError
        When its protocol is not one of a few plain ones.
    """
    protocol = url.partition("://")[0]
    if "://" not in url or protocol not in _PROTOCOLS:
        raise InvalidInputError(
            f"a space cannot fetch what it lacks from {url!r}",
            hint=f"it follows URLs of these protocols: {', '.join(sorted(_PROTOCOLS))}",
        )
    return url


class PromisorBackend:
    """A backend whose missing objects are fetched from another space when they are read.

    What is fetched is verified and kept.  Refs, logs and writes are the inner backend's.

    Parameters
    ----------
    inner : Backend
        The space itself.
    origin : callable
        Opens the space that has promised the rest; called when the first object is missing.
    origin_url : str
        Where that is, for messages.
    """

    def __init__(self, inner: Backend, origin: Callable[[], Backend], origin_url: str) -> None:
        self.inner = inner
        self.origin_url = origin_url
        self._open_origin = origin
        self.objects: ObjectStore = PromisedObjects(inner.objects, origin, origin_url)
        self.refs: RefStore = inner.refs

    @property
    def url(self) -> str:
        """URL of the space itself."""
        return self.inner.url

    def read_space(self) -> bytes | None:
        """Return the bytes of the space's own document."""
        return self.inner.read_space()

    def create_space(self, document: bytes) -> bool:
        """Write the space's own document unless there is one."""
        return self.inner.create_space(document)

    def __getattr__(self, name: str) -> Any:
        """Return what else the inner backend offers, such as a directory's path."""
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def read_origin(self) -> bytes | None:
        """Return the document of the space that has promised the rest, or None when it is gone.

        Raises
        ------
        StorageError
            When it cannot be reached.
        """
        return self._open_origin().read_space()


def kept_objects(backend: Backend) -> ObjectStore:
    """Return the objects that a space really has: nothing is fetched through this port."""
    return backend.inner.objects if isinstance(backend, PromisorBackend) else backend.objects


class PromisedObjects:
    """The object port of a :class:`PromisorBackend`.

    Parameters
    ----------
    inner : ObjectStore
        What is kept.
    origin : callable
        Opens the space that has the rest.
    origin_url : str
        For messages.
    """

    def __init__(self, inner: ObjectStore, origin: Callable[[], Backend], origin_url: str) -> None:
        self._inner = inner
        self._open_origin = origin
        self._origin_url = origin_url
        self._origin: ObjectStore | None = None
        self._opening = threading.Lock()
        self._locks = [threading.Lock() for _ in range(_STRIPES)]

    def upload(self) -> Upload:
        """Begin an upload into the space itself."""
        return self._inner.upload()

    def open(self, address: Address) -> memoryview:
        """Return a whole stored object; one that is not kept is fetched, verified and kept.

        Raises
        ------
        ObjectMissingError
            When the origin has not got it either.
        IntegrityError
            When the origin's copy is damaged; nothing is kept.
        StorageError
            When the origin cannot be reached.
        """
        try:
            return self._inner.open(address)
        except ObjectMissingError:
            pass
        with self._locks[address[-1] % _STRIPES]:
            try:
                return self._inner.open(address)
            except ObjectMissingError:
                return self._fetch(address)

    def read(self, address: Address, start: int, stop: int) -> memoryview:
        """Return stored bytes ``[start, stop)``; an object that is not kept is fetched whole."""
        try:
            return self._inner.read(address, start, stop)
        except ObjectMissingError:
            if start < 0:
                raise InvalidInputError(f"a range cannot start at {start}") from None
            return self.open(address)[start : max(start, stop)]

    def size(self, address: Address) -> int | None:
        """Return the stored length here, else at the origin; None when neither has it."""
        found = self._inner.size(address)
        return self._at_origin().size(address) if found is None else found

    def list(self) -> Iterator[tuple[Address, int]]:
        """Yield every object that is kept here."""
        return self._inner.list()

    def delete(self, address: Address) -> None:
        """Remove an object that is kept here."""
        self._inner.delete(address)

    def hold(self) -> AbstractContextManager[None]:
        """Keep the collector away while a commit runs."""
        return self._inner.hold()

    def hold_exclusive(self) -> AbstractContextManager[None]:
        """Keep every commit away while the collector deletes."""
        return self._inner.hold_exclusive()

    def _at_origin(self) -> ObjectStore:
        with self._opening:
            if self._origin is None:
                self._origin = self._open_origin().objects
            return self._origin

    def _fetch(self, address: Address) -> memoryview:
        name = to_text(address)
        try:
            stored = self._at_origin().open(address)
            _, sealed = copy_sealed(address, stored, None)
        except ObjectMissingError:
            raise ObjectMissingError(
                f"object {name} is neither here nor in {self._origin_url}, which promised it",
                hint="fetch it from a space that has it: dreamdb verify --repair-from URL",
                object=name,
            ) from None
        except IntegrityError as error:
            error.add_note(f"read from {self._origin_url}; nothing was kept of it")
            raise
        upload = self._inner.upload()
        try:
            upload.put(sealed)
            upload.finish()
            return self._inner.open(address)
        except (StorageError, ReadOnlyError, ObjectMissingError) as error:
            # Reading goes on without keeping: the disk is full, or the space read-only.
            upload.abort()
            _LOG.warning("object %s was fetched but could not be kept: %s", name, error)
            return memoryview(sealed.to_bytes())
