"""The random rotation of RaBitQ, in numpy: the reference that every platform must agree with.

A rotation of padded dimension ``D`` has rounds.  Each multiplies by random signs and applies a
Walsh-Hadamard transform to ``P`` coordinates, the largest power of two up to ``D``: the first
``P`` in even rounds, the last in odd ones.  When ``P`` is smaller than ``D``, a step of Kac's walk
then mixes the two halves.  Only additions, subtractions and one multiplication at a time, in a
fixed order: IEEE arithmetic gives the same bits everywhere.

Source: design/0017 section 4; after Gao and Long, "RaBitQ", SIGMOD 2024, and Fast-Johnson-
Lindenstrauss (Ailon and Chazelle, 2009).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from dreamdb.vectors.codec import padded_dim

__all__ = ["KAC", "Rotation", "rotate_columns", "rotation_of"]

Floats = npt.NDArray[np.float32]
KAC: Final = np.float32(0.70710678118654752440)


class Rotation:
    """Signs and sizes of one rotation.

    Parameters
    ----------
    seed : bytes
        32 bytes.
    dim : int
        Length of a vector before padding.
    """

    __slots__ = ("dim", "factor", "power", "signs", "size")

    def __init__(self, seed: bytes, dim: int) -> None:
        self.dim = dim
        self.size = padded_dim(dim)
        self.power = 1 << (self.size.bit_length() - 1)
        rounds = 3 if self.power == self.size else 4
        self.factor = np.float32(1.0 / np.sqrt(np.float64(self.power)))
        raw = blake3(b"dreamdb rotation\0" + seed).digest(length=rounds * self.size // 8)
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
        self.signs: Floats = (1 - 2 * bits.astype(np.float32)).reshape(rounds, self.size)
        self.signs.flags.writeable = False


@lru_cache(maxsize=64)
def rotation_of(seed: bytes, dim: int) -> Rotation:
    """Return a rotation; the latest ones are kept."""
    return Rotation(seed, dim)


def _hadamard(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Transform ``a`` (P, n) with ``b`` as scratch; return the result and the other one."""
    power, count = a.shape
    half = 1
    while half < power:
        x = a.reshape(power // (2 * half), 2, half * count)
        y = b.reshape(power // (2 * half), 2, half * count)
        np.add(x[:, 0], x[:, 1], out=y[:, 0])
        np.subtract(x[:, 0], x[:, 1], out=y[:, 1])
        a, b = b, a
        half *= 2
    return a, b


def rotate_columns(rotation: Rotation, y: Floats, *, inverse: bool = False) -> Floats:
    """Rotate the columns of a matrix.

    Parameters
    ----------
    rotation : Rotation
        Which one.
    y : ndarray of float32, shape (size, n)
        Contiguous; overwritten.
    inverse : bool
        Undo the rotation instead.

    Returns
    -------
    ndarray of float32, shape (size, n)
    """
    size, power = rotation.size, rotation.power
    half = size // 2
    other = np.empty_like(y)
    order = range(len(rotation.signs))
    for turn in reversed(order) if inverse else order:
        signs = rotation.signs[turn][:, None]
        if not inverse:
            np.multiply(y, signs, out=y)
        elif power != size:
            y, other = _kac(y, other, half)
        if power == size:
            y, other = _hadamard(y, other)
            np.multiply(y, rotation.factor, out=y)
        else:
            low = 0 if turn % 2 == 0 else size - power
            done, _ = _hadamard(y[low : low + power], other[low : low + power])
            np.multiply(done, rotation.factor, out=y[low : low + power])
        if inverse:
            np.multiply(y, signs, out=y)
        elif power != size:
            y, other = _kac(y, other, half)
    return y


def _kac(y: Floats, other: Floats, half: int) -> tuple[Floats, Floats]:
    np.add(y[:half], y[half:], out=other[:half])
    np.subtract(y[:half], y[half:], out=other[half:])
    np.multiply(other, KAC, out=other)
    return other, y
