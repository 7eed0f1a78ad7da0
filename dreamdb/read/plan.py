"""What a scan returns, and the batches it is made of.

Source: design/0004 section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from dreamdb.errors import InvalidInputError
from dreamdb.model import ANCHOR
from dreamdb.read.output import output_array, output_schema
from dreamdb.read.predicate import Predicate
from dreamdb.tracks import View

__all__ = ["ScanPlan", "ScanReport", "check_batch_size", "to_batch"]


@dataclass(slots=True)
class ScanReport:
    """What a scan has read so far; shown by ``Scan.explain(analyze=True)``.

    Parameters
    ----------
    windows, pruned : int
        Runs of rows looked at, and those that statistics excluded.
    rows : int
        Rows returned.
    """

    windows: int = 0
    pruned: int = 0
    rows: int = 0


@dataclass(frozen=True)
class ScanPlan:
    """What a scan returns.

    Parameters
    ----------
    fields : tuple of str
        Fields, in output order.
    predicate : Predicate or None
        Which records.
    start, stop : int
        Row range of the timeline.
    limit : int or None
        At most so many records.
    batch_size : int
        Records per batch; the last one may have fewer.
    categoricals : str
        ``"string"`` or ``"dictionary"``.
    descending : bool
        From the last record to the first.
    exact : bool
        Every batch but the last has ``batch_size`` records; otherwise batches are at most that
        long and end where fragments end, so that nothing is copied.
    """

    fields: tuple[str, ...]
    predicate: Predicate | None = None
    start: int = 0
    stop: int = 0
    limit: int | None = None
    batch_size: int = 8_192
    categoricals: str = "string"
    descending: bool = False
    exact: bool = True
    report: ScanReport = field(default_factory=ScanReport)

    def schema(self, view: View) -> pa.Schema:
        """Return the one schema of all batches."""
        return output_schema(view.content.schema, self.fields, categoricals=self.categoricals)


def check_batch_size(batch_size: object) -> int:
    """Return a batch size, checked."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
        raise InvalidInputError(f"batch_size must be an integer, not {batch_size!r}")
    if not 1 <= int(batch_size) <= 1 << 31:
        raise InvalidInputError(f"batch_size must be positive, not {batch_size}")
    return int(batch_size)


def to_batch(view: View, arrays: Mapping[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """Return logical arrays as one output batch."""
    columns = []
    for column in schema:
        array = arrays[column.name]
        if column.name != ANCHOR:
            array = output_array(view.content.schema[column.name].type, array, column.type)
        columns.append(array)
    return pa.RecordBatch.from_arrays(columns, schema=schema)
