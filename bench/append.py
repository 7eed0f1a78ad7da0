"""Append 100 rows at a time: to a young dataset, and to one with a long history."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench import data, places
from bench.harness import Benchmark, Case
from bench.places import Places

_ROWS = 100
_NARROW = ["id", "label", "split"]
_HISTORY = 1_000
_MADE = 40

Handle = tuple[Any, Iterator[pa.Table]]


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""

    def of(work: str, fields: list[str], versions: int) -> Benchmark:
        def ours() -> Handle:
            rows = _supply(fields)
            handle = places.create_dreamdb(where.scratch(f"dreamdb-{versions}"), next(rows))
            for _ in range(versions):
                handle.append(next(rows))
            return handle, rows

        def lance() -> Handle:
            rows = _supply(fields)
            path = where.scratch(f"lance-{versions}")
            handle = places.create_lance(path, next(rows))
            for _ in range(versions):
                _lance((handle, rows))
            return handle, rows

        def lance_path() -> tuple[Any, Iterator[pa.Table], Path]:
            path = where.scratch(f"lance-synced-{versions}")
            rows = _supply(fields)
            return places.create_lance(path, next(rows)), rows, path

        cases = [
            Case("DreamDB", ours, _dreamdb),
            Case("Lance", lance, _lance),
        ]
        if not versions:
            cases.append(Case("Lance, synced", lance_path, _lance_synced))
        return Benchmark(work, cases, rounds=15)

    return [
        of("append 100 rows of id, label, split", _NARROW, 0),
        of(f"append 100 rows of id, label, split at version {_HISTORY:,}", _NARROW, _HISTORY),
        of("append 100 rows with image and vector (1 MB)", data.SCHEMA.names, 0),
    ]


def _supply(fields: list[str]) -> Iterator[pa.Table]:
    """Yield fresh tables for ever; they are made before the clock starts, then used in turn."""
    made = [data.extra_rows(_ROWS, step).select(fields) for step in range(_MADE)]
    for step in itertools.count():
        yield made[step % _MADE]


def _dreamdb(handle: Handle) -> None:
    dataset, rows = handle
    dataset.append(next(rows))


def _lance(handle: Handle) -> None:
    dataset, rows = handle
    dataset.insert(next(rows))


def _lance_synced(handle: tuple[Any, Iterator[pa.Table], Path]) -> None:
    dataset, rows, path = handle
    dataset.insert(next(rows))
    newest = max(path.joinpath("data").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    places.sync(newest)
    newest = max(path.joinpath("_versions").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    places.sync(newest)
