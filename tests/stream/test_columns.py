"""Batches as numpy arrays hold what a scan returns, for every kind of field."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from dreamdb.errors import IntegrityError, InvalidInputError
from dreamdb.stream import ColumnReader, EpochOrder, StepPlan, step_batches

NUMBERS = itertools.count()


def record(i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    return {
        "_anchor": 7 * i + 2**63 * (i > 150),
        "flag": bool(i % 3),
        "label": i * 1_000_003 - 50,
        "price": i / 7,
        "when": np.datetime64(i * 10**9 + 1, "ns"),
        "vector": rng.normal(size=6).astype(np.float32),
        "grid": rng.integers(0, 255, (2, 3)).astype(np.uint8),
        "half": rng.normal(size=(4,)).astype(np.float16),
        "name": f"n{i % 5}",
        "blob": bytes([i % 256]) * (i % 4),
        "tags": [f"t{k}" for k in range(i % 3)],
    }


SCHEMA = (
    vd.Schema()
    .add_scalar_bool("flag")
    .add_scalar_int("label")
    .add_scalar_float("price")
    .add_scalar_timestamp("when")
    .add_embedding("vector", 6)
    .add_tensor("grid", dtype="uint8", shape=(2, 3))
    .add_tensor("half", dtype="float16", shape=(4,))
    .add_scalar_categorical("name")
    .add_binary("blob")
    .add_list("tags", "string")
)
ARRAYS = ("flag", "label", "price", "when", "vector", "grid", "half")


def make(rows: list[dict[str, Any]]) -> vd.Dataset:
    ds = vd.Dataset.create("x", SCHEMA, backend=f"memory://stream-columns-{next(NUMBERS)}")
    for start in range(0, len(rows), 70):  # several fragments per track
        ds.append_many(rows[start : start + 70])
    return ds


RECORDS = [record(i) for i in range(300)]
FULL = make(RECORDS)


@given(st.lists(st.integers(0, 299), max_size=80))
def test_values_at_any_rows(rows: list[int]) -> None:
    batch = ColumnReader(FULL._view, list(SCHEMA)).read(np.array(rows, np.int64))
    assert batch["_anchor"].dtype == np.uint64
    assert batch["_anchor"].tolist() == [RECORDS[r]["_anchor"] for r in rows]
    for name in ARRAYS:
        wanted = [RECORDS[r][name] for r in rows]
        if name == "when":
            wanted = [int(value.astype(np.int64)) for value in wanted]
        assert batch[name].tolist() == np.array(wanted).tolist(), name
    for name in ("name", "blob", "tags"):
        assert batch[name] == [RECORDS[r][name] for r in rows], name


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("flag", np.bool_, ()),
        ("label", np.int64, ()),
        ("price", np.float64, ()),
        ("when", np.int64, ()),
        ("vector", np.float32, (6,)),
        ("grid", np.uint8, (2, 3)),
        ("half", np.float16, (4,)),
    ],
)
def test_types_and_shapes(name: str, dtype: Any, shape: tuple[int, ...]) -> None:
    for rows in ([], [3], [5, 4, 250]):
        values = ColumnReader(FULL._view, [name]).read(np.array(rows, np.int64))[name]
        assert values.dtype == dtype
        assert values.shape == (len(rows), *shape)
        assert values.flags.writeable


def holes() -> tuple[vd.Dataset, list[dict[str, Any]]]:
    """Return records some of which lack values, one whole fragment of them too."""
    rows = [record(i) for i in range(210)]
    for i, row in enumerate(rows):
        for k, name in enumerate(SCHEMA):
            if i % 11 == k or 70 <= i < 140:
                row[name] = None
    return make(rows), rows


HOLED, HOLED_RECORDS = holes()


@pytest.mark.parametrize("name", ARRAYS)
def test_nulls_raise_zero_or_mask(name: str) -> None:
    rows = np.random.default_rng(1).permutation(210)
    wanted = np.array([HOLED_RECORDS[r][name] is not None for r in rows])
    masked = ColumnReader(HOLED._view, [name], nulls="mask").read(rows)
    assert masked[f"{name}_mask"].tolist() == wanted.tolist()
    assert not masked[name][~wanted].any()
    zeroed = ColumnReader(HOLED._view, [name], nulls="zero").read(rows)
    assert set(zeroed) == {"_anchor", name}
    assert np.array_equal(zeroed[name], masked[name])
    full = ColumnReader(FULL._view, [name]).read(rows)[name]
    assert np.array_equal(masked[name][wanted], full[wanted])
    first = HOLED_RECORDS[rows[int(np.argmin(wanted))]]["_anchor"]
    with pytest.raises(InvalidInputError, match=f"the record {first} has no '{name}'") as caught:
        ColumnReader(HOLED._view, [name]).read(rows)
    assert caught.value.details == {"field": name, "anchor": first}


@pytest.mark.parametrize("name", ["name", "blob", "tags"])
def test_nulls_in_lists_are_none(name: str) -> None:
    found = ColumnReader(HOLED._view, [name]).read(np.arange(210))[name]
    assert found == [row[name] for row in HOLED_RECORDS]


def test_a_mask_is_there_without_nulls_too() -> None:
    batch = ColumnReader(FULL._view, ["label", "name"], nulls="mask").read(np.arange(5))
    assert batch["label_mask"].tolist() == [True] * 5
    assert "name_mask" not in batch


def test_a_mask_never_hides_a_field() -> None:
    schema = vd.Schema().add_scalar_int("x").add_scalar_int("x_mask")
    ds = vd.Dataset.create("x", schema, backend="memory://stream-mask-clash")
    with pytest.raises(InvalidInputError, match="x_mask"):
        ColumnReader(ds._view, ["x", "x_mask"], nulls="mask")
    with pytest.raises(InvalidInputError, match="nulls='none'"):
        ColumnReader(ds._view, ["x"], nulls="none")


@given(size=st.integers(1, 120), seed=st.integers(0, 50))
def test_reading_many_steps_at_once_changes_nothing(size: int, seed: int) -> None:
    order = EpochOrder(FULL._view, seed=seed)
    reader = ColumnReader(FULL._view, ["label"])
    plan = StepPlan(300, size)
    shares = [plan.share(0, step, 0) for step in range(plan.count())]
    found = list(itertools.chain(*step_batches(reader, order, shares)))
    assert [len(b["label"]) for b in found] == [stop - start for start, stop in shares]
    rows = order.rows(np.arange(300))
    for (start, stop), batch in zip(shares, found, strict=True):
        wanted = reader.read(rows[start:stop])
        assert batch["label"].tolist() == wanted["label"].tolist()
        assert batch["_anchor"].tolist() == wanted["_anchor"].tolist()


def test_batches_before_a_failing_one_come_first() -> None:
    order = EpochOrder(HOLED._view)
    reader = ColumnReader(HOLED._view, ["label"])
    # Record 1 lacks its label: with batches of one, exactly one batch is good.
    shares = [(i, i + 1) for i in range(210)]
    found: list[int] = []

    def read(shares: list[tuple[int, int]]) -> None:
        found.clear()
        for block in step_batches(reader, order, shares):
            found.extend(int(batch["_anchor"][0]) for batch in block)

    with pytest.raises(InvalidInputError):
        read(shares)
    assert found == [HOLED_RECORDS[0]["_anchor"]]
    # From behind it, blocks are larger than one batch when the next gap comes.
    with pytest.raises(InvalidInputError):
        read(shares[2:])
    assert found == [row["_anchor"] for row in HOLED_RECORDS[2:12]]


def test_damage_is_an_error_in_every_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3_000, 512)).astype(np.float32)
    schema = vd.Schema().add_embedding("v", 512)
    vd.Dataset.create("x", schema, backend=tmp_path / "good").append({"v": vectors})
    needle = vectors[1_500].tobytes()
    for number, rows in enumerate((np.arange(3_000), rng.permutation(3_000), np.array([1_500]))):
        # A new directory each time: what a process has verified once, it does not read again.
        space = tmp_path / f"copy-{number}"
        shutil.copytree(tmp_path / "good", space)
        good = ColumnReader(vd.Dataset.open_ref("x", space)._view, ["v"])
        assert np.array_equal(good.read(np.arange(100))["v"], vectors[:100])
        space = space.rename(tmp_path / f"damaged-{number}")
        files = [p for p in space.rglob("*") if p.is_file()]
        (damaged,) = [p for p in files if needle in p.read_bytes()]
        data = bytearray(damaged.read_bytes())
        data[data.index(needle) + 100] ^= 1
        damaged.unlink()
        damaged.write_bytes(data)
        reader = ColumnReader(vd.Dataset.open_ref("x", space)._view, ["v"])
        assert np.array_equal(reader.read(np.arange(100))["v"], vectors[:100])
        with pytest.raises(IntegrityError):
            reader.read(rows)
