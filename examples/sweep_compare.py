"""A sweep without a deep-learning framework: ridge regressions on branches, compared by record.

Which records does no model get right?  Which do the models disagree on?  Both are one query over
the table that ``compare_refs`` returns.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import dreamdb as vd

RIDGES = [0.1, 10.0, 1000.0, 100_000.0]
CLASSES = np.array(["ash", "birch", "cedar"])
DIM = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", help="where the space goes; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(options.backend or f"{folder}/space")


def run(backend: str) -> None:
    ds = vd.Dataset.create("leaves", backend=backend, data=make_leaves(3000, seed=0))
    snap = ds.snapshot("sweep-baseline")
    refs = [f"sweep/ridge-{ridge:g}" for ridge in RIDGES]
    for ref, ridge in zip(refs, RIDGES, strict=True):
        anchors, predicted = fit_and_predict(snap, backend, ridge)
        branch = ds.branch(ref)
        branch.add_scalar_layer("prediction", "leaf", "categorical", (anchors, predicted))
        right = branch.scan([], where="prediction = label").count()
        print(f"{ref:<18} {right / branch.count():.1%} right")

    comparison = vd.compare_refs(refs, ["prediction"], backend)
    print(comparison)

    truth = ds["label"]
    columns = [comparison.column(f"prediction@{ref}") for ref in refs]
    hits = sum(pc.cast(pc.equal(column, truth), pa.int8()).to_numpy() for column in columns)
    print(f"right in every run: {np.sum(hits == len(refs)):,}; in none: {np.sum(hits == 0):,}")
    hardest = comparison.column("_anchor").to_numpy()[hits == 0][:3]
    for record in ds.take(hardest, ["label"]).to_pylist():
        print(f"  look at record {record['_anchor']} ({record['label']})")


def make_leaves(count: int, *, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    kind = rng.integers(len(CLASSES), size=count)
    centres = rng.normal(size=(len(CLASSES), DIM))
    leaves = (centres[kind] + rng.normal(scale=1.5, size=(count, DIM))).astype(np.float32)
    return pa.table(
        {
            "leaf": pa.FixedSizeListArray.from_arrays(pa.array(leaves.ravel()), DIM),
            "label": pa.array(CLASSES[kind]),
        }
    )


def fit_and_predict(snap: dict, backend: str, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit on a tenth of the pinned records, and predict all of them."""
    pinned = vd.Dataset.open_at(snap, backend=backend)
    table = pinned.scan(["leaf", "label"]).to_arrow().combine_chunks()
    anchors = table.column("_anchor").to_numpy()
    X = table.column("leaf").chunk(0).flatten().to_numpy().reshape(-1, DIM)
    Y = (table.column("label").to_numpy(zero_copy_only=False)[:, None] == CLASSES).astype(float)
    train = np.isin(anchors, pinned.splits({"train": 0.1, "rest": 0.9}, seed=0)["train"])
    W = np.linalg.solve(X[train].T @ X[train] + ridge * np.eye(DIM), X[train].T @ Y[train])
    return anchors, CLASSES[(X @ W).argmax(axis=1)]


if __name__ == "__main__":
    main()
