"""Write the whole data set, durably where the system can."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa

from bench import places
from bench.harness import Benchmark, Case, Start
from bench.places import Places


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""
    table = where.table

    def empty(name: str) -> tuple[pa.Table, Path]:
        path = where.scratch(name)
        os.sync()  # what the previous run left in the cache is not this one's to write
        return table, path

    def ours(name: str) -> tuple[pa.Table, object]:
        import dreamdb as vd

        path = where.scratch(name)
        os.sync()
        schema = vd.Schema.from_arrow(table.schema)
        return table, vd.Dataset.create(places.NAME, schema, backend=str(path))

    return [
        Benchmark(
            "ingest: 8 KiB image, 512-d vector, label, split",
            [
                Case("DreamDB", ours, _dreamdb, ("dreamdb",), Start.AGAIN),
                Case("Lance", empty, _lance, ("lance",), Start.AGAIN),
                Case("Lance, synced", empty, _lance_synced, ("lance",), Start.AGAIN),
                Case("Parquet, synced", empty, _parquet_synced, ("parquet",), Start.AGAIN),
                Case("raw write and fsync", empty, _raw, ("raw",), Start.AGAIN),
            ],
            rounds=3,
            amount=table.nbytes,
            unit="bytes",
        )
    ]


def _dreamdb(handle: tuple[pa.Table, object]) -> int:
    table, dataset = handle
    dataset.append(table)  # type: ignore[attr-defined]
    return len(dataset)  # type: ignore[arg-type]


def _lance(handle: tuple[pa.Table, Path]) -> int:
    rows: int = places.create_lance(handle[1], handle[0]).count_rows()
    return rows


def _lance_synced(handle: tuple[pa.Table, Path]) -> int:
    rows = _lance(handle)
    places.sync(handle[1])
    return rows


def _parquet_synced(handle: tuple[pa.Table, Path]) -> int:
    places.create_parquet(handle[1], handle[0])
    places.sync(handle[1])
    return handle[0].num_rows


def _raw(handle: tuple[pa.Table, Path]) -> int:
    """Write the values' buffers one after the other: what the disk allows."""
    table, path = handle
    with path.open("wb", buffering=0) as file:
        for batch in table.to_batches():
            views = [memoryview(b) for c in batch.columns for b in c.buffers() if b is not None]
            for view in views:
                done = 0
                while done < view.nbytes:
                    done += os.write(file.fileno(), view[done:])
        os.fsync(file.fileno())
    return table.num_rows
