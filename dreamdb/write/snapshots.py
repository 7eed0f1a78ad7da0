"""Refs that never move: snapshots and version tags, and the deletion of any ref.

Source: design/0005 section 1.  A snapshot's ref carries its tag, a version tag's its catalog; one
that is too long to be carried is an object like any other.
"""

from __future__ import annotations

import time

from dreamdb.history import require_feature
from dreamdb.model import CATALOG, Catalog, Tag
from dreamdb.objects import Kind, OpenedObject, seal
from dreamdb.store import MAX_CARRIED, Backend, LogEntry, RefValue
from dreamdb.tracks import Source
from dreamdb.types import Address
from dreamdb.write.commit import create_ref
from dreamdb.write.stage import Stage

__all__ = ["create_snapshot", "create_version_tag", "delete_ref"]


def create_snapshot(backend: Backend, source: Source, tag: Tag) -> RefValue:
    """Create the ref of a snapshot; the space is held by the caller.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    tag : Tag
        Its label is the ref's name.

    Raises
    ------
    AlreadyExistsError
        When a ref has that name.

    Notes
    -----
    Cost: 1 ref creation; 1 object more when the sealed tag is longer than ``MAX_CARRIED``.
    """
    return _create(backend, source, Kind.TAG, tag.label, tag.encode())


def create_version_tag(backend: Backend, source: Source, catalog: Catalog) -> RefValue:
    """Create the ref of a version tag; the space is held by the caller.

    Parameters
    ----------
    backend, source : Backend, Source
        The space; from now on it requires the feature ``catalog``.
    catalog : Catalog
        Its label is the ref's name.

    Raises
    ------
    AlreadyExistsError
        When a ref has that name.

    Notes
    -----
    Cost: 1 document read, 1 ref creation; 1 document written the first time in a space, and 1
    object when the sealed catalog is longer than ``MAX_CARRIED``.
    """
    require_feature(backend, CATALOG)
    return _create(backend, source, Kind.CATALOG, catalog.label, catalog.encode())


def _create(backend: Backend, source: Source, kind: Kind, label: str, payload: bytes) -> RefValue:
    sealed = seal(kind, [payload], compress=False)
    if sealed.nbytes > MAX_CARRIED:
        return create_ref(backend, label, _store(backend, source, kind, payload))
    return create_ref(backend, label, sealed.address, sealed.to_bytes())


def _store(backend: Backend, source: Source, kind: Kind, payload: bytes) -> Address:
    """Put a document into the object store, durably, and return its address."""
    stage = Stage(backend, source)
    try:
        address = stage.document(kind, payload)
        stage.flush()
    except BaseException:
        stage.abort()
        raise
    return address


def delete_ref(
    backend: Backend, source: Source, name: str, value: RefValue, *, who: str, why: str
) -> None:
    """Delete a ref; logged first, so that it can be restored.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    name : str
        The ref.
    value : RefValue
        What it was when it was read.
    who, why : str
        For the log.

    Raises
    ------
    RefConflictError
        When another writer moved it meanwhile.

    Notes
    -----
    Cost: 1 log line, 1 ref deletion; 1 small object more when the ref carried what it names.
    """
    with backend.objects.hold():
        if value.carried is not None:
            # The ref is the only place of it, and the reflog is about to name it.
            opened = OpenedObject(value.address, memoryview(value.carried), None)
            _store(backend, source, opened.kind, bytes(opened.view()))
        backend.refs.append_log(name, LogEntry(time.time_ns(), value.address, None, who, why))
        backend.refs.swap(name, value, None)
