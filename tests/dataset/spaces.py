"""Fresh spaces, and what lies in them."""

from __future__ import annotations

import itertools
from typing import Any

import dreamdb as vd
from dreamdb.store import open_backend

_NUMBERS = itertools.count()


def fresh_url() -> str:
    """Return the URL of a memory space that nobody has used."""
    return f"memory://tests-dataset-{next(_NUMBERS)}"


def make(schema: vd.Schema, rows: list[dict[str, Any]] | None = None, **options: Any) -> vd.Dataset:
    """Return a dataset ``main`` in a fresh space, with some records."""
    dataset = vd.Dataset.create("main", schema, backend=fresh_url(), **options)
    if rows:
        dataset.append_many(rows)
    return dataset


def numbered(count: int, **options: Any) -> vd.Dataset:
    """Return a dataset of records ``{_anchor: 10 * i, x: i}``."""
    rows = [{"_anchor": 10 * i, "x": i} for i in range(count)]
    return make(vd.Schema().add_scalar_int("x"), rows, **options)


def again(dataset: vd.Dataset) -> vd.Dataset:
    """Return another handle on the same ref."""
    assert dataset.name is not None
    return vd.Dataset.open_ref(dataset.name, dataset.backend)


def stored(url: str) -> tuple[dict[str, bytes], set[bytes]]:
    """Return every ref with its value, and the address of every object."""
    backend = open_backend(url)
    refs = {name: bytes(value.address) for name, value in backend.refs.list()}
    return refs, {address for address, _ in backend.objects.list()}


def records(dataset: vd.Dataset) -> list[dict[str, Any]]:
    """Return all records as Python values."""
    found: list[dict[str, Any]] = dataset.scan().to_arrow().to_pylist()
    return found


def by_anchor(dataset: vd.Dataset, field: str) -> dict[int, Any]:
    """Return the values of a field by anchor."""
    table = dataset.scan([field]).to_arrow()
    return dict(zip(table["_anchor"].to_pylist(), table[field].to_pylist(), strict=True))
