"""Statements that write: DuckDB with tables of its own is the oracle; each is one commit."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from dreamdb.store import open_backend
from dreamdb.testing import CountingBackend
from tests.sql.databases import database, expected, fresh_url, rows

CREATE = "CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT, s VARCHAR)"
FILL = "INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b'), (3, NULL, 'c'), (4, 40, NULL)"
OTHER = "CREATE TABLE u (id BIGINT, n BIGINT)"
FILL_OTHER = "INSERT INTO u VALUES (1, 100), (3, 300), (9, 900)"
START = [CREATE, FILL, OTHER, FILL_OTHER]

WRITES = [
    "INSERT INTO t VALUES (5, 50, 'e')",
    "INSERT INTO t (s, id) VALUES ('e', 5), ('f', 6)",
    "INSERT INTO t (id, n) VALUES (5, '50'), (6, 2 * 3), (7, NULL)",
    "INSERT INTO t SELECT id + 100, n, 'u' FROM u",
    "INSERT INTO t (id, n) (SELECT id + 100, n FROM u)",
    "INSERT INTO t (id, n) WITH c AS (SELECT 8 AS a) SELECT a, a FROM c",
    "INSERT INTO t (id, s) SELECT max(id) + 1, 'next' FROM t",
    "UPDATE t SET n = n + 1",
    "UPDATE t SET n = 0, s = upper(s) WHERE id >= 3",
    "UPDATE t AS x SET n = (SELECT max(n) FROM u WHERE u.id = x.id) WHERE x.id IN (1, 2)",
    "UPDATE t SET n = u.n FROM u WHERE t.id = u.id",
    "UPDATE t SET s = 'WHERE FROM SET' WHERE s = 'b'",
    "UPDATE t SET n = NULL WHERE id = 99",
    "DELETE FROM t",
    "DELETE FROM t WHERE n > 15 OR n IS NULL",
    "DELETE FROM t USING u WHERE t.id = u.id",
    "DELETE FROM t AS x WHERE x.id = 1",
    "DELETE FROM t WHERE id = 99",
    "CREATE TABLE made AS SELECT id, n * 2 AS twice FROM t WHERE n IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS t (id BIGINT)",
    "DROP TABLE IF EXISTS nothing",
]


@pytest.mark.parametrize("statement", WRITES)
def test_tables_are_what_duckdb_makes_of_them(statement: str) -> None:
    db = database()
    for each in [*START, statement]:
        db.execute(each)
    tables = ["t", "u", *(["made"] if "made" in statement else [])]
    for table in tables:
        sql = f"SELECT * FROM {table}"
        assert rows(db, sql) == expected([*START, statement], sql), table


@st.composite
def statements(draw: st.DrawFn) -> str:
    """Return a statement that changes ``t`` and never inserts a key twice."""
    number = draw(st.integers(-3, 12))
    where = draw(st.sampled_from(["", " WHERE id > 2", f" WHERE n = {number}", " WHERE s IS NULL"]))
    kind = draw(st.sampled_from(["update", "delete", "insert", "text"]))
    if kind == "update":
        return f"UPDATE t SET n = coalesce(n, 0) * 2 + {number}{where}"
    if kind == "text":
        return f"UPDATE t SET s = CASE WHEN id % 2 = 0 THEN NULL ELSE 's{number}' END{where}"
    if kind == "delete":
        return f"DELETE FROM t WHERE id % 5 = {number % 5} AND n < {number}"
    return (
        f"INSERT INTO t SELECT (SELECT coalesce(max(id), 0) FROM t) + i, i * {number}, 'i' || i "
        "FROM range(1, 4) r(i)"
    )


@given(st.lists(statements(), max_size=6))
def test_any_history_is_duckdbs(history: list[str]) -> None:
    with database() as db:
        for each in [*START, *history]:
            db.execute(each)
        sql = "SELECT * FROM t"
        assert rows(db, sql) == expected([*START, *history], sql)


def test_a_statement_is_one_manifest_and_says_how_many_records() -> None:
    db = database()
    db.execute(CREATE)
    assert db.execute(FILL).rows_changed == 4
    assert db.execute("UPDATE t SET n = 1, s = 'x' WHERE id < 3").rows_changed == 2
    assert db.execute("DELETE FROM t WHERE id = 4").fetchall() == [(1,)]
    assert db.execute("DELETE FROM t WHERE id = 4").rows_changed == 0
    told = [record.message for record in db.table("t").log()]
    assert told == ["DELETE", "UPDATE", "INSERT", "CREATE TABLE"]


def test_insert_or_replace_changes_stored_records() -> None:
    db = database()
    db.execute(f"{CREATE}; {FILL}")
    db.execute("INSERT OR REPLACE INTO t VALUES (1, 11, 'z'), (9, 90, 'new')")
    assert rows(db, "SELECT id, n FROM t WHERE id IN (1, 9)") == [(1, 11), (9, 90)]


def test_a_key_is_not_inserted_twice_with_other_values() -> None:
    db = database()
    db.execute(f"{CREATE}; {FILL}")
    with pytest.raises(vd.AlreadyExistsError, match=r"line 1, column 13"):
        db.execute("INSERT INTO t VALUES (8, 1, 'x'), (1, 11, 'z')")
    assert rows(db, "SELECT count(*) FROM t") == [(4,)]


def test_values_are_converted_as_duckdb_does() -> None:
    db = database()
    db.execute("CREATE TABLE c (x DOUBLE, t TIMESTAMP, b BOOLEAN, v FLOAT[2])")
    db.execute(
        "INSERT INTO c VALUES ('NaN', '2024-05-06', 'true', [1, 2.5]), (1, NULL, false, [0, 0])"
    )
    (first,) = db.query("SELECT v[2], b FROM c WHERE isnan(x)").fetchall()
    assert first == (2.5, True)


def test_a_failure_leaves_the_table_as_it_was() -> None:
    db = database()
    db.execute(f"{CREATE}; {FILL}")
    before = db.table("t").current_manifest()
    for statement in (
        "INSERT INTO t VALUES (5, 1, 'x'), (6, 'many', 'y')",
        "UPDATE t SET n = CAST(s AS BIGINT)",
        "INSERT INTO t SELECT id, 1 / 0, error('no') FROM t",
        "INSERT INTO t VALUES (NULL, 1, 'x')",
    ):
        with pytest.raises(vd.DreamDBError):
            db.execute(statement)
    assert db.table("t").current_manifest() == before


def test_statements_before_a_failing_one_are_kept() -> None:
    db = database()
    with pytest.raises(vd.SqlError, match="line 2"):
        db.execute(f"{CREATE};\nINSERT INTO t VALUES (1, 2)")
    assert db.tables() == ["t"]


class _Interfering(CountingBackend):
    """Lets another writer commit just before an upload begins."""

    def __init__(self, url: str, act: object) -> None:
        super().__init__(open_backend(url))
        self._act = act
        self._armed = False

    def arm(self) -> None:
        self._armed = True

    def count(self, operation: str, **told: object) -> None:
        super().count(operation, **told)  # type: ignore[arg-type]
        if operation == "objects.finish" and self._armed:
            self._armed = False
            self._act()  # type: ignore[operator]


@pytest.mark.parametrize("statement", ["UPDATE t SET n = n + 1 WHERE id = 1", "DELETE FROM t"])
def test_a_lost_race_is_a_conflict(statement: str) -> None:
    url = fresh_url()
    with vd.Database(url) as first:
        first.execute(f"{CREATE}; {FILL}")
        backend = _Interfering(url, lambda: first.execute("INSERT INTO t VALUES (50, 5, 'late')"))
        other = vd.Database(backend)
        backend.arm()
        with pytest.raises(vd.ConflictError, match="publish conflict"):
            other.execute(statement)
        assert rows(first, "SELECT n FROM t WHERE id = 1") == [(10,)]
        assert rows(first, "SELECT count(*) FROM t") == [(5,)]
        other.execute(statement)


def test_inserts_of_two_writers_are_both_kept() -> None:
    url = fresh_url()
    with vd.Database(url) as first:
        first.execute(f"{CREATE}; {FILL}")
        backend = _Interfering(url, lambda: first.execute("INSERT INTO t VALUES (50, 5, 'late')"))
        other = vd.Database(backend)
        backend.arm()
        other.execute("INSERT INTO t VALUES (51, 5, 'later')")
        assert rows(first, "SELECT id FROM t WHERE id > 49") == [(50,), (51,)]


def test_threads_share_a_database() -> None:
    db = database()
    db.execute(CREATE)
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for i in range(5):
                db.execute("INSERT INTO t VALUES (?, ?, 'x')", [number * 10 + i, i])
                db.query("SELECT sum(n) FROM t").fetchall()
        except Exception as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert rows(db, "SELECT count(*) FROM t") == [(20,)]


def test_a_large_insert_is_streamed_from_a_query() -> None:
    db = database()
    db.execute("CREATE TABLE big (i BIGINT, s VARCHAR)")
    changed = db.execute("INSERT INTO big SELECT i, 's' || (i % 7) FROM range(200000) r(i)")
    assert changed.rows_changed == 200_000
    assert rows(db, "SELECT count(DISTINCT s), sum(i) FROM big") == [(7, 19_999_900_000)]


def test_a_dropped_table_stays_in_its_tags() -> None:
    db = database()
    db.execute(f"{CREATE}; {FILL}; CREATE VERSION TAG 'kept'; DROP TABLE t")
    assert db.tables() == []
    assert rows(db, "SELECT count(*) FROM t AT VERSION 'kept'") == [(4,)]
    assert vd.connect(db.url).verify().ok
    with pytest.raises(vd.RefNotFoundError):
        db.query("SELECT * FROM t")
