"""All fragments of a track as one array, for random access.

Source: design/0007.  Fragments lie anywhere in this process's memory, mapped or
decoded.  A numpy array over the whole address space reaches each of their rows by a number: then
gathering rows of many fragments is one indexing operation, as fast as on a single array, where
visiting the fragments one by one costs several times as much.  Bytes of varying length are copied
from a view of the same memory.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamdb.objects import PAGE_SIZE
from dreamdb.tracks.buffers import empty
from dreamdb.tracks.source import Fragment
from dreamdb.tracks.track import Track

__all__ = ["AddressedBlobs", "AddressedRows", "addressed_blobs", "addressed_rows"]

Positions = npt.NDArray[np.int64]

_BASE: Final = 64
_SPACE: Final = 1 << 47
_PAGE: Final = 4096
_COPIED: Final = 64 << 10
_MAX_NUMBERS: Final = 1 << 22


class _Memory:
    """Describes memory to numpy; holds nothing."""

    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface


def _view(base: int, dtype: np.dtype[Any], grain: int) -> npt.NDArray[Any]:
    """Return the memory from ``base`` on as rows of ``grain`` bytes; nothing is touched."""
    interface = {
        "data": (base, True),
        "shape": ((_SPACE - base) // grain, grain // dtype.itemsize),
        "typestr": dtype.str,
        "version": 3,
    }
    return np.asarray(_Memory(interface))


def _members(indices: Positions) -> list[int]:
    """Return the distinct indices; numpy.unique would import numpy.ma, which takes 15 ms."""
    out: list[int] = np.flatnonzero(np.bincount(indices)).tolist()
    return out


class _Opened:
    """Fragments of a track that are open, where their values begin, and what is verified.

    Parameters
    ----------
    track : Track
        Its fragments stay open as long as this object lives.
    """

    def __init__(self, track: Track) -> None:
        self._track = track
        self._starts, self._ends = track.flat()[1:]
        count = len(self._ends)
        self._first = np.full(count, -1, np.int64)
        self._lazy = np.zeros(count, np.bool_)
        self._verified = np.zeros(track.rows, np.bool_)
        self._touched = np.zeros(count, np.int64)
        self._held: list[Fragment | None] = [None] * count
        self._row_pages = 1 + track.nbytes // max(1, track.rows) // PAGE_SIZE

    def _open(self, index: int) -> None:
        raise AssertionError("each kind of values opens its own fragments")

    def _locate(self, rows: Positions) -> tuple[Positions, Positions, Positions] | None:
        """Return fragment, row inside it and first item for each row; None when out of reach."""
        which = self._ends.searchsorted(rows, "right")
        first = self._first[which]
        if int(first.min()) < 0:
            try:
                for index in _members(which[first < 0]):
                    self._open(index)
            except OverflowError:
                return None
            first = self._first[which]
        inside = rows - self._starts[which]
        if self._lazy.any():
            self._verify(rows, which, inside)
        return which, inside, first

    def _hold(self, index: int) -> Fragment:
        fragment = self._track.fragment_at(index)
        assert fragment is not None  # a track without nulls has no all-null chunks
        self._held[index] = fragment
        self._lazy[index] = fragment.lazy
        return fragment

    def _verify(self, rows: Positions, which: Positions, inside: Positions) -> None:
        touched = self._lazy[which] & ~self._verified[rows]
        if not touched.any():
            return
        which, inside = which[touched], inside[touched]
        wholly: list[Fragment] = []
        members = _members(which)
        for index in members:
            fragment = self._held[index]
            assert fragment is not None
            asked = inside[which == index]
            # A page alone costs twice what it costs in a run.  Once so much has been paid for pages
            # alone as all pages at once cost, or is about to be, the rest is verified at once.
            self._touched[index] += 2 * len(asked) * self._row_pages
            soon = 2 * fragment.decoded.rows * self._row_pages * self._track.expected
            if self._touched[index] + soon > fragment.num_pages:
                wholly.append(fragment)
            else:
                fragment.verify_rows(np.sort(asked))
        if len(wholly) > 1:
            list(self._track.source.pool().map(Fragment.verify_all, wholly))
        elif wholly:
            wholly[0].verify_all()
        for index in members:
            self._lazy[index] = self._held[index].lazy  # type: ignore[union-attr]
        # Rows asked for again cost nothing: the fragments that hold them stay open here.
        self._verified[rows[touched]] = True


class AddressedRows(_Opened):
    """Random access to the rows of a fixed-width track without nulls.

    Parameters
    ----------
    track : Track
        Its fragments stay open as long as this object lives.
    dtype : numpy dtype
        Of one element.
    size : int
        Elements per row; 0 for plain numbers.
    """

    def __init__(self, track: Track, dtype: np.dtype[Any], size: int) -> None:
        super().__init__(track)
        self._dtype = dtype
        self._size = size
        self._width = dtype.itemsize * max(1, size)
        self._addresses = np.zeros(len(self._ends), np.int64)
        self._copies: list[npt.NDArray[np.uint8]] = []
        # Mapped fragments of a track lie alike within their pages, so their rows can be grains of
        # one array over the whole memory.
        self._grain = min(_PAGE, self._width & -self._width)
        self._view: npt.NDArray[Any] | None = None

    def _open(self, index: int) -> None:
        fragment = self._hold(index)
        array = fragment.array
        buffer = (array.values if self._size else array).buffers()[1]
        address = buffer.address + array.offset * self._width
        if address % self._dtype.itemsize:
            raise OverflowError
        if self._view is not None and (address - self._base) % self._grain:
            nbytes = len(array) * self._width
            if nbytes <= _COPIED:
                address = self._copied(fragment, address, nbytes)
                self._lazy[index] = False
            else:
                self._refine(address)
        if self._view is None:
            self._look(address)
        self._addresses[index] = address
        self._first[index] = (address - self._base) // self._grain
        if not 0 <= self._first[index] < self._count - (self._ends[index] + 1) * self._per_row:
            raise OverflowError

    def _look(self, address: int) -> None:
        """Describe the memory as grains, one of which begins at an address."""
        self._base = _BASE + (address - _BASE) % self._grain
        self._per_row = self._width // self._grain
        self._view = _view(self._base, self._dtype, self._grain)
        self._count = len(self._view)

    def _refine(self, address: int) -> None:
        """Use smaller grains, so that a fragment that lies differently is reached too."""
        off = address - self._base
        self._grain = min(self._grain, off & -off)
        if self._grain < self._dtype.itemsize:
            raise OverflowError
        self._look(address)
        opened = self._first >= 0
        self._first[opened] = (self._addresses[opened] - self._base) // self._grain

    def _copied(self, fragment: Fragment, address: int, nbytes: int) -> int:
        """Return where a copy of a small fragment lies as all others do; it is verified first."""
        fragment.verify_all()
        block = np.empty(nbytes + self._grain, np.uint8)
        start = (self._base - block.ctypes.data) % self._grain
        ctypes.memmove(block.ctypes.data + start, address, nbytes)
        self._copies.append(block)
        return int(block.ctypes.data) + start

    def take(self, rows: Positions) -> npt.NDArray[Any] | None:
        """Return the values at some rows, in their order.

        Parameters
        ----------
        rows : ndarray of int64
            Rows of the timeline, in any order; each must be in the track.

        Returns
        -------
        ndarray, shape (n,) or (n, size), or None
            A copy.  None when a fragment lies where this view cannot reach.
        """
        found = self._locate(rows)
        if found is None:
            return None
        _, inside, first = found
        assert self._view is not None
        if self._per_row > 1:
            inside *= self._per_row
        inside += first
        if self._per_row > 1:
            inside = (inside[:, None] + np.arange(self._per_row)).reshape(-1)
        out = empty((len(inside), self._view.shape[1]), self._dtype)
        # Nothing is out of range; "clip" spares numpy a copy of the result.
        np.take(self._view, inside, axis=0, out=out, mode="clip")
        return out.reshape((len(rows), self._size) if self._size else len(rows))


@cache
def _memory() -> memoryview:
    """Return this process's memory as bytes; nothing is touched before it is sliced."""
    everything = (ctypes.c_ubyte * (_SPACE - 1)).from_address(0)
    return memoryview(everything).cast("B").toreadonly()


