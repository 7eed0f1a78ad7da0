"""Where objects and refs are kept: directories, memory, and whatever fsspec reaches."""

from dreamdb.store.cache import CacheCounters, ObjectCache
from dreamdb.store.locate import open_backend
from dreamdb.store.ports import (
    Backend,
    LogEntry,
    ObjectStore,
    RefStore,
    RefValue,
    Upload,
)
from dreamdb.store.ref_values import MAX_CARRIED

__all__ = [
    "MAX_CARRIED",
    "Backend",
    "CacheCounters",
    "LogEntry",
    "ObjectCache",
    "ObjectStore",
    "RefStore",
    "RefValue",
    "Upload",
    "open_backend",
]
