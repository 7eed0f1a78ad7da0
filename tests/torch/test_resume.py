"""A state continues with exactly the remaining records, in their order, wherever it was taken."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchdata.stateful_dataloader import StatefulDataLoader

import dreamdb as vd
from dreamdb.errors import InvalidInputError, StateError
from dreamdb.torch import DreamDBDataset
from tests.torch.data import FIELDS, flat, labels, loader, make, raised

NUMBERS = itertools.count()
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]
SMALL = make("memory://torch-resume-small", 90)


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> vd.Dataset:
    return make(tmp_path_factory.mktemp("space"), 203)


def shuffled(ds: vd.Dataset, **options: Any) -> DreamDBDataset:
    return DreamDBDataset(ds, FIELDS, **{"batch_size": 16, "shuffle_seed": 1, **options})


def through_json(state: Any) -> Any:
    return json.loads(json.dumps(state))


def whole(ds: vd.Dataset, epoch: int, **options: Any) -> list[list[int]]:
    train = shuffled(ds, **options)
    train.set_epoch(epoch)
    return labels(train)


@given(
    batch_size=st.integers(1, 100),
    cut=st.integers(0, 90),
    epoch=st.integers(0, 5),
    seed=st.none() | st.integers(0, 5),
    where=st.sampled_from([None, "label < 50", "label >= 33"]),
    drop_last=st.booleans(),
)
def test_every_position(
    batch_size: int,
    cut: int,
    epoch: int,
    seed: int | None,
    where: str | None,
    drop_last: bool,
) -> None:
    batch_size = min(batch_size, 45) if drop_last else batch_size
    options = {
        "batch_size": batch_size,
        "shuffle_seed": seed,
        "where": where,
        "drop_last": drop_last,
    }
    first = shuffled(SMALL, **options)
    first.set_epoch(epoch)
    iterator = iter(first)
    seen = labels(itertools.islice(iterator, cut))
    for state in (first.state_dict(), first.state_dict(step=len(seen)), iterator.state_dict()):
        second = shuffled(SMALL, **options)
        second.load_state_dict(through_json(state))
        rest = labels(second)
        if len(seen) == len(first):  # the end of an epoch is the next one's start
            assert state["epoch"] == second.epoch == epoch + 1
            assert rest == whole(SMALL, epoch + 1, **options)
        else:
            assert state["epoch"] == second.epoch == epoch
            assert seen + rest == whole(SMALL, epoch, **options)


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (2, 3), (3, 2), (1, 4)])
def test_another_number_of_workers(ds: vd.Dataset, before: int, after: int) -> None:
    wanted = whole(ds, 0)
    for cut in (0, 1, 5, 12):
        first = shuffled(ds)
        iterator = iter(loader(first, before))
        seen = labels(itertools.islice(iterator, cut))
        state = through_json(first.state_dict(step=cut))
        del iterator
        second = shuffled(ds)
        second.load_state_dict(state)
        assert seen + labels(loader(second, after)) == wanted


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resume_point_holds_for_one_pass(ds: vd.Dataset, workers: int) -> None:
    wanted = whole(ds, 0)
    train = shuffled(ds)
    train.load_state_dict(shuffled(ds).state_dict(step=4))
    batches = loader(train, workers)
    # Equal seeds of the loader must not make a later pass look like the first one.
    for expected in (wanted[4:], wanted, wanted):
        torch.manual_seed(0)
        assert labels(batches) == expected


def test_persistent_workers_resume_once_and_again(ds: vd.Dataset) -> None:
    train = shuffled(ds)
    batches = loader(train, 2, persistent_workers=True)
    state = shuffled(ds).state_dict(step=4)
    train.load_state_dict(state)
    assert labels(batches) == whole(ds, 0)[4:]
    assert labels(batches) == whole(ds, 0)
    train.set_epoch(1)
    assert labels(batches) == whole(ds, 1)
    train.load_state_dict(state)
    assert train.epoch == 0
    assert labels(batches) == whole(ds, 0)[4:]


def test_the_loop_of_the_documentation(ds: vd.Dataset) -> None:
    """Interrupted anywhere, a run of three epochs sees what an uninterrupted one sees."""
    wanted = [batch for epoch in range(3) for batch in whole(ds, epoch)]
    checkpoint: dict[str, Any] | None = None
    seen: list[list[int]] = []
    for stop_after in (5, 8, 1, 12, 7, 99):
        train = shuffled(ds)
        if checkpoint:
            train.load_state_dict(through_json(checkpoint))
        batches = loader(train, stop_after % 3)
        now = 0
        for epoch in range(train.epoch, 3):
            train.set_epoch(epoch)
            for step, batch in enumerate(batches, 1):
                seen += labels([batch])
                checkpoint = train.state_dict(step=step)
                now += 1
                if now == stop_after:
                    break
            if now == stop_after:
                break
    assert seen == wanted


def test_the_end_of_an_epoch_is_the_next_ones_start(ds: vd.Dataset) -> None:
    for workers in (0, 2):
        train = shuffled(ds)
        train.set_epoch(4)
        steps = len(labels(loader(train, workers)))
        state = train.state_dict(step=steps)
        assert (state["epoch"], state["position"]) == (5, 0)
        again = shuffled(ds)
        again.load_state_dict(state)
        again.set_epoch(again.epoch)
        assert labels(loader(again, workers)) == whole(ds, 5)


def test_setting_another_epoch_starts_it(ds: vd.Dataset) -> None:
    train = shuffled(ds)
    train.load_state_dict(shuffled(ds).state_dict(step=3))
    train.set_epoch(2)
    assert labels(train) == whole(ds, 2)
    assert train.state_dict()["epoch"] == 3


def test_resuming_twice_counts_from_the_resume_point(ds: vd.Dataset) -> None:
    train = shuffled(ds)
    train.load_state_dict(shuffled(ds).state_dict(step=3))
    iterator = iter(loader(train, 2))
    labels(itertools.islice(iterator, 2))
    state = train.state_dict(step=2)
    del iterator
    assert state["position"] == 5 * 16
    again = shuffled(ds)
    again.load_state_dict(state)
    assert labels(again) == whole(ds, 0)[5:]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_torchdata_resumes_at_every_step(ds: vd.Dataset, workers: int) -> None:
    wanted = whole(ds, 0)

    def stateful(dataset: DreamDBDataset) -> Any:
        return StatefulDataLoader(
            dataset,
            batch_size=None,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )

    batches = stateful(shuffled(ds))
    iterator = iter(batches)
    states = [batches.state_dict()]
    for _ in wanted:
        assert labels([next(iterator)]) == [wanted[len(states) - 1]]
        states.append(batches.state_dict())
    for cut in (0, 1, 2, 3, 6, 11, 12):
        resumed = stateful(shuffled(ds))
        resumed.load_state_dict(states[cut])
        assert labels(resumed) == wanted[cut:]
    # Another number of workers: the dataset itself takes the loader's state.
    for cut in range(0, 13, 4):
        train = shuffled(ds)
        train.load_state_dict(states[cut])
        assert labels(loader(train, 2)) == wanted[cut:]
    last = shuffled(ds)
    last.load_state_dict(states[-1])
    assert (last.epoch, labels(last)) == (1, whole(ds, 1))


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_goes_on_to_the_next_epoch(ds: vd.Dataset, workers: int) -> None:
    train = shuffled(ds)
    batches = StatefulDataLoader(train, batch_size=None, num_workers=workers)
    train.set_epoch(1)
    iterator = iter(batches)
    seen = labels(itertools.islice(iterator, 5))
    state = batches.state_dict()
    again = shuffled(ds)
    resumed = StatefulDataLoader(again, batch_size=None, num_workers=workers)
    resumed.load_state_dict(state)
    again.set_epoch(1)
    assert seen + labels(resumed) == whole(ds, 1)
    again.set_epoch(2)
    assert labels(resumed) == whole(ds, 2)


def test_only_the_loader_knows_a_pass_that_it_restored(ds: vd.Dataset) -> None:
    batches = StatefulDataLoader(shuffled(ds), batch_size=None, num_workers=2)
    iterator = iter(batches)
    labels(itertools.islice(iterator, 5))
    state = batches.state_dict()
    train = shuffled(ds)
    resumed = StatefulDataLoader(train, batch_size=None, num_workers=2)
    resumed.load_state_dict(state)
    iterator = iter(resumed)
    next(iterator)
    for step in (None, 1):
        error = raised(lambda step=step: train.state_dict(step=step))  # type: ignore[misc]
        assert isinstance(error, StateError)
        assert "only it can tell" in str(error)


def test_torchdata_with_rare_snapshots(ds: vd.Dataset) -> None:
    batches = StatefulDataLoader(
        shuffled(ds), batch_size=None, num_workers=2, snapshot_every_n_steps=4
    )
    iterator = iter(batches)
    seen = labels(itertools.islice(iterator, 7))
    state = batches.state_dict()
    again = shuffled(ds)
    again.load_state_dict(state)
    assert seen + labels(again) == whole(ds, 0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("seed", {"shuffle_seed": 2}),
        ("seed", {"shuffle_seed": None}),
        ("batch_size", {"batch_size": 17}),
        ("where", {"where": "label < 9"}),
    ],
)
def test_a_state_of_another_stream(ds: vd.Dataset, name: str, options: dict[str, Any]) -> None:
    state = shuffled(ds).state_dict(step=2)
    with pytest.raises(StateError, match=f"another {name}") as caught:
        shuffled(ds, **options).load_state_dict(state)
    assert caught.value.details["differs"] == name
    assert caught.value.hint


def test_a_state_of_another_version(tmp_path: Path) -> None:
    ds = make(tmp_path, 40)
    state = shuffled(ds).state_dict(step=1)
    wanted = labels(shuffled(ds))[1:]
    ds.append_many([{"label": 40}])
    later = shuffled(ds)
    with pytest.raises(StateError, match="another manifest"):
        later.load_state_dict(state)
    pinned = vd.Dataset.open_by_manifest(state["manifest"], tmp_path)
    train = shuffled(pinned)
    train.load_state_dict(state)
    assert labels(train) == wanted


def test_fields_and_nulls_may_change(ds: vd.Dataset) -> None:
    state = shuffled(ds).state_dict(step=2)
    train = DreamDBDataset(ds, ["label"], 16, 1, nulls="mask", tensors=True, drop_last=True)
    train.load_state_dict(state)
    assert labels(train) == whole(ds, 0)[2:12]


BROKEN: list[Any] = [
    {},
    [],
    None,
    {"kind": "other"},
    {"version": 2},
    {"plan": "00"},
    {"position": -1},
    {"position": 10**9},
    {"position": 1.5},
    {"position": None},
    {"epoch": "1"},
    {"epoch": True},
    {"step": 1},
    {"step": 1, "worker": 0, "workers": 0, "world_size": 1},
    {"step": 1, "worker": 0, "workers": 2, "world_size": 0},
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_state(ds: vd.Dataset, broken: Any) -> None:
    train = shuffled(ds)
    state = {**train.state_dict(), **broken} if broken else broken
    with pytest.raises(StateError):
        train.load_state_dict(state)
    assert labels(train) == whole(ds, 0)


def test_a_state_without_a_part(ds: vd.Dataset) -> None:
    state = shuffled(ds).state_dict(step=1)
    for name in state:
        with pytest.raises(StateError):
            shuffled(ds).load_state_dict({k: v for k, v in state.items() if k != name})


def test_only_the_loop_knows_how_far_it_is(ds: vd.Dataset) -> None:
    train = shuffled(ds)
    iterator = iter(loader(train, 2))
    next(iterator)
    error = raised(train.state_dict)
    assert isinstance(error, StateError)
    assert "your loop" in str(error)
    assert "step=" in (error.hint or "")
    assert train.state_dict(step=1)["position"] == 16
    assert isinstance(raised(lambda: train.state_dict(step=14)), InvalidInputError)


@settings(max_examples=15)
@given(cut=st.integers(0, 13), worlds=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_another_number_of_ranks(cut: int, worlds: tuple[int, int]) -> None:
    before, after = worlds
    options = {"batch_size": 7}
    ranks = [shuffled(SMALL, rank=r, world_size=before, **options) for r in range(before)]
    iterators = [iter(rank) for rank in ranks]
    cut = min(cut, len(ranks[0]) - 1)
    seen = [flat(labels(itertools.islice(it, cut))) for it in iterators]
    states = [rank.state_dict() for rank in ranks]
    assert all(state == states[0] for state in states)
    rest = []
    for rank in range(after):
        train = shuffled(SMALL, rank=rank, world_size=after, **options)
        train.load_state_dict(states[0])
        rest.append(labels(train))
    assert len({len(batches) for batches in rest}) == 1
    assert sorted(flat(seen) + flat(flat(rest))) == list(range(90))
