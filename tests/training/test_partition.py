"""Every sample once, dealt exactly, for every number of ranks and from every place."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.errors import InvalidInputError
from dreamdb.training import (
    BatchBudget,
    BucketKey,
    DropPartial,
    GlobalShuffle,
    HashBucketed,
    KeepPartial,
    List,
    Map,
    Packing,
    Pad,
    Sequential,
    ShardAwareShuffle,
    ShuffleBuckets,
    StratifiedByStream,
    WindowedBucket,
)
from tests.training.data import numbers, words

ORDERS = {
    "sequential": Sequential(),
    "global": GlobalShuffle(5),
    "blocks": ShardAwareShuffle(seed=5, shard_key=["shard"], shuffle_block_size=64, lanes=8),
    "buckets": HashBucketed(5, 13, ShuffleBuckets(5)),
}
TOKENS = Map(words, "text") >> "tokens"


def _counted(order: Any, last: Any = KeepPartial, batch: int = 5, rows: int = 433) -> Any:
    return (
        vd.relation(numbers(rows))
        .sample(identity="sample_id", order=order)
        .collate(batch_size=batch, last=last, fields={"id": List("sample_id")})
    )


def _formed(formation: Any, last: Any = KeepPartial, **more: Any) -> Any:
    return (
        vd.relation(numbers(433))
        .sample(identity="sample_id", order=GlobalShuffle(5))
        .map(TOKENS)
        .collate(
            formation=formation,
            last=last,
            fields={"id": List("sample_id"), "x": Pad("tokens", pad_to_multiple_of=4)},
            **more,
        )
    )


BUCKETS = WindowedBucket(100, [BucketKey("len(tokens)")], BatchBudget(max_tokens=200))
STREAMS = {
    **{name: (lambda order=order, **o: _counted(order, **o)) for name, order in ORDERS.items()},
    "bucketed": lambda **o: _formed(BUCKETS, **o),
    "bucketed by step": lambda **o: _formed(BUCKETS, composition=StratifiedByStream(), **o),
    "packed": lambda **o: _formed(Packing(64, window_size=100), batch_size=3, **o),
}


def _flat(batch: Any) -> list[str]:
    members = batch["id"]
    return (
        [x for row in members for x in row] if members and isinstance(members[0], list) else members
    )


def _planned(stream: Any, epoch: int, rank: int, world: int) -> list[list[int]]:
    """Return what a rank is to see, without reading it."""
    steps = stream.steps.batches(epoch, stream.steps.start, rank, world)
    return [batch.members.index.tolist() for _, batch in steps]


@pytest.mark.parametrize("name", STREAMS)
def test_ranks_share_every_epoch_exactly(name: str) -> None:
    stream = STREAMS[name]()
    orders = []
    for epoch in (0, 1):
        reference = None
        for world in range(1, 17):
            parts = [_planned(stream, epoch, rank, world) for rank in range(world)]
            assert len({len(part) for part in parts}) == 1, "ranks with uneven steps"
            assert all(batch for part in parts for batch in part), "a rank without a batch"
            assert len(parts[0]) == stream.count(epoch, world)
            everything = sorted(i for part in parts for batch in part for i in batch)
            assert everything == list(range(433))
            if reference is None:
                reference = [i for batch in parts[0] for i in batch]
        orders.append(reference)
    assert (orders[0] == orders[1]) == (name == "sequential")


@pytest.mark.parametrize("name", STREAMS)
def test_what_is_planned_is_what_is_read(name: str) -> None:
    stream = STREAMS[name]()
    for rank in range(3):
        planned = _planned(stream, 2, rank, 3)
        read = [_flat(batch) for batch in stream.read_epoch(2, rank, 3)]
        assert read == [[f"s{i:05d}" for i in batch] for batch in planned]
    for step in (0, 1, stream.count(2, 3) - 1):
        told = stream.rows(2, step, world_size=3)
        for rank in range(3):
            mine = told.filter(vd.col("rank") == rank)["sample_id"].to_pylist()
            assert mine == [f"s{i:05d}" for i in _planned(stream, 2, rank, 3)[step]]
            assert _flat(stream.batch(2, step, rank, 3)) == mine


@pytest.mark.parametrize("name", STREAMS)
def test_a_place_means_the_same_for_all_ranks(name: str) -> None:
    stream = STREAMS[name]()
    steps = stream.steps
    for first, then in ((1, 3), (4, 2), (3, 16)):
        taken: list[int] = []
        place = steps.start
        ranks = [list(steps.batches(0, steps.start, r, first)) for r in range(first)]
        for number in range(min(4, len(ranks[0]) - 1)):
            places = {ranks[r][number][0] for r in range(first)}
            assert len(places) == 1
            place = places.pop()
            taken += [i for r in range(first) for i in ranks[r][number][1].members.index.tolist()]
            assert steps.after(0, steps.start, number + 1, first) == place
        rest = [
            i
            for r in range(then)
            for _, batch in steps.batches(0, place, r, then)
            for i in batch.members.index.tolist()
        ]
        assert sorted(taken + rest) == list(range(433))
        assert steps.count(0, place, then) == len(list(steps.batches(0, place, 0, then)))


@pytest.mark.parametrize("name", STREAMS)
def test_dropping_leaves_out_less_than_a_step(name: str) -> None:
    stream = STREAMS[name](last=DropPartial)
    for world in (1, 2, 5, 7):
        parts = [_planned(stream, 0, rank, world) for rank in range(world)]
        seen = [i for part in parts for batch in part for i in batch]
        assert len(set(seen)) == len(seen)
        kept = STREAMS[name]()
        assert kept.count(0, world) - stream.count(0, world) in (0, 1)
        places = [place for place, _ in stream.steps.batches(0, stream.steps.start, 0, world)]
        assert stream.count(0, world) == len(places)
        if name in ORDERS:
            assert 433 - len(seen) < 5 * world


@pytest.mark.parametrize("name", STREAMS)
def test_a_sample_is_where_it_is_said_to_be(name: str) -> None:
    stream = STREAMS[name]()
    for number in (0, 17, 432):
        (found,) = stream.where(f"s{number:05d}", epoch=1, world_size=3)
        assert _planned(stream, 1, found.rank, 3)[found.step][found.index] == number


def test_ranks_keep_to_their_lanes() -> None:
    order = ShardAwareShuffle(seed=5, shuffle_block_size=64, lanes=8)
    stream = _counted(order, batch=16, rows=432)
    lanes = [set() for _ in range(4)]  # type: ignore[var-annotated]
    for rank in range(4):
        for _, batch in stream.steps.batches(0, (0,), rank, 4):
            lanes[rank] |= set((batch.members.positions % 8).tolist())
    full = [sorted(lane) for lane in lanes]
    assert full == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_fewer_samples_than_ranks_is_an_error() -> None:
    for name in ("global", "bucketed"):
        stream = STREAMS[name]()
        with pytest.raises(InvalidInputError, match="without a batch would stop the others"):
            list(stream.steps.batches(0, stream.steps.start, 0, 500))


def test_the_last_step_gives_every_rank_a_sample() -> None:
    for rows in range(17, 60):
        stream = _counted(GlobalShuffle(1), batch=4, rows=rows)
        for world in (1, 2, 4):
            ranks = [_planned(stream, 0, r, world) for r in range(world)]
            sizes = np.array([[len(b) for b in part] for part in ranks])
            assert sizes.min() >= 1
            assert sizes.sum() == rows
            assert (sizes.max(0) - sizes.min(0) <= 1).all()


@pytest.mark.parametrize("name", ["bucketed", "packed", "global"])
def test_any_world_goes_on_between_the_last_steps(name: str) -> None:
    stream = STREAMS[name]()
    steps = stream.steps
    for world in (7, 11, 13, 15, 16):
        ranks = [list(steps.batches(0, steps.start, r, world)) for r in range(world)]
        for number in range(max(0, len(ranks[0]) - 3), len(ranks[0]) - 1):
            place = ranks[0][number][0]
            assert steps.check(tuple(place))
            assert steps.after(0, steps.start, number + 1, world) == place
            rest = sorted(
                i for r in ranks for _, b in r[number + 1 :] for i in b.members.index.tolist()
            )
            for then in (1, 2, 3):
                found = [
                    i
                    for r in range(then)
                    for _, b in steps.batches(0, place, r, then)
                    for i in b.members.index.tolist()
                ]
                assert sorted(found) == rest
                assert steps.count(0, place, then) == len(list(steps.batches(0, place, 0, then)))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_pickles(name: str, tmp_path: Path) -> None:
    stream = (
        vd.relation(numbers(60, where=tmp_path / "space"))
        .sample(identity="sample_id", order=ORDERS.get(name, GlobalShuffle(5)))
        .map(TOKENS)
        .collate(
            **(
                {"formation": BUCKETS}
                if "bucketed" in name
                else {"formation": Packing(64), "batch_size": 3}
                if name == "packed"
                else {"batch_size": 7}
            ),
            fields={"id": List("sample_id"), "x": Pad("tokens")},
        )
    )
    whole = [_flat(batch) for batch in stream.read_epoch(3)]
    again = pickle.loads(pickle.dumps(stream))  # noqa: S301
    assert [_flat(batch) for batch in again.read_epoch(3)] == whole
    assert again.plan == stream.plan
