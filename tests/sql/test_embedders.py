"""Embedding layers, SEMANTIC_MATCH and VECTOR_SEARCH against numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.sql import sentence_transformer
from tests.sql.databases import database, embed, fresh_url, rows

TEXTS = ["aaa", "bbb", "aab", "abb", "", "ab" * 5]


def filled() -> vd.Database:
    """Return a database whose table ``docs`` embeds its texts; one of them is null."""
    db = database()
    db.execute("CREATE TABLE docs (id BIGINT PRIMARY KEY, body TEXT EMBED WITH hash, label INT)")
    for i, text in enumerate(TEXTS):
        db.execute("INSERT INTO docs VALUES (?, ?, ?)", [i, text, i % 2])
    db.execute("INSERT INTO docs (id) VALUES (99)")
    return db


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the similarity of two vectors."""
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_an_insert_fills_the_embedding_layer() -> None:
    db = filled()
    found = dict(db.query("SELECT id, body__embedding FROM docs").fetchall())
    assert found == {**{i: v for i, v in enumerate(embed(TEXTS))}, 99: None}  # noqa: C416
    field = db.table("docs").schema["body__embedding"]
    assert (str(field.type), field.parent) == ("embedding[3]", "body")


def test_an_update_fills_it_again_and_versions_keep_theirs() -> None:
    db = filled()
    db.create_version_tag("before")
    db.execute("UPDATE docs SET body = CASE WHEN id = 0 THEN 'bb' ELSE NULL END WHERE id < 2")
    sql = "SELECT id, body__embedding FROM docs {} WHERE id < 2"
    assert rows(db, sql.format("")) == [(0, [0.0, 2.0, 1.0]), (1, None)]
    assert rows(db, sql.format("AT VERSION 'before'")) == [
        (0, [3.0, 0.0, 1.0]),
        (1, [0.0, 3.0, 1.0]),
    ]


def test_vectors_may_be_given() -> None:
    db = filled()
    db.execute("INSERT INTO docs (id, body, body__embedding) VALUES (7, 'aaa', [1, 2, 3])")
    assert rows(db, "SELECT body__embedding FROM docs WHERE id = 7") == [([1.0, 2.0, 3.0],)]


@pytest.mark.parametrize("threshold", [-1, 0, 0.5, 0.9, 0.9999])
def test_semantic_match_is_cosine_similarity(threshold: float) -> None:
    db = filled()
    query = embed(["aab"])[0]
    wanted = [(i,) for i, text in enumerate(TEXTS) if cosine(embed([text])[0], query) >= threshold]
    for sql in (
        f"SELECT id FROM docs WHERE SEMANTIC_MATCH(body, 'aab', {threshold})",
        f"SELECT d.id FROM docs d WHERE semantic_match(d.body, 'aab', {threshold}) AND d.id < 50",
        f"SELECT id FROM docs WHERE NOT SEMANTIC_MATCH(body, 'aab', {threshold}) IS NOT TRUE",
    ):
        assert rows(db, sql) == wanted


def test_a_vector_without_direction_matches_nothing_but_zero() -> None:
    db = vd.Database(fresh_url())
    db.register_embedder("zero", lambda texts: np.zeros((len(texts), 2)), 2)
    db.execute("CREATE TABLE z (body TEXT EMBED WITH zero); INSERT INTO z VALUES ('a')")
    assert rows(db, "SELECT count(*) FROM z WHERE SEMANTIC_MATCH(body, 'x', 0.1)") == [(0,)]
    assert rows(db, "SELECT count(*) FROM z WHERE SEMANTIC_MATCH(body, 'x', 0)") == [(1,)]


def test_vector_search_is_the_datasets_search() -> None:
    db = filled()
    expected = db.table("docs").search("body__embedding", embed(["abb"])[0], 3, fields=["id"])
    pairs = list(zip(expected["id"].to_pylist(), expected["_score"].to_pylist(), strict=True))
    found = "SELECT id, _score FROM {} ORDER BY _score DESC, id"
    assert sorted(db.query(found.format("VECTOR_SEARCH(docs, body, 'abb', 3)")).fetchall()) == (
        sorted(pairs)
    )
    for query in ("'abb'", "[1, 2.0, 1]"):
        sql = f"SELECT v.label, count(*) FROM VECTOR_SEARCH(docs, BODY, {query}, 2) v GROUP BY 1"
        assert rows(db, sql)
    db.create_version_tag("six")
    db.execute("DELETE FROM docs WHERE id <> 1")
    at = "VECTOR_SEARCH(docs AT VERSION 'six', body__embedding, [1, 2, 1], 100)"
    assert rows(db, f"SELECT count(*) FROM {at}") == [(6,)]
    assert rows(db, "SELECT count(*) FROM VECTOR_SEARCH(docs, body, 'x', 9)") == [(1,)]


def test_another_process_registers_its_embedder_anew() -> None:
    db = filled()
    other = vd.Database(db.url)
    with pytest.raises(vd.NotFoundError, match="not registered"):
        other.execute("INSERT INTO docs VALUES (50, 'x', 1)")
    with pytest.raises(vd.NotFoundError, match="not registered"):
        other.query("SELECT * FROM docs WHERE SEMANTIC_MATCH(body, 'x', 0.4)")
    other.execute("INSERT INTO docs (id, label) VALUES (50, 1)")
    other.register_embedder("hash", lambda texts: [[1.0] * 4 for _ in texts], 4)
    for sql in (
        "INSERT INTO docs VALUES (51, 'x', 1)",
        "UPDATE docs SET body = 'y'",
        "SELECT * FROM docs WHERE SEMANTIC_MATCH(body, 'x', 0.4)",
    ):
        with pytest.raises(vd.SchemaError, match="4 dimensions"):
            other.execute(sql)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda texts: [[1.0, 2.0] for _ in texts], "shape"),
        (lambda texts: [[float("nan")] * 3 for _ in texts], "NaN"),
        (lambda texts: [[1.0] * 3], "shape"),
        (lambda texts: "vectors", "no matrix"),
        (lambda texts: None, "shape|no matrix|NaN"),
    ],
)
def test_a_bad_embedder_writes_nothing(function: object, words: str) -> None:
    db = filled()
    db.register_embedder("hash", function, 3)  # type: ignore[arg-type]
    with pytest.raises(vd.InvalidInputError, match=words):
        db.execute("INSERT INTO docs VALUES (200, 'x', 1), (201, 'y', 2)")
    assert rows(db, "SELECT count(*) FROM docs") == [(7,)]


def test_bad_registrations() -> None:
    db = database()
    for name, function, dim in (
        ("a b", embed, 3),
        ("e", "f", 3),
        ("e", embed, 0),
        ("e", embed, True),
    ):
        with pytest.raises(vd.InvalidInputError):
            db.register_embedder(name, function, dim)  # type: ignore[arg-type]
    with pytest.raises(vd.InvalidInputError, match="encode"):
        sentence_transformer(object())


def test_a_sentence_transformer_is_an_embedder() -> None:
    class Model:
        def encode(self, texts: list[str]) -> np.ndarray:
            return np.array(embed(texts), np.float64)

    db = vd.Database(fresh_url())
    db.register_embedder("model", sentence_transformer(Model()), 3)
    db.execute("CREATE TABLE d (body VARCHAR EMBED WITH model)")
    db.execute("INSERT INTO d SELECT 'a' || i FROM range(700) r(i)")
    assert rows(db, "SELECT count(*) FROM d WHERE body__embedding = [1, 0, 1]::FLOAT[3]") == [
        (700,)
    ]
