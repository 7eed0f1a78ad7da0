"""The tutorial, block by block.

The blocks keep the tutorial's wording.  What differs: the import, the backend, tensors stay on the
CPU, vectors are plain.  The functions that the tutorial leaves to the reader (``train``,
``label_with_humans`` and so on) are defined here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.utils.data

import dreamdb as vd
from tests.e2e.programs import run_program

ROWS = 700
LABELS = ["tench", "goldfish", "hammerhead"]


def _records(count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "image": b"\xff\xd8" + rng.bytes(60),
            "embedding": rng.normal(size=512).astype(np.float32),
            "label": LABELS[int(rng.integers(len(LABELS)))],
            "split": "train" if row % 5 else "validation",
        }
        for row in range(count)
    ]


def _schema() -> vd.Schema:
    return (
        vd.Schema()
        .add_image("image", mime="jpeg")
        .add_embedding("embedding", dim=512, algorithm="dreamdb.ivf-cosine")
        .add_scalar_categorical("label")
        .add_scalar_categorical("split")
    )


class LabelIndex(dict[str, int]):
    """The tutorial's ``label_to_idx``, which takes a label or a list of them."""

    def __getitem__(self, key: Any) -> Any:
        return [self[k] for k in key] if isinstance(key, list) else super().__getitem__(key)


label_to_idx = LabelIndex({label: index for index, label in enumerate(LABELS)})


