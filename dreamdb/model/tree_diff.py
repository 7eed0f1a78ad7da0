"""Two trees side by side: the fragment entries that one has and the other has not.

Source: design/0008 section 2, design/0003 section 2.  Equal nodes have equal addresses, so a walk
of both trees in key order passes over what they share without reading it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dreamdb.model.node import Entries, Node, StatsKind, empty_entries
from dreamdb.model.tree import Load, child_of, leaf_entries
from dreamdb.types import ADDRESS_SIZE, Address

__all__ = ["EntryRuns", "SameRecords", "differing_entries"]

SameRecords: TypeAlias = Callable[[int, int, int], bool]
"""``(left row, right row, count)``: whether these rows are the same records on both sides."""


@dataclass(frozen=True, slots=True)
class EntryRuns:
    """Fragment entries of one tree, and where each begins.

    Parameters
    ----------
    entries : structured array
        In key order.
    starts : ndarray of int64
        First row of each.
    """

    entries: Entries
    starts: npt.NDArray[np.int64]


class _Cursor:
    """Walks a tree in key order, each subtree as high up as the caller wants."""

    def __init__(self, root: Address, load: Load) -> None:
        node = load(root)
        self._load = load
        self._nodes: list[Node] = []
        self._lists: list[tuple[list[int], list[int], bytes]] = []
        self._at: list[int] = []
        self._taken: list[Entries] = []
        self._starts: list[int] = []
        self.row = 0
        self._push(Node(node.level + 1, node.stats, node.summary(root)))

    def _push(self, node: Node) -> None:
        entries = node.entries
        addresses = np.ascontiguousarray(entries["address"]).tobytes()
        self._nodes.append(node)
        self._lists.append((entries["key"].tolist(), entries["rows"].tolist(), addresses))
        self._at.append(0)

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return not self._nodes

    @property
    def level(self) -> int:
        """Level of the node the current entry stands for; 0 for a fragment."""
        return self._nodes[-1].level - 1

    def entry(self) -> tuple[int, int, bytes]:
        """Return key, rows and address of the current entry."""
        keys, rows, addresses = self._lists[-1]
        at = self._at[-1]
        return keys[at], rows[at], addresses[at * ADDRESS_SIZE : (at + 1) * ADDRESS_SIZE]

    def descend(self) -> None:
        """Go to the first entry of the node that the current entry stands for."""
        self._push(child_of(self._nodes[-1], self._at[-1], self._load))

    def advance(self, *, take: bool) -> None:
        """Go to the next entry; a fragment that is taken is part of the result."""
        at = self._at[-1]
        if take:
            self._taken.append(self._nodes[-1].entries[at : at + 1])
            self._starts.append(self.row)
        self.row += self._lists[-1][1][at]
        self._at[-1] += 1
        while self._nodes and self._at[-1] >= len(self._nodes[-1].entries):
            self._nodes.pop()
            self._lists.pop()
            self._at.pop()
            if self._nodes:
                self._at[-1] += 1

    def taken(self, stats: StatsKind) -> EntryRuns:
        """Return the fragments that were taken."""
        entries = np.concatenate(self._taken) if self._taken else empty_entries(stats)
        return EntryRuns(entries, np.array(self._starts, np.int64))


def differing_entries(
    left: Address | None,
    right: Address | None,
    stats: StatsKind,
    *,
    load: Load,
    same: SameRecords | None = None,
) -> tuple[EntryRuns, EntryRuns]:
    """Return the fragment entries of each tree that the other does not have in the same place.

    Parameters
    ----------
    left, right : Address or None
        The roots.
    stats : int
        Statistics kind of both trees.
    load : callable
        Reads a node by address.
    same : callable, optional
        Tells whether rows of both sides are the same records.  Values have no anchors in them: a
        shared subtree may be passed over only where the records are shared too.  Default: they
        are wherever keys and addresses agree.

    Returns
    -------
    left, right : EntryRuns
        What each has.  Everything else is equal: same records, same values.

    Notes
    -----
    Cost: the nodes on the paths to what differs.
    """
    if left is None or right is None:
        return _whole(left, stats, load), _whole(right, stats, load)
    one, two = _Cursor(left, load), _Cursor(right, load)
    while not (one.done or two.done):
        (key, rows, address), (other_key, other_rows, other) = one.entry(), two.entry()
        low, high = one.level, two.level
        if (
            low == high
            and key == other_key
            and rows == other_rows
            and address == other
            and (same is None or same(one.row, two.row, rows))
        ):
            one.advance(take=False)
            two.advance(take=False)
        elif low or high:
            if low >= high:
                one.descend()
            if high >= low:
                two.descend()
        else:
            if key <= other_key:
                one.advance(take=True)
            if other_key <= key:
                two.advance(take=True)
    for cursor in (one, two):
        while not cursor.done:
            if cursor.level:
                cursor.descend()
            else:
                cursor.advance(take=True)
    return one.taken(stats), two.taken(stats)


def _whole(root: Address | None, stats: StatsKind, load: Load) -> EntryRuns:
    entries, _ = leaf_entries(root, stats, load=load)
    rows = entries["rows"].astype(np.int64)
    return EntryRuns(entries, np.cumsum(rows) - rows)
