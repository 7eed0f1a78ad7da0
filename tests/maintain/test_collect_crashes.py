"""A collector that dies at every call, is killed, or runs beside writers of other processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.maintain import collect_garbage, restore_trash
from dreamdb.store import Backend, open_backend, trash_of
from dreamdb.testing import Fault, FaultBackend, FaultPlan, SimulatedCrash
from tests.maintain.spaces import (
    LATER,
    collect,
    fresh,
    make,
    named,
    objects,
    open_caches,
    state,
    well,
)
from tests.maintain.test_collect import reached

# A collector writes nothing, so that torn writes and full disks are errors like any other.
FAULTS = (Fault.DIE_BEFORE, Fault.DIE_AFTER, Fault.LOSE_RESPONSE, Fault.IO_ERROR)


def littered() -> Backend:
    """Return a space with an abandoned branch, and some trash."""
    backend = fresh()
    ds = make(backend, rows=4, commits=1)
    for number in range(2):
        ds.branch("side").append_many([{"_anchor": 5_000 + number, "x": 7}])
        vd.connect(backend).delete_ref("side")
        if not number:
            collect(backend)
    return backend


def needed(backend: Backend) -> set[bytes]:
    """Return what the refs need."""
    return set().union(*(reached(backend, address) for _, address in named(backend).items()))


def whole_below(backend: Backend) -> bool:
    """Return whether everything below each stored object is stored too."""
    there = objects(backend)
    return all(reached(backend, address) <= there for address, _ in backend.objects.list())


@pytest.mark.parametrize("trash", [True, False])
def test_a_collector_may_die_anywhere(trash: bool) -> None:
    probe = FaultBackend(littered())
    assert collect(probe, trash=trash).removed > 0
    assert probe.mutations > 4
    for at, fault in itertools.product(range(probe.mutations), FAULTS):
        backend = littered()
        seen, before, after = state(backend), objects(backend), needed(backend)
        faulty = FaultBackend(backend, FaultPlan(at=at, fault=fault))
        label = f"{fault.value} at {at} of {probe.trace}"
        with pytest.raises((SimulatedCrash, vd.StorageError)):
            collect(faulty, trash=trash)
        assert after <= objects(backend) <= before, label
        assert whole_below(backend), label
        assert state(backend) == seen, label
        assert well(backend), label
        # The next one finishes what this one began.
        collect(backend, trash=trash)
        assert objects(backend) == after, label
        bin_ = trash_of(backend)
        assert bin_ is not None
        assert trash or not list(bin_.list()), label


def test_a_restore_may_die_anywhere() -> None:
    backend = littered()
    collect(backend)
    probe = FaultBackend(backend)
    restore_trash(probe, dry_run=False)
    for at, fault in itertools.product(range(probe.mutations), FAULTS):
        backend = littered()
        everything = objects(backend)
        collect(backend)
        faulty = FaultBackend(backend, FaultPlan(at=at, fault=fault))
        with pytest.raises((SimulatedCrash, vd.StorageError)):
            restore_trash(faulty, dry_run=False)
        assert whole_below(backend), f"{fault.value} at {at}"
        restore_trash(backend, dry_run=False)
        assert len(objects(backend)) == len(objects(probe.inner))
        assert everything <= objects(backend)


# ---------------------------------------------------------------- real processes


def _abandon_and_write(url: str, number: int, stop: Any) -> int:
    """Append, and leave abandoned branches behind that others are going to write again."""
    ds = vd.Dataset.open_ref(f"w{number}", url)
    side = "side" + str(number)
    written = 0
    while not stop.is_set():
        ds.refresh()
        branch = ds.branch(side)
        # The same records go to the branch, which is deleted, and to the line that stays: the
        # second write meets the objects of the first while the collector takes them away.
        rows = [{"_anchor": 1_000 + written, "x": written, "t": f"text {written}" * 50}]
        branch.append_many(rows)
        vd.connect(url).delete_ref(side)
        Path(url, "logs", side).unlink()
        ds.append_many(rows)
        written += 1
    return written


def _collect_often(url: str, stop: Any, found: Any) -> int:
    backend = open_backend(url)
    removed = 0
    while not stop.is_set():
        report = collect_garbage(backend, open_caches(backend).source, dry_run=False, trash=False)
        removed += report.removed
        if removed:
            found.set()
    return removed


def _in_process(target: Any, arguments: tuple[Any, ...], pipe: Any) -> None:
    pipe.send(target(*arguments))


def test_writers_beside_a_collector_lose_nothing(tmp_path: Path) -> None:
    url = str(tmp_path / "space")
    base = make(url, rows=5, commits=1)
    for number in range(3):
        base.branch(f"w{number}")
    context = multiprocessing.get_context("fork")
    stop, found = context.Event(), context.Event()
    jobs = [(_abandon_and_write, (url, n, stop)) for n in range(3)]
    work: list[Any] = [*jobs, (_collect_often, (url, stop, found))]
    pipes = [context.Pipe(duplex=False) for _ in work]
    processes = [
        context.Process(target=_in_process, args=(*job, pipe[1]))
        for job, pipe in zip(work, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    time.sleep(2.5)
    found.wait(40)  # On a busy machine the first garbage may be late.
    stop.set()
    results = []
    for process, pipe in zip(processes, pipes, strict=True):
        process.join(60)
        assert process.exitcode == 0
        results.append(pipe[0].recv())
    *written, removed = results
    assert removed > 0
    assert vd.connect(url).verify().ok
    for number, count in enumerate(written):
        ds = vd.Dataset.open_ref(f"w{number}", url)
        assert ds["x"].to_pylist()[5:] == list(range(count))


def _collect_once(url: str, pipe: Any) -> None:
    backend = open_backend(url)
    pipe.send("begun")
    collect_garbage(
        backend, open_caches(backend).source, dry_run=False, now_ns=time.time_ns() + LATER
    )
    pipe.send("done")


def test_a_killed_collector_leaves_a_whole_space(tmp_path: Path) -> None:
    backend = open_backend(tmp_path / "space")
    ds = make(backend, rows=60, commits=4)
    seen = state(backend)
    context = multiprocessing.get_context("fork")
    rng = np.random.default_rng(1)
    for number in range(6):
        side = ds.branch("side")
        for row in range(6):
            side.append_many([{"_anchor": 9_000 + number * 10 + row, "x": row}])
        vd.connect(backend).delete_ref("side")
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=_collect_once, args=(str(tmp_path / "space"), writer))
        process.start()
        assert reader.recv() == "begun"
        time.sleep(float(rng.uniform(0.0, 0.03)))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert whole_below(backend)
    assert state(backend) == seen
    assert well(backend)
    collect(backend)
    assert objects(backend) == needed(backend)
