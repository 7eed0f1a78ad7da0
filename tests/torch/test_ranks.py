"""Ranks read disjoint parts in equally many steps, whatever their number."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch.distributed
import torch.multiprocessing

import dreamdb as vd
from dreamdb.errors import InvalidInputError
from dreamdb.torch import DreamDBDataset
from tests.torch.data import flat, labels, loader, make

DS = make("memory://torch-ranks", 211)
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def of_rank(rank: int, world_size: int, **options: object) -> DreamDBDataset:
    return DreamDBDataset(
        DS,
        ["label"],
        **{"batch_size": 8, "shuffle_seed": 4, **options},  # type: ignore[arg-type]
        rank=rank,
        world_size=world_size,
    )


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5, 7, 13])
@pytest.mark.parametrize("drop_last", [False, True])
def test_ranks_share_every_step(world_size: int, drop_last: bool) -> None:
    parts = [labels(of_rank(r, world_size, drop_last=drop_last)) for r in range(world_size)]
    lengths = {len(part) for part in parts}
    assert lengths == {len(of_rank(0, world_size, drop_last=drop_last))}
    assert all(1 <= len(batch) <= 8 for part in parts for batch in part)
    steps = [flat(list(step)) for step in zip(*parts, strict=True)]
    order = flat(labels(of_rank(0, 1)))
    kept = order[: len(flat(steps))]
    assert flat(steps) == kept
    assert len(kept) == (211 if not drop_last else 211 // (8 * world_size) * 8 * world_size)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_of_a_rank(workers: int) -> None:
    for rank in range(3):
        assert labels(loader(of_rank(rank, 3), workers)) == labels(of_rank(rank, 3))


def test_too_few_records_for_all_ranks() -> None:
    with pytest.raises(InvalidInputError, match="records for 8 ranks"):
        list(of_rank(0, 8, where="label < 5"))
    with pytest.raises(InvalidInputError, match="drop_last leaves nothing"):
        list(of_rank(0, 8, where="label < 5", drop_last=True))


def _train(rank: int, world_size: int, space: str, store: str, out: str) -> None:
    train = DreamDBDataset(vd.Dataset.open_ref("main", space), ["label"], 8, 4)
    # Made before the process group, as programs do: it must not read everything.
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size
    )
    try:
        assert (train.rank, train.world_size) == (rank, world_size)
        found = labels(loader(train, 2 * rank))
        Path(out, str(rank)).write_text(json.dumps(found))
    finally:
        torch.distributed.destroy_process_group()


def test_ranks_of_torch_distributed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "space", 211)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.multiprocessing.start_processes(
        _train,
        args=(2, str(tmp_path / "space"), str(tmp_path / "store"), str(tmp_path)),
        nprocs=2,
        start_method="fork",
    )
    parts = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(2)]
    assert parts == [labels(of_rank(rank, 2)) for rank in range(2)]
    assert sorted(itertools.chain(*map(flat, parts))) == list(range(211))
