"""The cut ladder: where tracks and nodes are divided, as a function of the anchors alone.

Source: design/0002 sections 6.6 to 6.8 (normative constants), design/0003.

A cutter walks a run of keys and closes a chunk at the first key whose salted hash falls below a
threshold: a strict one before the mean length, an easy one after it, never below a minimum and
always at a maximum.  Rung ``r + 1`` of the ladder chooses its boundaries, by the same rule, among
those of rung ``r``; so rungs nest, and any boundary restarts every rung below it.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "LADDER",
    "NODE_RULE",
    "OPEN",
    "CutRule",
    "Cuts",
    "closed_ends",
    "nearest_rung",
    "node_salt",
    "rung_ends",
    "track_cuts",
]

Keys = npt.NDArray[np.uint64]
Ends = npt.NDArray[np.int64]

LADDER: Final = (1, 16, 64, 256, 1_024, 4_096, 16_384, 65_536)
"""Mean records per chunk at rungs 0 to 7."""

OPEN: Final = 255
"""The rung of the one open fragment at the end of a track."""


@dataclass(frozen=True, slots=True)
class CutRule:
    """Chunk lengths and thresholds.

    Parameters
    ----------
    minimum, mean, maximum : int
        Keys per chunk.
    hard, easy : int
        Thresholds up to and behind the mean, in units of 2**-9 of the hash range.
    """

    minimum: int
    mean: int
    maximum: int
    hard: int
    easy: int


# Thresholds are calibrated so that the measured mean equals the nominal one (within 0.5 %).
FIRST_RULE: Final = CutRule(minimum=4, mean=16, maximum=64, hard=16, easy=160)
NEXT_RULE: Final = CutRule(minimum=2, mean=4, maximum=8, hard=128, easy=306)
NODE_RULE: Final = CutRule(minimum=64, mean=256, maximum=1_024, hard=1, easy=11)

_U = np.uint64
_GAMMA: Final = _U(0x9E3779B97F4A7C15)
_SALT: Final = 0xD1342543DE82EF95
_M1: Final = _U(0xBF58476D1CE4E5B9)
_M2: Final = _U(0x94D049BB133111EB)


def node_salt(level: int) -> int:
    """Return the salt of tree nodes at a level (1 = nodes over fragments)."""
    return 64 + level


def _hash(keys: Keys, salt: int) -> Keys:
    """splitmix64's finaliser over ``key + salt * constant + gamma``."""
    z = keys + _U((salt * _SALT + int(_GAMMA)) & 0xFFFFFFFFFFFFFFFF)
    z ^= z >> _U(30)
    z *= _M1
    z ^= z >> _U(27)
    z *= _M2
    z ^= z >> _U(31)
    return z


def closed_ends(keys: Keys, rule: CutRule, salt: int) -> Ends:
    """Return the end offsets of the closed chunks of a run of keys.

    Parameters
    ----------
    keys : ndarray of uint64, shape (n,)
        Strictly increasing; the run starts at a boundary.
    rule : CutRule
        Lengths and thresholds.
    salt : int
        Distinguishes rungs and levels.

    Returns
    -------
    ndarray of int64
        Exclusive ends; what follows the last one is open.
    """
    n = len(keys)
    if n < rule.minimum:
        return np.empty(0, np.int64)
    hashes = _hash(np.ascontiguousarray(keys, np.uint64), salt) >> _U(55)
    beyond = n + rule.maximum
    hard: list[int] = np.flatnonzero(hashes < _U(rule.hard)).tolist()
    easy: list[int] = np.flatnonzero(hashes < _U(rule.easy)).tolist()
    hard.append(beyond)
    easy.append(beyond)
    out: list[int] = []
    i = j = start = 0
    minimum, mean, maximum = rule.minimum, rule.mean, rule.maximum
    while True:
        i = bisect_left(hard, start + minimum - 1, i)
        end = hard[i] + 1
        if end > start + mean:
            j = bisect_left(easy, start + mean, j)
            end = min(easy[j] + 1, start + maximum)
        if end > n:
            return np.array(out, np.int64)
        out.append(end)
        start = end


def next_rung(ends: Ends, keys: Keys, rung: int) -> Ends:
    """Return the boundaries of ``rung`` chosen among those of the rung below."""
    rule = FIRST_RULE if rung == 1 else NEXT_RULE
    if len(ends) < rule.minimum:
        return ends[:0]
    return ends[closed_ends(keys[ends - 1], rule, rung) - 1]


def rung_ends(keys: Keys, top: int) -> list[Ends]:
    """Return the ends of the closed chunks at rungs 0 to ``top`` of a run of keys."""
    ends = [np.arange(1, len(keys) + 1, dtype=np.int64)]
    for rung in range(1, top + 1):
        ends.append(next_rung(ends[-1], keys, rung))
    return ends


@dataclass(frozen=True, slots=True)
class Cuts:
    """How a run of records is divided into fragments.

    Parameters
    ----------
    ends : ndarray of int64
        Exclusive end offset of each fragment.
    rungs : ndarray of uint8
        The rung of each fragment; OPEN for the last one when it is open.
    """

    ends: Ends
    rungs: npt.NDArray[np.uint8]


def track_cuts(keys: Keys, rung: int, floor: int) -> Cuts:
    """Divide a run of records, starting at a boundary of ``rung``, into fragments.

    Closed chunks of ``rung`` come first; what is behind the last of them is stored at ever finer
    rungs down to ``floor``, and the rest in one open fragment, so that an append rewrites little.
    """
    ladder = rung_ends(keys, rung)
    ends: list[Ends] = []
    rungs: list[npt.NDArray[np.uint8]] = []
    at = 0
    for level in range(rung, floor - 1, -1):
        closed = ladder[level]
        if at:
            closed = closed[int(np.searchsorted(closed, at, "right")) :]
        if len(closed):
            ends.append(closed)
            rungs.append(np.full(len(closed), level, np.uint8))
            at = int(closed[-1])
    if at < len(keys):
        ends.append(np.array([len(keys)], np.int64))
        rungs.append(np.array([OPEN], np.uint8))
    if not ends:
        return Cuts(np.empty(0, np.int64), np.empty(0, np.uint8))
    return Cuts(np.concatenate(ends), np.concatenate(rungs))


def nearest_rung(rows: float) -> int:
    """Return the rung whose mean is nearest to a number of rows, by ratio; ties go up."""
    best = 0
    for rung, mean in enumerate(LADDER):
        if max(mean, rows) * min(LADDER[best], rows) <= max(LADDER[best], rows) * min(mean, rows):
            best = rung
    return best
