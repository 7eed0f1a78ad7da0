"""Verification: every reachable object is there, is itself, and agrees with the others.

Source: design/0011.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from dreamdb.codecs import check_canonical
from dreamdb.errors import DreamDBError, FormatError
from dreamdb.history import load_manifest, resolve_address
from dreamdb.maintain.reach import roots
from dreamdb.model import ANCHOR, Content, Entries, Node, build_tree, leaf_entries, track_cuts
from dreamdb.objects import Kind, to_text
from dreamdb.store import Backend, RefValue
from dreamdb.tracks import Source, Track, View
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
        self._checked: set[tuple[Address, str, int]] = set()
        self._contents: set[Address] = set()
        self._owners: dict[Address, list[str]] = {}
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
        for name, address in roots(self._backend):
            self.report.refs += not name.startswith("reflog of ")
            self._guard(name, partial(self._ref, name, address))
        return self.report

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
        found = resolve_address(self._source.cache, label, RefValue(address))
        if found.is_snapshot:
            self._count(address, Kind.TAG)
        stack, seen = [found.manifest], set(self._owners)
        while stack:
            at = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            self._owners[at] = [name]
            parents: list[Address] = []
            self._guard(name, partial(self._manifest, name, at, parents))
            stack += parents

    def _manifest(self, ref: str, address: Address, parents: list[Address]) -> None:
        self._count(address, Kind.MANIFEST)
        manifest = load_manifest(self._source.cache, address)
        self.report.manifests += 1
        parents += manifest.parents
        for parent in manifest.parents:
            before = load_manifest(self._source.cache, parent)
            if before.generation >= manifest.generation or before.time_ns >= manifest.time_ns:
                raise FormatError(
                    f"the manifest {to_text(address)} does not follow its parent",
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
        mark = (track.root, str(track.ftype), 0)
        if mark in self._checked and (view.content.timeline or b"", name, 1) in self._checked:
            return
        self._checked |= {mark, (view.content.timeline or Address(b""), name, 1)}
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
            raise FormatError(f"the tree of {name!r} is not canonical", object=to_text(track.root))
        self._fragments(ref, name, track, entries)
        self._cuts(name, track, view)

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
        mark = (address, str(track.ftype), int(entry["key"]) if track.ftype.kind == "anchor" else 0)
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
            check_canonical(
                track.ftype, payload, rows=int(entry["rows"]), last_key=int(entry["key"])
            )
        except FormatError as error:
            error.details.setdefault("object", to_text(address))
            raise
        if payload.nbytes != int(entry["nbytes"]):
            raise FormatError(
                f"a fragment has {payload.nbytes} bytes, its entry says {int(entry['nbytes'])}",
                object=to_text(address),
            )

    def _cuts(self, name: str, track: Track, view: View) -> None:
        """Check that the fragments lie where the anchors say."""
        if not self._data:
            return
        keys = view.anchors()
        cuts = track_cuts(keys, track.rung, track.floor)
        entries, _, ends, _ = track.flat()
        if not (
            np.array_equal(cuts.ends, ends)
            and np.array_equal(cuts.rungs, entries["rung"])
            and np.array_equal(keys[cuts.ends - 1], entries["key"])
        ):
            raise FormatError(f"the fragments of {name!r} are not cut where the format says")

    def _tombstones(self, view: View) -> None:
        track = view.tombstones
        if track.root is not None:
            view.dead()
            entries, _ = leaf_entries(track.root, track.stats, load=self._source.node)
            for entry in entries:
                self._fragment(track, entry, Address(bytes(entry["address"])))


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
