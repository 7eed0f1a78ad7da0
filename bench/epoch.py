"""One epoch of a training set in torch tensors, shuffled by row, without worker processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench import data, places
from bench.harness import Benchmark, Case, Start
from bench.places import Places

_BATCH = 256
_FIELDS = ["embedding", "label"]


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""
    key = (where.directory, where.rows)

    def tensors() -> tuple[Any, Any, np.ndarray]:
        import torch

        columns = where.table.select(_FIELDS).combine_chunks()
        vectors = columns.column("embedding").chunk(0).flatten().to_numpy().reshape(-1, data.DIM)
        labels = columns.column("label").chunk(0).to_numpy()
        return torch.from_numpy(vectors.copy()), torch.from_numpy(labels.copy()), _order(where.rows)

    return [
        Benchmark(
            "epoch into torch, rows shuffled, batches of 256, the first",
            [
                Case("DreamDB, every hash verified", _open_dreamdb, _dreamdb, key, Start.FRESH),
                Case("Lance", _open_lance, _lance, key, Start.FRESH),
            ],
            rounds=3,
            amount=where.rows,
            unit="rows",
        ),
        Benchmark(
            "epoch into torch, rows shuffled, batches of 256, later",
            [
                Case("DreamDB", _open_dreamdb, _dreamdb, key),
                Case("Lance", _open_lance, _lance, key),
                Case("memory, two tensors", tensors, _memory),
            ],
            rounds=3,
            amount=where.rows,
            unit="rows",
        ),
        Benchmark(
            "first batch of an epoch, dataset opened in the same breath",
            [
                Case("DreamDB", _path_dreamdb, _first_dreamdb, key, Start.FRESH),
                Case("Lance", _path_lance, _first_lance, key, Start.FRESH),
            ],
            rounds=3,
        ),
    ]


def _order(rows: int) -> np.ndarray:
    return np.random.default_rng([data.SEED, 22]).permutation(rows)


def _loader(dataset: Any) -> Any:
    import torch.utils.data

    from dreamdb.torch import DreamDBDataset

    stream = DreamDBDataset(dataset=dataset, fields=_FIELDS, batch_size=_BATCH, shuffle_seed=22)
    return torch.utils.data.DataLoader(stream, batch_size=None, num_workers=0)


def _open_dreamdb(directory: Path, rows: int) -> Any:
    return _loader(places.open_dreamdb(Places(directory, rows).built("dreamdb")))


def _open_lance(directory: Path, rows: int) -> tuple[Any, np.ndarray]:
    import torch  # noqa: F401 - imported here, so that no run pays for it

    return places.open_lance(Places(directory, rows).built("lance")), _order(rows)


def _dreamdb(loader: Any) -> tuple[int, int]:
    import torch

    rows = labels = 0
    for batch in loader:
        vectors = torch.as_tensor(batch["embedding"])
        labels += int(torch.as_tensor(batch["label"]).sum())
        rows += vectors.shape[0]
    return rows, labels


def _lance(handle: tuple[Any, np.ndarray]) -> tuple[int, int]:
    dataset, order = handle
    rows = labels = 0
    for start in range(0, len(order), _BATCH):
        batch = dataset.take(order[start : start + _BATCH], columns=_FIELDS)
        vectors, label = _tensors(batch)
        labels += int(label.sum())
        rows += vectors.shape[0]
    return rows, labels


def _memory(handle: tuple[Any, Any, np.ndarray]) -> tuple[int, int]:
    import torch

    vectors, label, order = handle
    rows = labels = 0
    for start in range(0, len(order), _BATCH):
        wanted = torch.from_numpy(order[start : start + _BATCH])
        labels += int(label[wanted].sum())
        rows += vectors[wanted].shape[0]
    return rows, labels


def _tensors(batch: pa.Table) -> tuple[Any, Any]:
    import torch

    (chunk,) = batch.combine_chunks().to_batches()
    vectors = chunk.column("embedding").flatten()
    numbers = np.frombuffer(vectors.buffers()[1], np.float32)[vectors.offset :][: len(vectors)]
    label = chunk.column("label")
    integers = np.frombuffer(label.buffers()[1], np.int64)[label.offset :][: len(label)]
    return torch.tensor(numbers).reshape(-1, data.DIM), torch.tensor(integers)


def _path_dreamdb(directory: Path, rows: int) -> Path:
    import torch.utils.data  # noqa: F401 - neither system's start-up is torch's

    import dreamdb.torch  # noqa: F401

    return Places(directory, rows).built("dreamdb")


def _path_lance(directory: Path, rows: int) -> tuple[Path, int]:
    import lance  # noqa: F401
    import torch.utils.data  # noqa: F401

    return Places(directory, rows).built("lance"), rows


def _first_dreamdb(path: Path) -> None:
    batch = next(iter(_loader(places.open_dreamdb(path))))
    if len(batch["label"]) != _BATCH:
        raise ValueError(f"the first batch has {len(batch['label'])} rows")


def _first_lance(handle: tuple[Path, int]) -> None:
    path, rows = handle
    _tensors(places.open_lance(path).take(_order(rows)[:_BATCH], columns=_FIELDS))
