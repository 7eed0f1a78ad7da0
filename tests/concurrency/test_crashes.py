"""Crashes: at every mutating call, in every way, and a real kill -9."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.store import Backend, open_backend
from dreamdb.testing import Fault, FaultBackend, FaultPlan, SimulatedCrash

_NUMBERS = itertools.count()
Verb = Callable[[vd.Dataset], Any]


def _transaction(ds: vd.Dataset) -> None:
    with ds.transaction() as tx:
        tx.append_many([{"_anchor": 900, "x": 900}])
        tx.update([900, 3], {"x": -1})
        tx.delete([4])


VERBS: dict[str, Verb] = {
    "append": lambda d: d.append_many([{"x": 1}, {"x": 2}]),
    "append many": lambda d: d.append(
        {"_anchor": np.arange(5_000, 14_000), "x": np.arange(9_000), "v": np.ones((9_000, 16))}
    ),
    "insert": lambda d: d.append_many([{"_anchor": 1_005, "x": 1}]),
    "update": lambda d: d.update([3, 4], {"x": [7, 8]}),
    "upsert": lambda d: d.upsert([{"_anchor": 3, "x": 7}, {"_anchor": 2_000, "x": 1}]),
    "delete": lambda d: d.delete([3, 4], reason="noise"),
    "layer": lambda d: d.add_scalar_layer("p", "x", "int", [(3, 1)]),
    "add field": lambda d: d.add_fields(vd.Schema().add_text("t").add_scalar_int("u")),
    "drop field": lambda d: d.drop_field("v"),
    "rename field": lambda d: d.rename_field("x", "z"),
    "metadata": lambda d: d.set_metadata({"a": "b"}),
    "transaction": _transaction,
    "snapshot": lambda d: d.snapshot("snap"),
    "branch": lambda d: d.branch("side"),
    "create": lambda d: vd.Dataset.create("fresh", data={"x": [1, 2]}, backend=d._space.backend),
    "delete_ref": lambda d: vd.connect(d._space.backend).delete_ref("old"),
}


def _state(backend: Backend) -> Any:
    """Return everything a reader can see of a space."""
    space = vd.connect(backend)
    out = {}
    for ref in space.refs():
        ds = space.open(ref.name)
        table = ds.scan().to_arrow()
        # Automatic anchors are times: their number and order count, not their value.
        anchors = [a if a < 1 << 40 else "auto" for a in table["_anchor"].to_pylist()]
        columns = {n: table[n].to_pylist() for n in sorted(ds.schema)}
        out[ref.name] = (ref.kind, anchors, columns, ds.metadata)
    return out


def _space() -> Backend:
    """Return a new memory space with a few refs."""
    backend = open_backend(f"memory://crash-{next(_NUMBERS)}")
    ds = vd.Dataset.create(
        "main", vd.Schema().add_scalar_int("x").add_embedding("v", 16), backend=backend
    )
    ds.append_many([{"_anchor": i, "x": i} for i in range(20)])
    ds.append_many([{"_anchor": 1_000 + i * 10, "x": i} for i in range(5)])
    ds.branch("old")
    return backend


def _run(verb: Verb, plan: FaultPlan) -> tuple[Backend, FaultBackend, BaseException | None]:
    backend = _space()
    faulty = FaultBackend(backend)
    ds = vd.Dataset.open_ref("main", faulty)
    ds.count()
    faulty.plan = plan
    error: BaseException | None = None
    try:
        verb(ds)
    except (SimulatedCrash, vd.DreamDBError) as caught:
        error = caught
    return backend, faulty, error


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
def test_every_fault_leaves_the_old_state_or_the_new(verb: Verb) -> None:
    backend, counted, error = _run(verb, FaultPlan())
    assert error is None
    old, new = _state(_space()), _state(backend)
    assert old != new
    assert counted.mutations >= 1
    for at, fault in itertools.product(range(counted.mutations), Fault):
        backend, _, error = _run(verb, FaultPlan(at=at, fault=fault))
        label = f"{fault.value} at {at} of {counted.trace}"
        after = _state(backend)
        assert after in (old, new), label
        if error is None:
            assert after == new, label
        if isinstance(error, (vd.ConflictError, vd.AlreadyExistsError)):
            assert after == old, label
        if fault in (Fault.DISK_FULL, Fault.IO_ERROR):
            assert isinstance(error, vd.StorageError), label
            assert after == old, label
        if isinstance(error, vd.StorageError) and error.details.get("published") is False:
            assert after == old, label
        if fault in (Fault.DIE_BEFORE, Fault.DIE_AFTER, Fault.TORN_WRITE):
            assert isinstance(error, SimulatedCrash), label
        assert vd.connect(backend).verify().ok, label
        # The space can be written on, by a new process and after an error by the same one.
        again = vd.Dataset.open_ref("main", backend)
        count = again.count()
        assert again.append_many([{}]) == 1
        assert vd.Dataset.open_ref("main", backend).count() == count + 1, label


@pytest.mark.parametrize("name", ["append", "update", "layer", "transaction", "delete"])
@pytest.mark.parametrize("fault", [Fault.DISK_FULL, Fault.IO_ERROR, Fault.LOSE_RESPONSE])
def test_a_handle_survives_an_error_of_the_storage(name: str, fault: Fault) -> None:
    counted = _run(VERBS[name], FaultPlan())[1].mutations
    for at in range(counted):
        backend = _space()
        faulty = FaultBackend(backend)
        ds = vd.Dataset.open_ref("main", faulty)
        ds.count()
        faulty.plan = FaultPlan(at=at, fault=fault)
        with contextlib.suppress(vd.StorageError):
            VERBS[name](ds)
        assert ds.refresh().count() == vd.Dataset.open_ref("main", backend).count()
        assert ds.append_many([{"x": 5}]) == 1
        assert vd.Dataset.open_ref("main", backend).count() == ds.count()


def test_a_lost_answer_to_the_swap_is_success() -> None:
    backend = _space()
    faulty = FaultBackend(backend)
    ds = vd.Dataset.open_ref("main", faulty)
    for number in range(3):
        start = faulty.mutations
        probe = FaultBackend(backend)
        twin = vd.Dataset.open_ref("main", probe).refresh()
        assert twin.count() == ds.count()
        ds.append_many([{"x": number}])
        swap = len(faulty.trace) - 1
        assert faulty.trace[swap] == "refs.swap"
        faulty.plan = FaultPlan(at=faulty.mutations + (swap - start), fault=Fault.LOSE_RESPONSE)
        # The commit reads the ref back, finds itself, and says that all is well.
        assert ds.append_many([{"x": 100 + number}]) == 1
        assert faulty.trace[faulty.plan.at or 0] == "refs.swap"
    assert vd.Dataset.open_ref("main", backend)["x"].to_pylist()[-6:] == [0, 100, 1, 101, 2, 102]


# ---------------------------------------------------------------- real processes


def _write_forever(url: str, number: int, pipe: Any) -> None:
    ds = vd.Dataset.open_ref("main", url)
    pipe.send(number - 1)
    while True:
        if number % 3 == 2:
            with ds.transaction() as tx:
                tx.append_many([{"x": number}] * 5)
                tx.append_many([{"x": number}] * 5)
        else:
            ds.append_many([{"x": number, "b": b"0123456789" * 2_000}] * 10)
        pipe.send(number)
        number += 1


def _kill_while_writing(url: str, first: int, delay: float) -> int:
    """Kill a writer some time after it has begun; return the last number it acknowledged."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_write_forever, args=(url, first, writer))
    process.start()
    writer.close()
    told = reader.recv()
    time.sleep(delay)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    # A message that was cut off was not an acknowledgement.
    with contextlib.suppress(EOFError, OSError):
        while reader.poll():
            told = reader.recv()
    reader.close()
    return int(told)


