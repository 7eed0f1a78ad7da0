"""The order of an epoch: a keyed permutation of the records, computed position by position.

Source: design/0009.  Nothing is materialised: any position is found in constant time and memory,
so resuming, sharding and auditing are integer arithmetic.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from dreamdb.errors import InvalidInputError
from dreamdb.objects import encode_document

__all__ = ["RowPermutation", "derive_key"]

Positions = npt.NDArray[np.int64]
_U = np.uint64
_ROUNDS: Final = 8
_GAMMA: Final = 0x9E3779B97F4A7C15
_CONSTANTS: Final = tuple(_U((_GAMMA * (i + 1)) & 0xFFFFFFFFFFFFFFFF) for i in range(_ROUNDS))


def derive_key(purpose: str, seed: int, epoch: int = 0) -> int:
    """Return a 64-bit key that depends on purpose, seed and epoch, stable for ever.

    Parameters
    ----------
    purpose : str
        What the key is for.
    seed : int
        From ``-2**63`` to ``2**64 - 1``.
    epoch : int
        Not negative.

    Raises
    ------
    InvalidInputError
        When seed or epoch is not such an integer.
    """
    for name, value in (("seed", seed), ("epoch", epoch)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise InvalidInputError(f"{name} must be an integer, not {value!r}")
    if not -(1 << 63) <= int(seed) < 1 << 64 or not 0 <= int(epoch) < 1 << 63:
        raise InvalidInputError(f"seed {seed} or epoch {epoch} is out of range")
    document = encode_document({"purpose": purpose, "seed": int(seed), "epoch": int(epoch)})
    digest = blake3(document, derive_key_context="dreamdb v1 order").digest(length=8)
    return int.from_bytes(digest, "little")


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble every value; the array is the caller's to lose."""
    x ^= x >> _U(30)
    x *= _U(0xBF58476D1CE4E5B9)
    x ^= x >> _U(27)
    x *= _U(0x94D049BB133111EB)
    x ^= x >> _U(31)
    return x


class RowPermutation:
    """A keyed permutation of ``[0, count)``: an 8-round Feistel network with cycle walking.

    Parameters
    ----------
    count : int
        Size of the domain.
    key : int
        64-bit key from :func:`derive_key`.
    """

    def __init__(self, count: int, key: int) -> None:
        self.count = int(count)
        bits = max(2, (self.count - 1).bit_length())
        left = bits // 2
        self._right_bits = _U(bits - left)
        self._left_mask = _U((1 << left) - 1)
        self._right_mask = _U((1 << (bits - left)) - 1)
        self._keys = tuple(
            _U((int(c) + key * (i * 2 + 1)) & 0xFFFFFFFFFFFFFFFF) for i, c in enumerate(_CONSTANTS)
        )

    def _pass(self, x: npt.NDArray[np.uint64], *, backwards: bool) -> npt.NDArray[np.uint64]:
        left, right = x >> self._right_bits, x & self._right_mask
        rounds = range(_ROUNDS - 1, -1, -1) if backwards else range(_ROUNDS)
        for i in rounds:
            if i & 1:
                right = right ^ (_mix(left + self._keys[i]) & self._right_mask)
            else:
                left = left ^ (_mix(right + self._keys[i]) & self._left_mask)
        return (left << self._right_bits) | right

    def _walk(self, positions: Positions, *, backwards: bool) -> Positions:
        x = np.asarray(positions, np.int64)
        if len(x) and (int(x.min()) < 0 or int(x.max()) >= self.count):
            raise InvalidInputError(f"a position is not below {self.count}")
        y = self._pass(x.astype(np.uint64), backwards=backwards)
        outside = np.flatnonzero(y >= _U(self.count))
        while len(outside):
            y[outside] = self._pass(y[outside], backwards=backwards)
            outside = outside[y[outside] >= _U(self.count)]
        return y.astype(np.int64)

    def __call__(self, positions: Positions) -> Positions:
        """Return what stands at each position.

        Parameters
        ----------
        positions : ndarray of int64
            Positions of the epoch.
        """
        return self._walk(positions, backwards=False)

    def inverse(self, values: Positions) -> Positions:
        """Return the position of each value.

        Parameters
        ----------
        values : ndarray of int64
            Members of the domain.
        """
        return self._walk(values, backwards=True)
