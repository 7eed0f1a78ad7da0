"""Permutations: LanceDB's calls, every format, pinned, and in workers."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.utils.data

import dreamdb as vd
from dreamdb.errors import FieldNotFoundError, InvalidInputError
from dreamdb.torch import Permutation
from tests.training.data import space

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def _make(where: Any = None, rows: int = 1000, nulls: bool = False) -> vd.Dataset:
    schema = (
        vd.Schema()
        .add_scalar_int("id")
        .add_scalar_float("price")
        .add_scalar_bool("flag")
        .add_text("prompt")
        .add_scalar_timestamp("when")
        .add_embedding("vector", 3)
        .add_tensor("grid", dtype="uint8", shape=(2, 2))
    )
    ds = vd.Dataset.create("test_table", schema, backend=where or space())
    ds.append_many([_row(i) for i in range(rows)])
    if nulls:
        ds.append_many([{"id": rows}])
    return ds


def _row(i: int) -> dict[str, Any]:
    return {
        "id": i,
        "price": i / 4,
        "flag": i % 2 == 0,
        "prompt": f"prompt {i}",
        "when": np.datetime64(i, "ns"),
        "vector": np.arange(3, dtype=np.float32) + i,
        "grid": np.full((2, 2), i % 256, np.uint8),
    }


# ---------------------------------------------------------------- the documentation's snippets


def test_a_dataset_in_a_data_loader() -> None:
    ds = vd.Dataset.create("test_table", data=pa.table({"a": range(1000)}), backend=space())
    loader = torch.utils.data.DataLoader(ds, batch_size=1024, shuffle=True)
    (batch,) = loader
    assert sorted(batch["a"].tolist()) == list(range(1000))


def test_an_identity_permutation_in_a_data_loader() -> None:
    ds = vd.Dataset.create("test_table", data=pa.table({"a": range(10)}), backend=space())
    permutation = Permutation.identity(ds)
    batches = list(torch.utils.data.DataLoader(permutation))
    assert [batch["a"].tolist() for batch in batches] == [[i] for i in range(10)]


def test_torch_col_without_a_copy_by_the_collation() -> None:
    ds = vd.Dataset.create("t", data=pa.table({"a": range(6), "b": range(6, 12)}), backend=space())
    permutation = Permutation.identity(ds).with_format("torch_col")
    loader = torch.utils.data.DataLoader(permutation, batch_size=4, collate_fn=lambda x: x)
    shapes = [tuple(batch.shape) for batch in loader]
    assert shapes == [(2, 4), (2, 2)]
    with pytest.raises(TypeError, match="stack"):
        next(iter(torch.utils.data.DataLoader(permutation, batch_size=4)))


def test_selected_columns() -> None:
    permutation = Permutation.identity(_make()).select_columns(["id", "prompt"])
    assert permutation.schema.names == ["id", "prompt"]
    loader = torch.utils.data.DataLoader(permutation, batch_size=1024, shuffle=True)
    (batch,) = loader
    assert set(batch) == {"id", "prompt"}
    assert batch["prompt"] == [f"prompt {i}" for i in batch["id"].tolist()]
    arrow = torch.utils.data.DataLoader(
        permutation.with_format("arrow"), batch_size=100, collate_fn=lambda x: x
    )
    assert next(iter(arrow)).schema.names == ["id", "prompt"]


def test_several_spawned_workers(tmp_path: Path) -> None:
    permutation = Permutation.identity(_make(tmp_path / "s")).select_columns(["id", "vector"])
    loader = torch.utils.data.DataLoader(
        permutation.with_format("torch"),
        batch_size=256,
        shuffle=True,
        num_workers=2,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    ids = torch.cat([batch["id"] for batch in loader])
    assert sorted(ids.tolist()) == list(range(1000))
    assert next(iter(loader))["vector"].shape == (256, 3)


def open_table(name: str) -> vd.Dataset:
    return vd.Dataset.open_ref(name, backend=Path(FACTORY[0]).read_text())


FACTORY: list[str] = []


def test_a_connection_factory(tmp_path: Path) -> None:
    ds = _make(tmp_path / "space", rows=20)
    FACTORY[:] = [str(tmp_path / "where")]
    (tmp_path / "where").write_text(str(tmp_path / "space"))
    permutation = Permutation.identity(ds).with_connection_factory(open_table)
    data = pickle.dumps(permutation)
    assert str(tmp_path).encode() not in data
    ds.append_many([_row(20)])
    again = pickle.loads(data)  # noqa: S301
    # Pinned: the factory opens the branch, which has moved.
    assert again.dataset.count() == len(again) == 20
    assert again[-1]["id"] == 19
    wrong = permutation.with_connection_factory(str)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="returned a str"):
        _ = pickle.loads(pickle.dumps(wrong)).dataset  # noqa: S301


# ---------------------------------------------------------------- formats


def _first(form: str, ds: vd.Dataset | None = None) -> Any:
    permutation = Permutation.identity(ds or _make(rows=5)).with_format(form)
    return next(iter(permutation))


def test_python_formats() -> None:
    rows = _first("python")
    assert rows[3]["prompt"] == "prompt 3"
    assert rows[3]["vector"] == [3.0, 4.0, 5.0]
    assert _first("python_col")["price"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    permutation = Permutation.identity(_make(rows=5))
    assert permutation[2]["id"] == permutation[-3]["id"] == 2
    assert [row["id"] for row in permutation.__getitems__([4, 0, 4])] == [4, 0, 4]


def test_numpy_keeps_types_and_shapes() -> None:
    batch = _first("numpy")
    wanted = {
        "id": (np.int64, (5,)),
        "price": (np.float64, (5,)),
        "flag": (np.bool_, (5,)),
        "prompt": (np.object_, (5,)),
        "when": (np.dtype("datetime64[ns]"), (5,)),
        "vector": (np.float32, (5, 3)),
        "grid": (np.uint8, (5, 2, 2)),
    }
    assert {name: (v.dtype, v.shape) for name, v in batch.items()} == {
        name: (np.dtype(dtype), shape) for name, (dtype, shape) in wanted.items()
    }
    assert batch["vector"][4].tolist() == [4, 5, 6]
    assert batch["flag"].tolist() == [True, False, True, False, True]


def test_frames_and_arrow() -> None:
    assert _first("pandas")["id"].tolist() == list(range(5))
    assert _first("polars")["id"].to_list() == list(range(5))
    arrow = _first("arrow")
    assert isinstance(arrow, pa.RecordBatch)
    assert arrow.schema == Permutation.identity(_make(rows=5)).schema


def test_torch_formats() -> None:
    rows = _first("torch")
    assert rows[2]["vector"].tolist() == [2, 3, 4]
    assert rows[2]["id"].dtype == torch.int64
    assert rows[2]["when"].item() == 2
    assert rows[2]["prompt"] == "prompt 2"
    base = Permutation.identity(_make(rows=5))
    vectors = base.select_columns(["vector"]).with_format("torch_col")
    assert next(iter(vectors)).shape == (5, 3)
    mixed = next(iter(base.select_columns(["id", "price", "vector"]).with_format("torch_col")))
    assert {n: v.dtype for n, v in mixed.items()} == {
        "id": torch.int64,
        "price": torch.float64,
        "vector": torch.float32,
    }
    row = next(iter(base.select_columns(["id"]).with_format("torch_row")))
    assert [tensor.item() for tensor in row] == list(range(5))
    pair = base.rename_column("id", "a").select_columns(["a", "when"]).with_format("torch_row")
    assert next(iter(pair))[3].tolist() == [3, 3]
    some = next(iter(base.select_columns(["id", "vector"]).with_format("torch_row")))
    assert some[1]["vector"].tolist() == [1, 2, 3]


def test_nulls_have_defined_results() -> None:
    ds = _make(rows=2, nulls=True)
    last = _first("python", ds)[-1]
    assert {name for name, value in last.items() if value is None} == set(last) - {"id"}
    arrays = _first("numpy", ds)
    assert arrays["price"].mask.tolist() == [False, False, True]
    assert arrays["vector"].mask.all(axis=1).tolist() == [False, False, True]
    assert arrays["grid"].mask[2].all()
    assert np.isnat(arrays["when"][2])
    assert arrays["prompt"][2] is None
    assert not np.ma.isMaskedArray(arrays["id"])
    for form in ("torch", "torch_col"):
        permutation = Permutation.identity(ds).select_columns(["price"]).with_format(form)
        with pytest.raises(InvalidInputError, match="a record has no 'price'"):
            next(iter(permutation))
    when = Permutation.identity(ds).select_columns(["when"]).with_format("torch")
    with pytest.raises(InvalidInputError, match="'when'"):
        next(iter(when))


def test_texts_are_no_tensors() -> None:
    with pytest.raises(InvalidInputError, match=r"'prompt' .* cannot be a tensor"):
        _first("torch_col")


# ---------------------------------------------------------------- which records


def _ids(permutation: Permutation) -> list[int]:
    return [i for batch in permutation.with_format("python_col") for i in batch["id"]]


def test_no_tail_is_dropped_and_the_version_is_pinned() -> None:
    ds = _make(rows=250)
    permutation = Permutation.identity(ds)
    ds.append_many([_row(250)])
    ds.delete([ds.scan([]).to_arrow()["_anchor"][0].as_py()])
    assert _ids(permutation) == list(range(250))
    sizes = [len(batch) for batch in permutation.iter(100)]
    assert sizes == [100, 100, 50]
    assert [len(b) for b in permutation.iter(100, skip_last_batch=True)] == [100, 100]
    assert len(pickle.loads(pickle.dumps(permutation))) == 250  # noqa: S301


def test_shuffles_filters_splits_and_cuts() -> None:
    base = Permutation.identity(_make(rows=300))
    shuffled = base.shuffle(seed=5)
    order = _ids(shuffled)
    assert sorted(order) == list(range(300))
    assert order != list(range(300))
    assert _ids(base.shuffle(seed=5)) == order
    assert _ids(base.shuffle(seed=6)) != order
    clumps = _ids(base.shuffle(seed=5, clump_size=7))
    assert sorted(clumps) == list(range(300))
    assert sum(b - a == 1 for a, b in itertools.pairwise(clumps)) >= 300 * 6 / 7 - 10
    assert _ids(shuffled.filter("id < 30")) == [i for i in order if i < 30]
    assert _ids(shuffled.with_skip(10).with_take(5)) == order[10:15]
    assert _ids(shuffled.skip(290).take(50)) == order[290:]
    assert _ids(base.take(3).with_repeat(2)) == [0, 1, 2, 0, 1, 2]
    parts = shuffled.split({"train": 0.8, "test": 0.2}, seed=1)
    assert sorted(_ids(parts["train"]) + _ids(parts["test"])) == list(range(300))
    assert len(parts["train"]) > 200
    assert [i for i in order if i in set(_ids(parts["test"]))] == _ids(parts["test"])
    assert set(base.split([0.5, 0.5])) == {"0", "1"}
    assert base.take(0).shuffle(seed=1).num_rows == 0
    assert list(base.take(0)) == []


def test_columns() -> None:
    base = Permutation.identity(_make(rows=5))
    assert base.shape == (5, 7)
    assert base.remove_columns(["grid", "nothing"]).num_columns == 6
    renamed = base.rename_columns({"id": "number", "price": "cost"}).select_columns(
        ["cost", "number"]
    )
    assert renamed.column_names == ["cost", "number"]
    assert renamed[2] == {"cost": 0.5, "number": 2}
    anchors = base.select_columns(["_anchor", "id"])
    assert anchors.schema.field("_anchor").type == pa.uint64()
    assert anchors[1]["_anchor"] > 0
    doubled = base.with_transform(lambda batch: batch["id"].to_numpy() * 2)
    assert next(iter(doubled)).tolist() == [0, 2, 4, 6, 8]
    assert "5 records" in repr(base)
    assert [len(b) for b in base.with_batch_size(2)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (lambda p: p.with_format("torch_cols"), InvalidInputError, "no format"),
        (lambda p: p.select_columns(["idd"]), FieldNotFoundError, "no column 'idd'"),
        (lambda p: p.select_columns([]), InvalidInputError, "needs a column"),
        (lambda p: p.remove_columns(p.column_names), InvalidInputError, "no column is left"),
        (lambda p: p.rename_column("id", "price"), InvalidInputError, "already"),
        (lambda p: p.rename_column("nothing", "x"), FieldNotFoundError, "nothing"),
        (lambda p: p.with_skip(-1), InvalidInputError, "skip"),
        (lambda p: p.with_batch_size(0), InvalidInputError, "positive"),
        (lambda p: p.with_transform(3), InvalidInputError, "function"),
        (lambda p: p.with_connection_factory("x"), InvalidInputError, "function"),
        (lambda p: p[5], IndexError, "record 5 of 5"),
        (lambda p: p.take_offsets([-6]), IndexError, "of 5"),
        (lambda p: p.filter("nothing = 1"), FieldNotFoundError, "nothing"),
        (lambda p: Permutation.identity([1]), InvalidInputError, "made of a Dataset"),
    ],
)
def test_bad_permutations_are_refused(act: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        act(Permutation.identity(_make(rows=5)))
