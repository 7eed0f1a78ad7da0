"""Summaries of a content: counts and bounds from the trees, without reading values.

Source: design/0004 section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dreamdb.model import LADDER
from dreamdb.read.predicate import Bounds
from dreamdb.tracks import View
from dreamdb.types import ZERO_ADDRESS

__all__ = ["FieldSummary", "distinct_values", "summarise"]


@dataclass(frozen=True, slots=True)
class FieldSummary:
    """What the tree of one field says.

    Parameters
    ----------
    name, type : str
        The field.
    rows, nulls : int
        Records, deleted ones included, and those without a value.
    nbytes : int
        Bytes of the fragments' payloads, before compression.
    fragments : int
        Distinct fragment objects.
    rung : int
        Mean records per full fragment.
    low, high : object or None
        Bounds of the values, where the tree keeps them; for texts prefixes.
    """

    name: str
    type: str
    rows: int
    nulls: int
    nbytes: int
    fragments: int
    rung: int
    low: Any = None
    high: Any = None


def summarise(view: View, name: str) -> FieldSummary:
    """Return the summary of a field.

    Notes
    -----
    Cost: 1 object read per tree node of the field.
    """
    track = view.track(name)
    addresses = track.addresses
    low = high = None
    if track.root is not None:
        node = view.source.node(track.root)
        bound = Bounds.of_entry(track.ftype, node.summary(track.root)[0])
        low, high = bound.low, bound.high
    return FieldSummary(
        name,
        str(track.declared),
        track.rows,
        track.nulls,
        track.nbytes,
        len({a for a in addresses if a != ZERO_ADDRESS}),
        LADDER[track.rung],
        low,
        high,
    )


def distinct_values(view: View, name: str) -> list[Any]:
    """Return the distinct non-null values of the visible records, sorted.

    Notes
    -----
    Cost: every fragment of the field.
    """
    import pyarrow.compute as pc

    track = view.track(name)
    dead = view.dead()
    found: set[Any] = set()
    is_time = track.ftype.kind == "timestamp"
    _, starts, ends = track.flat()
    for start, stop in zip(starts.tolist(), ends.tolist(), strict=True):
        array = track.slice(start, stop)
        low, high = np.searchsorted(dead, [start, stop])
        if low < high:
            keep = np.ones(stop - start, np.bool_)
            keep[dead[low:high] - start] = False
            array = array.filter(keep)
        if is_time:
            array = array.cast(pa.int64())
        found.update(v for v in pc.unique(array).to_pylist() if v is not None)
    if is_time:
        return [np.datetime64(v, "ns") for v in sorted(found)]
    numbers = sorted(v for v in found if v == v)
    return numbers + ([float("nan")] if len(numbers) < len(found) else [])
