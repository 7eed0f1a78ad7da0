"""Indexes: complete when asked for everything, good otherwise, and always of this content."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dreamdb as vd
from dreamdb.index import MIN_RUNG, chunk_groups, index_root
from dreamdb.index.groups import top_rung
from dreamdb.model import rung_ends
from dreamdb.objects import Kind, from_text
from dreamdb.store import open_backend
from dreamdb.testing import CountingBackend
from tests.dataset.spaces import fresh_url, make
from tests.vectors.engines import using

METRICS = ("cosine", "dot", "l2")
DIM = 24
ROWS = 4_000
Vectors = npt.NDArray[np.float32]


def clustered(rows: int, dim: int = DIM, seed: int = 1) -> Vectors:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, dim)) * 2
    spread = generator.normal(size=(rows, dim)) * 0.6
    return (centres[generator.integers(0, 20, rows)] + spread).astype(np.float32)


def schema(metric: str = "cosine", **options: Any) -> vd.Schema:
    own = vd.Schema().add_embedding(
        "v", DIM, f"dreamdb.ivf-{metric}", rows_per_fragment=64, **options
    )
    return own.add_scalar_int("x")


def rows_of(vectors: Vectors, first: int = 0) -> dict[str, Any]:
    at = np.arange(first, first + len(vectors))
    return {"_anchor": at * 3, "v": vectors, "x": at % 10}


def pairs(table: pa.Table) -> list[tuple[int, int, float]]:
    return list(
        zip(
            table["_query"].to_pylist(),
            table["_anchor"].to_pylist(),
            table["_score"].to_pylist(),
            strict=True,
        )
    )


def assert_complete(ds: vd.Dataset, queries: Vectors, where: object = None, k: int = 7) -> None:
    """Looking at all cells and comparing all candidates must give the exact answer."""
    (info,) = ds.index.info("v")
    everything = {"nprobe": info.cells, "rerank": max(1, ds.count())}
    mine = ds.search("v", queries, k, where, exact=False, **everything)
    best = ds.search("v", queries, k, where, exact=True)
    assert mine["_query"].to_pylist() == best["_query"].to_pylist()
    np.testing.assert_allclose(
        mine["_score"].to_numpy(), best["_score"].to_numpy(), rtol=1e-4, atol=1e-4
    )
    assert mine["_anchor"].to_pylist() == best["_anchor"].to_pylist()


@pytest.fixture(scope="module", params=METRICS)
def indexed(request: pytest.FixtureRequest) -> tuple[vd.Dataset, Vectors, str]:
    ds = make(schema(request.param))
    vectors = clustered(ROWS)
    ds.append(rows_of(vectors))
    ds.index.build("v", cells=32)
    return ds, vectors, request.param


def test_all_cells_and_all_candidates_are_the_exact_answer(indexed: Any, each_engine: str) -> None:
    ds, _, _ = indexed
    queries = clustered(9, seed=2)
    assert_complete(ds, queries)
    assert_complete(ds, queries, "x = 3")
    assert_complete(ds, queries, "x = 3 and _anchor > 9000")
    (info,) = ds.index.info()
    assert info.indexed + info.unindexed == ROWS
    assert info.unindexed < 1_000
    assert info.segments >= 3


def test_recall_and_its_evaluation(indexed: Any, each_engine: str) -> None:
    ds, _, metric = indexed
    queries = clustered(40, seed=3)
    found = ds.index.evaluate(queries, 10)
    assert found.recall >= (0.9 if metric == "dot" else 0.97)
    assert f"recall@10 {found.recall:.4f} over 40 queries" in str(found)
    assert ds.index.evaluate(queries, 10, nprobe=1).recall <= found.recall
    assert ds.index.evaluate(queries, 10, rerank=False).recall >= 0.6


def test_scores_are_those_of_the_vectors(indexed: Any) -> None:
    ds, vectors, metric = indexed
    query = vectors[17]
    table = ds.search("v", query, 3, exact=False, fields=["x"])
    rows = np.array(table["_anchor"].to_pylist()) // 3
    wide, q = vectors[rows].astype(np.float64), query.astype(np.float64)
    expected = {
        "dot": wide @ q,
        "l2": -((wide - q) ** 2).sum(1),
        "cosine": (wide @ q) / np.linalg.norm(wide, axis=1) / np.linalg.norm(q),
    }[metric]
    np.testing.assert_allclose(table["_score"].to_numpy(), expected, rtol=1e-4, atol=1e-4)
    assert table["x"].to_pylist() == (rows % 10).tolist()
    estimated = ds.search("v", query, 3, exact=False, rerank=False)
    np.testing.assert_allclose(
        estimated["_score"].to_numpy()[0], expected[0], atol=0.15 * abs(expected).max() + 2
    )


@pytest.mark.parametrize("options", [{}, {"rerank": False}, {"nprobe": 3}, {"rerank": 25}])
def test_both_engines_find_the_same(indexed: Any, options: dict[str, Any]) -> None:
    ds, _, _ = indexed
    for where in (None, "x < 4"):
        found = []
        for engine in ("numpy", "compiled"):
            with using(engine):
                queries = clustered(12, seed=4)
                found.append(ds.search("v", queries, 6, where, exact=False, **options))
        assert pairs(found[0]) == pairs(found[1])


def test_segments_are_the_same_bytes_with_both_engines() -> None:
    vectors = clustered(1_500)
    addresses = []
    for engine in ("numpy", "compiled"):
        with using(engine):
            url = fresh_url()
            spatial = vd.train_and_publish_ivf_centroids(url, vectors, DIM, 16, 4, 7)
            ds = vd.Dataset.create("main", schema(spatial_index=spatial), backend=url)
            ds.append(rows_of(vectors))
            addresses.append(_segments(ds))
    assert addresses[0] == addresses[1]
    assert addresses[0]


def _segments(ds: vd.Dataset) -> set[bytes]:
    root = index_root(ds._space.source, from_text(ds._index_of("v") or ""))
    return {one.segment for one in root.segments.values()}


def test_an_index_follows_every_append_and_shares_what_it_can() -> None:
    vectors = clustered(6_000)
    url = fresh_url()
    spatial = vd.train_and_publish_ivf_centroids(url, vectors[:1_000], DIM, 16, 4, 7)
    ds = vd.Dataset.create("main", schema(spatial_index=spatial), backend=url)
    assert ds.index.info()[0].indexed == 0
    assert ds.search("v", vectors[0], 3).num_rows == 0
    for start in range(0, 6_000, 1_500):
        ds.append(rows_of(vectors[start : start + 1_500], start))
        (info,) = ds.index.info("v")
        assert info.indexed + info.unindexed == ds.count()
        assert info.unindexed < 1_200
        # A record that was just appended is found at once.
        newest = vectors[start + 1_499]
        assert ds.search("v", newest, 1)["_anchor"].to_pylist() == [3 * (start + 1_499)]
        assert ds.search("v", newest, 1, exact=False)["_anchor"].to_pylist() == [
            3 * (start + 1_499)
        ]
    before = _segments(ds)
    branch = ds.branch("other")
    assert _segments(branch) == before
    snapshot = vd.Dataset.open_at(ds.snapshot("kept"), url)
    branch.append(rows_of(clustered(50, seed=5), 6_000))
    assert _segments(branch) & before
    assert_complete(snapshot, vectors[:3])
    assert_complete(branch, vectors[:3])


def test_the_same_records_have_the_same_index_whatever_the_history() -> None:
    vectors = clustered(3_000)
    roots = []
    for steps in ([3_000], [500, 700, 1_800], [1_000, 2_000]):
        url = fresh_url()
        spatial = vd.train_and_publish_ivf_centroids(url, vectors, DIM, 8, 2, 1)
        ds = vd.Dataset.create("main", schema(spatial_index=spatial), backend=url)
        at = 0
        for step in steps:
            ds.append(rows_of(vectors[at : at + step], at))
            at += step
        roots.append((ds.content_id, ds._index_of("v")))
    assert len(set(roots)) == 1


def test_update_delete_and_rename_stay_right() -> None:
    ds = make(schema())
    vectors = clustered(3_000)
    ds.append(rows_of(vectors))
    ds.index.build("v", cells=16)
    whole = ds.index.info("v")[0]
    moved = -vectors[100] * 3
    ds.update([300, 900], {"v": np.stack([moved, moved])})
    info = ds.index.info("v")[0]
    assert whole.indexed > info.indexed
    assert info.indexed + info.unindexed == 3_000
    found = ds.search("v", moved, 2, exact=False)
    assert set(found["_anchor"].to_pylist()) == {300, 900}
    assert_complete(ds, np.stack([moved, vectors[5], vectors[2_000]]))
    ds.delete("x = 5")
    ds.delete([300])
    assert ds.search("v", moved, 1, exact=False)["_anchor"].to_pylist() == [900]
    assert_complete(ds, vectors[:5])
    assert_complete(ds, vectors[:5], "x > 4")
    # What was changed has segments again after the next append, or when asked for.
    ds.append(rows_of(clustered(30, seed=8), 3_000))
    assert ds.index.info("v")[0].indexed >= whole.indexed - 1
    ds.rename_field("v", "w")
    assert [one.field for one in ds.index.info()] == ["w"]
    assert ds.search("w", vectors[7], 1, exact=False)["_anchor"].to_pylist() == [21]
    ds.drop_field("w")
    assert ds.index.info() == []


def test_a_transaction_and_late_records() -> None:
    ds = make(schema())
    vectors = clustered(2_000)
    ds.append(rows_of(vectors))
    ds.index.build("v", cells=8)
    with ds.transaction() as tx:
        tx.append({"_anchor": [1, 4], "v": vectors[:2] + 9, "x": [0, 0]})
        tx.delete([0])
    assert ds.search("v", vectors[0] + 9, 1, exact=False)["_anchor"].to_pylist() == [1]
    assert_complete(ds, vectors[:4] + 5)


def test_nulls_zeros_and_extremes() -> None:
    ds = make(schema("l2"))
    vectors = clustered(2_500)
    listed: list[Any] = list(vectors)
    for row in range(0, 2_500, 7):
        listed[row] = None
    listed[1] = np.zeros(DIM, np.float32)
    ds.append({**rows_of(vectors), "v": listed})
    ds.index.build("v", cells=8)
    assert_complete(ds, np.concatenate([np.zeros((1, DIM), np.float32), vectors[:4]]))
    large = np.full((1, DIM), 1e30, np.float32)
    assert ds.search("v", large, 2, exact=False).num_rows == 2
    # Numbers whose squares leave float32 are compared exactly, not indexed wrongly.
    ds.append({"_anchor": [99_999], "v": large, "x": [0]})
    for first in (50_000, 60_000):
        assert ds.search("v", large, 1, exact=False)["_anchor"].to_pylist() == [99_999]
        ds.append(rows_of(clustered(2_000, seed=9), first))


def test_one_cell_and_tiny_datasets() -> None:
    for rows in (0, 1, 3, 400):
        for kind in ("flat", "ivf"):
            ds = make(schema())
            vectors = clustered(max(1, rows))
            ds.append(rows_of(vectors[:rows]))
            info = ds.index.build("v", kind)
            assert info.kind == kind
            assert info.cells <= max(1, rows)
            found = ds.search("v", vectors[:2], 10, exact=False)
            assert found.num_rows == min(rows, 10) * len(vectors[:2])
            short = (found.schema.metadata or {}).get(b"dreamdb.short")
            assert short == (
                None if rows >= 10 else f"{rows} of 10 records asked for exist".encode()
            )


def test_a_condition_never_shortens_the_list() -> None:
    ds = make(schema())
    vectors = clustered(3_000)
    ds.append({**rows_of(vectors), "x": np.arange(3_000)})
    ds.index.build("v", cells=64)
    far = vectors[0]
    for limit in (0, 1, 5, 37, 500):
        found = ds.search("v", far, 20, f"x < {limit}", exact=False, nprobe=1)
        assert found.num_rows == min(limit, 20)
    assert ds.search("v", far, 20, "x < 0").num_rows == 0
    assert ds.search("v", far, 20, "x < 37", exact=False, nprobe=1)["_anchor"].to_pylist() == (
        ds.search("v", far, 20, "x < 37", exact=True)["_anchor"].to_pylist()
    )


def test_another_metric_than_the_index_is_compared_exactly() -> None:
    ds = make(schema("cosine"))
    vectors = clustered(2_000)
    ds.append(rows_of(vectors))
    ds.index.build("v", cells=8)
    for metric in METRICS:
        mine = ds.search("v", vectors[3], 5, metric=metric, exact=False)
        best = ds.search("v", vectors[3], 5, metric=metric, exact=True)
        assert mine["_score"].to_numpy()[0] == pytest.approx(best["_score"].to_numpy()[0], 1e-4)
        if metric != "cosine":
            assert pairs(mine) == pairs(best)


def test_iter_vector_through_an_index() -> None:
    ds = make(schema())
    vectors = clustered(2_000)
    ds.append(rows_of(vectors))
    ds.index.build("v", cells=8)
    batches = list(
        ds.iter_vector(
            "v", vectors[11], 5, batch_size=2, where_eq=("x", 1), nprobe=8, fields=["x"],
            rerank_mode="exact", as_numpy=True,
        )
    )  # fmt: skip
    assert [len(b["_score"]) for b in batches] == [2, 2, 1]
    assert batches[0]["_time_anchors"][0] == 33
    assert all((np.array(b["x"]) == 1).all() for b in batches)
    with pytest.raises(vd.InvalidInputError, match="rerank_mode"):
        list(ds.iter_vector("v", vectors[11], 5, rerank_mode="maybe"))


def test_drop_and_rebuild() -> None:
    ds = make(schema())
    vectors = clustered(1_500)
    ds.append(rows_of(vectors))
    first = ds.index.build("v", cells=16, seed=3)
    kept = ds.branch("kept")
    again = ds.index.build("v", cells=16, seed=3)
    assert first == again
    manifest = ds.current_manifest()
    assert ds.index.build("v") == first
    assert ds.current_manifest() == manifest
    assert ds.index.build("v", "flat").cells == 1
    ds.index.drop("v")
    assert ds.index.info() == []
    assert ds.content_id == kept.content_id
    assert kept.index.info("v") == [first]
    with pytest.raises(vd.NotFoundError):
        ds.index.drop("v")


def test_what_is_gone_costs_speed_and_not_answers() -> None:
    ds = make(schema())
    vectors = clustered(3_000)
    ds.append(rows_of(vectors))
    ds.index.build("v", cells=16)
    assert vd.connect(ds.backend).verify().ok
    store = open_backend(ds.backend).objects
    one = sorted(_segments(ds))[0]
    store.delete(one)
    fresh = _cold(ds)
    assert fresh.index.info("v")[0].indexed < 3_000
    assert_complete(fresh, vectors[:3])
    assert vd.connect(ds.backend).verify().ok
    root = from_text(ds._index_of("v") or "")
    store.delete(root)
    fresh = _cold(ds)
    assert fresh.search("v", vectors[4], 1)["_anchor"].to_pylist() == [12]
    fresh.append(rows_of(clustered(10, seed=3), 3_000))
    assert fresh.index.build("v", cells=16).indexed > 2_000


def _cold(ds: vd.Dataset) -> vd.Dataset:
    """Return a handle that has nothing cached."""
    assert ds.name is not None
    return vd.Dataset.open_ref(ds.name, CountingBackend(open_backend(ds.backend)))


def test_a_damaged_segment_is_an_error(tmp_path: Any) -> None:
    ds = vd.Dataset.create("main", schema(), backend=tmp_path)
    vectors = clustered(3_000)
    ds.append(rows_of(vectors))
    ds.index.build("v", cells=4)
    largest = max(tmp_path.glob("objects/*/*"), key=lambda p: p.stat().st_size * _is_segment(p))
    whole = bytearray(largest.read_bytes())
    for at in range(64, len(whole) - 5_000, 997):
        whole[at] ^= 1
    largest.chmod(0o644)
    largest.write_bytes(whole)
    fresh = vd.Dataset.open_ref("main", CountingBackend(open_backend(tmp_path)))
    with pytest.raises(vd.IntegrityError):
        fresh.search("v", vectors[:5], 5, exact=False, nprobe=4)
    report = vd.connect(CountingBackend(open_backend(tmp_path))).verify()
    assert [damage.field for damage in report.damage] == ["v"]


def _is_segment(path: Any) -> bool:
    return bool(path.read_bytes()[10] == Kind.INDEX_SEGMENT)


def test_nothing_of_an_index_is_garbage() -> None:
    url = fresh_url()
    spatial = vd.train_and_publish_ivf_centroids(url, clustered(500), DIM, 8, 2, 1)
    codec = vd.publish_rabitq_compressor(url, DIM, 5, 4)
    vd.publish_codec(url, "sq8", DIM)
    own = schema(spatial_index=spatial, compressor=codec, rerank=True)
    ds = vd.Dataset.create("main", own, backend=url)
    ds.append(rows_of(clustered(2_000)))
    ds.add_embedding_layer("coded", "v", DIM, compressor="rabitq-2", samples=[(3, clustered(1)[0])])
    garbage = {one.object for one in vd.connect(url).gc().garbage}
    kinds = {_cold(ds)._space.cache.open(from_text(a), None).kind for a in garbage}
    # The published codecs that no field names: sq8, and rabitq, which only says what codes to make.
    assert kinds == {Kind.CODEC}
    assert vd.connect(url).verify().ok


def test_queries_read_what_they_touch() -> None:
    """An index is opened by page: a query does not read the vectors of all records."""
    backend = CountingBackend(open_backend(fresh_url()))
    ds = vd.Dataset.create("main", schema(), backend=backend)
    vectors = clustered(6_000)
    ds.append(rows_of(vectors))
    ds.index.build("v", cells=32)
    fresh = CountingBackend(backend.inner)
    cold = vd.Dataset.open_ref("main", fresh)
    cold.search("v", vectors[9], 5, exact=False)
    fragments = len(chunk_groups(ds._view.track("v")))
    opened = fresh.tally.calls["objects.open"]
    assert opened < 60 + 2 * fragments
    fresh.reset()
    cold.search("v", vectors[9], 5, exact=False)
    assert not fresh.tally.opened


@settings(max_examples=15)
@given(data=st.data())
def test_any_history_is_searched_right(data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 5)))
    ds = make(schema(data.draw(st.sampled_from(METRICS))))
    ds.append(rows_of(clustered(900, seed=11)))
    ds.index.build("v", data.draw(st.sampled_from(["ivf", "flat"])), cells=6)
    counter = itertools.count(900, 800)
    for _ in range(data.draw(st.integers(1, 5))):
        match data.draw(st.sampled_from(["append", "insert", "update", "delete", "null", "build"])):
            case "append":
                first = next(counter)
                ds.append(rows_of(clustered(800, seed=first), first))
            case "insert":
                anchors = np.unique(generator.integers(0, 900, 9) * 3 + 1)
                anchors = np.array([a for a in anchors.tolist() if a not in ds], np.uint64)
                if len(anchors):
                    ds.append({"_anchor": anchors, "v": clustered(len(anchors), seed=5)})
            case "update":
                alive = ds.scan([]).to_arrow()["_anchor"].to_numpy()
                chosen = generator.choice(alive, 5, replace=False)
                ds.update(np.sort(chosen), {"v": clustered(5, seed=6)})
            case "delete":
                alive = ds.scan([]).to_arrow()["_anchor"].to_numpy()
                ds.delete(np.sort(generator.choice(alive, 40, replace=False)))
            case "null":
                alive = ds.scan([]).to_arrow()["_anchor"].to_numpy()
                ds.update(np.sort(generator.choice(alive, 3, replace=False)), {"v": [None] * 3})
            case "build":
                ds.index.build("v")
    assert_complete(ds, clustered(4, seed=7))
    assert_complete(ds, clustered(2, seed=7), "x < 3")


BAD: list[tuple[str, Any]] = [
    ("nan", lambda ds: ds.search("v", np.full(DIM, np.nan), 3)),
    ("infinity", lambda ds: ds.search("v", np.full(DIM, np.inf), 3)),
    ("dimension", lambda ds: ds.search("v", np.ones(DIM + 1), 3)),
    ("k zero", lambda ds: ds.search("v", np.ones(DIM), 0)),
    ("k text", lambda ds: ds.search("v", np.ones(DIM), "3")),
    ("nprobe", lambda ds: ds.search("v", np.ones(DIM), 3, nprobe=0)),
    ("rerank", lambda ds: ds.search("v", np.ones(DIM), 3, rerank=-1)),
    ("metric", lambda ds: ds.search("v", np.ones(DIM), 3, metric="hamming")),
    ("field", lambda ds: ds.index.build("x")),
    ("kind", lambda ds: ds.index.build("v", "hnsw")),
    ("cells", lambda ds: ds.index.build("v", cells=0)),
    ("codec", lambda ds: ds.index.build("v", compressor="sq8")),
    ("unknown codec", lambda ds: ds.index.build("v", compressor=b"\x1e" + bytes(32))),
    ("unknown centroids", lambda ds: ds.index.build("v", spatial_index=b"\x1e" + bytes(32))),
    ("not an address", lambda ds: ds.index.build("v", spatial_index=b"x")),
    ("iterations", lambda ds: ds.index.build("v", iterations=-1)),
    ("seed", lambda ds: ds.index.build("v", seed=-1)),
    ("no index", lambda ds: ds.index.evaluate(np.ones((1, DIM)), 3)),
]


@pytest.mark.parametrize("call", [pytest.param(c, id=n) for n, c in BAD])
def test_bad_arguments_are_refused_and_change_nothing(call: Any) -> None:
    ds = make(schema())
    ds.append(rows_of(clustered(30)))
    manifest = ds.current_manifest()
    with pytest.raises((vd.InvalidInputError, vd.NotFoundError)):
        call(ds)
    assert ds.refresh().current_manifest() == manifest


def test_centroids_of_another_dimension_or_metric_are_refused() -> None:
    url = fresh_url()
    other = vd.train_and_publish_ivf_centroids(url, clustered(100, 8), 8, 4, 2, 1)
    plain = vd.train_and_publish_ivf_centroids(url, clustered(100), DIM, 4, 2, 1, metric="l2")
    for wrong, why in ((other, "dimension 8"), (plain, "trained for l2")):
        with pytest.raises(vd.SchemaError, match=why):
            vd.Dataset.create("main", schema(spatial_index=wrong), backend=url)
        assert vd.connect(url).list_refs() == []
    codec = vd.publish_codec(url, "sq8", DIM)
    with pytest.raises(vd.SchemaError, match="no spatial index"):
        vd.Dataset.create("main", schema(spatial_index=codec), backend=url)


def test_training_is_deterministic_and_says_what_it_needs() -> None:
    url = fresh_url()
    sample = clustered(700)
    arguments = (url, sample, DIM, 16, 5)
    first = vd.train_and_publish_ivf_centroids(*arguments, 1)
    assert len(first) == 33
    assert vd.train_and_publish_ivf_centroids(*arguments, 1) == first
    assert vd.train_and_publish_ivf_centroids(*arguments, 2) != first
    assert vd.train_and_publish_ivf_centroids(fresh_url(), *arguments[1:], 1) == first
    bad = sample.copy()
    bad[4, 4] = np.nan
    for sample_, k, why in (
        (sample[:7], 8, "7 vectors cannot make 8 cells"),
        (bad, 8, "row 4 of the sample holds NaN"),
        (sample[:, :3], 8, "shape"),
        (sample[:0], 1, "0 vectors"),
        (sample, 0, "positive"),
    ):
        with pytest.raises(vd.InvalidInputError, match=why):
            vd.train_and_publish_ivf_centroids(url, sample_, DIM, k, 2, 1)
    # Equal vectors leave cells empty; they take others and nothing divides by zero.
    same = np.ones((50, DIM), np.float32)
    assert len(vd.train_and_publish_ivf_centroids(url, same, DIM, 8, 3, 1)) == 33


def test_groups_are_chunks_of_the_ladder_and_bounded_in_bytes() -> None:
    for dim, top in ((4, 7), (512, 7), (4_096, 6)):
        schema = vd.Schema().add_embedding("v", dim, rows_per_fragment=16)
        ds = make(schema)
        ds.append({"_anchor": np.arange(3_000), "v": np.zeros((3_000, dim), np.float32)})
        track = ds._view.track("v")
        assert top_rung(track) == top
        groups = chunk_groups(track)
        ladder = rung_ends(np.arange(3_000, dtype=np.uint64), 7)
        assert [g.start for g in groups] == [0, *(g.stop for g in groups[:-1])]
        for group in groups:
            assert group.rung >= MIN_RUNG
            assert group.stop in ladder[group.rung]
            # Larger chunks come first: an append leaves them alone.
        assert [g.rung for g in groups] == sorted((g.rung for g in groups), reverse=True)
        assert 3_000 - groups[-1].stop < 1_100


def test_conditions_that_look_alike_are_told_apart() -> None:
    ds = make(schema().add_scalar_float("f"))
    vectors = clustered(2_000)
    ds.append({**rows_of(vectors), "x": np.arange(2_000), "f": np.arange(2_000) * 1e-9})
    ds.index.build("v", cells=8)
    ends = list(range(12))
    for middle in (700, 701, 702):
        wanted = [*ends[:6], middle, *(1_990 + e for e in ends[:9])]
        found = ds.search("v", vectors[middle], 1, vd.col("x").isin(wanted), exact=False)
        assert found["_anchor"].to_pylist() == [middle * 3]
    for row in (1_000, 1_001):
        found = ds.search("v", vectors[5], 3_000, vd.col("f") > row * 1e-9, exact=False)
        expected = int((np.arange(2_000) * 1e-9 > row * 1e-9).sum())
        assert found.num_rows == expected
