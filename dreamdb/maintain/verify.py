"""Verification: every reachable object is there, is itself, and agrees with the others.

Source: design/0011.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from dreamdb.codecs import check_canonical
from dreamdb.errors import DreamDBError, FormatError
from dreamdb.history import load_manifest, manifests_of, open_catalog, skip_address
from dreamdb.maintain.reach import reachable_objects, roots
from dreamdb.model import ANCHOR, Content, Entries, Node, build_tree, leaf_entries, track_cuts
from dreamdb.objects import Kind, to_text
from dreamdb.store import Backend, RefValue
from dreamdb.tracks import Source, Track, View, anchor_values
from dreamdb.types import ZERO_ADDRESS, Address

__all__ = ["Damage", "VerifyReport", "verify_space"]


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong.

    Parameters
    ----------
    kind : str
        Code of the error.
    message : str
        What is wrong.
    object : str or None
        Text address of the damaged object.
    refs : tuple of str
        Refs that need it.
    field : str or None
        The field it belongs to.
    rows : tuple of (int, int) or None
        Rows of the timeline it holds.
    """

    kind: str
    message: str
    object: str | None
    refs: tuple[str, ...]
    field: str | None = None
    rows: tuple[int, int] | None = None


@dataclass(slots=True)
class VerifyReport:
    """The outcome of a verification.

    Parameters
    ----------
    refs, manifests, objects : int
        How many were checked.
    nbytes : int
        Payload bytes that were hashed.
    damage : list of Damage
        What is wrong; empty when all is well.
    """

    refs: int = 0
    manifests: int = 0
    objects: int = 0
    nbytes: int = 0
    damage: list[Damage] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damage


