"""Crashes while vectors are encoded anew or indexed: the old state or the new, searched right."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.store import Backend, open_backend
from dreamdb.testing import Fault, FaultBackend, FaultPlan, SimulatedCrash
from tests.dataset.spaces import fresh_url

DIM = 6
VECTORS = np.random.default_rng(1).normal(size=(1_400, DIM)).astype(np.float32)
Verb = Callable[[vd.Dataset], Any]
VERBS: dict[str, Verb] = {
    "append": lambda d: d.append({"_anchor": np.arange(700, 1_400), "v": VECTORS[700:]}),
    "reencode": lambda d: d.reencode("v", "sq8"),
    "build": lambda d: d.index.build("v", "flat"),
    "drop": lambda d: d.index.drop("v"),
}


def _space() -> Backend:
    backend = open_backend(fresh_url())
    schema = vd.Schema().add_embedding("v", DIM, rows_per_fragment=64)
    ds = vd.Dataset.create("main", schema, backend=backend)
    ds.append({"_anchor": np.arange(700), "v": VECTORS[:700]})
    ds.index.build("v", cells=3, iterations=2)
    return backend


def _state(backend: Backend) -> Any:
    """Return what a reader sees, after checking that its index finds what comparing finds."""
    ds = vd.Dataset.open_ref("main", backend)
    found = ds.index.info()
    for query in VECTORS[[3, 1_300]]:
        mine = ds.search("v", query, 4, exact=False if found else None, nprobe=9, rerank=2_000)
        best = ds.search("v", query, 4, exact=True)
        assert mine["_anchor"].to_pylist() == best["_anchor"].to_pylist()
    return ds.content_id, [(one.kind, one.indexed) for one in found]


def _run(verb: Verb, plan: FaultPlan) -> tuple[Backend, FaultBackend, BaseException | None]:
    backend = _space()
    faulty = FaultBackend(backend)
    ds = vd.Dataset.open_ref("main", faulty)
    ds.count()
    faulty.plan = plan
    try:
        verb(ds)
    except (SimulatedCrash, vd.DreamDBError) as caught:
        return backend, faulty, caught
    return backend, faulty, None


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
def test_every_fault_leaves_the_old_state_or_the_new(verb: Verb) -> None:
    backend, counted, error = _run(verb, FaultPlan())
    assert error is None
    old, new = _state(_space()), _state(backend)
    assert old != new
    faults = (Fault.DIE_AFTER, Fault.TORN_WRITE, Fault.DISK_FULL)
    for at, fault in itertools.product(range(counted.mutations), faults):
        backend, _, error = _run(verb, FaultPlan(at=at, fault=fault))
        label = f"{fault.value} at {at} of {counted.trace}"
        after = _state(backend)
        assert after in (old, new), label
        if error is None:
            assert after == new, label
        assert vd.connect(backend).verify().ok, label
        again = vd.Dataset.open_ref("main", backend)
        assert again.append({"_anchor": [9_999], "v": VECTORS[:1] + 7}) == 1
        assert again.search("v", VECTORS[0] + 7, 1)["_anchor"].to_pylist() == [9_999], label
