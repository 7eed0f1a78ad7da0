"""The loader of training streams: one stream for any workers and ranks, and exact resumption."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data

import dreamdb as vd
from dreamdb.errors import InvalidInputError, StateError, StorageError
from dreamdb.training import (
    BatchBudget,
    BucketKey,
    DataParallel,
    GlobalShuffle,
    List,
    Map,
    Packing,
    Pad,
    RuntimeParam,
    ShardAwareShuffle,
    Stack,
    WindowedBucket,
)
from tests.torch.data import raised
from tests.training.data import numbers, record, words

# DataLoader warns of more workers than processors, torchdata uses what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ROWS = 333
RANKED = DataParallel(RuntimeParam("data_parallel_rank"), RuntimeParam("data_parallel_world_size"))


def _counted(ds: Any = None, **options: Any) -> Any:
    ds = numbers(ROWS) if ds is None else ds
    seed = options.pop("seed", 17)
    return (
        vd.relation(ds)
        .sample(
            identity="sample_id",
            order=ShardAwareShuffle(seed=seed, shuffle_block_size=100),
            epoch=RuntimeParam("epoch"),
            assignment=RANKED,
        )
        .collate(
            **{"batch_size": 16, **options},
            fields={"x": Stack("vector"), "y": Stack("label"), "id": List("sample_id")},
        )
    )


def _formed(formation: Any, **options: Any) -> Any:
    return (
        vd.relation(numbers(ROWS))
        .sample(identity="sample_id", order=GlobalShuffle(17), assignment=RANKED)
        .map(Map(words, "text") >> "tokens")
        .collate(
            formation=formation, fields={"x": Pad("tokens"), "id": List("sample_id")}, **options
        )
    )


def _bucketed() -> Any:
    return _formed(WindowedBucket(100, [BucketKey("len(tokens)")], BatchBudget(max_tokens=240)))


def _packed() -> Any:
    return _formed(Packing(64, window_size=100), batch_size=3)


STREAMS = {"counted": _counted, "bucketed": _bucketed, "packed": _packed}


def _params(rank: int, world: int, **more: int) -> dict[str, int]:
    return {"data_parallel_rank": rank, "data_parallel_world_size": world, **more}


def _ids(batches: Any) -> list[list[str]]:
    out = []
    for batch in batches:
        names = batch["id"]
        if isinstance(names[0], list):
            names = [x for row in names for x in row]
        if "y" in batch:
            assert batch["y"].tolist() == [int(name[1:]) % 7 for name in names]
            assert torch.equal(
                batch["x"],
                torch.stack([torch.from_numpy(record(int(n[1:]))["vector"]) for n in names]),
            )
        out.append(names)
    return out


def _flat(batches: list[list[str]]) -> list[str]:
    return [name for batch in batches for name in batch]


@pytest.mark.parametrize("name", STREAMS)
def test_any_number_of_workers_gives_the_same_stream(name: str) -> None:
    stream = STREAMS[name]()
    plain = stream.to_torch()
    epochs = [_ids(plain), _ids(plain)]
    for epoch in epochs:
        assert sorted(_flat(epoch)) == [f"s{i:05d}" for i in range(ROWS)]
    assert epochs[0] != epochs[1]
    assert plain.epoch == 2
    for workers in (1, 2, 4):
        loader = stream.to_torch(num_workers=workers, start_method="fork")
        assert len(loader) == len(epochs[0])
        assert [_ids(loader), _ids(loader)] == epochs
    assert _ids(stream.to_torch(prefetch=0)) == epochs[0]


@pytest.mark.parametrize("name", STREAMS)
def test_resume_at_every_step_with_any_ranks(name: str) -> None:
    stream = STREAMS[name]()
    whole = _flat(_ids(stream.to_torch()))
    loader = stream.to_torch()
    states, seen = [loader.state_dict()], []
    for batch in loader:
        seen.append(_ids([batch])[0])
        states.append(json.loads(json.dumps(loader.state_dict())))
    assert max(len(json.dumps(state)) for state in states) <= 1024
    for step, state in enumerate(states[:-1]):
        again = stream.to_torch()
        again.load_state_dict(state)
        assert (again.epoch, again.step) == (0, step)
        assert again.state_dict() == state
        assert _ids(again) == seen[step:]
        assert again.state_dict() == states[-1]
    for step in range(0, len(states) - 1, 5):
        for world in (2, 3, 5):
            rest = []
            for rank in range(world):
                part = stream.to_torch(params=_params(rank, world))
                part.load_state_dict(states[step])
                rest += _flat(_ids(part))
                assert part.state_dict() == states[-1]
            assert sorted(rest) == sorted(whole[sum(map(len, seen[:step])) :])


def test_the_state_is_the_same_on_every_rank() -> None:
    stream = _counted()
    loaders = [stream.to_torch(params=_params(rank, 4)) for rank in range(4)]
    for _ in zip(*loaders, strict=True):
        assert len({json.dumps(loader.state_dict()) for loader in loaders}) == 1


def test_resume_with_workers_and_twice_in_a_row() -> None:
    stream = _counted()
    whole = _ids(stream.to_torch())
    first = stream.to_torch(num_workers=2, start_method="fork")
    state: dict[str, Any] = {}
    for step, _ in enumerate(first, 1):
        state = first.state_dict()
        if step == 4:
            break
    second = stream.to_torch(num_workers=3, start_method="fork")
    second.load_state_dict(state)
    for step, _ in enumerate(second, 1):
        state = second.state_dict()
        if step == 3:
            break
    third = stream.to_torch()
    third.load_state_dict(state)
    assert _ids(third) == whole[7:]
    assert third.state_dict()["epoch"] == 1


def test_the_end_of_an_epoch_is_the_start_of_the_next() -> None:
    stream = _counted()
    loader = stream.to_torch()
    for _ in loader:
        state = loader.state_dict()
    assert state == loader.state_dict()
    assert (state["epoch"], state["place"], state["step"]) == (1, [0], 0)
    again = stream.to_torch()
    again.load_state_dict(state)
    assert _ids(again) == _ids(loader)


def test_an_epoch_left_early_begins_again() -> None:
    for workers in (0, 2):
        loader = _counted().to_torch(num_workers=workers, start_method="fork")
        batches = iter(loader)
        first = [_ids([next(batches)])[0] for _ in range(3)]
        del batches
        again = _ids(loader)
        assert again[:3] == first
        assert len(_flat(again)) == ROWS
        assert loader.epoch == 1


def test_a_trainer_that_counts_steps_gets_the_next_epoch() -> None:
    stream = _counted()
    wanted = stream.to_torch()
    for workers in (0, 2):
        loader = stream.to_torch(num_workers=workers, start_method="fork")
        for epoch in range(3):
            batches = iter(loader)
            seen = [_ids([next(batches)])[0] for _ in range(len(wanted))]
            wanted.set_epoch(epoch)
            assert seen == _ids(wanted)
        assert loader.epoch == 3


def test_set_epoch_reaches_persistent_workers() -> None:
    stream = _counted()
    plain = stream.to_torch()
    loader = stream.to_torch(num_workers=2, start_method="fork")
    for epoch in (3, 0, 3):
        plain.set_epoch(epoch)
        loader.set_epoch(epoch)
        assert _ids(loader) == _ids(plain)
    assert stream.to_torch(params={"epoch": 3}).epoch == 3
    loader.load_state_dict({**stream.to_torch().state_dict(), "epoch": 4, "place": [32], "step": 2})
    loader.set_epoch(4)  # keeps the place
    assert len(_ids(loader)) == len(plain) - 2


def test_skip_moves_without_reading() -> None:
    for name, make in STREAMS.items():
        stream = make()
        whole = _ids(stream.to_torch())
        loader = stream.to_torch()
        loader.skip(4)
        assert _ids(loader) == whole[4:], name
        loader.set_epoch(0)
        loader.skip(len(whole))
        assert (loader.epoch, loader.step) == (1, 0)
    with pytest.raises(InvalidInputError):
        loader.skip(10_000)
    with pytest.raises(InvalidInputError):
        loader.skip(-1)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"seed": 18}, "order"),
        ({"batch_size": 8}, "formation"),
        ({}, "data"),
    ],
)
def test_a_state_of_another_stream_names_what_differs(change: Any, differs: str) -> None:
    ds = numbers(ROWS)
    state = _counted(ds).to_torch().state_dict()
    if differs == "data":
        ds = ds.branch("other")
        ds.delete([0])
    loader = _counted(ds, **change).to_torch()
    before = loader.state_dict()
    error = raised(lambda: loader.load_state_dict(state))
    assert isinstance(error, StateError)
    assert error.details["differs"] == differs
    assert error.hint
    assert loader.state_dict() == before


def test_another_version_is_accepted_when_asked_for() -> None:
    stream, other = _counted(), _counted()
    loader = stream.to_torch()
    loader.skip(5)
    state = loader.state_dict()
    found = other.to_torch()
    found.load_state_dict(state, strict=False)
    assert found.step == 5


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"kind": "dreamdb.stream"},
        {"epoch": -1},
        {"epoch": "0"},
        {"place": [10**9]},
        {"place": [1, 2]},
        {"place": "start"},
        {"version": 2},
        {"parts": None},
        {"step": True},
    ],
)
def test_bad_states_are_refused(state: Any) -> None:
    loader = _counted().to_torch()
    good = loader.state_dict()
    bad = {**good, **state} if state and "kind" not in state else state
    assert isinstance(raised(lambda: loader.load_state_dict(bad)), StateError)
    assert loader.state_dict() == good


class _Group:
    """A process group whose size may change."""

    def __init__(self, world: int) -> None:
        self.world = world

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def get_rank(self) -> int:
        return 0

    def get_world_size(self) -> int:
        return self.world


def test_ranks_come_from_the_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    group = _Group(2)
    monkeypatch.setattr(torch, "distributed", group)
    stream = vd.relation(numbers(64)).sample().collate(batch_size=4, fields={"y": Stack("label")})
    loader = stream.to_torch()
    assert (loader.rank, loader.world_size, len(loader)) == (0, 2, 8)
    batches = iter(loader)
    next(batches)
    group.world = 4
    error = raised(lambda: next(batches))
    assert isinstance(error, StateError)
    assert "changed from 0 of 2 to 0 of 4" in str(error)


def test_parameters_are_checked() -> None:
    stream = _counted()
    for params, words_ in (
        ({"rank": 0}, "no runtime parameter 'rank'"),
        ({"data_parallel_rank": 0}, "go together"),
        (_params(4, 4), "no rank 4 among 4"),
        ({"epoch": -1}, "epoch"),
    ):
        with pytest.raises(InvalidInputError, match=words_):
            stream.to_torch(params=params)
    with pytest.raises(InvalidInputError, match="num_workers"):
        stream.to_torch(num_workers=-1)
    with pytest.raises(InvalidInputError, match="pin_memory"):
        stream.to_torch(pin_memory="maybe")
    with pytest.raises(InvalidInputError, match="not a device"):
        stream.to_torch(device="gpu9")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInputError, match="there is no CUDA device here"):
            stream.to_torch(device="cuda")
        with pytest.raises(InvalidInputError, match="pin_memory=True"):
            stream.to_torch(pin_memory=True)
    with pytest.raises(InvalidInputError, match="start_method"):
        next(iter(stream.to_torch(num_workers=1, start_method="thread")))


def test_errors_come_through_workers_with_their_type() -> None:
    ds = numbers(40)
    ds.append_many([{"sample_id": "broken", "_anchor": 10_000}])
    stream = (
        vd.relation(ds)
        .sample(identity="sample_id")
        .collate(batch_size=8, fields={"x": Stack("vector")})
    )
    for workers in (0, 1):
        loader = stream.to_torch(num_workers=workers, start_method="fork")
        batches = iter(loader)
        for _ in range(5):
            next(batches)
        error = raised(lambda: next(batches))  # noqa: B023
        assert isinstance(error, InvalidInputError)
        assert "'broken'" in str(error)
    # Nine: the broken one is not alone in its batch, which would be an error.
    skipping = (
        vd.relation(ds)
        .sample(identity="sample_id")
        .collate(
            batch_size=9, fields={"x": Stack("vector"), "y": Stack("label")}, on_error="replace"
        )
    )
    for workers in (0, 2):
        loader = skipping.to_torch(num_workers=workers, start_method="fork")
        rows = [batch["_valid"].sum().item() for batch in loader]
        assert sum(rows) == 40
        assert loader.stats["failed"] == 1
        ((identity, why),) = loader.stats["failures"]
        assert identity == "broken"
        assert "no 'vector'" in why
        assert loader.stats["samples"] == 41


def test_consumed_steps_are_counted() -> None:
    loader = _counted().to_torch()
    for step, _ in enumerate(loader, 1):
        if step == 3:
            break
    state = loader.state_dict()
    loader.load_state_dict(state)
    list(loader)
    told = [(s["epoch"], s["place"], s["steps"], s["world"]) for s in loader.consumed]
    assert told == [(0, [0], 3, 1), (0, [48], 18, 1)]


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_data_loader_over_keys(workers: int) -> None:
    stream = _counted()
    loader = stream.to_torch()
    wanted = _ids(stream.to_torch())
    context = "fork" if workers else None
    plain = torch.utils.data.DataLoader(
        loader.dataset,
        sampler=loader.keys,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=context,
    )
    assert len(plain) == len(wanted)
    assert _ids(plain) == wanted
    loader.load_state_dict(loader.state_dict(step=5))
    assert _ids(plain) == wanted[5:]


@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_data_loader(workers: int) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    stream = _counted()

    def make() -> Any:
        loader = stream.to_torch(params={"epoch": 0})
        return StatefulDataLoader(
            loader.dataset,
            sampler=loader.keys,
            batch_size=None,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )

    wanted = _ids(stream.to_torch())
    for stop in (1, 6, len(wanted) - 1):
        loader = make()
        seen = []
        for batch in loader:
            seen += _ids([batch])
            if len(seen) == stop:
                break
        state = pickle.loads(pickle.dumps(loader.state_dict()))  # noqa: S301
        again = make()
        again.load_state_dict(state)
        assert seen + _ids(again) == wanted


def test_spawned_workers(tmp_path: Path) -> None:
    stream = _counted(numbers(ROWS, where=tmp_path / "space"))
    loader = stream.to_torch(num_workers=1, start_method="spawn")
    assert _ids(loader) == _ids(stream.to_torch())
    error = raised(lambda: next(iter(_counted().to_torch(num_workers=1, start_method="spawn"))))
    assert isinstance(error, StorageError)
    assert "lives in this process" in str(error)


_KILLED = """
import sys, time
import dreamdb as vd
from dreamdb.training import GlobalShuffle, Stack
ds = vd.Dataset.open_ref("numbers", backend=sys.argv[1])
stream = vd.relation(ds).sample(order=GlobalShuffle(1)).collate(
    batch_size=8, fields={"x": Stack("vector")})
loader = stream.to_torch(num_workers=2, start_method="fork")
for batch in loader:
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_nothing_behind(tmp_path: Path) -> None:
    numbers(ROWS, where=tmp_path / "space")
    shared = Path("/dev/shm")

    def left() -> set[str]:
        return {p.name for p in shared.iterdir()} if shared.is_dir() else set()

    # A short name: torch passes tensors through sockets below it, whose paths are bounded.
    before, mine = left(), Path(tempfile.mkdtemp())
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path / "space")],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(mine)},
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    new = {name for name in left() - before if name.startswith(("torch_", "dreamdb"))}
    assert not new
    assert not [p for p in mine.rglob("*") if p.is_file()]
    shutil.rmtree(mine)


def test_memory_stays_flat_over_epochs() -> None:
    import resource

    loader = _counted().to_torch()

    def run(epochs: int) -> int:
        for _ in range(epochs):
            for batch in loader:
                del batch
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = run(3)
    assert run(20) - before < 20_000  # KiB
    assert np.isfinite(loader.stats["seconds"]["wait"])
