"""Every statement and call of the two seed documents, as they are written there."""

from __future__ import annotations

import pytest

import dreamdb as vd
from tests.sql.databases import database, rows

TAGS = [
    "CREATE VERSION TAG 'before-migration';",
    "CREATE VERSION TAG 'train-v1' FOR TRAINING;",
    """CREATE VERSION TAG 'train-v1-sq8'
  FOR TRAINING
  WITH TRAINING PRECISION 'sq8';""",
    """CREATE VERSION TAG 'experiment-42'
  FOR TRAINING
  WITH TRAINING PRECISION 'float32'
  TRAINING SEED 42;""",
]


def filled() -> vd.Database:
    """Return a database with the table ``docs`` of the examples."""
    db = database()
    db.execute("CREATE TABLE docs (id BIGINT PRIMARY KEY, body TEXT EMBED WITH hash, label INT)")
    db.execute("INSERT INTO docs VALUES (1, 'aaa', 1), (2, 'bbb', 0), (3, 'aab', 1)")
    return db


@pytest.mark.parametrize("statement", TAGS)
def test_create_version_tag(statement: str) -> None:
    db = filled()
    result = db.execute(statement).to_arrow().to_pylist()
    assert [r["tag"] for r in result] == db.tags()
    (told,) = db.query("SHOW VERSION TAGS").to_arrow().to_pylist()
    assert told["training"] == ("TRAINING" in statement)
    assert told["precision"] == (
        None if "TRAINING" not in statement else "sq8" if "sq8'" in statement[30:] else "float32"
    )
    assert told["seed"] == (42 if "SEED 42" in statement else None)


def test_at_version() -> None:
    db = filled()
    moment = db.create_training_snapshot("train-v1", seed=42)
    db.execute("DELETE FROM docs WHERE id = 1")
    assert rows(db, "SELECT * FROM docs AT VERSION 'train-v1';") == rows(
        db, f"SELECT * FROM docs AT VERSION {moment};"
    )
    found = rows(
        db,
        """SELECT id, body
FROM docs AT VERSION 'train-v1'
WHERE SEMANTIC_MATCH(body, 'aaa', 0.99);""",
    )
    assert found == [(1, "aaa")]
    assert len(rows(db, "SELECT * FROM docs")) == 2


def test_the_training_pipeline() -> None:
    db = database()
    db.execute("CREATE TABLE training_data (id BIGINT PRIMARY KEY, text TEXT, label INT)")
    db.execute(
        """-- Insert training data
BULK INSERT INTO training_data (id, text, label) VALUES
(1, 'positive example', 1),
(2, 'negative example', 0),
(3, 'another positive', 1);
-- Create training snapshot
CREATE VERSION TAG 'train-2024-01'
FOR TRAINING
WITH TRAINING PRECISION 'float32'
TRAINING SEED 12345;
-- Add more data later
INSERT INTO training_data (id, text, label) VALUES (4, 'new data', 1);"""
    )
    assert rows(
        db,
        """-- The snapshot still has only 3 rows
SELECT COUNT(*) FROM training_data AT VERSION 'train-2024-01'; -- 3""",
    ) == [(3,)]
    assert rows(db, "SELECT COUNT(*) FROM training_data; -- 4") == [(4,)]
