"""Two trees walked together: what one has and the other has not, and no more than that is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.model import EntryRuns, empty_entries
from dreamdb.model.tree_diff import differing_entries
from dreamdb.types import Address
from tests.model.test_tree import NO_KEYS, Nodes, entries_of


def _differ(nodes: Nodes, left: Address | None, right: Address | None) -> tuple[set[int], set[int]]:
    one, two = differing_entries(left, right, 1, load=nodes.load)
    return set(one.entries["key"].tolist()), set(two.entries["key"].tolist())


def _check_starts(runs: EntryRuns, keys: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> None:
    rows = entries_of(keys)["rows"].astype(np.int64)
    starts = dict(zip(keys.tolist(), (np.cumsum(rows) - rows).tolist(), strict=True))
    assert runs.starts.tolist() == [starts[k] for k in runs.entries["key"].tolist()]


KEYS = st.sets(st.integers(0, 3_000), max_size=400)


@given(shared=KEYS, left=KEYS, right=KEYS, changed=st.sets(st.integers(0, 3_000), max_size=20))
def test_the_entries_of_one_side_alone(
    shared: set[int], left: set[int], right: set[int], changed: set[int]
) -> None:
    nodes = Nodes()
    roots, keys = [], []
    for number, own in enumerate((left, right)):
        all_keys = np.array(sorted(shared | own), np.uint64)
        entries = entries_of(all_keys)
        if number:
            marked = np.isin(all_keys, np.array(sorted(changed), np.uint64))
            entries[marked] = entries_of(all_keys[marked], mark=1)
        keys.append(all_keys)
        roots.append(nodes.build(entries))
    runs = differing_entries(roots[0], roots[1], 1, load=nodes.load)
    sets = [set(k.tolist()) for k in keys]
    touched = sets[0] & sets[1] & changed
    assert set(runs[0].entries["key"].tolist()) == (sets[0] - sets[1]) | touched
    assert set(runs[1].entries["key"].tolist()) == (sets[1] - sets[0]) | touched
    for run, all_keys in zip(runs, keys, strict=True):
        _check_starts(run, all_keys)


@pytest.mark.parametrize("size", [20_000, 200_000])
def test_ten_changes_read_their_paths(size: int) -> None:
    nodes = Nodes()
    keys = np.arange(size, dtype=np.uint64) * np.uint64(3)
    left = nodes.build(entries_of(keys))
    picked = np.sort(np.random.default_rng(0).choice(keys, 10, replace=False))
    right = nodes.edit(left, NO_KEYS, entries_of(picked, mark=1))
    nodes.read = 0
    assert _differ(nodes, left, right) == (set(picked.tolist()), set(picked.tolist()))
    # The roots, and at most two inner nodes and two leaves per change and side.
    assert nodes.read <= 2 * (1 + 3 * 10)
    nodes.read = 0
    assert _differ(nodes, left, left) == (set(), set())
    assert nodes.read <= 2


def test_an_empty_side() -> None:
    nodes = Nodes()
    keys = np.arange(500, dtype=np.uint64)
    root = nodes.build(entries_of(keys))
    assert _differ(nodes, None, root) == (set(), set(range(500)))
    assert _differ(nodes, root, None) == (set(range(500)), set())
    assert _differ(nodes, None, None) == (set(), set())
    assert len(differing_entries(None, None, 1, load=nodes.load)[0].entries) == len(
        empty_entries(1)
    )


def test_a_shared_subtree_is_not_passed_over_where_records_differ() -> None:
    nodes = Nodes()
    keys = np.arange(1_000, dtype=np.uint64)
    root = nodes.build(entries_of(keys))
    starts = np.cumsum(entries_of(keys)["rows"].astype(np.int64))
    stranger = int(starts[499])

    def same(left: int, right: int, count: int) -> bool:
        return left == right and not left <= stranger < left + count

    runs = differing_entries(root, root, 1, load=nodes.load, same=same)
    assert [run.entries["key"].tolist() for run in runs] == [[500], [500]]
