"""The two ports: an object store and a ref store.  Everything physical is behind them.

Source: design/0001 section 2, design/0005.  A backend implements both; the contract suite in
:mod:`dreamdb.testing` states what an implementation must do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from dreamdb.objects import SealedObject
from dreamdb.types import Address

__all__ = ["Backend", "LogEntries", "LogEntry", "ObjectStore", "RefStore", "RefValue", "Upload"]


@dataclass(frozen=True, slots=True)
class RefValue:
    """What a ref held when it was read.

    Parameters
    ----------
    address : Address
        The body: 33 bytes.
    token : object
        Opaque version of the body, given back to :meth:`RefStore.swap`.
    """

    address: Address
    token: object = None


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
    """Mutable names of 33-byte values, moved by compare-and-swap only."""

    def read(self, name: str) -> RefValue | None:
        """Return the value of a ref, or None when there is none."""
        ...

    def swap(self, name: str, expected: RefValue | None, new: Address | None) -> RefValue | None:
        """Move a ref if it still holds what is expected, durably.

        Parameters
        ----------
        name : str
            A valid ref name.
        expected : RefValue or None
            What :meth:`read` returned; None to create.
        new : Address or None
            The new value; None to delete.

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

    def list(self) -> Iterator[tuple[str, Address]]:
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

    def replace_space(self, expected: bytes, document: bytes) -> bool:
        """Replace ``space.json`` if it still is what is expected; return whether it was."""
        ...
