"""CSV and JSON lines, parsed block by block.

Types are inferred from the first block of a file unless they are given; a later value that does
not fit is an error that names field, row and line.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.json as pajson

from dreamdb.adapters.reading import FileOptions, bad_value, unreadable
from dreamdb.codecs import arrow_type
from dreamdb.errors import InvalidInputError
from dreamdb.types import STRING_KINDS, FieldType

__all__ = ["check_long_integers", "read_csv", "read_json_lines"]

_CSV_VALUE: Final = re.compile(
    r"In CSV column #(\d+): Row #(\d+): CSV conversion error to (\S+): (.*)", re.DOTALL
)
_LOOKED_AT: Final = 1_000
_LONG_INTEGER: Final = re.compile(r"-?[1-9]\d{16,}\Z")
_CSV_SHAPE: Final = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")


def _text_type(ftype: FieldType) -> pa.DataType | None:
    """Return the Arrow type to parse a field's text into; None leaves it to inference."""
    if ftype.kind in STRING_KINDS:
        return pa.string()
    if ftype.kind in ("bool", "int", "float", "anchor"):
        return arrow_type(ftype)
    if ftype.kind == "timestamp":
        return pa.timestamp("ns")
    return None


def _json_type_of(ftype: FieldType) -> pa.DataType | None:
    if ftype.kind == "embedding":
        return pa.list_(pa.float32())
    if ftype.kind == "list":
        return arrow_type(ftype)
    return _text_type(ftype)


def _column_types(
    options: FileOptions, choose: Callable[[FieldType], pa.DataType | None]
) -> dict[str, pa.DataType]:
    known = {name: choose(ftype) for name, ftype in options.known.items()}
    return {name: dtype for name, dtype in known.items() if dtype is not None}


def _slices(batch: pa.RecordBatch, options: FileOptions) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, options.batch_rows):
        yield batch.slice(start, options.batch_rows)


def read_csv(path: Path, options: FileOptions) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a CSV file with a heading; ``.tsv`` means tabs.

    Parameters
    ----------
    path : Path
        The file.
    options : FileOptions
        How it is read.
    """
    names: list[str] = []
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            reader = csv.open_csv(
                stream,
                # With one thread Arrow's messages have row numbers.
                read_options=csv.ReadOptions(use_threads=False, block_size=options.block_nbytes),
                parse_options=csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
                convert_options=csv.ConvertOptions(column_types=_column_types(options, _text_type)),
            )
            names = reader.schema.names
            for column in reader.schema:
                if pa.types.is_binary(column.type):
                    raise InvalidInputError(
                        f"the column {column.name!r} of {path} is not UTF-8 text",
                        hint="convert the file first, for example with iconv",
                        field=column.name,
                        path=str(path),
                    )
            chosen = options.choose(names, path)
            for batch in reader:
                yield from _slices(batch.select(chosen), options)
    except (pa.ArrowException, OSError) as error:
        raise _csv_error(path, names, error) from None


def check_long_integers(path: Path, schema: pa.Schema, options: FileOptions) -> None:
    """Refuse integers that only seem to be floats because they are too long for 64 bits.

    Identifiers such as 12345678901234567890 would lose their last digits.

    Parameters
    ----------
    path : Path
        A CSV or JSON lines file; its first records are looked at.
    schema : pyarrow.Schema
        The types that were inferred.
    options : FileOptions
        Columns whose type is known are left alone.

    Raises
    ------
    InvalidInputError
        Naming field, row and line.
    """
    floats = {
        column.name
        for column in schema
        if pa.types.is_floating(column.type) and column.name not in options.known
    }
    if not floats:
        return
    records = _csv_records(path) if _is_csv(path) else _json_records(path)
    for row, (line, record) in enumerate(itertools.islice(records, _LOOKED_AT)):
        for name in floats & record.keys():
            if _LONG_INTEGER.match(str(record[name])):
                why = f"{record[name]} has more digits than an int or a float holds"
                raise bad_value(path, name, row, line, why)


def _csv_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = ((line, row) for line, row in _python_rows(path) if row)
    names = next(rows, (0, []))[1]
    for line, row in rows:
        yield line, dict(zip(names, row, strict=False))


def _json_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with pa.input_stream(str(path), compression="detect") as stream:
        for number, line in enumerate(_lines(stream), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:
                return
            yield number, record if isinstance(record, dict) else {}


def _csv_error(path: Path, names: list[str], error: Exception) -> Exception:
    value = _CSV_VALUE.search(str(error))
    if value is not None:
        column, record, wanted, why = int(value[1]), int(value[2]), value[3], value[4]
        name = _heading(path, names)[column]
        line = _line_of(path, record)
        return bad_value(path, name, record - 2, line, f"{why} for {wanted}")
    shape = _CSV_SHAPE.search(str(error))
    if shape is not None:
        line = _line_of(path, int(shape[1]))
        return InvalidInputError(
            f"row {int(shape[1]) - 2} ({path}, line {line}) has {shape[3]} columns, not {shape[2]}",
            hint="put values that hold the separator in quotes",
            path=str(path),
            line=line,
        )
    return unreadable(path, "CSV", error)


def _heading(path: Path, names: list[str]) -> list[str]:
    """Return the column names; read again when the first block already failed."""
    if names:
        return names
    return next(_python_rows(path))[1]


def _line_of(path: Path, record: int) -> int:
    """Return the line that a record ends on: texts may hold line ends, and empty lines are none."""
    filled = (line for line, row in _python_rows(path) if row)
    return next(itertools.islice(filled, record - 1, None), record)


def _python_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and cells, read without Arrow."""
    import csv as python_csv

    with pa.input_stream(str(path), compression="detect") as stream:
        lines = (line.decode("utf-8", "replace") + "\n" for line in _lines(stream))
        reader = python_csv.reader(lines, delimiter=_delimiter(path))
        for row in reader:
            yield reader.line_num, [cell.lstrip("\ufeff") for cell in row]


