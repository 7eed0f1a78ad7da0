"""Objects that are open in this process, bounded in number and in bytes.

Source: design/0002 section 3.4 (verified once per page and process), design/0006 section 1.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar, cast

from dreamdb import config
from dreamdb.errors import FormatError, IntegrityError, StorageError
from dreamdb.objects import Kind, OpenedObject, to_text
from dreamdb.store.local_files import is_out_of_descriptors
from dreamdb.store.ports import DocumentStore, ObjectStore
from dreamdb.types import Address, Bytes

__all__ = ["DEFAULT_CACHE_NBYTES", "CacheCounters", "ObjectCache"]

Parsed = TypeVar("Parsed")
DEFAULT_CACHE_NBYTES: Final = 256 << 20
_CACHES: weakref.WeakSet[ObjectCache] = weakref.WeakSet()


@dataclass(slots=True)
class CacheCounters:
    """What a cache has done since it was made.

    Parameters
    ----------
    hits, misses : int
        Look-ups answered from the cache, and those that opened the object.
    evictions : int
        Objects dropped to stay within the bounds.
    stored_nbytes : int
        Bytes of the stored objects that were opened.
    """

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    stored_nbytes: int = 0


class _KnownObject(OpenedObject):
    """A payload that this process has hashed itself: nothing is left to verify."""

    __slots__ = ()

    def __init__(self, address: Address, kind: Kind, payload: bytes) -> None:
        self.address = address
        self.kind = kind
        self.payload = memoryview(payload)
        self.nbytes = self.stored_nbytes = len(payload)
        self._hashes = None
        self._seen = bytearray()
        self._pending = 0


class _Entry:
    __slots__ = ("kind", "mapped", "nbytes", "opened", "parsed")

    def __init__(self, kind: Kind, opened: OpenedObject, *, mapped: bool) -> None:
        self.kind = kind
        self.opened = opened
        self.mapped = mapped
        self.nbytes = 0 if mapped else opened.nbytes
        self.parsed: object = None


class ObjectCache:
    """Opens objects of one store and keeps the most recently used.

    Safe for threads, and in a forked child, which goes on with its copy.  An evicted object stays
    usable for whoever still holds it.

    Parameters
    ----------
    store : ObjectStore
        Where objects come from.
    max_objects : int, optional
        Entries kept; default ``DREAMDB_OPEN_OBJECTS``.
    max_nbytes : int
        Bytes of payloads kept in memory: decompressed, downloaded or just written.  Mapped
        payloads are the system's page cache and do not count.
    kept : ObjectStore, optional
        Where all but nodes and fragments come from: a partial clone has them itself, and what it
        lacks of them was cut away, redacted, or is derived.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        max_objects: int | None = None,
        max_nbytes: int = DEFAULT_CACHE_NBYTES,
        kept: ObjectStore | None = None,
    ) -> None:
        self._store = store
        self._kept = store if kept is None else kept
        # What is said about the space beside its objects; `dreamdb.history` keeps it.
        self.documents: DocumentStore | None = None
        self.cuts: Mapping[Address, tuple[Address, ...]] = {}
        # The fields whose values are here; None: all.
        self.fields: frozenset[str] | None = None
        self._max_objects = config.open_objects() if max_objects is None else max(1, max_objects)
        self._max_mapped = min(self._max_objects, _descriptor_budget())
        self._max_nbytes = max_nbytes
        self._entries: OrderedDict[Address, _Entry] = OrderedDict()
        self._nbytes = 0
        # Mapped entries alone, in the same order: their bound must not cost a search.
        self._maps: OrderedDict[Address, None] = OrderedDict()
        self._counters = CacheCounters()
        self._lock = threading.Lock()
        _CACHES.add(self)

    @property
    def counters(self) -> CacheCounters:
        """A copy of the counters."""
        with self._lock:
            return replace(self._counters)

    @property
    def max_mapped(self) -> int:
        """How many objects may be mapped at a time."""
        return min(self._max_objects, self._max_mapped)

    @property
    def nbytes(self) -> int:
        """Bytes of payloads held in memory."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._entries)

    def open(self, address: Address, kind: Kind | None) -> OpenedObject:
        """Return an opened object; small and compressed ones are verified, others by range.

        Parameters
        ----------
        address : Address
            The object's name.
        kind : Kind or None
            What it must be; None accepts any kind.

        Raises
        ------
        ObjectMissingError
            When the store does not have it.
        HashMismatchError, FormatError
            When the stored bytes are not that object.

        Notes
        -----
        Cost: 1 object read when it is not cached, none afterwards.
        """
        return self._entry(address, kind).opened

    def parsed(self, address: Address, kind: Kind, parse: Callable[[memoryview], Parsed]) -> Parsed:
        """Return what a parser makes of an object's payload; parsed once while it is cached.

        The same value is returned each time: read it, never change it.

        Parameters
        ----------
        address, kind
            As in :meth:`open`.
        parse : callable
            From the verified payload; the same one for all objects of this kind.
        """
        entry = self._entry(address, kind)
        if entry.parsed is None:
            try:
                value = parse(entry.opened.view())
            except IntegrityError as error:
                error.details.setdefault("object", to_text(address))
                raise
            with self._lock:
                entry.parsed = value
                if self._entries.get(address) is entry:
                    # A parsed document takes a few times its text; count it once more.
                    entry.nbytes += entry.opened.nbytes
                    self._nbytes += entry.opened.nbytes
                    self._evict()
            return value
        return cast("Parsed", entry.parsed)

    def put_known(self, address: Address, kind: Kind, payload: Bytes) -> None:
        """Remember a payload that this process has just sealed under this address.

        Parameters
        ----------
        address : Address
            Computed from the payload by the caller: it is not hashed again.
        kind : Kind
            What it is.
        payload : bytes-like
            Copied unless it is ``bytes``.
        """
        known = _KnownObject(
            address, kind, payload if isinstance(payload, bytes) else bytes(payload)
        )
        self._insert(address, _Entry(kind, known, mapped=False))

    def adopt(self, address: Address, stored: bytes) -> OpenedObject:
        """Open an object that a ref carried here, and keep it like any other.

        Parameters
        ----------
        address : Address
            What the ref names.
        stored : bytes
            The whole stored object.

        Raises
        ------
        HashMismatchError, FormatError
            When the stored bytes are not that object.
        """
        with self._lock:
            entry = self._entries.get(address)
        if entry is None:
            opened = OpenedObject(address, memoryview(stored), None)
            entry = self._insert(address, _Entry(opened.kind, opened, mapped=False))
        return entry.opened

    def forget(self, address: Address) -> None:
        """Drop an object, such as one that turned out to be damaged."""
        with self._lock:
            self._remove(address)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._entries.clear()
            self._maps.clear()
            self._nbytes = 0

    def _entry(self, address: Address, kind: Kind | None) -> _Entry:
        with self._lock:
            entry = self._entries.get(address)
            if entry is not None:
                self._entries.move_to_end(address)
                if entry.mapped:
                    self._maps.move_to_end(address)
                self._counters.hits += 1
            else:
                self._counters.misses += 1
        if entry is None:
            return self._load(address, kind)
        if kind is not None and entry.kind is not kind:
            name = to_text(address)
            raise FormatError(
                f"object {name} is a {entry.kind.name.lower()}, not a {kind.name.lower()}",
                object=name,
            )
        return entry

    def _load(self, address: Address, kind: Kind | None) -> _Entry:
        store = self._store if kind in (Kind.NODE, Kind.FRAGMENT) else self._kept
        try:
            stored = store.open(address)
        except StorageError as error:
            if not is_out_of_descriptors(error):
                raise
            self._give_back_descriptors()
            stored = store.open(address)
        opened = OpenedObject(address, stored, kind)
        mapped = isinstance(opened.payload.obj, mmap.mmap)
        with self._lock:
            self._counters.stored_nbytes += opened.stored_nbytes
        return self._insert(address, _Entry(opened.kind, opened, mapped=mapped))

    def _insert(self, address: Address, entry: _Entry) -> _Entry:
        with self._lock:
            present = self._entries.get(address)
            if present is not None and present.kind is entry.kind:
                # Another thread was faster; what it has verified counts for all.
                return present
            self._remove(address)
            self._entries[address] = entry
            self._nbytes += entry.nbytes
            if entry.mapped:
                self._maps[address] = None
            self._evict()
        return entry

    def _remove(self, address: Address) -> None:
        entry = self._entries.pop(address, None)
        if entry is not None:
            self._nbytes -= entry.nbytes
            if entry.mapped:
                self._maps.pop(address, None)

    def _evict(self) -> None:
        """Drop the least recently used until all bounds hold.  The lock is held."""
        while len(self._maps) > self._max_mapped:
            self._remove(next(iter(self._maps)))
            self._counters.evictions += 1
        while self._entries and (
            len(self._entries) > self._max_objects or self._nbytes > self._max_nbytes
        ):
            self._remove(next(iter(self._entries)))
            self._counters.evictions += 1

    def _give_back_descriptors(self) -> None:
        """Drop the older half of the maps: the process is out of file descriptors."""
        with self._lock:
            self._max_mapped = max(16, min(self._max_mapped, len(self._maps) // 2))
            self._evict()

    def _renew(self) -> None:
        """Make the copy in a forked child usable, whatever another thread was doing."""
        self._lock = threading.Lock()
        self._nbytes = sum(entry.nbytes for entry in self._entries.values())
        self._maps = OrderedDict(
            (address, None) for address, entry in self._entries.items() if entry.mapped
        )


def _descriptor_budget() -> int:
    """Return how many maps may be kept: each keeps a descriptor before Python 3.13."""
    if sys.version_info >= (3, 13) or sys.platform == "win32":
        return sys.maxsize
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Half is left for everybody else in the process.
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(16, soft // 2)


def _renew_after_fork() -> None:
    for cache in list(_CACHES):
        cache._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)
