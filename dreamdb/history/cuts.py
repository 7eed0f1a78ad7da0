"""Where a space's history is cut: manifests that are kept without their parents.

Source: design/0002 section 12, design/0010 section 7.  Everything about cuts is here; walks see
them through :func:`as_walks_see`, which :func:`dreamdb.history.load_manifest` applies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dreamdb.model import Manifest
from dreamdb.objects import Kind
from dreamdb.store import ObjectCache
from dreamdb.types import Address

__all__ = ["as_walks_see", "cut_parents", "skip_line", "stored_manifest"]


def stored_manifest(cache: ObjectCache, address: Address) -> Manifest:
    """Return the manifest at an address as it is stored, whatever is cut here."""
    return Manifest.decode(cache.open(address, Kind.MANIFEST).view())


def cut_parents(cache: ObjectCache, address: Address) -> tuple[Address, ...] | None:
    """Return the parents that a cut leaves to a manifest; None where there is no cut."""
    return () if address in cache.cuts else None


def as_walks_see(cache: ObjectCache, address: Address, manifest: Manifest) -> Manifest:
    """Return a manifest with the parents that are kept.

    In a space with cuts no manifest shows its skip address, since it may lead behind a cut.
    """
    if not cache.cuts:
        return manifest
    kept = cut_parents(cache, address)
    return replace(manifest, parents=manifest.parents if kept is None else kept, skip=None)


def skip_line(cache: ObjectCache, address: Address) -> Iterator[tuple[Address, Manifest]]:
    """Yield the manifests that skip addresses of a manifest's descendants may name or pass.

    From a manifest to its skip address, or where there is none to its first parent, and so on to
    a root.  Where history is cut they are kept, without their contents, so that new manifests
    are the same as in a whole space.

    Notes
    -----
    Cost: at most the square of the logarithm of the generation in manifest reads.
    """
    manifest = stored_manifest(cache, address)
    while manifest.parents:
        address = manifest.skip if manifest.skip is not None else manifest.parents[0]
        manifest = stored_manifest(cache, address)
        yield address, manifest
