"""What a statement returns: a stream of Arrow batches, and how many records it changed.

Source: design/0020 section 3.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from dreamdb.errors import MissingDependencyError, StateError

__all__ = ["Result"]


class Result:
    """Rows that a statement returned.

    Anything that takes Arrow streams takes a result: ``pa.table(result)``,
    ``pl.DataFrame(result)``.  Rows are computed while they are read; once :meth:`to_arrow` has
    read them they are kept.

    Parameters
    ----------
    reader : RecordBatchReader
        The rows.
    rows_changed : int, optional
        For statements that write: how many records they have added, changed or deleted.
    translate : callable, optional
        Makes the library's errors of those that the engine raises while rows are read.
    close : callable, optional
        Frees what the statement holds.
    """

    def __init__(
        self,
        reader: pa.RecordBatchReader,
        *,
        rows_changed: int | None = None,
        translate: Callable[[Exception], BaseException] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._reader: pa.RecordBatchReader | None = reader
        self._schema = reader.schema
        self._table: pa.Table | None = None
        self._translate = translate
        self._close = close
        self.rows_changed = rows_changed

    @classmethod
    def of_table(cls, table: pa.Table, *, rows_changed: int | None = None) -> Self:
        """Return a result that holds its rows already.

        Parameters
        ----------
        table : Table
            The rows.
        rows_changed : int, optional
            As in the class.
        """
        made = cls(table.to_reader(), rows_changed=rows_changed)
        made._table, made._reader = table, None
        return made

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self._schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if self._table is not None:
            yield from self._table.to_batches()
            return
        if self._reader is None:
            raise StateError(
                "the rows of this result have been read already",
                hint="keep them with to_arrow(), or run the statement again",
            )
        reader, self._reader = self._reader, None
        try:
            yield from reader
        except Exception as error:
            if self._translate is None:
                raise
            raise self._translate(error) from None
        finally:
            self.close()

    def to_reader(self) -> pa.RecordBatchReader:
        """Return a reader that yields the batches one by one."""
        return pa.RecordBatchReader.from_batches(self._schema, iter(self))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def to_arrow(self) -> pa.Table:
        """Return all rows as an Arrow table, which is kept."""
        if self._table is None:
            self._table = pa.Table.from_batches(list(self), self._schema)
        return self._table

    def to_pandas(self) -> Any:
        """Return all rows as a pandas DataFrame."""
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise MissingDependencyError(
                "pandas is not installed", hint="pip install 'dreamdb[pandas]'"
            ) from None
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Return all rows as a polars DataFrame."""
        try:
            import polars
        except ImportError:
            raise MissingDependencyError(
                "polars is not installed", hint="pip install 'dreamdb[polars]'"
            ) from None
        return polars.from_arrow(self.to_arrow())

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows as tuples of Python values."""
        table = self.to_arrow()
        columns = [[_python(v) for v in column.to_pylist()] for column in table.columns]
        return list(zip(*columns, strict=True)) if columns else []

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the first row; None when there is none."""
        rows = self.fetchall()
        return rows[0] if rows else None

    def close(self) -> None:
        """Stop the statement and free what it holds; idempotent."""
        self._reader = None
        if self._close is not None:
            close, self._close = self._close, None
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        changed = "" if self.rows_changed is None else f", {self.rows_changed:,} changed"
        return f"<Result {', '.join(self._schema.names)}{changed}>"


def _python(value: Any) -> Any:
    """Return a value; integers that SQL has made wider than 64 bits as integers."""
    if isinstance(value, decimal.Decimal) and value == value.to_integral_value():
        exponent = value.as_tuple().exponent
        return int(value) if exponent == 0 else value
    return value
