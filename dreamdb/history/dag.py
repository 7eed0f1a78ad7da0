"""The manifest DAG: loading, ancestry, merge bases, time travel.

Source: design/0002 section 9.2; design/0015 section 5 for cuts.  Where the history was cut, the
parents of a manifest are those of its cut: every walk here goes through :func:`load_manifest`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from dreamdb.errors import NotFoundError, ObjectMissingError
from dreamdb.history.marks import reload_cuts
from dreamdb.model import Manifest, skip_generation
from dreamdb.objects import Kind, to_text
from dreamdb.store import ObjectCache
from dreamdb.types import Address

__all__ = [
    "ancestor_at_time",
    "ancestors",
    "first_parents",
    "is_ancestor",
    "load_manifest",
    "manifests_since",
    "merge_base",
    "merge_bases",
    "skip_address",
]

_Result = TypeVar("_Result")


def load_manifest(cache: ObjectCache, address: Address) -> Manifest:
    """Return the manifest at an address; where the history was cut, with the parents of the cut.

    Raises
    ------
    ObjectMissingError, IntegrityError
        When it is not there or damaged.

    Notes
    -----
    Cost: 1 object read, cached.
    """
    manifest = cache.parsed(address, Kind.MANIFEST, Manifest.decode)
    parents = cache.cuts.get(address)
    return manifest if parents is None else replace(manifest, parents=parents, skip=None)


def _walk(cache: ObjectCache, work: Callable[[], _Result]) -> _Result:
    """Run a walk; once more when the history was cut since this process looked."""
    try:
        return work()
    except ObjectMissingError:
        if not reload_cuts(cache):
            raise
        return work()


def _walk_on(
    cache: ObjectCache, start: Callable[[], Iterator[tuple[Address, Manifest]]]
) -> Iterator[tuple[Address, Manifest]]:
    """Yield from a walk; go on with the new cuts when the history was cut meanwhile."""
    told: set[Address] = set()
    while True:
        try:
            for address, manifest in start():
                if address not in told:
                    told.add(address)
                    yield address, manifest
            return
        except ObjectMissingError:
            if not reload_cuts(cache):
                raise


def _skip_of(cache: ObjectCache, manifest: Manifest) -> Address | None:
    """Return the skip address, unless what it names has been cut away."""
    if manifest.skip is not None and cache.cuts:
        try:
            load_manifest(cache, manifest.skip)
        except ObjectMissingError:
            return None
    return manifest.skip


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
    return islice(_walk_on(cache, lambda: _ancestors(cache, tips, limit)), limit)


def _ancestors(
    cache: ObjectCache, tips: tuple[Address, ...], limit: int | None
) -> Iterator[tuple[Address, Manifest]]:
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
    return _walk_on(cache, lambda: _first_parents(cache, tip))


def _first_parents(cache: ObjectCache, tip: Address) -> Iterator[tuple[Address, Manifest]]:
    address: Address | None = tip
    while address is not None:
        manifest = load_manifest(cache, address)
        yield address, manifest
        address = manifest.parents[0] if manifest.parents else None


def _first_parent_at(cache: ObjectCache, address: Address, generation: int) -> Address:
    """Return the nearest first-parent ancestor of generation at most ``generation``."""
    while True:
        manifest = load_manifest(cache, address)
        if manifest.generation <= generation or not manifest.parents:
            return address
        parent = manifest.parents[0]
        if manifest.skip is not None and skip_generation(manifest.generation) >= generation:
            parent = _skip_of(cache, manifest) or parent
        address = parent


def skip_address(cache: ObjectCache, parent: Address, generation: int) -> Address | None:
    """Return the skip address of a manifest of ``generation`` whose first parent is ``parent``.

    None also where the history was cut before it: only the whole history can tell it.

    Notes
    -----
    Cost: about one cached manifest read on average, a logarithmic number at worst.
    """
    return _walk(cache, lambda: _skip_address(cache, parent, skip_generation(generation)))


def _skip_address(cache: ObjectCache, parent: Address, target: int) -> Address | None:
    if target >= load_manifest(cache, parent).generation:
        return None
    address = parent
    while (manifest := load_manifest(cache, address)).generation > target:
        if address in cache.cuts or not manifest.parents:
            return None
        skip = None
        if manifest.skip is not None and skip_generation(manifest.generation) >= target:
            skip = _skip_of(cache, manifest)
        address = skip or manifest.parents[0]
    return address


def is_ancestor(cache: ObjectCache, old: Address, new: Address) -> bool:
    """Return whether ``old`` is ``new`` or reachable from it.

    Notes
    -----
    Cost: along first parents a logarithmic number of reads; through merges one per manifest of a
    later generation.
    """
    return old == new or _walk(cache, lambda: _is_ancestor(cache, old, new))


def _is_ancestor(cache: ObjectCache, old: Address, new: Address) -> bool:
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
    return merge_bases(cache, [ours], [theirs])


def merge_bases(
    cache: ObjectCache, ours: Sequence[Address], theirs: Sequence[Address]
) -> list[Address]:
    """Return the best common ancestors of two sets of manifests.

    Parameters
    ----------
    cache : ObjectCache
        Where manifests are read.
    ours, theirs : sequence of Address
        Each set stands for a merge of its members.

    Returns
    -------
    list of Address
        As :func:`merge_base`.

    Notes
    -----
    Cost: 1 object read per manifest since the oldest base.
    """
    return _walk(cache, lambda: _merge_bases(cache, ours, theirs))


def _merge_bases(
    cache: ObjectCache, ours: Sequence[Address], theirs: Sequence[Address]
) -> list[Address]:
    left, right, stale = 1, 2, 4
    flags: dict[Address, int] = {}
    heap: list[tuple[int, Address]] = []
    fresh: set[Address] = set()

    def push(address: Address, flag: int) -> None:
        before = flags.get(address, 0)
        if before | flag != before:
            flags[address] = before | flag
            heapq.heappush(heap, (-load_manifest(cache, address).generation, address))
            if flags[address] & stale:
                fresh.discard(address)
            else:
                fresh.add(address)

    for flag, tips in ((left, ours), (right, theirs)):
        for tip in tips:
            push(tip, flag)
    found: set[Address] = set()
    while heap and fresh:
        _, address = heapq.heappop(heap)
        fresh.discard(address)
        flag = flags[address]
        if flag & (left | right) == left | right:
            if not flag & stale:
                found.add(address)
            flag |= stale
        for parent in load_manifest(cache, address).parents:
            push(parent, flag)
    return sorted(a for a in found if not flags[a] & stale)


def manifests_since(
    cache: ObjectCache, tips: Sequence[Address], bases: Sequence[Address]
) -> Iterator[tuple[Address, Manifest]]:
    """Yield the manifests that lead to the tips and not to the bases, children first.

    Notes
    -----
    Cost: 1 object read per manifest since the oldest base.
    """
    old: set[Address] = set(bases)
    seen = {*tips, *bases}
    heap = [(-load_manifest(cache, address).generation, address) for address in seen]
    heapq.heapify(heap)
    fresh = seen - old
    while heap and fresh:
        address = heapq.heappop(heap)[1]
        manifest = load_manifest(cache, address)
        if address not in old:
            fresh.discard(address)
            yield address, manifest
        for parent in manifest.parents:
            if address in old:
                old.add(parent)
                fresh.discard(parent)
            elif parent not in old:
                fresh.add(parent)
            if parent not in seen:
                seen.add(parent)
                heapq.heappush(heap, (-load_manifest(cache, parent).generation, parent))


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
    return _walk(cache, lambda: _ancestor_at_time(cache, tip, time_ns))


def _ancestor_at_time(cache: ObjectCache, tip: Address, time_ns: int) -> Address:
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
        address, skip = manifest.parents[0], _skip_of(cache, manifest)
        if skip is not None and load_manifest(cache, skip).time_ns > time_ns:
            address = skip
