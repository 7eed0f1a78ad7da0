"""Queries: the same rows as DuckDB's, and no more fragments read than they need."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import dreamdb as vd
from tests.sql.databases import database, expected, fresh_url, numbers, rows

SETUP = [
    "CREATE TABLE docs (id BIGINT PRIMARY KEY, body TEXT, label INT, x DOUBLE, t TIMESTAMP)",
    "INSERT INTO docs VALUES (1, 'one', 1, 0.5, '2024-01-01'), (2, 'two', NULL, 1.5, '2024-01-02'),"
    " (3, NULL, 1, 'NaN', NULL), (4, 'four', 0, -2.5, '2024-02-01'), (5, 'it''s', 2, NULL, NULL)",
    "CREATE TABLE labels (label INT, name VARCHAR)",
    "INSERT INTO labels VALUES (0, 'zero'), (1, 'one'), (7, 'seven')",
]


@pytest.fixture(scope="module")
def db() -> vd.Database:
    made = database()
    made.execute(";\n".join(SETUP))
    return made


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, body, label, x, t FROM docs",
        "SELECT COUNT(*) FROM docs",
        "SELECT count(*) AS n FROM docs d",
        "SELECT count(*), 1 FROM docs LIMIT 1",
        "SELECT count(*) FROM docs WHERE 1 = 1",
        "SELECT count(body), count(label), sum(x), min(t) FROM docs",
        "SELECT id FROM docs WHERE label = 1",
        "SELECT id FROM docs WHERE label <> 1",
        "SELECT id FROM docs WHERE NOT (label = 1 AND id < 3)",
        "SELECT id FROM docs WHERE label IN (1, 2) OR body IS NULL",
        "SELECT id FROM docs WHERE label NOT IN (1, 2)",
        "SELECT id FROM docs WHERE x > 0",
        "SELECT id FROM docs WHERE x < 1 OR x IS NULL",
        "SELECT id FROM docs WHERE isnan(x)",
        "SELECT id FROM docs WHERE t >= '2024-01-02' AND t < TIMESTAMP '2024-02-02'",
        "SELECT id FROM docs WHERE body LIKE 't%' OR body = 'it''s'",
        "SELECT id FROM docs WHERE body > 'one'",
        "SELECT DOCS.ID FROM Docs WHERE Body = 'one'",
        "SELECT d.id, l.name FROM docs d JOIN labels l ON d.label = l.label",
        "SELECT d.id, l.name FROM docs d LEFT JOIN labels l USING (label)",
        "SELECT d.id, l.name FROM docs AS d, labels l WHERE d.label = l.label",
        "SELECT label, count(*) AS n, avg(x) FROM docs GROUP BY label HAVING n > 1",
        "WITH c AS (SELECT label, count(*) n FROM docs GROUP BY 1) SELECT * FROM c WHERE n = 1",
        "WITH docs AS (SELECT 9 AS id) SELECT * FROM docs",
        "SELECT id, row_number() OVER (PARTITION BY label ORDER BY id DESC) FROM docs",
        "SELECT id FROM docs ORDER BY id DESC LIMIT 2 OFFSET 1",
        "SELECT * FROM (SELECT id FROM docs WHERE id < 4) WHERE id > 1",
        "SELECT id FROM docs WHERE id IN (SELECT label FROM labels)",
        "SELECT (SELECT max(id) FROM docs) - (SELECT count(*) FROM labels)",
        "SELECT id FROM docs WHERE EXISTS (FROM labels WHERE labels.label = docs.label)",
        "FROM docs SELECT id WHERE label = 1",
        "SELECT id FROM docs UNION ALL SELECT label FROM labels",
        "SELECT 'a -- b', \"id\" /* from nowhere */ FROM docs -- comment",
        "SELECT DISTINCT label FROM docs",
        "SELECT list(id ORDER BY id) FROM docs",
        "SELECT id FROM docs EXCEPT SELECT label FROM labels",
        "SELECT a.id, b.id FROM docs a JOIN docs b ON a.id = b.id + 1",
        # Ways to name columns without naming them.
        "SELECT COLUMNS('i.|l.*') FROM docs",
        "SELECT min(COLUMNS(['id', 'label'])) FROM docs",
        "SELECT count(COLUMNS(lambda c: c LIKE 'b%')) FROM docs",
        "SELECT count(*) FROM docs WHERE COLUMNS(['id', 'label']) = 1",
        "SELECT count(*) FROM docs d(a, b) WHERE a = 2 AND b = 'two'",
        "SELECT a, b FROM docs AS d(a, b) LIMIT 0",
        "SELECT count(d) FROM docs d WHERE id = 1",
        "SELECT d FROM docs d WHERE id < 3",
        "SELECT docs FROM docs WHERE id = 4",
        "SELECT count(*) FROM (SELECT id FROM docs LIMIT 50%)",
        "SELECT count(*) FROM (SELECT id, 1 FROM docs LIMIT 2 OFFSET 4)",
        "SELECT count(DISTINCT label), count(*) FROM docs WHERE id > 1",
        "SELECT count(*) FROM docs GROUP BY ALL",
        "SELECT count(*) FROM docs HAVING count(*) > 9",
        "SELECT label % 2, count(*) FROM docs GROUP BY 1",
        "SELECT count(*) FROM docs TABLESAMPLE 100%",
        "SELECT * EXCLUDE (x, t) REPLACE (id + 1 AS id) FROM docs",
        "SELECT id FROM docs d NATURAL JOIN labels",
        "UNPIVOT labels ON label INTO NAME n VALUE v",
        "SELECT count(*) FROM range(3)",
    ],
)
def test_rows_are_duckdbs(db: vd.Database, sql: str) -> None:
    assert repr(plain(rows(db, sql))) == repr(plain(expected(SETUP, sql)))


def test_every_kind_of_field_arrives() -> None:
    db = database()
    db.execute(
        "CREATE TABLE v (id INT PRIMARY KEY, e FLOAT[3], c CATEGORICAL, im IMAGE('png'), "
        "t DOUBLE[2], s STRUCT(a INT, b VARCHAR), l INT[], ts TIMESTAMP, m FLOAT[2][3], b BOOLEAN)"
    )
    db.execute(
        "INSERT INTO v VALUES (1, [1, 2, 3], 'a', 'abc'::BLOB, [1, 2], {'a': 1, 'b': 'x'}, [1, 2], "
        "'2024-01-01', [1, 2, 3, 4, 5, 6], true), "
        "(2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
    )
    (row,) = db.query("SELECT * FROM v WHERE s.a = 1 AND c = 'a' AND b").to_arrow().to_pylist()
    assert row == {
        "id": 1,
        "e": [1.0, 2.0, 3.0],
        "c": "a",
        "im": b"abc",
        "t": [1.0, 2.0],
        "s": {"a": 1, "b": "x"},
        "l": [1, 2],
        "ts": pd.Timestamp(2024, 1, 1),
        "m": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "b": True,
    }
    types = {n: str(db.table("v").schema[n].type) for n in db.table("v").schema}
    assert types["e"] == "embedding[3]"
    assert types["im"] == "image(png)"
    assert types["m"] == "tensor<float32>[3, 2]"
    assert db.query("SELECT count(*) FROM v WHERE e IS NULL").fetchone() == (1,)


def test_float16_tensors_arrive_as_float32() -> None:
    url = fresh_url()
    schema = vd.Schema().add_tensor("h", "float16", (2,))
    vd.Dataset.create("t", schema, url, data={"h": np.ones((3, 2), np.float16)})
    assert rows(vd.Database(url), "SELECT h[1] + h[2] FROM t") == [(2.0,)] * 3


def test_deleted_records_do_not_appear(db: vd.Database) -> None:
    made = database()
    made.execute(";".join(SETUP))
    made.execute("DELETE FROM docs WHERE id IN (2, 4)")
    assert rows(made, "SELECT id FROM docs") == [(1,), (3,), (5,)]
    assert rows(made, "SELECT id FROM docs WHERE id < 4") == [(1,), (3,)]
    assert rows(made, "SELECT count(*) FROM docs") == [(3,)]


def test_results_stream_into_every_library(db: vd.Database) -> None:
    sql = "SELECT id, body FROM docs ORDER BY id"
    table = db.query(sql).to_arrow()
    assert pa.table(db.query(sql)) == table
    assert pl.DataFrame(db.query(sql)).to_dicts() == table.to_pylist()
    assert db.query(sql).to_polars().height == 5
    assert db.query(sql).to_pandas()["id"].tolist() == [1, 2, 3, 4, 5]
    assert db.query(sql).to_reader().read_all() == table
    assert sum(b.num_rows for b in db.query(sql)) == 5
    result = db.query(sql)
    assert result.schema.names == ["id", "body"]
    assert result.fetchall() == result.fetchall()


def test_a_stream_is_read_once(db: vd.Database) -> None:
    result = db.query("SELECT id FROM docs")
    list(result)
    with pytest.raises(vd.StateError, match="read already"):
        list(result)


def test_parameters(db: vd.Database) -> None:
    assert db.query("SELECT id FROM docs WHERE body = ?", ["it's"]).fetchall() == [(5,)]
    assert db.query("SELECT $a + 1", {"a": 1}).fetchall() == [(2,)]
    moment = datetime.datetime(2024, 1, 2)
    assert db.query("SELECT id FROM docs WHERE t = ?", [moment]).fetchall() == [(2,)]


def test_the_anchor_is_a_column_when_it_is_named(db: vd.Database) -> None:
    (anchor,) = db.query("SELECT _anchor FROM docs WHERE id = 3").fetchone() or ()
    assert anchor == db.table("docs").anchor_of(3)
    assert db.query(f"SELECT id FROM docs WHERE _anchor = {anchor}").fetchall() == [(3,)]
    assert "_anchor" not in db.query("SELECT * FROM docs").schema.names


def test_history(db: vd.Database) -> None:
    told = db.query("SELECT message, rows FROM history('docs') ORDER BY time").fetchall()
    assert told == [("CREATE TABLE", 0), ("INSERT", 5)]
    assert db.query('SELECT count(DISTINCT h."table") FROM history() h').fetchall() == [(2,)]


def test_describe_show_and_explain(db: vd.Database) -> None:
    assert [r[0] for r in db.query("DESCRIBE labels").fetchall()] == ["label", "name"]
    assert [r[0] for r in db.query("SHOW TABLES").fetchall()] == ["docs", "labels"]
    assert "label" in str(db.query("EXPLAIN SELECT * FROM labels").fetchall())


class TestReadsNoMoreThanNeeded:
    def test_count_reads_no_values(self) -> None:
        db, counted = numbers(60_000, 60_000)
        db.query("SELECT count(*) FROM t").fetchall()
        opened = counted.tally.calls["objects.open"] + counted.tally.calls["objects.read"]
        # The ref, the manifest, the content and the root of the timeline; no fragment.
        assert opened <= 4
        with counted.measured() as tally:
            assert db.query("SELECT count(*) AS n, 1 FROM t").fetchall() == [(60_000, 1)]
        assert tally.calls["objects.open"] + tally.calls["objects.read"] == 0

    def test_a_point_filter_reads_two_fragments_at_most(self) -> None:
        db, counted = numbers(400_000, 400_000)
        track = db.table("t")._view.track("id")
        assert len(track.flat()[0]) > 4
        db.query("SELECT count(*) FROM t").fetchall()
        trees(db)
        with counted.measured() as tally:
            assert db.query("SELECT id FROM t WHERE id = 123456").fetchall() == [(123_456,)]
        assert values_opened(db, tally, "id") <= 2

    def test_only_the_named_columns_are_read(self) -> None:
        db, counted = numbers(100_000, 100_000)
        trees(db)
        with counted.measured() as tally:
            assert db.query("SELECT sum(id) FROM t").fetchall()[0][0] == 4_999_950_000
        assert values_opened(db, tally, "id") == len(db.table("t")._view.track("id").flat()[0])
        assert values_opened(db, tally, "x") == values_opened(db, tally, "s") == 0

    def test_a_limit_stops_early(self) -> None:
        db, counted = numbers(400_000, 400_000)
        trees(db)
        with counted.measured() as tally:
            assert len(db.query("SELECT s FROM t LIMIT 3").fetchall()) == 3
        assert values_opened(db, tally, "s") == 1

    def test_a_version_costs_nothing_extra(self) -> None:
        db, counted = numbers(100_000, 100_000)
        db.create_version_tag("v1")
        for sql in ("SELECT sum(id) FROM t", "SELECT sum(id) FROM t AT VERSION 'v1'"):
            db.query(sql).fetchall()
        with counted.measured() as now:
            db.query("SELECT sum(id) FROM t").fetchall()
        with counted.measured() as then:
            db.query("SELECT sum(id) FROM t AT VERSION 'v1'").fetchall()
        assert then.calls["objects.open"] == now.calls["objects.open"] == 0
        assert then.calls["refs.read"] == now.calls["refs.read"] == 1


def trees(db: vd.Database) -> None:
    """Read the trees, which are cached, so that counts are of values."""
    table = vd.Database(db._space.backend).table("t")
    for name in ("_anchor", "id", "x", "s"):
        table._view.track(name).flat()


def plain(found: list[tuple[object, ...]]) -> list[list[object]]:
    """Return rows with times as Python's: ours have nanoseconds, DuckDB's microseconds."""

    def value(one: object) -> object:
        if isinstance(one, dict):
            return {name: value(member) for name, member in one.items()}
        return one.to_pydatetime() if isinstance(one, pd.Timestamp) else one

    return [[value(v) for v in row] for row in found]


def values_opened(db: vd.Database, tally: object, field: str) -> int:
    """Return how many fragments of a field were opened."""
    addresses = set(db.table("t")._view.track(field).addresses)
    return len(addresses & set(tally.opened))  # type: ignore[attr-defined]
