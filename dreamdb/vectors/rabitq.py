"""RaBitQ codes in numpy: the reference.

Source: design/0017 section 5; Gao and Long, "RaBitQ" (SIGMOD 2024), Gao et al., "Extended RaBitQ"
(SIGMOD 2025), with one-shot rounding.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from dreamdb.vectors.rotation import Rotation, rotate_columns

__all__ = ["STEPS", "Codes", "decode_codes", "encode_codes", "rotate_rows"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bytes2 = npt.NDArray[np.uint8]

STEPS: Final = {1: 1.596, 2: 0.9957, 4: 0.3352, 8: 0.0308}
"""Width of a rounding step of normal values with deviation 1: the least squared error."""

_CHUNK: Final = 64
_LANES: Final = 16


class Codes(NamedTuple):
    """RaBitQ codes of some vectors, and the sums that scale them.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n, size * bits / 8)
        Levels, ``8 / bits`` per byte, the first one in the lowest bits.
    squares : ndarray of float64, shape (n,)
        ``<y, y>`` of the rotated residual ``y``.
    inner : ndarray of float64, shape (n,)
        ``<y, g>`` with the centred levels ``g``.
    grid : ndarray of float64, shape (n,)
        ``<g, g>``.
    centre : ndarray of float64, shape (n,)
        ``<c, g>`` with the rotated centroid ``c``; 0 without centroids.
    """

    codes: Bytes2
    squares: Doubles
    inner: Doubles
    grid: Doubles
    centre: Doubles


def _columns(rotation: Rotation, rows: Floats) -> Floats:
    """Return rows as rotated columns; at least 16, so that sums run in one order always."""
    count = max(_LANES, len(rows))
    y = np.zeros((rotation.size, count), np.float32)
    y[: rotation.dim, : len(rows)] = rows.T
    return rotate_columns(rotation, y)


def rotate_rows(rotation: Rotation, rows: Floats) -> Floats:
    """Return rotated vectors, shape (n, size)."""
    out = np.empty((len(rows), rotation.size), np.float32)
    for at in range(0, len(rows), _CHUNK):
        part = rows[at : at + _CHUNK]
        out[at : at + _CHUNK] = _columns(rotation, part)[:, : len(part)].T
    return out


def encode_codes(
    rotation: Rotation,
    rows: Floats,
    bits: int,
    centroids: Floats | None = None,
    cells: npt.NDArray[np.int64] | None = None,
) -> Codes:
    """Encode vectors, or their differences to centroids.

    Parameters
    ----------
    rotation : Rotation
        Which rotation.
    rows : ndarray of float32, shape (n, dim)
        Finite, of ordinary magnitude.
    bits : int
        1, 2, 4 or 8.
    centroids : ndarray of float32, shape (k, size), optional
        Rotated centroids.
    cells : ndarray of int64, shape (n,), optional
        Which centroid each vector is relative to.
    """
    count = len(rows)
    codes = np.empty((count, rotation.size * bits // 8), np.uint8)
    sums = np.zeros((4, count), np.float64)
    for at in range(0, count, _CHUNK):
        stop = min(at + _CHUNK, count)
        y = _columns(rotation, rows[at:stop])
        middle = None
        if centroids is not None and cells is not None:
            middle = np.zeros_like(y)
            middle[:, : stop - at] = centroids[cells[at:stop]].T
            y = y - middle
        levels, part = _levels(y, middle, bits)
        codes[at:stop] = _pack(levels, bits)[: stop - at]
        sums[:, at:stop] = part[:, : stop - at]
    return Codes(codes, sums[0], sums[1], sums[2], sums[3])


def _levels(y: Floats, middle: Floats | None, bits: int) -> tuple[Bytes2, Doubles]:
    """Return the levels of rotated columns, and the sums of :class:`Codes`."""
    size = len(y)
    wide = y.astype(np.float64)
    squares = np.add.reduce(wide * wide, axis=0)
    top = np.float32(2**bits - 1)
    if bits == 1:
        levels = (y > 0).astype(np.uint8)
    else:
        nominal = np.sqrt(squares / size) * STEPS[bits]
        with np.errstate(divide="ignore"):
            inverse = np.where(nominal > 0, 1.0 / nominal, 0.0).astype(np.float32)
        half = np.float32(2 ** (bits - 1))
        levels = np.minimum(np.maximum(np.floor(y * inverse) + half, 0), top).astype(np.uint8)
    grid = levels.astype(np.float64) - float(top) * 0.5
    inner = np.add.reduce(wide * grid, axis=0)
    centre = np.zeros_like(squares)
    if middle is not None:
        centre = np.add.reduce(middle.astype(np.float64) * grid, axis=0)
    return levels, np.stack([squares, inner, np.add.reduce(grid * grid, axis=0), centre])


def _pack(levels: Bytes2, bits: int) -> Bytes2:
    """Return levels (size, n) as packed rows."""
    if bits == 8:
        return np.ascontiguousarray(levels.T)
    if bits == 1:
        return np.packbits(levels, axis=0, bitorder="little").T
    per = 8 // bits
    packed = levels[0::per].copy()
    for slot in range(1, per):
        packed |= levels[slot::per] << np.uint8(slot * bits)
    return packed.T


def _grid_table(bits: int) -> Floats:
    """Return the centred levels that each byte stands for, shape (256, 8 / bits)."""
    shifts = np.arange(8 // bits) * bits
    levels = (np.arange(256)[:, None] >> shifts) & (2**bits - 1)
    table: Floats = (levels - (2**bits - 1) / 2).astype(np.float32)
    return table


def decode_codes(rotation: Rotation, codes: Bytes2, scale: Floats, bits: int, out: Floats) -> None:
    """Write the vectors that codes stand for.

    Parameters
    ----------
    rotation : Rotation
        Which rotation.
    codes : ndarray of uint8, shape (n, size * bits / 8)
        Packed levels.
    scale : ndarray of float32, shape (n,)
        What each vector's centred levels are multiplied by.
    bits : int
        1, 2, 4 or 8.
    out : ndarray of float32, shape (n, dim)
        Where they go.
    """
    table = _grid_table(bits)
    for at in range(0, len(codes), _CHUNK):
        part = codes[at : at + _CHUNK]
        count = len(part)
        y = np.ascontiguousarray(table[part].reshape(count, rotation.size).T)
        y *= scale[at : at + count]
        out[at : at + count] = rotate_columns(rotation, y, inverse=True)[: rotation.dim].T
