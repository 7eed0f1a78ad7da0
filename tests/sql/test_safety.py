"""Bad input: typed errors with their place, names that cannot inject, files that stay closed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from tests.sql.databases import database, fresh_url, rows


@pytest.fixture(scope="module")
def db() -> vd.Database:
    made = database()
    made.execute(
        "CREATE TABLE docs (id BIGINT PRIMARY KEY, body TEXT EMBED WITH hash, label INT, "
        "v FLOAT[2])"
    )
    made.execute("INSERT INTO docs (id, body, label) VALUES (1, 'a', 1), (2, 'b', 0)")
    return made


@pytest.mark.parametrize(
    ("sql", "kind", "line", "column"),
    [
        ("SELECT *\n  FROM dcos", vd.RefNotFoundError, 2, 8),
        ("SELECT id,\n\n  lable FROM docs", vd.FieldNotFoundError, 3, 3),
        ("SELECT id FROM docs WHERE\n lable = 1", vd.FieldNotFoundError, 2, 2),
        ("SELECT id FRM docs x y", vd.SqlError, 1, 15),
        ("SELECT id FROM docs AT VERSION 'v1' d WHERE", vd.RefNotFoundError, 1, 32),
        ("SELECT\nnofunction(id) FROM docs", vd.SqlError, 2, 1),
        ("SELECT 'a'::INT", vd.SqlError, 1, 11),
        ("UPDATE docs SET lable = 1", vd.FieldNotFoundError, 1, 17),
        ("UPDATE docs SET label", vd.SqlError, 1, 17),
        ("UPDATE docs SET label = 1, label = 2", vd.SqlError, 1, 28),
        ("UPDATE docs SET id = 3", vd.InvalidInputError, 1, 17),
        ("UPDATE docs WHERE id = 1", vd.SqlError, 1, 8),
        ("DELETE docs", vd.SqlError, 1, 1),
        ("DELETE FROM docs WHERE nope = 1", vd.FieldNotFoundError, 1, 24),
        ("DELETE FROM docs RETURNING id", vd.SqlError, 1, 18),
        ("INSERT INTO docs (id, nope) VALUES (1, 2)", vd.FieldNotFoundError, 1, 23),
        ("INSERT INTO docs (id, id) VALUES (1, 2)", vd.SqlError, 1, 23),
        ("INSERT INTO docs (id, label) VALUES\n (5, 1), (6)", vd.SqlError, 2, 10),
        ("INSERT INTO docs (id, label) SELECT 1", vd.SqlError, 1, 30),
        ("INSERT INTO docs (id) VALUES (3) ON CONFLICT DO NOTHING", vd.SqlError, 1, 34),
        ("INSERT INTO nothing VALUES (1)", vd.RefNotFoundError, 1, 13),
        ("CREATE TABLE docs (id INT)", vd.AlreadyExistsError, 1, 14),
        ("CREATE TABLE x (id INT PRIMARY KEY, b INT PRIMARY KEY)", vd.SchemaError, 1, 37),
        ("CREATE TABLE x (id WIBBLE)", vd.SchemaError, 1, 20),
        ("CREATE TABLE x (id INT DEFAULT 3)", vd.SchemaError, 1, 20),
        ("CREATE TABLE x (id INT, ID TEXT)", vd.SchemaError, 1, 17),
        ("CREATE TABLE x (v VECTOR(0))", vd.SchemaError, 1, 19),
        ("CREATE TABLE x (v VECTOR)", vd.SchemaError, 1, 19),
        ('CREATE TABLE x ("a b" INT)', vd.SchemaError, 1, 17),
        ("CREATE TABLE x (b INT EMBED WITH hash)", vd.SchemaError, 1, 19),
        ("CREATE TABLE x (b TEXT EMBED WITH nobody)", vd.NotFoundError, 1, 17),
        ("CREATE TABLE x (b TEXT EMBED hash)", vd.SqlError, 1, 24),
        ("CREATE TABLE x", vd.SqlError, 1, 14),
        ('CREATE TABLE "a b" (id INT)', vd.RefNameError, 1, 14),
        ("CREATE TABLE main.x (id INT)", vd.SqlError, 1, 14),
        ("SELECT * FROM docs WHERE SEMANTIC_MATCH(label, 'x', 0.3)", vd.SchemaError, 1, 41),
        ("SELECT * FROM docs WHERE SEMANTIC_MATCH(body, 'x')", vd.SqlError, 1, 26),
        ("SELECT * FROM docs WHERE SEMANTIC_MATCH(body, x, 0.3)", vd.SqlError, 1, 47),
        ("SELECT * FROM docs WHERE SEMANTIC_MATCH(body, 'x', much)", vd.SqlError, 1, 52),
        ("SELECT * FROM VECTOR_SEARCH(docs, label, [1, 2], 3)", vd.SchemaError, 1, 35),
        ("SELECT * FROM VECTOR_SEARCH(docs, v, [1, 2, 3], 3)", vd.InvalidInputError, 1, 35),
        ("SELECT * FROM VECTOR_SEARCH(docs, v, 'text', 3)", vd.SchemaError, 1, 35),
        ("SELECT * FROM VECTOR_SEARCH(docs, v, [1, 2], 0)", vd.SqlError, 1, 46),
        ("SELECT * FROM VECTOR_SEARCH(nothing, v, [1, 2], 1)", vd.RefNotFoundError, 1, 29),
        ("SELECT * FROM VECTOR_SEARCH(docs, v", vd.SqlError, 1, 15),
        ("SELECT * FROM history('nothing')", vd.RefNotFoundError, 1, 23),
        ("GRANT ALL TO me", vd.SqlError, 1, 1),
    ],
)
def test_errors_say_where(
    db: vd.Database, sql: str, kind: type[vd.DreamDBError], line: int, column: int
) -> None:
    with pytest.raises(kind) as caught:
        db.execute(sql).fetchall()
    assert (caught.value.details["line"], caught.value.details["column"]) == (line, column)
    assert f"(line {line}, column {column})" in str(caught.value)
    assert rows(db, "SELECT count(*) FROM docs") == [(2,)]


def test_nearest_names_are_offered(db: vd.Database) -> None:
    with pytest.raises(vd.RefNotFoundError) as caught:
        db.query("SELECT * FROM dcos")
    assert "'docs'" in str(caught.value.hint)
    with pytest.raises(vd.FieldNotFoundError) as caught_field:
        db.query("SELECT lable FROM docs").fetchall()
    assert "label" in str(caught_field.value.hint)


@pytest.mark.parametrize("sql", ["", "  ;; ", "-- nothing", "SELECT 'open", "SELECT /* open", "\0"])
def test_texts_without_a_statement(db: vd.Database, sql: str) -> None:
    with pytest.raises(vd.SqlError):
        db.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM '{file}'",
        'SELECT * FROM "{file}"',
        "SELECT * FROM glob('{folder}/*')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "COPY docs FROM '{file}'",
        "ATTACH '{folder}/other.db'",
        "EXPORT DATABASE '{folder}/all'",
        "IMPORT DATABASE '{folder}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET enable_external_access",
        "PRAGMA enable_profiling",
        "CALL pragma_version()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT getenv('HOME')",
        "SELECT * FROM secret_variable",
        "CREATE VIEW v AS SELECT 1",
        "CREATE MACRO f(a) AS a",
        "INSERT INTO docs (id) SELECT count(*) FROM read_csv('{file}')",
        "UPDATE docs SET label = (SELECT count(*) FROM read_text('{file}'))",
        "CREATE TABLE stolen AS SELECT * FROM read_text('{file}')",
    ],
)
def test_nothing_outside_is_read_or_written(db: vd.Database, tmp_path: Path, sql: str) -> None:
    secret_variable = [1, 2, 3]
    file = tmp_path / "secret.csv"
    file.write_text("a\nsecret\n")
    with pytest.raises(vd.DreamDBError) as caught:
        db.execute(sql.format(file=file, folder=tmp_path)).fetchall()
    assert "secret\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret.csv"]
    assert secret_variable == [1, 2, 3]
    assert db.tables() == ["docs"]


def test_the_user_may_allow_files(tmp_path: Path) -> None:
    file = tmp_path / "given.csv"
    file.write_text("a\n7\n")
    db = vd.Database(fresh_url(), external_access=True)
    assert db.query(f"SELECT a FROM read_csv('{file}')").fetchall() == [(7,)]
    with pytest.raises(vd.SqlError, match="not supported"):
        db.execute(f"COPY (SELECT 1) TO '{tmp_path}/out.csv'")


@given(st.text(max_size=20), st.text(max_size=20))
def test_values_and_names_cannot_inject(text: str, name: str) -> None:
    with database() as db:
        db.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, s VARCHAR); CREATE TABLE safe (x INT)")
        try:
            db.execute("INSERT INTO t VALUES (1, ?)", [text])
        except vd.DreamDBError:
            # Half a surrogate pair is no text.
            assert any("\ud800" <= c <= "\udfff" for c in text)
            return
        assert db.query("SELECT s FROM t").fetchall() == [(text,)]
        named = name.replace('"', '""')
        for sql in (f'SELECT * FROM "{named}"', f'SELECT "{named}" FROM t', f"{name}"):
            with contextlib.suppress(vd.DreamDBError):
                db.query(sql).fetchall()
        assert db.tables() == ["safe", "t"]


def test_hostile_names_of_refs_are_only_names() -> None:
    url = fresh_url()
    schema = vd.Schema().add_scalar_int("a.b").add_scalar_int("we-ird")
    vd.Dataset.create("x--y", schema, url, data={"a.b": [1], "we-ird": [2]})
    db = vd.Database(url)
    assert rows(db, 'SELECT "a.b", "we-ird" FROM "x--y" WHERE "a.b" = 1 AND "we-ird" = 2') == [
        (1, 2)
    ]
    db.execute('UPDATE "x--y" SET "a.b" = "we-ird" + 1')
    assert rows(db, 'SELECT q."a.b" FROM "x--y" q') == [(3,)]


def test_names_that_differ_in_case_only_are_refused() -> None:
    url = fresh_url()
    vd.Dataset.create("T", vd.Schema().add_scalar_int("a").add_scalar_int("A"), url)
    vd.Dataset.create("t", vd.Schema().add_scalar_int("a"), url)
    db = vd.Database(url)
    with pytest.raises(vd.SchemaError, match="differ in case only"):
        db.query('SELECT * FROM "T"')
    with pytest.raises(vd.SqlError, match="two tables"):
        db.query('SELECT * FROM "T", t')
    assert rows(db, "SELECT count(*) FROM t") == [(0,)]


def test_what_the_storage_says_is_not_lost(tmp_path: Path) -> None:
    db = vd.Database(tmp_path)
    db.execute("CREATE TABLE t AS SELECT i FROM range(1000) r(i)")
    track = db.table("t")._view.track("i")
    from dreamdb.objects import to_text

    for address in track.addresses:
        text = to_text(address)
        (tmp_path / "objects" / text[2] / text).unlink()
    fresh = vd.Database(vd.connect(tmp_path)._space.backend)
    with pytest.raises(vd.ObjectMissingError):
        fresh.query("SELECT sum(i) FROM t").fetchall()


def test_a_query_larger_than_memory_spills_or_says_so() -> None:
    with vd.Database(fresh_url(), memory_limit="32MB", threads=1) as db:
        sql = "SELECT count(*) FROM (SELECT DISTINCT i, i::VARCHAR || 'x' FROM range(800000) r(i))"
        assert db.query(sql).fetchall() == [(800_000,)]
        with pytest.raises(vd.StorageError, match="needs more memory"):
            db.query("SELECT len(list(i)) FROM range(30000000) r(i)").fetchall()


def test_a_closed_database_says_so() -> None:
    db = database()
    db.execute("CREATE TABLE t (a INT)")
    db.close()
    db.close()
    with pytest.raises(vd.StateError, match="closed"):
        db.query("SELECT 1")


def test_bad_settings_are_refused() -> None:
    with pytest.raises(vd.InvalidInputError, match="settings"):
        vd.Database(fresh_url(), memory_limit="much")
    with pytest.raises(vd.SqlError, match="not a NoneType"):
        database().execute(None)  # type: ignore[arg-type]
    with pytest.raises(vd.SqlError, match="one statement"):
        database().query("SELECT 1; SELECT 2")
    with pytest.raises(vd.SqlError, match="query does not"):
        database().query("CREATE TABLE t (a INT)")
    with pytest.raises(vd.SqlError, match="one statement"):
        database().execute("SELECT ?; SELECT 2", [1])
