"""Fields stored as codes, and changing how a field is stored."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch.utils.data

import dreamdb as vd
from dreamdb.store import open_backend
from dreamdb.testing import CountingBackend
from dreamdb.torch import DreamDBDataset
from dreamdb.vectors import CODECS, Codec, decode_rows, encode_rows, engine, seed_bytes
from tests.dataset.spaces import fresh_url, make, stored
from tests.format.independent_reader import IndependentReader

DIM = 20
LOSSY = CODECS[1:]


def vectors_of(rows: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)


def codec_of(name: str, dim: int = DIM) -> Codec:
    return Codec(name, dim, seed_bytes(0) if name.startswith("rabitq") else b"")


def expected(name: str, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return decode_rows(codec_of(name), encode_rows(codec_of(name), vectors))


def column(ds: vd.Dataset, name: str = "v") -> npt.NDArray[np.float32]:
    return np.array(ds[name].to_pylist(), np.float32)


def coded(name: str, **options: Any) -> vd.Schema:
    own = vd.Schema().add_embedding("v", DIM, compressor=name, rows_per_fragment=64, **options)
    return own.add_scalar_int("x")


def rows_of(vectors: npt.NDArray[np.float32], first: int = 0) -> dict[str, Any]:
    at = np.arange(first, first + len(vectors))
    return {"_anchor": at * 2, "v": vectors, "x": at}


@pytest.mark.parametrize("name", LOSSY)
def test_every_read_gives_the_reconstruction(name: str) -> None:
    ds = make(coded(name))
    vectors = vectors_of(700)
    ds.append(rows_of(vectors))
    want = expected(name, vectors)
    assert str(ds.schema["v"].type) == f"embedding[{DIM}] as {name}"
    assert ds.schema.to_arrow().field("v").type == pa.list_(pa.float32(), DIM)
    assert f"as {name}" in repr(ds)
    assert "reconstructed from codes" in ds.scan(["v"]).explain()
    assert (column(ds) == want).all()
    assert (np.array(ds.take(positions=[5, 699, 5])["v"].to_pylist()) == want[[5, 699, 5]]).all()
    assert (ds[7]["v"] == want[7]).all()
    assert (ds[-1]["v"] == want[-1]).all()
    table = ds.scan(where="x >= 100 and x < 300").to_arrow()
    assert (np.array(table["v"].to_pylist()) == want[100:300]).all()
    shuffled = pa.Table.from_batches(ds.iter_arrow_batches(64, ["v", "x"], shuffle_seed=3))
    order = shuffled["x"].to_numpy()
    assert sorted(order) == list(range(700))
    assert (np.array(shuffled["v"].to_pylist()) == want[order]).all()
    for batch in ds.iter_all_batches(300):
        assert (batch["v"] == want[batch["x"]]).all()
    stream = DreamDBDataset(dataset=ds, fields=["v", "x"], batch_size=128, shuffle_seed=1)
    for batch in torch.utils.data.DataLoader(stream, batch_size=None):
        assert (np.asarray(batch["v"]) == want[np.asarray(batch["x"])]).all()
    assert ds.stats()[0].nbytes < 4 * DIM * 700 or name.startswith("rabitq")


@pytest.mark.parametrize("name", LOSSY)
def test_search_scores_what_is_stored(name: str) -> None:
    ds = make(coded(name))
    vectors = vectors_of(300)
    ds.append(rows_of(vectors))
    want = expected(name, vectors).astype(np.float64)
    found = ds.search("v", vectors[9], 4, metric="dot")
    scores = want @ vectors[9].astype(np.float64)
    np.testing.assert_allclose(found["_score"].to_numpy(), np.sort(scores)[::-1][:4], rtol=1e-4)


def test_a_vector_is_encoded_once_whatever_happens_to_it() -> None:
    """Codes are cut, merged and moved as bytes: any history gives the same content."""
    vectors = vectors_of(900)
    ids = []
    for steps in ([900], [1, 2, 300, 597], [899, 1]):
        ds = make(coded("rabitq-2"))
        at = 0
        for step in steps:
            ds.append(rows_of(vectors[at : at + step], at))
            at += step
        ids.append(ds.content_id)
    late = make(coded("rabitq-2"))
    late.append(rows_of(vectors[400:], 400))
    late.append(rows_of(vectors[:400], 0))
    late.update([10], {"v": vectors[6:7]})
    late.update([10], {"v": vectors[5:6]})
    assert {late.content_id, *ids} == {ids[0]}
    assert vd.connect(late.backend).verify().ok


def test_nulls_layers_updates_and_upserts() -> None:
    ds = make(coded("sq8"))
    vectors = vectors_of(50)
    ds.append({"_anchor": np.arange(50), "v": [None, *vectors[1:]], "x": np.arange(50)})
    want = expected("sq8", vectors)
    values = ds["v"].to_pylist()
    assert values[0] is None
    assert (np.array(values[1:]) == want[1:]).all()
    ds.update([0, 3], {"v": [vectors[7], None]})
    assert ds[0]["v"].tolist() == want[7].tolist()
    assert ds[3]["v"] is None
    ds.upsert({"_anchor": [3], "v": vectors[3:4]})
    assert ds[3]["v"].tolist() == want[3].tolist()
    assert ds.scan(where=vd.col("v").is_null()).count() == 0
    ds.add_embedding_layer("w", "v", DIM, compressor="rabitq-4", samples=[(4, vectors[4])])
    assert np.array(ds["w"].to_pylist()[4], np.float32).tolist() == (
        expected("rabitq-4", vectors)[4].tolist()
    )
    # Later layers keep how the field is stored.
    ds.add_embedding_layer("w", "v", DIM, samples=[(5, vectors[5])], mode="update")
    assert ds.schema["w"].type.codec == codec_of("rabitq-4").text
    ds.add_fields(vd.Schema().add_embedding("u", 3, compressor="float16"))
    assert ds["u"].null_count == 50
    other = vd.Dataset.open_ref("main", ds.backend)
    branch = other.branch("side")
    branch.update([1], {"v": vectors[2:3]})
    compared = vd.compare_refs(["main", "side"], ["v"], ds.backend)
    assert np.array(compared.column("v@side").to_pylist()[1]).tolist() == want[2].tolist()


def test_published_codecs() -> None:
    url = fresh_url()
    named = vd.publish_codec(url, "rabitq-4", DIM, 9)
    assert named == vd.publish_rabitq_compressor(url, DIM, 9, 4)
    assert len(named) == 33
    assert named != vd.publish_rabitq_compressor(url, DIM, 8, 4)
    ds = vd.Dataset.create("main", coded(named), backend=url)  # type: ignore[arg-type]
    vectors = vectors_of(30)
    ds.append(rows_of(vectors))
    own = Codec("rabitq-4", DIM, seed_bytes(9))
    assert (column(ds) == decode_rows(own, encode_rows(own, vectors))).all()
    assert vd.Dataset.open("main", coded(named), backend=url).count() == 30  # type: ignore[arg-type]
    with pytest.raises(vd.SchemaError, match="another schema"):
        vd.Dataset.open("main", coded("sq8"), backend=url)
    exact = vd.publish_codec(url, "float32", DIM)
    plain = vd.Dataset.create("plain", coded(exact), backend=url)  # type: ignore[arg-type]
    assert plain.schema["v"].type.codec is None


def test_reencode_there_and_back() -> None:
    ds = make(vd.Schema().add_embedding("v", DIM, rows_per_fragment=64).add_scalar_int("x"))
    vectors = vectors_of(400)
    ds.append(rows_of(vectors))
    ds.delete([6])
    exact = ds.content_id
    snapshot = ds.snapshot("exact")
    branch = ds.branch("coded")
    branch.reencode("v", "rabitq-8", message="eight bits")
    alive = np.delete(np.arange(400), 3)
    assert (column(branch) == expected("rabitq-8", vectors)[alive]).all()
    assert (column(ds) == vectors[alive]).all()
    assert branch.log()[0].operation["name"] == "reencode"
    straight = make(coded("rabitq-8"))
    straight.append(rows_of(vectors))
    straight.delete([6])
    assert [f.type for f in straight._view.content.schema.fields] == [
        f.type for f in branch._view.content.schema.fields
    ]
    assert straight._view.content.tracks["v"] == branch._view.content.tracks["v"]
    branch.reencode("v", "sq8")
    once = expected("rabitq-8", vectors)
    assert (column(branch) == expected("sq8", once)[alive]).all()
    with pytest.raises(vd.InvalidInputError, match="exact vectors are not there"):
        branch.reencode("v", None)
    with pytest.raises(vd.InvalidInputError, match="exact vectors are not there"):
        branch.reencode("v", "rabitq-4", rerank=True)
    with pytest.raises(vd.InvalidInputError, match="vectors for 1 of 399"):
        branch.reencode("v", None, vectors=[(2, vectors[1])])
    old = vd.Dataset.open_at(snapshot, ds.backend).scan(["v"]).to_arrow()
    branch.reencode("v", None, vectors=old)
    assert (column(branch) == vectors[alive]).all()
    ds.reencode("v", "float32")
    assert ds.content_id == exact
    assert vd.connect(ds.backend).verify().ok


def test_rerank_can_come_and_go() -> None:
    ds = make(vd.Schema().add_embedding("v", DIM, rows_per_fragment=64).add_scalar_int("x"))
    vectors = vectors_of(1_500)
    ds.append(rows_of(vectors))
    exact = ds.content_id
    ds.reencode("v", "rabitq-4", rerank=True)
    assert ds.content_id == exact
    (info,) = ds.index.info()
    assert (info.kind, info.codec, info.indexed > 500) == ("flat", "rabitq-4", True)
    assert (column(ds) == vectors).all()
    ds.index.build("v", cells=8)
    ds.reencode("v", "rabitq-4")
    (info,) = ds.index.info()
    assert (info.kind, info.cells, info.codec, info.indexed > 500) == ("ivf", 8, "rabitq-1", True)
    assert (column(ds) == expected("rabitq-4", vectors)).all()
    found = ds.search("v", vectors[3], 1, exact=False)
    assert found["_anchor"].to_pylist() == [6]
    assert ds.index.evaluate(vectors[:20], 5, nprobe=8).recall > 0.8
    ds.reencode("v", None, vectors=(np.arange(1_500) * 2, vectors))
    assert (column(ds) == vectors).all()
    assert ds.index.info()[0].codec == "rabitq-4"
    assert ds.index.evaluate(vectors[:20], 5, nprobe=8).recall > 0.9
    ds.reencode("v", "sq8")
    assert ds.index.info()[0].codec == "rabitq-1"


def test_reencode_races_with_an_append() -> None:
    ds = make(vd.Schema().add_embedding("v", DIM).add_scalar_int("x"))
    vectors = vectors_of(60)
    ds.append(rows_of(vectors[:40]))
    slow = vd.Dataset.open_ref("main", ds.backend)
    ds.append(rows_of(vectors[40:], 40))
    slow.reencode("v", "sq8")
    assert (column(slow) == expected("sq8", vectors)).all()
    with pytest.raises(vd.ConflictError):
        ds.append(rows_of(vectors_of(1), 99))


BAD: list[tuple[str, Any]] = [
    ("unknown name", lambda ds: ds.reencode("v", "pq")),
    ("unknown address", lambda ds: ds.reencode("v", b"\x1e" + bytes(32))),
    ("no address", lambda ds: ds.reencode("v", b"abc")),
    ("no embedding", lambda ds: ds.reencode("x", "sq8")),
    ("scalar codec with rerank", lambda ds: ds.reencode("v", "sq8", rerank=True)),
    ("too large", lambda ds: ds.reencode("v", "float16")),
    ("rerank text", lambda ds: ds.reencode("v", "rabitq-4", rerank="yes")),
    ("layer", lambda ds: ds.add_embedding_layer("w", None, 3, compressor="sq9", samples=[])),
    ("nan", lambda ds: ds.add_embedding_layer("w", None, 2, compressor="sq8",
                                              samples=[(0, [1.0, np.nan])])),
    ("layer too large", lambda ds: ds.add_embedding_layer("w", None, 1, compressor="float16",
                                                          samples=[(0, [1e5])])),
]  # fmt: skip


@pytest.mark.parametrize("call", [pytest.param(c, id=n) for n, c in BAD])
def test_bad_codecs_are_refused_and_change_nothing(call: Any) -> None:
    ds = make(vd.Schema().add_embedding("v", DIM).add_scalar_int("x"))
    ds.append(rows_of(vectors_of(5) * np.float32(1e6)))
    before = stored(ds.backend)[0]
    with pytest.raises(vd.InvalidInputError):
        call(ds)
    assert stored(ds.backend)[0] == before


def test_another_dimension_or_kind_of_object_is_refused() -> None:
    url = fresh_url()
    other = vd.publish_codec(url, "sq8", DIM + 1)
    with pytest.raises(vd.SchemaError, match=f"dimension {DIM + 1}"):
        vd.Dataset.create("main", coded(other), backend=url)  # type: ignore[arg-type]
    sample = vectors_of(9)
    spatial = vd.train_and_publish_ivf_centroids(url, sample, DIM, 2, 1, 0)
    with pytest.raises(vd.SchemaError, match="no codec"):
        vd.Dataset.create("main", coded(spatial), backend=url)  # type: ignore[arg-type]
    ds = vd.Dataset.create("main", coded("float16"), backend=url)
    with pytest.raises(vd.InvalidInputError, match="row 1: the vector holds 70000"):
        ds.append({"v": np.array([[1.0] * DIM, [70_000.0] * DIM], np.float32)})
    for bad in ("rabitq-3", "", "float64"):
        with pytest.raises(vd.SchemaError):
            vd.publish_codec(url, bad, DIM)
    with pytest.raises(vd.SchemaError):
        vd.publish_codec(url, "sq8", 0)


def test_an_old_reader_refuses_a_content_with_codes() -> None:
    ds = make(coded("sq8"))
    assert b'"format":2' in ds._view.content.encode()
    ds.reencode("v", None, vectors=[])
    assert b'"format":1' in ds._view.content.encode()


def test_reading_embeddings_never_touches_images() -> None:
    """The tutorial's wish: training on vectors reads no image bytes."""
    backend = CountingBackend(open_backend(fresh_url()))
    schema = vd.Schema().add_image("image").add_embedding("v", DIM, compressor="rabitq-4")
    ds = vd.Dataset.create("main", schema, backend=backend)
    images = [bytes([i % 251]) * 5_000 for i in range(600)]
    ds.append({"image": images, "v": vectors_of(600)})
    view = ds._view
    pictures = set(view.track("image").addresses)
    fresh = CountingBackend(backend.inner)
    cold = vd.Dataset.open_ref("main", fresh)
    for _ in cold.iter_arrow_batches(64, ["v"], shuffle_seed=1):
        pass
    stream = DreamDBDataset(dataset=cold, fields=["v"], batch_size=64, shuffle_seed=2)
    assert sum(len(batch["v"]) for batch in stream) == 600
    cold.search("v", vectors_of(1)[0], 3)
    assert not pictures & set(fresh.tally.opened)
    assert sum(fresh.tally.nbytes.values()) < 300_000


@pytest.mark.parametrize("name", LOSSY)
def test_an_independent_reader_reads_the_codes(tmp_path: Any, name: str) -> None:
    ds = vd.Dataset.create("main", coded(name), backend=tmp_path)
    vectors = vectors_of(150)
    ds.append({"_anchor": np.arange(150), "v": [None, *vectors[1:]], "x": np.arange(150)})
    ds.index.build("v", cells=2)
    reader = IndependentReader(tmp_path)
    anchors, columns = reader.rows(reader.manifest_of("main"))
    assert anchors == list(range(150))
    assert columns["v"] == ds["v"].to_pylist()


def test_without_numba_everything_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engine, "_STATE", {"module": None, "work": 0, "missing": False, "pool": None}
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not engine.load_compiled()
    ds = make(coded("rabitq-4"))
    vectors = vectors_of(1_000)
    ds.append(rows_of(vectors))
    assert (column(ds) == expected("rabitq-4", vectors)).all()
    ds.index.build("v", cells=4)
    assert ds.search("v", vectors[5], 1, exact=False)["_anchor"].to_pylist() == [10]
    assert not engine.compiled_ready()
