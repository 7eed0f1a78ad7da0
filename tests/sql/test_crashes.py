"""Crashes and faults at every mutating call of a statement: the old state or the new one."""

from __future__ import annotations

import copy
import itertools
from functools import cache
from typing import Any

import pytest

import dreamdb as vd
from dreamdb.history import open_catalog
from dreamdb.store import Backend, open_backend
from dreamdb.testing import Fault, FaultBackend, FaultPlan, SimulatedCrash
from tests.sql.databases import embed, fresh_url

SETUP = (
    "CREATE TABLE docs (id BIGINT PRIMARY KEY, body TEXT EMBED WITH hash, label INT);"
    "INSERT INTO docs VALUES (1, 'a', 1), (2, 'b', 0), (3, 'ab', 1);"
    "CREATE TABLE other AS SELECT 1 AS x; CREATE VERSION TAG 'old'"
)
STATEMENTS = [
    "CREATE VERSION TAG 'new' FOR TRAINING TRAINING SEED 3",
    "DROP VERSION TAG 'old'",
    "UPDATE docs SET body = 'new', label = label + 1 WHERE id > 1",
]


def database(backend: Backend) -> vd.Database:
    """Return a database over a backend."""
    db = vd.Database(backend, threads=1)
    db.register_embedder("hash", embed, 3)
    return db


@cache
def template() -> Any:
    """Return what a memory space with two tables and a tag holds."""
    backend: Any = open_backend(fresh_url())
    with database(backend) as db:
        db.execute(SETUP)
    return backend._space


def prepared() -> Backend:
    """Return a copy of that space."""
    backend: Any = open_backend(fresh_url())
    for name in ("documents", "logs", "objects", "refs"):
        getattr(backend._space, name).update(copy.deepcopy(getattr(template(), name)))
    return backend


def state(backend: Backend) -> Any:
    """Return everything that statements can see."""
    space = vd.connect(backend)
    out: dict[str, Any] = {}
    for ref in space.refs():
        if ref.kind != "tag":
            out[ref.name] = repr(space.open(ref.name).scan().to_arrow().to_pylist())
            continue
        value = backend.refs.read(ref.name)
        assert value is not None
        catalog = open_catalog(space._space.cache, ref.name, value)
        assert catalog is not None
        tables = {
            name: vd.Dataset.open_by_manifest(manifest, backend).count()
            for name, manifest in catalog.tables.items()
        }
        out[ref.name] = (tables, dict(ref.metadata))
    return out


def run(statement: str, plan: FaultPlan) -> tuple[Backend, FaultBackend, BaseException | None]:
    """Run a statement over a backend with faults."""
    backend = prepared()
    faulty = FaultBackend(backend)
    error: BaseException | None = None
    with database(faulty) as db:
        faulty.plan = plan
        try:
            db.execute(statement)
        except (SimulatedCrash, vd.DreamDBError) as caught:
            error = caught
    return backend, faulty, error


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_fault_leaves_the_old_state_or_the_new(statement: str) -> None:
    backend, counted, error = run(statement, FaultPlan())
    assert error is None
    old, new = state(prepared()), state(backend)
    assert old != new
    assert counted.mutations >= 1
    for at, fault in itertools.product(range(counted.mutations), Fault):
        backend, _, error = run(statement, FaultPlan(at=at, fault=fault))
        label = f"{fault.value} at {at} of {counted.trace}"
        after = state(backend)
        assert after in (old, new), label
        if error is None:
            assert after == new, label
    assert vd.connect(backend).verify().ok
