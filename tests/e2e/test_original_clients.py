"""Programs written for the original library, with the import changed and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dreamdb as vd

ROWS, DIM = 400, 32


@pytest.fixture(params=["local", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "space") if request.param == "local" else f"memory://{tmp_path.name}"


def _vectors(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ROWS, DIM)).astype(np.float32)


def _ingest(backend: str, algorithm: str) -> vd.Dataset:
    schema = (
        vd.Schema()
        .add_image("image", mime="jpeg")
        .add_embedding("embedding", dim=DIM, algorithm=algorithm)
        .add_scalar_categorical("label")
        .add_scalar_int("index")
        .add_scalar_float("score")
        .add_scalar_bool("checked")
    )
    ds = vd.Dataset.create("corpus", schema, backend=backend)
    vectors = _vectors()
    rows = [
        {
            "image": b"jpeg %d" % i,
            "embedding": vectors[i].tolist() if i % 2 else vectors[i],
            "label": f"class-{i % 4}",
            "index": i,
            "score": i / 8,
            "checked": i % 3 == 0,
        }
        for i in range(ROWS)
    ]
    for start in range(0, ROWS, 100):
        ds.append_many(rows[start : start + 100], commit=True)
    return ds


@pytest.mark.parametrize("algorithm", ["dreamdb.ivf-cosine", "dreamdb.lsh-cosine"])
def test_ingest_and_search(backend: str, algorithm: str) -> None:
    ds = _ingest(backend, algorithm)
    assert len(ds) == ROWS
    manifest = ds.current_manifest()

    reopened = vd.Dataset.open("corpus", backend=backend)
    assert reopened.current_manifest() == manifest

    vectors = _vectors()
    query = vectors[123] + np.float32(0.1)
    hits: list[tuple[int, float]] = []
    for batch in reopened.iter_vector(
        "embedding", query, top_k=10, batch_size=4, nprobe=8, fields=[], as_numpy=True
    ):
        hits += zip(batch["_time_anchors"].tolist(), batch["_score"].tolist(), strict=True)

    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ (query / np.linalg.norm(query))
    best = np.argsort(-scores)[:10]
    anchors = np.array(reopened.scan([]).to_arrow().column("_anchor").to_pylist())
    assert [anchor for anchor, _ in hits] == anchors[best].tolist()
    assert [score for _, score in hits] == pytest.approx(scores[best].tolist(), abs=1e-5)


def test_filtered_search_with_fields(backend: str) -> None:
    ds = _ingest(backend, "dreamdb.ivf-cosine")
    vectors = _vectors()
    (batch,) = ds.iter_vector(
        "embedding", vectors[7], top_k=5, where_eq=("label", "class-3"), fields=["label", "index"]
    )
    assert batch["label"] == ["class-3"] * 5
    assert batch["index"][0] == 7
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = [i for i in np.argsort(-(unit @ unit[7])).tolist() if i % 4 == 3]
    assert list(batch["index"]) == order[:5]


def test_time_ranges_in_dictionaries(backend: str) -> None:
    ds = _ingest(backend, "dreamdb.ivf-cosine")
    everything = list(ds.iter_all_batches(batch_size=64, fields=["embedding", "index", "image"]))
    assert [len(batch["_time_anchors"]) for batch in everything] == [64] * 6 + [16]
    assert np.concatenate([b["embedding"] for b in everything]).tolist() == _vectors().tolist()
    assert [i for b in everything for i in b["index"]] == list(range(ROWS))
    assert everything[0]["image"][3] == b"jpeg 3"

    anchors = [int(a) for b in everything for a in b["_time_anchors"]]
    start_ns, end_ns = anchors[50], anchors[90]
    part = list(ds.iter_all_batches(fields=["index"], start_ns=start_ns, end_ns=end_ns))
    assert [i for b in part for i in b["index"]] == list(range(50, 90))


def test_scalar_queries(backend: str) -> None:
    ds = _ingest(backend, "dreamdb.ivf-cosine")
    anchors = ds.scan([]).to_arrow().column("_anchor").to_pylist()
    equal = {
        ("label", "==", "class-2"): [i for i in range(ROWS) if i % 4 == 2],
        ("index", "<", 25): list(range(25)),
        ("score", ">=", 49.0): [i for i in range(ROWS) if i / 8 >= 49.0],
        ("checked", "==", True): list(range(0, ROWS, 3)),
        ("label", "in", ("class-0", "class-1")): [i for i in range(ROWS) if i % 4 < 2],
        ("label", "==", "class-9"): [],
    }
    for (field, op, value), expected in equal.items():
        assert ds.query_scalar(field, op, value) == [anchors[i] for i in expected]


def test_versions(backend: str) -> None:
    ds = _ingest(backend, "dreamdb.ivf-cosine")
    snap = ds.snapshot("v1")
    branch = ds.branch("experiment")
    anchors = ds.scan([]).to_arrow().column("_anchor").to_pylist()
    ds.add_scalar_layer("guess", "embedding", "int", [(a, 1) for a in anchors])
    branch.add_scalar_layer("guess", "embedding", "int", [(a, 2) for a in anchors[:10]])

    old = vd.Dataset.open_by_manifest(snap["manifest"], backend=backend)
    assert len(old) == ROWS
    assert "guess" not in old.schema
    assert vd.Dataset.open_ref("v1", backend=backend).current_manifest() == snap["manifest"]

    table = vd.compare_refs(["corpus", "experiment"], ["guess"], backend=backend)
    assert table.column("_anchor").to_pylist() == anchors
    assert table.column("guess@corpus").to_pylist() == [1] * ROWS
    assert table.column("guess@experiment").to_pylist() == [2] * 10 + [None] * (ROWS - 10)

    batches = list(old.iter_arrow_batches(batch_size=150, fields=["index"]))
    assert [i for b in batches for i in b.column("index").to_pylist()] == list(range(ROWS))


def test_a_race_has_the_message_that_programs_look_for(backend: str) -> None:
    ds = _ingest(backend, "dreamdb.ivf-cosine")
    other = vd.Dataset.open_ref("corpus", backend=backend)
    first = ds.scan([]).to_arrow().column("_anchor").to_pylist()[0]
    ds.update([first], {"index": 1_000})
    with pytest.raises(RuntimeError, match="publish conflict on ref"):
        other.update([first], {"index": 2_000})
    other.refresh()
    other.update([first], {"index": 2_000})
    assert ds.refresh().take([first], ["index"]).column("index").to_pylist() == [2_000]
