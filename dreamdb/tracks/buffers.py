"""Memory for results that is used again once the caller has dropped what lay in it.

Source: design/0007.  The first touch of fresh memory costs more than the copy into it:
the system maps and clears every page.  Results of more than :data:`SMALLEST` bytes lie in blocks
of a pool; when the last array over a block is gone, the block serves the next result.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["SMALLEST", "BufferPool", "empty"]

SMALLEST: Final = 64 << 10
"""Below this the allocator reuses memory by itself."""

_MAX_IDLE: Final = 32 << 20
Block = npt.NDArray[np.uint8]


class _Lease:
    """Owns a block while arrays over it live; numpy and Arrow keep a reference to it."""

    __slots__ = ("__array_interface__", "_block", "_pool")

    def __init__(self, pool: BufferPool, block: Block, nbytes: int) -> None:
        self._pool = pool
        self._block = block
        self.__array_interface__: dict[str, Any] = {
            "data": (block.ctypes.data, False),
            "shape": (nbytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self) -> None:
        self._pool.give_back(self._block)


class BufferPool:
    """Blocks of memory by size, bounded in what lies idle.

    Parameters
    ----------
    max_idle : int
        Bytes that may wait for their next use; what is above goes back to the system.
    """

    def __init__(self, max_idle: int = _MAX_IDLE) -> None:
        self._max_idle = max_idle
        self._idle: dict[int, list[Block]] = {}
        self._nbytes = 0
        # Re-entrant: a collection that runs inside may drop an array, and so give a block back.
        self._lock = threading.RLock()

    @property
    def idle_nbytes(self) -> int:
        """Bytes that wait for their next use."""
        return self._nbytes

    def array(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return an array of uninitialised bytes, writable and the caller's alone.

        Parameters
        ----------
        nbytes : int
            Its length.
        """
        size = 1 << max(0, nbytes - 1).bit_length()
        with self._lock:
            waiting = self._idle.get(size)
            block = waiting.pop() if waiting else None
            if block is not None:
                self._nbytes -= size
        if block is None:
            block = np.empty(size, np.uint8)
        return np.asarray(_Lease(self, block, nbytes))

    def give_back(self, block: Block) -> None:
        """Take a block that nothing refers to any more."""
        with self._lock:
            if self._nbytes + block.nbytes <= self._max_idle:
                self._idle.setdefault(block.nbytes, []).append(block)
                self._nbytes += block.nbytes


_POOL = BufferPool()


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an uninitialised array like :func:`numpy.empty`, of reused memory when it is large.

    Parameters
    ----------
    shape : tuple of int
        Its extents.
    dtype : numpy dtype
        Of its elements; no objects.
    """
    count = 1
    for extent in shape:
        count *= extent
    nbytes = count * dtype.itemsize
    if nbytes < SMALLEST:
        return np.empty(shape, dtype)
    return _POOL.array(nbytes).view(dtype).reshape(shape)
