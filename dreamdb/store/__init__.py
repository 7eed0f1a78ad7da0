"""Where objects and refs are kept: directories, memory, and whatever fsspec reaches."""

from dreamdb.store.cache import CacheCounters, ObjectCache
from dreamdb.store.leases import LeasedBackend, LeaseTerms
from dreamdb.store.locate import open_backend
from dreamdb.store.ports import (
    Backend,
    DocumentStore,
    LogEntry,
    ObjectStore,
    RefStore,
    RefValue,
    StampedObjects,
    StoredDocument,
    Trash,
    TrashedObject,
    Upload,
    documents_of,
    trash_of,
)
from dreamdb.store.promised import PromisorBackend, check_origin, kept_objects
from dreamdb.store.ref_values import MAX_CARRIED

__all__ = [
    "MAX_CARRIED",
    "Backend",
    "CacheCounters",
    "DocumentStore",
    "LeaseTerms",
    "LeasedBackend",
    "LogEntry",
    "ObjectCache",
    "ObjectStore",
    "PromisorBackend",
    "RefStore",
    "RefValue",
    "StampedObjects",
    "StoredDocument",
    "Trash",
    "TrashedObject",
    "Upload",
    "check_origin",
    "documents_of",
    "kept_objects",
    "open_backend",
    "trash_of",
]