def _is_csv(path: Path) -> bool:
    return not {".jsonl", ".ndjson"} & set(path.suffixes)


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","


def read_json_lines(path: Path, options: FileOptions) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a file with one JSON object per line.

    Parameters
    ----------
    path : Path
        The file.
    options : FileOptions
        How it is read.
    """
    wanted = _column_types(options, _json_type_of)
    schema = None
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            reader = pajson.open_json(
                stream,
                read_options=pajson.ReadOptions(block_size=options.block_nbytes),
                parse_options=pajson.ParseOptions(
                    explicit_schema=pa.schema(list(wanted.items())) if wanted else None
                ),
            )
            schema = reader.schema
            for batch in reader:
                yield from _slices(batch.select(options.choose(schema.names, path)), options)
    except (pa.ArrowException, OSError) as error:
        raise _json_error(path, schema, wanted, error) from None


def _json_error(
    path: Path, schema: pa.Schema | None, wanted: dict[str, pa.DataType], error: Exception
) -> Exception:
    """Find the line that Arrow could not read, and say what is wrong with it."""
    if isinstance(error, OSError) and error.errno is not None:
        return unreadable(path, "JSON lines", error)
    kinds = dict(wanted)
    if schema is not None:
        kinds = dict(zip(schema.names, schema.types, strict=True))
    row = 0
    with pa.input_stream(str(path), compression="detect") as stream:
        for number, line in enumerate(_lines(stream), 1):
            if not line.strip():
                continue
            found = _line_error(path, kinds, line, row, number, inferred=schema is None)
            if found is not None:
                return found
            row += 1
    return unreadable(path, "JSON lines", error)


def _line_error(
    path: Path, kinds: dict[str, pa.DataType], line: bytes, row: int, number: int, *, inferred: bool
) -> Exception | None:
    try:
        record = json.loads(line)
    except ValueError as error:
        return InvalidInputError(
            f"row {row} ({path}, line {number}) is not JSON: {error}",
            hint='each line holds one object, such as {"label": 3}',
            path=str(path),
            line=number,
        )
    if not isinstance(record, dict):
        return InvalidInputError(
            f"row {row} ({path}, line {number}) is not an object",
            hint='each line holds one object, such as {"label": 3}',
            path=str(path),
            line=number,
        )
    for name, value in record.items():
        if value is None:
            continue
        if name not in kinds:
            if not inferred:
                return bad_value(path, name, row, number, "no earlier record has this field")
            kinds[name] = _json_type(value)
        elif not _json_fits(value, kinds[name]):
            kind = kinds[name]
            if inferred and pa.types.is_int64(kind) and isinstance(value, float):
                kinds[name] = pa.float64()
                continue
            shown = json.dumps(value)[:60]
            return bad_value(path, name, row, number, f"{shown} does not fit {kind}")
    return None


def _lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(1 << 20):
        parts = (rest + bytes(block)).split(b"\n")
        rest = parts.pop()
        yield from parts
    if rest:
        yield rest


def _json_type(value: Any) -> pa.DataType:
    """Return the Arrow type that a JSON value suggests."""
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, list):
        return pa.list_(_json_type(value[0]) if value else pa.null())
    return pa.struct([(name, _json_type(member)) for name, member in value.items()])


def _json_fits(value: Any, dtype: pa.DataType) -> bool:
    """Return whether a JSON value can be read as an Arrow type."""
    types = pa.types
    if value is None:
        return True
    if types.is_null(dtype):
        return False
    if types.is_boolean(dtype):
        return isinstance(value, bool)
    if types.is_uint64(dtype):
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64
    if types.is_integer(dtype):
        return (
            isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63
        )
    if types.is_floating(dtype):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if types.is_timestamp(dtype):
        return isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value) is not None
    if types.is_string(dtype):
        return isinstance(value, str)
    if types.is_list(dtype):
        return isinstance(value, list) and all(_json_fits(v, dtype.value_type) for v in value)
    if types.is_struct(dtype):
        members = {dtype.field(i).name: dtype.field(i).type for i in range(dtype.num_fields)}
        return isinstance(value, dict) and all(
            name in members and _json_fits(member, members[name]) for name, member in value.items()
        )
    return True
