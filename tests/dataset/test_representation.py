"""How handles show themselves, travel to other processes, and what the package offers."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dreamdb as vd
from tests.dataset.spaces import fresh_url, make, numbered


def test_repr_is_short() -> None:
    schema = vd.Schema()
    for number in range(60):
        schema.add_scalar_int(f"field{number}")
    ds = make(schema, [{"field0": 1}])
    for handle in (ds, vd.Dataset.open_by_manifest(ds.current_manifest(), ds.backend)):
        assert len(repr(handle).splitlines()) <= 12
        assert "1 records" in repr(handle)
    branches = [ds.branch(f"b{n}").name for n in range(12)]
    comparison = vd.compare_refs([str(b) for b in branches], ["field0"], ds.backend)
    assert len(repr(comparison).splitlines()) <= 12
    assert "13 refs" in repr(vd.connect(ds.backend))
    for value in (numbered(0), numbered(0).log(), ds.scan(), vd.connect(ds.backend)):
        assert 0 < len(repr(value).splitlines()) <= 12


def test_html_is_escaped_and_shows_something() -> None:
    evil = "<script>alert('x')</script>\"><img src=x onerror=1>"
    schema = (
        vd.Schema()
        .add_scalar_string("s")
        .add_image("im", mime="png")
        .add_scalar_int("i")
        .add_scalar_float("f")
        .add_scalar_timestamp("t")
        .add_scalar_bool("b")
        .add_embedding("v", 2)
        .add_list("l", "string")
    )
    ds = make(schema)
    for number in range(40):
        ds.append_many(
            [
                {
                    "s": evil,
                    "im": evil.encode(),
                    "i": number,
                    "f": float("nan"),
                    "t": number,
                    "l": [evil],
                }
            ],
            message=evil,
        )
    for html in (ds._repr_html_(), ds.log()._repr_html_()):
        assert "<script" not in html
        assert "onerror=1>" not in html
    assert "<svg" in ds._repr_html_()
    assert "data:image/png;base64," in ds._repr_html_()
    assert "<table" in numbered(0)._repr_html_()


def test_credentials_do_not_show(tmp_path: Path) -> None:
    options = {"secret": "hunter2"}
    url = f"file://{tmp_path}/space"
    shown = ""
    try:
        ds = vd.Dataset.create("main", vd.Schema().add_text("t"), url, storage_options=options)
        shown = f"{ds!r} {ds.scan()!r} {ds.log()!r} {ds._space!r} {ds.backend}"
    except vd.DreamDBError as error:
        # A local directory takes no such option; the refusal must not show the value either.
        shown = f"{error} {error.hint} {error.details}"
    assert "hunter2" not in shown


def _read(handle: Any) -> tuple[int, list[Any], bool, str | None]:
    return handle.count(), handle["x"].to_pylist(), handle.read_only, handle.name


def _write(handle: Any) -> int:
    handle.append_many([{"x": 99}])
    return int(handle.count())


def _load_error(data: bytes) -> str:
    with pytest.raises(vd.NotFoundError) as caught:
        pickle.loads(data)  # noqa: S301 - our own bytes
    return str(caught.value)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_handles_travel_to_other_processes(tmp_path: Path, method: str) -> None:
    ds = vd.Dataset.create("main", data={"x": np.arange(3)}, backend=tmp_path / "space")
    snapshot = ds.snapshot("v1")
    handles = [
        ds,
        vd.Dataset.open_ref("v1", ds.backend),
        vd.Dataset.open_at(snapshot, ds.backend),
        vd.Dataset.open_by_manifest(ds.current_manifest(), ds.backend),
    ]
    ds.branch("other").append_many([{"x": 5}])
    writer = vd.Dataset.open_ref("main", ds.backend)
    writer.append_many([{"x": 3}])
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.map(_read, handles)
        assert [f[0] for f in found] == [3, 3, 3, 3]
        assert [f[2] for f in found] == [False, True, True, True]
        assert [f[3] for f in found] == ["main", "v1", "v1", None]
        assert pool.apply(_write, (writer,)) == 5
        # A stale handle of a branch writes on top of what others have written.
        assert pool.apply(_write, (ds,)) == 6
    assert ds.count() == 3
    assert ds.refresh().count() == 6


def test_pickles_are_small_pinned_and_reopen_here() -> None:
    ds = numbered(50)
    data = pickle.dumps(ds)
    assert len(data) < 2_000
    ds.append_many([{"x": 5}])
    copy = pickle.loads(data)  # noqa: S301 - our own bytes
    assert copy.count() == 50
    assert copy.append_many([{"x": 6}]) == 1
    assert copy.count() == 52
    errors = [vd.ConflictError("a", hint="b", field="c"), vd.StorageError("x", transient=True)]
    for error in errors:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(again), str(again), again.hint, again.details) == (
            type(error), str(error), error.hint, error.details,
        )  # fmt: skip
    comparison = vd.compare_refs(["main"], ["x"], ds.backend)
    assert pickle.loads(pickle.dumps(comparison)).to_arrow() == comparison.to_arrow()  # noqa: S301


def test_a_memory_space_says_that_it_stays_here() -> None:
    ds = numbered(1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        said = pool.apply(_load_error, (pickle.dumps(ds),))
    assert "do not cross processes" in said


def test_a_scan_says_that_it_does_not_pickle() -> None:
    with pytest.raises(TypeError, match="Dataset handle"):
        pickle.dumps(numbered(1).scan())


def test_the_package_offers_what_it_lists() -> None:
    assert list(vd.__all__) == sorted(vd.__all__)
    for name in vd.__all__:
        assert getattr(vd, name) is not None
    assert vd.__version__
    for name in ("Dataset", "Schema", "connect", "compare_refs", "col", "ConflictError"):
        assert name in vd.__all__


def test_errors_are_also_what_python_users_catch() -> None:
    pairs: list[tuple[type[Exception], type[Exception]]] = [
        (vd.NotFoundError, LookupError), (vd.FieldNotFoundError, LookupError),
        (vd.ConflictError, RuntimeError), (vd.InvalidInputError, ValueError),
        (vd.ReadOnlyError, PermissionError), (vd.StorageError, OSError),
        (vd.MissingDependencyError, ImportError),
    ]  # fmt: skip
    for ours, builtin in pairs:
        assert issubclass(ours, builtin)
        assert issubclass(ours, vd.DreamDBError)
    kinds = [
        e.kind for e in vars(vd).values() if isinstance(e, type) and issubclass(e, vd.DreamDBError)
    ]
    assert len(set(kinds)) == len(kinds)


def test_a_space_is_made_only_when_asked() -> None:
    url = fresh_url()
    with pytest.raises(vd.NotFoundError, match="there is no space"):
        vd.Dataset.open_ref("main", url)
    space = vd.connect(url, create=True)
    assert space.refs() == []
    assert space.datasets() == []
    assert space.verify().ok
    assert space == vd.connect(url)
    assert space.url == url
