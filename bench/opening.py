"""Open and count, snapshot, branch: what should not depend on the size."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from bench import places
from bench.harness import Benchmark, Case
from bench.places import Places


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""

    def ours() -> Any:
        path = where.linked(where.dreamdb, "dreamdb-refs")
        return places.open_dreamdb(path), itertools.count()

    def lance() -> Any:
        path = where.linked(where.lance, "lance-refs")
        return places.open_lance(path), itertools.count()

    return [
        Benchmark(
            "open and count",
            [
                Case("DreamDB", lambda: where.dreamdb, _open_dreamdb),
                Case("Lance", lambda: where.lance, _open_lance),
                Case("Parquet", lambda: where.parquet, _open_parquet),
            ],
            rounds=15,
        ),
        Benchmark(
            "snapshot (Lance: tag)",
            [
                Case("DreamDB", ours, _snapshot),
                Case("Lance", lance, _tag),
            ],
            rounds=15,
        ),
        Benchmark(
            "branch",
            [
                Case("DreamDB", ours, _branch),
                Case("Lance", lance, _lance_branch),
            ],
            rounds=15,
        ),
    ]


def _open_dreamdb(path: Path) -> int:
    return len(places.open_dreamdb(path))


def _open_lance(path: Path) -> int:
    rows: int = places.open_lance(path).count_rows()
    return rows


def _open_parquet(path: Path) -> int:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        rows: int = file.metadata.num_rows
        return rows


def _snapshot(handle: Any) -> None:
    dataset, numbers = handle
    dataset.snapshot(f"v{next(numbers)}")


def _tag(handle: Any) -> None:
    dataset, numbers = handle
    dataset.tags.create(f"v{next(numbers)}", dataset.version)


def _branch(handle: Any) -> None:
    dataset, numbers = handle
    dataset.branch(f"sweep/run-{next(numbers)}")


def _lance_branch(handle: Any) -> None:
    dataset, numbers = handle
    dataset.create_branch(f"run-{next(numbers)}")
