"""Only what is missing travels, each object once, and nothing is ever listed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from dreamdb.testing import Tally
from tests.transfer.spaces import addresses, counting, memory, needed, rows, sample, state


def _once(tally: Tally) -> bool:
    return len(tally.stored) == len(set(tally.stored))


def _no_listing(*tallies: Tally) -> bool:
    return not any(tally.calls["objects.list"] for tally in tallies)


def test_a_clone_sends_each_object_once() -> None:
    ours, theirs = memory(), memory()
    sample(ours)
    here, there = counting(ours), counting(theirs)
    with here.measured() as read, there.measured() as written:
        vd.clone(here, there)
    assert addresses(theirs) == needed(ours) == set(written.stored)
    assert _once(written)
    assert _no_listing(read, written)
    # Manifests are read twice: to find out what is missing, and to be copied.
    manifests = {len(log) for _, _, log, _ in state(ours).values()}
    assert len(read.opened) <= len(written.stored) + 2 * max(manifests) + 8


def test_a_push_sends_what_the_other_side_lacks() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    vd.clone(ours, theirs)
    before = addresses(theirs)
    ds.append(rows(1_000, 1_100))
    ds.update([7], {"x": [7]})
    there = counting(theirs)
    with there.measured() as written:
        report = ds.push(there)
    assert set(written.stored) == needed(ours, "main") - before
    assert report.objects == len(written.stored)
    assert report.nbytes == written.nbytes["objects.put"]
    assert _once(written)
    assert _no_listing(written)
    assert written.calls["refs.swap"] == 1
    # Nothing is read there but the ref and its kind: what both have is known by its address.
    assert written.calls["objects.open"] == 1


def test_objects_that_another_branch_brought_are_not_sent_again() -> None:
    ours, theirs = memory(), memory()
    ds = sample(ours)
    ds.branch("twin")
    ds.append(rows(5_000, 5_300))
    vd.clone(ours, theirs, "main")
    twin = vd.Dataset.open_ref("twin", ours)
    twin.append(rows(5_000, 5_300))
    there = counting(theirs)
    with there.measured() as written:
        report = twin.push(there)
    # Equal records are equal objects: only the manifest differs.
    assert report.objects == 1
    assert len(written.stored) == 1


def test_a_pull_of_one_percent_moves_little_more() -> None:
    ours, theirs = memory(), memory()
    schema = vd.Schema().add_scalar_int("x").add_embedding("v", 64).add_binary("raw")
    ds = vd.Dataset.create("main", schema, theirs)
    generator = np.random.default_rng(0)

    def more(start: int, stop: int) -> dict[str, Any]:
        return {
            "_anchor": np.arange(start, stop),
            "x": generator.integers(0, 1 << 40, stop - start),
            "v": generator.standard_normal((stop - start, 64), dtype=np.float32),
            "raw": [generator.bytes(512) for _ in range(stop - start)],
        }

    ds.append(more(0, 60_000))
    vd.clone(theirs, ours)
    whole = sum(nbytes for _, nbytes in theirs.objects.list())
    ds.append(more(60_000, 60_600))
    there = counting(theirs)
    with there.measured() as read:
        report = vd.Dataset.open_ref("main", ours).pull(there)
    moved = read.nbytes["objects.open"] + read.nbytes["objects.read"]
    assert report.nbytes <= moved <= 0.013 * whole
    assert _no_listing(read)
    assert vd.connect(ours).verify().ok


def test_requests_of_a_small_pull_do_not_grow_with_the_data() -> None:
    counts = []
    for size in (20_000, 200_000):
        ours, theirs = memory(), memory()
        ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), theirs)
        ds.append({"_anchor": np.arange(size) * 10, "x": np.arange(size)})
        vd.clone(theirs, ours)
        ds.update([50], {"x": [1]})
        there = counting(theirs)
        with there.measured() as read:
            vd.Dataset.open_ref("main", ours).pull(there)
        counts.append(read.calls["objects.open"])
    assert max(counts) <= 10
    assert counts[1] <= counts[0] + 2


_CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["append", "update", "delete", "layer", "drop", "branch", "snapshot"]),
        st.integers(0, 60),
        st.booleans(),
    ),
    max_size=6,
)


class _Side:
    """One space of the random histories, and changes by number."""

    def __init__(self, space: vd.Space) -> None:
        self.space = space

    def apply(self, verb: str, number: int, tag: str) -> None:
        ds = self.space.open("main")
        anchors = ds.scan().to_arrow()["_anchor"].to_pylist()
        if verb == "append":
            first = 10_000 + 1_000 * (max(anchors, default=0) // 1_000 + 1)
            ds.append_many([{"_anchor": first + i, "x": i} for i in range(number)])
        elif verb == "update" and anchors:
            ds.update([anchors[number % len(anchors)]], {"x": [number]})
        elif verb == "delete" and anchors:
            ds.delete([anchors[number % len(anchors)]])
        elif verb == "layer" and anchors:
            ds.add_scalar_layer(f"f{number}", "x", "int", [(anchors[0], 1)], mode="replace")
        elif verb == "drop" and "w" in ds.schema:
            ds.drop_field("w")
        elif verb == "branch":
            ds.branch(f"b-{tag}")
        elif verb == "snapshot":
            ds.snapshot(f"s-{tag}")


@given(common=_CHANGES, ours=_CHANGES, theirs=_CHANGES, force=st.booleans())
def test_random_histories_arrive_whole(common: Any, ours: Any, theirs: Any, force: bool) -> None:
    here, there = memory(), memory()
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x").add_scalar_int("w"), here)
    ds.append_many([{"_anchor": i, "x": i, "w": i} for i in range(80)])
    left = _Side(vd.connect(here))
    for at, (verb, number, _) in enumerate(common):
        left.apply(verb, number, f"c{at}")
    right = _Side(vd.clone(here, there))
    assert state(right.space) == state(left.space)
    for side, changes, letter in ((left, ours, "o"), (right, theirs, "t")):
        for at, (verb, number, _) in enumerate(changes):
            side.apply(verb, number, f"{letter}{at}")
    before = addresses(there)
    old, new = state(right.space)["main"], state(left.space)["main"]
    stays = old[1] in new[2]
    try:
        left.space.open("main").push(there, force=force)
    except vd.ConflictError:
        assert not stays
        assert not force
        assert state(right.space)["main"] == old
    else:
        assert stays or force
        assert state(right.space)["main"] == new
        assert addresses(there) - before == needed(here, "main") - before
    report = right.space.fetch(here)
    for move in report.refs:
        fetched = right.space.open(move.name)
        origin = left.space.open(move.name.removeprefix("remotes/origin/"))
        assert fetched.scan().to_arrow().equals(origin.scan().to_arrow())
    assert right.space.verify().ok


@pytest.mark.parametrize("number", [1, 7, 40])
def test_what_an_interrupted_copy_left_is_not_taken_for_whole(number: int) -> None:
    """A parent may be there without its children; only what a ref reaches is taken for whole."""
    ours, theirs = memory(), memory()
    sample(ours, 3_000)
    vd.connect(theirs, create=True)
    whole = vd.clone(ours, memory())
    upload = theirs.objects.upload()
    # Every other object is there, parents without children among them.
    from dreamdb.objects import copy_sealed

    for address in sorted(needed(whole._space.stored))[:: 1 + number % 3]:
        upload.put(copy_sealed(address, ours.objects.open(address), None)[1])
    upload.finish()
    present = addresses(theirs)
    there = counting(theirs)
    with there.measured() as written:
        vd.clone(ours, there)
    assert not present & set(written.stored)
    assert addresses(theirs) == needed(ours)
    assert vd.connect(theirs).verify().ok
    assert state(theirs) == state(ours)
