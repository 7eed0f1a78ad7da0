"""Training sets: exports that pylance reads, and loaders with and without an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
import torch
from lance.torch.data import LanceDataset

import dreamdb as vd
from dreamdb.torch import training_set_loader
from dreamdb.vectors import Codec, decode_rows, encode_rows, seed_bytes

ROWS = 500
DIM = 8


def vector(text: str) -> list[float]:
    """Return a vector that only this text has."""
    return np.random.default_rng(len(text) * 1000 + hash_of(text)).normal(size=DIM).tolist()


def hash_of(text: str) -> int:
    """Return a number that depends on the text alone."""
    return sum((i + 1) * ord(c) for i, c in enumerate(text))


def database(path: Path) -> vd.Database:
    """Return a database in a directory, with the table ``docs``."""
    db = vd.Database(path)
    db.register_embedder("e", lambda texts: [vector(t) for t in texts], DIM)
    db.execute(
        "CREATE TABLE docs (id BIGINT PRIMARY KEY, body TEXT EMBED WITH e, label INT, name VARCHAR)"
    )
    db.execute(f"INSERT INTO docs SELECT i, 'text ' || i, i % 3, 'n' || i FROM range({ROWS}) r(i)")
    return db


def column(loader: Any, name: str) -> list[Any]:
    """Return one column of all batches."""
    out: list[Any] = []
    for batch in loader:
        out += batch[name].tolist() if isinstance(batch[name], torch.Tensor) else batch[name]
    return out


def test_the_seeds_program(tmp_path: Path) -> None:
    db = database(tmp_path)
    db.execute(
        """
    CREATE VERSION TAG 'train-deduped'
    FOR TRAINING
    WITH TRAINING PRECISION 'float32'
    TRAINING SEED 42
