"""The lazy result of ``Dataset.scan``.

Source: design/0004 section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from dreamdb.errors import MissingDependencyError
from dreamdb.read import ScanPlan, ScanReport, count_matching, scan_batches
from dreamdb.tracks import View

__all__ = ["Scan"]


class Scan:
    """Records to be read; nothing is read before a method asks for them.

    Anything that takes Arrow streams takes a scan: ``pa.table(scan)``, ``pl.DataFrame(scan)``,
    ``duckdb.sql("select * from scan")``.

    Parameters
    ----------
    view : View
        The pinned content.
    plan : ScanPlan
        Which records and fields.
    """

    def __init__(self, view: View, plan: ScanPlan) -> None:
        self._view = view
        self._plan = plan

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of every batch."""
        return self._plan.schema(self._view)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return scan_batches(self._view, replace(self._plan, report=ScanReport()))

    def to_reader(self) -> pa.RecordBatchReader:
        """Return a reader that yields the batches one by one."""
        return pa.RecordBatchReader.from_batches(self.schema, iter(self))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def to_arrow(self) -> pa.Table:
        """Read everything into an Arrow table."""
        return pa.Table.from_batches(list(self), self.schema)

    def to_pandas(self) -> Any:
        """Read everything into a pandas DataFrame."""
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise MissingDependencyError(
                "pandas is not installed", hint="pip install 'dreamdb[pandas]'"
            ) from None
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Read everything into a polars DataFrame."""
        try:
            import polars
        except ImportError:
            raise MissingDependencyError(
                "polars is not installed", hint="pip install 'dreamdb[polars]'"
            ) from None
        return polars.from_arrow(self.to_arrow())

    def count(self) -> int:
        """Return how many records the scan returns; reads only the condition's fields."""
        return count_matching(self._view, replace(self._plan, report=ScanReport()))

    def explain(self, analyze: bool = False) -> str:
        """Describe what will be read.

        Parameters
        ----------
        analyze : bool
            Run the scan, and say what was read and what statistics excluded.

        Returns
        -------
        str
            A few lines of text.
        """
        plan = self._plan
        names = ", ".join(plan.fields) or "(anchors only)"
        lines = [
            f"scan of rows {plan.start:,} to {plan.stop:,}, {self._view.num_dead:,} deleted",
            f"  fields: {names}",
        ]
        for name in plan.fields:
            track = self._view.track(name)
            lossy = "" if track.declared.codec is None else ", reconstructed from codes"
            lines.append(f"    {name}: {track.declared}, {track.nbytes:,} bytes in all{lossy}")
        if plan.predicate is not None:
            lines.append(f"  where:  {plan.predicate.expression}")
            lines.append(f"          reads {', '.join(plan.predicate.fields)}")
        if plan.limit is not None:
            lines.append(f"  limit:  {plan.limit:,}")
        if analyze:
            report = ScanReport()
            for _ in scan_batches(self._view, replace(plan, report=report)):
                pass
            lines.append(f"  rows:   {report.rows:,} returned")
            if plan.predicate is not None:
                lines.append(
                    f"  runs:   {report.windows:,} looked at, "
                    f"{report.pruned:,} excluded by statistics"
                )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Scan {', '.join(self.schema.names)}>"
