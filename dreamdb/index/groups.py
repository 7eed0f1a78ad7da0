"""Which rows have a segment together: the closed chunks of the ladder, from its top downwards.

Source: design/0018 section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from blake3 import blake3

from dreamdb.model import LADDER, OPEN, nearest_rung, next_rung
from dreamdb.tracks import Track

__all__ = ["MIN_RUNG", "Group", "chunk_groups", "top_rung"]

MIN_RUNG: Final = 3
"""The lowest rung with segments: about 256 rows.  What is behind is compared exactly."""

_GROUP_NBYTES: Final = 128 << 20


@dataclass(frozen=True, slots=True)
class Group:
    """A run of fragments that has one segment.

    Parameters
    ----------
    start, stop : int
        Rows of the timeline.
    rung : int
        Of the chunk.
    digest : str
        32 hexadecimal digits over the fragments' addresses and rows: equal fragments, equal digest.
    """

    start: int
    stop: int
    rung: int
    digest: str


def top_rung(track: Track) -> int:
    """Return the highest rung with segments: 7, less for vectors that are wide.

    A group is read and encoded in memory, so it has about 128 MiB of float32 at most.
    """
    nearest = nearest_rung(_GROUP_NBYTES / (4 * int(track.declared.dim or 1)))
    return min(len(LADDER) - 1, max(nearest, track.rung))


def chunk_groups(track: Track) -> list[Group]:
    """Return the groups of an embedding's track, in order; open rows belong to none.

    Notes
    -----
    A function of the track's tree entries alone: no anchors and no values are read.
    """
    entries, starts, ends = track.flat()
    if not len(entries) or track.rung < 1:
        return []
    top = top_rung(track)
    chunks: dict[int, list[int]] = {level: [] for level in range(top + 1)}
    for index, rung in enumerate(entries["rung"].tolist()):
        if rung != OPEN:
            chunks[rung].append(index + 1)
    keys = entries["key"]
    for level in range(track.rung, top):
        closed = chunks[level]
        below = np.arange(1, len(closed) + 1, dtype=np.int64)
        chosen = next_rung(below, keys[np.array(closed, np.int64) - 1], level + 1)
        if len(chosen):
            picked = (chosen - 1).tolist()
            chunks[level + 1] = [closed[i] for i in picked] + chunks[level + 1]
            chunks[level] = closed[picked[-1] + 1 :]
    seed = f"dreamdb index group\0{track.declared}\0{track.declared.codec}\0".encode()
    out: list[Group] = []
    first = 0
    for level in range(top, -1, -1):
        for end in chunks[level]:
            if level >= MIN_RUNG:
                part = entries[first:end]
                rows = np.ascontiguousarray(part["rows"]).astype("<u8").tobytes()
                digest = blake3(seed + rows + np.ascontiguousarray(part["address"]).tobytes())
                out.append(
                    Group(int(starts[first]), int(ends[end - 1]), level, digest.hexdigest(16))
                )
            first = end
    return out
