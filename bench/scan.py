"""Read everything in order, every byte touched: two columns, then all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from bench import places
from bench.harness import Benchmark, Case, Start
from bench.places import Places

_SOME = ["embedding", "label"]
_ALL = ["id", "image", "embedding", "label", "split"]


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""

    def in_memory(_directory: Path, _rows: int, fields: list[str]) -> pa.Table:
        return where.table.select(fields)

    def first(work: str, fields: list[str]) -> Benchmark:
        key = (where.directory, where.rows, fields)
        cases = [
            Case("DreamDB, every hash verified", _open_dreamdb, _dreamdb, key, Start.FRESH),
            Case("Lance", _open_lance, _lance, key, Start.FRESH),
            Case("Parquet", _open_parquet, _parquet, key, Start.FRESH),
        ]
        return Benchmark(f"{work}, first time in a process", cases, amount=where.rows, unit="rows")

    def later(work: str, fields: list[str]) -> Benchmark:
        key = (where.directory, where.rows, fields)
        cases = [
            Case("DreamDB", _open_dreamdb, _dreamdb, key),
            Case("Lance", _open_lance, _lance, key),
            Case("Parquet", _open_parquet, _parquet, key),
            Case("memory", in_memory, _memory, key),
        ]
        return Benchmark(f"{work}, again", cases, amount=where.rows, unit="rows")

    return [
        make(work, fields)
        for work, fields in (("scan embedding and label", _SOME), ("scan everything", _ALL))
        for make in (first, later)
    ]


def _open_dreamdb(directory: Path, rows: int, fields: list[str]) -> tuple[Any, list[str]]:
    return places.open_dreamdb(Places(directory, rows).built("dreamdb")), fields


def _open_lance(directory: Path, rows: int, fields: list[str]) -> tuple[Any, list[str]]:
    return places.open_lance(Places(directory, rows).built("lance")), fields


def _open_parquet(directory: Path, rows: int, fields: list[str]) -> tuple[Path, list[str]]:
    return Places(directory, rows).built("parquet"), fields


def _dreamdb(handle: tuple[Any, list[str]]) -> tuple[int, int]:
    dataset, fields = handle
    reader = dataset.scan(fields=fields).to_reader()
    return places.add_checksums(b.select(fields) for b in reader)


def _lance(handle: tuple[Any, list[str]]) -> tuple[int, int]:
    dataset, fields = handle
    return places.add_checksums(dataset.to_batches(columns=fields))


def _parquet(handle: tuple[Path, list[str]]) -> tuple[int, int]:
    import pyarrow.parquet as pq

    path, fields = handle
    with pq.ParquetFile(path) as file:
        return places.add_checksums(file.iter_batches(columns=fields))


def _memory(table: pa.Table) -> tuple[int, int]:
    return places.add_checksums(table.to_batches())
