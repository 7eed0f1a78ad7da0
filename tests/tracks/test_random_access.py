"""Random access equals indexing one array, however fragments lie in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import dreamdb as vd
from tests.dataset.spaces import fresh_url

RANDOM = np.random.default_rng(5)


def vectors(rows: int, dim: int) -> np.ndarray:
    return RANDOM.standard_normal((rows, dim), dtype=np.float32)


def arrow(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def check(dataset: vd.Dataset, values: np.ndarray) -> None:
    for count in (1, 2, 300, 3 * len(values)):
        wanted = RANDOM.integers(0, len(values), count)
        taken = dataset.take(positions=wanted, fields=["v"]).column("v").combine_chunks()
        assert np.array_equal(taken.values.to_numpy().reshape(count, -1), values[wanted])


# 1 to 8,000 bytes per row: grains of 4 bytes to a page, one or many to a row.
@pytest.mark.parametrize("dim", [1, 3, 6, 16, 96, 500, 512, 1_024, 1_500, 2_000])
@pytest.mark.parametrize("where", ["mapped", "memory"])
def test_vectors_of_any_width(tmp_path: Path, dim: int, where: str) -> None:
    """Fragments in memory begin anywhere; mapped ones lie alike, small ones at the tail do not."""
    url = str(tmp_path) if where == "mapped" else fresh_url()
    schema = vd.Schema().add_embedding("v", dim=dim, algorithm="dreamdb.flat-l2")
    ds = vd.Dataset.create("main", schema, url)
    rows = max(40, 6_000_000 // (4 * dim) // 2)
    values = vectors(rows + 10, dim)
    for start, stop in ((0, rows), (rows, rows + 7), (rows + 7, rows + 10)):
        ds.append(pa.table({"v": arrow(values[start:stop])}))
        check(ds, values[:stop])
    check(vd.Dataset.open_ref("main", url), values)


def test_results_are_the_callers_alone(tmp_path: Path) -> None:
    """What a result holds never changes, although its memory is used again after it is dropped."""
    values = vectors(5_000, 64)
    schema = vd.Schema().add_embedding("v", dim=64, algorithm="dreamdb.flat-l2").add_image("b")
    ds = vd.Dataset.create("main", schema, tmp_path)
    blobs = [RANDOM.bytes(int(n)) for n in RANDOM.integers(0, 900, len(values))]
    ds.append(pa.table({"v": arrow(values), "b": pa.array(blobs, pa.large_binary())}))
    kept = []
    for step in range(60):
        wanted = RANDOM.integers(0, len(values), 1_000)
        found = ds.take(positions=wanted)
        if step % 7 == 0:
            kept.append((wanted, found))
    for wanted, found in kept:
        got = found.column("v").combine_chunks().values.to_numpy().reshape(-1, 64)
        assert np.array_equal(got, values[wanted])
        assert found.column("b").to_pylist() == [blobs[i] for i in wanted]
