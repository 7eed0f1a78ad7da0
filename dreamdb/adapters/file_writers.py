"""Writers of single files: Parquet, Arrow IPC, CSV, JSON lines.

Source: design/0020 section 9.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from dreamdb.errors import InvalidInputError, SchemaError

__all__ = ["FILE_FORMATS", "open_writer", "writable_schema"]

FILE_FORMATS: Final = ("parquet", "arrow", "csv", "jsonl")
"""Formats of single files."""

Write = Callable[[pa.RecordBatch], None]

# Where extension types survive a round trip.
_KEEPS_TENSORS: Final = ("parquet", "arrow")


def writable_schema(schema: pa.Schema, file_format: str) -> pa.Schema:
    """Return the schema that a format writes.

    Parameters
    ----------
    schema : Schema
        Of a scan.
    file_format : str
        The format.

    Raises
    ------
    SchemaError
        Naming a field that the format cannot hold.
    """
    out = []
    for field in schema:
        kind = field.type
        if file_format not in _KEEPS_TENSORS:
            kind = getattr(kind, "storage_type", kind)
        if not _fits(kind, file_format):
            raise SchemaError(
                f"{file_format} cannot hold the field {field.name!r} ({kind})",
                hint="leave it out with fields=..., or export to parquet, arrow or lance",
                field=field.name,
            )
        out.append(pa.field(field.name, kind, field.nullable))
    return pa.schema(out)


def _fits(kind: pa.DataType, file_format: str) -> bool:
    if file_format == "csv":
        return not (pa.types.is_nested(kind) or pa.types.is_binary(kind))
    if file_format != "jsonl":
        return True
    if pa.types.is_struct(kind):
        return all(_fits(kind.field(i).type, file_format) for i in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _fits(kind.value_type, file_format)
    return not pa.types.is_binary(kind)


@contextmanager
def open_writer(
    path: Path, schema: pa.Schema, file_format: str, *, stream: bool = False
) -> Iterator[Write]:
    """Open a file for writing; it is durable when the block ends.

    Parameters
    ----------
    path : Path
        The file; replaced when it is there.
    schema : Schema
        Of every batch.
    file_format : str
        One of :data:`FILE_FORMATS`.
    stream : bool
        Arrow only: the stream format instead of the file format.
    """
    with open(path, "wb") as file:
        if file_format == "parquet":
            with pq.ParquetWriter(file, schema) as parquet:
                yield parquet.write_batch
        elif file_format == "arrow":
            opened = pa.ipc.new_stream if stream else pa.ipc.new_file
            with opened(file, schema) as arrow:
                yield arrow.write_batch
        elif file_format == "csv":
            with csv.CSVWriter(file, schema) as rows:
                yield lambda batch: rows.write_batch(batch)
        else:
            yield lambda batch: _write_lines(file, batch)
        file.flush()
        os.fsync(file.fileno())


def _write_lines(file: Any, batch: pa.RecordBatch) -> None:
    names = batch.schema.names
    columns = [_json_column(name, batch.column(name)) for name in names]
    lines = []
    for row in zip(*columns, strict=True):
        try:
            told = json.dumps(
                dict(zip(names, row, strict=True)), ensure_ascii=False, allow_nan=False
            )
        except ValueError:
            name = next(n for n, v in zip(names, row, strict=True) if _holds_nan(v))
            raise InvalidInputError(
                f"the field {name!r} holds NaN or infinity, which JSON has no numbers for",
                hint="leave it out with fields=..., or export to parquet or csv",
                field=name,
            ) from None
        lines.append(told)
    if lines:
        file.write(("\n".join(lines) + "\n").encode("utf-8", "strict"))


def _json_column(name: str, column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        # ISO 8601 with all nine digits.
        return column.cast(pa.string()).to_pylist()
    values: list[Any] = column.to_pylist()
    return values


def _holds_nan(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(_holds_nan(member) for member in value.values())
    return isinstance(value, list) and any(_holds_nan(item) for item in value)
