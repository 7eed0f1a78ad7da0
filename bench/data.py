"""The benchmark data, made from fixed seeds.

N rows of ``id`` int64, ``image`` binary (8 KiB that nothing compresses), ``embedding`` float32[512]
of unit length and clustered, ``label`` int64 (100 classes), ``split`` string (train, val, test in
shares of 90, 5, 5).

Embeddings have 256 centres; around each, a 24-dimensional part that decays (16 bases, shared by
the centres in turn) and a little isotropic noise.  Each block of 10,000 rows has its own seed, so a
larger data set starts with the rows of a smaller one when both are whole blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SEED = 20261120
DIM = 512
IMAGE_NBYTES = 8192
BLOCK_ROWS = 10_000
NUM_CLASSES = 100

_NUM_CENTRES = 256
_NUM_BASES = 16
_RANK = 24
_NOISE = 0.005
_NUM_QUERIES = 1_000
# One stream of random numbers per purpose: [SEED, purpose, number].
_MODEL, _ROWS, _REST, _PREDICTIONS, _EXTRA, _EXTRA_ROWS, _QUERIES = 1, 2, 3, 5, 7, 8, 9
_EXTRA_FIRST_ID = 10**9

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("image", pa.binary()),
        pa.field("embedding", pa.list_(pa.float32(), DIM)),
        pa.field("label", pa.int64()),
        pa.field("split", pa.string()),
    ]
)


@cache
def _model() -> tuple[Floats, Floats]:
    """Return the centres (256, 512) and the scaled bases (16, 24, 512)."""
    random = np.random.default_rng([SEED, _MODEL])
    centres = random.standard_normal((_NUM_CENTRES, DIM), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    shape = (_NUM_BASES, _RANK, DIM)
    bases = random.standard_normal(shape, dtype=np.float32) / np.sqrt(DIM)
    decay = 0.30 / np.sqrt(1 + np.arange(_RANK, dtype=np.float32))
    return centres, bases * decay[:, None]


def _vectors(rows: int, purpose: int, number: int) -> tuple[Floats, Integers]:
    """Return unit vectors (rows, 512) and the number of each one's centre."""
    centres, bases = _model()
    random = np.random.default_rng([SEED, purpose, number])
    chosen = random.integers(0, _NUM_CENTRES, rows)
    weights = random.standard_normal((rows, _RANK), dtype=np.float32)
    vectors = centres[chosen].copy()
    for base in range(_NUM_BASES):
        mine = chosen % _NUM_BASES == base
        vectors[mine] += weights[mine] @ bases[base]
    vectors += _NOISE * random.standard_normal((rows, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, chosen


def _embedding_array(vectors: Floats) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIM)


def _block(number: int, rows: int) -> pa.RecordBatch:
    vectors, centre = _vectors(rows, _ROWS, number)
    random = np.random.default_rng([SEED, _REST, number])
    images = pa.Array.from_buffers(
        pa.binary(),
        rows,
        [
            None,
            pa.py_buffer(np.arange(rows + 1, dtype=np.int32) * IMAGE_NBYTES),
            pa.py_buffer(random.bytes(rows * IMAGE_NBYTES)),
        ],
    )
    share = random.random(rows)
    split = np.where(share < 0.9, "train", np.where(share < 0.95, "val", "test"))
    mislabelled = random.random(rows) < 0.1
    label = (centre * 7 + mislabelled * random.integers(0, NUM_CLASSES, rows)) % NUM_CLASSES
    first = number * BLOCK_ROWS
    return pa.record_batch(
        [
            pa.array(np.arange(first, first + rows, dtype=np.int64)),
            images,
            _embedding_array(vectors),
            pa.array(label.astype(np.int64)),
            pa.array(split.tolist(), pa.string()),
        ],
        schema=SCHEMA,
    )


def batches(rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the data set in blocks of 10,000 rows."""
    for number, first in enumerate(range(0, rows, BLOCK_ROWS)):
        yield _block(number, min(BLOCK_ROWS, rows - first))


def extra_rows(rows: int, step: int) -> pa.Table:
    """Return fresh rows for the append number ``step``; their ids start at 10^9."""
    random = np.random.default_rng([SEED, _EXTRA, step])
    vectors, centre = _vectors(rows, _EXTRA_ROWS, step)
    images = [random.bytes(IMAGE_NBYTES) for _ in range(rows)]
    return pa.table(
        [
            pa.array(np.arange(rows, dtype=np.int64) + _EXTRA_FIRST_ID + step * rows),
            pa.array(images, pa.binary()),
            _embedding_array(vectors),
            pa.array((centre % NUM_CLASSES).astype(np.int64)),
            pa.array(["train"] * rows),
        ],
        schema=SCHEMA,
    )


def predictions(run: int, rows: int) -> Integers:
    """Return the class that sweep run number ``run`` predicts for each row."""
    return np.random.default_rng([SEED, _PREDICTIONS, run]).integers(0, NUM_CLASSES, rows)


def queries(count: int = _NUM_QUERIES) -> Floats:
    """Return the first of 1,000 fixed query vectors (count, 512)."""
    if not 0 <= count <= _NUM_QUERIES:
        raise ValueError(f"there are {_NUM_QUERIES} queries, not {count}")
    return _vectors(_NUM_QUERIES, _QUERIES, 0)[0][:count]


def source(directory: Path, rows: int) -> pa.Table:
    """Return the data set, mapped from an Arrow file that is made once."""
    path = directory / f"source-{rows}.arrow"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
            for batch in batches(rows):
                writer.write_batch(batch)
        partial.rename(path)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def exact_neighbours(directory: Path, rows: int, count: int, k: int) -> Integers:
    """Return the ids of each query's true nearest rows (count, k), best first; made once."""
    path = directory / f"neighbours-{rows}-{count}-{k}.npy"
    if not path.exists():
        column = source(directory, rows).column("embedding").combine_chunks()
        vectors = column.flatten().to_numpy().reshape(-1, DIM)
        found = []
        for start in range(0, count, 100):
            likeness = queries(count)[start : start + 100] @ vectors.T
            best = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
            order = np.argsort(-np.take_along_axis(likeness, best, 1), axis=1, kind="stable")
            found.append(np.take_along_axis(best, order, 1))
        np.save(path, np.concatenate(found))
    answer: Integers = np.load(path)
    return answer
