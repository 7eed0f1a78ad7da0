"""A Dataset handle is a map-style PyTorch dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, random_split

import dreamdb as vd

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> vd.Dataset:
    schema = (
        vd.Schema()
        .add_scalar_string("id")
        .add_embedding("vector", 3)
        .add_tensor("grid", dtype="uint8", shape=(2, 2))
        .add_scalar_int("label")
        .add_scalar_float("price")
        .add_scalar_bool("flag")
        .add_scalar_timestamp("when")
        .add_binary("blob")
    )
    ds = vd.Dataset.create("main", schema, tmp_path_factory.mktemp("space"), key="id")
    ds.append_many(
        [
            {
                "id": f"r{i}",
                "vector": np.full(3, i, np.float32),
                "grid": np.full((2, 2), i % 256, np.uint8),
                "label": i,
                "price": i / 4,
                "flag": i % 2 == 0,
                "when": np.datetime64(i, "ns"),
                "blob": b"%d" % i,
            }
            for i in range(120)
        ]
    )
    return ds


def check(ds: vd.Dataset, batches: list[dict[str, Any]]) -> None:
    numbers = torch.cat([batch["label"] for batch in batches]).tolist()
    assert sorted(numbers) == list(range(120))
    by_anchor = dict(
        zip(ds.scan([]).to_arrow()[0].to_pylist(), ds["label"].to_pylist(), strict=True)
    )
    assert any(anchor >= 2**63 for anchor in by_anchor)  # keys hash to all of uint64
    for batch in batches:
        numbers = batch["label"].tolist()
        assert [by_anchor[anchor] for anchor in batch["_anchor"].tolist()] == numbers
        assert batch["_anchor"].dtype == torch.uint64
        assert batch["vector"].tolist() == [[float(i)] * 3 for i in numbers]
        assert batch["grid"].dtype == torch.uint8
        assert batch["grid"].shape == (len(numbers), 2, 2)
        assert batch["price"].tolist() == [i / 4 for i in numbers]
        assert batch["flag"].tolist() == [i % 2 == 0 for i in numbers]
        assert batch["when"].tolist() == numbers
        assert batch["blob"] == [b"%d" % i for i in numbers]
        assert batch["id"] == [f"r{i}" for i in numbers]


@pytest.mark.parametrize("workers", [0, 2])
def test_shuffled_batches(ds: vd.Dataset, workers: int) -> None:
    batches = list(DataLoader(ds, batch_size=32, shuffle=True, num_workers=workers))
    assert [len(batch["label"]) for batch in batches] == [32, 32, 32, 24]
    check(ds, batches)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_every_way_to_start_workers(ds: vd.Dataset, method: str) -> None:
    options: dict[str, Any] = {"num_workers": 1, "multiprocessing_context": method}
    check(ds, list(DataLoader(ds, batch_size=50, shuffle=True, **options)))


def test_large_batches_and_one_by_one(ds: vd.Dataset) -> None:
    (batch,) = DataLoader(ds, batch_size=1_024, shuffle=True)
    check(ds, [batch])
    assert len(list(DataLoader(ds))) == len(ds) == 120


def test_parts(ds: vd.Dataset) -> None:
    first, second = random_split(ds, [0.75, 0.25], torch.Generator().manual_seed(0))
    assert (len(first), len(second)) == (90, 30)
    batches = [*DataLoader(first, batch_size=40), *DataLoader(second, batch_size=40)]
    check(ds, batches)
    (batch,) = DataLoader(Subset(ds, [5, 3]), batch_size=2)
    assert batch["label"].tolist() == [ds[5]["label"], ds[3]["label"]]


def test_a_single_record_is_plain_python(ds: vd.Dataset) -> None:
    record = ds[5]
    assert isinstance(record["_anchor"], int)
    assert record["_anchor"] in ds
    assert record["when"] == np.datetime64(record["label"], "ns")


def test_a_pinned_handle_stays(tmp_path: Path) -> None:
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), tmp_path)
    ds.append_many([{"x": i} for i in range(10)])
    pinned = vd.Dataset.open_at(ds.snapshot("v1"), tmp_path)
    ds.append_many([{"x": 10}])
    for batch in DataLoader(pinned, batch_size=100, shuffle=True, num_workers=1):
        assert sorted(batch["x"].tolist()) == list(range(10))
