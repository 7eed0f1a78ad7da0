"""Databases to test on, and an oracle: DuckDB with tables of its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import duckdb
import numpy as np

import dreamdb as vd
from dreamdb.store import open_backend
from dreamdb.testing import CountingBackend

_NUMBERS = itertools.count()


def fresh_url() -> str:
    """Return the URL of a space that nobody has used."""
    return f"memory://sql-{next(_NUMBERS)}"


def database(url: str | None = None) -> vd.Database:
    """Return an empty database with the embedder ``hash`` of 3 dimensions."""
    db = vd.Database(url or fresh_url(), threads=2)
    db.register_embedder("hash", embed, 3)
    return db


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Return vectors that depend on the texts alone; equal texts, equal vectors."""
    return [[text.count("a"), text.count("b"), 1.0] for text in texts]


def rows(db: vd.Database, sql: str) -> list[tuple[object, ...]]:
    """Return the rows of a query, sorted: SQL promises no order."""
    return sorted(db.query(sql).fetchall(), key=repr)


def expected(setup: Sequence[str], sql: str) -> list[tuple[object, ...]]:
    """Return the rows that DuckDB itself returns after some statements."""
    con = duckdb.connect()
    for statement in setup:
        con.execute(statement)
    return sorted(con.execute(sql).fetchall(), key=repr)


def numbers(count: int, rows_per_append: int) -> tuple[vd.Database, CountingBackend]:
    """Return a database with a table ``t`` of increasing ids, and what counts its reads."""
    backend = CountingBackend(open_backend(fresh_url()))
    schema = vd.Schema().add_scalar_int("id").add_scalar_float("x").add_text("s")
    ds = vd.Dataset.create("t", schema, backend)
    ids = np.arange(count)
    for start in range(0, count, rows_per_append):
        part = ids[start : start + rows_per_append]
        ds.append({"id": part, "x": part / 2, "s": [f"text {i}" for i in part.tolist()]})
    fresh = CountingBackend(backend.inner)
    return vd.Database(fresh, threads=1), fresh
