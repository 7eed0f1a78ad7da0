"""Active learning: the corpus grows by what the model is unsure of, and every step stays readable.

Each round takes a snapshot, trains on it, asks for labels of the most uncertain records of a
stream, and appends them.  At the end the second round is trained again from its snapshot: the
weights are the same, bit for bit.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np

import dreamdb as vd

DIM = 12
ROUNDS = 5
ASK = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", help="where the space goes; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(options.backend or f"{folder}/space")


def run(backend: str) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=DIM)
    stream = rng.normal(size=(4000, DIM)).astype(np.float32)
    test = rng.normal(size=(2000, DIM)).astype(np.float32)

    def label_with_humans(features: np.ndarray) -> np.ndarray:
        return features @ truth > 0.3

    schema = vd.Schema().add_embedding("features", dim=DIM).add_scalar_bool("label")
    ds = vd.Dataset.create("corpus", schema, backend=backend)
    seed = stream[:ASK]
    ds.append(to_columns(seed, label_with_humans(seed)), message="seed")
    stream = stream[ASK:]

    models = []
    for iteration in range(ROUNDS):
        snap = ds.snapshot(f"iter-{iteration}")
        model = train(vd.Dataset.open_at(snap, backend=backend))
        models.append(model)
        right = np.mean((probability(model, test) > 0.5) == label_with_humans(test))
        print(f"iter-{iteration}: {ds.count():>4} labelled records, test accuracy {right:.1%}")
        unsure = np.argsort(np.abs(probability(model, stream) - 0.5))[:ASK]
        hard = stream[unsure]
        ds.append(to_columns(hard, label_with_humans(hard)), message=f"asked in round {iteration}")
        stream = np.delete(stream, unsure, axis=0)

    again = train(vd.Dataset.open_ref("iter-1", backend=backend))
    same = again.tobytes() == models[1].tobytes()
    print(f"iter-1 trained again from its snapshot: {'identical' if same else 'DIFFERENT'} weights")
    print(ds.history())


def to_columns(features: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    return {"features": features, "label": labels}


def probability(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(features @ weights[:-1] + weights[-1])))


def train(pinned: vd.Dataset) -> np.ndarray:
    """Fit a logistic regression by gradient descent; the last weight is the bias."""
    weights = np.zeros(DIM + 1)
    for epoch in range(60):
        for batch in pinned.iter_arrow_batches(32, ["features", "label"], shuffle_seed=epoch):
            features = batch.column("features").values.to_numpy().reshape(batch.num_rows, DIM)
            labels = batch.column("label").to_numpy(zero_copy_only=False)
            error = probability(weights, features) - labels
            weights -= 0.1 * np.append(features.T @ error, error.sum()) / batch.num_rows
    return weights


if __name__ == "__main__":
    main()
