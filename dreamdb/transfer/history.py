"""Copying what a ref names: missing manifests, each with the part of its content that is new.

Source: design/0010 sections 2 to 4.
"""

from __future__ import annotations

import time

from dreamdb.errors import DreamDBError, FormatError, IntegrityError, ObjectMissingError
from dreamdb.history import load_manifest, skip_line, stored_manifest
from dreamdb.model import Content, Node
from dreamdb.objects import Kind, to_text
from dreamdb.transfer.copier import Copier, damaged_at
from dreamdb.transfer.manifests import Reached, missing_manifests
from dreamdb.transfer.place import Place
from dreamdb.transfer.trees import TreeCopy
from dreamdb.types import Address

__all__ = ["HistoryCopy"]

_FLUSH_AFTER_S = 2.0


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
        for address in missing_manifests(self._origin, self._target, tip, self._reached):
            self._copy_manifest(address)
        self._copier.flush()
        self._reached.add(tip)

    def copy_document(self, address: Address, kind: Kind) -> None:
        """Copy one document, such as a tag, whose parts are there."""
        self._copier.wait()
        if not self._copier.has(address):
            self._copier.put(self._copier.open(address, kind)[1])

    def _copy_manifest(self, address: Address) -> None:
        _, sealed = self._copier.open(address, Kind.MANIFEST)
        manifest = stored_manifest(self._origin.cache, address)
        bases: list[Content] = []
        if address in self._target.cuts:
            for other, _ in skip_line(self._origin.cache, address):
                self.copy_document(other, Kind.MANIFEST)
        else:
            bases = [self._base_content(parent) for parent in manifest.parents]
        self._copy_content(manifest.content, bases)
        self._copier.put(sealed)
        self.num_manifests += 1
        # The manifest is complete with this batch: its children may rest on it.
        self._reached.add(address)
        if time.monotonic() - self._flushed > _FLUSH_AFTER_S:
            self._copier.flush()
            self._flushed = time.monotonic()

    def _copy_content(self, address: Address, bases: list[Content]) -> None:
        opened, sealed = self._copier.open(address, Kind.CONTENT)
        try:
            content = Content.decode(opened.payload)
        except FormatError as error:
            error.details.setdefault("object", to_text(address))
            raise damaged_at(error, self._origin.url) from None
        for root, others in _roots(content, bases, self._target):
            self._trees.copy(root, others)
        self._copier.wait()
        self._copier.put(sealed)

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


def _roots(
    content: Content, bases: list[Content], target: Place
) -> list[tuple[Address, list[Address]]]:
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
