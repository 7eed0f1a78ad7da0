"""Errors keep their type through a worker, and name what is wrong."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch.utils.data

import dreamdb as vd
from dreamdb import errors
from dreamdb.errors import DreamDBError, IntegrityError, InvalidInputError
from dreamdb.torch import DreamDBDataset
from tests.torch.data import labels, loader, make, raised

CLASSES = [
    getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)
]


class Failing(torch.utils.data.Dataset[int]):
    """Raises an error of another class for every item."""

    def __len__(self) -> int:
        return len(CLASSES)

    def __getitem__(self, index: int) -> int:
        raise CLASSES[index]("what failed", hint="what to do", field="x", anchor=index)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_survives_pickle(cls: type[DreamDBError]) -> None:
    error = cls("what failed", hint="what to do", field="x", anchor=3)
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(twin) is cls
    assert (str(twin), twin.hint, twin.details) == (str(error), error.hint, error.details)
    assert twin.__notes__ == error.__notes__


def test_every_error_survives_a_worker() -> None:
    batches = iter(
        torch.utils.data.DataLoader(
            Failing(), batch_size=None, num_workers=1, multiprocessing_context="fork"
        )
    )
    for cls in CLASSES:
        error = raised(lambda: next(batches))
        assert type(error) is cls
        assert "what failed" in str(error)
        assert "what to do" in str(error)


def holed(where: Path) -> vd.Dataset:
    ds = make(where, 60)
    ds.append_many([{"_anchor": 5_000, "label": 60, "name": "record 60"}])
    return ds


@pytest.mark.parametrize("workers", [0, 2])
def test_a_null_names_field_and_anchor(tmp_path: Path, workers: int) -> None:
    train = DreamDBDataset(holed(tmp_path), batch_size=8, shuffle_seed=2)
    error = raised(lambda: list(loader(train, workers)))
    assert isinstance(error, InvalidInputError)
    assert "the record 5000 has no 'vector'" in str(error)


@pytest.mark.parametrize("workers", [0, 2])
def test_nulls_as_zero_and_mask(tmp_path: Path, workers: int) -> None:
    ds = holed(tmp_path)
    zeroed = list(loader(DreamDBDataset(ds, batch_size=8, nulls="zero"), workers))
    assert not zeroed[-1]["vector"][-1].any()
    assert set(zeroed[-1]) == {"_anchor", "vector", "label", "name"}
    masked = list(loader(DreamDBDataset(ds, batch_size=8, nulls="mask"), workers))
    assert masked[-1]["vector_mask"].tolist() == [True] * 4 + [False]
    assert masked[-1]["label_mask"].tolist() == [True] * 5
    assert masked[0]["vector_mask"].dtype == np.bool_
    kept = DreamDBDataset(ds, batch_size=8, where=vd.col("vector").is_valid())
    assert len(labels(loader(kept, workers))) == 8


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_is_an_integrity_error(tmp_path: Path, workers: int) -> None:
    make(tmp_path / "space", 100)
    needle = (np.arange(4, dtype=np.float32) + 50).tobytes()
    files = [p for p in (tmp_path / "space").rglob("*") if p.is_file()]
    (damaged,) = [p for p in files if needle in p.read_bytes()]
    data = bytearray(damaged.read_bytes())
    data[data.index(needle)] ^= 1
    damaged.unlink()
    damaged.write_bytes(data)
    space = (tmp_path / "space").rename(tmp_path / "damaged")
    train = DreamDBDataset(vd.Dataset.open_ref("main", space), ["vector"], batch_size=8)
    error = raised(lambda: list(loader(train, workers)))
    assert isinstance(error, IntegrityError)
    assert "object" in str(error)