"""
    )
    path = db.training_dataset("train-deduped")
    assert Path(path).parent == tmp_path / "training_exports"
    assert Path(path).name.startswith("train-deduped_1")
    ds = lance.dataset(path)
    assert ds.count_rows() == ROWS
    assert str(ds.schema.field("body").type) == f"fixed_size_list<item: float>[{DIM}]"
    for batch in training_set_loader(path, batch_size=64):
        assert batch["body"].dtype == torch.float32
        assert batch["body"].shape[1:] == (DIM,)
        expected = torch.tensor([vector(f"text {i}") for i in batch["id"].tolist()])
        assert torch.allclose(batch["body"], expected)
        assert batch["label"].tolist() == [i % 3 for i in batch["id"].tolist()]
    # Lance's own loader takes the columns of numbers.
    for batch in LanceDataset(path, columns=["id", "body", "label"], batch_size=64):
        assert batch["body"].shape == (64, DIM)
        break


def test_create_training_snapshot_returns_the_time(tmp_path: Path) -> None:
    db = database(tmp_path)
    ts = db.create_training_snapshot("train-v1", seed=42)
    path = db.training_dataset("train-v1")
    assert path == str(tmp_path / "training_exports" / f"train-v1_{ts}")
    assert db.query(f"SELECT count(*) FROM docs AT VERSION {ts}").fetchall() == [(ROWS,)]


def test_the_order_is_the_seeds_with_and_without_an_export(tmp_path: Path) -> None:
    db = database(tmp_path)
    orders = {}
    for tag, seed in (("plain", None), ("one", 1), ("again", 1), ("two", 2), ("big", 2**64 - 1)):
        db.create_training_snapshot(tag, seed=seed)
        exported = column(training_set_loader(db.training_dataset(tag), 64), "id")
        snapshot = db.training_dataset(tag, zero_copy=True)
        assert column(snapshot.loader(64), "id") == exported
        assert sorted(exported) == list(range(ROWS))
        orders[tag] = exported
    assert orders["one"] == orders["again"]
    assert len({tuple(order) for order in orders.values()}) == 4


def test_workers_read_the_same_batches(tmp_path: Path) -> None:
    db = database(tmp_path)
    db.create_training_snapshot("t", seed=7)
    path, snapshot = db.training_dataset("t"), db.training_dataset("t", zero_copy=True)
    expected = column(training_set_loader(path, 64), "name")
    assert column(training_set_loader(path, 64, num_workers=2), "name") == expected
    assert column(snapshot.loader(64, num_workers=2), "name") == expected


def test_both_loaders_give_the_same_batches(tmp_path: Path) -> None:
    db = database(tmp_path)
    db.create_training_snapshot("t", seed=7)
    exported = list(training_set_loader(db.training_dataset("t"), 100))
    straight = list(db.training_dataset("t", zero_copy=True).loader(100))
    for one, other in zip(exported, straight, strict=True):
        assert list(one) == list(other) == ["id", "body", "label", "name"]
        assert torch.equal(one["body"], other["body"])
        assert one["name"] == other["name"]


def test_sq8_is_a_quarter_and_decodes(tmp_path: Path) -> None:
    db = database(tmp_path)
    db.create_training_snapshot("t", precision="sq8", seed=3)
    path = db.training_dataset("t")
    schema = lance.dataset(path).schema
    assert str(schema.field("body").type) == f"fixed_size_list<item: int8>[{DIM}]"
    assert str(schema.field("body__scale").type) == "float"
    for batch in training_set_loader(path, 64):
        exact = torch.tensor([vector(f"text {i}") for i in batch["id"].tolist()])
        bound = exact.abs().amax(dim=1) / 127 / 2 * 1.001
        assert bool(((batch["body"] - exact).abs().amax(dim=1) <= bound).all())
        assert "body__scale" not in batch
    (raw, *_) = training_set_loader(path, 64, decode=False)
    assert raw["body"].dtype == torch.int8
    assert raw["body__scale"].shape == (64,)


def test_rabitq_is_one_bit_and_decodes(tmp_path: Path) -> None:
    db = database(tmp_path)
    db.execute("INSERT INTO docs (id) VALUES (9999)")
    db.execute("CREATE VERSION TAG 'r' FOR TRAINING WITH TRAINING PRECISION 'rabitq'")
    path = db.training_dataset("r")
    codec = Codec("rabitq-1", DIM, seed_bytes(0))
    stored = lance.dataset(path).schema.field("body").type
    assert str(stored) == f"fixed_size_list<item: uint8>[{codec.width}]"
    for batch in training_set_loader(path, 64, columns=["id", "body"], nulls="mask"):
        there = batch["body_mask"].numpy()
        assert there.tolist() == [i != 9999 for i in batch["id"].tolist()]
        exact = [vector(f"text {i}") for i in batch["id"][batch["body_mask"]].tolist()]
        expected = decode_rows(codec, encode_rows(codec, np.array(exact, np.float32)))
        assert np.array_equal(batch["body"].numpy()[there], expected)
        assert not batch["body"].numpy()[~there].any()
    (raw, *_) = training_set_loader(path, 64, columns=["body"], decode=False, nulls="zero")
    assert raw["body"].dtype == torch.uint8
    assert column(db.training_dataset("r", zero_copy=True).loader(nulls="zero"), "label")


def test_an_export_is_of_the_tag_and_repeated_calls_overwrite(tmp_path: Path) -> None:
    db = database(tmp_path)
    db.create_version_tag("before")
    path = db.training_dataset("before")
    db.execute("DELETE FROM docs WHERE id > 9; INSERT INTO docs VALUES (1000, 'late', 1, 'x')")
    assert db.training_dataset("before") == path
    assert lance.dataset(path).count_rows() == ROWS
    assert [p.name for p in (tmp_path / "training_exports").iterdir()] == [Path(path).name]
    assert vd.connect(tmp_path).verify().ok


def test_missing_texts_need_a_choice(tmp_path: Path) -> None:
    db = database(tmp_path)
    db.execute("INSERT INTO docs (id) VALUES (9999)")
    db.create_training_snapshot("t", precision="sq8")
    path, snapshot = db.training_dataset("t"), db.training_dataset("t", zero_copy=True)
    for source in (path, snapshot):
        with pytest.raises(vd.InvalidInputError, match="nulls"):
            column(training_set_loader(source, 64), "id")
        masked = list(training_set_loader(source, 64, nulls="mask"))
        gone = [
            i
            for b in masked
            for i, m in zip(b["id"].tolist(), b["body_mask"], strict=True)
            if not m
        ]
        assert gone == [9999]
        zeros = {
            i: v for b in training_set_loader(source, 64, nulls="zero")
            for i, v in zip(b["id"].tolist(), b["body"], strict=True)
        }  # fmt: skip
        assert not zeros[9999].any()


def test_several_tables_are_exported_one_by_one(tmp_path: Path) -> None:
    db = database(tmp_path)
    db.execute("CREATE TABLE other AS SELECT i AS id FROM range(10) r(i)")
    db.create_version_tag("sweep/Both")
    with pytest.raises(vd.InvalidInputError, match="2 tables") as caught:
        db.training_dataset("sweep/Both")
    assert "docs, other" in str(caught.value.hint)
    paths = {name: db.training_dataset("sweep/Both", name) for name in ("docs", "other")}
    assert lance.dataset(paths["other"]).count_rows() == 10
    assert lance.dataset(paths["docs"]).count_rows() == ROWS
    assert all(Path(p).is_relative_to(tmp_path / "training_exports") for p in paths.values())


def test_bad_input(tmp_path: Path) -> None:
    db = database(tmp_path)
    db.create_version_tag("t")
    with pytest.raises(vd.RefNotFoundError, match="no version tag"):
        db.training_dataset("nothing")
    with pytest.raises(vd.RefNotFoundError, match="no version tag"):
        db.training_dataset("docs")
    with pytest.raises(vd.RefNotFoundError, match="no table"):
        db.training_dataset("t", "nothing")
    for seed in (-1, 2**64, True, "1", 1.5):
        with pytest.raises(vd.InvalidInputError, match="training seed"):
            db.create_training_snapshot("x", seed=seed)  # type: ignore[arg-type]
    with pytest.raises(vd.InvalidInputError, match="precision"):
        db.create_training_snapshot("x", precision="int4")
    with pytest.raises(vd.NotFoundError, match="no training set"):
        training_set_loader(tmp_path / "nowhere")
    with pytest.raises(vd.NotFoundError, match="not a Lance dataset"):
        training_set_loader(tmp_path / "objects")
    path = db.training_dataset("t")
    with pytest.raises(vd.FieldNotFoundError, match="no column 'lable'"):
        training_set_loader(path, columns=["lable"])
    with pytest.raises(vd.InvalidInputError, match="no option 'shuffle'"):
        training_set_loader(path, shuffle=True)
    memory = vd.Database("memory://training-bad")
    memory.execute("CREATE TABLE t (a INT); INSERT INTO t VALUES (1); CREATE VERSION TAG 'v'")
    with pytest.raises(vd.InvalidInputError, match="not a directory"):
        memory.training_dataset("v")
    elsewhere = memory.training_dataset("v", directory=tmp_path / "exports")
    assert lance.dataset(elsewhere).count_rows() == 1


def test_vectors_tensors_and_nothing_at_all(tmp_path: Path) -> None:
    db = vd.Database(tmp_path)
    db.execute("CREATE TABLE v (e FLOAT[3], t DOUBLE[2], b BLOB, ts TIMESTAMP, k BOOLEAN)")
    db.create_version_tag("empty")
    assert list(training_set_loader(db.training_dataset("empty"), 4)) == []
    db.execute("INSERT INTO v VALUES ([1, 2, 3], [4, 5], 'x'::BLOB, '2024-01-01', true)")
    db.create_version_tag("one")
    (batch,) = training_set_loader(db.training_dataset("one"), 4)
    assert batch["e"].tolist() == [[1.0, 2.0, 3.0]]
    assert batch["t"].dtype == torch.float64
    assert batch["b"] == [b"x"]
    assert batch["ts"].tolist() == [1_704_067_200_000_000_000]
    assert batch["k"].tolist() == [True]
