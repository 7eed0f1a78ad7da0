"""Receipts: kept with the versions they name, shown by inspect, replayed bit by bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.errors import AlreadyExistsError, FormatError, RefNotFoundError, StateError
from dreamdb.training import (
    GlobalShuffle,
    List,
    Stack,
    read_receipt,
    write_receipt,
)
from tests.training.data import FIELDS, numbers, space


def _stream(ds: vd.Dataset, seed: int = 3, **options: Any) -> Any:
    return (
        vd.relation(ds)
        .sample(identity="sample_id", order=GlobalShuffle(seed))
        .collate(**{"batch_size": 32, "fields": FIELDS, **options})
    )


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return list(one) == list(other) and all(
        np.array_equal(np.asarray(one[name]), np.asarray(other[name])) for name in one
    )


def test_a_run_is_replayed_from_its_receipt(tmp_path: Path) -> None:
    ds = numbers(200, where=tmp_path / "space")
    loader = _stream(ds).to_torch()
    seen = [(0, batch) for batch in loader]
    for step, batch in enumerate(loader, 1):
        seen.append((1, batch))
        if step == 3:
            break
    written = loader.receipt("runs-7", notes={"model": "abc"})
    ds.append_many([{"sample_id": "later", "_anchor": 99_999}])
    kept = read_receipt("runs-7", str(tmp_path / "space"))
    assert kept == written
    assert kept.steps == 10
    again = vd.Dataset.open_by_manifest(kept.manifests[0], backend=str(tmp_path / "space"))
    stream = _stream(again)
    # Another name of the same data: only the version counts.
    replayed = list(kept.replay(stream))
    assert [made.epoch for made in replayed] == [epoch for epoch, _ in seen]
    for made, (_, batch) in zip(replayed, seen, strict=True):
        assert _equal(made.fields, batch)


def test_every_rank_is_replayed() -> None:
    stream = _stream(numbers(100), batch_size=8)
    receipt = write_receipt("r", stream, [{"epoch": 4, "place": [16], "steps": 2, "world": 3}])
    found = [(m.rank, m.fields["id"]) for m in receipt.replay(stream)]
    runs = [list(stream.steps.batches(4, (16,), r, 3)) for r in range(3)]
    wanted = [
        (rank, [f"s{i:05d}" for i in runs[rank][step][1].members.index])
        for step in range(2)
        for rank in range(3)
    ]
    assert found == wanted
    assert [m.fields["id"] for m in receipt.replay(stream, rank=1)] == [
        ids for rank, ids in wanted if rank == 1
    ]


def test_equal_epochs_are_told_once() -> None:
    loader = _stream(numbers(64)).to_torch()
    for _ in range(5):
        list(loader)
    receipt = loader.receipt("r")
    assert list(receipt.consumed) == [
        {"epoch": 0, "place": [0], "steps": 2, "world": 1, "epochs": 5}
    ]
    assert receipt.steps == 10


def test_earlier_processes_are_told_too() -> None:
    stream = _stream(numbers(64), batch_size=16)
    first = stream.to_torch()
    next(iter(first))
    state, consumed = first.state_dict(), json.loads(json.dumps(first.consumed))
    second = stream.to_torch()
    second.load_state_dict(state)
    list(second)
    receipt = second.receipt("r", earlier=consumed)
    ids = [i for made in receipt.replay(stream) for i in made.fields["id"]]
    assert sorted(ids) == [f"s{i:05d}" for i in range(64)]


def test_a_mixed_run_keeps_every_version() -> None:
    spaces = [space(), space()]
    parts = [numbers(50, f"part-{i}", where=where) for i, where in enumerate(spaces)]
    stream = (
        vd.mix([vd.Stream(ds.name or "", ds) for ds in parts])
        .sample()
        .collate(batch_size=10, fields={"id": List("sample_id")})
    )
    write_receipt("run", stream, [])
    assert vd.connect(spaces[0]).list_refs("run") == ["run"]
    assert vd.connect(spaces[1]).list_refs("run") == ["run.source-1"]
    for i, name in enumerate(("run", "run.source-1")):
        kept = vd.Dataset.open_ref(name, backend=spaces[i])
        assert kept.current_manifest() == parts[i].current_manifest()
        assert vd.connect(spaces[i]).verify().ok


def test_inspect_shows_a_receipt(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from dreamdb.cli import program

    loader = _stream(numbers(64, where=tmp_path / "s")).to_torch()
    list(loader)
    loader.receipt("run-1", message="first run")
    shown = CliRunner().invoke(program, ["-b", str(tmp_path / "s"), "inspect", "run-1"])
    assert shown.exit_code == 0, shown.output
    assert loader.stream.plan.hash in shown.output
    assert '"steps":2' in shown.output
    assert "first run" in shown.output


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"seed": 4}, "order"),
        ({"batch_size": 16}, "formation"),
        ({"fields": {"y": Stack("label")}}, "fields"),
        ({"on_error": "skip"}, "fields"),
    ],
)
def test_another_stream_is_not_replayed(change: Any, differs: str) -> None:
    ds = numbers(64)
    receipt = write_receipt("r", _stream(ds), [])
    with pytest.raises(StateError) as caught:
        list(receipt.replay(_stream(ds, **change)))
    assert caught.value.details["differs"] == differs
    other = ds.branch("other")
    other.delete([0])
    with pytest.raises(StateError) as caught:
        receipt.check(_stream(other))
    assert caught.value.details["differs"] == "data"


def test_bad_receipts_are_refused() -> None:
    where = space()
    ds = numbers(64, where=where)
    stream = _stream(ds)
    write_receipt("run", stream, [])
    with pytest.raises(AlreadyExistsError):
        write_receipt("run", stream, [])
    with pytest.raises(RefNotFoundError):
        read_receipt("nothing", where)
    ds.snapshot("plain")
    with pytest.raises(FormatError, match="not a training receipt"):
        read_receipt("plain", where)
    ds.snapshot(
        "broken", metadata={**read_receipt("run", where).to_notes(), "receipt.consumed": "[1]"}
    )
    with pytest.raises(FormatError, match="not a training receipt"):
        read_receipt("broken", where)