class _Verifier:
    def __init__(self, backend: Backend, source: Source, *, data: bool) -> None:
        self._backend = backend
        self._source = source
        self._data = data
        self._objects: set[Address] = set()
        self._checked: set[tuple[object, ...]] = set()
        self._contents: set[Address] = set()
        self._manifests: set[Address] = set()
        self.report = VerifyReport()

    def _guard(
        self,
        ref: str,
        work: Callable[[], None],
        *,
        name: str | None = None,
        rows: tuple[int, int] | None = None,
    ) -> bool:
        try:
            work()
        except DreamDBError as error:
            found = error.details.get("object")
            self.report.damage.append(
                Damage(
                    error.kind,
                    str(error),
                    found if isinstance(found, str) else None,
                    (ref,),
                    name,
                    rows,
                )
            )
            return False
        return True

    def run(self) -> VerifyReport:
        """Follow every root."""
        found: list[tuple[str, Address]] = []
        try:
            found.extend(roots(self._backend))
        except DreamDBError as error:
            # A damaged ref or log ends the listing; what was listed before it is still checked.
            self.report.damage.append(
                Damage(error.kind, str(error), None, (str(error.details.get("ref")),))
            )
        for name, address in found:
            self.report.refs += not name.startswith("reflog of ")
            self._guard(name, partial(self._ref, name, address))
        if self.report.damage:
            self._name_all_refs(found)
        return self.report

    def _name_all_refs(self, found: list[tuple[str, Address]]) -> None:
        """Name every ref that needs a damaged object, not only the one that was followed first."""
        hurt: dict[str, list[str]] = {d.object: [] for d in self.report.damage if d.object}
        for name, address in found:
            reached = reachable_objects(self._backend, self._source, [address], lenient=True)
            for needed in {to_text(one) for one, _ in reached} & set(hurt):
                hurt[needed].append(name)
        self.report.damage = [
            replace(d, refs=tuple(dict.fromkeys((*d.refs, *hurt.get(d.object or "", ())))))
            for d in self.report.damage
        ]

    def _count(self, address: Address, kind: Kind) -> memoryview:
        # Opened afresh: what this process has cached says nothing about what is stored.
        if address not in self._objects:
            self._source.cache.forget(address)
        view = self._source.cache.open(address, kind).view()
        if address not in self._objects:
            self._objects.add(address)
            self.report.objects += 1
            self.report.nbytes += view.nbytes
        return view

    def _ref(self, name: str, address: Address) -> None:
        label = name.removeprefix("reflog of ")
        stack = manifests_of(self._source.cache, label, RefValue(address))
        if open_catalog(self._source.cache, label, address) is not None:
            self._count(address, Kind.CATALOG)
        elif stack != [address]:
            self._count(address, Kind.TAG)
        while stack:
            at = stack.pop()
            if at in self._manifests:
                continue
            self._manifests.add(at)
            parents: list[Address] = []
            self._guard(name, partial(self._manifest, name, at, parents))
            stack += parents

    def _manifest(self, ref: str, address: Address, parents: list[Address]) -> None:
        self._count(address, Kind.MANIFEST)
        manifest = load_manifest(self._source.cache, address)
        self.report.manifests += 1
        parents += manifest.parents
        before = [load_manifest(self._source.cache, parent) for parent in manifest.parents]
        if manifest.generation != max((m.generation for m in before), default=-1) + 1 or any(
            m.time_ns >= manifest.time_ns for m in before
        ):
            raise FormatError(
                f"the manifest {to_text(address)} does not follow its parents",
                object=to_text(address),
            )
        if manifest.parents:
            skip = skip_address(self._source.cache, manifest.parents[0], manifest.generation)
            if manifest.skip != skip:
                raise FormatError(
                    f"the manifest {to_text(address)} has another skip address than its history",
                    object=to_text(address),
                )
        if manifest.content in self._contents:
            return
        self._contents.add(manifest.content)
        content = Content.decode(self._count(manifest.content, Kind.CONTENT))
        view = View(self._source, content)
        self._guard(ref, partial(self._track, ref, ANCHOR, view))
        for name in content.schema:
            self._guard(
                ref,
                partial(self._track, ref, name, view),
                name=name,
            )
        self._guard(ref, partial(self._tombstones, view))

    def _track(self, ref: str, name: str, view: View) -> None:
        track = view.track(name)
        if track.root is None:
            return
        # The same values may belong to another timeline, which cuts them elsewhere.
        mark = (track.root, str(track.ftype), track.rung, track.floor, view.content.timeline)
        if mark in self._checked:
            return
        self._checked.add(mark)
        self._fragments(ref, name, track, self._tree(name, track))
        if self._data:
            self._cuts(name, track, view.anchors())

    def _tree(self, name: str, track: Track) -> Entries:
        """Return a tree's entries after checking that it is the canonical one over them."""
        nodes: dict[Address, Node] = {}

        def load(address: Address) -> Node:
            if address not in nodes:
                nodes[address] = Node.decode(self._count(address, Kind.NODE))
            return nodes[address]

        entries, _ = leaf_entries(track.root, track.stats, load=load)
        root = build_tree(
            entries, track.stats, load=load, emit=lambda node: self._emit(node, nodes)
        )
        if root != track.root:
            where = None if track.root is None else to_text(track.root)
            raise FormatError(f"the tree of {name!r} is not canonical", object=where)
        return entries

    @staticmethod
    def _emit(node: Node, nodes: dict[Address, Node]) -> Address:
        from dreamdb.objects import address_of

        address = address_of(Kind.NODE, [node.encode()])
        nodes.setdefault(address, node)
        return address

    def _fragments(self, ref: str, name: str, track: Track, entries: Entries) -> None:
        start = 0
        for entry in entries:
            rows = int(entry["rows"])
            address = Address(bytes(entry["address"]))
            if address != ZERO_ADDRESS:
                self._guard(
                    ref,
                    partial(self._fragment, track, entry, address),
                    name=name,
                    rows=(start, start + rows),
                )
            start += rows

    def _fragment(self, track: Track, entry: np.void, address: Address) -> None:
        mark = (address, str(track.ftype), entry.tobytes())
        if mark in self._checked:
            return
        self._checked.add(mark)
        if not self._data:
            if self._backend.objects.size(address) is None:
                self._source.cache.forget(address)
                self._source.cache.open(address, Kind.FRAGMENT)
            return
        payload = self._count(address, Kind.FRAGMENT)
        try:
            encoded = check_canonical(
                track.ftype, payload, rows=int(entry["rows"]), last_key=int(entry["key"])
            )
        except FormatError as error:
            error.details.setdefault("object", to_text(address))
            raise
        # numpy drops the zeros that pad a prefix.
        bounds = [entry[n].tobytes().rstrip(b"\0") for n in ("low", "high") if track.stats]
        expected = [bound.rstrip(b"\0") for bound in encoded.stats[: len(bounds)]]
        if (int(entry["nbytes"]), int(entry["nulls"]), bounds) != (
            encoded.nbytes,
            encoded.nulls,
            expected,
        ):
            raise FormatError(
                f"the tree entry of the fragment {to_text(address)} says other sizes or bounds",
                object=to_text(address),
            )

    @staticmethod
    def _cuts(name: str, track: Track, keys: npt.NDArray[np.uint64]) -> None:
        """Check that the fragments lie where the anchors say."""
        cuts = track_cuts(keys, track.rung, track.floor)
        entries, _, ends = track.flat()
        if not (
            np.array_equal(cuts.ends, ends)
            and np.array_equal(cuts.rungs, entries["rung"])
            and np.array_equal(keys[cuts.ends - 1], entries["key"])
        ):
            raise FormatError(f"the fragments of {name!r} are not cut where the format says")

    def _tombstones(self, view: View) -> None:
        track = view.tombstones
        if track.root is None:
            return
        for entry in self._tree("tombstones", track):
            self._fragment(track, entry, Address(bytes(entry["address"])))
        if self._data:
            self._cuts("tombstones", track, anchor_values(track, 0, track.rows))
            view.dead()


def verify_space(backend: Backend, source: Source, *, data: bool = True) -> VerifyReport:
    """Check a space.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    data : bool
        Also read every fragment and check its values and cuts.

    Returns
    -------
    VerifyReport
        What was checked and what is wrong; nothing is raised for damage.

    Notes
    -----
    Cost: with ``data`` every reachable object once, else documents and tree nodes only.
    """
    return _Verifier(backend, source, data=data).run()
