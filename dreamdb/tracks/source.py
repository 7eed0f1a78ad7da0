"""Where reads come from: verified objects, decoded nodes and decoded fragments of one space.

Source: design/0001 section 3.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import DecodedFragment, decode
from dreamdb.config import num_threads
from dreamdb.errors import IntegrityError
from dreamdb.history import resolve_content
from dreamdb.model import Content, Cuts, Node, track_cuts
from dreamdb.objects import PAGE_SIZE, Kind, OpenedObject, num_pages, to_text
from dreamdb.store import ObjectCache
from dreamdb.types import Address, FieldType

__all__ = ["Fragment", "Source"]

_MAX_NODES: Final = 8_192
_MAX_CUTS: Final = 8
ReadKeys: TypeAlias = Callable[[], npt.NDArray[np.uint64]]
_FragmentKey: TypeAlias = tuple[Address, int, str]
_MAX_DECODED: Final = 48 << 20
_MAX_FRAGMENTS: Final = 16_384
_SOURCES: weakref.WeakSet[Source] = weakref.WeakSet()


def _renew_all() -> None:
    # A fork may happen while another thread holds a lock; the child starts with fresh ones.
    for source in _SOURCES:
        source._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


class Fragment:
    """One decoded fragment whose values are verified as they are touched.

    Parameters
    ----------
    decoded : DecodedFragment
        The values; zero copy over the mapped object where they are stored plain.
    opened : OpenedObject or None
        The object behind lazily verified values.
    """

    __slots__ = ("decoded", "opened")

    def __init__(self, decoded: DecodedFragment, opened: OpenedObject | None) -> None:
        self.decoded = decoded
        self.opened = opened

    @property
    def array(self) -> pa.Array:
        """The values of the whole fragment; call :meth:`verify` before touching them."""
        return self.decoded.array

    def verify(self, start: int, stop: int) -> None:
        """Check the bytes that hold rows ``[start, stop)``."""
        opened, decoded = self.opened, self.decoded
        if opened is None or opened.verified or decoded.data_start < 0:
            return
        if decoded.width:
            low, high = start * decoded.width, stop * decoded.width
        else:
            assert decoded.offsets is not None
            low, high = int(decoded.offsets[start]), int(decoded.offsets[stop])
        opened.verify(decoded.data_start + low, decoded.data_start + high)

    def verify_all(self) -> None:
        """Check the bytes of all rows."""
        self.verify(0, self.decoded.rows)

    @property
    def num_pages(self) -> int:
        """Pages of the object behind lazily verified values; 0 without one."""
        return 0 if self.opened is None else num_pages(self.opened.nbytes)

    def verify_rows(self, rows: npt.NDArray[np.int64]) -> None:
        """Check the bytes that hold increasing rows, each page once."""
        opened, decoded = self.opened, self.decoded
        if opened is None or opened.verified or not len(rows):
            return
        if int(rows[-1]) - int(rows[0]) < 2 * len(rows):
            self.verify(int(rows[0]), int(rows[-1]) + 1)
            return
        if decoded.width:
            low, high = rows * decoded.width, (rows + 1) * decoded.width
        else:
            assert decoded.offsets is not None
            low = decoded.offsets[rows].astype(np.int64)
            high = decoded.offsets[rows + 1].astype(np.int64)
        held = high > low
        first = (low[held] + decoded.data_start) // PAGE_SIZE
        last = (high[held] + (decoded.data_start - 1)) // PAGE_SIZE
        if len(first) and int((last - first).max()) > 1:
            for row in rows.tolist():
                self.verify(row, row + 1)
            return
        for page in sorted({*first.tolist(), *last.tolist()}):
            opened.verify(page * PAGE_SIZE, page * PAGE_SIZE + 1)

    @property
    def lazy(self) -> bool:
        """Whether some rows may still need :meth:`verify`."""
        return self.opened is not None and not self.opened.verified

    def slice(self, start: int, stop: int) -> pa.Array:
        """Return rows ``[start, stop)``, verified, without copying."""
        self.verify(start, stop)
        return self.decoded.array.slice(start, stop - start)


class Source:
    """Decoded nodes and fragments over an object cache, bounded, shared by a space's handles.

    Parameters
    ----------
    cache : ObjectCache
        Verified objects.
    """

    def __init__(self, cache: ObjectCache) -> None:
        self.cache = cache
        self._lock = threading.Lock()
        self._nodes: OrderedDict[Address, Node] = OrderedDict()
        self._fragments: OrderedDict[_FragmentKey, tuple[Fragment, int]] = OrderedDict()
        self._decoded_nbytes = 0
        self._cuts: OrderedDict[tuple[Address | None, int, int], Cuts] = OrderedDict()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        _SOURCES.add(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._pool = None

    def cuts(self, timeline: Address | None, rung: int, floor: int, keys: ReadKeys) -> Cuts:
        """Return where a track over a timeline is cut; kept, since a sweep adds many like layers.

        Parameters
        ----------
        timeline : Address or None
            Root of the timeline.
        rung, floor : int
            Of the track.
        keys : callable
            Reads all anchors of the timeline.
        """
        key = (timeline, rung, floor)
        with self._lock:
            found = self._cuts.get(key)
        if found is None:
            found = track_cuts(keys(), rung, floor)
            with self._lock:
                self._cuts[key] = found
                while len(self._cuts) > _MAX_CUTS:
                    self._cuts.popitem(last=False)
        return found

    def pool(self) -> ThreadPoolExecutor:
        """Return this process's pool for hashing, decoding and file I/O."""
        current = self._pool
        if current is None or current[0] != os.getpid():
            current = (os.getpid(), ThreadPoolExecutor(num_threads(), "dreamdb"))
            self._pool = current
        return current[1]

    def content(self, address: Address) -> Content:
        """Return a content, or the one that stands in for it since some records were purged.

        Notes
        -----
        Cost: 1 object read, cached.
        """
        stored = resolve_content(self.cache, address)[0]
        return self.cache.parsed(stored, Kind.CONTENT, Content.decode)

    def node(self, address: Address) -> Node:
        """Return a tree node.

        Notes
        -----
        Cost: 1 object read, cached.
        """
        with self._lock:
            node = self._nodes.get(address)
            if node is not None:
                self._nodes.move_to_end(address)
                return node
        try:
            node = Node.decode(self.cache.open(address, Kind.NODE).view())
        except IntegrityError as error:
            error.details.setdefault("object", to_text(address))
            raise
        self.remember_node(address, node)
        return node

    def remember_node(self, address: Address, node: Node) -> None:
        """Keep a node that this process has just read or made."""
        with self._lock:
            self._nodes[address] = node
            if len(self._nodes) > _MAX_NODES:
                self._nodes.popitem(last=False)

    def remember_values(
        self, ftype: FieldType, address: Address, chunks: Sequence[pa.Array]
    ) -> None:
        """Keep the values of a small compressed fragment that this process has just encoded.

        Parameters
        ----------
        ftype : FieldType
            What they are.
        address : Address
            The fragment they were encoded to.
        chunks : sequence of Array
            Its values; copied, so that the caller's larger arrays can go.
        """
        array = pa.concat_arrays([*chunks, chunks[0].slice(0, 0)])
        decoded = DecodedFragment(array, len(array), array.null_count)
        self._keep((address, 0, ftype.kind), Fragment(decoded, None), array.nbytes)

    def forget(self, address: Address) -> None:
        """Drop an object that the collector has taken away."""
        self.cache.forget(address)
        with self._lock:
            self._nodes.pop(address, None)

    def is_ready(self, ftype: FieldType, address: Address, *, last_key: int = 0) -> bool:
        """Return whether a fragment is open here and has nothing left to verify.

        Parameters
        ----------
        ftype, address, last_key
            As in :meth:`fragment`.
        """
        key = (address, last_key if ftype.kind == "anchor" else 0, ftype.kind)
        found = self._fragments.get(key)
        return found is not None and not found[0].lazy

    def fragment(
        self,
        ftype: FieldType,
        address: Address,
        *,
        rows: int,
        last_key: int = 0,
        dictionary: bool = False,
    ) -> Fragment:
        """Return a decoded fragment.

        Parameters
        ----------
        ftype : FieldType
            What the values are.
        address : Address
            The fragment object; not the zero address.
        rows : int
            Rows its tree entry declares.
        last_key : int
            The entry's last key; needed for the timeline only.
        dictionary : bool
            Categoricals as Arrow dictionaries.

        Notes
        -----
        Cost: 1 object open, cached; plain values are verified when touched.
        """
        kind = f"{ftype.kind} dictionary" if dictionary else ftype.kind
        key = (address, last_key if ftype.kind == "anchor" else 0, kind)
        with self._lock:
            found = self._fragments.get(key)
            if found is not None:
                self._fragments.move_to_end(key)
                if found[0].decoded.rows == rows:
                    return found[0]
        opened = self.cache.open(address, Kind.FRAGMENT)
        try:
            decoded = decode(
                ftype,
                opened.payload,
                rows=rows,
                last_key=last_key,
                verify=opened.verify,
                dictionary=dictionary,
            )
        except IntegrityError as error:
            error.details.setdefault("object", to_text(address))
            raise
        lazy = decoded.data_start >= 0
        fragment = Fragment(decoded, opened if lazy else None)
        cost = 0 if lazy else decoded.array.nbytes
        self._keep(key, fragment, cost)
        return fragment

    def _keep(self, key: _FragmentKey, fragment: Fragment, cost: int) -> None:
        with self._lock:
            if key not in self._fragments:
                self._fragments[key] = (fragment, cost)
                self._decoded_nbytes += cost
            while self._decoded_nbytes > _MAX_DECODED or len(self._fragments) > _MAX_FRAGMENTS:
                _, (_, freed) = self._fragments.popitem(last=False)
                self._decoded_nbytes -= freed
