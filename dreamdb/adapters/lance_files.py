"""Lance dataset directories, written and read through the ``pylance`` package."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from dreamdb.errors import MissingDependencyError, StorageError

__all__ = ["import_lance", "write_lance"]


def import_lance() -> Any:
    """Return the module ``lance``.

    Raises
    ------
    MissingDependencyError
        When pylance is not installed.
    """
    try:
        import lance
    except ImportError:
        raise MissingDependencyError(
            "Lance directories need pylance, which is not installed",
            hint="pip install 'dreamdb[lance]'",
        ) from None
    return lance


def write_lance(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> int:
    """Write a Lance dataset; one that is there already is replaced when the new one is whole.

    Parameters
    ----------
    batches : iterable of RecordBatch
        The records; streamed.
    schema : Schema
        Of every batch.
    path : Path
        The directory.

    Returns
    -------
    int
        How many records were written.
    """
    lance = import_lance()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its own name, so that two exports side by side do not write into each other.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        count = int(_write(lance, batches, schema, partial, "create").count_rows())
        _replace(partial, path)
    except OSError as error:
        raise StorageError(f"cannot write the Lance dataset {path}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return count


def _write(
    lance: Any, batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path, mode: str
) -> Any:
    """Write records; what goes wrong while they are read comes out as it is."""
    failures: list[BaseException] = []

    def guarded() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except BaseException as error:
            failures.append(error)
            raise

    reader = pa.RecordBatchReader.from_batches(schema, guarded())
    try:
        return lance.write_dataset(reader, str(path), mode=mode)
    except Exception:
        if failures:
            raise failures[0] from None
        raise


def _replace(new: Path, path: Path) -> None:
    """Put a directory in another's place; readers see the old one or the new one."""
    if not path.exists():
        os.rename(new, path)
        return
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.old")
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def append_lance(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Append records to a Lance dataset as one version of it; make it when there is none.

    Parameters
    ----------
    batches : iterable of RecordBatch
        The records; streamed.  Without any, an existing dataset stays as it is.
    schema : Schema
        Of every batch.
    path : Path
        The directory.
    """
    lance = import_lance()
    there = path.is_dir()
    listed = iter(batches)
    first = next(listed, None)
    if first is None and there:
        return

    def rest() -> Iterable[pa.RecordBatch]:
        if first is not None:
            yield first
        yield from listed

    _write(lance, rest(), schema, path, "append" if there else "create")


def count_lance(path: Path) -> int:
    """Return how many records a Lance dataset has; -1 when there is none.

    Parameters
    ----------
    path : Path
        The directory.
    """
    lance = import_lance()
    try:
        return int(lance.dataset(str(path)).count_rows())
    except (OSError, ValueError):
        return -1


def restore_lance(path: Path, version: int) -> None:
    """Go back to an earlier version of a Lance dataset, if it has it.

    Parameters
    ----------
    path : Path
        The directory.
    version : int
        Counted from 1.
    """
    lance = import_lance()
    try:
        lance.dataset(str(path), version=version).restore()
    except (OSError, ValueError):
        return
