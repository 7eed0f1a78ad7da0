"""Putting slabs into one order before they are written, through temporary files.

Source: design/0004 section 3.  Anchors derived from keys are scattered: written slab by slab,
each slab would rewrite the fragments of all earlier ones.  Sorted first, everything is written
once.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.errors import InvalidInputError
from dreamdb.write.rows import SLAB_NBYTES, Slab, check_anchors

__all__ = ["UNKNOWN_ROW", "merge_slabs"]

UNKNOWN_ROW = -1
"""``first_row`` of a slab whose records no longer stand in the order of the call."""

Anchors = npt.NDArray[np.uint64]


def merge_slabs(slabs: Iterator[Slab]) -> Iterator[Slab]:
    """Yield the records of all slabs in the order of their anchors.

    Parameters
    ----------
    slabs : iterator of Slab
        With anchors, in any order.

    Yields
    ------
    Slab
        A single slab as it is; several ones merged, in slabs of bounded size.

    Raises
    ------
    InvalidInputError
        When two slabs hold the same anchor.

    Notes
    -----
    Cost: more than one slab is written to and read from the system's temporary folder once.
    Memory: one slab, and 8 bytes per record.
    """
    first = next(slabs, None)
    second = next(slabs, None)
    if first is None:
        return
    if second is None:
        yield first
        return
    with tempfile.TemporaryDirectory(prefix="dreamdb-merge-") as folder:
        anchors, runs, nbytes = [], [], 0
        for index, slab in enumerate(itertools.chain([first, second], slabs)):
            assert slab.anchors is not None
            order = check_anchors(slab.anchors, first_row=slab.first_row)
            ordered = slab if order is None else slab.take(order)
            assert ordered.anchors is not None
            table = pa.table(ordered.columns)
            nbytes += table.nbytes
            path = Path(folder) / str(index)
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
                out.write_table(table.combine_chunks())
            anchors.append(ordered.anchors)
            runs.append(path)
        yield from _merged(anchors, runs, nbytes)


def _merged(anchors: list[Anchors], runs: list[Path], nbytes: int) -> Iterator[Slab]:
    """Yield slabs over consecutive ranges of all anchors; each is a slice of every run."""
    everything = np.sort(np.concatenate(anchors))
    repeated = np.flatnonzero(everything[1:] == everything[:-1])
    if len(repeated):
        raise InvalidInputError(
            f"two records of this call have the anchor {int(everything[repeated[0]])}",
            hint="their keys are equal, or have the same hash: give each key once",
            anchor=int(everything[repeated[0]]),
        )
    step = max(1, int(len(everything) * SLAB_NBYTES / max(1, nbytes)))
    tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in runs]
    for begin in range(0, len(everything), step):
        low, high = everything[begin], everything[min(begin + step, len(everything)) - 1]
        parts, keys = [], []
        for own, table in zip(anchors, tables, strict=True):
            start, stop = np.searchsorted(own, low), np.searchsorted(own, high, "right")
            if start < stop:
                parts.append(table.slice(int(start), int(stop - start)))
                keys.append(own[start:stop])
        joined = _concat(parts)
        columns = {name: joined.column(name) for name in joined.column_names}
        joined_keys = np.concatenate(keys)
        slab = Slab(joined_keys, columns, joined.num_rows, UNKNOWN_ROW)
        yield slab.take(np.argsort(joined_keys, kind="stable"))


def _concat(tables: list[pa.Table]) -> pa.Table:
    """Join tables; a field that one of them lacks is null there."""
    return pa.concat_tables(tables, promote_options="default")
