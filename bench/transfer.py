"""Copy a whole space, and bring a copy up to date after one percent of new rows."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

from bench import data, places
from bench.harness import Benchmark, Case, Start, directory_nbytes
from bench.places import Places

_STEPS = 4


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""
    copies = where.directory / f"scratch-{where.rows}"
    cloned, copied, pulled = (copies / name for name in ("cloned", "copied", "pulled"))
    more = max(1, where.rows // 100)

    def empty(name: str) -> tuple[Path, Path]:
        return where.built("dreamdb"), where.scratch(name)

    def behind() -> Any:
        """Return a copy of the space, and where branches are each one percent further."""
        ahead = where.linked(where.dreamdb, "ahead")
        where.linked(where.dreamdb, pulled.name)
        dataset = places.open_dreamdb(ahead)
        for step in range(_STEPS):
            dataset.append(data.extra_rows(more, step).select(data.SCHEMA.names))
            dataset.branch(f"step-{step}")
        return places.open_dreamdb(pulled), ahead, itertools.count()

    return [
        Benchmark(
            "copy a space: every object verified, durable",
            [
                Case("DreamDB", empty, _clone, (cloned.name,), Start.AGAIN),
                Case("raw cp, synced", empty, _copy, (copied.name,), Start.AGAIN),
            ],
            rounds=2,
            amount=directory_nbytes(where.built("dreamdb")),
            unit="bytes",
        ),
        Benchmark(
            "pull 1% new rows into a copy",
            [Case("DreamDB", behind, _pull, grows=pulled)],
            rounds=_STEPS - 1,
        ),
    ]


def _clone(handle: tuple[Path, Path]) -> None:
    import dreamdb as vd

    source, target = handle
    vd.clone(source, target)


def _copy(handle: tuple[Path, Path]) -> None:
    source, target = handle
    shutil.copytree(source, target)
    places.sync(target)


def _pull(handle: Any) -> None:
    dataset, remote, steps = handle
    dataset.pull(remote, f"step-{next(steps)}")
