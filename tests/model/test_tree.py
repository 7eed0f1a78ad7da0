"""Canonical trees: an edited tree is the tree that would have been built, bounded and checked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dreamdb.errors import FormatError
from dreamdb.model import (
    Entries,
    Node,
    build_tree,
    edit_tree,
    empty_entries,
    leaf_entries,
    walk_nodes,
)
from dreamdb.objects import Kind, address_of
from dreamdb.types import Address

Keys = npt.NDArray[np.uint64]
NO_KEYS: Keys = np.empty(0, np.uint64)


class Nodes(dict[Address, Node]):
    """Nodes by address; counts how many were stored anew."""

    written = 0
    read = 0

    def load(self, address: Address) -> Node:
        self.read += 1
        return Node.decode(self[address].encode())

    def emit(self, node: Node) -> Address:
        address = address_of(Kind.NODE, [node.encode()])
        self.written += address not in self
        self[address] = node
        return address

    def build(self, entries: Entries) -> Address | None:
        return build_tree(entries, 1, load=self.load, emit=self.emit)

    def edit(self, root: Address | None, gone: Keys, new: Entries) -> Address | None:
        return edit_tree(root, gone, new, 1, load=self.load, emit=self.emit)


def entries_of(keys: Keys, mark: int = 0) -> Entries:
    """Return one entry per key; the mark changes their values."""
    out = empty_entries(1, len(keys))
    out["key"] = keys
    out["rows"] = keys % np.uint64(7) + np.uint64(1)
    out["nbytes"] = 100 + mark
    out["low"], out["high"] = keys.astype(np.int64), keys.astype(np.int64) + mark
    raw = np.zeros((len(keys), 33), np.uint8)
    raw[:, 0], raw[:, 1] = 0x1E, mark
    raw[:, 2:10] = keys.view(np.uint8).reshape(-1, 8)
    out["address"] = raw.view("V33").reshape(-1)
    return out


def random_keys(seed: int, count: int) -> Keys:
    dice = np.random.default_rng(seed)
    return np.unique(dice.integers(1, 1 << 50, count, dtype=np.uint64))


def apply(entries: Entries, gone: Keys, new: Entries) -> Entries:
    """Return the entries that should be left, the simple way."""
    kept = entries[~np.isin(entries["key"], np.concatenate([gone, new["key"]]))]
    joined = np.concatenate([kept, new])
    return joined[np.argsort(joined["key"])]


def check(nodes: Nodes, root: Address | None, entries: Entries) -> None:
    """Require the tree that a fresh build gives, and that reading returns the entries."""
    assert root == Nodes().build(entries)
    found, first = leaf_entries(root, 1, load=nodes.load)
    assert first == 0
    assert found.tobytes() == entries.tobytes()


class EditedTrees(RuleBasedStateMachine):
    """Random edits; after each the root is the one a fresh build gives."""

    @initialize(seed=st.integers(0, 1 << 30), count=st.sampled_from((0, 1, 60, 700, 4_000)))
    def start(self, seed: int, count: int) -> None:
        self.nodes, self.dice = Nodes(), np.random.default_rng(seed)
        self.entries = entries_of(random_keys(seed, count))
        self.root = self.nodes.build(self.entries)

    def change(self, gone: Keys, new: Entries) -> None:
        self.root = self.nodes.edit(self.root, gone, new)
        self.entries = apply(self.entries, gone, new)

    @rule(count=st.integers(1, 300))
    def insert(self, count: int) -> None:
        self.change(NO_KEYS, entries_of(random_keys(int(self.dice.integers(1 << 30)), count), 1))

    @rule(count=st.integers(1, 300))
    def append(self, count: int) -> None:
        last = self.entries["key"][-1] if len(self.entries) else np.uint64(0)
        steps = self.dice.integers(1, 1 << 20, count, dtype=np.uint64)
        self.change(NO_KEYS, entries_of(last + np.cumsum(steps), 2))

    @rule(count=st.integers(1, 300))
    def remove_some(self, count: int) -> None:
        if len(self.entries):
            chosen = np.unique(self.dice.integers(0, len(self.entries), count))
            self.change(self.entries["key"][chosen], empty_entries(1))

    @rule(share=st.sampled_from((0.1, 0.6, 1.0)), end=st.booleans())
    def remove_a_run(self, share: float, end: bool) -> None:
        """Whole nodes go, sometimes all of them."""
        size = int(len(self.entries) * share)
        start = len(self.entries) - size if end else 0
        self.change(self.entries["key"][start : start + size], empty_entries(1))

    @rule(count=st.integers(1, 50))
    def replace(self, count: int) -> None:
        if len(self.entries):
            chosen = np.unique(self.dice.integers(0, len(self.entries), count))
            self.change(NO_KEYS, entries_of(self.entries["key"][chosen], 3))

    @rule(count=st.integers(1, 400))
    def mixed(self, count: int) -> None:
        gone = self.entries["key"][self.dice.random(len(self.entries)) < 0.05]
        new = entries_of(random_keys(int(self.dice.integers(1 << 30)), count), 4)
        self.change(gone, new)

    @rule()
    def nothing(self) -> None:
        assert self.nodes.edit(self.root, NO_KEYS, empty_entries(1)) == self.root

    @invariant()
    def canonical(self) -> None:
        check(self.nodes, self.root, self.entries)


TestEditedTrees = EditedTrees.TestCase
TestEditedTrees.settings = settings(stateful_step_count=min(settings().stateful_step_count, 15))


def test_a_tree_of_three_levels() -> None:
    """More than 300,000 entries: edits stay cheap and canonical."""
    nodes = Nodes()
    entries = entries_of(random_keys(1, 320_000))
    root = nodes.build(entries)
    assert root is not None
    assert nodes[root].level == 3
    dice = np.random.default_rng(2)
    for _ in range(4):
        gone = dice.choice(entries["key"], 3, replace=False)
        start = int(dice.integers(0, len(entries) - 3_000))
        gone = np.unique(np.concatenate([gone, entries["key"][start : start + 2_000]]))
        new = entries_of(random_keys(int(dice.integers(1 << 30)), 3), 5)
        root = nodes.edit(root, gone, new)
        entries = apply(entries, gone, new)
        assert root == Nodes().build(entries)
    before, nodes.read = nodes.written, 0
    one = entries_of(entries["key"][160_000:160_001], 6)
    root = nodes.edit(root, NO_KEYS, one)
    assert nodes.written - before == 3  # the path and nothing else
    assert nodes.read < 20
    everything = entries["key"][:-1]
    root = nodes.edit(root, everything, empty_entries(1))
    assert root == Nodes().build(entries[-1:])


@given(st.integers(0, 1 << 30), st.data())
def test_rows_are_found_by_position(seed: int, data: st.DataObject) -> None:
    nodes = Nodes()
    entries = entries_of(random_keys(seed, data.draw(st.sampled_from((1, 500, 3_000)))))
    root = nodes.build(entries)
    ends = np.cumsum(entries["rows"]).astype(np.int64)
    start = data.draw(st.integers(0, int(ends[-1]) - 1))
    stop = data.draw(st.integers(start + 1, int(ends[-1])))
    found, first = leaf_entries(root, 1, load=nodes.load, start=start, stop=stop)
    low = int(np.searchsorted(ends, start, "right"))
    high = int(np.searchsorted(ends, stop, "left"))
    assert found.tobytes() == entries[low : high + 1].tobytes()
    assert first == (int(ends[low - 1]) if low else 0)


def test_a_tree_says_what_its_nodes_say() -> None:
    """A parent that disagrees with its child about anything is refused."""
    nodes = Nodes()
    root = nodes.build(entries_of(random_keys(1, 3_000)))
    assert root is not None
    top = nodes[root]
    assert len(list(walk_nodes(root, load=nodes.load))) == 1 + len(top.entries)
    for name, value in (("key", 1), ("rows", 1), ("nulls", 1), ("nbytes", 1)):
        entries = top.entries.copy()
        entries[name][-1] += value
        forged = nodes.emit(Node(top.level, 1, entries))
        with pytest.raises(FormatError):
            leaf_entries(forged, 1, load=nodes.load)
        with pytest.raises(FormatError):
            list(walk_nodes(forged, load=nodes.load))
    raised = nodes.emit(Node(3, 1, top.entries))
    with pytest.raises(FormatError):
        leaf_entries(raised, 1, load=nodes.load)
    with pytest.raises(FormatError):
        leaf_entries(root, 2, load=nodes.load)
