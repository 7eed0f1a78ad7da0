"""Version tags and AT VERSION: consistent, immutable, several in one query, read-only."""

from __future__ import annotations

import pytest

import dreamdb as vd
from dreamdb.store import open_backend
from dreamdb.testing import CountingBackend
from dreamdb.types import Address
from tests.format.independent_reader import IndependentReader
from tests.sql.databases import database, fresh_url, rows

SETUP = "CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT); CREATE TABLE u (id BIGINT)"


def versions() -> tuple[vd.Database, list[int]]:
    """Return a database with the tags v0 to v3: v<i> has i records in ``t``, and its moments."""
    db = database()
    db.execute(SETUP)
    moments = []
    for i in range(4):
        moments.append(db.create_version_tag(f"v{i}"))
        db.execute(f"INSERT INTO t VALUES ({i}, {i * 10}); UPDATE t SET n = n + 1")
    return db, moments


def test_a_version_is_named_by_tag_and_by_time() -> None:
    db, moments = versions()
    for i, moment in enumerate(moments):
        for at in (f"'v{i}'", str(moment)):
            assert rows(db, f"SELECT count(*) FROM t AT VERSION {at}") == [(i,)]
            expected = [(k, k * 10 + i - k) for k in range(i)]
            assert rows(db, f"SELECT * FROM t AT VERSION {at}") == sorted(expected, key=repr)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT count(*) FROM t AT VERSION 'v1' x, t AT VERSION 'v3' AS y", 3),
        ("SELECT count(*) FROM t AT VERSION 'v2' a JOIN t b ON a.id = b.id", 2),
        ("SELECT count(*) FROM t a AT VERSION 'v2' JOIN t AS b AT VERSION 'v1' USING (id)", 1),
        ("SELECT count(*) FROM t AT VERSION 'v2' WHERE t.id = 1", 1),
        ("SELECT (SELECT count(*) FROM t AT VERSION 'v3') - (SELECT count(*) FROM t)", -1),
        ("WITH c AS (SELECT * FROM t AT VERSION 'v2') SELECT count(*) FROM c", 2),
        ('SELECT count(*) FROM "t" at version \'v2\' "q t" WHERE "q t".id >= 0', 2),
        ("SELECT count(*) FROM T AT VERSION 'v3'", 3),
        ("SELECT count(*) FROM (t AT VERSION 'v3')", 3),
        ("SELECT count(*) FROM t AT VERSION 'v3' ORDER BY 1 LIMIT 1", 3),
        ("SELECT count(*) FROM t AT VERSION 'v3' NATURAL JOIN t AT VERSION 'v1' AS o", 0),
        ("SELECT count(*) FROM t WHERE 'x AT VERSION ''v1''' IS NOT NULL -- t AT VERSION 'v1'", 4),
    ],
)
def test_several_versions_in_one_query(sql: str, expected: int) -> None:
    db, _ = versions()
    assert db.query(sql).fetchall() == [(expected,)]


def test_a_tag_holds_every_table_and_never_moves() -> None:
    db, _ = versions()
    db.execute("INSERT INTO u VALUES (1), (2)")
    (told,) = db.execute("CREATE VERSION TAG 'both'").to_arrow().to_pylist()
    assert told["tables"] == ["t", "u"]
    db.execute("DELETE FROM u; DELETE FROM t; CREATE TABLE later (id BIGINT)")
    assert rows(db, "SELECT count(*) FROM u AT VERSION 'both'") == [(2,)]
    assert rows(db, "SELECT count(*) FROM t AT VERSION 'both'") == [(4,)]
    with pytest.raises(vd.RefNotFoundError, match="no table 'later'"):
        db.query("SELECT * FROM later AT VERSION 'both'")


class _Moving(CountingBackend):
    """Moves both tables between two listings, a few times."""

    moves = 0

    def count(self, operation: str, **told: object) -> None:
        super().count(operation, **told)  # type: ignore[arg-type]
        if operation == "refs.list" and self.moves > 0:
            self.moves -= 1
            self.act()  # type: ignore[attr-defined]


def test_a_tag_is_of_one_moment() -> None:
    """Each transfer moves a record from t to u; no tag may see it in both or in neither."""
    url = fresh_url()
    with vd.Database(url) as writer:
        writer.execute(SETUP)
        writer.execute("INSERT INTO t SELECT i, 0 FROM range(9) r(i)")
        backend = _Moving(open_backend(url))
        left = iter(range(9))

        def act() -> None:
            # In this order, so that one listing alone can see neither.
            number = next(left)
            writer.execute(f"DELETE FROM t WHERE id = {number}; INSERT INTO u VALUES ({number})")

        backend.act = act  # type: ignore[attr-defined]
        backend.moves = 3
        vd.Database(backend).create_version_tag("moment")
        seen = rows(writer, "SELECT id FROM t AT VERSION 'moment' UNION ALL "
                            "SELECT id FROM u AT VERSION 'moment'")  # fmt: skip
        assert seen == [(i,) for i in range(9)]
        backend.moves = 1_000_000
        backend.act = lambda: writer.execute("INSERT INTO u VALUES (1)")  # type: ignore[attr-defined]
        with pytest.raises(vd.ConflictError, match="moved during each"):
            vd.Database(backend).create_version_tag("never")


