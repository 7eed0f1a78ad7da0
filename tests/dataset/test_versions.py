"""Snapshots, branches, opening at versions, history, refs."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

import pyarrow as pa
import pytest

import dreamdb as vd
from dreamdb.model import Tag
from dreamdb.objects import Kind, OpenedObject, to_text
from dreamdb.store import open_backend
from dreamdb.types import Address
from tests.dataset.spaces import again, make, numbered, records, stored


def test_a_snapshot_never_moves() -> None:
    ds = numbered(3)
    snap = ds.snapshot("v1", message="before training", metadata={"sha": "abc"})
    assert set(snap) == {"label", "manifest", "timeline"}
    assert snap["label"] == "v1"
    assert snap["manifest"] == ds.current_manifest()
    pinned = vd.Dataset.open_ref("v1", ds.backend)
    want = records(ds)
    ds.append_many([{"x": 9}])
    ds.delete([0])
    ds.update([10], {"x": 100})
    ds.rename_field("x", "y")
    for handle in (
        pinned,
        pinned.refresh(),
        vd.Dataset.open_ref("v1", ds.backend),
        vd.Dataset.open("v1", vd.Schema().add_scalar_int("x"), ds.backend),
        vd.Dataset.open_at(snap, ds.backend),
        vd.Dataset.open_at("v1", ds.backend),
        vd.Dataset.open_at(snap["manifest"], ds.backend),
        vd.Dataset.open_by_manifest(str(snap["manifest"]), ds.backend),
        vd.connect(ds.backend).open("v1"),
    ):
        assert records(handle) == want
        assert handle.read_only
        with pytest.raises(vd.ReadOnlyError):
            handle.append_many([{"x": 1}])
    info = {ref.name: ref for ref in vd.connect(ds.backend).refs()}["v1"]
    assert (info.kind, info.message, dict(info.metadata)) == (
        "snapshot", "before training", {"sha": "abc"},
    )  # fmt: skip


def test_the_handle_that_made_a_snapshot_writes_on() -> None:
    ds = numbered(1)
    ds.snapshot("v1")
    ds.append_many([{"x": 1}])
    ds.snapshot("v2")
    assert vd.Dataset.open_ref("v1", ds.backend).count() == 1
    assert vd.Dataset.open_ref("v2", ds.backend).count() == 2


def test_a_label_that_names_something_else_by_now_fools_nobody() -> None:
    ds = numbered(3)
    snap = ds.snapshot("v1")
    space = vd.connect(ds.backend)
    ds.append_many([{"x": 3}])
    space.delete_ref("v1", reason="wrong one")
    again_snap = ds.snapshot("v1")
    assert vd.Dataset.open_at(snap, ds.backend).count() == 3
    assert vd.Dataset.open_at(again_snap, ds.backend).count() == 4
    assert vd.Dataset.open_at("v1", ds.backend).count() == 4
    with pytest.raises(vd.InvalidInputError, match="timeline"):
        vd.Dataset.open_at({**snap, "manifest": again_snap["manifest"]}, ds.backend)
    with pytest.raises(vd.InvalidInputError, match="timeline"):
        vd.Dataset.open_at({**snap, "timeline": None}, ds.backend)
    assert [entry["why"] for entry in space.reflog("v1")] == ["delete: wrong one"]


def test_a_snapshot_of_nothing() -> None:
    ds = numbered(0)
    snap = ds.snapshot("empty")
    assert snap["timeline"] is None
    assert vd.Dataset.open_at(snap, ds.backend).count() == 0


def test_branches_go_their_own_way() -> None:
    ds = numbered(3)
    names = ["sweep/lp-lr0.001-bs128", "sweep/lp-lr0.01-bs128", "feature/a.b_c-d"]
    branches = [ds.branch(name) for name in names]
    for number, branch in enumerate(branches):
        branch.add_scalar_layer("p", "x", "int", [(0, number)])
        branch.append_many([{"x": 50 + number}])
    assert list(ds.schema) == ["x"]
    for number, name in enumerate(names):
        opened = vd.Dataset.open_ref(name, ds.backend)
        assert opened["p"].to_pylist() == [number, None, None, None]
        assert opened["x"].to_pylist()[-1] == 50 + number
    assert vd.connect(ds.backend).datasets() == sorted([*names, "main"])
    assert vd.connect(ds.backend).list_refs("sweep/") == sorted(names[:2])


def test_branching_at_versions() -> None:
    ds = numbered(1)
    first = ds.current_manifest()
    snap = ds.snapshot("v1")
    ds.append_many([{"x": 1}])
    assert ds.branch("a", at=first).count() == 1
    assert ds.branch("b", at=snap).count() == 1
    assert ds.branch("c", at="v1").count() == 1
    assert ds.branch("d", at="main").count() == 2
    assert vd.Dataset.open_at(snap, ds.backend).branch("e").append_many([{"x": 5}]) == 1
    assert vd.Dataset.open_ref("e", ds.backend).count() == 2


def test_a_handle_reads_what_it_opened_until_refresh() -> None:
    ds = numbered(3)
    reader = again(ds)
    iterator = reader.iter_arrow_batches(1)
    first = next(iterator)
    ds.delete([10])
    ds.append_many([{"_anchor": 40, "x": 4}])
    assert reader.count() == 3
    assert [first["x"].to_pylist(), *(b["x"].to_pylist() for b in iterator)] == [[0], [1], [2]]
    scan = reader.scan()
    reader.refresh()
    assert reader.count() == 3
    assert scan.to_arrow()["x"].to_pylist() == [0, 1, 2]
    assert reader["x"].to_pylist() == [0, 2, 4]


def test_opening_at_a_time() -> None:
    ds = numbered(1)
    moments = []
    for number in range(1, 4):
        moments.append(time.time_ns())
        ds.append_many([{"x": number}])
    times = [record.time_ns for record in ds.log()][::-1]
    assert times == sorted(set(times))
    for count, moment in enumerate(moments, start=1):
        assert vd.Dataset.open_ref("main", ds.backend, at=moment).count() == count
    for record in ds.log():
        assert vd.Dataset.open_ref("main", ds.backend, at=record.time_ns).count() == record.rows
        assert vd.Dataset.open_ref("main", ds.backend, at=record.manifest).count() == record.rows
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    for moment in (later, later.isoformat(), later.replace(tzinfo=None)):
        pinned = vd.Dataset.open_ref("main", ds.backend, at=moment)
        assert pinned.count() == 4
        assert pinned.read_only
        ds_manifest = pinned.current_manifest()
        assert pinned.refresh().current_manifest() == ds_manifest
    with pytest.raises(vd.NotFoundError):
        vd.Dataset.open_ref("main", ds.backend, at=5)


def test_open_checks_a_schema() -> None:
    ds = numbered(1)
    assert vd.Dataset.open("main", ds.schema, ds.backend).append_many([{"x": 1}]) == 1
    assert vd.Dataset.open("main", backend=ds.backend).count() == 2
    for other in (
        vd.Schema(),
        vd.Schema().add_scalar_float("x"),
        vd.Schema().add_scalar_int("x", required=True),
        vd.Schema().add_scalar_int("x").add_text("y"),
    ):
        with pytest.raises(vd.SchemaError, match="another schema"):
            vd.Dataset.open("main", other, ds.backend)


def test_log_and_history() -> None:
    ds = make(vd.Schema().add_scalar_int("x"), message="start")
    ds.append_many([{"_anchor": 1, "x": 1}], message="one <b>")
    snap = ds.snapshot("v1")
    branch = ds.branch("side")
    branch.update([1], {"x": 2}, message="fix")
    log = branch.log()
    assert [r.message for r in log] == ["fix", "one <b>", "start"]
    assert [r.rows for r in log] == [1, 1, 0]
    assert [r.operation["name"] for r in log] == ["update", "append", "create"]
    assert log[1].manifest == snap["manifest"]
    assert log[0].parents == (log[1].manifest,)
    assert log[1].refs == ("main", "v1")
    assert [r.message for r in branch.log(2)] == ["fix", "one <b>"]
    assert [r.message for r in branch.history(max_depth=1)] == ["fix"]
    assert len(branch.history()) == 3
    graph = log.graph()
    assert len(graph.splitlines()) == 3
    assert "(side)" in graph
    assert "(main, v1)" in graph
    assert all(r.manifest[:10] in graph for r in log)
    table = log.to_arrow()
    assert table["message"].to_pylist() == ["fix", "one <b>", "start"]
    assert pa.table(log).num_rows == 3
    html = log._repr_html_()
    assert "one &lt;b&gt;" in html
    assert isinstance(log[:2], type(log))
    assert all(r.author for r in log)


def test_a_long_log_has_a_short_repr() -> None:
    ds = numbered(0)
    for number in range(30):
        ds.append_many([{"x": number}])
    assert len(repr(ds.log()).splitlines()) <= 12
    assert "21 more" in repr(ds.log())
    assert len(ds.log()) == 31
    assert [r.rows for r in ds.log(3)] == [30, 29, 28]


def test_refs_are_listed_and_deleted() -> None:
    ds = numbered(2)
    ds.branch("b")
    ds.snapshot("s")
    space = vd.connect(ds.backend)
    assert [(r.name, r.kind) for r in space.refs()] == [
        ("b", "branch"), ("main", "branch"), ("s", "snapshot"),
    ]  # fmt: skip
    tip = vd.Dataset.open_ref("b", ds.backend).current_manifest()
    space.delete_ref("b", reason="done")
    assert space.list_refs() == ["main", "s"]
    with pytest.raises(vd.RefNotFoundError):
        vd.Dataset.open_ref("b", ds.backend)
    (entry,) = space.reflog("b")
    assert (entry["old"], entry["new"], entry["why"]) == (tip, None, "delete: done")
    # What it held can be opened and named again.
    assert vd.Dataset.open_by_manifest(entry["old"], ds.backend).branch("b").count() == 2
    space.delete_ref("s")
    assert space.list_refs() == ["b", "main"]


def test_a_write_to_a_deleted_branch_is_a_conflict() -> None:
    ds = numbered(2)
    vd.connect(ds.backend).delete_ref("main")
    refs = stored(ds.backend)[0]
    with pytest.raises(vd.ConflictError, match="publish conflict on ref 'main'"):
        ds.append_many([{"x": 1}])
    with pytest.raises(vd.RefNotFoundError):
        ds.refresh()
    assert stored(ds.backend)[0] == refs
    assert ds.count() == 2
    assert ds.branch("main").append_many([{"x": 1}]) == 1


def test_a_branch_that_became_a_snapshot_cannot_be_moved() -> None:
    ds = numbered(2)
    other = ds.branch("other")
    space = vd.connect(ds.backend)
    space.delete_ref("other")
    ds.snapshot("other")
    with pytest.raises(vd.ReadOnlyError, match="snapshot"):
        other.append_many([{"x": 1}])
    assert vd.Dataset.open_ref("other", ds.backend).count() == 2


def test_the_handle_describes_itself() -> None:
    ds = numbered(1)
    assert (ds.name, ds.read_only, ds.key) == ("main", False, None)
    assert ds.backend.startswith("memory://")
    assert len(ds.current_manifest()) == len(ds.content_id) == 53
    assert ds._inner is ds
    assert bool(numbered(0))


def test_a_deleted_snapshot_can_be_found_again() -> None:
    ds = numbered(2)
    held = ds.snapshot("s", metadata={"auc": "0.93"})
    space = vd.connect(ds.backend)
    objects = stored(ds.backend)[1]
    # The ref carries its tag; only the deletion makes an object of it, because the reflog names it.
    space.delete_ref("s")
    (tag,) = stored(ds.backend)[1] - objects
    (entry,) = space.reflog("s")
    assert entry["old"] == to_text(Address(tag))
    found = Tag.decode(
        OpenedObject(
            Address(tag), open_backend(ds.backend).objects.open(Address(tag)), Kind.TAG
        ).view()
    )
    assert (found.label, to_text(found.manifest)) == ("s", held["manifest"])
    assert found.metadata == {"auc": "0.93"}
    assert space.gc().garbage == ()
    assert space.verify().ok


def test_a_snapshot_with_long_notes(tmp_path: Path) -> None:
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), tmp_path)
    notes = {"log": "x" * 100_000}
    ds.snapshot("s", metadata=notes)
    assert (tmp_path / "refs" / "s").stat().st_size == 33
    space = vd.connect(tmp_path)
    assert [dict(ref.metadata) for ref in space.refs() if ref.name == "s"] == [notes]
    assert vd.Dataset.open_ref("s", tmp_path).count() == 0
    assert space.verify().ok
    assert space.gc().garbage == ()
