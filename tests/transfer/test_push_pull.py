"""Push, pull and fetch: which refs move, what is refused, what the other side then holds."""

from __future__ import annotations

from pathlib import Path

import pytest

import dreamdb as vd
from tests.transfer.spaces import KINDS, backend_of, memory, rows, sample, state


@pytest.mark.parametrize("there", KINDS)
@pytest.mark.parametrize("here", KINDS)
def test_commits_go_there_and_back(here: str, there: str, tmp_path: Path) -> None:
    ours, theirs = backend_of(here, tmp_path), backend_of(there, tmp_path)
    ds = sample(ours)
    vd.connect(theirs, create=True)
    report = ds.push(theirs)
    assert [(r.name, r.kind, r.old, r.new) for r in report.refs] == [
        ("main", "branch", None, ds.current_manifest())
    ]
    assert state(theirs)["main"] == state(ours)["main"]
    assert ds.push(theirs, "v1").refs[0].kind == "snapshot"
    assert state(theirs)["v1"] == state(ours)["v1"]
    other = vd.Dataset.open_ref("main", theirs)
    other.append(rows(1_000, 1_100))
    other.update([5], {"word": ["changed"]})
    pulled = ds.pull(theirs)
    assert [(r.name, r.new) for r in pulled.refs] == [
        ("remotes/origin/main", other.current_manifest()),
        ("main", other.current_manifest()),
    ]
    assert ds.current_manifest() == other.current_manifest()
    assert ds.take([5], ["word"])["word"].to_pylist() == ["changed"]
    assert state(ours)["main"] == state(theirs)["main"]
    assert vd.connect(ours).verify().ok
    assert vd.connect(theirs).verify().ok


def test_what_is_up_to_date_moves_nothing() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    vd.connect(theirs, create=True)
    ds.push(theirs)
    for again in (ds.push(theirs), ds.push(theirs, force=True)):
        assert (again.refs, again.objects, again.nbytes, again.manifests) == ((), 0, 0, 0)
    ds.pull(theirs)
    assert ds.pull(theirs).refs == ()
    ds.append(rows(900, 910))
    # We are ahead: there is nothing to pull, and nothing is lost.
    assert ds.pull(theirs).refs == ()
    assert ds.count() == 409
    assert vd.connect(theirs).reflog("main") == []


def test_diverged_branches_are_refused_both_ways() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    vd.clone(ours, theirs)
    other = vd.Dataset.open_ref("main", theirs)
    ds.append(rows(1_000, 1_010))
    other.append(rows(2_000, 2_010))
    before, after = state(ours), state(theirs)
    with pytest.raises(vd.ConflictError, match="cannot move") as pushed:
        ds.push(theirs)
    assert "pull" in (pushed.value.hint or "")
    assert state(theirs) == after
    with pytest.raises(vd.ConflictError, match="cannot move") as pulled:
        ds.pull(theirs)
    assert "merge 'remotes/origin/main' into 'main'" in (pulled.value.hint or "")
    assert pulled.value.details["unrelated"] is False
    assert state(ours) == before
    # What was fetched is here, complete, and read-only.
    tracking = vd.Dataset.open_ref("remotes/origin/main", ours)
    assert tracking.current_manifest() == other.current_manifest()
    assert tracking.scan().to_arrow().equals(other.scan().to_arrow())
    with pytest.raises(vd.ReadOnlyError, match="follows another space"):
        tracking.append(rows(5_000, 5_001))


def test_a_forced_push_leaves_the_old_tip_in_the_reflog() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    vd.clone(ours, theirs)
    other = vd.Dataset.open_ref("main", theirs)
    other.append(rows(2_000, 2_010))
    ds.append(rows(1_000, 1_010))
    report = ds.push(theirs, force=True)
    assert report.refs[0].forced
    (line,) = vd.connect(theirs).reflog("main")
    assert (line["old"], line["new"]) == (other.current_manifest(), ds.current_manifest())
    assert line["why"] == "push: forced"
    kept = vd.Dataset.open_by_manifest(other.current_manifest(), theirs)
    assert kept.count() == 409
    assert state(theirs)["main"] == state(ours)["main"]


def test_a_remote_that_was_moved_by_force_is_fetched_with_a_line_in_the_log() -> None:
    ours, theirs = memory(), memory()
    ds = sample(theirs)
    vd.connect(ours, create=True).fetch(theirs)
    first = ds.current_manifest()
    side = vd.Dataset.open_ref("side", theirs)
    vd.connect(theirs).delete_ref("main")
    side.branch("main")
    report = vd.connect(ours).fetch(theirs, "main")
    assert [(r.name, r.old, r.forced) for r in report.refs] == [
        ("remotes/origin/main", first, True)
    ]
    (line,) = vd.connect(ours).reflog("remotes/origin/main")
    assert (line["old"], line["new"]) == (first, side.current_manifest())


def test_fetch_takes_all_refs_and_moves_no_branch() -> None:
    ours, theirs = memory(), memory()
    sample(theirs)
    own = vd.Dataset.create("main", vd.Schema().add_scalar_int("other"), ours)
    space = vd.connect(ours)
    report = space.fetch(theirs, name="lab")
    assert [r.name for r in report.refs] == ["remotes/lab/main", "remotes/lab/side", "v1"]
    assert space.list_refs() == ["main", "remotes/lab/main", "remotes/lab/side", "v1"]
    assert space.datasets() == ["main"]
    assert own.refresh().count() == 0
    assert state(space)["v1"] == state(theirs)["v1"]
    assert space.fetch(theirs, name="lab").refs == ()
    # What follows another space is not sent on.
    third = vd.connect(memory(), create=True)
    third.fetch(space)
    assert third.list_refs() == ["remotes/origin/main", "v1"]


