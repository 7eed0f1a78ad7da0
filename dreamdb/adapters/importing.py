"""Files into a dataset: the counterpart of :mod:`dreamdb.adapters.exporting`.

Source: design/0020 section 9.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dreamdb.adapters.files import FileSource
from dreamdb.dataset import BackendLike, Dataset, Schema
from dreamdb.errors import NotFoundError
from dreamdb.model import ANCHOR, FieldList
from dreamdb.types import FieldType

__all__ = ["has_anchors", "import_files"]


def import_files(
    name: str,
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    backend: BackendLike,
    *,
    file_format: str | None = None,
    key: str | None = None,
    anchor: str | None = None,
    types: Mapping[str, FieldType] | None = None,
    columns: Sequence[str] | None = None,
    message: str | None = None,
    progress: Callable[[int], None] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Read files into a dataset, which is made when there is none.

    Parquet, Arrow, CSV, JSON lines, a folder of images whose sub-folders are labels, a Lance
    directory, a dataset that Hugging Face's ``save_to_disk`` has written.  All records become
    visible together, or none.  With a key the call can be repeated: records that are stored
    already are skipped.

    Parameters
    ----------
    name : str
        The dataset's branch.
    paths : path or sequence of paths
        Files and folders, all of one format.
    backend : str, PathLike or Backend
        Where the dataset lies.
    file_format : str, optional
        The format; default: what the names end in and the folders hold.
    key : str, optional
        New dataset: the column that identifies a record.
    anchor : str, optional
        The column that holds the anchors; default: ``_anchor`` when the files have it.
    types : mapping of str to FieldType, optional
        Columns that are not what they seem: texts that are categoricals, bytes that are images.
    columns : sequence of str, optional
        Which columns; default: all.
    message : str, optional
        Recorded in the manifest.
    progress : callable, optional
        Called with the number of records read since its last call.
    storage_options : mapping, optional
        Credentials and settings of the file system.

    Returns
    -------
    Dataset
        With the records.
    """
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    source = FileSource(listed, file_format=file_format, types=types, columns=columns)
    if anchor is None and columns is None and has_anchors(source.files[0], source.format):
        # Anchors of records with a key are larger than what text is taken for by itself.
        known = {**(types or {}), ANCHOR: FieldType("anchor")}
        source = FileSource(listed, file_format=file_format, types=known)
    try:
        dataset: Dataset | None = Dataset.open_ref(name, backend, storage_options=storage_options)
    except NotFoundError as error:
        if error.kind not in ("ref-not-found", "not-found"):
            raise
        dataset = None
    if dataset is not None:
        batches = _told(source.for_schema(dataset.schema), progress)
        dataset.append(batches, anchor, message=message)
        return dataset
    schema = source.schema()
    kept = [schema[field] for field in schema if field not in (anchor, ANCHOR)]
    return Dataset.create(
        name,
        Schema.of_fields(FieldList.of(kept)),
        backend,
        data=_told(source.for_schema(schema), progress),
        key=key,
        anchor=anchor,
        message=message,
        storage_options=storage_options,
    )


def has_anchors(path: Path, file_format: str) -> bool:
    """Return whether the first record of a text file has the column ``_anchor``.

    Parameters
    ----------
    path : Path
        The file.
    file_format : str
        Its format; others than text state their types themselves.
    """
    if file_format not in ("csv", "jsonl"):
        return False
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            line = bytes(stream.read(1 << 16)).split(b"\n", 1)[0]
    except (OSError, pa.ArrowException):
        return False
    if file_format == "csv":
        return ANCHOR.encode() in line.replace(b'"', b"").strip().split(b",")
    return f'"{ANCHOR}"'.encode() in line


def _told(batches: FileSource, progress: Callable[[int], None] | None) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        if progress is not None:
            progress(batch.num_rows)
