"""Cut plans: which fragments of a track go and which come when records are added or removed.

Source: design/0003 section 4.  Plans speak of keys and row ranges only, so all fields with the
same rung and floor share one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dreamdb.model import OPEN, Cuts, Entries, next_rung, rung_ends, track_cuts

__all__ = ["EditPlan", "Piece", "Planned", "extend_tail", "plan_edit"]

Keys: TypeAlias = npt.NDArray[np.uint64]
ReadKeys: TypeAlias = Callable[[int, int], Keys]


@dataclass(frozen=True, slots=True)
class Piece:
    """A fragment of a track's tail.

    Parameters
    ----------
    start, stop : int
        Rows of the timeline.
    key : int
        The last anchor.
    rung : int
        Its rung; OPEN for the open fragment.
    """

    start: int
    stop: int
    key: int
    rung: int


@dataclass(frozen=True, slots=True)
class Planned:
    """A fragment made of row ranges of the old track and of the added rows.

    Parameters
    ----------
    key, rows, rung : int
        Of the fragment's entry.
    ranges : tuple of (bool, int, int)
        Whether the range is of the added rows, and its bounds there.
    """

    key: int
    rows: int
    rung: int
    ranges: tuple[tuple[bool, int, int], ...]


@dataclass(frozen=True, slots=True)
class EditPlan:
    """What changes in a track: last keys of the entries that go, fragments that come."""

    gone: Keys
    planned: tuple[Planned, ...]


def extend_tail(
    tail: list[Piece], open_keys: Keys, new_keys: Keys, rows: int, rung: int, floor: int
) -> list[Piece]:
    """Cut appended rows behind the open tail of a track.

    Parameters
    ----------
    tail : list of Piece
        The fragments behind the last closed chunk of ``rung``, in order.
    open_keys : ndarray of uint64
        Keys of the open fragment, the last of ``tail`` when its rung is OPEN.
    new_keys : ndarray of uint64
        Keys of the appended rows, all larger.
    rows : int
        Rows before the append.
    rung, floor : int
        Where the track is cut.

    Returns
    -------
    list of Piece
        What stands in place of ``tail``: closed chunks of ``rung`` first, then the new tail.
        Pieces that are unchanged are equal to those in ``tail``.

    Notes
    -----
    Only the open fragment's keys are hashed again: closed pieces carry their rung.
    """
    base = tail[0].start if tail else rows
    ends: dict[int, list[int]] = {r: [] for r in range(floor, rung + 1)}
    last: dict[int, list[int]] = {r: [] for r in range(floor, rung + 1)}
    at = base
    for piece in tail:
        if piece.rung != OPEN:
            ends[piece.rung].append(piece.stop)
            last[piece.rung].append(piece.key)
            at = piece.stop
    keys = np.concatenate([open_keys, new_keys]) if len(open_keys) else new_keys
    closed = rung_ends(keys, floor)[floor]
    ends[floor] += (closed + at).tolist()
    last[floor] += keys[closed - 1].tolist()
    for level in range(floor, rung):
        below = np.arange(1, len(last[level]) + 1, dtype=np.int64)
        chosen = next_rung(below, np.array(last[level], np.uint64), level + 1)
        if len(chosen):
            picked = (chosen - 1).tolist()
            ends[level + 1] += [ends[level][i] for i in picked]
            last[level + 1] += [last[level][i] for i in picked]
            rest = picked[-1] + 1
            ends[level], last[level] = ends[level][rest:], last[level][rest:]
    out: list[Piece] = []
    start = base
    for level in range(rung, floor - 1, -1):
        for end, key in zip(ends[level], last[level], strict=True):
            out.append(Piece(start, end, key, level))
            start = end
    total = rows + len(new_keys)
    if start < total:
        out.append(Piece(start, total, int(keys[-1]), OPEN))
    return out


def plan_edit(
    entries: Entries, read_keys: ReadKeys, added: Keys, removed: Keys, rung: int, floor: int
) -> EditPlan:
    """Plan adding and removing records anywhere in a track.

    Parameters
    ----------
    entries : structured array
        All fragment entries of the track.
    read_keys : callable
        ``(start, stop) ->`` keys of the old rows.
    added, removed : ndarray of uint64
        Increasing; added keys are not stored yet, removed ones are.
    rung, floor : int
        Where the track is cut.

    Notes
    -----
    A unit is a closed chunk of ``rung`` or the tail.  Each touched unit is cut again, and the
    units behind it, until a cut falls on an old boundary of ``rung``: from there on nothing moves.
    """
    ends = np.cumsum(entries["rows"]).astype(np.int64)
    bounds = [0, *(np.flatnonzero(entries["rung"] == rung) + 1).tolist()]
    has_tail = bounds[-1] < len(entries)
    if has_tail:
        bounds.append(len(entries))
    num_units = len(bounds) - 1
    unit_keys = entries["key"][np.array(bounds[1:], np.int64) - 1]
    touched = np.union1d(added, removed)
    gone: list[int] = []
    planned: list[Planned] = []
    at = 0
    while at < len(touched):
        first = int(np.searchsorted(unit_keys, touched[at]))
        if first == num_units and has_tail:
            first -= 1
        last = first
        begin = bounds[min(first, num_units)]
        low = int(ends[begin - 1]) if begin else 0
        while True:
            stop = bounds[min(last + 1, num_units)]
            high = int(ends[stop - 1]) if stop else 0
            final = last >= num_units or (last == num_units - 1 and has_tail)
            until = len(touched)
            if not final:
                until = int(np.searchsorted(touched, unit_keys[last], "right"))
            old = read_keys(low, high) if high > low else np.empty(0, np.uint64)
            merged = _merge(old, low, added, removed, touched[at], touched[until - 1])
            cuts = track_cuts(merged.keys, rung, floor)
            if final or not len(merged.keys) or int(cuts.rungs[-1]) == rung:
                break
            last += 1
        _collect(entries[begin:stop], merged, cuts, gone, planned)
        at = until
    return EditPlan(np.array(sorted(gone), np.uint64), tuple(planned))


@dataclass(frozen=True, slots=True)
class _Merged:
    """Keys of a region after the edit, and for each whether it is new and its row of origin."""

    keys: Keys
    is_new: npt.NDArray[np.bool_]
    origin: npt.NDArray[np.int64]


def _merge(
    old: Keys, low: int, added: Keys, removed: Keys, first: np.uint64, last: np.uint64
) -> _Merged:
    """Merge the touched keys from ``first`` to ``last`` into the old keys of a region."""
    begin, end = np.searchsorted(added, first), np.searchsorted(added, last, "right")
    leaving = removed[np.searchsorted(removed, first) : np.searchsorted(removed, last, "right")]
    rows = np.arange(low, low + len(old), dtype=np.int64)
    if len(leaving):
        kept = ~np.isin(old, leaving)
        old, rows = old[kept], rows[kept]
    keys = np.concatenate([old, added[begin:end]])
    order = np.argsort(keys, kind="stable")
    origin = np.concatenate([rows, np.arange(begin, end, dtype=np.int64)])[order]
    return _Merged(keys[order], order >= len(old), origin)


def _collect(
    entries: Entries, merged: _Merged, cuts: Cuts, gone: list[int], planned: list[Planned]
) -> None:
    """Compare the new cuts of a region with its old entries."""
    old = {
        int(key): (int(rows), int(rung))
        for key, rows, rung in zip(entries["key"], entries["rows"], entries["rung"], strict=True)
    }
    kept: set[int] = set()
    start = 0
    for end, rung in zip(cuts.ends.tolist(), cuts.rungs.tolist(), strict=True):
        key = int(merged.keys[end - 1])
        is_new, origin = merged.is_new[start:end], merged.origin[start:end]
        breaks = np.flatnonzero((is_new[1:] != is_new[:-1]) | (origin[1:] != origin[:-1] + 1)) + 1
        bounds = [0, *breaks.tolist(), end - start]
        if len(bounds) == 2 and not is_new[0] and old.get(key) == (end - start, rung):
            kept.add(key)
        else:
            ranges = tuple(
                (bool(is_new[a]), int(origin[a]), int(origin[b - 1]) + 1)
                for a, b in pairwise(bounds)
            )
            planned.append(Planned(key, end - start, rung, ranges))
        start = end
    gone.extend(key for key in old if key not in kept)
