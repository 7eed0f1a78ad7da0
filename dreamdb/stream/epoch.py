"""The records of one epoch in their order.

Source: design/0009.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.read import Predicate, ScanPlan, matching_rows, output_schema, to_batch
from dreamdb.stream.order import RowPermutation, derive_key
from dreamdb.tracks import View, gather

__all__ = ["Epoch", "EpochOrder", "select_rows"]

Positions = npt.NDArray[np.int64]
_BLOCK = 16_384


def select_rows(view: View, predicate: Predicate | None) -> Positions | None:
    """Return the rows for which a condition holds, increasing; None without a condition.

    Notes
    -----
    Cost: reads the condition's fields, except the runs that statistics exclude.
    """
    if predicate is None:
        return None
    plan = ScanPlan(fields=(), predicate=predicate, start=0, stop=view.rows)
    found = list(matching_rows(view, plan))
    return np.concatenate(found) if found else np.empty(0, np.int64)


class EpochOrder:
    """Which record stands at each position of an epoch: a pure function of its arguments.

    Parameters
    ----------
    view : View
        A pinned content.
    seed : int or None
        None reads in anchor order.
    epoch : int
        Number of the epoch; each has an order of its own.
    selected : ndarray of int64, optional
        Only these rows, from :func:`select_rows`.
    """

    def __init__(
        self,
        view: View,
        *,
        seed: int | None = None,
        epoch: int = 0,
        selected: Positions | None = None,
    ) -> None:
        self._view = view
        self._selected = selected
        self.num_rows = view.count() if selected is None else len(selected)
        self._permutation = None
        if seed is not None:
            self._permutation = RowPermutation(self.num_rows, derive_key("epoch", seed, epoch))

    def rows(self, positions: Positions) -> Positions:
        """Return the rows of the timeline at some positions of the epoch.

        Parameters
        ----------
        positions : ndarray of int64
            From 0 to ``num_rows - 1``.
        """
        if self._permutation is not None:
            positions = self._permutation(positions)
        if self._selected is not None:
            return self._selected[positions]
        return self._view.row_of_visible(positions)


class Epoch:
    """The Arrow batches of one epoch.

    Parameters
    ----------
    view : View
        A pinned content.
    fields : sequence of str
        What each batch holds beside the anchor.
    batch_size : int
        Records per batch; the last one may have fewer.
    seed : int or None
        Order of the epoch; None reads in anchor order.
    epoch : int
        Number of the epoch; each has an order of its own.
    predicate : Predicate, optional
        Only records for which it holds.
    categoricals : str
        ``"string"`` or ``"dictionary"``.
    """

    def __init__(
        self,
        view: View,
        fields: Sequence[str],
        *,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        predicate: Predicate | None = None,
        categoricals: str = "string",
    ) -> None:
        self._view = view
        self.batch_size = batch_size
        self.schema: pa.Schema = output_schema(
            view.content.schema, fields, categoricals=categoricals
        )
        selected = select_rows(view, predicate)
        self._order = EpochOrder(view, seed=seed, epoch=epoch, selected=selected)
        self.num_rows = self._order.num_rows
        self._block: tuple[int, Positions] = (-1, np.empty(0, np.int64))

    @property
    def num_batches(self) -> int:
        """Batches of the epoch, the last partial one included."""
        return -(-self.num_rows // self.batch_size)

    def rows(self, start: int, stop: int) -> Positions:
        """Return the rows of the timeline at positions ``[start, stop)`` of the epoch."""
        return self._order.rows(np.arange(start, min(stop, self.num_rows), dtype=np.int64))

    def _batch_rows(self, index: int) -> Positions:
        # The permutation works on arrays: computing many batches at once is far cheaper.
        per_block = max(1, _BLOCK // self.batch_size)
        block = index // per_block
        if self._block[0] != block:
            begin = block * per_block * self.batch_size
            self._block = (block, self.rows(begin, begin + per_block * self.batch_size))
        at = (index - block * per_block) * self.batch_size
        return self._block[1][at : at + self.batch_size]

    def batch(self, index: int) -> pa.RecordBatch:
        """Return one batch.

        Parameters
        ----------
        index : int
            From 0 to ``num_batches - 1``.
        """
        rows = self._batch_rows(index)
        arrays = {c.name: gather(self._view.track(c.name), rows) for c in self.schema}
        return to_batch(self._view, arrays, self.schema)

    def batches(self, start: int = 0, step: int = 1) -> Iterator[pa.RecordBatch]:
        """Yield batches ``start, start + step, ...`` of the epoch."""
        for index in range(start, self.num_batches, step):
            yield self.batch(index)
