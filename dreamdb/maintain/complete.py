"""Whether everything that a version needs is stored.

Source: design/0008 section 9.
"""

from __future__ import annotations

from dreamdb.errors import ObjectMissingError
from dreamdb.history import load_manifest, resolve_content
from dreamdb.maintain.reach import reachable_objects
from dreamdb.objects import to_text
from dreamdb.store import Backend
from dreamdb.tracks import Source
from dreamdb.types import Address

__all__ = ["check_complete"]


def check_complete(backend: Backend, source: Source, manifest: Address) -> None:
    """Raise unless a manifest and every object of its content are in the store.

    What this process has in its caches may have been collected meanwhile, so the store is asked.

    Raises
    ------
    ObjectMissingError
        Naming the first object that is gone.

    Notes
    -----
    Cost: 1 object read per tree node, cached; 1 size request per object.
    """
    try:
        _require(backend, manifest)
        named = load_manifest(source.cache, manifest).content
        content, _ = resolve_content(source.cache, named, fresh=True)
        for address, _ in reachable_objects(backend, source, [content]):
            _require(backend, address)
    except ObjectMissingError as error:
        raise ObjectMissingError(
            f"the version {to_text(manifest)} is not complete any more: {error}",
            hint="it was collected, or never pulled: pull it from another space",
            manifest=to_text(manifest),
            **error.details,
        ) from None


def _require(backend: Backend, address: Address) -> None:
    if backend.objects.size(address) is None:
        raise ObjectMissingError(f"object {to_text(address)} is gone", object=to_text(address))
