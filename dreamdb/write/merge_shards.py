"""Merging versions that have only added records, all at once: the shards of a parallel ingest.

Source: design/0008 section 6.  Merged one after the other, shards whose anchors interleave would
rewrite the same fragments once per shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.model import Content
from dreamdb.tracks import Alignment, View, align, differing_cells, gather
from dreamdb.write.merge import insert_records
from dreamdb.write.stage import Stage

__all__ = ["Shard", "add_shards", "shard_of"]

Anchors = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shard:
    """A version that differs from its base in added records alone.

    Parameters
    ----------
    view : View
        The version.
    anchors : ndarray of uint64
        Increasing anchors of the added records.
    rows : ndarray of int64
        Where they are in it.
    """

    view: View
    anchors: Anchors
    rows: Positions


def shard_of(base: View, tip: View, other: View) -> Shard | None:
    """Return a version as a shard; None when it has changed more than that.

    Parameters
    ----------
    base : View
        Its merge base with the tip.
    tip : View
        What it is to be merged into.
    other : View
        The version.

    Notes
    -----
    Cost: the paths to what differs from the base, and the fragments there that hold old records.
    """
    old, new = base.content, other.content
    if new.schema != tip.content.schema or (len(old.schema) and old.schema != new.schema):
        return None
    if new.tombstones != old.tombstones:
        return None
    if new.metadata not in (old.metadata, tip.content.metadata):
        return None
    rows = align(base.timeline, other.timeline)
    if len(rows.removed) or _changed(base, other, rows):
        return None
    if (tip.rows and len(rows.added_anchors)) and (
        (tip.find(rows.added_anchors, deleted=True) >= 0).any()
    ):
        return None
    return Shard(other, rows.added_anchors, rows.added)


def _changed(base: View, other: View, rows: Alignment) -> bool:
    return any(
        len(differing_cells(base.track(name), other.track(name), rows)[0])
        for name in base.content.schema
    )


def add_shards(tip: View, stage: Stage, shards: Sequence[Shard]) -> Content | None:
    """Add the records of several shards to a content; None when two shards share an anchor.

    Parameters
    ----------
    tip, stage : View, Stage
        What to add to, and where objects go.
    shards : sequence of Shard
        What to add.

    Notes
    -----
    Cost: each fragment is written once.  Memory: 17 bytes per record, and one slab.
    """
    anchors = np.concatenate([shard.anchors for shard in shards])
    order = np.argsort(anchors, kind="stable")
    anchors = anchors[order]
    if bool((anchors[1:] == anchors[:-1]).any()):
        return None
    owners = np.repeat(
        np.arange(len(shards), dtype=np.uint8), [len(shard.anchors) for shard in shards]
    )[order]
    rows = np.concatenate([shard.rows for shard in shards])[order]

    def columns(start: int, stop: int) -> Mapping[str, pa.ChunkedArray]:
        owner, row = owners[start:stop], rows[start:stop]
        index = [np.flatnonzero(owner == number) for number in range(len(shards))]
        back = np.argsort(np.concatenate(index), kind="stable")
        in_order = bool((back[1:] > back[:-1]).all())
        out = {}
        for name in tip.content.schema:
            parts = [
                gather(shard.view.track(name), row[at])
                for shard, at in zip(shards, index, strict=True)
                if len(at)
            ]
            joined = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
            out[name] = pa.chunked_array([joined if in_order else joined.take(numbers_array(back))])
        return out

    return insert_records(tip, stage, anchors, np.empty(0, np.uint64), columns)
