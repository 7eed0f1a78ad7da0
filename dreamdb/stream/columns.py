"""Batches as numpy arrays and lists, read for many steps at once.

Source: design/0009.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamdb.errors import DreamDBError, InvalidInputError
from dreamdb.model import ANCHOR
from dreamdb.stream.epoch import EpochOrder
from dreamdb.tracks import (
    NUMPY_KINDS,
    Track,
    View,
    decode_gathered,
    gather_list,
    gather_numpy,
    increasing,
)

__all__ = ["NULLS", "ColumnReader", "step_batches"]

Positions = npt.NDArray[np.int64]
NULLS: Final = ("raise", "zero", "mask")
_BLOCK_NBYTES: Final = 4 << 20
_BLOCK_ROWS: Final = 65_536
_ORDER_ROWS: Final = 32_768


class ColumnReader:
    """Reads a few fields at any rows.

    Parameters
    ----------
    view : View
        A pinned content.
    fields : sequence of str
        What to read beside the anchor.
    nulls : str
        What a missing number or vector becomes: ``"raise"`` an error, ``"zero"``, or with
        ``"mask"`` zero and a further array ``<field>_mask`` that is true where there is a value.

    Raises
    ------
    InvalidInputError
        When ``nulls`` is no choice, or a mask would have a field's name.
    """

    def __init__(self, view: View, fields: Sequence[str], *, nulls: str = "raise") -> None:
        if nulls not in NULLS:
            raise InvalidInputError(
                f"nulls={nulls!r} is not a choice", hint=f"one of {', '.join(NULLS)}"
            )
        if nulls == "mask":
            clash = [name for name in fields if f"{name}_mask" in fields]
            if clash:
                raise InvalidInputError(
                    f"the mask of {clash[0]!r} would have the name of the field '{clash[0]}_mask'",
                    hint="leave one of the two out, or rename it",
                )
        self._nulls = nulls
        self._timeline = view.timeline
        self._tracks: dict[str, Track] = {name: view.track(name) for name in fields}
        self.num_rows = view.rows
        self.row_nbytes = 8 + sum(map(_row_nbytes, self._tracks.values()))

    def expect(self, fraction: float) -> None:
        """Say which part of all rows will be read soon, so that they are verified together.

        Parameters
        ----------
        fraction : float
            From 0 to 1.
        """
        for track in (self._timeline, *self._tracks.values()):
            track.expected = fraction

    def read(self, rows: Positions) -> dict[str, Any]:
        """Return the values at some rows, in their order.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Rows of the timeline.

        Returns
        -------
        dict of str to ndarray or list
            ``_anchor`` (uint64), then every field; arrays are new and writable.

        Raises
        ------
        InvalidInputError
            For a null in a number or vector, unless the policy allows it.
        """
        ordered, order = increasing(rows)
        anchors, _ = gather_numpy(self._timeline, ordered, order)
        out: dict[str, Any] = {ANCHOR: anchors}
        for name, track in self._tracks.items():
            if track.ftype.kind not in NUMPY_KINDS:
                out[name] = gather_list(track, rows)
                continue
            values, valid = gather_numpy(track, ordered, order)
            if valid is not None and self._nulls == "raise" and not valid.all():
                raise _null_error(name, track, int(anchors[int(np.argmin(valid))]))
            out[name] = decode_gathered(track, values)
            if self._nulls == "mask":
                out[f"{name}_mask"] = np.ones(len(rows), np.bool_) if valid is None else valid
        return out


def _row_nbytes(track: Track) -> int:
    return -(-track.nbytes // max(1, track.rows)) + 8


def _null_error(name: str, track: Track, anchor: int) -> InvalidInputError:
    return InvalidInputError(
        f"the record {anchor} has no {name!r} ({track.declared}), and an array cannot hold a null",
        hint="nulls='zero' or nulls='mask', or where=vd.col(...).is_valid()",
        field=name,
        anchor=anchor,
    )


def step_batches(
    reader: ColumnReader,
    order: EpochOrder,
    shares: Iterable[tuple[int, int]],
    *,
    world_size: int = 1,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the batches of some steps, several at a time.

    Parameters
    ----------
    reader : ColumnReader
        What to read.
    order : EpochOrder
        Which record stands at each position.
    shares : iterable of (int, int)
        Positions ``[start, stop)`` of each batch, in the order wanted.
    world_size : int
        How many readers share the epoch.

    Yields
    ------
    list of dict
        Consecutive batches.  Reading them together groups their rows by fragment once; the
        first block is one batch, so that it comes at once, and later ones grow up to 4 MiB.
    """
    remaining = _rows_of(order, iter(shares))
    fraction = order.num_rows / max(1, reader.num_rows) / world_size
    most = max(1, min(_BLOCK_ROWS, _BLOCK_NBYTES // reader.row_nbytes))
    limit = 1
    while block := _take_block(remaining, limit):
        try:
            yield _read_block(reader, block)
        except DreamDBError:
            # The batches in front of the failing one are good, and come first.
            for rows in block:
                yield _read_block(reader, [rows])
        # Not before the first batch is out: that one is to come at once.
        reader.expect(fraction)
        limit = min(most, 4 * sum(map(len, block)))


def _rows_of(order: EpochOrder, shares: Iterator[tuple[int, int]]) -> Iterator[Positions]:
    """Yield the rows of each batch; the order is far cheaper to compute for many at once."""
    some = 1
    while group := list(itertools.islice(shares, some)):
        positions = [np.arange(start, stop, dtype=np.int64) for start, stop in group]
        rows = order.rows(np.concatenate(positions))
        edges = np.cumsum([0, *map(len, positions)]).tolist()
        yield from (rows[low:high] for low, high in itertools.pairwise(edges))
        some = max(1, min(4 * some, _ORDER_ROWS * some // max(1, len(rows))))


def _take_block(rows: Iterator[Positions], limit: int) -> list[Positions]:
    block, total = [], 0
    for batch in rows:
        block.append(batch)
        total += len(batch)
        if total >= limit:
            break
    return block


def _read_block(reader: ColumnReader, block: Sequence[Positions]) -> list[dict[str, Any]]:
    columns = reader.read(np.concatenate(block))
    edges = np.cumsum([0, *map(len, block)]).tolist()
    return [
        {name: values[low:high] for name, values in columns.items()}
        for low, high in itertools.pairwise(edges)
    ]
