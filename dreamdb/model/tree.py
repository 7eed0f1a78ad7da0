"""Canonical trees: one shape for one set of entries, whatever the history.

Source: design/0002 section 7, design/0003.  Nodes are cut over the last keys of their entries by
:data:`~dreamdb.model.cuts.NODE_RULE`.  The root is the lowest level with a single node; an empty
track has no root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dreamdb.errors import FormatError
from dreamdb.model.cuts import NODE_RULE, closed_ends, node_salt
from dreamdb.model.node import Entries, Node, StatsKind, empty_entries
from dreamdb.types import Address

__all__ = [
    "Emit",
    "Load",
    "build_tree",
    "check_child",
    "child_of",
    "edit_tree",
    "leaf_entries",
    "walk_nodes",
]

Load: TypeAlias = Callable[[Address], Node]
Emit: TypeAlias = Callable[[Node], Address]
Keys: TypeAlias = npt.NDArray[np.uint64]
_Path: TypeAlias = list[tuple[Node, int]]


def _address(entry: np.void) -> Address:
    return Address(bytes(entry["address"]))


def _chunk(entries: Entries, level: int, stats: StatsKind, emit: Emit) -> Entries:
    """Cut entries into nodes of ``level`` and return the nodes' entries."""
    ends = closed_ends(entries["key"], NODE_RULE, node_salt(level)).tolist()
    if not ends or ends[-1] < len(entries):
        ends.append(len(entries))
    out, start = [], 0
    for end in ends:
        node = Node(level, stats, entries[start:end])
        out.append(node.summary(emit(node)))
        start = end
    return np.concatenate(out)


def _finish(entries: Entries, level: int, stats: StatsKind, load: Load, emit: Emit) -> Address:
    """Return the root over the entries of the nodes of ``level``."""
    while len(entries) > 1:
        level += 1
        entries = _chunk(entries, level, stats, emit)
    address = _address(entries[0])
    while level > 1:
        node = load(address)
        if len(node.entries) > 1:
            break
        address, level = _address(node.entries[0]), level - 1
    return address


def build_tree(entries: Entries, stats: StatsKind, *, load: Load, emit: Emit) -> Address | None:
    """Build the tree over fragment entries.

    Parameters
    ----------
    entries : structured array
        Fragment entries, keys increasing.
    stats : int
        Statistics kind of the track.
    load, emit : callable
        Read a node by address; store a node and return its address.

    Returns
    -------
    Address or None
        The root; None without entries.
    """
    if not len(entries):
        return None
    return _finish(_chunk(entries, 1, stats, emit), 1, stats, load, emit)


def _descend(root: Address, key: int, level: int, load: Load) -> tuple[_Path, Node]:
    """Return the node of ``level`` that covers a key, and the path from the root to it."""
    node = load(root)
    path: _Path = []
    while node.level > level:
        index = min(
            int(np.searchsorted(node.entries["key"], np.uint64(key))), len(node.entries) - 1
        )
        path.append((node, index))
        node = child_of(node, index, load)
    return path, node


def _next(path: _Path, level: int, load: Load) -> tuple[_Path, Node] | None:
    """Return the node of ``level`` to the right of the one at the end of a path."""
    path = list(path)
    while path and path[-1][1] + 1 >= len(path[-1][0].entries):
        path.pop()
    if not path:
        return None
    node, index = path.pop()
    path.append((node, index + 1))
    node = child_of(node, index + 1, load)
    while node.level > level:
        path.append((node, 0))
        node = child_of(node, 0, load)
    return path, node


def child_of(node: Node, index: int, load: Load) -> Node:
    """Return the node that an entry stands for, checked against it."""
    entry = node.entries[index]
    child = load(_address(entry))
    check_child(node, entry, child)
    return child


def check_child(parent: Node, entry: np.void, child: Node) -> None:
    """Raise FormatError unless a child node is what its entry says."""
    if child.level != parent.level - 1 or child.stats != parent.stats:
        raise FormatError("a tree node has a child of another level or kind")
    own = child.summary(_address(entry))[0]
    for name in ("key", "rows", "nulls", "nbytes"):
        if own[name] != entry[name]:
            raise FormatError(f"a tree node and its child disagree about {name}")


def edit_tree(
    root: Address | None,
    gone: npt.NDArray[np.uint64],
    new: Entries,
    stats: StatsKind,
    *,
    load: Load,
    emit: Emit,
) -> Address | None:
    """Remove and put fragment entries and return the new root.

    The result is the tree :func:`build_tree` would make of the resulting entries; only the nodes
    around the changes are read and written.

    Parameters
    ----------
    root : Address or None
        The tree to edit.
    gone : ndarray of uint64
        Last keys of entries to remove, increasing.
    new : structured array
        Entries to put; one with an existing key replaces it.
    stats : int
        Statistics kind of the track.
    load, emit : callable
        As in :func:`build_tree`.
    """
    if root is None:
        return build_tree(new, stats, load=load, emit=emit)
    put, drop = new, gone[~_among(gone, new["key"])]
    if not len(put) and not len(drop):
        return root
    top = load(root).level
    for level in range(1, top + 1):
        put, drop = _edit_level(root, level, put, drop, stats, load, emit)
    return _finish(put, top, stats, load, emit) if len(put) else None


