"""Copying what a ref names: missing manifests, each with the part of its content that is new.

Source: design/0010 sections 2 to 4.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dreamdb.errors import DreamDBError, FormatError, IntegrityError, ObjectMissingError
from dreamdb.history import load_manifest, reload_cuts
from dreamdb.index import IndexRoot
from dreamdb.model import CUTS, REDACTIONS, Content, Manifest, Node, required_features
from dreamdb.objects import Kind, SealedObject, from_text, to_text
from dreamdb.transfer.copier import Copier, damaged_at
from dreamdb.transfer.manifests import Reached, missing_manifests
from dreamdb.transfer.place import Place
from dreamdb.transfer.redacted import RedactedContents
from dreamdb.transfer.trees import TreeCopy, Trees
from dreamdb.types import Address
from dreamdb.vectors import parse_codec

__all__ = ["HistoryCopy"]

_FLUSH_AFTER_S: Final = 2.0
_AHEAD: Final = 32


@dataclass(frozen=True, slots=True)
class _Version:
    """A manifest, its content, and what of both the target lacks.

    ``content_address`` is another one than the manifest's where that was redacted.
    """

    manifest: Manifest
    content: Content
    content_address: Address
    sealed: list[SealedObject | None]


class HistoryCopy:
    """Copies manifests and everything below them.

    Parameters
    ----------
    copier : Copier
        Moves the objects.
    near : Place
        The end that is cheaper to read; what both ends have is read there.
    """

    def __init__(self, copier: Copier, near: Place) -> None:
        self._copier = copier
        self._origin = copier.origin
        self._target = copier.target
        self._near = near
        self._reached = Reached(copier.target)
        self._trees = TreeCopy(copier, self._base_node)
        self._flushed = time.monotonic()
        self._looked = False
        # Codecs and parts of indexes: most versions name the same ones.
        self._leaves: set[Address] = set()
        self._contents = RedactedContents(copier.origin, copier.target, known=False)
        self.num_manifests = 0

    def copy(self, tip: Address) -> None:
        """Copy a manifest with its history and make it durable.

        Parameters
        ----------
        tip : Address
            The manifest.

        Raises
        ------
        ConflictError
            When the origin's history is cut above what the target has.
        ObjectMissingError, IntegrityError, StorageError
            When an object cannot be had from the origin, or not be stored; what has arrived stays,
            and no ref names it.
        """
        self._look_at_target()
        missing = missing_manifests(self._origin, self._target, tip, self._reached)
        for start in range(0, len(missing), _AHEAD):
            some = missing[start : start + _AHEAD]
            versions = dict(zip(some, self._copier.map(self._open, some), strict=True))
            trees = {a: self._trees_of(a, version, versions) for a, version in versions.items()}
            self._trees.read_ahead([tree for found in trees.values() for tree in found])
            for address, version in versions.items():
                self._copy_version(address, version, trees[address])
        self._copier.flush()
        # What stands in for a content is durable: now the target may say that it does.
        self._contents.write()
        self._reached.add(tip)

    def _look_at_target(self) -> None:
        """Read, once, what the target says about itself now: another process may have cut it."""
        if self._looked:
            return
        self._looked = True
        document = self._target.backend.read_space()
        features = required_features(document, self._target.url) if document else frozenset()
        if CUTS in features:
            reload_cuts(self._target.cache)
        self._contents = RedactedContents(self._origin, self._target, known=REDACTIONS in features)

    def copy_document(self, address: Address, kind: Kind) -> None:
        """Copy one document, such as a tag, whose parts are there."""
        sealed = self._copier.document(address, kind)[1]
        if sealed is not None:
            self._copier.put(sealed)

    def _open(self, address: Address) -> _Version:
        payload, sealed_manifest = self._copier.document(address, Kind.MANIFEST)
        at = address
        try:
            manifest = Manifest.decode(payload)
            at = manifest.content
            at, payload, sealed_content = self._open_content(at)
            content = Content.decode(payload)
        except FormatError as error:
            if "object" in error.details:
                raise
            error.details["object"] = to_text(at)
            raise damaged_at(error, self._origin.url) from None
        return _Version(manifest, content, at, [sealed_content, sealed_manifest])

    def _open_content(self, content: Address) -> tuple[Address, memoryview, SealedObject | None]:
        wanted = self._contents.in_target(content)
        try:
            return wanted, *self._copier.document(wanted, Kind.CONTENT)
        except ObjectMissingError:
            instead = self._contents.in_origin(wanted)
            if instead == wanted:
                raise
            return instead, *self._copier.document(instead, Kind.CONTENT)

    def _trees_of(
        self, address: Address, version: _Version, others: Mapping[Address, _Version]
    ) -> Trees:
        """Return the trees of a version, with those of its parents."""
        kept = self._target.cache.cuts.get(address)
        bases = [
            others[parent].content if parent in others else self._base_content(parent)
            for parent in (version.manifest.parents if kept is None else kept)
        ]
        return _roots(version.content, bases, self._target)

    def _copy_version(self, address: Address, version: _Version, trees: Trees) -> None:
        self._trees.copy(trees)
        for field in version.content.schema.fields:
            if field.type.codec is not None:
                codec = parse_codec(field.type.codec, field.type.dim).address
                self._copy_once(codec, Kind.CODEC)
        self._copy_indexes(version)
        for sealed in version.sealed:
            if sealed is not None:
                self._copier.put(sealed)
        self.num_manifests += 1
        # The manifest is complete with this batch: its children may rest on it.
        self._reached.add(address)
        if time.monotonic() - self._flushed > _FLUSH_AFTER_S:
            self._copier.flush()
            self._flushed = time.monotonic()

    def _copy_indexes(self, version: _Version) -> None:
        """Copy what the origin has of a version's indexes; they are derived, so it may lack some.

        Those of a content that was redacted hold codes of what was purged.
        """
        if version.content_address != version.manifest.content:
            return
        for field, text in version.manifest.indexes.items():
            index = from_text(text)
            if index in self._leaves or not self._target.keeps(field):
                continue
            self._leaves.add(index)
            try:
                payload, sealed = self._copier.document(index, Kind.INDEX)
            except ObjectMissingError:
                continue
            root = IndexRoot.decode(payload)
            for one in root.segments.values():
                self._copy_derived(one.segment, Kind.INDEX_SEGMENT)
            if root.centroids is not None:
                self._copy_derived(root.centroids, Kind.SPATIAL_INDEX)
            if sealed is not None:
                self._copier.put(sealed)

    def _copy_derived(self, address: Address, kind: Kind) -> None:
        if address in self._leaves or self._copier.has(address):
            return
        nbytes = self._origin.backend.objects.size(address)
        if nbytes is not None:
            self._copy_once(address, kind, nbytes)

    def _copy_once(self, address: Address, kind: Kind, nbytes: int = 0) -> None:
        if address not in self._leaves:
            self._leaves.add(address)
            self._copier.copy(address, kind, nbytes)

    def _base_content(self, manifest: Address) -> Content:
        """Return the content of a manifest that the target has."""
        try:
            found = load_manifest(self._near.cache, manifest)
            return self._near.source.content(found.content)
        except DreamDBError:
            found = load_manifest(self._origin.cache, manifest)
            return self._origin.source.content(found.content)

    def _base_node(self, address: Address) -> Node:
        """Return a node that the target has, or will have with this batch."""
        try:
            return self._near.source.node(address)
        except (ObjectMissingError, IntegrityError):
            return self._origin.source.node(address)


def _roots(content: Content, bases: list[Content], target: Place) -> Trees:
    """Return each tree of a content that the target keeps, with trees that may share parts."""
    found = [
        (content.timeline, [base.timeline for base in bases]),
        (content.tombstones, [base.tombstones for base in bases]),
    ]
    # A field may have been renamed: then an equal root has another name.
    every = {root for base in bases for root in base.tracks.values()}
    for name, root in content.tracks.items():
        if target.keeps(name):
            same = [base.tracks.get(name) for base in bases]
            found.append((root, [*same, root] if root in every else same))
    return [
        (root, [base for base in others if base is not None])
        for root, others in found
        if root is not None
    ]
