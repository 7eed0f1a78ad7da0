"""Scans, batches, shuffles, takes, indexing, splits, blobs, summaries."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import dreamdb as vd
from tests.dataset.spaces import make, numbered


@pytest.fixture(scope="module")
def holes() -> vd.Dataset:
    """Return 30,000 records of which every seventh is deleted, with nulls and several kinds."""
    count = 30_000
    schema = (
        vd.Schema()
        .add_scalar_int("x")
        .add_scalar_categorical("c")
        .add_scalar_string("s")
        .add_embedding("v", 3)
        .add_image("im", rows_per_fragment=100)
    )
    index = np.arange(count)
    ds = make(schema)
    ds.append(
        {
            "_anchor": index * 3,
            "x": [int(i) if i % 5 else None for i in index],
            "c": [f"class {i % 4}" for i in index],
            "s": [f"sample-{i:08}" for i in index],
            "v": np.stack([index, index + 1, index + 2], axis=1).astype(np.float32),
            "im": [b"%d" % i for i in index],
        }
    )
    ds.delete(index[::7] * 3)
    return ds


def left() -> list[int]:
    return [i for i in range(30_000) if i % 7]


def test_count_and_length(holes: vd.Dataset) -> None:
    assert holes.count() == len(holes) == len(left())
    assert holes.scan().count() == len(left())
    assert holes.scan(limit=5).count() == 5


@pytest.mark.parametrize("size", [1_000, 4_096, 100_000])
def test_batches_have_one_schema_and_exact_sizes(holes: vd.Dataset, size: int) -> None:
    batches = list(holes.iter_arrow_batches(batch_size=size))
    assert {tuple(b.schema.names) for b in batches} == {("_anchor", "x", "c", "s", "v", "im")}
    assert all(b.schema == batches[0].schema == holes.scan().schema for b in batches)
    assert [b.num_rows for b in batches[:-1]] == [size] * (len(batches) - 1)
    assert 0 < batches[-1].num_rows <= size
    table = pa.Table.from_batches(batches)
    assert table["_anchor"].to_pylist() == [3 * i for i in left()]
    assert table["s"].to_pylist() == [f"sample-{i:08}" for i in left()]
    assert table["im"].to_pylist() == [b"%d" % i for i in left()]
    for batch in batches:
        vectors = batch["v"].values.to_numpy().reshape(batch.num_rows, 3)
        np.testing.assert_array_equal(vectors[:, 0] * 3, batch["_anchor"].to_numpy())


def test_column_order_is_as_asked(holes: vd.Dataset) -> None:
    for fields in (["s", "x"], ["x", "s"], ["im"], []):
        for batch in holes.iter_arrow_batches(10_000, fields=fields):
            assert batch.schema.names == ["_anchor", *fields]
        assert holes.scan(fields).to_arrow().column_names == ["_anchor", *fields]


@pytest.mark.parametrize("where", [None, "x > 100 AND c = 'class 1'"])
def test_a_shuffle_is_a_permutation_and_deterministic(holes: vd.Dataset, where: Any) -> None:
    def run(seed: int, size: int = 512) -> list[int]:
        out = []
        batches = list(holes.iter_arrow_batches(size, ["s"], shuffle_seed=seed, where=where))
        assert [b.num_rows for b in batches[:-1]] == [size] * (len(batches) - 1)
        assert len({b.schema.to_string() for b in batches}) == 1
        for batch in batches:
            anchors = batch["_anchor"].to_pylist()
            assert batch["s"].to_pylist() == [f"sample-{a // 3:08}" for a in anchors]
            out += anchors
        return out

    plain = holes.scan([], where=where).to_arrow()["_anchor"].to_pylist()
    first = run(1)
    assert sorted(first) == plain
    assert first != plain
    assert run(1) == first
    assert sorted(run(2)) == plain
    assert run(2) != first


def test_a_shuffle_mixes_the_whole_dataset(holes: vd.Dataset) -> None:
    batch = next(holes.iter_arrow_batches(1_024, ["x"], shuffle_seed=0))
    anchors = np.sort(batch["_anchor"].to_numpy())
    # 1,024 of 25,714 drawn at random reach both ends.
    assert anchors[0] < 9_000
    assert anchors[-1] > 81_000


def test_a_stream_is_the_same_as_the_batches(holes: vd.Dataset) -> None:
    async def collect(**options: Any) -> list[pa.RecordBatch]:
        return [batch async for batch in holes.iter_stream(5_000, ["x", "c"], **options)]

    for options in ({}, {"shuffle_seed": 3}, {"where": "x < 50"}, {"categoricals": "dictionary"}):
        want = list(holes.iter_arrow_batches(5_000, ["x", "c"], **options))
        got = asyncio.run(collect(**options))
        assert [b.to_pylist() for b in got] == [b.to_pylist() for b in want]

    async def stop_early() -> int:
        async for batch in holes.iter_stream(10):
            return batch.num_rows
        return 0

    assert asyncio.run(stop_early()) == 10


def test_dictionaries_of_batches(holes: vd.Dataset) -> None:
    batches = list(holes.iter_all_batches(4_000, start_ns=3_000, end_ns=60_000))
    index = [i for i in left() if 1_000 <= i < 20_000]
    anchors = np.concatenate([b["_time_anchors"] for b in batches])
    assert anchors.dtype == np.uint64
    assert anchors.tolist() == [3 * i for i in index]
    assert [x for b in batches for x in b["x"]] == [i if i % 5 else None for i in index]
    assert np.concatenate([b["v"] for b in batches]).shape == (len(index), 3)
    assert [set(b) for b in holes.iter_all_batches(50_000, ["s"])] == [{"_time_anchors", "s"}]
    assert list(holes.iter_all_batches(start_ns=90_000)) == []
    assert list(holes.iter_all_batches(start_ns=50, end_ns=10)) == []


def test_scan_options(holes: vd.Dataset) -> None:
    everything = holes.scan(["x"]).to_arrow()
    assert holes.scan(["x"], limit=10).to_arrow() == everything.slice(0, 10)
    assert holes.scan(["x"], limit=0).to_arrow().num_rows == 0
    assert holes.scan(["x"], limit=10**9).to_arrow() == everything
    down = holes.scan(["x"], order="descending").to_arrow()
    assert down["_anchor"].to_pylist() == everything["_anchor"].to_pylist()[::-1]
    assert down["x"].to_pylist() == everything["x"].to_pylist()[::-1]
    last = holes.scan(["x"], order="descending", limit=3, where="x < 1000").to_arrow()
    assert last["x"].to_pylist() == [999, 998, 997][: last.num_rows]
    part = holes.scan([], start_ns=4, end_ns=30).to_arrow()["_anchor"].to_pylist()
    assert part == [3 * i for i in range(2, 10) if i % 7]
    some = holes.scan(["s"], anchors=[30, 3, 3]).to_arrow()
    assert some["_anchor"].to_pylist() == [3, 30]
    assert holes.scan([], anchors=[3, 30], where="x > 5").count() == 0
    assert holes.scan([], anchors=[3, 30, 33], where="x > 5").count() == 1
    assert holes.scan([], start_ns=0, end_ns=1 << 63).count() == holes.count()
    assert holes.scan([], start_ns=(1 << 64) - 1).count() == 0


def test_categoricals_are_one_choice_per_stream(holes: vd.Dataset) -> None:
    strings = holes.scan(["c"]).to_arrow()
    assert strings.schema.field("c").type == pa.string()
    table = holes.scan(["c"], categoricals="dictionary").to_arrow()
    assert table.schema.field("c").type == pa.dictionary(pa.int32(), pa.string())
    assert table["c"].cast(pa.string()).to_pylist() == strings["c"].to_pylist()
    for options in ({}, {"shuffle_seed": 1}, {"where": "x > 3"}):
        batches = holes.iter_arrow_batches(999, ["c"], categoricals="dictionary", **options)
        assert {b.schema.field("c").type for b in batches} == {
            pa.dictionary(pa.int32(), pa.string())
        }


def test_scans_are_lazy_arrow_streams(holes: vd.Dataset) -> None:
    scan = holes.scan(["x", "s"], where="x < 100")
    want = scan.to_arrow()
    assert pa.table(scan) == want
    assert pl.DataFrame(scan).height == want.num_rows
    assert scan.to_reader().read_all() == want
    assert scan.to_polars()["x"].to_list() == want["x"].to_pylist()
    assert scan.to_pandas()["s"].tolist() == want["s"].to_pylist()
    assert pa.table(holes).num_rows == holes.count()
    assert sum(b.num_rows for b in scan) == scan.count() == want.num_rows
    assert "where" in scan.explain()
    assert "returned" in scan.explain(analyze=True)
    assert "x" in repr(scan)


def test_take(holes: vd.Dataset) -> None:
    index = np.random.default_rng(0).permutation(left())[:500]
    table = holes.take(index * 3, ["s", "v"])
    assert table["_anchor"].to_pylist() == (index * 3).tolist()
    assert table["s"].to_pylist() == [f"sample-{i:08}" for i in index]
    np.testing.assert_array_equal(
        table["v"].combine_chunks().values.to_numpy().reshape(-1, 3)[:, 0], index
    )
    assert holes.take([3, 3, 3], ["x"])["x"].to_pylist() == [1, 1, 1]
    assert holes.take([]).num_rows == holes.take(positions=[]).num_rows == 0
    assert holes.take(positions=[0, -1, 5])["_anchor"].to_pylist() == [3, 89_997, 18]


def test_indexing(holes: vd.Dataset) -> None:
    record = holes[3]
    assert (record["_anchor"], record["x"], record["c"], record["im"]) == (12, 4, "class 0", b"4")
    assert record["v"].tolist() == [4.0, 5.0, 6.0]
    assert holes[-1]["_anchor"] == 89_997
    assert holes[np.int64(3)]["_anchor"] == 12
    assert holes[10:13]["_anchor"].to_pylist() == [3 * i for i in left()[10:13]]
    assert holes[-3:]["_anchor"].to_pylist() == [3 * i for i in left()[-3:]]
    assert holes[20:10:-5]["_anchor"].to_pylist() == [3 * left()[20], 3 * left()[15]]
    assert holes[30_000:].num_rows == 0
    assert holes[[5, 1, -1]]["_anchor"].to_pylist() == [18, 6, 89_997]
    assert holes[np.array([2])]["_anchor"].to_pylist() == [9]
    assert holes[[]].num_rows == 0
    assert holes["x"].to_pylist()[:4] == [1, 2, 3, 4]
    assert [r["_anchor"] for r in holes.__getitems__([1, 0])] == [6, 3]
    assert 3 in holes
    assert 0 not in holes
    assert 4 not in holes
    for outside in (len(holes), -len(holes) - 1):
        with pytest.raises(IndexError):
            holes[outside]


def test_iteration(holes: vd.Dataset) -> None:
    assert [r["_anchor"] for r in holes] == [3 * i for i in left()]


def test_blobs(holes: vd.Dataset) -> None:
    with holes.open_blob(300, "im") as file:
        assert file.read() == b"100"
        assert file.seek(1) == 1
        assert file.read() == b"00"
        assert file.seekable()
        assert isinstance(file, io.IOBase)


def test_query_scalar(holes: vd.Dataset) -> None:
    live = {3 * i: (i if i % 5 else None) for i in left()}
    oracle = {
        "==": lambda v: v == 501, "!=": lambda v: v != 501, "<": lambda v: v < 501,
        "<=": lambda v: v <= 501, ">": lambda v: v > 501, ">=": lambda v: v >= 501,
    }  # fmt: skip
    for operator, test in oracle.items():
        want = [a for a, v in live.items() if v is not None and test(v)]
        assert holes.query_scalar("x", operator, 501) == want
    some = [1, 2, 501, 10**9]
    assert holes.query_scalar("x", "in", some) == [a for a, v in live.items() if v in some]
    assert holes.query_scalar("x", "not in", some) == [
        a for a, v in live.items() if v is not None and v not in some
    ]
    assert holes.query_scalar("x", "is null") == [a for a, v in live.items() if v is None]
    assert len(holes.query_scalar("x", "is not null")) == sum(v is not None for v in live.values())
    times = make(
        vd.Schema().add_scalar_timestamp("t"), [{"_anchor": i, "t": i * 10} for i in range(9)]
    )
    for moment in (np.datetime64(50, "ns"), times[5]["t"]):
        assert times.query_scalar("t", ">", moment) == [6, 7, 8]
        assert times.query_scalar("t", "in", [moment]) == [5]
    assert holes.query_scalar("c", "=", "class 3") == [a for a in live if a // 3 % 4 == 3]


def test_distinct_values(holes: vd.Dataset) -> None:
    assert holes.distinct_values("c") == [f"class {i}" for i in range(4)]
    assert holes.distinct_values("x") == [i for i in left() if i % 5]
    ds = make(vd.Schema().add_scalar_float("f").add_scalar_bool("b"))
    for values in ([float("nan"), 2.0, None], [1.0, float("nan"), -0.0]):
        ds.append_many([{"f": v, "b": v == v} for v in values])
    found = ds.distinct_values("f")
    assert found[:3] == [0.0, 1.0, 2.0]
    assert [f != f for f in found] == [False] * 3 + [True]
    assert ds.distinct_values("b") == [False, True]
    assert len(ds.query_scalar("f", "in", [0.0])) == 1


def test_stats(holes: vd.Dataset) -> None:
    found = {summary.name: summary for summary in holes.stats()}
    assert list(found) == ["x", "c", "s", "v", "im"]
    assert (found["x"].rows, found["x"].nulls) == (30_000, 6_000)
    assert (found["x"].low, found["x"].high) == (1, 29_999)
    assert found["s"].low <= "sample-00000000"
    assert found["s"].high >= "sample-00029999"
    assert found["v"].nbytes >= 30_000 * 12
    assert found["im"].fragments > 100


def test_splits_are_a_partition_and_stable() -> None:
    ds = numbered(4_000)
    ratios = {"train": 0.8, "val": 0.15, "test": 0.05}
    first = ds.splits(ratios, seed=3)
    assert list(first) == list(ratios)
    together = np.sort(np.concatenate(list(first.values())))
    np.testing.assert_array_equal(together, np.arange(4_000) * 10)
    for name, share in ratios.items():
        assert abs(len(first[name]) / 4_000 - share) < 0.03
        assert (np.diff(first[name].astype(np.int64)) > 0).all()
    ds.append_many([{"_anchor": 5 + 10 * i, "x": i} for i in range(500)])
    ds.delete([0, 10, 20])
    second = ds.splits(ratios, seed=3)
    for name in ratios:
        kept = set(first[name].tolist()) - {0, 10, 20}
        assert kept <= set(second[name].tolist())
    other = ds.splits(ratios, seed=4)
    assert set(other["test"].tolist()) != set(second["test"].tolist())
    assert {k: len(v) for k, v in ds.splits({"a": 1.0, "b": 0.0}).items()} == {"a": 4_497, "b": 0}


@pytest.mark.parametrize("field", ["patient", "t", "f"])
def test_splits_by_a_field_keep_groups_together(field: str) -> None:
    schema = (
        vd.Schema().add_scalar_string("patient").add_scalar_timestamp("t").add_scalar_float("f")
    )
    ds = make(schema)
    ds.append_many(
        [{"patient": f"p{i % 50}", "t": i % 50, "f": i % 50 + 0.5} for i in range(1_000)]
    )
    parts = ds.splits({"a": 0.5, "b": 0.5}, by=field, seed=1)
    groups = [
        set(map(str, ds.take(p, [field])[field].cast(pa.string()).to_pylist()))
        for p in parts.values()
    ]
    assert not groups[0] & groups[1]
    assert len(groups[0] | groups[1]) == 50
    assert min(map(len, groups)) > 10


def test_reading_nothing() -> None:
    ds = numbered(0)
    assert ds.scan().to_arrow().num_rows == 0
    assert list(ds.iter_arrow_batches()) == list(ds.iter_arrow_batches(shuffle_seed=1)) == []
    assert list(ds) == []
    assert ds["x"].to_pylist() == []
    assert ds.distinct_values("x") == []
    assert ds.query_scalar("x", ">", 1) == []
    assert ds.scan(where="x > 1", order="descending").count() == 0
    assert {k: len(v) for k, v in ds.splits({"a": 1.0}).items()} == {"a": 0}
    assert ds.stats()[0].rows == 0
    assert 0 not in ds
    assert ds[:].num_rows == 0
    with pytest.raises(IndexError):
        ds[0]


@pytest.mark.parametrize("size", [1, 7, 64, 1_000])
def test_null_vectors_in_batches_of_any_size(size: int) -> None:
    generator = np.random.default_rng(4)
    values = [
        None if generator.random() < 0.3 else generator.normal(size=3).astype(np.float32)
        for _ in range(600)
    ]
    tensors = [None if v is None else v.reshape(3, 1) for v in values]
    schema = (
        vd.Schema().add_embedding("v", 3, rows_per_fragment=64).add_tensor("m", "float32", (3, 1))
    )
    ds = make(
        schema,
        [
            {"_anchor": i, "v": v, "m": m}
            for i, (v, m) in enumerate(zip(values, tensors, strict=True))
        ],
    )
    dead = set(range(0, 600, 11))
    ds.delete(sorted(dead))
    left_over = [None if v is None else v.tolist() for i, v in enumerate(values) if i not in dead]
    for options in ({}, {"where": "_anchor >= 0"}):
        got = []
        for batch in ds.iter_arrow_batches(size, **options):
            assert batch["v"].offset == 0
            assert len(batch["v"].values) == batch.num_rows * 3
            got += batch["v"].to_pylist()
        assert got == left_over
    shuffled = {}
    for batch in ds.iter_arrow_batches(size, shuffle_seed=2):
        shuffled |= dict(zip(batch["_anchor"].to_pylist(), batch["v"].to_pylist(), strict=True))
        assert len(batch["v"].values) == batch.num_rows * 3
    assert [shuffled[a] for a in sorted(shuffled)] == left_over
    assert [None if r["m"] is None else r["m"][:, 0].tolist() for r in ds] == left_over