def _edit_level(
    root: Address,
    level: int,
    put: Entries,
    drop: npt.NDArray[np.uint64],
    stats: StatsKind,
    load: Load,
    emit: Emit,
) -> tuple[Entries, npt.NDArray[np.uint64]]:
    """Apply a change to the nodes of one level; return the change for the level above."""
    made: list[Entries] = []
    removed: list[int] = []
    put_keys = put["key"]
    i = j = 0
    while i < len(put) or j < len(drop):
        key = min(
            ([int(put_keys[i])] if i < len(put) else []) + ([int(drop[j])] if j < len(drop) else [])
        )
        path, node = _descend(root, key, level, load)
        carried = empty_entries(stats)
        while True:
            last = node.entries["key"][-1]
            removed.append(int(last))
            following = _next(path, level, load)
            if following is None:
                i_end, j_end = len(put), len(drop)
            else:
                i_end = max(i, int(np.searchsorted(put_keys, last, "right")))
                j_end = max(j, int(np.searchsorted(drop, last, "right")))
            merged = _merge(node.entries, put[i:i_end], drop[j:j_end])
            i, j = i_end, j_end
            if len(carried):
                merged = np.concatenate([carried, merged])
            start = 0
            for end in closed_ends(merged["key"], NODE_RULE, node_salt(level)).tolist():
                part = Node(level, stats, merged[start:end])
                made.append(part.summary(emit(part)))
                start = end
            carried = merged[start:]
            if not len(carried):
                break
            if following is None:
                part = Node(level, stats, carried)
                made.append(part.summary(emit(part)))
                break
            path, node = following
    up = np.concatenate(made) if made else empty_entries(stats)
    left = np.array(removed, np.uint64)
    return up, left[~_among(left, up["key"])]


def _merge(entries: Entries, put: Entries, drop: npt.NDArray[np.uint64]) -> Entries:
    if not len(drop) and len(put) and put["key"][0] > entries["key"][-1]:
        return np.concatenate([entries, put])
    keys = entries["key"]
    kept = entries[~(_among(keys, drop) | _among(keys, put["key"]))]
    if not len(put):
        return kept
    merged = np.concatenate([kept, put])
    if len(kept) and put["key"][0] < kept["key"][-1]:
        merged = merged[np.argsort(merged["key"], kind="stable")]
    return merged


def _among(keys: Keys, wanted: Keys) -> npt.NDArray[np.bool_]:
    """Return which of some increasing keys are among other increasing keys."""
    if not len(wanted):
        return np.zeros(len(keys), np.bool_)
    at = np.searchsorted(wanted, keys)
    at[at == len(wanted)] = 0
    found: npt.NDArray[np.bool_] = wanted[at] == keys
    return found


def leaf_entries(
    root: Address | None,
    stats: StatsKind,
    *,
    load: Load,
    start: int = 0,
    stop: int | None = None,
) -> tuple[Entries, int]:
    """Return the fragment entries that overlap the row range ``[start, stop)``.

    Parameters
    ----------
    root : Address or None
        The tree; None for an empty one.
    stats : int
        Statistics kind of the track.
    load : callable
        Reads a node by address.
    start, stop : int
        Row range; to the end when ``stop`` is None.

    Returns
    -------
    entries : structured array
        In order.
    first : int
        The row at which the first returned entry starts.
    """
    if root is None:
        return empty_entries(stats), 0
    node = load(root)
    if node.stats != stats:
        raise FormatError("a track's tree keeps other statistics than its field")
    out: list[Entries] = []
    first: int | None = None
    stack: list[tuple[Node, int]] = [(node, 0)]
    while stack:
        node, at = stack.pop()
        ends = at + np.cumsum(node.entries["rows"]).astype(np.int64)
        low = int(np.searchsorted(ends, start, "right"))
        high = len(ends) if stop is None else int(np.searchsorted(ends, stop, "left")) + 1
        high = min(high, len(ends))
        if low >= high:
            continue
        begin = int(ends[low - 1]) if low else at
        if node.level == 1:
            if first is None:
                first = begin
            out.append(node.entries[low:high])
            continue
        children = []
        for index in range(low, high):
            children.append((child_of(node, index, load), begin))
            begin = int(ends[index])
        stack.extend(reversed(children))
    if not out:
        return empty_entries(stats), 0
    return np.concatenate(out), first or 0


def walk_nodes(root: Address | None, *, load: Load) -> Iterator[tuple[Address, Node]]:
    """Yield every node of a tree, parents first, each child checked against its entry."""
    if root is None:
        return
    stack: list[tuple[Address, Node]] = [(root, load(root))]
    while stack:
        address, node = stack.pop()
        yield address, node
        if node.level > 1:
            stack.extend(
                (_address(node.entries[i]), child_of(node, i, load))
                for i in reversed(range(len(node.entries)))
            )
