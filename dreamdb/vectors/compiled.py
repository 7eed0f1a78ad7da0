"""The same codes as in :mod:`dreamdb.vectors.rabitq`, bit for bit, compiled with numba.

Imported only when numba is installed and the work is worth compiling for.  Sixteen vectors go
through each step side by side, so that the processor's vector units are full.  The kernels release
the GIL; threads are ours, since numba's own layer aborts when two threads enter it.

Source: design/0017 section 6.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np

__all__ = ["decode_range", "encode_range", "rotate_range"]

LANES = 16


@nb.njit(nogil=True, cache=True)
def _hadamard(buf: Any, low: int, power: int, factor: Any) -> None:
    h = 1
    while h * 2 < power:
        for i in range(low, low + power, 4 * h):
            for j in range(i, i + h):
                for t in range(LANES):
                    a = buf[j, t]
                    b = buf[j + h, t]
                    c = buf[j + 2 * h, t]
                    d = buf[j + 3 * h, t]
                    s0 = a + b
                    s1 = a - b
                    s2 = c + d
                    s3 = c - d
                    buf[j, t] = s0 + s2
                    buf[j + h, t] = s1 + s3
                    buf[j + 2 * h, t] = s0 - s2
                    buf[j + 3 * h, t] = s1 - s3
        h *= 4
    if h < power:
        for i in range(low, low + power, 2 * h):
            for j in range(i, i + h):
                for t in range(LANES):
                    a = buf[j, t]
                    b = buf[j + h, t]
                    buf[j, t] = a + b
                    buf[j + h, t] = a - b
    for j in range(low, low + power):
        for t in range(LANES):
            buf[j, t] = buf[j, t] * factor


@nb.njit(nogil=True, cache=True)
def _kac(buf: Any, size: int) -> None:
    c = np.float32(0.70710678118654752440)
    half = size // 2
    for j in range(half):
        for t in range(LANES):
            a = buf[j, t]
            b = buf[j + half, t]
            buf[j, t] = (a + b) * c
            buf[j + half, t] = (a - b) * c


@nb.njit(nogil=True, cache=True)
def _signs(buf: Any, signs: Any, size: int) -> None:
    for j in range(size):
        for t in range(LANES):
            buf[j, t] = buf[j, t] * signs[j]


@nb.njit(nogil=True, cache=True)
def _rotate(buf: Any, signs: Any, size: int, power: int, factor: Any) -> None:
    for r in range(signs.shape[0]):
        _signs(buf, signs[r], size)
        _hadamard(buf, 0 if r % 2 == 0 else size - power, power, factor)
        if power != size:
            _kac(buf, size)


@nb.njit(nogil=True, cache=True)
def _unrotate(buf: Any, signs: Any, size: int, power: int, factor: Any) -> None:
    for r in range(signs.shape[0] - 1, -1, -1):
        if power != size:
            _kac(buf, size)
        _hadamard(buf, 0 if r % 2 == 0 else size - power, power, factor)
        _signs(buf, signs[r], size)


@nb.njit(nogil=True, cache=True)
def _load(rows: Any, first: int, count: int, size: int, buf: Any) -> None:
    dim = rows.shape[1]
    for t in range(count):
        for j in range(dim):
            buf[j, t] = rows[first + t, j]
        for j in range(dim, size):
            buf[j, t] = np.float32(0)
    for t in range(count, LANES):
        for j in range(size):
            buf[j, t] = np.float32(0)


@nb.njit(nogil=True, cache=True)
def rotate_range(
    rows: Any, signs: Any, power: int, factor: Any, out: Any, low: int, high: int
) -> None:
    """Rotate rows ``[low, high)``.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, dim)
        Vectors.
    signs, power, factor
        Of the rotation.
    out : ndarray of float32, shape (n, size)
        Where they go.
    low, high : int
        Which rows.
    """
    size = signs.shape[1]
    buf = np.empty((size, LANES), np.float32)
    for first in range(low, high, LANES):
        count = min(LANES, high - first)
        _load(rows, first, count, size, buf)
        _rotate(buf, signs, size, power, factor)
        for t in range(count):
            for j in range(size):
                out[first + t, j] = buf[j, t]


@nb.njit(nogil=True, cache=True)
def _pack(levels: Any, bits: int, count: int, first: int, at: int, codes: Any) -> None:
    size = levels.shape[0]
    if bits == 8:
        for t in range(count):
            for j in range(size):
                codes[first + t, at + j] = levels[j, t]
    elif bits == 4:
        for t in range(count):
            for j in range(size // 2):
                codes[first + t, at + j] = levels[2 * j, t] | (levels[2 * j + 1, t] << 4)
    elif bits == 2:
        for t in range(count):
            for j in range(size // 4):
                codes[first + t, at + j] = (
                    levels[4 * j, t]
                    | (levels[4 * j + 1, t] << 2)
                    | (levels[4 * j + 2, t] << 4)
                    | (levels[4 * j + 3, t] << 6)
                )
    else:
        for t in range(count):
            for j in range(size // 8):
                b = np.uint8(0)
                for s in range(8):
                    b |= levels[8 * j + s, t] << np.uint8(s)
                codes[first + t, at + j] = b


@nb.njit(nogil=True, cache=True)
def encode_range(
    rows: Any,
    centroids: Any,
    cells: Any,
    signs: Any,
    power: int,
    factor: Any,
    bits: int,
    step: float,
    at: int,
    codes: Any,
    sums: Any,
    low: int,
    high: int,
) -> None:
    """Encode rows ``[low, high)``.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, dim)
        Vectors.
    centroids, cells : ndarray
        Rotated centroids (k, size), none for plain codes, and which of them each vector has.
    signs, power, factor
        Of the rotation.
    bits, step
        Bits per level, and the width of a rounding step.
    at : int
        First byte of the levels in a row of ``codes``.
    codes, sums : ndarray
        Where packed levels and the four sums of :class:`~dreamdb.vectors.rabitq.Codes` go.
    low, high : int
        Which rows.
    """
    size = signs.shape[1]
    buf = np.empty((size, LANES), np.float32)
    levels = np.empty((size, LANES), np.uint8)
    total = np.empty((4, LANES), np.float64)
    inverse = np.empty(LANES, np.float32)
    half = np.float32(2 ** (bits - 1))
    top = np.float32(2**bits - 1)
    shift = np.float64(top) * 0.5
    relative = centroids.shape[0] > 0
    zero = np.float32(0)
    for first in range(low, high, LANES):
        count = min(LANES, high - first)
        _load(rows, first, count, size, buf)
        _rotate(buf, signs, size, power, factor)
        if relative:
            for t in range(count):
                cell = cells[first + t]
                for j in range(size):
                    buf[j, t] = buf[j, t] - centroids[cell, j]
        total[:] = 0.0
        for j in range(size):
            for t in range(LANES):
                total[0, t] += np.float64(buf[j, t]) * np.float64(buf[j, t])
        if bits > 1:
            for t in range(LANES):
                nominal = math.sqrt(total[0, t] / size) * step
                inverse[t] = np.float32(1.0 / nominal) if nominal > 0 else zero
            for j in range(size):
                for t in range(LANES):
                    level = np.floor(buf[j, t] * inverse[t]) + half
                    levels[j, t] = np.uint8(min(max(level, zero), top))
        else:
            for j in range(size):
                for t in range(LANES):
                    levels[j, t] = np.uint8(1) if buf[j, t] > 0 else np.uint8(0)
        for j in range(size):
            for t in range(LANES):
                g = np.float64(levels[j, t]) - shift
                total[1, t] += np.float64(buf[j, t]) * g
                total[2, t] += g * g
        if relative:
            for t in range(count):
                cell = cells[first + t]
                s = 0.0
                for j in range(size):
                    s += np.float64(centroids[cell, j]) * (np.float64(levels[j, t]) - shift)
                total[3, t] = s
        for t in range(count):
            for r in range(4):
                sums[r, first + t] = total[r, t]
        _pack(levels, bits, count, first, at, codes)


@nb.njit(nogil=True, cache=True)
def decode_range(
    codes: Any,
    at: int,
    scale: Any,
    signs: Any,
    power: int,
    factor: Any,
    bits: int,
    out: Any,
    low: int,
    high: int,
) -> None:
    """Write the vectors of rows ``[low, high)``.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n, width)
        Rows; their levels begin at byte ``at``.
    at : int
        First byte of the levels.
    scale : ndarray of float32, shape (n,)
        What the centred levels are multiplied by.
    signs, power, factor
        Of the rotation.
    bits : int
        Bits per level.
    out : ndarray of float32, shape (n, dim)
        Where they go.
    low, high : int
        Which rows.
    """
    size = signs.shape[1]
    dim = out.shape[1]
    buf = np.empty((size, LANES), np.float32)
    off = np.float32((2**bits - 1) * 0.5)
    for first in range(low, high, LANES):
        count = min(LANES, high - first)
        for t in range(count):
            s = scale[first + t]
            if bits == 8:
                for j in range(size):
                    buf[j, t] = (np.float32(codes[first + t, at + j]) - off) * s
            elif bits == 4:
                for j in range(size // 2):
                    c = codes[first + t, at + j]
                    buf[2 * j, t] = (np.float32(c & 15) - off) * s
                    buf[2 * j + 1, t] = (np.float32(c >> 4) - off) * s
            elif bits == 2:
                for j in range(size // 4):
                    c = codes[first + t, at + j]
                    buf[4 * j, t] = (np.float32(c & 3) - off) * s
                    buf[4 * j + 1, t] = (np.float32((c >> 2) & 3) - off) * s
                    buf[4 * j + 2, t] = (np.float32((c >> 4) & 3) - off) * s
                    buf[4 * j + 3, t] = (np.float32(c >> 6) - off) * s
            else:
                for j in range(size // 8):
                    c = codes[first + t, at + j]
                    for u in range(8):
                        buf[8 * j + u, t] = (np.float32((c >> u) & 1) - off) * s
        for t in range(count, LANES):
            for j in range(size):
                buf[j, t] = np.float32(0)
        _unrotate(buf, signs, size, power, factor)
        for t in range(count):
            for j in range(dim):
                out[first + t, j] = buf[j, t]