def test_branches() -> None:
    db, _ = versions()
    db.table("t").branch("experiment")
    db.execute("DELETE FROM experiment WHERE id > 0")
    assert rows(db, "SELECT count(*) FROM t AT BRANCH 'experiment'") == [(1,)]
    assert rows(db, "SELECT count(*) FROM t AT BRANCH 't'") == [(4,)]
    with pytest.raises(vd.SqlError, match="not a version of the table"):
        db.query("SELECT * FROM t AT BRANCH 'u'")
    with pytest.raises(vd.RefNotFoundError, match="no branch 'experimen'") as caught:
        db.query("SELECT * FROM t AT BRANCH 'experimen'")
    assert "experiment" in str(caught.value.hint)


def test_snapshots_and_manifests_are_versions_too() -> None:
    db, _ = versions()
    snap = db.table("t").snapshot("kept")
    db.execute("DELETE FROM t")
    assert rows(db, "SELECT count(*) FROM t AT VERSION 'kept'") == [(4,)]
    assert rows(db, f"SELECT count(*) FROM t AT VERSION '{snap['manifest']}'") == [(4,)]
    assert rows(db, "SELECT count(*) FROM kept") == [(4,)]
    with pytest.raises(vd.SqlError, match="not a version of the table 'u'"):
        db.query("SELECT * FROM u AT VERSION 'kept'")
    with pytest.raises(vd.ReadOnlyError):
        db.execute("INSERT INTO kept VALUES (1, 2)")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t AT VERSION 'v1' VALUES (9, 9)",
        "UPDATE t AT VERSION 'v1' SET n = 0",
        "DELETE FROM t AT VERSION 'v1'",
        "DELETE FROM t AT BRANCH 't' WHERE id = 1",
    ],
)
def test_versions_are_read_only(statement: str) -> None:
    db, _ = versions()
    before = db.table("t").current_manifest()
    with pytest.raises(vd.ReadOnlyError, match=r"line 1, column \d+"):
        db.execute(statement)
    assert db.table("t").current_manifest() == before


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("SELECT * FROM t AT VERSION 'v9'", vd.RefNotFoundError, "no version tag 'v9'"),
        ("SELECT * FROM t AT VERSION 5", vd.NotFoundError, "did not exist at 5"),
        ("SELECT * FROM t AT VERSION -5", vd.SqlError, "needs a tag"),
        ("SELECT * FROM t AT VERSION 1.5", vd.SqlError, "needs a tag"),
        ("SELECT * FROM t AT VERSION 99999999999999999999999", vd.SqlError, "needs a tag"),
        ("SELECT * FROM t AT VERSION", vd.SqlError, "needs a tag"),
        ("SELECT * FROM t AT VERSION v1", vd.SqlError, "needs a tag"),
        ("SELECT * FROM t AT VERSION 't'", vd.SqlError, "is a branch"),
        ("SELECT * FROM t AT BRANCH 5", vd.SqlError, "needs a name"),
        ("SELECT * FROM nothing AT VERSION 'v1'", vd.RefNotFoundError, "no table 'nothing'"),
        ("SELECT * FROM nothing AT VERSION 17", vd.RefNotFoundError, "no table 'nothing'"),
        ("CREATE VERSION TAG 'v1'", vd.AlreadyExistsError, "exists already"),
        ("CREATE VERSION TAG 't'", vd.AlreadyExistsError, "exists already"),
        ("CREATE VERSION TAG v1", vd.SqlError, "single quotes"),
        ("CREATE VERSION TAG 'a b'", vd.RefNameError, "not allowed"),
        ("CREATE VERSION TAG 'x' FOR TRAINING WITH TRAINING PRECISION 'int4'", vd.SqlError, "int4"),
        ("CREATE VERSION TAG 'x' FOR TRAINING TRAINING SEED -4", vd.SqlError, "integer from 0"),
        ("CREATE VERSION TAG 'x' FOR TRAINING TRAINING SEED 'a'", vd.SqlError, "integer from 0"),
        ("CREATE VERSION TAG 'x' FOR TRAINING TRAINING SEED", vd.SqlError, "integer from 0"),
        ("CREATE VERSION TAG 'x' FOR TRAINING TRAINING SEED 1 TRAINING SEED 2", vd.SqlError,
         "twice"),
        ("CREATE VERSION TAG 'x' TRAINING SEED 4", vd.SqlError, "not expected"),
        ("CREATE VERSION TAG 'x' FOR FUN", vd.SqlError, "not expected"),
        ("DROP VERSION TAG 'nothing'", vd.RefNotFoundError, "no version tag"),
        ("DROP VERSION TAG 't'", vd.RefNotFoundError, "no version tag"),
    ],
)  # fmt: skip
def test_bad_versions(sql: str, kind: type[vd.DreamDBError], words: str) -> None:
    db, _ = versions()
    with pytest.raises(kind, match=words) as caught:
        db.execute(sql)
    assert caught.value.details["line"] == 1
    assert f"column {caught.value.details['column']}" in str(caught.value)
    assert db.tags() == ["v0", "v1", "v2", "v3"]


