"""The manifest DAG: loading, ancestry, merge bases, time travel.

Source: design/0002 section 9.2.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from dreamdb.errors import NotFoundError
from dreamdb.history.cuts import as_walks_see, stored_manifest
from dreamdb.model import Manifest, skip_generation
from dreamdb.objects import to_text
from dreamdb.store import ObjectCache
from dreamdb.types import Address

__all__ = [
    "ancestor_at_time",
    "ancestors",
    "first_parents",
    "is_ancestor",
    "load_manifest",
    "merge_base",
    "skip_address",
]

_Load = Callable[[ObjectCache, Address], Manifest]


def load_manifest(cache: ObjectCache, address: Address) -> Manifest:
    """Return the manifest at an address as walks see it: where history is cut, without parents.

    Raises
    ------
    ObjectMissingError, IntegrityError
        When it is not there or damaged.

    Notes
    -----
    Cost: 1 object read, cached.
    """
    return as_walks_see(cache, address, stored_manifest(cache, address))


def ancestors(
    cache: ObjectCache, *tips: Address, limit: int | None = None
) -> Iterator[tuple[Address, Manifest]]:
    """Yield manifests reachable from the tips, each once, children before parents.

    Parameters
    ----------
    cache : ObjectCache
        Where manifests are read.
    *tips : Address
        Where to start.
    limit : int, optional
        Stop after so many.

    Notes
    -----
    Cost: 1 object read per manifest.  Order: generation, then time, then address, descending, so
    it does not depend on the order of the tips.
    """
    heap: list[tuple[int, int, Address]] = []
    seen: set[Address] = set()
    loaded: dict[Address, Manifest] = {}

    def push(address: Address) -> None:
        if address not in seen:
            seen.add(address)
            manifest = loaded[address] = load_manifest(cache, address)
            heapq.heappush(heap, (-manifest.generation, -manifest.time_ns, address))

    for tip in tips:
        push(tip)
    count = 0
    while heap and (limit is None or count < limit):
        address = heapq.heappop(heap)[2]
        manifest = loaded.pop(address)
        yield address, manifest
        count += 1
        if limit is None or count < limit:
            for parent in manifest.parents:
                push(parent)


def first_parents(cache: ObjectCache, tip: Address) -> Iterator[tuple[Address, Manifest]]:
    """Yield a branch's own line: the tip, its first parent, and so on."""
    address: Address | None = tip
    while address is not None:
        manifest = load_manifest(cache, address)
        yield address, manifest
        address = manifest.parents[0] if manifest.parents else None


def _first_parent_at(
    cache: ObjectCache, address: Address, generation: int, load: _Load = load_manifest
) -> Address:
    """Return the nearest first-parent ancestor of generation at most ``generation``."""
    while True:
        manifest = load(cache, address)
        if manifest.generation <= generation or not manifest.parents:
            return address
        parent = manifest.parents[0]
        if manifest.skip is not None and skip_generation(manifest.generation) >= generation:
            parent = manifest.skip
        address = parent


def skip_address(cache: ObjectCache, parent: Address, generation: int) -> Address | None:
    """Return the skip address of a manifest of ``generation`` whose first parent is ``parent``.

    Notes
    -----
    Cost: about one cached manifest read on average, a logarithmic number at worst.
    """
    target = skip_generation(generation)
    if target >= stored_manifest(cache, parent).generation:
        return None
    # Also behind a cut: the manifests that this needs are kept there (skip_line).
    return _first_parent_at(cache, parent, target, stored_manifest)


def is_ancestor(cache: ObjectCache, old: Address, new: Address) -> bool:
    """Return whether ``old`` is ``new`` or reachable from it.

    Notes
    -----
    Cost: along first parents a logarithmic number of reads; through merges one per manifest of a
    later generation.
    """
    if old == new:
        return True
    goal = load_manifest(cache, old).generation
    if _first_parent_at(cache, new, goal) == old:
        return True
    stack, seen = [new], {new}
    while stack:
        manifest = load_manifest(cache, stack.pop())
        if manifest.generation <= goal:
            continue
        for parent in manifest.parents:
            if parent == old:
                return True
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return False


def merge_base(cache: ObjectCache, ours: Address, theirs: Address) -> list[Address]:
    """Return the best common ancestors of two manifests: those no other one descends from.

    Returns
    -------
    list of Address
        Empty for unrelated histories, more than one for criss-cross merges; sorted.
    """
    left, right, stale = 1, 2, 4
    flags: dict[Address, int] = {}
    heap: list[tuple[int, Address]] = []

    def push(address: Address, flag: int) -> None:
        before = flags.get(address, 0)
        if before | flag != before:
            flags[address] = before | flag
            heapq.heappush(heap, (-load_manifest(cache, address).generation, address))

    push(ours, left)
    push(theirs, right)
    found: set[Address] = set()
    while heap and any(not flags[a] & stale for _, a in heap):
        _, address = heapq.heappop(heap)
        flag = flags[address]
        if flag & (left | right) == left | right:
            if not flag & stale:
                found.add(address)
            flag |= stale
        for parent in load_manifest(cache, address).parents:
            push(parent, flag)
    return sorted(a for a in found if not flags[a] & stale)


def ancestor_at_time(cache: ObjectCache, tip: Address, time_ns: int) -> Address:
    """Return the newest manifest on a branch's line that is not later than a time.

    Raises
    ------
    NotFoundError
        When the branch began later.

    Notes
    -----
    Cost: a logarithmic number of manifest reads.
    """
    address = tip
    while True:
        manifest = load_manifest(cache, address)
        if manifest.time_ns <= time_ns:
            return address
        if not manifest.parents:
            cut = address in cache.cuts
            raise NotFoundError(
                f"nothing was committed at {time_ns} ns or before; the first manifest "
                f"{to_text(address)} is of {manifest.time_ns} ns",
                hint="the history is cut there: what came before is not in this space"
                if cut
                else None,
                time_ns=time_ns,
            )
        address, skip = manifest.parents[0], manifest.skip
        if skip is not None and load_manifest(cache, skip).time_ns > time_ns:
            address = skip
