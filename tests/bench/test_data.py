"""The benchmark data is what its description says, and the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bench import data
from bench.places import add_checksums


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pa.Table.from_batches(data.batches(2_000))


def _matrix(table: pa.Table) -> np.ndarray:
    column = table.column("embedding").combine_chunks()
    return column.flatten().to_numpy().reshape(-1, data.DIM)


def test_rows_follow_their_description(table: pa.Table) -> None:
    assert table.schema == data.SCHEMA
    assert table.column("id").to_pylist() == list(range(2_000))
    assert set(pc.binary_length(table.column("image")).to_pylist()) == {8192}
    assert np.allclose(np.linalg.norm(_matrix(table), axis=1), 1, atol=1e-5)
    labels = table.column("label").to_numpy()
    assert labels.min() >= 0
    assert labels.max() < data.NUM_CLASSES
    split = table.column("split").to_pylist()
    assert 0.85 < split.count("train") / 2_000 < 0.95
    assert set(split) == {"train", "val", "test"}


def test_vectors_are_clustered(table: pa.Table) -> None:
    vectors = _matrix(table)
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1)
    assert np.median(likeness.max(axis=1)) > 0.5
    assert abs(np.median(likeness)) < 0.1


def test_the_same_rows_every_time(table: pa.Table) -> None:
    assert pa.Table.from_batches(data.batches(2_000)).equals(table)
    assert np.array_equal(data.queries(20), data.queries(50)[:20])
    assert np.array_equal(data.predictions(3, 100), data.predictions(3, 100))
    assert not np.array_equal(data.predictions(3, 100), data.predictions(4, 100))
    assert data.extra_rows(5, 1).equals(data.extra_rows(5, 1))
    assert data.extra_rows(5, 1).column("id").to_pylist() == [10**9 + 5 + i for i in range(5)]


def test_blocks_do_not_depend_on_the_size() -> None:
    sizes = [batch.num_rows for batch in data.batches(10_001)]
    assert sizes == [10_000, 1]


def test_the_stored_source_is_the_generated_one(tmp_path: Path, table: pa.Table) -> None:
    assert data.source(tmp_path, 2_000).equals(table)
    assert data.source(tmp_path, 2_000).equals(table)  # mapped from the file this time


def test_exact_neighbours_are_the_nearest(tmp_path: Path, table: pa.Table) -> None:
    found = data.exact_neighbours(tmp_path, 2_000, 7, 5)
    vectors = _matrix(table).astype(np.float64)
    for query, ids in zip(data.queries(7).astype(np.float64), found, strict=True):
        distance = ((vectors - query) ** 2).sum(axis=1)
        assert np.allclose(distance[ids], np.sort(distance)[:5])


@pytest.mark.parametrize("size", [1, 7, 256, 2_000])
def test_checksums_do_not_depend_on_batching(table: pa.Table, size: int) -> None:
    whole = add_checksums(table.to_batches())
    assert add_checksums(table.to_batches(max_chunksize=size)) == whole
    changed = table.set_column(3, "label", pc.add(table.column("label"), 1))
    assert add_checksums(changed.to_batches()) != whole
