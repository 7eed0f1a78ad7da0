"""What DuckDB sees of a table: an Arrow data set whose scanner reads our fragments when asked.

Source: design/0020 section 3.  DuckDB calls ``scanner(columns, filter)`` once per scan, and pulls
batches as it needs them: a filter prunes by the statistics of the trees, and a LIMIT stops early.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from dreamdb.dataset import Dataset
from dreamdb.errors import SchemaError
from dreamdb.model import ANCHOR
from dreamdb.read import column_schema, parse_where, scan_columns

__all__ = ["RowCount", "TableSource"]

_BATCH_ROWS: Final = 131_072


class _Scanner:
    """The two members of ``pyarrow.dataset.Scanner`` that DuckDB uses."""

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self.projected_schema = schema
        self._batches = batches

    def to_reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.projected_schema, self._batches)


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return a schema of types that the engine reads: no extensions, no half floats."""
    return pa.schema([pa.field(f.name, _plain_type(f.type), f.nullable) for f in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    kind = getattr(kind, "storage_type", kind)
    if pa.types.is_fixed_size_list(kind) and pa.types.is_float16(kind.value_type):
        return pa.list_(pa.float32(), kind.list_size)
    return kind


def _plain_column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column if column.type == kind else column.cast(kind)


class TableSource(pads.Dataset):
    """A dataset at one manifest, as the engine scans it.

    Parameters
    ----------
    dataset : Dataset
        What to read.
    anchor : bool
        Whether ``_anchor`` is a column, the last one.
    limit : int, optional
        Read at most so many records; only for statements that need no more.
    named : set of str, optional
        The columns that the statement names, in lower case: for ``count(*)`` the engine asks for
        one that it does not look at, which is then not read.  None: any may be looked at.
    failures : list
        Receives what goes wrong while reading: the engine would turn it into a text.

    Raises
    ------
    SchemaError
        When two fields differ in case only, which SQL cannot tell apart.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        anchor: bool = False,
        limit: int | None = None,
        named: frozenset[str] | None = None,
        failures: list[BaseException],
    ) -> None:
        self._dataset = dataset
        self._limit = limit
        self._named = named
        self._failures = failures
        names = list(dataset.schema)
        folded: dict[str, str] = {}
        for name in names:
            other = folded.setdefault(name.casefold(), name)
            if other != name:
                raise SchemaError(
                    f"the fields {other!r} and {name!r} of {dataset.name!r} differ in case only, "
                    "which SQL cannot tell apart",
                    hint=f"rename one: ds.rename_field({name!r}, ...)",
                    field=name,
                )
        columns = [*names, ANCHOR] if anchor else names
        self._columns = _plain(column_schema(dataset._view, columns))

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self._columns

    def scanner(
        self,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002 - the name pyarrow gave it
        **options: Any,
    ) -> Any:
        """Return what reads some columns of the records that satisfy a filter.

        Parameters
        ----------
        columns : sequence of str, optional
            Which columns, in order; default: all.
        filter : Expression, optional
            A condition; the engine does not apply it again.
        **options : Any
            Not used.
        """
        names = list(self._columns.names if columns is None else columns)
        schema = pa.schema([self._columns.field(name) for name in names])
        return _Scanner(schema, self._batches(names, schema, filter))

    def _batches(
        self, names: list[str], schema: pa.Schema, condition: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        try:
            view = self._dataset._view
            predicate = parse_where(condition, view.content.schema)
            read = [n for n in names if self._named is None or n.casefold() in self._named]
            # Some column must be there to count the rows of a batch: one of the condition's.
            read = read or ([] if predicate is None else list(predicate.fields[:1])) or names[:1]
            for batch in scan_columns(view, read, predicate, limit=self._limit):
                columns = [
                    _plain_column(batch.column(field.name), field.type)
                    if field.name in read
                    else pa.nulls(batch.num_rows, field.type)
                    for field in schema
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
        except GeneratorExit:
            raise
        except BaseException as error:
            self._failures.append(error)
            raise


class RowCount(pads.Dataset):
    """A table of which a statement needs the number of rows only: nothing is read.

    Parameters
    ----------
    rows : int
        How many.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._columns = pa.schema([("_", pa.bool_())])

    @property
    def schema(self) -> pa.Schema:
        """One column that holds only nulls."""
        return self._columns

    def scanner(self, columns: Sequence[str] | None = None, **options: Any) -> Any:
        """Return what yields as many empty rows.

        Parameters
        ----------
        columns : sequence of str, optional
            Not used.
        **options : Any
            Not used.
        """

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, self._rows, _BATCH_ROWS):
                count = min(_BATCH_ROWS, self._rows - start)
                yield pa.RecordBatch.from_arrays([pa.nulls(count, pa.bool_())], schema=self.schema)

        return _Scanner(self.schema, batches())