@pytest.fixture(params=["local", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    where = (
        str(tmp_path / "imagenet-100") if request.param == "local" else f"memory://{tmp_path.name}"
    )
    ds = vd.Dataset.create("imagenet-100", _schema(), backend=where)
    assert ds.append_many(_records(ROWS, 0)) == ROWS
    return where


@pytest.fixture
def local_backend(tmp_path: Path) -> str:
    where = str(tmp_path / "imagenet-100")
    vd.Dataset.create("imagenet-100", _schema(), backend=where).append_many(_records(ROWS, 0))
    return where


def _by_anchor(ds: vd.Dataset) -> dict[int, dict[str, Any]]:
    rows = ds.scan(["embedding", "label"]).to_arrow().to_pylist()
    return {row["_anchor"]: row for row in rows}


def test_section_2_open_and_snapshot(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    ds = vd.Dataset.open_ref(
        "imagenet-100",
        backend=backend,
    )
    print(f"current_manifest: {ds.current_manifest()}")  # noqa: T201

    # Pin to an immutable state.
    snap = ds.snapshot(f"model-v2-prep-{int(time.time())}")
    # snap is {"label": "...", "manifest": "...", "timeline": "..."}

    assert ds.current_manifest() in capsys.readouterr().out
    assert set(snap) == {"label", "manifest", "timeline"}
    assert all(isinstance(value, str) for value in snap.values())
    assert snap["manifest"] == ds.current_manifest()
    # "Future appends to imagenet-100 don't affect it."
    ds.append_many(_records(5, 1))
    assert vd.Dataset.open_at(snap, backend=backend).count() == ROWS
    assert vd.Dataset.open_ref(snap["label"], backend=backend).count() == ROWS
    assert ds.count() == ROWS + 5


def test_section_3_stream_as_arrow_batches(backend: str) -> None:
    ds = vd.Dataset.open_ref("imagenet-100", backend=backend)
    expected = _by_anchor(ds)
    seen: list[int] = []

    for batch in ds.iter_arrow_batches(
        batch_size=256,
        fields=["embedding", "label"],
        shuffle_seed=42,  # the same order for the same seed
    ):
        # Embeddings come as FixedSizeList<float32>[dim]
        embs = batch.column("embedding").values.to_numpy(zero_copy_only=False)
        embs = embs.reshape(batch.num_rows, 512)
        labels = batch.column("label").to_pylist()
        # ... training step

        anchors = batch.column("_anchor").to_pylist()
        for anchor, emb, label in zip(anchors, embs, labels, strict=True):
            assert emb.tolist() == expected[anchor]["embedding"]
            assert label == expected[anchor]["label"]
        seen += anchors
        assert batch.schema.field("embedding").type == pa.list_(pa.float32(), 512)
        assert batch.schema.field("_anchor").type == pa.uint64()

    assert sorted(seen) == sorted(expected)
    assert seen != sorted(seen)
    again = ds.iter_arrow_batches(batch_size=256, fields=[], shuffle_seed=42)
    assert [a for b in again for a in b.column("_anchor").to_pylist()] == seen
    # "image / video -> Binary column; scalar fields -> typed columns"
    first = next(ds.iter_arrow_batches())
    assert first.schema.field("image").type == pa.binary()
    assert first.schema.field("label").type == pa.string()


@pytest.mark.parametrize("workers", [0, 4])
def test_section_4_pytorch_dataloader(local_backend: str, workers: int) -> None:
    from dreamdb.torch import DreamDBDataset

    ds = vd.Dataset.open_ref("imagenet-100", backend=local_backend)
    snap = ds.snapshot("model-v2-prep")
    expected = _by_anchor(ds)
    model = torch.nn.Linear(512, len(LABELS))
    seen: list[int] = []

    pinned = vd.Dataset.open_at(snap, backend=local_backend)
    train_ds = DreamDBDataset(
        dataset=pinned,
        fields=["embedding", "label"],
        batch_size=128,
        shuffle_seed=42,
    )
    loader = torch.utils.data.DataLoader(
        train_ds,
        batch_size=None,  # the dataset makes the batches
        num_workers=workers,
    )

    for batch in loader:
        embs = torch.from_numpy(batch["embedding"])
        labels = torch.tensor(label_to_idx[batch["label"]])
        # ... loss.backward() ...
        torch.nn.functional.cross_entropy(model(embs), labels).backward()

        anchors = [int(anchor) for anchor in batch["_anchor"]]
        assert embs.tolist() == [expected[a]["embedding"] for a in anchors]
        assert labels.tolist() == [label_to_idx[expected[a]["label"]] for a in anchors]
        seen += anchors

    # Every record exactly once, in the same order for any number of workers.
    assert sorted(seen) == sorted(expected)
    alone = DreamDBDataset(dataset=pinned, fields=["label"], batch_size=128, shuffle_seed=42)
    assert [int(a) for batch in alone for a in batch["_anchor"]] == seen


SWEEP_CONFIGS = [
    {"lr": 0.001, "batch_size": 128},
    {"lr": 0.01, "batch_size": 128},
    {"lr": 0.1, "batch_size": 128},
    {"lr": 0.001, "batch_size": 512},
    {"lr": 0.01, "batch_size": 512},
    {"lr": 0.1, "batch_size": 512},
]


def _train_and_predict(
    snap: dict[str, Any], cfg: dict[str, Any], backend: str
) -> list[tuple[int, str]]:
    """Train one pass of a linear probe and predict every record."""
    torch.manual_seed(0)
    pinned = vd.Dataset.open_at(snap, backend=backend)
    model = torch.nn.Linear(512, len(LABELS))
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg["lr"])
    for batch in pinned.iter_arrow_batches(cfg["batch_size"], ["embedding", "label"], 0):
        embs = torch.tensor(batch.column("embedding").values.to_numpy().reshape(-1, 512))
        labels = torch.tensor(label_to_idx[batch.column("label").to_pylist()])
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(embs), labels).backward()
        optimizer.step()
    predictions: list[tuple[int, str]] = []
    for batch in pinned.iter_arrow_batches(256, ["embedding"]):
        embs = torch.tensor(batch.column("embedding").values.to_numpy().reshape(-1, 512))
        best = [LABELS[i] for i in model(embs).argmax(1).tolist()]
        predictions += zip(batch.column("_anchor").to_pylist(), best, strict=True)
    return predictions


def test_sections_5_to_7_sweep_compare_tag(
    local_backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written: dict[str, dict[int, str]] = {}

    def train(snap: dict[str, Any], cfg: dict[str, Any]) -> list[tuple[int, str]]:
        predictions = _train_and_predict(snap, cfg, local_backend)
        written[f"sweep/lp-lr{cfg['lr']}-bs{cfg['batch_size']}"] = dict(predictions)
        return predictions

    # 5. The sweep pattern
    src = vd.Dataset.open_ref("imagenet-100", backend=local_backend)
    snap = src.snapshot("sweep-baseline")
    corpus_nbytes = _stored_nbytes(local_backend)

    run_refs = []
    for _i, cfg in enumerate(SWEEP_CONFIGS):
        ref_name = f"sweep/lp-lr{cfg['lr']}-bs{cfg['batch_size']}"
        branch = src.branch(ref_name)

        # ... train a model with cfg, get per-record predictions ...
        predictions = train(snap, cfg)  # [(anchor, pred_label), ...]

        # Write predictions as a scalar layer on the branch.
        branch._inner.add_scalar_layer("prediction", "embedding", "categorical", predictions)
        run_refs.append(ref_name)

    assert run_refs[0] == "sweep/lp-lr0.001-bs128"
    assert "prediction" not in src.refresh().schema
    # Images and vectors are stored once: six runs add little.
    assert _stored_nbytes(local_backend) - corpus_nbytes < corpus_nbytes // 20
    ref_files = [p for p in (Path(local_backend) / "refs").rglob("*") if p.is_file()]
    assert len(ref_files) == 8
    # A branch is 33 bytes; the snapshot carries its tag.
    assert sorted(p.stat().st_size for p in ref_files)[:7] == [33] * 7
    assert 33 < (Path(local_backend) / "refs" / "sweep-baseline").stat().st_size < 512

    # 6. Compare runs side by side
    table = vd.compare_refs(
        refs=run_refs,
        fields=["prediction"],
        backend=local_backend,
    )
    # columns: _anchor, prediction@sweep/lp-lr0.001-bs128, prediction@..., ...
    # rows: one per record across all runs

    # Analyze in pandas / polars:
    import polars as pl

    df = pl.from_arrow(table)
    counted = df.select(pl.col("^prediction@.*$").n_unique()).head()

    assert table.column_names == ["_anchor", *(f"prediction@{ref}" for ref in run_refs)]
    assert table.num_rows == ROWS
    anchors = table.column("_anchor").to_pylist()
    for ref in run_refs:
        column = table.column(f"prediction@{ref}").to_pylist()
        assert dict(zip(anchors, column, strict=True)) == written[ref]
        assert counted[f"prediction@{ref}"].to_list() == [len(set(column))]
    _check_agreement(table, run_refs, written)
    _check_command_line_matrix(local_backend, run_refs, table, tmp_path)

    # 7. Tag the winner
    truth = dict(zip(anchors, src["label"].to_pylist(), strict=True))
    summaries = [
        {
            "ref": ref,
            "val_acc": np.mean([truth[a] == p for a, p in written[ref].items()]),
            "model_hash": f"{index:08x}",
        }
        for index, ref in enumerate(run_refs)
    ]
    best_run = max(summaries, key=lambda s: s["val_acc"])
    src.snapshot(f"prod-2026-05-15-{best_run['model_hash']}")

    # Months later:
    # $ dreamdb-cli inspect --ref-name prod-2026-05-15-<hash>
    src.append_many(_records(3, 2))
    label = f"prod-2026-05-15-{best_run['model_hash']}"
    shown = run_program(
        ["-m", "dreamdb", "-b", local_backend, "inspect", "--ref-name", label], folder=tmp_path
    ).stdout
    assert snap["manifest"] in shown
    assert f"{ROWS}" in shown.replace(",", "")
    for field in ("image", "embedding", "label", "split"):
        assert field in shown
    assert capsys.readouterr().err == ""


def _stored_nbytes(backend: str) -> int:
    return sum(p.stat().st_size for p in Path(backend).rglob("*") if p.is_file())


def _check_agreement(table: Any, refs: list[str], written: dict[str, dict[int, str]]) -> None:
    rows = table.agreement().to_pylist()
    for row, one in zip(rows, refs, strict=True):
        assert row["ref"] == one
        for other in refs:
            equal = [written[one][a] == written[other][a] for a in written[one]]
            assert row[other] == pytest.approx(np.mean(equal))


def _check_command_line_matrix(backend: str, refs: list[str], table: Any, folder: Path) -> None:
    """ "The CLI equivalent prints a pairwise agreement matrix to stdout." """
    command = ["-m", "dreamdb", "-b", backend, "compare-refs", *refs, "--field", "prediction"]
    printed = run_program(command, folder=folder).stdout
    for row in table.agreement().to_pylist():
        assert row["ref"] in printed


def test_pattern_active_learning_loop(backend: str) -> None:
    N = 3
    asked: list[list[int]] = []
    production_stream = _records(40, 9)

    def train(snap: dict[str, Any]) -> Any:
        rows = vd.Dataset.open_at(snap, backend=backend).count()

        def find_hard_examples(stream: list[dict[str, Any]]) -> list[dict[str, Any]]:
            asked.append([rows])
            return stream[10 * len(asked) - 10 : 10 * len(asked)]

        return SimpleNamespace(find_hard_examples=find_hard_examples)

    def label_with_humans(hard: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**example, "label": LABELS[0]} for example in hard]

    ds = vd.Dataset.open_ref("imagenet-100", backend=backend)
    for iteration in range(N):
        snap = ds.snapshot(f"iter-{iteration}")
        model = train(snap)
        hard = model.find_hard_examples(production_stream)
        labels = label_with_humans(hard)
        ds.append_many(labels)  # corpus grows; snapshots stay pinned

    assert asked == [[ROWS], [ROWS + 10], [ROWS + 20]]
    assert ds.count() == ROWS + 30
    for iteration in range(N):
        pinned = vd.Dataset.open_ref(f"iter-{iteration}", backend=backend)
        assert pinned.count() == ROWS + 10 * iteration


def test_pattern_linear_probe(backend: str) -> None:
    pinned = vd.Dataset.open_ref("imagenet-100", backend=backend)
    dim = 512
    W = np.random.default_rng(0).normal(size=(len(LABELS), dim)).astype(np.float32)
    losses: list[tuple[float, int]] = []

    def label_to_idx_vectorized(column: pa.Array) -> np.ndarray[Any, Any]:
        return np.array(label_to_idx[column.to_pylist()])

    def cross_entropy(logits: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
        return float(
            torch.nn.functional.cross_entropy(
                torch.from_numpy(logits.T.copy()), torch.from_numpy(y)
            )
        )

    for batch in pinned.iter_arrow_batches(fields=["embedding", "label"]):
        embs = batch.column("embedding").values.to_numpy().reshape(-1, dim)
        y = label_to_idx_vectorized(batch.column("label"))
        logits = W @ embs.T
        loss = cross_entropy(logits, y)
        # ...
        losses.append((loss, len(y)))

    everything = _by_anchor(pinned).values()
    embs = np.array([row["embedding"] for row in everything], np.float32)
    y = np.array([label_to_idx[row["label"]] for row in everything])
    mean = sum(loss * count for loss, count in losses) / ROWS
    assert mean == pytest.approx(cross_entropy(W @ embs.T, y), rel=1e-4)


def test_pattern_distillation(backend: str) -> None:
    ds = vd.Dataset.open_ref("imagenet-100", backend=backend)
    branch = ds.branch("distilled")
    anchors = ds.scan([]).to_arrow().column("_anchor").to_pylist()
    vectors = np.random.default_rng(3).normal(size=(ROWS, 128)).astype(np.float32)
    student_outputs = list(zip(anchors, vectors, strict=True))
    student_si_hash = vd.train_and_publish_ivf_centroids(
        backend, sample=vectors, dim=128, k=16, iterations=4, seed=42
    )
    student_vc_hash = vd.publish_rabitq_compressor(backend, dim=128, seed=42, bits_per_dim=4)
    assert len(student_si_hash) == len(student_vc_hash) == 33

    branch.add_embedding_layer(
        name="embedding_student",
        parent_field="image",
        dim=128,  # student is smaller
        algorithm="dreamdb.ivf-cosine",
        spatial_index=student_si_hash,
        compressor=student_vc_hash,
        rerank=False,
        samples=student_outputs,  # [(anchor, vector), ...]
    )

    stored = vd.Dataset.open_ref("distilled", backend=backend)
    assert str(stored.schema["embedding_student"].type) == "embedding[128] as rabitq-4"
    column = stored.scan(["embedding_student"]).to_arrow().column("embedding_student")
    decoded = np.array(column.to_pylist(), np.float32)
    cosine = (decoded * vectors).sum(1) / np.linalg.norm(decoded, axis=1)
    assert (cosine / np.linalg.norm(vectors, axis=1)).mean() > 0.993
    (info,) = stored.index.info("embedding_student")
    assert (info.kind, info.cells) == ("ivf", 16)
    assert info.indexed + info.unindexed == ROWS
    assert "embedding_student" not in ds.refresh().schema
    found = stored.search("embedding_student", vectors[17], k=1)
    assert found.column("_anchor").to_pylist() == [anchors[17]]


def test_what_is_coming_is_here(backend: str) -> None:
    """The tutorial's wishes: an async stream, embeddings without images, later layers."""
    ds = vd.Dataset.open_ref("imagenet-100", backend=backend)

    async def collect() -> Iterator[pa.RecordBatch]:
        return iter([batch async for batch in ds.iter_stream(batch_size=256, fields=["embedding"])])

    batches = list(asyncio.run(collect()))
    assert [b.num_rows for b in batches] == [256, 256, 188]
    assert batches[0].schema.names == ["_anchor", "embedding"]
    assert pa.Table.from_batches(batches) == pa.Table.from_batches(
        ds.iter_arrow_batches(256, ["embedding"])
    )
