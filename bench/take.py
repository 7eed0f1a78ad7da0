"""Read 256 random rows at a time, by position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench import data, places
from bench.harness import Benchmark, Case
from bench.places import Places

_BATCH = 256
_BATCHES = 40
_EVERYTHING = ["id", "image", "embedding", "label", "split"]

Handle = tuple[Any, np.ndarray, list[str]]


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""

    def array(_: list[str]) -> tuple[np.ndarray, np.ndarray]:
        column = where.table.column("embedding").combine_chunks()
        return column.flatten().to_numpy().reshape(-1, data.DIM), _positions(where.rows)

    def of(work: str, fields: list[str]) -> Benchmark:
        key = (where.directory, where.rows, fields)
        cases = [
            Case("DreamDB", _open_dreamdb, _dreamdb, key),
            Case("Lance", _open_lance, _lance, key),
        ]
        if fields == ["embedding"]:
            cases.append(Case("memory, one array", array, _memory, (fields,)))
        return Benchmark(work, cases, rounds=5, amount=_BATCH * _BATCHES, unit="rows")

    return [
        of("take 256 random embeddings", ["embedding"]),
        of("take 256 random rows, all columns", _EVERYTHING),
    ]


def _positions(rows: int) -> np.ndarray:
    random = np.random.default_rng([data.SEED, 21])
    return random.integers(0, rows, (_BATCHES, _BATCH))


def _open_dreamdb(directory: Path, rows: int, fields: list[str]) -> Handle:
    dataset = places.open_dreamdb(Places(directory, rows).built("dreamdb"))
    return dataset, _positions(rows), fields


def _open_lance(directory: Path, rows: int, fields: list[str]) -> Handle:
    return places.open_lance(Places(directory, rows).built("lance")), _positions(rows), fields


def _dreamdb(handle: Handle) -> float:
    dataset, positions, fields = handle
    return sum(
        _evidence(dataset.take(positions=wanted, fields=fields).column("embedding"))
        for wanted in positions
    )


def _lance(handle: Handle) -> float:
    dataset, positions, fields = handle
    return sum(
        _evidence(dataset.take(wanted, columns=fields).column("embedding")) for wanted in positions
    )


def _memory(handle: tuple[np.ndarray, np.ndarray]) -> float:
    array, positions = handle
    return sum(float(array[wanted][-1, -1]) for wanted in positions)


def _evidence(column: pa.ChunkedArray) -> float:
    """Return the last number of the last vector: the right rows came, in the right order."""
    return float(column.chunk(column.num_chunks - 1).flatten()[-1].as_py())
