"""Vector codecs and searches, beside FAISS and LanceDB.

Clustered synthetic vectors of 512 numbers, as many as the run has rows, at most 50,000.  FAISS
gets our centroids, so that equal ``nprobe`` means the same cells; each system's line says the
recall it reached.  FAISS and we use two threads to encode and decode, one query at a time to
search.
"""

from __future__ import annotations

import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import data
from bench.harness import Benchmark, Case
from bench.places import Places

DIM = 512
MOST = 50_000
CELLS = 256
NPROBE = 32
QUERIES = 100
_SOME = 8_192
_STREAMED = 40_000

Floats = npt.NDArray[np.float32]
_KEPT: list[object] = []  # what FAISS points to and does not hold


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""
    rows = min(where.rows, MOST)
    key = (where.directory, rows)
    return [*_codecs(key), *_searches(where, key), _segments(key), _stream(key)]


def clustered(rows: int) -> Floats:
    """Return vectors of length 1: 400 clusters, each spread along 24 directions of its group."""
    random = np.random.default_rng([data.SEED, 41])
    centres = random.standard_normal((400, DIM), dtype=np.float32) / np.float32(DIM**0.5)
    spread = random.standard_normal((50, 24, DIM), dtype=np.float32) / np.float32(DIM**0.5)
    own = random.integers(0, len(centres), rows)
    vectors = centres[own]
    for group in range(len(spread)):
        members = own % len(spread) == group
        along = random.standard_normal((int(members.sum()), 24), dtype=np.float32)
        vectors[members] += (along * np.float32(0.35)) @ spread[group]
    noise = np.float32(0.15 / DIM**0.5)
    vectors += random.standard_normal((rows, DIM), dtype=np.float32) * noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@cache
