"""The two ports: an object store and a ref store.  Everything physical is behind them.

Source: design/0001 section 2, design/0005.  A backend implements both; the contract suite in
:mod:`dreamdb.testing` states what an implementation must do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, cast, runtime_checkable

from dreamdb.errors import StorageError
from dreamdb.objects import SealedObject
from dreamdb.types import Address

__all__ = [
    "Backend",
    "DocumentStore",
    "LogEntries",
    "LogEntry",
    "ObjectStore",
    "RefStore",
    "RefValue",
    "StampedObjects",
    "StoredDocument",
    "Trash",
    "TrashedObject",
    "Upload",
    "documents_of",
    "trash_of",
]


@dataclass(frozen=True, slots=True)
class RefValue:
    """What a ref held when it was read.

    Parameters
    ----------
    address : Address
        The value: 33 bytes.
    token : object
        Opaque version of the body, given back to :meth:`RefStore.swap`.
    carried : bytes or None
        The stored object of that address, verified, where the ref carries it.
    """

    address: Address
    token: object = field(default=None, compare=False)
    carried: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a reflog, written before the move it records.

    Parameters
    ----------
    time_ns : int
        Nanoseconds since the epoch.
    old, new : Address or None
        Value before and after; None where the ref did not exist.
    who : str
        Author of the move.
    why : str
        What moved it, such as ``"delete"``.
    """

    time_ns: int
    old: Address | None
    new: Address | None
    who: str
    why: str


LogEntries: TypeAlias = list[LogEntry]
"""Entries of one reflog, oldest first."""


@runtime_checkable
class Upload(Protocol):
    """Objects of one commit on their way into the store.

    Nothing is promised before :meth:`finish` returns.  ``put`` may be called from several threads.
    Once a ``put`` has failed the upload is lost as a whole: abort it and begin again.  Put children
    before their parents; names appear in that order where the backend has an order.
    """

    def put(self, sealed: SealedObject) -> bool:
        """Store one object unless the store has it; return whether it was new.

        Raises
        ------
        StorageError, ReadOnlyError
            When it cannot be written; nothing was published.
        """
        ...

    def finish(self) -> None:
        """Return once every object given to :meth:`put` is durable, those already there too.

        Raises
        ------
        StorageError, ReadOnlyError
            When one is not; nothing refers to those that are.
        """
        ...

    def abort(self) -> None:
        """Drop what is not in place yet.  Idempotent; a no-op after :meth:`finish`."""
        ...


@runtime_checkable
class ObjectStore(Protocol):
    """Immutable objects by address.  No method ever changes an object in place."""

    def upload(self) -> Upload:
        """Begin an upload; many may run side by side, in this and in other processes."""
        ...

    def open(self, address: Address) -> memoryview:
        """Return a whole stored object, unverified; mapped where the backend can.

        Raises
        ------
        ObjectMissingError
            When it is not there.
        StorageError
            When it cannot be read.
        """
        ...

    def read(self, address: Address, start: int, stop: int) -> memoryview:
        """Return stored bytes ``[start, stop)``, clipped to the object's end.

        Raises
        ------
        ObjectMissingError
            When the object is not there.
        InvalidInputError
            When ``start`` is negative.
        """
        ...

    def size(self, address: Address) -> int | None:
        """Return the stored length in bytes, or None when the object is missing."""
        ...

    def list(self) -> Iterator[tuple[Address, int]]:
        """Yield every object and its stored length, in no order."""
        ...

    def delete(self, address: Address) -> None:
        """Remove an object; missing is not an error.  Only the collector calls this."""
        ...

    def hold(self) -> AbstractContextManager[None]:
        """Keep the collector away while a commit runs (shared; re-entrant within a thread)."""
        ...

    def hold_exclusive(self) -> AbstractContextManager[None]:
        """Keep every commit away while the collector deletes (exclusive; :meth:`hold` nests)."""
        ...


@runtime_checkable
class RefStore(Protocol):
    """Mutable names of 33-byte values, moved by compare-and-swap only.

    A ref may carry the object that it names: a snapshot is then one file, or one request.
    """

    def read(self, name: str) -> RefValue | None:
        """Return the value of a ref, or None when there is none."""
        ...

    def swap(
        self,
        name: str,
        expected: RefValue | None,
        new: Address | None,
        carried: bytes | None = None,
    ) -> RefValue | None:
        """Move a ref if it still holds what is expected, durably.

        Parameters
        ----------
        name : str
            A valid ref name.
        expected : RefValue or None
            What :meth:`read` returned; None to create.
        new : Address or None
            The new value; None to delete.
        carried : bytes, optional
            The stored object of that address, of at most ``MAX_CARRIED`` bytes, kept with it.

        Returns
        -------
        RefValue or None
            The value now stored, None after a deletion.

        Raises
        ------
        RefConflictError
            When the ref holds another value; nothing was changed.  ``details``: ``expected`` and
            ``actual``, addresses or None.
        StorageError
            When the storage failed.  With ``details["outcome"] == "unknown"`` the move may have
            been applied: read the ref before doing anything else.
        """
        ...

    def list(self) -> Iterator[tuple[str, RefValue]]:
        """Yield every ref and its value, sorted by name."""
        ...

    def append_log(self, name: str, entry: LogEntry) -> None:
        """Add one durable line to a ref's log.  Logs outlive their refs."""
        ...

    def read_log(self, name: str) -> LogEntries:
        """Return a ref's log, oldest first; empty when there is none."""
        ...

    def logs(self) -> Iterator[str]:
        """Yield the names that have a log, sorted."""
        ...


