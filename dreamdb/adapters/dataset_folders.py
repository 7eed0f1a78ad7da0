"""Folders that other libraries keep a dataset in: Lance directories, Hugging Face on disk.

Source: design/0020 section 9.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from dreamdb.adapters.lance_files import import_lance
from dreamdb.adapters.reading import TARGET_NBYTES, FileOptions, unreadable
from dreamdb.errors import InvalidInputError

__all__ = [
    "folder_format",
    "folder_rows",
    "folder_schema",
    "read_huggingface",
    "read_lance",
]


def folder_format(path: Path) -> str | None:
    """Return the format of a folder that is a dataset as a whole; None for other folders.

    Parameters
    ----------
    path : Path
        The folder.

    Raises
    ------
    InvalidInputError
        When it is a Hugging Face folder of several splits.
    """
    if (path / "_versions").is_dir() and (path / "data").exists():
        return "lance"
    if (path / "dataset_dict.json").is_file():
        splits = sorted(p.name for p in path.iterdir() if (p / "state.json").is_file())
        raise InvalidInputError(
            f"{path} holds several splits: {', '.join(splits)}",
            hint=f"read one: {path / (splits[0] if splits else 'train')}",
            path=str(path),
        )
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        return "huggingface"
    return None


def _data_files(path: Path) -> list[Path]:
    try:
        told: Any = json.loads((path / "state.json").read_text(encoding="utf-8"))
        names = [str(entry["filename"]) for entry in told["_data_files"]]
        if told.get("_indices_files"):
            raise InvalidInputError(
                f"{path} keeps its order in a file of indices",
                hint="flatten it first: dataset.flatten_indices().save_to_disk(...)",
                path=str(path),
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise unreadable(path / "state.json", "a Hugging Face dataset", error) from None
    if any(Path(name).name != name for name in names):
        raise InvalidInputError(f"{path / 'state.json'} names files elsewhere", path=str(path))
    return [path / name for name in names]


def _lance_dataset(path: Path) -> Any:
    lance = import_lance()
    try:
        return lance.dataset(str(path))
    except (OSError, ValueError) as error:
        raise unreadable(path, "a Lance dataset", error) from None


def folder_schema(path: Path, file_format: str) -> pa.Schema:
    """Return the schema that a folder states.

    Parameters
    ----------
    path : Path
        The folder.
    file_format : str
        ``"lance"`` or ``"huggingface"``.
    """
    if file_format == "lance":
        return _lance_dataset(path).schema.remove_metadata()
    files = _data_files(path)
    if not files:
        return pa.schema([])
    try:
        with pa.memory_map(str(files[0])) as mapped:
            return pa.ipc.open_stream(mapped).schema.remove_metadata()
    except (pa.ArrowException, OSError) as error:
        raise unreadable(files[0], "an Arrow stream", error) from None


def folder_rows(path: Path, file_format: str) -> int | None:
    """Return how many records a folder has, where that is known without reading them.

    Parameters
    ----------
    path : Path
        The folder.
    file_format : str
        ``"lance"`` or ``"huggingface"``.
    """
    return int(_lance_dataset(path).count_rows()) if file_format == "lance" else None


def read_lance(path: Path, options: FileOptions) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a Lance dataset.

    Parameters
    ----------
    path : Path
        The directory.
    options : FileOptions
        How it is read.
    """
    opened = _lance_dataset(path)
    names = options.choose(opened.schema.names, path)
    try:
        yield from opened.to_batches(columns=names, batch_size=options.batch_rows)
    except (OSError, ValueError) as error:
        raise unreadable(path, "a Lance dataset", error) from None


def read_huggingface(path: Path, options: FileOptions) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a dataset that ``save_to_disk`` has written.

    Parameters
    ----------
    path : Path
        The folder.
    options : FileOptions
        How it is read.
    """
    for file in _data_files(path):
        try:
            with pa.memory_map(str(file)) as mapped:
                for batch in pa.ipc.open_stream(mapped):
                    chosen = batch.select(options.choose(batch.schema.names, path))
                    width = max(1, chosen.nbytes // max(1, chosen.num_rows))
                    rows = max(1, min(options.batch_rows, TARGET_NBYTES // width))
                    for start in range(0, chosen.num_rows, rows):
                        yield chosen.slice(start, rows)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(file, "an Arrow stream", error) from None
