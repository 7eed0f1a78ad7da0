"""What workers send through shared memory arrives whole, whatever the loop keeps or leaves."""

from __future__ import annotations

import gc
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch.utils.data

import dreamdb as vd
from dreamdb.torch import DreamDBDataset
from dreamdb.torch.ring import Ring, leave_in_slot

ROWS = 6_000
DIM = 96


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> DreamDBDataset:
    random = np.random.default_rng(3)
    schema = (
        vd.Schema().add_scalar_int("n").add_embedding("v", dim=DIM, algorithm="dreamdb.flat-l2")
        .add_image("b").add_text("t")
    )  # fmt: skip
    ds = vd.Dataset.create("main", schema, tmp_path_factory.mktemp("ring"))
    vectors = random.standard_normal((ROWS, DIM), dtype=np.float32)
    blobs = [random.bytes(int(n)) for n in random.integers(0, 2_000, ROWS)]
    ds.append(
        pa.table(
            {
                "n": np.arange(ROWS),
                "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIM),
                "b": pa.array(blobs, pa.large_binary()),
                "t": pa.array([f"text {i}" for i in range(ROWS)]),
            }
        )
    )
    return DreamDBDataset(ds, batch_size=100, shuffle_seed=1)


def loader(train: DreamDBDataset, workers: int, context: str | None = "fork", **rest: Any) -> Any:
    return torch.utils.data.DataLoader(
        train,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=context if workers else None,
        **rest,
    )


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(
        np.array_equal(found[name], value) if isinstance(value, np.ndarray)
        else found[name] == value and type(found[name]) is list
        for name, value in wanted.items()
    )  # fmt: skip


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_batches_that_are_kept_stay_what_they_were(train: DreamDBDataset, context: str) -> None:
    """More batches than there are slots, all kept: the rest comes through the pipe."""
    wanted = list(loader(train, 0))
    for workers in (1, 2):
        kept = list(loader(train, workers, context))
        assert len(kept) == len(wanted) == 60
        assert all(map(same, kept, wanted))


def test_passes_that_overlap_and_passes_that_are_left(train: DreamDBDataset) -> None:
    wanted = list(loader(train, 0))
    left = iter(loader(train, 2, prefetch_factor=8))
    first = next(left)
    one, two = iter(loader(train, 2)), iter(loader(train, 2))
    for expected in wanted:
        assert same(next(one), expected)
        assert same(next(two), expected)
    del left
    gc.collect()
    assert same(first, wanted[0])
    assert all(map(same, loader(train, 2), wanted))


def test_persistent_workers_use_their_slots_again(train: DreamDBDataset) -> None:
    wanted = list(loader(train, 0))
    stays = loader(train, 2, persistent_workers=True)
    for _ in range(4):
        number = 0
        for batch, expected in zip(stays, wanted, strict=True):
            assert same(batch, expected)
            number += 1
        assert number == len(wanted)
    pieces = iter(stays)
    next(pieces)
    assert all(map(same, stays, wanted))


def test_memory_that_a_batch_lies_in_is_the_loops_own(train: DreamDBDataset) -> None:
    """What the loop writes into a batch reaches no other batch."""
    wanted = list(loader(train, 0))
    for batch, expected in zip(loader(train, 2), wanted, strict=True):
        assert same(batch, expected)
        assert batch["v"].flags.writeable
        assert torch.from_numpy(batch["v"]).data_ptr() == batch["v"].ctypes.data
        batch["v"][:] = -1
        batch["n"][:] = -1


def test_a_temporary_folder_with_a_long_name(
    train: DreamDBDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No socket can have such a path, and so no descriptor can be passed on: the pipe takes all."""
    wanted = list(loader(train, 0))
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", str(folder))
    assert all(map(same, loader(train, 2), wanted))


def test_passes_leave_no_descriptors(train: DreamDBDataset) -> None:
    list(loader(train, 2))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for _ in range(4):
        list(loader(train, 2))
    gc.collect()
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    assert after <= before + 1


def test_slots_are_given_back() -> None:
    if not hasattr(os, "memfd_create"):
        assert leave_in_slot([b"x" * 20_000], 20_000) is None
        return
    ring = _ring()
    claimed = [ring.claim(100) for _ in range(4)]
    assert [found[0] for found in claimed if found is not None] == [0, 1, 2, 3]
    assert ring.claim(1) is None
    assert ring.claim(9_000) is None
    held = ring.lease(2, 50)
    held[:] = 7
    part = held[10:20]
    del held
    gc.collect()
    assert ring.num_taken == 4
    assert (part == 7).all()
    del part
    gc.collect()
    assert ring.num_taken == 3
    found = ring.claim(1)
    assert found is not None
    assert found[0] == 2


def _ring() -> Ring:
    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, 4_096 + 4 * 8_192)
    return Ring(descriptor, 8_192, 4)