def test_unrelated_histories_are_named_as_such() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    vd.Dataset.create("main", schema=vd.Schema().add_scalar_int("x"), backend=theirs)
    with pytest.raises(vd.ConflictError, match="nothing in common") as pulled:
        ds.pull(theirs)
    assert pulled.value.details["unrelated"] is True
    with pytest.raises(vd.ConflictError):
        ds.push(theirs)
    assert ds.push(theirs, force=True).refs[0].forced
    assert vd.Dataset.open_ref("main", theirs).count() == ds.count()


def test_snapshots_never_move() -> None:
    ours, theirs = memory(), memory()
    ds, other = sample(ours), sample(theirs)
    before = state(theirs)
    for attempt in (
        lambda: ds.push(theirs, "v1"),
        lambda: ds.push(theirs, "v1", force=True),
        lambda: vd.connect(ours).fetch(theirs),
    ):
        with pytest.raises(vd.AlreadyExistsError, match="another snapshot 'v1'"):
            attempt()
    assert state(theirs) == before
    # Nothing of that fetch arrived: it was refused before it began.
    assert "remotes/origin/main" not in vd.connect(ours).list_refs()
    assert vd.connect(ours).fetch(theirs, ["main"]).refs
    # A branch and a snapshot of one name are not the same either.
    ds.branch("name")
    other.snapshot("name")
    with pytest.raises(vd.AlreadyExistsError, match="another snapshot 'name'"):
        ds.push(theirs, "name", force=True)
    with pytest.raises(vd.AlreadyExistsError, match="another branch 'name'"):
        other.push(ours, "name", force=True)


def test_a_branch_is_pulled_from_one_of_another_name() -> None:
    ours, theirs = memory(), memory()
    sample(theirs)
    vd.clone(theirs, ours, ref=["main"])
    fork = vd.Dataset.open_ref("main", theirs).branch("next")
    fork.append(rows(3_000, 3_005))
    ds = vd.Dataset.open_ref("main", ours)
    assert [r.name for r in ds.pull(theirs, "next").refs] == ["remotes/origin/next", "main"]
    assert ds.current_manifest() == fork.current_manifest()
    # A snapshot can be pulled too: it keeps its name.
    fork.append(rows(3_005, 3_010))
    fork.snapshot("v2")
    assert [r.name for r in ds.pull(theirs, "v2").refs] == ["v2", "main"]
    assert ds.current_manifest() == fork.current_manifest()


@pytest.mark.parametrize("verb", ["push", "pull", "fetch"])
def test_bad_arguments_are_refused_before_anything_moves(verb: str, tmp_path: Path) -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    sample(theirs)
    before = state(theirs)
    call = ds.push if verb == "push" else ds.pull
    if verb == "fetch":
        call = vd.connect(ours).fetch
    with pytest.raises(vd.NotFoundError, match="there is no space"):
        call(tmp_path / "nowhere")
    with pytest.raises(vd.InvalidInputError, match="the same space"):
        call(ours)
    with pytest.raises(vd.InvalidInputError, match="not a int"):
        call(7)
    with pytest.raises(vd.RefNotFoundError, match="'mian'") as missing:
        call(theirs, "mian")
    assert "'main'" in (missing.value.hint or "")
    assert state(theirs) == before
    assert not [n for n in vd.connect(ours).list_refs() if n.startswith("remotes/")]


def test_handles_that_cannot_take_part() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    vd.connect(theirs, create=True)
    with pytest.raises(vd.ReadOnlyError):
        vd.Dataset.open_ref("v1", ours).pull(theirs)
    pinned = vd.Dataset.open_by_manifest(ds.current_manifest(), ours)
    with pytest.raises(vd.InvalidInputError, match="no ref to push"):
        pinned.push(theirs)
    assert pinned.push(theirs, "main").refs
    with pytest.raises(vd.RefNameError):
        vd.connect(ours).fetch(theirs, name="two/segments")
    with pytest.raises(vd.RefNameError):
        vd.connect(ours).fetch(theirs, name="")


def test_names_of_tracking_refs_cannot_be_made_by_hand() -> None:
    ours, name = memory(), "remotes/origin/x"
    ds = sample(ours)
    for make in (
        lambda: vd.Dataset.create(name, vd.Schema().add_text("t"), ours),
        lambda: ds.branch(name),
        lambda: ds.snapshot(name),
    ):
        with pytest.raises(vd.RefNameError, match="follow other spaces"):
            make()


def test_renamed_and_dropped_fields_travel() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    vd.clone(ours, theirs)
    ds.rename_field("raw", "blob")
    ds.drop_field("v")
    ds.add_scalar_layer("score", "x", "float", [(7, 0.5)])
    report = ds.push(theirs)
    assert report.manifests == 3
    # A rename moves documents only; the new layer is one fragment and one node.
    assert report.objects == 3 * 2 + 2
    assert state(theirs)["main"] == state(ours)["main"]
    assert vd.connect(theirs).verify().ok