def _vectors(rows: int) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Return vectors, queries, and the ten nearest of each."""
    everything = clustered(rows + QUERIES)
    vectors, queries = everything[:rows], everything[rows:]
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    return vectors, queries, best


# ---------------------------------------------------------------------------------- codecs


def _codecs(key: tuple[Path, int]) -> list[Benchmark]:
    out = []
    for bits in (4, 1):
        cases = [
            Case("DreamDB", _our_codec, _our_encode, (*key, f"rabitq-{bits}")),
            Case("FAISS, rotation and RaBitQ", _faiss_codec, _faiss_encode, (*key, bits)),
        ]
        work = f"encode vectors, {bits} bits per dimension"
        out.append(Benchmark(work, cases, rounds=3, amount=_SOME, unit="rows"))
    cases = [
        Case("DreamDB", _our_codec, _our_decode, (*key, "rabitq-4")),
        Case("FAISS, rotation and RaBitQ (1 bit of 4)", _faiss_codec, _faiss_decode, (*key, 4)),
    ]
    nbytes = 4 * DIM * _SOME
    out.append(Benchmark("decode 4-bit codes", cases, rounds=5, amount=nbytes, unit="bytes"))
    return out


def _our_codec(_: Path, rows: int, name: str) -> tuple[Any, Floats, Any]:
    from dreamdb.vectors import Codec, encode_rows, load_compiled

    load_compiled()
    codec = Codec(name, DIM, bytes(32))
    some = _vectors(rows)[0][:_SOME]
    return codec, some, encode_rows(codec, some)


def _our_encode(handle: tuple[Any, Floats, Any]) -> None:
    from dreamdb.vectors import encode_rows

    encode_rows(handle[0], handle[1])


def _our_decode(handle: tuple[Any, Floats, Any]) -> None:
    from dreamdb.vectors import decode_rows

    decode_rows(handle[0], handle[2])


def _faiss_codec(_: Path, rows: int, bits: int) -> tuple[Any, Floats, Any]:
    import faiss

    faiss.omp_set_num_threads(2)
    index = faiss.index_factory(DIM, f"RR{DIM},RaBitQ{bits if bits > 1 else ''}")
    some = np.ascontiguousarray(_vectors(rows)[0][:_SOME])
    index.train(some)
    return index, some, index.sa_encode(some)


def _faiss_encode(handle: tuple[Any, Floats, Any]) -> None:
    handle[0].sa_encode(handle[1])


def _faiss_decode(handle: tuple[Any, Floats, Any]) -> None:
    handle[0].sa_decode(handle[2])


# -------------------------------------------------------------------------------- searches


def _searches(where: Places, key: tuple[Path, int]) -> list[Benchmark]:
    ours, recall = _our_index(where, key[1])
    cases = [Case(f"DreamDB, recall {recall:.3f}", _given, _search_ours, (ours, key[1], None))]
    for name, build, run in (
        ("FAISS RaBitQ-4 FastScan", _faiss_scan, _search_faiss),
        ("FAISS RaBitQ-4 FastScan, reranked", _faiss_reranked, _search_faiss),
        ("LanceDB IVF_RQ, refined", lambda n: _lance_index(where, n), _search_lance),
        ("numpy, every vector", _numpy, _search_numpy),
    ):
        try:
            handle, found = build(key[1])
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        cases.append(Case(f"{name}, recall {found:.3f}", _same, run, (_Held(handle), key[1])))
    work = f"{QUERIES} queries of {key[1]:,} vectors, one by one, {NPROBE} of {CELLS} cells"
    condition = [
        Case("DreamDB, with a condition", _given, _search_ours, (ours, key[1], "x = 3")),
        Case("without", _given, _search_ours, (ours, key[1], None)),
    ]
    return [
        Benchmark(work, cases, rounds=5, amount=QUERIES, unit="queries"),
        Benchmark(
            f"{QUERIES} queries, 10 % of the records count",
            condition,
            rounds=5,
            amount=QUERIES,
            unit="queries",
        ),
    ]


class _Held:
    """An index made before the rounds begin."""

    def __init__(self, index: Any) -> None:
        self.index = index


def _same(held: _Held, rows: int) -> tuple[Any, Floats]:
    return held.index, _vectors(rows)[1]


def _recall(found: npt.NDArray[np.int64], best: npt.NDArray[np.int64]) -> float:
    pairs = zip(found, best, strict=True)
    return float(np.mean([len(set(a.tolist()) & set(b.tolist())) / 10 for a, b in pairs]))


@cache
def _our_index(where: Places, rows: int) -> tuple[Path, float]:
    import dreamdb as vd
    from dreamdb.vectors import load_compiled

    load_compiled()
    path = where.scratch("vectors-space")
    vectors, queries, best = _vectors(rows)
    schema = vd.Schema().add_embedding("v", DIM, "dreamdb.ivf-cosine").add_scalar_int("x")
    ds = vd.Dataset.create("v", schema, backend=str(path))
    ds.append({"_anchor": np.arange(rows), "v": vectors, "x": np.arange(rows) % 10})
    sample, cells = vectors[: 64 * CELLS], min(CELLS, rows)
    ds.index.build(
        "v", spatial_index=vd.train_and_publish_ivf_centroids(str(path), sample, DIM, cells)
    )
    found = [ds.search("v", q, 10, nprobe=NPROBE)["_anchor"].to_numpy() for q in queries]
    return path, _recall(np.array(found).astype(np.int64), best)


def _given(path: Path, rows: int, where: str | None) -> tuple[Any, Floats, str | None]:
    import dreamdb as vd

    return vd.Dataset.open_ref("v", str(path)), _vectors(rows)[1], where


def _search_ours(handle: tuple[Any, Floats, str | None]) -> None:
    ds, queries, where = handle
    for query in queries:
        ds.search("v", query, 10, where, nprobe=NPROBE)


def _centroids(rows: int) -> Floats:
    from dreamdb.index import train_centroids

    cells = min(CELLS, rows)
    return train_centroids(_vectors(rows)[0][: 64 * cells], DIM, cells).centroids


def _faiss_scan(rows: int) -> tuple[Any, float]:
    import faiss

    faiss.omp_set_num_threads(1)
    vectors, queries, best = _vectors(rows)
    quantizer = faiss.IndexFlatL2(DIM)
    quantizer.add(np.ascontiguousarray(_centroids(rows)))
    index = faiss.IndexIVFRaBitQFastScan(
        quantizer, DIM, min(CELLS, rows), faiss.METRIC_L2, 32, True, 4
    )
    rotated = faiss.IndexPreTransform(faiss.RandomRotationMatrix(DIM, DIM), index)
    rotation = faiss.downcast_VectorTransform(rotated.chain.at(0))
    rotation.init(7)
    quantizer.reset()
    quantizer.add(rotation.apply(np.ascontiguousarray(_centroids(rows))))
    _KEPT.append((quantizer, index, rotation))
    rotated.train(np.ascontiguousarray(vectors[:20_000]))
    rotated.add(np.ascontiguousarray(vectors))
    index.nprobe = NPROBE
    found = np.concatenate([rotated.search(q[None], 10)[1] for q in queries])
    return rotated, _recall(found, best)


def _faiss_reranked(rows: int) -> tuple[Any, float]:
    import faiss

    vectors, queries, best = _vectors(rows)
    base, _ = _faiss_scan(rows)
    flat = faiss.IndexFlatL2(DIM)
    flat.add(np.ascontiguousarray(vectors))
    index = faiss.IndexRefine(base, flat)
    index.k_factor = 4
    _KEPT.append((base, flat))
    found = np.concatenate([index.search(q[None], 10)[1] for q in queries])
    return index, _recall(found, best)


def _search_faiss(handle: tuple[Any, Floats]) -> None:
    index, queries = handle
    for query in queries:
        index.search(query[None], 10)


def _lance_index(where: Places, rows: int) -> tuple[Any, float]:
    import lancedb
    import pyarrow as pa

    vectors, queries, best = _vectors(rows)
    path = where.scratch("vectors-lance")
    shutil.rmtree(path, ignore_errors=True)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIM)
    content = pa.table({"vector": flat, "id": pa.array(np.arange(rows))})
    held = lancedb.connect(str(path)).create_table("v", content)
    held.create_index(metric="l2", index_type="IVF_RQ", num_partitions=min(CELLS, rows))
    found = np.array([_lance_one(held, q).column("id").to_numpy() for q in queries])
    return held, _recall(found, best)


def _lance_one(held: Any, query: Floats) -> Any:
    return (
        held.search(query)
        .nprobes(NPROBE)
        .refine_factor(4)
        .limit(10)
        .select(["id", "_distance"])
        .to_arrow()
    )


def _search_lance(handle: tuple[Any, Floats]) -> None:
    for query in handle[1]:
        _lance_one(handle[0], query)


def _numpy(rows: int) -> tuple[Any, float]:
    return _vectors(rows)[0], 1.0


def _search_numpy(handle: tuple[Any, Floats]) -> None:
    for query in handle[1]:
        scores = handle[0] @ query
        best = np.argpartition(-scores, 10)[:10]
        best[np.argsort(-scores[best])]


# -------------------------------------------------------------------- segments and streams


def _segments(key: tuple[Path, int]) -> Benchmark:
    cases = [
        Case("DreamDB, 64 segments", _cut_index, _scan_cut, (*key, 64)),
        Case("one segment", _cut_index, _scan_cut, (*key, 1)),
    ]
    work = f"candidates of {QUERIES} queries from 64 segments, 8 of 32 cells"
    return Benchmark(work, cases, rounds=7, amount=QUERIES, unit="queries")


def _cut_index(_: Path, rows: int, pieces: int) -> tuple[Any, Floats]:
    """Return an index over vectors in memory, cut into equal segments.

    A dataset has 64 segments at about 4 million records.  With 32 cells a cell of a segment has as
    many vectors here as with 2,048 cells there.
    """
    from dreamdb.index import Group, IndexReader, IndexRoot, Segment, encode_segment
    from dreamdb.objects import Kind, OpenedObject, seal
    from dreamdb.vectors import Codec
    from dreamdb.vectors.engine import rotate
    from dreamdb.vectors.rotation import rotation_of

    vectors, queries, _ = _vectors(rows)
    codec, centres = Codec("rabitq-4", DIM, bytes(32)), _centroids(rows)[:32]
    turned = rotate(rotation_of(codec.seed, DIM), centres)
    groups, segments = [], []
    for part in np.array_split(np.arange(rows), pieces):
        span = len(part)
        parts = encode_segment(
            vectors[part], np.arange(span), span, codec, "cosine", centres, turned
        )
        assert parts is not None
        sealed = seal(Kind.INDEX_SEGMENT, parts, compress=False)
        stored = memoryview(b"".join(bytes(memoryview(p)) for p in sealed.parts))
        opened = OpenedObject(sealed.address, stored, Kind.INDEX_SEGMENT)
        segments.append(Segment(opened, codec, len(centres), span))
        groups.append(Group(int(part[0]), int(part[-1]) + 1, 7, str(part[0])))
    root = IndexRoot(codec, "cosine", sealed.address)
    reader = IndexReader(root, None, centres, groups, segments, [])  # type: ignore[arg-type]
    return reader, queries


def _scan_cut(handle: tuple[Any, Floats]) -> None:
    reader, queries = handle
    for query in queries:
        reader.candidates(query, 160, nprobe=8, wanted=10)


def _stream(key: tuple[Path, int]) -> Benchmark:
    cases = [
        Case("DreamDB, 4-bit codes", _coded_stream, _read_stream, (*key, "rabitq-4")),
        Case("sq8", _coded_stream, _read_stream, (*key, "sq8")),
        Case("exact vectors", _coded_stream, _read_stream, (*key, None)),
    ]
    work = "shuffled torch stream of vectors, decoded"
    rows = min(key[1], _STREAMED)
    return Benchmark(work, cases, rounds=3, amount=4 * DIM * rows, unit="bytes")


def _coded_stream(directory: Path, rows: int, codec: str | None) -> Any:
    import dreamdb as vd
    from dreamdb.vectors import load_compiled

    load_compiled()
    path = Places(directory, rows).scratch(f"stream-{codec}")
    schema = vd.Schema().add_embedding("v", DIM, compressor=codec)
    ds = vd.Dataset.create("v", schema, backend=str(path))
    ds.append({"v": _vectors(rows)[0][:_STREAMED]})
    return ds, path


def _read_stream(handle: Any) -> int:
    from dreamdb.torch import DreamDBDataset

    stream = DreamDBDataset(dataset=handle[0], fields=["v"], batch_size=1024, shuffle_seed=1)
    return sum(len(batch["v"]) for batch in stream)
