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
from dreamdb.history import load_manifest, manifests_of, resolve_content, skip_address
from dreamdb.index import IndexRoot, Segment, SpatialIndex
from dreamdb.maintain.reach import reachable_objects
from dreamdb.maintain.roots import roots, starting_points
from dreamdb.model import (
    ANCHOR,
    Content,
    Entries,
    Manifest,
    Node,
    Redaction,
    build_tree,
    leaf_entries,
    track_cuts,
)
from dreamdb.objects import Kind, from_text, to_text
from dreamdb.store import Backend, RefValue
from dreamdb.tracks import Source, Track, View, anchor_values
from dreamdb.types import ZERO_ADDRESS, Address, FieldType
from dreamdb.vectors import Codec, parse_codec

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
    redactions : list of Redaction
        Contents that were purged; others stand in for them.
    """

    refs: int = 0
    manifests: int = 0
    objects: int = 0
    nbytes: int = 0
    damage: list[Damage] = field(default_factory=list)
    redactions: list[Redaction] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damage


class _Verifier:
    def __init__(self, backend: Backend, source: Source, *, data: bool, now_ns: int | None) -> None:
        self._now_ns = now_ns
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
        found: list[tuple[str, RefValue]] = []
        try:
            found.extend(roots(self._backend, now_ns=self._now_ns))
        except DreamDBError as error:
            # A damaged ref or log ends the listing; what was listed before it is still checked.
            self.report.damage.append(
                Damage(error.kind, str(error), None, (str(error.details.get("ref")),))
            )
        for name, value in found:
            self.report.refs += not name.startswith("reflog of ")
            self._guard(name, partial(self._ref, name, value))
        if self.report.damage:
            self._name_all_refs(found)
        return self.report

    def _name_all_refs(self, found: list[tuple[str, RefValue]]) -> None:
        """Name every ref that needs a damaged object, not only the one that was followed first."""
        hurt: dict[str, list[str]] = {d.object: [] for d in self.report.damage if d.object}
        for name, value in found:
            try:
                starts = starting_points(self._source, [(name, value)])
            except DreamDBError:
                continue  # The ref itself is the damage, and is named already.
            reached = reachable_objects(self._backend, self._source, starts, lenient=True)
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

    def _ref(self, name: str, value: RefValue) -> None:
        if value.carried is not None:
            self._source.cache.forget(value.address)
        label = name.removeprefix("reflog of ")
        stack = manifests_of(self._source.cache, label, value)
        if value.carried is None and stack != [value.address]:
            self._count(value.address, self._source.cache.open(value.address, None).kind)
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
        self._descent(address, manifest)
        if manifest.content not in self._objects:
            self._source.cache.forget(manifest.content)
        content_address, passed = resolve_content(self._source.cache, manifest.content)
        if not passed:
            for name, text in manifest.indexes.items():
                self._guard(ref, partial(self._index, from_text(text)), name=name)
        if manifest.content in self._contents:
            return
        self._contents.add(manifest.content)
        self.report.redactions += [one for one in passed if one not in self.report.redactions]
        content = Content.decode(self._count(content_address, Kind.CONTENT))
        view = View(self._source, content)
        for member in content.schema.fields:
            self._guard(ref, partial(self._codec, member.type), name=member.name)
        self._guard(ref, partial(self._track, ref, ANCHOR, view))
        for name in content.schema:
            self._guard(
                ref,
                partial(self._track, ref, name, view),
                name=name,
            )
        self._guard(ref, partial(self._tombstones, view))

    def _descent(self, address: Address, manifest: Manifest) -> None:
        """Check that a manifest follows its parents, or at a cut those that are left."""
        cache = self._source.cache
        before = [load_manifest(cache, parent) for parent in manifest.parents]
        least = max((m.generation for m in before), default=-1) + 1
        cut = address in cache.cuts
        if (manifest.generation < least if cut else manifest.generation != least) or any(
            m.time_ns >= manifest.time_ns for m in before
        ):
            raise FormatError(
                f"the manifest {to_text(address)} does not follow its parents",
                object=to_text(address),
            )
        # None is what a writer puts who sees a part of the history only.
        if manifest.skip is not None:
            skip = None
            if manifest.parents:
                skip = skip_address(cache, manifest.parents[0], manifest.generation)
            if skip != manifest.skip and not (skip is None and cache.cuts):
                raise FormatError(
                    f"the manifest {to_text(address)} has another skip address than its history",
                    object=to_text(address),
                )

    def _codec(self, ftype: FieldType) -> None:
        """Check that the codec object of a field stored as codes is there and says the same."""
        if ftype.codec is None:
            return
        codec = parse_codec(ftype.codec, ftype.dim)
        if Codec.decode(self._count(codec.address, Kind.CODEC)) != codec:
            raise FormatError("a codec object says something else than its address")

    def _index(self, address: Address) -> None:
        """Check an index and its segments; those that are gone cost speed, not answers."""
        if ("index", address) in self._checked or self._backend.objects.size(address) is None:
            return
        self._checked.add(("index", address))
        root = IndexRoot.decode(self._count(address, Kind.INDEX))
        cells = 1
        if root.centroids is not None:
            if self._backend.objects.size(root.centroids) is None:
                return
            payload = self._count(root.centroids, Kind.SPATIAL_INDEX)
            cells = SpatialIndex.decode(payload).cells
        for one in root.segments.values():
            if not self._data or self._backend.objects.size(one.segment) is None:
                continue
            self._count(one.segment, Kind.INDEX_SEGMENT)
            opened = self._source.cache.open(one.segment, Kind.INDEX_SEGMENT)
            segment = Segment(opened, root.codec, cells, None)
            segment.verify_all()
            if segment.rows != one.rows:
                raise FormatError("an index names another number of vectors than its segment has")

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


def verify_space(
    backend: Backend, source: Source, *, data: bool = True, now_ns: int | None = None
) -> VerifyReport:
    """Check a space.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    data : bool
        Also read every fragment and check its values and cuts.
    now_ns : int, optional
        The present, nanoseconds since the epoch: older entries of reflogs keep nothing.

    Returns
    -------
    VerifyReport
        What was checked and what is wrong; nothing is raised for damage.

    Notes
    -----
    Cost: with ``data`` every reachable object once, else documents and tree nodes only.
    """
    return _Verifier(backend, source, data=data, now_ns=now_ns).run()
