"""One stream, whatever reads it: every record once, the same batches in the same order."""

from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dreamdb as vd
from dreamdb.errors import FieldNotFoundError, InvalidInputError, StorageError
from dreamdb.torch import DreamDBDataset
from tests.torch.data import FIELDS, flat, labels, loader, make, raised, record

NUMBERS = itertools.count()
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def memory() -> str:
    return f"memory://torch-stream-{next(NUMBERS)}"


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> vd.Dataset:
    return make(tmp_path_factory.mktemp("space"), 503)


def shuffled(ds: vd.Dataset, **options: Any) -> DreamDBDataset:
    return DreamDBDataset(ds, FIELDS, **{"batch_size": 32, "shuffle_seed": 1, **options})


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_every_record_once_in_the_same_batches(ds: vd.Dataset, workers: int) -> None:
    wanted = labels(shuffled(ds))
    assert sorted(flat(wanted)) == list(range(503))
    assert [len(batch) for batch in wanted] == [32] * 15 + [23]
    assert flat(wanted) != sorted(flat(wanted))
    assert labels(loader(shuffled(ds), workers)) == wanted


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_every_way_to_start_workers(ds: vd.Dataset, method: str) -> None:
    found = loader(shuffled(ds), 2, multiprocessing_context=method)
    assert labels(found) == labels(shuffled(ds))


def test_it_is_the_order_of_the_arrow_stream(ds: vd.Dataset) -> None:
    arrow = ds.iter_arrow_batches(32, ["label"], shuffle_seed=1)
    assert [batch.column("label").to_pylist() for batch in arrow] == labels(shuffled(ds))


def test_without_a_seed_records_come_in_order(ds: vd.Dataset) -> None:
    found = labels(loader(DreamDBDataset(ds, FIELDS, batch_size=100), 2))
    assert flat(found) == list(range(503))