@runtime_checkable
class Backend(Protocol):
    """One space's storage: both ports, and the small document that describes the space."""

    @property
    def url(self) -> str:
        """Canonical URL without credentials; equal URLs name the same space."""
        ...

    @property
    def objects(self) -> ObjectStore:
        """The object port."""
        ...

    @property
    def refs(self) -> RefStore:
        """The ref port."""
        ...

    def read_space(self) -> bytes | None:
        """Return the bytes of ``space.json``, or None when there is no space here."""
        ...

    def create_space(self, document: bytes) -> bool:
        """Write ``space.json`` unless there is one; return whether this call wrote it."""
        ...


@runtime_checkable
class StampedObjects(ObjectStore, Protocol):
    """An object store that tells two uploads of one object apart: what leases need.

    A stamp is anything that differs between uploads: the nonce of the envelope, or the version
    that the server compares.
    """

    def stamp(self, address: Address) -> bytes | None:
        """Return the stamp of an object, or None when it is missing."""
        ...

    def delete_stamped(self, address: Address, stamp: bytes) -> bool:
        """Remove an object in one step if it still carries a stamp; return whether it did."""
        ...

    def replace(self, sealed: SealedObject) -> None:
        """Store one object durably even if the store has it, with a stamp of its own."""
        ...


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """What a key of a document store held when it was read.

    Parameters
    ----------
    body : bytes
        The document.
    token : object
        Opaque version of the body, given back to :meth:`DocumentStore.swap`.
    """

    body: bytes
    token: object = None


@runtime_checkable
class DocumentStore(Protocol):
    """Small documents beside the objects, by key, moved by compare-and-swap only.

    ``space.json``, the list of cuts, redactions, leases and the condemned list live here: what is
    said about a space and may change.  A backend offers one as its attribute ``documents``;
    :func:`documents_of` finds it.
    """

    def read(self, key: str) -> StoredDocument | None:
        """Return a document, or None when there is none."""
        ...

    def swap(
        self, key: str, expected: StoredDocument | None, new: bytes | None
    ) -> StoredDocument | None:
        """Replace a document if it still is what is expected, durably.

        Parameters
        ----------
        key : str
            Which one.
        expected : StoredDocument or None
            What :meth:`read` returned; None to create.
        new : bytes or None
            The new body; None to remove.

        Raises
        ------
        RefConflictError
            When the document is another one; nothing was changed.
        StorageError
            When the storage failed.
        """
        ...

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names below a folder, sorted."""
        ...


@dataclass(frozen=True, slots=True)
class TrashedObject:
    """One object in the trash.

    Parameters
    ----------
    address : Address
        Its name.
    nbytes : int
        Stored length.
    time_ns : int
        When it was thrown away, nanoseconds since the epoch.
    """

    address: Address
    nbytes: int
    time_ns: int


@runtime_checkable
class Trash(Protocol):
    """Where a collector puts objects for a while; a backend may offer one as ``trash``.

    Only the collector calls it, while it holds the space alone.
    """

    def throw(self, address: Address, time_ns: int) -> None:
        """Move an object from the store to the trash; missing is not an error."""
        ...

    def flush(self) -> None:
        """Return once all moves so far are durable."""
        ...

    def list(self) -> Iterator[TrashedObject]:
        """Yield what lies in the trash, in no order."""
        ...

    def open(self, address: Address) -> memoryview:
        """Return a whole stored object from the trash, unverified."""
        ...

    def restore(self, address: Address) -> None:
        """Move an object back into the store; one that is there again is left alone."""
        ...

    def remove(self, address: Address) -> None:
        """Delete an object from the trash for good; missing is not an error."""
        ...


def documents_of(backend: Backend) -> DocumentStore:
    """Return the document store of a backend.

    Raises
    ------
    StorageError
        When the backend has none.
    """
    found = getattr(backend, "documents", None)
    if found is None:
        raise StorageError(
            f"{backend.url} keeps no documents beside its objects",
            hint="its backend lacks the attribute `documents`: see dreamdb.store.DocumentStore",
        )
    return cast(DocumentStore, found)


def trash_of(backend: Backend) -> Trash | None:
    """Return the trash of a backend, or None when deletion is final there."""
    return cast("Trash | None", getattr(backend, "trash", None))