class AddressedBlobs(_Opened):
    """Random access to the values of a track of bytes without nulls.

    Parameters
    ----------
    track : Track
        Its fragments stay open as long as this object lives.
    """

    def __init__(self, track: Track) -> None:
        super().__init__(track)
        # The offsets of fragment i begin at its first row plus i: each has one more than rows.
        self._offsets = np.zeros(track.rows + len(self._ends), np.int32)

    def _open(self, index: int) -> None:
        fragment = self._hold(index)
        offsets = fragment.decoded.offsets
        assert offsets is not None
        start = int(self._starts[index]) + index
        self._offsets[start : start + len(offsets)] = offsets
        buffer = fragment.array.buffers()[2]
        address = 0 if buffer is None else buffer.address
        if not 0 <= address < _SPACE - (1 << 31):
            raise OverflowError
        self._first[index] = address

    def take(self, rows: Positions) -> tuple[npt.NDArray[np.uint8], Positions] | None:
        """Return the values at some rows, in their order, one after the other.

        Parameters
        ----------
        rows : ndarray of int64
            Rows of the timeline, in any order; each must be in the track.

        Returns
        -------
        data : ndarray of uint8
            The bytes of all values.
        edges : ndarray of int64, shape (n + 1,)
            Where each value begins in ``data``, and where the last one ends.
        """
        found = self._bounds(rows)
        if found is None:
            return None
        low, high = found
        edges = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(high - low, out=edges[1:])
        data = empty((int(edges[-1]),), np.dtype(np.uint8))
        into, memory = memoryview(data.data), _memory()
        at = 0
        for begin, end in zip(low.tolist(), high.tolist(), strict=True):
            stop = at + end - begin
            into[at:stop] = memory[begin:end]
            at = stop
        return data, edges

    def take_each(self, rows: Positions) -> list[bytes] | None:
        """Return the values at some rows, in their order, as one object each.

        Parameters
        ----------
        rows : ndarray of int64
            Rows of the timeline, in any order; each must be in the track.
        """
        found = self._bounds(rows)
        if found is None:
            return None
        memory = _memory()
        bounds = zip(*(edge.tolist() for edge in found), strict=True)
        return [bytes(memory[begin:end]) for begin, end in bounds]

    def _bounds(self, rows: Positions) -> tuple[Positions, Positions] | None:
        """Return where each value begins and ends in memory."""
        found = self._locate(rows)
        if found is None:
            return None
        which, _, first = found
        slot = rows + which
        return first + self._offsets[slot], first + self._offsets[slot + 1]


def addressed_rows(track: Track, dtype: np.dtype[Any], size: int) -> AddressedRows | None:
    """Return random access to a track, or None when it has nulls or is too large for it.

    Parameters
    ----------
    track : Track
        Of numbers or vectors.
    dtype : numpy dtype
        Of one element.
    size : int
        Elements per row; 0 for plain numbers, whose decoded values stay in memory.
    """
    if not _small_enough(track):
        return None
    if (not size and track.rows > _MAX_NUMBERS) or size * dtype.itemsize > 1 << 15:
        return None
    return AddressedRows(track, dtype, size)


def addressed_blobs(track: Track) -> AddressedBlobs | None:
    """Return random access to a track of bytes, or None when it has nulls or is too large.

    Parameters
    ----------
    track : Track
        Of media or bytes.
    """
    if not _small_enough(track) or track.rows > _MAX_NUMBERS:
        return None
    return AddressedBlobs(track)


def _small_enough(track: Track) -> bool:
    """Tell whether all fragments may stay open: each keeps a map, before 3.13 a descriptor too."""
    count = len(track.flat()[0])
    return not track.nulls and 0 < count <= track.source.cache.max_mapped // 2
