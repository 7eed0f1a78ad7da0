"""The scan of :mod:`dreamdb.index.scan`, compiled with numba: the same numbers.

Source: design/0018 section 7.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numba import types
from numba.extending import intrinsic

__all__ = ["refine_candidates", "scan_extents"]

LANES = 32
FEW = 6


def _ones(_context: Any, _word: Any) -> Any:
    def emit(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), emit


_count_bits: Any = intrinsic(_ones)


def _address_to_array(_context: Any, _address: Any, dtype: Any) -> Any:
    pointer = types.CPointer(dtype.dtype)

    def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.uint64, dtype), emit


_pointer: Any = intrinsic(_address_to_array)


@nb.njit(nogil=True, cache=True)
def _replace_worst(best: Any, rows: Any, slots: Any, value: Any, row: Any, slot: Any) -> None:
    """Put a value in place of the root of a heap whose root is the worst, the last of equals."""
    size = best.shape[0]
    p = 0
    while True:
        c = 2 * p + 1
        if c >= size:
            break
        if c + 1 < size and (
            best[c + 1] > best[c] or (best[c + 1] == best[c] and rows[c + 1] > rows[c])
        ):
            c += 1
        if best[c] < value or (best[c] == value and rows[c] < row):
            break
        best[p] = best[c]
        rows[p] = rows[c]
        slots[p] = slots[c]
        p = c
    best[p] = value
    rows[p] = row
    slots[p] = slot


@nb.njit(nogil=True, cache=True, inline="always")
def _block_sums(code: Any, planes: Any, words: int, sums: Any) -> None:
    """Write the inner products of a whole block: its vectors side by side."""
    for j in range(LANES):
        sums[j] = 0
    for w in range(words):
        p0 = planes[0, w]
        p1 = planes[1, w]
        p2 = planes[2, w]
        p3 = planes[3, w]
        for j in range(LANES):
            c = code[w, j]
            sums[j] += np.int64(
                _count_bits(c & p0)
                + (_count_bits(c & p1) << nb.uint64(1))
                + (_count_bits(c & p2) << nb.uint64(2))
                - (_count_bits(c & p3) << nb.uint64(3))
            )


@nb.njit(nogil=True, cache=True, inline="always")
def _lane_sum(code: Any, planes: Any, words: int, j: int) -> Any:
    """Return the inner product of one vector: cells of many segments have few."""
    s: Any = np.int64(0)
    for w in range(words):
        c = code[w, j]
        s += np.int64(
            _count_bits(c & planes[0, w])
            + (_count_bits(c & planes[1, w]) << nb.uint64(1))
            + (_count_bits(c & planes[2, w]) << nb.uint64(2))
            - (_count_bits(c & planes[3, w]) << nb.uint64(3))
        )
    return s


@nb.njit(nogil=True, cache=True, boundscheck=False)
def scan_extents(
    extents: Any,
    offsets: Any,
    first: int,
    words: int,
    planes: Any,
    scale: Any,
    total: int,
    mask: Any,
    masked: bool,
    best: Any,
    found: Any,
    slots: Any,
) -> int:
    """Keep the nearest vectors of some cells; see :func:`dreamdb.index.scan.scan_extents`.

    Parameters
    ----------
    extents, offsets, first, words, planes, scale, total, mask, masked, best, found, slots
        As there.
    """
    width = nb.uint64(12 * LANES + 8 * LANES * words)
    sums = np.empty(LANES, np.int64)
    seen: Any = 0
    worst = best[0]
    for t in range(extents.shape[0]):
        base = extents[t, 0]
        low: Any = np.int64(extents[t, 1])
        high: Any = low + np.int64(extents[t, 2])
        start = np.int64(extents[t, 3])
        offset = offsets[t]
        for block in range(low // LANES, (high + LANES - 1) // LANES):
            at = base + nb.uint64(block) * width
            rows = nb.carray(_pointer(at, nb.uint32), LANES)
            add = nb.carray(_pointer(at + nb.uint64(4 * LANES), nb.float32), LANES)
            factor = nb.carray(_pointer(at + nb.uint64(8 * LANES), nb.float32), LANES)
            code = nb.carray(_pointer(at + nb.uint64(12 * LANES), nb.uint64), (words, LANES))
            begin = max(low - block * LANES, 0)
            end = min(high - block * LANES, LANES)
            if masked:
                alive: Any = 0
                for j in range(begin, end):
                    row = start + np.int64(rows[j])
                    alive += np.int64((mask[row >> 3] >> np.uint8(row & 7)) & 1)
                if alive == 0:
                    continue
            if end - begin > FEW:
                _block_sums(code, planes, words, sums)
            else:
                for j in range(begin, end):
                    sums[j] = _lane_sum(code, planes, words, j)
            for j in range(begin, end):
                row = start + np.int64(rows[j])
                if masked and not (mask[row >> 3] >> np.uint8(row & 7)) & 1:
                    continue
                seen += 1
                estimate = add[j] + (offset + factor[j] * (scale * np.float32(2 * sums[j] - total)))
                if estimate < worst or (estimate == worst and row < found[0]):
                    slot = (np.int64(first + t) << 32) | (block * LANES + j)
                    _replace_worst(best, found, slots, estimate, row, slot)
                    worst = best[0]
    return seen


@nb.njit(nogil=True, cache=True, boundscheck=False)
def refine_candidates(
    addresses: Any, offsets: Any, query: Any, scale: Any, total: int, bits: int, out: Any
) -> None:
    """Estimate some vectors by their finer codes; see :func:`dreamdb.index.scan.refine`.

    Parameters
    ----------
    addresses : ndarray of uint64, shape (n,)
        Where the codes lie in memory.
    offsets, query, scale, total, bits, out
        As there.
    """
    size = query.shape[0]
    top = 2**bits - 1
    for i in range(addresses.shape[0]):
        head = nb.carray(_pointer(addresses[i], nb.float32), 2)
        code = nb.carray(_pointer(addresses[i] + nb.uint64(8), nb.uint8), size * bits // 8)
        s: Any = np.int64(0)
        if bits == 8:
            for j in range(size):
                s += np.int64(np.int32(code[j]) * query[j])
        elif bits == 4:
            for j in range(size // 2):
                c = np.int32(code[j])
                s += np.int64((c & 15) * query[2 * j] + (c >> 4) * query[2 * j + 1])
        else:
            for j in range(size // 4):
                c = np.int32(code[j])
                s += np.int64(
                    (c & 3) * query[4 * j]
                    + ((c >> 2) & 3) * query[4 * j + 1]
                    + ((c >> 4) & 3) * query[4 * j + 2]
                    + (c >> 6) * query[4 * j + 3]
                )
        out[i] = head[0] + (offsets[i] + head[1] * (scale * np.float32(2 * s - top * total)))
