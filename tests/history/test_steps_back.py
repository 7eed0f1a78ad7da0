"""Steps back: revert, cherry-pick, reset, undo, restore, blame."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import dreamdb as vd
from dreamdb.objects import from_text
from dreamdb.testing import CountingBackend

_NUMBERS = itertools.count()


def _start(rows: int = 10) -> vd.Dataset:
    schema = vd.Schema().add_scalar_int("x").add_scalar_string("s")
    ds = vd.Dataset.create("main", schema, backend=f"memory://steps-{next(_NUMBERS)}")
    ds.append_many([{"_anchor": i, "x": i, "s": str(i)} for i in range(rows)])
    return ds


CHANGES: dict[str, Any] = {
    "append": lambda d: d.append_many([{"x": 1, "s": "a"}, {"x": 2, "s": "b"}]),
    "insert": lambda d: d.append_many([{"_anchor": 1_000, "x": 1, "s": "a"}]),
    "update": lambda d: d.update([3, 4], {"x": [33, None]}),
    "delete": lambda d: d.delete([3, 4]),
    "layer": lambda d: d.add_scalar_layer("p", "x", "int", [(3, 1)]),
    "drop": lambda d: d.drop_field("s"),
    "rename": lambda d: d.rename_field("s", "t"),
    "notes": lambda d: d.set_metadata({"a": "b"}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_reverting_the_newest_gives_the_content_before(change: Any) -> None:
    ds = _start()
    ds.append_many([{"_anchor": 5_000, "x": 5, "s": "c"}])
    before = ds.content_id
    change(ds)
    after, undone = ds.content_id, ds.current_manifest()
    report = ds.revert(undone)
    assert report.changed
    assert ds.content_id == before
    assert ds.log()[0].operation["name"] == "revert"
    assert ds.log()[0].operation["manifest"] == undone
    assert undone[:16] in ds.log()[0].message
    # Taken back twice: as it was.
    ds.revert(ds.current_manifest())
    assert ds.content_id == after
    assert vd.connect(ds._space.backend).verify().ok


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_picking_onto_the_same_state_gives_the_same_content(change: Any) -> None:
    ds = _start()
    one, two = ds.branch("one"), ds.branch("two")
    change(one)
    picked = one.current_manifest()
    two.cherry_pick(picked)
    assert two.content_id == one.content_id
    assert len(two.log()[0].parents) == 1
    assert not two.cherry_pick(picked).changed


def test_revert_of_an_older_manifest_keeps_what_came_later() -> None:
    ds = _start()
    ds.append_many([{"_anchor": 100, "x": 100, "s": "h"}, {"_anchor": 101, "x": 101, "s": "i"}])
    appended = ds.current_manifest()
    ds.update([1], {"x": [11]})
    ds.rename_field("s", "t")
    ds.add_scalar_layer("p", "x", "int", [(1, 1), (100, 2)])
    ds.append_many([{"_anchor": 200, "x": 200, "t": "j", "p": 3}])
    ds.revert(appended)
    assert sorted(ds.scan().to_arrow()["_anchor"].to_pylist()) == [*range(10), 200]
    assert ds.take([1]).to_pylist()[0] == {"_anchor": 1, "x": 11, "t": "1", "p": 1}
    assert vd.connect(ds._space.backend).verify().ok


def test_a_revert_that_later_changes_stand_against() -> None:
    ds = _start()
    ds.update([3, 4], {"x": [30, 40]})
    edited = ds.current_manifest()
    ds.update([3], {"x": [300]})
    before = ds.current_manifest()
    with pytest.raises(vd.MergeConflictError) as caught:
        ds.revert(edited)
    row = caught.value.details["conflicts"].to_pylist()
    assert [(r["anchor"], r["base"], r["ours"], r["theirs"]) for r in row] == [(3, 30, 300, 3)]
    assert ds.refresh().current_manifest() == before
    ds.revert(edited, strategy="ours", message="mostly")
    assert ds.take([3, 4])["x"].to_pylist() == [300, 4]
    assert ds.log()[0].message == "mostly"
    ds.undo()
    ds.revert(edited, resolve=lambda c: c.use(-1))
    assert ds.take([3, 4])["x"].to_pylist() == [-1, 4]


def test_picks_from_another_line() -> None:
    ds = _start()
    side = ds.branch("side")
    side.update([1], {"x": [10]}, message="the good one")
    good = side.current_manifest()
    side.update([2], {"x": [20]})
    ds.rename_field("x", "z")
    ds.cherry_pick(good)
    assert ds.take([1, 2])["z"].to_pylist() == [10, 2]
    assert ds.log()[0].message == "the good one"
    with pytest.raises(vd.InvalidInputError, match="not in the history"):
        ds.revert(side.current_manifest())


def test_merges_need_a_parent_and_the_first_manifest_has_none() -> None:
    ds = _start()
    one, two = ds.branch("one"), ds.branch("two")
    one.update([1], {"x": [10]})
    two.update([2], {"x": [20]})
    one.merge(two)
    merged = one.current_manifest()
    with pytest.raises(vd.InvalidInputError, match="a merge of 2"):
        one.revert(merged)
    with pytest.raises(vd.InvalidInputError, match="no parent 2"):
        one.revert(merged, parent=2)
    one.revert(merged, parent=0)
    assert one.take([1, 2])["x"].to_pylist() == [10, 2]
    ds.cherry_pick(merged, parent=1)
    assert ds.take([1, 2])["x"].to_pylist() == [10, 2]
    root = ds.history()[-1].manifest
    with pytest.raises(vd.InvalidInputError, match="first manifest"):
        ds.revert(root)
    with pytest.raises(vd.InvalidInputError, match="not a choice"):
        ds.revert(merged, strategy="fast-forward")


def test_reset_is_logged_and_can_be_taken_back() -> None:
    ds = _start()
    first = ds.current_manifest()
    ds.update([1], {"x": [10]})
    second = ds.current_manifest()
    side = vd.Dataset.open_ref("main", ds.backend, at=first).branch("side")
    side.update([5], {"x": [50]})
    assert ds.reset(first, reason="bad labels") == second
    assert ds.current_manifest() == first
    assert vd.Dataset.open_ref("main", ds.backend).current_manifest() == first
    assert ds["x"].to_pylist()[1] == 1
    (line,) = ds.reflog()
    assert (line["old"], line["new"], line["why"]) == (second, first, "reset: bad labels")
    ds.reset("side")
    assert ds.content_id == side.content_id
    assert ds.undo() == side.current_manifest()
    assert ds.current_manifest() == first
    ds.undo()
    assert ds.current_manifest() == second
    ds.undo()
    assert ds.current_manifest() == first
    ds.undo()
    assert ds.count() == 0
    with pytest.raises(vd.NotFoundError, match="nothing to undo"):
        ds.undo()
    ds.reset(second)
    assert ds["x"].to_pylist()[1] == 10
    assert ds.reflog()[0]["why"] == "reset"


def test_undo_of_commits_and_merges() -> None:
    ds = _start()
    side = ds.branch("side")
    side.update([1], {"x": [10]})
    ds.update([2], {"x": [20]})
    before = ds.current_manifest()
    ds.merge(side)
    ds.undo()
    assert ds.current_manifest() == before
    ds.update([3], {"x": [30]})
    ds.undo()
    assert ds.current_manifest() == before
    ds.undo()
    assert ds["x"].to_pylist()[:3] == [0, 1, 2]


def test_moves_are_refused_when_another_writer_was_there() -> None:
    ds = _start()
    first = ds.history()[1].manifest
    vd.Dataset.open_ref("main", ds.backend).update([1], {"x": [10]})
    for move in (lambda: ds.reset(first), ds.undo):
        with pytest.raises(vd.ConflictError, match="another writer moved it"):
            move()
    assert ds.refresh()["x"].to_pylist()[1] == 10
    ds.snapshot("snap")
    snapshot = vd.Dataset.open_ref("snap", ds.backend)
    for refused in (lambda: snapshot.reset(first), snapshot.undo, lambda: snapshot.revert(first)):
        with pytest.raises(vd.ReadOnlyError):
            refused()
    with pytest.raises(vd.RefNotFoundError):
        ds.reset("nowhere")
    with pytest.raises(vd.InvalidInputError):
        ds.reset(first, reason=3)  # type: ignore[arg-type]


def test_a_branch_is_not_set_to_what_is_not_whole() -> None:
    ds = _start()
    side = ds.branch("side")
    side.append_many([{"_anchor": 77, "x": 7, "s": "q"}])
    fragment = side._view.track("x").addresses[-1]
    backend = ds._space.backend
    backend.objects.delete(fragment)
    before = ds.current_manifest()
    with pytest.raises(vd.ObjectMissingError, match="not complete"):
        ds.reset("side")
    assert ds.refresh().current_manifest() == before
    assert not ds.reflog()


def test_deleted_refs_come_back() -> None:
    ds = _start()
    side = ds.branch("side")
    side.update([1], {"x": [10]})
    wanted = side.current_manifest()
    space = vd.connect(ds._space.backend)
    ds.snapshot("snap", "kept")
    for name in ("side", "snap"):
        space.delete_ref(name, reason="tidy")
    assert space.restore("side").current_manifest() == wanted
    again = space.restore("snap")
    assert again.read_only
    assert [line["why"] for line in space.reflog("side")] == ["restore", "delete: tidy"]
    with pytest.raises(vd.AlreadyExistsError):
        space.restore("side")
    assert space.restore("side", to="copy").current_manifest() == wanted
    space.delete_ref("snap")
    with pytest.raises(vd.InvalidInputError, match="keeps its name"):
        space.restore("snap", to="other")
    with pytest.raises(vd.RefNotFoundError, match="no deletion"):
        space.restore("main")
    with pytest.raises(vd.RefNotFoundError):
        space.restore("never")
    space.delete_ref("copy")
    space.delete_ref("side")
    # This process still has the manifest in its caches; the store has not.
    ds._space.backend.objects.delete(from_text(wanted))
    with pytest.raises(vd.ObjectMissingError, match="not complete"):
        space.restore("side")
    space._space.cache.clear()
    with pytest.raises(vd.ObjectMissingError, match="collected"):
        space.restore("side")
    assert "side" not in space.list_refs()


def test_blame_names_the_writer_of_a_cell() -> None:
    ds = _start()
    created = ds.current_manifest()
    ds.update([1], {"x": [10]})
    edited = ds.current_manifest()
    ds.update([2], {"x": [20]})
    ds.rename_field("s", "t")
    side = ds.branch("side")
    side.update([3], {"t": ["three"]})
    on_side = side.current_manifest()
    ds.append_many([{"_anchor": -1 + (1 << 40), "x": 1, "t": "new"}])
    appended = ds.current_manifest()
    ds.add_scalar_layer("p", "x", "int", [(1, 1)])
    layered = ds.current_manifest()
    ds.merge(side)
    assert ds.blame(1, "x").manifest == edited
    assert ds.blame(0, "x").manifest == created
    assert ds.blame(0, "t").manifest == created
    assert ds.blame(3, "t").manifest == on_side
    assert ds.blame(-1 + (1 << 40), "x").manifest == appended
    assert ds.blame(1, "p").manifest == layered
    assert ds.blame(0, "p").manifest == layered
    assert ds.blame(1, "x").operation["name"] == "update"
    # Deleted and added again: the one who added it again.
    ds.delete([5])
    ds.append_many([{"_anchor": 5, "x": 5, "t": "5"}])
    assert ds.blame(5, "x").manifest == ds.current_manifest()
    with pytest.raises(vd.AnchorNotFoundError):
        ds.blame(12345, "x")
    with pytest.raises(vd.AnchorNotFoundError):
        ds.blame(-1, "x")
    with pytest.raises(vd.FieldNotFoundError, match="'y'"):
        ds.blame(1, "y")
    with pytest.raises(vd.InvalidInputError):
        ds.blame("1", "x")  # type: ignore[arg-type]


def test_blame_of_a_conflict_that_was_decided_is_the_merge() -> None:
    ours = _start().branch("ours")
    theirs = ours.branch("theirs")
    ours.update([1], {"x": [10]})
    theirs.update([1], {"x": [20]})
    ours.merge(theirs, resolve=lambda c: c.use(30))
    assert ours.blame(1, "x").manifest == ours.current_manifest()


def test_blame_passes_over_manifests_by_their_roots() -> None:
    backend = CountingBackend(
        vd.connect(f"memory://steps-{next(_NUMBERS)}", create=True)._space.backend
    )
    schema = vd.Schema().add_scalar_int("x").add_scalar_int("y")
    ds = vd.Dataset.create("main", schema, backend=backend)
    ds.append_many([{"_anchor": i, "x": i, "y": 0} for i in range(100)])
    ds.update([50], {"x": [-1]})
    written = ds.current_manifest()
    for number in range(40):
        ds.update([7], {"y": [number]})
    fresh = CountingBackend(backend.inner)
    handle = vd.Dataset.open_ref("main", fresh)
    assert handle.blame(50, "x").manifest == written
    # Two objects per manifest, and the trees of two contents.
    assert len(fresh.tally.opened) <= 2 * 43 + 20
