"""Counter-based randomness: a number depends on what it is for, never on what came before.

Source: design/0019 section 6; J. Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (2011),
Philox 4x32-10.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["philox", "scramble", "uniforms"]

_U = np.uint64
_ROUNDS: Final = 10
_MULTIPLIERS: Final = (_U(0xD2511F53), _U(0xCD9E8D57))
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = _U(0xFFFFFFFF)
_HALF: Final = _U(32)


def scramble(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return 64-bit values scrambled one by one (the splitmix64 finaliser).

    Parameters
    ----------
    values : ndarray of uint64
        Not changed.
    """
    x = values ^ (values >> _U(30))
    x *= _U(0xBF58476D1CE4E5B9)
    x ^= x >> _U(27)
    x *= _U(0x94D049BB133111EB)
    x ^= x >> _U(31)
    return x


def philox(key: int, counters: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return the Philox 4x32-10 blocks of some counters.

    Parameters
    ----------
    key : int
        64 bits; the lower half is the first key word.
    counters : ndarray of uint32, shape (n, 4)
        One counter per block.

    Returns
    -------
    ndarray of uint32, shape (n, 4)
        Four random words per counter.
    """
    c0, c1, c2, c3 = (counters[:, i].astype(np.uint64) for i in range(4))
    words = [key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF]
    for _ in range(_ROUNDS):
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = (second >> _HALF) ^ c1 ^ _U(words[0]), (first >> _HALF) ^ c3 ^ _U(words[1])
        c1, c3 = second & _LOW, first & _LOW
        words = [(word + step) & 0xFFFFFFFF for word, step in zip(words, _WEYL, strict=True)]
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def uniforms(key: int, ids: npt.NDArray[np.uint64], draws: int) -> npt.NDArray[np.float64]:
    """Return random numbers for some samples.

    Parameters
    ----------
    key : int
        64 bits: what the numbers are for, from :func:`~dreamdb.stream.derive_key`.
    ids : ndarray of uint64, shape (n,)
        The samples.
    draws : int
        Numbers per sample.

    Returns
    -------
    ndarray of float64, shape (n, draws)
        In ``[0, 1)``, multiples of ``2**-32``; those of a sample depend on key and id alone.
    """
    blocks = -(-draws // 4)
    counters = np.empty((len(ids), blocks, 4), np.uint32)
    counters[..., 0] = np.arange(blocks, dtype=np.uint32)
    counters[..., 1] = 0
    counters[..., 2] = (ids & _LOW).astype(np.uint32)[:, None]
    counters[..., 3] = (ids >> _HALF).astype(np.uint32)[:, None]
    words = philox(key, counters.reshape(-1, 4)).reshape(len(ids), -1)
    return words[:, :draws] / float(1 << 32)
