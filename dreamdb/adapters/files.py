"""Files of records as one stream of Arrow batches: Parquet, Arrow, CSV, JSON lines, images, Lance.

Source: design/0004 section 3.  Batches are bounded in records and in bytes, so that memory does
not grow with the files.  Formats with a schema of their own are here; see
:mod:`dreamdb.adapters.text_files` and :mod:`dreamdb.adapters.image_folder` for the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dreamdb.adapters.dataset_folders import (
    folder_format,
    folder_rows,
    folder_schema,
    read_huggingface,
    read_lance,
)
from dreamdb.adapters.image_folder import IMAGE_SUFFIXES, read_images, sample_images
from dreamdb.adapters.reading import TARGET_NBYTES, FileOptions, unreadable
from dreamdb.adapters.text_files import check_long_integers, read_csv, read_json_lines
from dreamdb.codecs import arrow_type
from dreamdb.dataset import Schema
from dreamdb.errors import (
    FieldNotFoundError,
    InvalidInputError,
    NotFoundError,
    SchemaError,
    nearest_hint,
)
from dreamdb.model import ANCHOR, FieldList
from dreamdb.types import FieldType

__all__ = ["FORMATS", "FileSource", "find_files"]

_SUFFIXES: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".arrows": "arrow",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    **dict.fromkeys(IMAGE_SUFFIXES, "images"),
}
_COMPRESSED: Final = (".gz", ".bz2", ".zst")
FORMATS: Final = ("parquet", "arrow", "csv", "jsonl", "images", "lance", "huggingface")
"""What can be read."""

Read = Callable[[Path, FileOptions], Iterator[pa.RecordBatch]]


def _format_of(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        found = _SUFFIXES.get(suffixes[-2]) if len(suffixes) > 1 else None
        return found if found in ("csv", "jsonl") else None
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def find_files(
    paths: Sequence[str | os.PathLike[str]], *, file_format: str | None = None
) -> tuple[str, list[tuple[Path, Path]]]:
    """Return the format of files and folders, and every file in order.

    Parameters
    ----------
    paths : sequence of str or PathLike
        Files, and folders that are searched; hidden files and those that start with ``_`` are
        left out.
    file_format : str, optional
        One of :data:`FORMATS`; default: what the names end in.

    Returns
    -------
    format : str
        The one format of all files.
    files : list of (Path, Path)
        Each file with the folder it was found in, sorted within a folder.

    Raises
    ------
    NotFoundError
        When a path does not exist or holds no file of the format.
    InvalidInputError
        When the format cannot be told, or there are several.
    """
    found: list[tuple[Path, Path, str]] = []
    for given in paths:
        path = Path(given)
        whole = folder_format(path) if path.is_dir() else None
        if whole is not None and file_format in (None, whole):
            found.append((path, path.parent, whole))
        elif path.is_dir():
            found += _search(path, file_format)
        elif path.exists():
            known = file_format or _format_of(path)
            if known is None:
                raise InvalidInputError(
                    f"cannot tell the format of {path}",
                    hint=f"name it: one of {', '.join(FORMATS)}",
                )
            found.append((path, path.parent, known))
        else:
            siblings = os.listdir(path.parent) if path.parent.is_dir() else []
            raise NotFoundError(
                f"there is no file {path}", hint=nearest_hint(path.name, siblings, "files")
            )
    formats = sorted({name for _, _, name in found})
    if len(formats) > 1:
        raise InvalidInputError(
            f"there are files of several formats: {', '.join(formats)}",
            hint="name the one to read; the others are then left out",
        )
    if not found:
        raise InvalidInputError("no files are given")
    return formats[0], [(path, root) for path, root, _ in found]


def _search(root: Path, file_format: str | None) -> list[tuple[Path, Path, str]]:
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        for name in sorted(names):
            known = _format_of(Path(name)) if name[0] not in "._" else None
            if known is not None and file_format in (None, known):
                found.append((Path(folder, name), root, known))
    if not found:
        what = file_format or "readable"
        raise NotFoundError(
            f"there is no {what} file in {root}",
            hint=f"files are known by their endings: {', '.join(sorted(_SUFFIXES))}",
        )
    return sorted(found)


def read_parquet(path: Path, options: FileOptions) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a Parquet file.

    Parameters
    ----------
    path : Path
        The file.
    options : FileOptions
        How it is read.
    """
    with _explained(path, "Parquet"), pq.ParquetFile(path) as file:
        names = options.choose(file.schema_arrow.names, path)
        for group in range(file.num_row_groups):
            about = file.metadata.row_group(group)
            width = max(1, about.total_byte_size // max(1, about.num_rows))
            rows = max(1, min(options.batch_rows, TARGET_NBYTES // width))
            for batch in file.iter_batches(rows, row_groups=[group], columns=names):
                yield _media(batch, options)


def read_arrow(path: Path, options: FileOptions) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow IPC file, a Feather file or an IPC stream.

    Parameters
    ----------
    path : Path
        The file.
    options : FileOptions
        How it is read.
    """
    with _explained(path, "Arrow IPC"), pa.memory_map(str(path)) as mapped:
        for batch in _ipc_batches(mapped):
            names = options.choose(batch.schema.names, path)
            chosen = batch.select(names)
            width = max(1, chosen.nbytes // max(1, chosen.num_rows))
            rows = max(1, min(options.batch_rows, TARGET_NBYTES // width))
            for start in range(0, chosen.num_rows, rows):
                yield _media(chosen.slice(start, rows), options)


def _media(batch: pa.RecordBatch, options: FileOptions) -> pa.RecordBatch:
    """Take the bytes of images that are stored as records of bytes and path, as some tools do."""
    for index, column in enumerate(batch.schema):
        ftype = options.known.get(column.name)
        if ftype is None or ftype.kind != "image" or not pa.types.is_struct(column.type):
            continue
        if column.type.get_field_index("bytes") >= 0:
            content = pc.struct_field(batch.column(index), "bytes")
            batch = batch.set_column(index, column.name, content)
    return batch


def _ipc_batches(mapped: Any) -> Iterator[pa.RecordBatch]:
    try:
        reader = pa.ipc.open_file(mapped)
    except pa.ArrowInvalid:
        mapped.seek(0)
        yield from pa.ipc.open_stream(mapped)
        return
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, what, error) from None


def _arrow_schema(path: Path, file_format: str) -> pa.Schema:
    """Return the schema that a file states, without reading records."""
    if file_format in ("lance", "huggingface"):
        return folder_schema(path, file_format)
    if file_format == "parquet":
        with _explained(path, "Parquet"):
            return pq.read_schema(path)
    with _explained(path, "Arrow IPC"), pa.memory_map(str(path)) as mapped:
        try:
            return pa.ipc.open_file(mapped).schema
        except pa.ArrowInvalid:
            mapped.seek(0)
            return pa.ipc.open_stream(mapped).schema


_READERS: Final[dict[str, Read]] = {
    "parquet": read_parquet,
    "arrow": read_arrow,
    "csv": read_csv,
    "jsonl": read_json_lines,
    "lance": read_lance,
    "huggingface": read_huggingface,
}


class FileSource:
    """Files read as one stream of record batches.

    Parameters
    ----------
    paths : sequence of str or PathLike
        Files and folders.
    file_format : str, optional
        One of :data:`FORMATS`; default: what the names end in.
    batch_rows : int
        At most so many records per batch; fewer when they are large.
    types : mapping of str to FieldType, optional
        Columns that are not what they seem: texts that are categoricals, bytes that are images.
    columns : sequence of str, optional
        Which columns to read; default: all.

    Examples
    --------
    >>> source = FileSource(["labels.csv"])  # doctest: +SKIP
    >>> ds = Dataset.create("labels", source.schema(), backend, data=source)  # doctest: +SKIP
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        file_format: str | None = None,
        batch_rows: int = 16_384,
        types: Mapping[str, FieldType] | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        if file_format is not None and file_format not in FORMATS:
            raise InvalidInputError(
                f"{file_format!r} is not a format",
                hint=nearest_hint(file_format, FORMATS, "formats"),
            )
        if batch_rows < 1:
            raise InvalidInputError(f"batch_rows must be positive, got {batch_rows}")
        self.format, self._files = find_files(paths, file_format=file_format)
        self._options = FileOptions(batch_rows, dict(types or {}), columns)
        self._starts: list[tuple[int, Path]] = []

    @property
    def files(self) -> list[Path]:
        """The files, in the order in which they are read."""
        return [path for path, _ in self._files]

    def num_rows(self) -> int | None:
        """Return how many records there are, where that can be told without reading them."""
        if self.format == "images":
            return len(self._files)
        if self.format in ("lance", "huggingface"):
            counts = [folder_rows(path, self.format) for path in self.files]
            return None if None in counts else sum(c for c in counts if c is not None)
        if self.format == "parquet":
            total = 0
            for path in self.files:
                with _explained(path, "Parquet"):
                    total += pq.read_metadata(path).num_rows
            return total
        return None

    def for_schema(self, schema: Schema) -> FileSource:
        """Return the source with its columns read as the fields of a dataset.

        Parameters
        ----------
        schema : Schema
            The fields of the dataset that is appended to.
        """
        stored = {name: schema[name].type for name in schema}
        made = FileSource.__new__(FileSource)
        made.format, made._files, made._starts = self.format, self._files, []
        made._options = replace(self._options, stored=stored)
        return made

    def schema(self) -> Schema:
        """Infer a schema: from the first file, or for text from its first records.

        Raises
        ------
        SchemaError
            Naming a column whose type no field can hold.
        """
        if self.format == "images":
            columns, sample, mime = sample_images(self._files, self._options)
        else:
            mime = None
            columns, sample = self._sample()
        for name in self._options.types:
            if name not in columns.names:
                hint = nearest_hint(name, columns.names, "columns")
                raise FieldNotFoundError(f"there is no column {name!r}", hint=hint, field=name)
        fields = [
            replace(_field(column, self._options.types.get(column.name), sample, mime), order=order)
            for order, column in enumerate(c for c in columns if c.name != ANCHOR)
        ]
        return Schema.of_fields(FieldList.of(fields))

    def _sample(self) -> tuple[pa.Schema, pa.Table | None]:
        path = self.files[0]
        if self.format not in ("csv", "jsonl"):
            stated = _arrow_schema(path, self.format)
            names = self._options.choose(stated.names, path)
            columns = pa.schema([stated.field(name) for name in names])
        first = next(_READERS[self.format](path, self._options), None)
        if self.format in ("csv", "jsonl"):
            if first is None:
                raise SchemaError(
                    f"{path} holds no records to infer a schema from",
                    hint="put a file with records first, or create the dataset with a schema",
                )
            columns = first.schema
            check_long_integers(path, columns, self._options)
        if first is None or not first.num_rows:
            return columns, None
        table = pa.Table.from_batches([first])
        return columns, table

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches of all files in order."""
        self._starts = []
        first_row = 0
        for batches, path in self._pieces():
            self._starts.append((first_row, path))
            for batch in batches:
                if batch.num_rows:
                    yield batch
                first_row += batch.num_rows

    def _pieces(self) -> Iterator[tuple[Iterator[pa.RecordBatch], Path]]:
        if self.format == "images":
            yield read_images(self._files, self._options), self.files[0]
            return
        read = _READERS[self.format]
        for path in self.files:
            yield read(path, self._options), path

    def origin(self, row: int) -> tuple[Path, int]:
        """Return the file that a record of the last iteration came from, and its row there.

        Parameters
        ----------
        row : int
            Counted from 0 over all files.
        """
        if self.format == "images":
            return self.files[row], 0
        start, path = next((s, p) for s, p in reversed(self._starts) if s <= row)
        return path, row - start


def _field(
    column: pa.Field, ftype: FieldType | None, sample: pa.Table | None, mime: str | None
) -> Any:
    """Return the field for a column, by its own type or by the one that was asked for."""
    name = column.name
    if ftype is not None:
        if ftype.kind == "image":
            column = pa.field(name, pa.binary(), column.nullable)
            return Schema.from_arrow(pa.schema([column]), mime={name: ftype.mime or "jpeg"})[name]
        if ftype.kind == "text":
            return Schema().add_text(name, required=not column.nullable)[name]
        stored = arrow_type(ftype)
        if ftype.kind == "categorical":
            stored = pa.dictionary(pa.int32(), pa.string())
        elif ftype.kind == "tensor":
            stored = pa.fixed_shape_tensor(stored.value_type, ftype.shape or ())
        column, sample = pa.field(name, stored, column.nullable), None
    media = {name: mime} if mime is not None else None
    try:
        return Schema.from_arrow(pa.schema([column]), mime=media, data=sample)[name]
    except SchemaError as error:
        empty = pa.types.is_null(column.type)
        why = "it holds only nulls" if empty else str(error)
        raise SchemaError(
            f"the column {name!r} cannot become a field: {why}",
            hint=(None if empty else error.hint) or "choose its type, or read other columns only",
            field=name,
        ) from None
