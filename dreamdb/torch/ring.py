"""Slots of shared memory through which a worker's batches reach the training process.

Source: design/0009 section 7.  A DataLoader sends what a worker made through a pipe; with a ring
only the number of a slot goes through it.  Each worker makes one ring when it sends its first
large value: memory without a name, which the kernel frees with its last process, however that
ends.  The worker fills free slots; the training process marks a slot free when the last array
over it is gone.  A value that finds no free slot, or is too large, goes through the pipe.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["SMALLEST", "Ring", "Slot", "can_pass_descriptors", "leave_in_slot"]

SMALLEST: Final = 16 << 10
"""Bytes below which the pipe is as fast."""

_SLOTS: Final = 64
_MAX_RING: Final = 256 << 20
_HEADER: Final = 4096
_PAGE: Final = 4096

Bytes1D = npt.NDArray[np.uint8]


class _Lease:
    """Marks a slot free when the last array over it is gone."""

    __slots__ = ("__array_interface__", "_ring", "_slot")

    def __init__(self, ring: Ring, slot: int, nbytes: int) -> None:
        self._ring = ring
        self._slot = slot
        self.__array_interface__: dict[str, Any] = {
            "data": (ring.address_of(slot), False),
            "shape": (nbytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self) -> None:
        self._ring.free(self._slot)


class Ring:
    """Memory that two processes share, in slots of one size.

    Parameters
    ----------
    descriptor : int
        Of the memory; closed here, the mapping stays.
    slot_nbytes, num_slots : int
        Its division; a header of one flag per slot comes first.
    """

    def __init__(self, descriptor: int, slot_nbytes: int, num_slots: int) -> None:
        self.slot_nbytes = slot_nbytes
        self.num_slots = num_slots
        try:
            self._map = mmap.mmap(descriptor, _HEADER + slot_nbytes * num_slots)
        finally:
            os.close(descriptor)
        self._bytes: Bytes1D = np.frombuffer(self._map, np.uint8)
        # One byte per slot: written whole, by one side at a time, so no lock is needed.
        self._taken = self._bytes[:num_slots]

    def address_of(self, slot: int) -> int:
        """Return where a slot's memory begins in this process.

        Parameters
        ----------
        slot : int
            Which one.
        """
        return int(self._bytes.ctypes.data) + _HEADER + slot * self.slot_nbytes

    def claim(self, nbytes: int) -> tuple[int, Bytes1D] | None:
        """Take a free slot; return its number and its memory, or None.

        Parameters
        ----------
        nbytes : int
            How much is needed.
        """
        if nbytes > self.slot_nbytes:
            return None
        free = np.flatnonzero(self._taken == 0)
        if not len(free):
            return None
        # The lowest one: memory that was touched before.
        slot = int(free[0])
        self._taken[slot] = 1
        start = _HEADER + slot * self.slot_nbytes
        return slot, self._bytes[start : start + nbytes]

    def lease(self, slot: int, nbytes: int) -> Bytes1D:
        """Return a filled slot as an array that gives it back when it is dropped.

        Parameters
        ----------
        slot, nbytes : int
            Which one, and how much of it.
        """
        return np.asarray(_Lease(self, slot, nbytes))

    def free(self, slot: int) -> None:
        """Let the other side fill a slot again.

        Parameters
        ----------
        slot : int
            Which one.
        """
        self._taken[slot] = 0

    @property
    def num_taken(self) -> int:
        """Slots that hold something."""
        return int(self._taken.sum())


class Slot:
    """What goes through the pipe: which slot of which ring, and the ring itself the first time.

    Parameters
    ----------
    ring : tuple of int
        The worker's process and the number of its ring.
    slot, nbytes : int
        Where the value is, and its length.
    """

    __slots__ = ("_introduced", "nbytes", "ring", "slot")

    def __init__(self, ring: tuple[int, int], slot: int, nbytes: int) -> None:
        self.ring = ring
        self.slot = slot
        self.nbytes = nbytes
        self._introduced: tuple[Any, int, int] | None = None

    def introduce(self, descriptor: int, ring: Ring) -> None:
        """Send the ring along.

        Parameters
        ----------
        descriptor : int
            Of the ring's memory; still the caller's.
        ring : Ring
            Its division.
        """
        from multiprocessing.reduction import DupFd  # Not on every system.

        self._introduced = (DupFd(descriptor), ring.slot_nbytes, ring.num_slots)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.ring, self.slot, self.nbytes, self._introduced

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.ring, self.slot, self.nbytes, self._introduced = state

    def open(self) -> Bytes1D:
        """Return the value's bytes, in the process that trains."""
        if self._introduced is not None:
            shared, slot_nbytes, num_slots = self._introduced
            _RECEIVED.add(self.ring, Ring(shared.detach(), slot_nbytes, num_slots))
        return _RECEIVED.get(self.ring).lease(self.slot, self.nbytes)


