"""Spaces with something to collect, and what can be seen of them."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

import dreamdb as vd
from dreamdb.dataset.session import OpenSpace
from dreamdb.history import resolve_address
from dreamdb.maintain import GcReport, collect_garbage, verify_space
from dreamdb.maintain.roots import REFLOG_KEEP_NS
from dreamdb.model import Tag
from dreamdb.objects import Kind, OpenedObject
from dreamdb.store import Backend, open_backend
from dreamdb.types import Address

_NUMBERS = itertools.count()

__all__ = ["LATER", "collect", "fresh", "make", "named", "objects", "record", "state", "well"]

LATER = REFLOG_KEEP_NS + 10**9
"""Later than any entry of a reflog that a test has written keeps anything."""


def collect(backend: Backend, *, age: int = LATER, **options: Any) -> GcReport:
    """Collect as if some time had passed, with nothing in the caches."""
    opened = open_caches(backend)
    now = time.time_ns() + age
    return collect_garbage(backend, opened.source, now_ns=now, dry_run=False, **options)


def open_caches(backend: Backend) -> OpenSpace:
    """Return a space with empty caches."""
    document = backend.read_space()
    assert document is not None
    return OpenSpace(backend, backend, {}, document)


def well(backend: Backend) -> bool:
    """Return whether everything is sound, old entries of reflogs left aside."""
    now = time.time_ns() + LATER
    return verify_space(backend, open_caches(backend).source, now_ns=now).ok


def fresh() -> Backend:
    """Return a memory backend that nobody has used."""
    return open_backend(f"memory://maintain-{next(_NUMBERS)}")


def make(backend: Any, rows: int = 40, name: str = "main", commits: int = 3) -> vd.Dataset:
    """Return a dataset of numbers, texts and vectors, written in several commits."""
    schema = (
        vd.Schema().add_scalar_int("x").add_scalar_string("s").add_embedding("v", 8).add_text("t")
    )
    ds = vd.Dataset.create(name, schema, backend=backend)
    for part in np.array_split(np.arange(rows), commits) if rows else ():
        ds.append_many([record(int(i)) for i in part], message=f"rows from {part[0]}")
    return ds


def record(index: int) -> dict[str, Any]:
    """Return the record of a number."""
    vector = np.full(8, index, np.float32)
    return {
        "_anchor": 10 * index,
        "x": index,
        "s": f"name-{index}",
        "v": vector,
        "t": f"a text of {index} " * 3 if index % 5 else None,
    }


def objects(backend: Backend) -> set[bytes]:
    """Return the address of every stored object."""
    return {bytes(address) for address, _ in backend.objects.list()}


def named(backend: Backend) -> dict[str, Address]:
    """Return every ref and the object behind it: of a carried tag the manifest that it names."""
    out = {}
    for name, value in backend.refs.list():
        out[name] = value.address
        if value.carried is not None:
            opened = OpenedObject(value.address, memoryview(value.carried), Kind.TAG)
            out[name] = Tag.decode(opened.view()).manifest
    return out


def state(backend: Any) -> dict[str, Any]:
    """Return everything that a reader who has nothing cached sees."""
    opened = open_caches(backend)
    out: dict[str, Any] = {}
    for name, value in backend.refs.list():
        found = resolve_address(opened.cache, name, value)
        ds = vd.Dataset(opened, name, found.manifest, None)
        log = [(r.manifest, r.message) for r in ds.log()]
        records = ds.scan().to_arrow().to_pylist()
        out[name] = (found.is_snapshot, records, ds.metadata, log)
    return out
