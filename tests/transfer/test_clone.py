"""Clones: whole, of some refs, of one version, of some fields; and what can be done with them."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

import dreamdb as vd
from dreamdb.model import new_space
from dreamdb.objects import encode_document
from dreamdb.store import Backend, documents_of, open_backend
from dreamdb.testing import FaultBackend, FaultPlan, flip_bit
from tests.transfer.spaces import (
    KINDS,
    addresses,
    backend_of,
    counting,
    memory,
    needed,
    rows,
    sample,
    state,
)


def _history(backend: Backend, commits: int = 21) -> vd.Dataset:
    """Return ``main`` with many commits, each a snapshot ``at-<number>``."""
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x").add_binary("raw"), backend)
    for number in range(1, commits):
        ds.append_many([{"_anchor": number, "x": number, "raw": b"." * number}])
        ds.snapshot(f"at-{number}")
    return ds


# ---------------------------------------------------------------- whole


@pytest.mark.parametrize("there", KINDS)
@pytest.mark.parametrize("here", KINDS)
def test_a_clone_is_the_same_space(here: str, there: str, tmp_path: Path) -> None:
    ours, theirs = backend_of(here, tmp_path), backend_of(there, tmp_path)
    sample(ours)
    seen: list[int] = []
    made = vd.clone(ours, theirs, progress=lambda objects, nbytes: seen.append(nbytes))
    assert isinstance(made, vd.Space)
    assert state(made) == state(ours)
    assert made.verify().ok
    assert len(seen) == len(addresses(theirs))
    assert sum(seen) == sum(nbytes for _, nbytes in theirs.objects.list())
    assert theirs.read_space() == ours.read_space()
    # Again: nothing to do.
    there_again = counting(theirs)
    with there_again.measured() as written:
        vd.clone(ours, there_again)
    assert written.stored == []
    assert made.open("main").append(rows(9_000, 9_001)) == 1


def test_only_the_named_refs_are_cloned() -> None:
    ours, theirs = memory(), memory()
    sample(ours)
    vd.connect(ours).fetch(_other())
    made = vd.clone(ours, theirs, ["side", "v1"])
    assert made.list_refs() == ["side", "v1"]
    assert addresses(theirs) == needed(ours, "side", "v1")
    everything = vd.clone(ours, memory())
    assert everything.list_refs() == ["main", "side", "v1", "w1"]


def _other() -> Backend:
    backend = memory()
    vd.Dataset.create("else", vd.Schema().add_text("t"), backend).snapshot("w1")
    return backend


def test_a_clone_fills_up_a_space_but_replaces_nothing() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    made = vd.clone(ours, theirs, "side")
    vd.clone(ours, theirs)
    assert state(made) == state(ours)
    # A branch that is behind moves forward, one that is ahead stays.
    ds.append(rows(1_000, 1_001))
    ahead = made.open("side")
    ahead.append(rows(2_000, 2_001))
    vd.clone(ours, theirs)
    assert made.open("main").current_manifest() == ds.current_manifest()
    assert made.open("side").current_manifest() == ahead.current_manifest()
    # One with commits of its own is in the way.
    made.open("main").append(rows(3_000, 3_001))
    ds.append(rows(4_000, 4_001))
    before = state(made)
    with pytest.raises(vd.AlreadyExistsError, match="another history"):
        vd.clone(ours, theirs)
    assert state(made) == before


def test_an_empty_space_and_an_empty_dataset_can_be_cloned() -> None:
    ours, theirs = memory(), memory()
    vd.connect(ours, create=True)
    assert vd.clone(ours, theirs).list_refs() == []
    vd.Dataset.create("main", vd.Schema().add_text("t"), ours)
    assert vd.clone(ours, theirs).open("main").count() == 0
    assert vd.clone(ours, memory(), "main", shallow=True).open("main").count() == 0


def test_bad_arguments_make_no_space() -> None:
    ours, theirs = memory(), memory()
    sample(ours)
    for match, arguments in (
        ("'v9'", {"ref": "v9"}),
        ("one version", {"shallow": True}),
        ("one version", {"ref": ["v1", "main"], "shallow": True}),
        ("no field 'y'", {"fields": ["y"]}),
        ("list of names", {"fields": "x"}),
        ("list of names", {"fields": []}),
    ):
        with pytest.raises(vd.DreamDBError, match=match):
            vd.clone(ours, theirs, **arguments)  # type: ignore[arg-type]
    with pytest.raises(vd.NotFoundError):
        vd.clone(memory(), theirs)
    assert theirs.read_space() is None
    with pytest.raises(vd.InvalidInputError, match="the same space"):
        vd.clone(ours, ours)


# ---------------------------------------------------------------- shallow


@pytest.mark.parametrize("number", [1, 2, 5, 8, 13, 16, 20])
def test_a_shallow_clone_is_one_version(number: int) -> None:
    ours, theirs = memory(), memory()
    ds = _history(ours)
    made = vd.clone(ours, theirs, f"at-{number}", shallow=True)
    opened = made.open(f"at-{number}")
    assert opened.count() == number
    assert (
        opened.scan().to_arrow().equals(vd.Dataset.open_ref(f"at-{number}", ours).scan().to_arrow())
    )
    (record,) = opened.log()
    assert record.cut
    assert "history is cut here" in opened.log().graph()
    assert made.verify().ok
    assert made.gc().garbage == ()
    # Of the versions before there is nothing: manifest, content, two trees, three fragments.
    assert len(addresses(theirs)) <= 9
    assert json.loads(theirs.read_space() or b"")["required"] == ["cuts"]
    # It can be worked on, and what was made in it goes back as if it had been made there.
    branch = opened.branch("work")
    for at in range(9):
        branch.append_many([{"_anchor": 1_000 + at, "x": at}])
    assert [r.cut for r in branch.log()] == [False] * 9 + [True]
    assert made.verify().ok
    pushed = branch.push(ours)
    assert pushed.manifests == 9
    assert vd.connect(ours).verify().ok
    whole = vd.Dataset.open_ref("work", ours)
    assert whole.scan().to_arrow().equals(branch.scan().to_arrow())
    assert len(whole.log()) == 9 + number + 1
    assert ds.count() == 20


def test_the_first_version_needs_no_cut() -> None:
    ours, theirs = memory(), memory()
    vd.Dataset.create("main", data={"x": [1, 2]}, backend=ours)
    vd.clone(ours, theirs, "main", shallow=True)
    assert theirs.read_space() == ours.read_space()


def test_a_shallow_clone_can_be_pulled_into() -> None:
    ours, theirs = memory(), memory()
    ds = _history(ours)
    made = vd.clone(ours, theirs, "main", shallow=True)
    ds.append_many([{"x": 1}])
    ds.append_many([{"x": 2}])
    here = made.open("main")
    report = here.pull(ours)
    assert report.manifests == 2
    assert here.count() == ds.count()
    assert len(here.log()) == 3
    # A branch from before the cut comes with its own history.
    old = vd.Dataset.open_ref("at-3", ours).branch("old")
    old.append_many([{"_anchor": 77}])
    made.fetch(ours, "old")
    assert len(made.open("remotes/origin/old").log()) == 5
    assert made.verify().ok
    assert here.history()[-1].cut


def test_what_lies_behind_a_cut_is_named() -> None:
    ours, theirs = memory(), memory()
    ds = _history(ours)
    time_ns = ds.log()[10].time_ns
    made = vd.clone(ours, theirs, "main", shallow=True)
    here = made.open("main")
    with pytest.raises(vd.NotFoundError) as early:
        made.open("main", at=time_ns)
    assert "cut" in (early.value.hint or "")
    with pytest.raises(vd.NotFoundError):
        vd.Dataset.open_by_manifest(ds.log()[10].manifest, theirs)
    # Where nobody has what it was cut from, it cannot be pushed.
    third = memory()
    vd.connect(third, create=True)
    with pytest.raises(vd.ConflictError, match="is cut at the manifest"):
        here.push(third)
    assert vd.connect(third).list_refs() == []
    # It can be cloned, with its cut.
    again = vd.clone(theirs, memory())
    assert again.open("main").count() == ds.count()
    assert again.verify().ok
    # A remote that was behind the cut: whether it is older cannot be told, so it is refused.
    behind = memory()
    vd.clone(ours, behind, "at-5")
    vd.Dataset.open_ref("at-5", behind).branch("main")
    with pytest.raises(vd.ConflictError):
        here.push(behind)


def test_a_shallow_clone_of_a_branch_goes_on_with_the_version_it_began_with() -> None:
    ours, theirs = memory(), memory()
    ds = _history(ours)
    first = ds.current_manifest()
    failing = FaultBackend(ours)
    vd.Dataset.open_ref("main", failing).count()
    failing.plan = FaultPlan(reads=failing.reads + 4)
    with pytest.raises(vd.StorageError):
        vd.clone(failing, theirs, "main", shallow=True)
    ds.append_many([{"x": 1}])
    made = vd.clone(ours, theirs, "main", shallow=True)
    assert made.open("main").current_manifest() == first
    assert made.open("main").pull(ours).manifests == 1
    assert made.verify().ok
    # Another version is another clone.
    with pytest.raises(vd.AlreadyExistsError, match="another kind of space"):
        vd.clone(ours, theirs, "at-3", shallow=True)
    with pytest.raises(vd.AlreadyExistsError, match="another kind of space"):
        vd.clone(ours, theirs)


# ---------------------------------------------------------------- partial


def test_a_partial_clone_fetches_other_fields_when_they_are_read() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    made = vd.clone(ours, theirs, "main", fields=["x"])
    here = made.open("main")
    kept = addresses(theirs)
    assert kept < needed(ours, "main")
    there = counting(ours)
    # Reading what is kept asks nobody; the origin is not even opened.
    assert here["x"].to_pylist() == ds["x"].to_pylist()
    assert here.count() == ds.count()
    assert made.verify().ok
    assert made.verify().elsewhere > 0
    assert made.gc().garbage == ()
    assert addresses(theirs) == kept
    # Reading another field brings it, verified, and keeps it.
    assert here["word"].to_pylist() == ds["word"].to_pylist()
    brought = addresses(theirs) - kept
    assert brought
    assert brought < needed(ours, "main")
    fresh = vd.Dataset.open_ref("main", theirs)
    assert fresh["word"].to_pylist() == ds["word"].to_pylist()
    assert addresses(theirs) == kept | brought
    assert fresh.scan().to_arrow().equals(ds.scan().to_arrow())
    assert made.verify().ok
    assert there.tally.calls == {}


def test_a_partial_clone_remembers_its_origin_and_no_credentials(tmp_path: Path) -> None:
    ours, theirs = str(tmp_path / "ours"), str(tmp_path / "theirs")
    ds = vd.Dataset.create("main", data={"x": [1, 2], "y": ["a", "b"]}, backend=ours)
    made = vd.clone(ours, theirs, fields=["x"], source_options={"single_writer": True})
    space = json.loads((tmp_path / "theirs" / "space.json").read_text())
    assert space["required"] == ["partial"]
    text = (tmp_path / "theirs" / "partial").read_text()
    assert json.loads(text) == {
        "fields": ["x"],
        "format": 1,
        "origin": (tmp_path / "ours").as_uri(),
    }
    assert "single_writer" not in text
    handle = pickle.loads(pickle.dumps(made.open("main")))  # noqa: S301 - our own bytes
    assert handle["y"].to_pylist() == ["a", "b"]
    assert ds.count() == 2


def test_commits_in_a_partial_clone_go_back() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    made = vd.clone(ours, theirs, "main", fields=["x"])
    here = made.open("main")
    here.append(rows(1_000, 1_020))
    here.update([1], {"x": [99], "word": ["new"]})
    here.delete([2])
    here.push(ours)
    assert ds.refresh().scan().to_arrow().equals(here.scan().to_arrow())
    assert vd.connect(ours).verify().ok
    assert made.verify().ok


def test_a_pull_into_a_partial_clone_brings_its_fields_only() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    here = vd.clone(ours, theirs, "main", fields=["x", "word"]).open("main")
    ds.append(rows(1_000, 1_200))
    ds.add_scalar_layer("score", "x", "float", [(1, 0.5)])
    before = addresses(theirs)
    here.pull(ours)
    raw = vd.Dataset.open_ref("main", ours)
    whole = needed(ours, "main")
    came = addresses(theirs) - before
    assert came < whole - before
    assert here["x"].to_pylist() == raw["x"].to_pylist()
    assert addresses(theirs) == before | came
    assert here["score"].to_pylist() == raw["score"].to_pylist()
    assert here["v"].to_pylist() == raw["v"].to_pylist()


def test_an_origin_that_is_gone_or_damaged_is_named() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    made = vd.clone(ours, theirs, "main", fields=["x"])
    here = made.open("main")
    missing = needed(ours, "main") - addresses(theirs)
    stored = {address: bytes(ours.objects.open(address)) for address in missing}
    objects: dict[Any, bytes] = ours._space.objects  # type: ignore[attr-defined]
    for address, body in stored.items():
        objects[address] = flip_bit(8 * 66)(body)
    with pytest.raises(vd.IntegrityError):
        here["v"].to_pylist()
    for address in stored:
        del objects[address]
    with pytest.raises(vd.ObjectMissingError, match="which promised it"):
        here["v"].to_pylist()
    assert here["x"].to_pylist() == ds["x"].to_pylist()
    objects.update(stored)
    assert here["v"].to_pylist() == ds["v"].to_pylist()
    assert made.verify().ok


def test_a_partial_clone_that_cannot_keep_still_reads(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    vd.clone(ours, theirs, "main", fields=["x"])
    full = FaultBackend(theirs)
    here = vd.Dataset.open_ref("main", full)
    kept = addresses(theirs)

    def refuse(operation: str, call: Any, *, torn: Any = None) -> Any:
        raise vd.StorageError(f"cannot {operation}: no space left")

    full.mutate = refuse  # type: ignore[method-assign]
    assert here["word"].to_pylist() == ds["word"].to_pylist()
    assert addresses(theirs) == kept
    assert "could not be kept" in caplog.text


def test_a_clone_of_a_partial_clone_asks_the_same_origin() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    made = vd.clone(ours, theirs, "main", fields=["x"])
    again = memory()
    vd.clone(made, again)
    assert again.read_space() == theirs.read_space()
    assert addresses(again) == addresses(theirs)
    assert vd.Dataset.open_ref("main", again)["v"].to_pylist() == ds["v"].to_pylist()


@pytest.mark.parametrize("url", ["reference://x", "simplecache::s3://b/p", "/etc", "ssh://h/p"])
def test_only_plain_urls_are_followed(url: str, tmp_path: Path) -> None:
    ours, theirs = memory(), str(tmp_path / "theirs")
    ds = sample(ours)
    vd.clone(ours, theirs, "main", fields=["x"])
    path = tmp_path / "theirs" / "partial"
    path.write_text(path.read_text().replace(ours.url, url))
    here = vd.Dataset.open_ref("main", open_backend(theirs))
    assert here["x"].to_pylist() == ds["x"].to_pylist()
    with pytest.raises(vd.InvalidInputError, match="cannot fetch"):
        here["v"].to_pylist()
    odd = backend_of("fsspec", tmp_path)
    sample(odd)
    with pytest.raises(vd.InvalidInputError, match="cannot fetch"):
        vd.clone(odd, memory(), "main", fields=["x"])


def test_a_space_that_was_made_anew_is_opened_anew(tmp_path: Path) -> None:
    ours, theirs = memory(), tmp_path / "theirs"
    ds = sample(ours)
    old = vd.clone(ours, theirs, "main", fields=["x"])
    assert old.open("main").count() == ds.count()
    shutil.rmtree(theirs)
    new = vd.clone(ours, theirs, "main", shallow=True)
    assert new.verify().elsewhere == 0
    assert new.open("main")["v"].to_pylist() == ds["v"].to_pylist()
    assert new.open("main").log()[0].cut


def test_a_shallow_and_partial_clone() -> None:
    ours, theirs = memory(), memory()
    ds = _history(ours)
    made = vd.clone(ours, theirs, "at-13", shallow=True, fields=["x"])
    here = made.open("at-13")
    assert here["x"].to_pylist() == list(range(1, 14))
    assert made.verify().ok
    assert here["raw"].to_pylist() == [b"." * n for n in range(1, 14)]
    assert json.loads(theirs.read_space() or b"")["required"] == ["cuts", "partial"]
    assert ds.count() == 20


@pytest.mark.parametrize(
    "told",
    [
        None,
        {"fields": [], "format": 1, "origin": "memory://x"},
        {"fields": ["x"], "format": 1},
        {"fields": [1], "format": 1, "origin": "memory://x"},
        {"fields": "x", "format": 1, "origin": "memory://x"},
        {"fields": ["x"], "format": 1, "origin": 1},
        {"fields": ["x"], "format": 2, "origin": "memory://x"},
        {"fields": ["x"], "format": 1, "origin": "memory://x", "more": 1},
    ],
)
def test_a_malformed_partial_clone_is_refused(told: dict[str, Any] | None) -> None:
    backend = memory()
    documents = documents_of(backend)
    if told is not None:
        documents.swap("partial", None, encode_document(told))
    backend.create_space(new_space("partial"))
    with pytest.raises(vd.FormatError):
        vd.connect(backend)


def test_opening_a_whole_space_asks_for_no_document() -> None:
    ours, theirs = memory(), memory()
    sample(ours)
    vd.clone(ours, theirs, "main", fields=["x"])
    for backend, documents in ((ours, 0), (theirs, 1)):
        handle = counting(backend)
        with handle.measured() as spent:
            vd.connect(handle)
        assert spent.calls["read_space"] == 1
        assert spent.calls["documents.read"] == documents
