"""Expired history: what is kept, what walks meet, and what the collector frees."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from dreamdb.dataset.session import OpenSpace
from dreamdb.history import (
    ancestor_at_time,
    ancestors,
    change_cuts,
    is_ancestor,
    load_manifest,
    merge_base,
    read_cuts,
    skip_address,
)
from dreamdb.maintain import expire_history
from dreamdb.model import Manifest
from dreamdb.objects import Kind, from_text, seal, to_text
from dreamdb.store import Backend, documents_of
from dreamdb.testing import FaultBackend, SimulatedCrash, enumerate_faults
from dreamdb.types import Address
from tests.maintain.spaces import collect, fresh, make, objects, open_caches, state, well

DAY = 86_400 * 10**9


def expire(backend: Backend, keep: Any, **options: Any) -> Any:
    """Expire with nothing in the caches."""
    return expire_history(backend, open_caches(backend).source, keep, dry_run=False, **options)


def long_line(backend: Backend, commits: int = 20) -> vd.Dataset:
    """Return a dataset whose label of one record was changed again and again."""
    ds = make(backend, rows=6, commits=1)
    for number in range(commits):
        ds.update([10], {"x": [1_000 + number]}, message=f"change {number}")
    return ds


def records(backend: Backend) -> Any:
    """Return what readers see, without the histories."""
    return {name: seen[:3] for name, seen in state(backend).items()}


def test_snapshots_and_tips_stay_the_rest_goes() -> None:
    backend = fresh()
    ds = long_line(backend, 10)
    ds.snapshot("half")
    half = ds.current_manifest()
    for number in range(10):
        ds.update([20], {"x": [2_000 + number]}, message=f"later {number}")
    seen, before = records(backend), objects(backend)
    looked = vd.connect(backend).expire(3)
    assert looked.dry_run
    assert not read_cuts(documents_of(backend))
    report = expire(backend, 3)
    assert (report.kept, len(report.expired), report.cuts) == (4, 18, 2)
    assert report.expired == looked.expired
    assert [message for _, _, message in report.expired[:2]] == ["later 6", "later 5"]
    assert objects(backend) == before
    assert records(backend) == seen
    fresh_log = vd.Dataset(open_caches(backend), "main", from_text(ds.current_manifest()), None)
    log = fresh_log.log()
    assert [r.message for r in log] == ["later 9", "later 8", "later 7", "change 9"]
    assert log[2].parents == (half,)
    assert log[3].parents == ()
    assert well(backend)
    assert collect(backend).removed > 18
    assert records(backend) == seen
    assert well(backend)
    assert vd.connect(backend).expire(3).expired == ()


def test_a_span_keeps_what_is_young() -> None:
    backend = fresh()
    long_line(backend, 5)
    import time

    now = time.time_ns()
    assert expire(backend, "1 day").expired == ()
    assert not read_cuts(documents_of(backend))
    assert expire(backend, "30 days", now_ns=now + 29 * DAY).expired == ()
    report = expire(backend, datetime.timedelta(days=30), now_ns=now + 31 * DAY)
    assert (report.kept, len(report.expired)) == (1, 6)


@pytest.mark.parametrize(
    "keep", [0, -1, True, "", "0", "0 days", "days", "3 parsecs", 1.5, None, "-3 days"]
)
def test_what_keeps_nothing_is_refused(keep: Any) -> None:
    backend = fresh()
    long_line(backend, 2)
    with pytest.raises(vd.InvalidInputError, match="keep="):
        vd.connect(backend).expire(keep, dry_run=False)
    assert not read_cuts(documents_of(backend))


def test_an_old_program_refuses_and_says_why() -> None:
    from dreamdb.model import required_features

    backend = fresh()
    long_line(backend, 3)
    assert required_features(backend.read_space() or b"", "here") == frozenset()
    expire(backend, 1)
    assert required_features(backend.read_space() or b"", "here") == {"cuts"}


def test_writing_and_travelling_go_on_behind_a_cut() -> None:
    backend = fresh()
    ds = long_line(backend, 20)
    times = [r.time_ns for r in ds.log()]
    expire(backend, 5)
    collect(backend)
    again = vd.Dataset(open_caches(backend), "main", from_text(ds.current_manifest()), None)
    for number in range(20):
        again.update([20], {"x": [number]})
    assert len(again.log()) == 25
    assert len(again.history()) == 25
    opened = open_caches(backend)
    line = [address for address, _ in ancestors(opened.cache, from_text(again.current_manifest()))]
    assert all(is_ancestor(opened.cache, old, line[0]) for old in line)
    assert ancestor_at_time(opened.cache, line[0], times[4]) == line[-1]
    assert ancestor_at_time(opened.cache, line[0], times[0]) == line[20]
    with pytest.raises(vd.NotFoundError, match="nothing was committed"):
        ancestor_at_time(opened.cache, line[0], times[5])
    assert well(backend)


def test_a_process_that_knows_no_cut_learns_of_it() -> None:
    backend = fresh()
    ds = long_line(backend, 10)
    # Its caches hold the tip and no cut.
    stale = open_caches(backend)
    tip = from_text(ds.current_manifest())
    load_manifest(stale.cache, tip)
    expire(backend, 4)
    collect(backend)
    assert len(list(ancestors(stale.cache, tip))) == 4
    late = open_caches(backend)
    late.cache.cuts = {}
    assert merge_base(late.cache, tip, tip) == [tip]
    assert len(vd.Dataset(late, "main", tip, None).history()) == 4


def test_branches_can_still_be_merged() -> None:
    backend = fresh()
    ds = long_line(backend, 5)
    base = from_text(ds.current_manifest())
    side = ds.branch("side")
    for number in range(6):
        side.update([30], {"x": [number]})
        ds.update([40], {"x": [number]})
    tips = [from_text(d.current_manifest()) for d in (ds, side)]
    expire(backend, 2)
    collect(backend)
    cache = open_caches(backend).cache
    assert merge_base(cache, *tips) == [base]
    assert is_ancestor(cache, base, tips[0])
    assert is_ancestor(cache, base, tips[1])
    assert not is_ancestor(cache, tips[0], tips[1])


def _merged(
    opened: OpenSpace, parents: list[Address], content: Address, number: int
) -> tuple[Address, bytes]:
    before = [load_manifest(opened.cache, p) for p in parents]
    generation = max((m.generation for m in before), default=-1) + 1
    skip = skip_address(opened.cache, parents[0], generation) if parents else None
    time_ns = max([m.time_ns for m in before], default=10**18) + 1
    made = Manifest(
        content, tuple(parents), generation, skip, "ada", str(number), time_ns, {"name": "merge"}
    )
    sealed = seal(Kind.MANIFEST, [made.encode()], compress=True)
    upload = opened.backend.objects.upload()
    upload.put(sealed)
    upload.finish()
    return sealed.address, made.encode()


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=25),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_any_graph_stays_connected_as_it_was(
    shape: list[tuple[int, int]], keep: int, branches: int
) -> None:
    """Between manifests that are kept, ancestry and merge bases of tips are as before."""
    backend = fresh()
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), backend=backend)
    opened = open_caches(backend)
    root = from_text(ds.current_manifest())
    content = load_manifest(opened.cache, root).content
    made = [root]
    for number, (one, two) in enumerate(shape):
        parents = [made[-1 - one % len(made)]]
        if two % 3 == 0 and made[two % len(made)] != parents[0]:
            parents.append(made[two % len(made)])
        made.append(_merged(opened, parents, content, number)[0])
    rng = np.random.default_rng(len(shape))
    tips = [made[-1], *(made[int(rng.integers(len(made)))] for _ in range(branches - 1))]
    backend.refs.swap("main", backend.refs.read("main"), tips[0])
    for number, tip in enumerate(tips[1:]):
        backend.refs.swap(f"b{number}", None, tip)
    before = {
        (a, b): (is_ancestor(opened.cache, a, b), merge_base(opened.cache, a, b))
        for a, b in itertools.product(tips, tips)
    }
    whole = [a for a, _ in ancestors(opened.cache, *tips)]
    old = {(a, b): is_ancestor(opened.cache, a, b) for a, b in itertools.product(whole, whole)}
    expire(backend, keep)
    collect(backend)
    after = open_caches(backend)
    left = [a for a, _ in ancestors(after.cache, *tips)]
    assert set(tips) <= set(left) <= set(whole)
    assert len(left) >= min(keep, len(whole))
    assert left == [a for a in whole if a in left]
    for a, b in itertools.product(left, left):
        assert is_ancestor(after.cache, a, b) == old[a, b]
    for pair, (related, bases) in before.items():
        assert is_ancestor(after.cache, *pair) == related
        assert merge_base(after.cache, *pair) == bases
    assert well(backend)


def test_expiring_twice_cuts_further() -> None:
    backend = fresh()
    ds = long_line(backend, 20)
    ds.snapshot("end")
    expire(backend, 10)
    collect(backend)
    report = expire(backend, 2)
    assert (report.kept, len(report.expired), report.cuts) == (2, 8, 1)
    collect(backend)
    assert well(backend)


def test_an_expiry_may_die_anywhere() -> None:
    probe = FaultBackend(fresh())
    long_line(probe.inner, 6)
    expire(probe, 2)
    assert probe.mutations == 2
    for plan in enumerate_faults(probe.mutations):
        backend = fresh()
        long_line(backend, 6)
        seen = records(backend)
        with pytest.raises((SimulatedCrash, vd.StorageError)):
            expire(FaultBackend(backend, plan), 2)
        assert records(backend) == seen, plan
        assert well(backend), plan
        collect(backend)
        assert records(backend) == seen, plan
        expire(backend, 2)
        collect(backend)
        assert len(vd.Dataset.open_ref("main", backend).log()) == 2, plan
        assert records(backend) == seen, plan


def test_cuts_of_a_shallow_copy() -> None:
    """What a copy of one snapshot records: the history ends at its manifest."""
    backend = fresh()
    ds = long_line(backend, 4)
    tip = from_text(ds.current_manifest())
    change_cuts(backend, lambda cuts: {**cuts, tip: ()})
    assert [r.manifest for r in vd.Dataset(open_caches(backend), "main", tip, None).log()] == [
        to_text(tip)
    ]
    collect(backend)
    assert well(backend)
    change_cuts(backend, lambda cuts: {m: p for m, p in cuts.items() if m != tip})
    assert read_cuts(documents_of(backend)) == {}


def test_damaged_cuts_are_refused() -> None:
    backend = fresh()
    long_line(backend, 4)
    expire(backend, 1)
    documents = documents_of(backend)
    good = documents.read("cuts")
    assert good is not None
    for body in (b"", b"{}", good.body[:-1], good.body.replace(b"cuts", b"cutz")):
        documents.swap("cuts", documents.read("cuts"), body)
        with pytest.raises(vd.FormatError):
            open_caches(backend)
    documents.swap("cuts", documents.read("cuts"), good.body)
    assert well(backend)
