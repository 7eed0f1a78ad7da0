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
from dreamdb.store.promised import PromisorBackend, check_origin

__all__ = [
    "Backend",
    "CacheCounters",
    "LogEntry",
    "ObjectCache",
    "ObjectStore",
    "PromisorBackend",
    "RefStore",
    "RefValue",
    "Upload",
    "check_origin",
    "open_backend",
]
