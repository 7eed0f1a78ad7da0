"""Which manifests a target lacks: a walk down from the wanted one, until a ref there reaches it.

Source: design/0010 section 2.
"""

from __future__ import annotations

import contextlib
import heapq

from dreamdb.errors import ConflictError, DreamDBError, ObjectMissingError
from dreamdb.history import load_manifest, reload_cuts, resolve_address
from dreamdb.objects import to_text
from dreamdb.store import RefValue
from dreamdb.transfer.place import Place
from dreamdb.types import Address

__all__ = ["Reached", "missing_manifests"]


class Reached:
    """The manifests that some ref of a space reaches, found out as far as it is asked.

    Only these are taken to be there with everything that they need: an object may also be there
    because a copy was interrupted, or because a collector has taken only a part away so far.

    Parameters
    ----------
    place : Place
        The space.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._tips: dict[Address, tuple[str, RefValue]] | None = None
        self._heap: list[tuple[int, Address]] | None = None
        self._seen: set[Address] = set()
        self._added: set[Address] = set()

    def add(self, manifest: Address) -> None:
        """Take a manifest for reached: its copy is complete."""
        self._added.add(manifest)

    def __call__(self, manifest: Address, generation: int) -> bool:
        """Return whether a manifest is reached; ask with falling generations.

        Notes
        -----
        Cost: 1 listing of refs for the first question, 1 look for each manifest that is no tip,
        and 1 object read per manifest of a later generation once one is stored.
        """
        if manifest in self._added or manifest in self._seen:
            return True
        if self._tips is None:
            self._tips = {
                value.address: (name, value) for name, value in self._place.backend.refs.list()
            }
        if manifest in self._tips:
            return True
        if not self._tips or self._place.kept.size(manifest) is None:
            return False
        if self._heap is None:
            self._heap = []
            for name, value in self._tips.values():
                self._push_ref(name, value)
        while self._heap and -self._heap[0][0] >= generation:
            _, address = heapq.heappop(self._heap)
            for parent in load_manifest(self._place.cache, address).parents:
                self._push(parent)
        return manifest in self._seen

    def _push_ref(self, name: str, value: RefValue) -> None:
        # A damaged ref proves nothing; it is no reason to copy nothing either.
        with contextlib.suppress(DreamDBError):
            self._push(resolve_address(self._place.cache, name, value).manifest)

    def _push(self, address: Address) -> None:
        if address in self._seen or self._heap is None:
            return
        try:
            generation = load_manifest(self._place.cache, address).generation
        except DreamDBError:
            return
        self._seen.add(address)
        heapq.heappush(self._heap, (-generation, address))


def missing_manifests(
    origin: Place, target: Place, tip: Address, reached: Reached
) -> list[Address]:
    """Return the manifests that a target lacks, parents before their children.

    Parameters
    ----------
    origin, target : Place
        From where, and to where.
    tip : Address
        What is wanted.
    reached : Reached
        What the target has.

    Raises
    ------
    ConflictError
        When the origin's history is cut above what the target has.

    Notes
    -----
    Cost: at the origin 1 object read per missing manifest.
    """
    try:
        return _missing(origin, target, tip, reached)
    except ObjectMissingError:
        # Another process may have cut the history there since this one looked.
        if not reload_cuts(origin.cache):
            raise
        return _missing(origin, target, tip, reached)


def _missing(origin: Place, target: Place, tip: Address, reached: Reached) -> list[Address]:
    missing: list[Address] = []
    seen = {tip}
    heap = [(-load_manifest(origin.cache, tip).generation, tip)]
    while heap:
        falling, address = heapq.heappop(heap)
        if reached(address, -falling):
            continue
        missing.append(address)
        kept = target.cache.cuts.get(address)
        if kept is None and address in origin.cache.cuts:
            raise ConflictError(
                f"the history of {origin.url} is cut at the manifest {to_text(address)}, and "
                f"{target.url} does not have that manifest",
                hint="copy it from a space with the whole history, or to a new space with clone",
                manifest=to_text(address),
            )
        for parent in load_manifest(origin.cache, address).parents if kept is None else kept:
            if parent not in seen:
                seen.add(parent)
                generation = load_manifest(origin.cache, parent).generation
                heapq.heappush(heap, (-generation, parent))
    missing.reverse()
    return missing
