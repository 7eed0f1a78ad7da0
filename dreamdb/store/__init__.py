"""Where objects and refs are kept: directories, memory, and whatever fsspec reaches."""

from dreamdb.store.cache import CacheCounters, ObjectCache
from dreamdb.store.features import require_feature
from dreamdb.store.locate import open_backend
from dreamdb.store.ports import (
    Backend,
    LogEntry,
    ObjectStore,
    RefStore,
    RefValue,
    Upload,
)

__all__ = [
    "Backend",
    "CacheCounters",
    "LogEntry",
    "ObjectCache",
    "ObjectStore",
    "RefStore",
    "RefValue",
    "Upload",
    "open_backend",
    "require_feature",
]