def test_diff_tells_what_changed() -> None:
    db, moments = versions()
    told = db.query(
        "SELECT change, after.id, before.n, after.n FROM diff('v1', 'v3', t) ORDER BY after.id"
    ).fetchall()
    # v1 holds (0, 1); v3 holds (0, 3), (1, 12), (2, 21).
    assert told == [("changed", 0, 1, 3), ("added", 1, None, 12), ("added", 2, None, 21)]
    assert db.query(f"SELECT count(*) FROM diff('v3', {moments[1]}, 't') d").fetchall() == [(3,)]
    assert rows(db, "SELECT change FROM diff('v3', 'v1', t) WHERE before.id > 0") == [
        ("removed",),
        ("removed",),
    ]
    assert rows(db, "SELECT * FROM diff('v2', 'v2', t)") == []
    with pytest.raises(vd.SqlError, match="there are 2"):
        db.query("SELECT * FROM diff('v1', 'v2')")
    db.execute("DROP TABLE u")
    assert rows(db, "SELECT count(*) FROM diff('v1', 'v2')") == [(2,)]
    for sql, words in (
        ("SELECT * FROM diff('v1', v2, t)", "a version is"),
        ("SELECT * FROM diff('v1')", "two versions"),
        ("SELECT * FROM diff('v1', 'v9', t)", "no version tag"),
    ):
        with pytest.raises(vd.DreamDBError, match=words):
            db.query(sql)


def test_diff_reads_only_what_differs() -> None:
    backend = CountingBackend(open_backend(fresh_url()))
    db = vd.Database(backend)
    db.execute("CREATE TABLE w AS SELECT i, 'text ' || i AS s, i % 5 AS n FROM range(5000) r(i)")
    db.create_version_tag("a")
    db.execute("UPDATE w SET n = 9 WHERE i = 7")
    db.create_version_tag("b")
    fresh = CountingBackend(backend.inner)
    other = vd.Database(fresh)
    assert other.query("SELECT before, after FROM diff('a', 'b')").fetchall() == [
        ({"n": 2}, {"n": 9})
    ]
    opened = set(fresh.tally.opened)
    view = other.table("w")._view
    assert opened & set(view.track("n").addresses)
    assert not opened & set(view.track("s").addresses)


def test_a_tag_needs_tables() -> None:
    with pytest.raises(vd.NotFoundError, match="no tables"):
        database().create_version_tag("empty")


def test_dropping_a_tag_keeps_its_reflog() -> None:
    db, _ = versions()
    db.execute("DROP VERSION TAG 'v1'; DROP VERSION TAG IF EXISTS 'v1'")
    space = vd.connect(db.url)
    assert db.tags() == ["v0", "v2", "v3"]
    assert [entry["why"] for entry in space.reflog("v1")] == ["DROP VERSION TAG"]
    assert space.verify().ok
    assert space.gc().garbage == ()
    space.delete_ref("v0")
    assert db.tags() == ["v2", "v3"]


def test_other_parts_of_the_library_know_version_tags() -> None:
    db, _ = versions()
    space = vd.connect(db.url)
    kinds = {ref.name: ref.kind for ref in space.refs()}
    assert kinds["v1"] == "tag"
    assert space.datasets() == ["t", "u"]
    assert any("v1" in record.refs for record in db.table("t").log())
    with pytest.raises(vd.InvalidInputError, match="version tag of the whole database"):
        vd.Dataset.open_ref("v1", db.url)
    with pytest.raises(vd.AlreadyExistsError):
        db.table("t").snapshot("v1")
    assert space.verify().ok
    assert space.gc().garbage == ()


def test_what_a_tag_needs_is_not_garbage_after_its_tables_are_gone() -> None:
    db, _ = versions()
    space = vd.connect(db.url)
    reachable = space.gc().reachable
    db.execute("DROP TABLE t")
    assert space.gc().garbage == ()
    assert space.gc().reachable >= reachable


def test_the_space_says_that_it_has_catalogs(tmp_path: object) -> None:
    root = str(tmp_path)
    db = vd.Database(root)
    db.execute(SETUP)
    assert b'"required":[]' in (open_backend(root).read_space() or b"")
    db.create_version_tag("first")
    db.create_version_tag("second")
    assert b'"required":["catalog"]' in (open_backend(root).read_space() or b"")
    from pathlib import Path

    told = IndependentReader(Path(root)).catalog_of("first")
    assert told == {name: db.table(name).current_manifest() for name in ("t", "u")}


def test_a_damaged_catalog_is_refused() -> None:
    from dreamdb.model import Catalog

    good = Catalog("v", {"t": Address(b"\x1e" + bytes(32))}, "a", "", 1_000, {})
    assert Catalog.decode(good.encode()) == good
    for old, new in ((b'"tables":{', b'"tablez":{'), (b'"v"', b'"v v"'), (b'"t":', b'"-t":')):
        with pytest.raises(vd.FormatError):
            Catalog.decode(good.encode().replace(old, new))
