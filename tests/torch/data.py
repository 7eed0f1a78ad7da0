"""Records whose every value follows from their number, and loaders over them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch.utils.data

import dreamdb as vd
from dreamdb.errors import DreamDBError
from dreamdb.torch import DreamDBDataset

FIELDS = ["vector", "label", "name"]


def record(i: int) -> dict[str, Any]:
    return {
        "_anchor": 10 * i,
        "vector": np.arange(4, dtype=np.float32) + i,
        "label": i,
        "name": f"record {i}",
    }


def make(where: str | Path, count: int) -> vd.Dataset:
    """Return a dataset ``main`` of so many records, in several fragments."""
    schema = vd.Schema().add_embedding("vector", 4).add_scalar_int("label")
    ds = vd.Dataset.create("main", schema.add_scalar_categorical("name"), backend=where)
    for start in range(0, count, 100):
        ds.append_many([record(i) for i in range(start, min(count, start + 100))])
    return ds


def loader(dataset: DreamDBDataset, workers: int = 0, **options: Any) -> Any:
    """Return a DataLoader; workers fork unless told otherwise."""
    if workers:
        options.setdefault("multiprocessing_context", "fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about more workers than processors
        return torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers, **options)


def labels(batches: Any) -> list[list[int]]:
    """Return the labels batch by batch, having checked that all fields agree."""
    out = []
    for batch in batches:
        numbers = batch["label"].tolist()
        if "vector" in batch:
            wanted = np.array(numbers, np.float32)[:, None] + np.arange(4, dtype=np.float32)
            assert np.array_equal(np.asarray(batch["vector"]).reshape(-1, 4), wanted)
        if "name" in batch:
            assert batch["name"] == [f"record {i}" for i in numbers]
        assert batch["_anchor"].tolist() == [10 * i for i in numbers]
        out.append(numbers)
    return out


def flat(batches: list[list[int]]) -> list[int]:
    return list(itertools.chain(*batches))


def raised(act: Callable[[], object]) -> DreamDBError:
    """Return the error that a call raises, without its traceback.

    A traceback keeps a loader's iterator in a cycle; collected late, its workers are waited for
    in vain for seconds.
    """
    try:
        act()
    except DreamDBError as error:
        return error.with_traceback(None)
    raise AssertionError("nothing was raised")
