"""The main verbs in one page: create, append, snapshot, branch, layer, compare, look back."""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
import pyarrow as pa

import dreamdb as vd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", help="where the space goes; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(options.backend or f"{folder}/space")


def run(backend: str) -> None:
    # Create a data set from a table.  Every record gets an anchor: its place in time.
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1000, 8)).astype(np.float32)
    table = pa.table(
        {
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), 8),
            "label": pa.array(np.where(points[:, 0] > 0, "right", "left")),
        }
    )
    ds = vd.Dataset.create("points", backend=backend, data=table)
    print(ds)

    # A snapshot is a name that never moves.
    snap = ds.snapshot("first-thousand")

    # More records arrive; the branch moves on, the snapshot does not.
    ds.append_many([{"vector": [9.0] + [0.0] * 7, "label": "far"}], message="an outlier")
    pinned = vd.Dataset.open_at(snap, backend=backend)
    print(f"branch: {ds.count():,} records; snapshot: {pinned.count():,}")

    # Conditions read only the fields they need, and skip what statistics exclude.
    far = ds.scan(["vector"], where="label = 'far'").to_arrow()
    print(f"far points: {far.num_rows}, at {far.column('vector').to_pylist()[0][0]}")

    # Nearest neighbours, exactly.
    found = ds.search("vector", [8.0] + [0.0] * 7, k=3, metric="l2", fields=["label"])
    print(found.select(["_score", "label"]).to_pylist())

    # A branch costs one small file; a layer adds values to records without copying them.
    anchors = pinned.scan([]).to_arrow().column("_anchor").to_numpy()
    for threshold in (0.0, 0.5):
        branch = pinned.branch(f"rule/above-{threshold}")
        guess = np.where(points[:, 0] > threshold, "right", "left")
        branch.add_scalar_layer("guess", "vector", "categorical", (anchors, guess))

    # Compare branches record by record.
    comparison = vd.compare_refs(["rule/above-0.0", "rule/above-0.5"], ["guess"], backend)
    print(comparison)

    # Edit one label, then read the version before the edit.
    before = ds.current_manifest()
    ds.update(ds.query_scalar("label", "==", "far"), {"label": "right"}, message="relabel")
    then = vd.Dataset.open_by_manifest(before, backend=backend)
    print(f"now {ds.distinct_values('label')}, then {then.distinct_values('label')}")
    print(ds.log())


if __name__ == "__main__":
    main()
