"""Join the predictions of six runs by record, and count where each pair agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench import data, places
from bench.harness import Benchmark, Case
from bench.places import Places

_RUNS = 6


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""
    rows = where.rows

    def ours() -> tuple[Path, list[str]]:
        path = where.linked(where.dreamdb, "dreamdb-compare")
        dataset = places.open_dreamdb(path)
        anchors = dataset.scan(fields=[]).to_arrow().column("_anchor")
        names = [f"sweep/run-{run}" for run in range(_RUNS)]
        for run, name in enumerate(names):
            samples = pa.table({"_anchor": anchors, "value": data.predictions(run, rows)})
            dataset.branch(name).add_scalar_layer("prediction", "embedding", "int", samples)
        return path, names

    def lance() -> list[Any]:
        ids = where.table.column("id")
        return [
            places.create_lance(
                where.scratch(f"lance-compare-{run}"),
                pa.table({"id": ids, f"prediction_{run}": data.predictions(run, rows)}),
            )
            for run in range(_RUNS)
        ]

    def arrays() -> np.ndarray:
        return np.stack([data.predictions(run, rows) for run in range(_RUNS)])

    return [
        Benchmark(
            f"compare the predictions of {_RUNS} runs",
            [
                Case("DreamDB", ours, _dreamdb),
                Case("Lance, joined by hand", lance, _lance),
                Case("memory, one array", arrays, _agreement),
            ],
            amount=rows,
            unit="rows",
        )
    ]


def _dreamdb(handle: tuple[Path, list[str]]) -> list[int]:
    import dreamdb as vd

    path, names = handle
    table = vd.compare_refs(refs=names, fields=["prediction"], backend=str(path))
    return _agreement(np.stack([table.column(f"prediction@{n}").to_numpy() for n in names]))


def _lance(datasets: list[Any]) -> list[int]:
    joined = datasets[0].to_table()
    for dataset in datasets[1:]:
        joined = joined.join(dataset.to_table(), "id", join_type="full outer")
    return _agreement(
        np.stack([joined.column(f"prediction_{run}").to_numpy() for run in range(_RUNS)])
    )


def _agreement(predictions: np.ndarray) -> list[int]:
    """Return the number of equal values of every pair of rows."""
    return [
        int(np.count_nonzero(predictions[a] == predictions[b]))
        for a in range(len(predictions))
        for b in range(a)
    ]
