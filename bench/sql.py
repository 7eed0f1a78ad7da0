"""Questions in SQL over many scalar rows, the export to Lance, and a tag of many tables.

DuckDB over a Parquet file that it has written itself is what we are compared with.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.harness import Benchmark, Case, Start
from bench.places import Places, remove

_PER_ROW = 100
_TABLES = 100

_QUERIES = {
    "aggregate two columns": "SELECT sum(x) + avg(label) FROM t",
    "group by an integer": "SELECT label, count(*), avg(x) FROM t GROUP BY label ORDER BY label",
    "group by a category": "SELECT kind, max(x) FROM t GROUP BY kind ORDER BY kind",
    "filter half, aggregate": "SELECT sum(label) FROM t WHERE label < 50",
    "filter 1 %, count": "SELECT count(*) FROM t WHERE label = 7",
    "filter floats, count": "SELECT count(*) FROM t WHERE x > 2",
    "one record by a clustered column": "SELECT * FROM t WHERE id = 12345",
    "count": "SELECT count(*) FROM t",
}


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""
    rows = where.rows * _PER_ROW

    @cache
    def space() -> Path:
        import dreamdb as vd

        path = where.scratch("sql-space")
        table = _numbers(rows)
        schema = vd.Schema().add_scalar_int("id").add_scalar_float("x").add_scalar_int("label")
        vd.Dataset.create("t", schema.add_scalar_categorical("kind"), path).append(table)
        vd.Database(path).create_version_tag("then")
        return path

    @cache
    def parquet() -> Path:
        import duckdb

        path = where.scratch("sql.parquet")
        table = _numbers(rows)
        con = duckdb.connect()
        con.register("t", table)
        con.execute(f"COPY t TO '{path}' (FORMAT parquet)")
        return path

    def ours(query: str) -> tuple[Any, str]:
        import dreamdb as vd

        return vd.Database(space()), query

    def duckdb_parquet(query: str) -> tuple[Any, str]:
        import duckdb

        con = duckdb.connect()
        con.execute(f"CREATE VIEW t AS SELECT * FROM '{parquet()}'")
        return con, query

    found = [
        Benchmark(
            f"SQL: {work}",
            [
                Case("DreamDB", ours, _ours, (query,)),
                Case("DuckDB, its own Parquet", duckdb_parquet, _theirs, (query,)),
            ],
            amount=rows,
            unit="rows",
        )
        for work, query in _QUERIES.items()
    ]
    asked = _QUERIES["aggregate two columns"]
    found.append(
        Benchmark(
            "SQL: AT VERSION against now",
            [
                Case("DreamDB AT VERSION", ours, _ours, (asked + _AT,)),
                Case("now", ours, _ours, (asked,)),
            ],
            amount=rows,
            unit="rows",
        )
    )
    return [*found, _export(where), _tag(where)]


_AT = " AT VERSION 'then'"


def _numbers(rows: int) -> pa.Table:
    generator = np.random.default_rng(8)
    kinds = pa.array([f"kind {i}" for i in range(20)])
    return pa.table(
        {
            "id": np.arange(rows),
            "x": generator.normal(size=rows),
            "label": generator.integers(0, 100, rows),
            "kind": kinds.take(pa.array(generator.integers(0, 20, rows))),
        }
    )


def _ours(handle: tuple[Any, str]) -> Any:
    db, query = handle
    return _rounded(db.query(query).fetchall())


def _theirs(handle: tuple[Any, str]) -> Any:
    con, query = handle
    return _rounded(con.sql(query).fetchall())


def _rounded(found: list[tuple[Any, ...]]) -> list[list[Any]]:
    # Sums of floats depend on the order in which threads add.
    return [[f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in found]


def _export(where: Places) -> Benchmark:
    fields = ["id", "embedding", "label"]

    def ours() -> tuple[Any, Path]:
        import dreamdb as vd

        path = where.linked(where.dreamdb, "sql-export")
        db = vd.Database(path)
        handle = db.table("bench")
        for name in list(handle.schema):
            if name not in fields:
                handle.drop_field(name)
        db.create_version_tag("export")
        return db, where.scratch("sql-export-out")

    def memory() -> tuple[pa.Table, Path]:
        return where.table.select(fields), where.scratch("sql-lance-out")

    return Benchmark(
        "export a training set to Lance",
        [
            Case("DreamDB", ours, _write_export),
            Case("Lance, from memory", memory, _write_lance),
        ],
        amount=where.rows,
        unit="rows",
    )


def _write_export(handle: tuple[Any, Path]) -> int:
    db, path = handle
    import lance

    return int(lance.dataset(db.training_dataset("export", directory=path)).count_rows())


def _write_lance(handle: tuple[pa.Table, Path]) -> int:
    table, path = handle
    import lance

    remove(path)
    return int(lance.write_dataset(table, str(path)).count_rows())


def _tag(where: Places) -> Benchmark:
    def ours() -> Any:
        import dreamdb as vd

        db = vd.Database(where.scratch("sql-tables"))
        for number in range(_TABLES):
            db.execute(f"CREATE TABLE t{number} (i BIGINT); INSERT INTO t{number} VALUES (1)")
        return db

    return Benchmark(
        f"tag a database of {_TABLES} tables",
        [Case("DreamDB", ours, _make_tag, start=Start.WARM)],
    )


def _make_tag(db: Any) -> None:
    db.create_version_tag(f"tag-{len(db.tags())}")
