"""Reachability: which objects a set of manifests and tags needs.

Source: design/0011, design/0015 section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dreamdb.errors import DreamDBError, IntegrityError, ObjectMissingError
from dreamdb.history import load_manifest, resolve_content
from dreamdb.index import IndexRoot
from dreamdb.model import Catalog, Content, Node, Tag
from dreamdb.objects import Kind, OpenedObject, from_text, to_text
from dreamdb.store import Backend
from dreamdb.tracks import Source
from dreamdb.types import ADDRESS_SIZE, ZERO_ADDRESS, Address
from dreamdb.vectors import parse_codec

__all__ = ["LEAVES", "Needs", "address_keys", "needs_of", "node_needs", "reachable_objects"]


Keys = npt.NDArray[np.uint64]

LEAVES = frozenset({Kind.FRAGMENT, Kind.CODEC, Kind.SPATIAL_INDEX, Kind.INDEX_SEGMENT})
"""Kinds that name nothing: they need not be opened."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one object names.

    Parameters
    ----------
    objects : list of (Address, Kind)
        Documents and nodes, to be followed.
    fragments : ndarray of uint8, shape (n, 33), or None
        Addresses of fragments, the leaves.
    """

    objects: list[tuple[Address, Kind]]
    fragments: npt.NDArray[np.uint8] | None = None


def needs_of(
    source: Source, address: Address, opened: OpenedObject, *, fresh: bool = False
) -> Needs:
    """Return what an object names; a manifest's parents are those of its cut, if it has one.

    Parameters
    ----------
    source : Source
        The space.
    address, opened : Address, OpenedObject
        The object.
    fresh : bool
        Look into the store for a manifest's content, whatever this process remembers of it.

    Raises
    ------
    IntegrityError
        When it is damaged, or no object that history can name.
    """
    if opened.kind is Kind.NODE:
        return node_needs(opened)
    if opened.kind is Kind.MANIFEST:
        manifest = load_manifest(source.cache, address)
        content, passed = resolve_content(source.cache, manifest.content, fresh=fresh)
        # An index of a content that was redacted holds codes of purged vectors: it goes as well.
        texts = () if passed else manifest.indexes.values()
        indexes = [(from_text(text), Kind.INDEX) for text in texts]
        # Not the skip address: it is one of the ancestors, or has been cut away.
        parents = [(parent, Kind.MANIFEST) for parent in manifest.parents]
        return Needs([*parents, *indexes, (content, Kind.CONTENT)])
    if opened.kind is Kind.CONTENT:
        content_ = Content.decode(opened.view())
        trees = [content_.timeline, content_.tombstones, *content_.tracks.values()]
        types = [field.type for field in content_.schema.fields]
        codecs = {parse_codec(t.codec, t.dim).address for t in types if t.codec is not None}
        needed = [(root, Kind.NODE) for root in trees if root is not None]
        return Needs([*needed, *((codec, Kind.CODEC) for codec in sorted(codecs))])
    if opened.kind is Kind.INDEX:
        index = IndexRoot.decode(opened.view())
        segments = [(one.segment, Kind.INDEX_SEGMENT) for one in index.segments.values()]
        cells = [] if index.centroids is None else [(index.centroids, Kind.SPATIAL_INDEX)]
        return Needs([*segments, *cells])
    if opened.kind in LEAVES:
        return Needs([])
    if opened.kind is Kind.TAG:
        return Needs([(Tag.decode(opened.view()).manifest, Kind.MANIFEST)])
    if opened.kind is Kind.CATALOG:
        tables = Catalog.decode(opened.view()).tables.values()
        return Needs([(manifest, Kind.MANIFEST) for manifest in tables])
    raise IntegrityError(
        f"a {opened.kind.name.lower()} is named as history", object=to_text(address)
    )


def node_needs(opened: OpenedObject) -> Needs:
    """Return what a tree node names, all-null chunks left out."""
    node = Node.decode(opened.view())
    raw = np.ascontiguousarray(node.entries["address"]).view(np.uint8).reshape(-1, ADDRESS_SIZE)
    if node.level == 1:
        # Only the zero address starts with a zero byte.
        return Needs([], raw if raw[:, 0].all() else raw[raw[:, 0] != 0])
    joined = raw.tobytes()
    children = [
        Address(joined[at : at + ADDRESS_SIZE]) for at in range(0, len(joined), ADDRESS_SIZE)
    ]
    return Needs([(child, Kind.NODE) for child in children])


def address_keys(addresses: npt.NDArray[np.uint8]) -> Keys:
    """Return the first eight bytes of each digest: what objects are marked by.

    Parameters
    ----------
    addresses : ndarray of uint8, shape (n, 33)

    Notes
    -----
    Two objects that share these bytes would both be kept when one of them is needed, which does
    no harm; for 10^9 objects the odds of a single such pair are 1 in 37.
    """
    return np.ascontiguousarray(addresses[:, 1:9]).view(np.uint64).ravel()


def reachable_objects(
    backend: Backend, source: Source, starts: list[Address], *, lenient: bool = False
) -> Iterator[tuple[Address, Kind | None]]:
    """Yield every object the starts need, each once, the referring one first.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    starts : list of Address
        Manifests, tags and catalogs.
    lenient : bool
        Yield an object that cannot be read, and go on without what only it names.

    Notes
    -----
    Cost: 1 object read per manifest, content and tree node, cached; fragments are not read.
    """
    seen: set[Address] = set()
    stack: list[tuple[Address, Kind | None]] = [(a, None) for a in starts]
    while stack:
        address, kind = stack.pop()
        if address in seen or address == ZERO_ADDRESS:
            continue
        seen.add(address)
        if kind in LEAVES:
            yield address, kind
            continue
        try:
            opened = source.cache.open(address, kind)
            kind, needs = opened.kind, needs_of(source, address, opened)
        except DreamDBError as error:
            if kind is Kind.INDEX and isinstance(error, ObjectMissingError):
                continue  # Derived: an older version's collector may have taken it.
            if not lenient:
                raise
            needs = Needs([])
        yield address, kind
        stack += needs.objects
        if needs.fragments is not None:
            stack += [(Address(row.tobytes()), Kind.FRAGMENT) for row in needs.fragments]
