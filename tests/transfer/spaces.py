"""Spaces between which the tests move data, and what two spaces have in common."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

import dreamdb as vd
from dreamdb.maintain import reachable_objects
from dreamdb.maintain.roots import starting_points
from dreamdb.store import Backend, open_backend
from dreamdb.store.fsspec_store import FsspecBackend
from dreamdb.testing import CountingBackend
from dreamdb.types import Address

_NUMBERS = itertools.count()

KINDS = ("directory", "memory", "fsspec")


def memory() -> Backend:
    """Return a backend over memory that nobody else has."""
    return open_backend(f"memory://transfer-{next(_NUMBERS)}")


def duplicate(backend: Any) -> Backend:
    """Return a memory space that holds what another one holds."""
    made: Any = memory()
    old, new = backend._space, made._space
    new.documents.update(old.documents)
    new.objects.update(old.objects)
    new.refs.update(old.refs)
    new.logs.update({name: list(lines) for name, lines in old.logs.items()})
    return made  # type: ignore[no-any-return]


def backend_of(kind: str, folder: Path) -> Backend:
    """Return a fresh backend of a kind."""
    if kind == "directory":
        return open_backend(folder / f"space-{next(_NUMBERS)}")
    if kind == "memory":
        return memory()
    from fsspec.implementations.memory import MemoryFileSystem

    root = f"/transfer-{next(_NUMBERS)}"
    return FsspecBackend.from_filesystem(
        MemoryFileSystem(), root, url=f"wrapped-memory:/{root}", single_writer=True
    )


def counting(backend: Backend) -> CountingBackend:
    """Return a fresh handle that counts: nothing is cached behind it."""
    return CountingBackend(getattr(backend, "inner", backend))


def schema() -> vd.Schema:
    """Return the schema of the sample: numbers, a vector, bytes, text."""
    return (
        vd.Schema()
        .add_scalar_int("x")
        .add_embedding("v", 8)
        .add_binary("raw")
        .add_scalar_string("word")
    )


def rows(start: int, stop: int, seed: int = 0) -> dict[str, Any]:
    """Return records with the anchors ``start`` to ``stop``."""
    generator = np.random.default_rng(seed + start)
    count = stop - start
    return {
        "_anchor": np.arange(start, stop),
        "x": generator.integers(0, 1_000, count),
        "v": generator.standard_normal((count, 8), dtype=np.float32),
        "raw": [generator.bytes(64) for _ in range(count)],
        "word": [f"word {n}" for n in generator.integers(0, 50, count)],
    }


def sample(backend: Backend, count: int = 400) -> vd.Dataset:
    """Return ``main`` with a little history, a snapshot ``v1`` and a branch ``side``."""
    ds = vd.Dataset.create("main", schema(), backend)
    half = count // 2
    ds.append(rows(0, half))
    ds.snapshot("v1", "the first half", metadata={"kept": "yes"})
    ds.branch("side").update([0, 1], {"x": [-1, -2]})
    ds.append(rows(half, count))
    ds.delete([3])
    return ds


def state(where: Any, prefix: str = "") -> dict[str, Any]:
    """Return everything that a reader can see: each ref, its history and its records."""
    space = where if isinstance(where, vd.Space) else vd.connect(where)
    out = {}
    for ref in space.refs():
        if ref.name.startswith("remotes/"):
            continue
        ds = space.open(ref.name)
        table = ds.scan().to_arrow()
        columns = {name: table[name].to_pylist() for name in sorted(table.column_names)}
        log = [record.manifest for record in ds.log()]
        out[prefix + ref.name] = (ref.kind, ref.manifest, log, columns)
    return out


def addresses(backend: Backend) -> set[Address]:
    """Return what is stored."""
    return {address for address, _ in backend.objects.list()}


def needed(where: Any, *refs: str) -> set[Address]:
    """Return the objects that refs need."""
    space = vd.connect(where)._space
    followed = [
        (name, value) for name, value in space.backend.refs.list() if name in refs or not refs
    ]
    source = space.kept_source()
    starts = starting_points(source, followed)
    return {address for address, _ in reachable_objects(space.stored, source, starts)}