def test_epochs_differ_and_repeat(ds: vd.Dataset) -> None:
    train = shuffled(ds)
    seen = []
    for epoch in (0, 1, 2, 1):
        train.set_epoch(epoch)
        assert train.epoch == epoch
        seen.append(labels(train))
        assert sorted(flat(seen[-1])) == list(range(503))
    assert seen[1] == seen[3]
    assert len({tuple(flat(batches)) for batches in seen}) == 3
    other = shuffled(ds, shuffle_seed=2)
    assert labels(other) != seen[0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_set_epoch_reaches_persistent_workers(ds: vd.Dataset, method: str) -> None:
    train, alone = shuffled(ds), shuffled(ds)
    batches = loader(train, 2, multiprocessing_context=method, persistent_workers=True)
    for epoch in (0, 1, 5):
        train.set_epoch(epoch)
        alone.set_epoch(epoch)
        assert labels(batches) == labels(alone)


def test_abandoning_and_starting_again_begins_anew(ds: vd.Dataset) -> None:
    train = shuffled(ds)
    wanted = labels(train)
    for source in (train, loader(train), loader(train, 2, persistent_workers=True)):
        started = iter(source)
        next(started)
        next(started)
        del started
        assert labels(source) == wanted


def test_two_iterations_at_once(ds: vd.Dataset) -> None:
    train = shuffled(ds)
    wanted = labels(train)
    pairs = list(itertools.zip_longest(iter(train), iter(train)))
    assert labels(a for a, _ in pairs) == wanted
    assert labels(b for _, b in pairs) == wanted


def test_it_stays_where_the_handle_was(tmp_path: Path) -> None:
    ds = make(tmp_path, 50)
    train = shuffled(ds)
    wanted = labels(train)
    ds.append_many([record(i) for i in range(50, 90)])
    ds.delete([0])
    assert labels(train) == labels(loader(train, 1)) == wanted
    assert sorted(flat(labels(shuffled(ds)))) == list(range(1, 90))
    assert sorted(flat(labels(DreamDBDataset(vd.Dataset.open_ref("main", tmp_path))))) == list(
        range(1, 90)
    )


def test_deleted_records_never_appear(tmp_path: Path) -> None:
    ds = make(tmp_path, 300)
    gone = set(range(0, 300, 7)) | set(range(100, 140))
    ds.delete([10 * i for i in sorted(gone)])
    for seed in (None, 3):
        found = flat(labels(loader(shuffled(ds, shuffle_seed=seed), 2)))
        assert sorted(found) == sorted(set(range(300)) - gone)


@pytest.mark.parametrize(
    ("where", "keep"),
    [
        (vd.col("label") < 77, lambda i: i < 77),
        ("label >= 100 AND label < 250", lambda i: 100 <= i < 250),
        (vd.col("name").isin([f"record {i}" for i in range(0, 503, 9)]), lambda i: i % 9 == 0),
    ],
)
def test_conditions_are_exact(ds: vd.Dataset, where: Any, keep: Any) -> None:
    train = shuffled(ds, where=where)
    wanted = [i for i in range(503) if keep(i)]
    for workers in (0, 2):
        assert sorted(flat(labels(loader(train, workers)))) == wanted
    assert train.num_rows == len(wanted)
    assert len(train) == -(-len(wanted) // 32)


def test_a_condition_that_nothing_meets(ds: vd.Dataset) -> None:
    train = shuffled(ds, where="label < 0")
    assert (len(train), list(train), labels(loader(train, 2))) == (0, [], [])


def test_an_empty_dataset() -> None:
    train = shuffled(make(memory(), 0))
    assert (len(train), list(train)) == (0, [])


@pytest.mark.parametrize("count", [1, 31, 32, 33])
def test_sizes_around_a_batch(count: int) -> None:
    ds = make(memory(), count)
    assert sorted(flat(labels(loader(shuffled(ds), 2)))) == list(range(count))
    assert len(shuffled(ds)) == -(-count // 32)
    if count >= 32:
        dropped = labels(loader(shuffled(ds, drop_last=True), 2))
        assert [len(batch) for batch in dropped] == [32]


def test_a_loader_yields_numpy_arrays(ds: vd.Dataset) -> None:
    """DataLoader makes tensors of plain arrays; programs written for arrays must still run."""
    for workers in (0, 2):
        (batch, *_) = loader(shuffled(ds), workers)
        assert list(batch) == ["_anchor", *FIELDS]
        assert isinstance(batch["vector"], np.ndarray)
        assert (batch["vector"].dtype, batch["vector"].shape) == (np.float32, (32, 4))
        assert (batch["label"].dtype, batch["_anchor"].dtype) == (np.int64, np.uint64)
        assert torch.from_numpy(batch["vector"]).dtype == torch.float32
        batch["vector"][0] = 0  # the batch is the caller's


def test_large_arrays_cross_from_workers_unharmed(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(700, 2_000)).astype(np.float32)
    schema = vd.Schema().add_embedding("v", 2_000)
    ds = vd.Dataset.create("main", schema, backend=tmp_path)
    ds.append({"v": vectors, "_anchor": np.arange(700)})
    for tensors in (False, True):
        train = DreamDBDataset(ds, batch_size=256, shuffle_seed=3, tensors=tensors)
        batches = list(loader(train, 2))
        for batch in batches:
            assert isinstance(batch["v"], torch.Tensor if tensors else np.ndarray)
            assert np.array_equal(np.asarray(batch["v"]), vectors[batch["_anchor"].tolist()])
        assert sum(len(batch["v"]) for batch in batches) == 700


def test_tensors(ds: vd.Dataset) -> None:
    for workers in (0, 2):
        batches = list(loader(shuffled(ds, tensors=True), workers))
        assert labels(batches) == labels(shuffled(ds))
        assert batches[0]["_anchor"].dtype == torch.uint64
        assert isinstance(batches[0]["name"], list)


def test_a_batch_holds_no_more_memory_than_its_own(ds: vd.Dataset) -> None:
    """Tensors share their storage with workers; a view of many batches would send them all."""
    for batch in shuffled(ds, tensors=True, batch_size=4):
        assert batch["vector"].untyped_storage().nbytes() == len(batch["vector"]) * 16


def test_fields_do_not_change_the_order(ds: vd.Dataset) -> None:
    wanted = labels(shuffled(ds))
    assert labels(DreamDBDataset(ds, "label", batch_size=32, shuffle_seed=1)) == wanted
    only_anchors = list(DreamDBDataset(ds, [], batch_size=32, shuffle_seed=1))
    assert [(batch["_anchor"] // 10).tolist() for batch in only_anchors] == wanted


@pytest.mark.parametrize(
    "through",
    [copy.copy, lambda d: pickle.loads(pickle.dumps(d))],  # noqa: S301
)
def test_copies_read_the_same_and_go_their_own_way(ds: vd.Dataset, through: Any) -> None:
    train = shuffled(ds, where="label < 300", nulls="mask")
    train.set_epoch(3)
    twin = through(train)
    assert twin.epoch == 3
    assert labels(twin) == labels(train)
    assert (twin.rank, twin.world_size, len(twin)) == (0, 1, len(train))
    persistent = loader(twin, 2, persistent_workers=True)
    twin.set_epoch(4)
    moved = labels(persistent)
    twin.set_epoch(5)
    assert labels(persistent) != moved


def test_a_memory_space_does_not_cross_processes() -> None:
    train = shuffled(make(memory(), 40))
    assert sorted(flat(labels(loader(train, 2)))) == list(range(40))
    error = raised(lambda: list(loader(train, 1, multiprocessing_context="spawn")))
    assert isinstance(error, StorageError)
    assert "memory:" in str(error)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"shuffle_seed": "1"}, "seed"),
        ({"nulls": "ignore"}, "nulls='ignore'"),
        ({"rank": 0}, "go together"),
        ({"rank": 2, "world_size": 2}, "no rank 2 among 2"),
        ({"rank": 0, "world_size": 1.5}, "integers"),
        ({"where": "label +"}, "label"),
        ({"where": 5}, "predicate"),
    ],
)
def test_bad_arguments(ds: vd.Dataset, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        shuffled(ds, **options)


def test_other_bad_input(ds: vd.Dataset) -> None:
    with pytest.raises(FieldNotFoundError, match="labl"):
        DreamDBDataset(ds, ["labl"])
    with pytest.raises(FieldNotFoundError):
        DreamDBDataset(ds, where="nothing = 1")
    with pytest.raises(InvalidInputError, match="not a list"):
        DreamDBDataset([1, 2])  # type: ignore[arg-type]
    for epoch in (-1, 1.5, True, "1"):
        with pytest.raises(InvalidInputError, match="epoch"):
            shuffled(ds).set_epoch(epoch)  # type: ignore[arg-type]
