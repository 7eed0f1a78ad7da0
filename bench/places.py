"""Where the systems keep the benchmark data, built once per size and kept between runs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench import data

NAME = "bench"
_LARGE = 1 << 16


@dataclass(frozen=True)
class Places:
    """The directories of one run.

    Parameters
    ----------
    directory : Path
        Where everything lies.
    rows : int
        Size of the data set.
    """

    directory: Path
    rows: int

    @cached_property
    def table(self) -> pa.Table:
        """The data set, mapped, its pages touched."""
        table = data.source(self.directory, self.rows)
        for batch in table.to_batches():
            checksum(batch)
        return table

    @cached_property
    def dreamdb(self) -> Path:
        """A space with the data set on the branch ``bench``."""
        return self._built("dreamdb", lambda path: create_dreamdb(path, self.table))

    @cached_property
    def lance(self) -> Path:
        """A Lance dataset."""
        return self._built("lance", lambda path: create_lance(path, self.table))

    @cached_property
    def parquet(self) -> Path:
        """A Parquet file."""
        return self._built("parquet", lambda path: create_parquet(path, self.table))

    def build(self) -> None:
        """Build what is missing, here: a process that builds knows hashes that a reader must check.

        A system that fails is left out; its cases say so.
        """
        for system in ("dreamdb", "lance", "parquet"):
            try:
                getattr(self, system)
            except Exception as error:  # noqa: BLE001 - the other systems are still measured
                print(f"{system} was not built: {error}", file=sys.stderr)

    def built(self, system: str) -> Path:
        """Return where a system's data set lies.

        Raises
        ------
        FileNotFoundError
            When it was not built.
        """
        path = self._place(system)
        if not path.exists():
            raise FileNotFoundError(f"{path} was not built")
        return path

    def forget_dreamdb(self) -> None:
        """Remove the space, so that the code of today builds it."""
        remove(self._place("dreamdb"))

    def scratch(self, name: str) -> Path:
        """Return a path for a benchmark to write to, empty."""
        path = self.directory / f"scratch-{self.rows}" / name
        remove(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def linked(self, original: Path, name: str) -> Path:
        """Return a copy that shares the original's large files, which no system ever edits."""
        path = self.scratch(name)
        shutil.copytree(original, path, copy_function=_link_large)
        return path

    def _built(self, system: str, create: Callable[[Path], object]) -> Path:
        path = self._place(system)
        if not path.exists():
            partial = path.with_name(path.name + ".tmp")
            remove(partial)
            create(partial)
            partial.rename(path)
        return path

    def _place(self, system: str) -> Path:
        return self.directory / f"{system}-{self.rows}"


def create_dreamdb(path: Path, table: pa.Table) -> Any:
    """Make a space that holds a table on the branch ``bench`` and return its handle."""
    import dreamdb as vd

    schema = vd.Schema.from_arrow(table.schema)
    handle = vd.Dataset.create(NAME, schema, backend=str(path))
    handle.append(table)
    return handle


def open_dreamdb(path: Path) -> Any:
    """Open the branch ``bench`` of a space."""
    import dreamdb as vd

    return vd.Dataset.open_ref(NAME, backend=str(path))


def create_lance(path: Path, table: pa.Table) -> Any:
    """Write a Lance dataset and return its handle."""
    import lance

    return lance.write_dataset(table, str(path))


def open_lance(path: Path) -> Any:
    """Open a Lance dataset."""
    import lance

    return lance.dataset(str(path))


def create_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file: dictionaries only where values repeat, no compression."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="none", use_dictionary=["label", "split"])


def _link_large(original: str, copy: str) -> object:
    """Share a large file; copy a small one, which may be a log that grows in place."""
    if os.path.getsize(original) < _LARGE:
        return shutil.copy2(original, copy)
    os.link(original, copy)
    return copy


def remove(path: Path) -> None:
    """Remove a file or a directory, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the files below a path are on the disk."""
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def checksum(batch: pa.RecordBatch) -> tuple[int, int]:
    """Read every byte of a batch's values; return the row count and the sum of the words.

    Text is summed by bytes and everything else by 64-bit words, which the values fill, so that the
    sum does not depend on how the rows are batched.
    """
    total = 0
    for column in batch.columns:
        total += _column_sum(column)
    return batch.num_rows, total & (2**64 - 1)


def add_checksums(batches: Any) -> tuple[int, int]:
    """Return the checksum of a stream of batches."""
    rows = total = 0
    for batch in batches:
        more_rows, more = checksum(batch)
        rows += more_rows
        total += more
    return rows, total & (2**64 - 1)


def _column_sum(column: pa.Array) -> int:
    import numpy as np

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _column_sum(column.dictionary_decode())
    if pa.types.is_fixed_size_list(kind):
        return _column_sum(column.flatten())
    if pa.types.is_binary(kind) or pa.types.is_string(kind) or pa.types.is_large_binary(kind):
        width = np.int64 if pa.types.is_large_binary(kind) else np.int32
        _, offsets, values = column.buffers()
        if values is None:
            return 0
        bounds = np.frombuffer(offsets, width)[column.offset : column.offset + len(column) + 1]
        used = np.frombuffer(values, np.uint8)[int(bounds[0]) : int(bounds[-1])]
    else:
        width = kind.bit_width // 8
        start = column.offset * width
        used = np.frombuffer(column.buffers()[1], np.uint8)[start : start + len(column) * width]
    if used.size % 8 or pa.types.is_string(kind):
        return int(used.sum(dtype=np.uint64))
    return int(used.view(np.uint64).sum(dtype=np.uint64))