def _kill_often(url: str, times: int) -> None:
    schema = vd.Schema().add_scalar_int("x").add_binary("b")
    vd.Dataset.create("main", schema, backend=url)
    generator = np.random.default_rng(0)
    for _ in range(times):
        seen = vd.Dataset.open_ref("main", url)
        stored = sorted(set(seen["x"].to_pylist()))
        first = stored[-1] + 1 if stored else 0
        acknowledged = _kill_while_writing(url, first, float(generator.uniform(0.0, 0.08)))
        ds = vd.Dataset.open_ref("main", url)
        tags = ds["x"].to_pylist()
        groups = sorted(set(tags))
        # Whole commits only, no gap, everything acknowledged, at most one more.
        assert groups == list(range(len(groups)))
        assert all(tags.count(tag) == 10 for tag in groups[-20:])
        assert len(tags) == 10 * len(groups)
        assert len(groups) - 1 in (acknowledged, acknowledged + 1)
    assert vd.connect(url).verify().ok
    ds = vd.Dataset.open_ref("main", url)
    assert ds.append_many([{"x": -1}]) == 1


def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    _kill_often(str(tmp_path / "space"), 20)


@pytest.mark.deep
def test_kill_9_a_hundred_times(tmp_path: Path) -> None:
    _kill_often(str(tmp_path / "space"), 100)
