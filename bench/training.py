"""Training streams: planning, and epochs of images' bytes and vectors through the loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench import places
from bench.harness import Benchmark, Case, Start
from bench.places import Places

_BATCH = 256
_PLANNED = 1_000_000_000


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""
    key = (where.directory, where.rows)
    out = [
        Benchmark(
            "plan of 1,000,000,000 rows: the first 256 of an epoch",
            [Case("DreamDB", _nothing, _plan, (), Start.AGAIN)],
            rounds=3,
        ),
        Benchmark(
            "batches of 8,192 documents by token budget, one window",
            [Case("DreamDB", _lengths, _form)],
            rounds=3,
            amount=8_192,
            unit="rows",
        ),
    ]
    for field, told in (("image", "8 KB of bytes"), ("embedding", "512-d vectors")):
        for workers in (0, 2):
            out.append(
                Benchmark(
                    f"training stream, {told}, shuffled, batches of 256, {workers} workers",
                    [
                        Case("DreamDB", _stream, _epoch, (*key, field, workers)),
                        Case("memory, map-style", _memory, _epoch, (*key, field, workers)),
                    ],
                    rounds=3,
                    amount=where.rows,
                    unit="rows",
                )
            )
    return out


def _nothing() -> None:
    return None


def _plan(_: None) -> int:
    from dreamdb.stream import BlockOrder

    order = BlockOrder(np.full(_PLANNED // 16_384, 16_384), 17, 4_000_000, 48)
    return len(np.unique(order.rows(np.arange(256), 0)))


def _lengths() -> np.ndarray:
    lengths = np.random.default_rng(5).lognormal(6, 1, 8_192)
    return np.clip(lengths, 8, 8_192).astype(np.int64)


def _form(lengths: np.ndarray) -> int:
    from dreamdb.stream import Budget, form_buckets

    budget = Budget(lengths, 65_536, 128)
    batches = form_buckets(np.argsort(-lengths, kind="stable"), [budget])
    if max(len(rows) * int(budget.padded[rows].max()) for rows in batches) > budget.limit:
        raise ValueError("a batch is over its budget")
    return sum(map(len, batches))


def _stream(directory: Path, rows: int, field: str, workers: int) -> Any:
    import dreamdb as vd
    from dreamdb.training import GlobalShuffle, List, Stack

    ds = places.open_dreamdb(Places(directory, rows).built("dreamdb"))
    fields = {"x": List(field) if field == "image" else Stack(field), "id": Stack("_anchor")}
    stream = (
        vd.relation(ds).sample(order=GlobalShuffle(22)).collate(batch_size=_BATCH, fields=fields)
    )
    return stream.to_torch(num_workers=workers, start_method="fork" if workers else None)


def _memory(directory: Path, rows: int, field: str, workers: int) -> Any:
    import torch.utils.data

    ds = places.open_dreamdb(Places(directory, rows).built("dreamdb"))
    table = ds.scan([field]).to_arrow()
    column = table.column(field).combine_chunks()
    values: Any = column.to_pylist()
    if field != "image":
        values = torch.from_numpy(np.array(values, np.float32))
    anchors = table.column("_anchor").to_numpy().astype(np.int64)
    return torch.utils.data.DataLoader(
        _Arrays(values, anchors),
        batch_size=_BATCH,
        shuffle=True,
        num_workers=workers,
        collate_fn=_as_is,
        multiprocessing_context="fork" if workers else None,
        persistent_workers=workers > 0,
    )


class _Arrays:
    """A map-style dataset over arrays in memory."""

    def __init__(self, values: Any, anchors: np.ndarray) -> None:
        self._values, self._anchors = values, anchors

    def __len__(self) -> int:
        return len(self._anchors)

    def __getitems__(self, index: list[int]) -> dict[str, Any]:
        import torch

        if isinstance(self._values, list):
            values: Any = [self._values[i] for i in index]
        else:
            values = self._values[index]
        return {"x": values, "id": torch.from_numpy(self._anchors[index])}


def _as_is(batch: Any) -> Any:
    return batch


def _epoch(loader: Any) -> tuple[int, int]:
    """Return rows and the sum of their anchors; every row once, or the epoch is wrong."""
    seen = []
    for batch in loader:
        if len(batch["x"]) != len(batch["id"]):
            raise ValueError("a batch has another number of values than of anchors")
        seen.append(batch["id"].numpy().view(np.uint64))
    anchors = np.concatenate(seen)
    if len(np.unique(anchors)) != len(anchors):
        raise ValueError("a row came twice")
    return len(anchors), int(anchors.sum(dtype=np.uint64))