class _Received:
    """The rings of this process's workers; those of workers that are gone are let go."""

    def __init__(self) -> None:
        self._rings: dict[tuple[int, int], Ring] = {}
        self._lock = threading.Lock()

    def add(self, name: tuple[int, int], ring: Ring) -> None:
        with self._lock:
            # A loader ends its workers only after it has read, or thrown away, what they sent.
            self._rings = {n: r for n, r in self._rings.items() if _is_alive(n[0])}
            self._rings[name] = ring

    def get(self, name: tuple[int, int]) -> Ring:
        return self._rings[name]


class _Sending:
    """The ring of this worker process."""

    def __init__(self) -> None:
        self._owner = 0
        self._number = 0
        self._ring: Ring | None = None
        self._descriptor = -1
        self.possible = True

    def leave(self, parts: list[Any], nbytes: int) -> Slot | None:
        """Put a value's parts into a slot; None when the pipe must do."""
        if not self.possible:
            return None
        ring = self._ring if self._owner == os.getpid() else None
        if ring is None or nbytes > ring.slot_nbytes:
            ring = self._renew(nbytes)
        found = None if ring is None else ring.claim(nbytes)
        if ring is None or found is None:
            return None
        number, memory = found
        at = 0
        into = memoryview(memory.data)
        for part in parts:
            view = memoryview(part).cast("B")
            into[at : at + view.nbytes] = view
            at += view.nbytes
        slot = Slot((self._owner, self._number), number, nbytes)
        if self._descriptor >= 0:
            try:
                slot.introduce(self._descriptor, ring)
            except OSError:
                # No socket can be made, such as below a temporary folder with a long name.
                ring.free(number)
                self.possible = False
            os.close(self._descriptor)
            self._descriptor = -1
        return slot if self.possible else None

    def _renew(self, nbytes: int) -> Ring | None:
        """Make a ring for values of this length and somewhat more."""
        slot_nbytes = -(-(nbytes + nbytes // 4) // _PAGE) * _PAGE
        num_slots = min(_SLOTS, _MAX_RING // slot_nbytes)
        if num_slots < 4 or not hasattr(os, "memfd_create"):
            return None
        try:
            descriptor = os.memfd_create("dreamdb-batches")
            os.ftruncate(descriptor, _HEADER + slot_nbytes * num_slots)
            ring = Ring(os.dup(descriptor), slot_nbytes, num_slots)
        except OSError:
            return None  # The pipe takes anything.
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._owner, self._descriptor, self._ring = os.getpid(), descriptor, ring
        self._number += 1
        return ring


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


_RECEIVED = _Received()
_SENDING = _Sending()


def can_pass_descriptors() -> bool:
    """Return False once this process has found that it cannot hand descriptors to another."""
    return _SENDING.possible


def leave_in_slot(parts: list[Any], nbytes: int) -> Slot | None:
    """Put a value into this worker's ring.

    Parameters
    ----------
    parts : list of buffers
        The value, in pieces.
    nbytes : int
        Bytes in all of them.

    Returns
    -------
    Slot or None
        What to send instead; None when there is no room, or no such memory on this system.
    """
    return _SENDING.leave(parts, nbytes)
