"""One end of a transfer, and the small objects that both ends read.

Source: design/0010 section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from dreamdb.store import Backend, ObjectCache, ObjectStore, kept_objects
from dreamdb.tracks import Source

__all__ = ["Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """A space as the origin or the target of a transfer.

    Parameters
    ----------
    backend : Backend
        Both ports; a partial clone's also fetches what it lacks.
    source : Source
        Its caches.
    """

    backend: Backend
    source: Source

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return self.backend.url

    @property
    def cache(self) -> ObjectCache:
        """Its verified objects."""
        return self.source.cache

    @property
    def kept(self) -> ObjectStore:
        """What it really has: nothing is fetched through this port."""
        return kept_objects(self.backend)

    def keeps(self, field: str) -> bool:
        """Return whether it keeps the values of a field."""
        fields = self.source.cache.fields
        return fields is None or field in fields
