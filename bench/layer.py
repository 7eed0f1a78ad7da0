"""Write one predicted class per row beside the data, and correct one label."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa

from bench import data, places
from bench.harness import Benchmark, Case
from bench.places import Places


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""
    ours = where.directory / f"scratch-{where.rows}" / "dreamdb-layer"
    theirs = where.directory / f"scratch-{where.rows}" / "lance-layer"
    rows = where.rows

    def ours_layer() -> Any:
        where.linked(where.dreamdb, ours.name)
        dataset = places.open_dreamdb(ours)
        anchors = dataset.scan(fields=[]).to_arrow().column("_anchor")
        values = [pa.array(data.predictions(run, rows)) for run in range(10)]
        return dataset, anchors, values, itertools.count()

    def lance_layer() -> Any:
        where.linked(where.lance, theirs.name)
        values = [pa.array(data.predictions(run, rows)) for run in range(10)]
        return places.open_lance(theirs), values, itertools.count()

    def ours_edit() -> Any:
        path = where.linked(where.dreamdb, "dreamdb-edit")
        dataset = places.open_dreamdb(path)
        anchors = dataset.scan(fields=[]).to_arrow().column("_anchor")
        return dataset, anchors[rows // 2].as_py(), itertools.count()

    def lance_edit() -> Any:
        return _open_linked_lance(where), rows // 2, itertools.count()

    return [
        Benchmark(
            "prediction layer, one class of 100 per row",
            [
                Case("DreamDB", ours_layer, _dreamdb, grows=ours),
                Case("Lance", lance_layer, _lance, grows=theirs),
            ],
            amount=rows,
            unit="rows",
        ),
        Benchmark(
            "correct one label",
            [
                Case("DreamDB", ours_edit, _edit_dreamdb),
                Case("Lance", lance_edit, _edit_lance),
            ],
        ),
    ]


def _open_linked_lance(where: Places) -> Any:
    return places.open_lance(where.linked(where.lance, "lance-edit"))


def _dreamdb(handle: Any) -> None:
    """One branch per run, as a sweep has."""
    dataset, anchors, values, runs = handle
    run = next(runs)
    branch = dataset.branch(f"sweep/run-{run}")
    samples = pa.table({"_anchor": anchors, "value": values[run % len(values)]})
    branch.add_scalar_layer("prediction", "embedding", "int", samples)


def _lance(handle: Any) -> None:
    """One column per run: a branch would copy the dataset's manifest."""
    dataset, values, runs = handle
    run = next(runs)
    batch = pa.record_batch({f"prediction_{run}": values[run % len(values)]})
    dataset.add_columns(pa.RecordBatchReader.from_batches(batch.schema, [batch]))


def _edit_dreamdb(handle: Any) -> None:
    dataset, anchor, runs = handle
    dataset.update([anchor], {"label": [next(runs) % data.NUM_CLASSES]})


def _edit_lance(handle: Any) -> None:
    dataset, row, runs = handle
    dataset.update({"label": str(next(runs) % data.NUM_CLASSES)}, where=f"id = {row}")
