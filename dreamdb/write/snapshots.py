"""Creating snapshots: one ref that carries its tag.

Source: design/0005 section 1.  A tag that is too long to be carried is an object like any other.
"""

from __future__ import annotations

from dreamdb.model import Tag
from dreamdb.objects import Kind, seal
from dreamdb.store import MAX_CARRIED, Backend, RefValue
from dreamdb.tracks import Source
from dreamdb.types import Address
from dreamdb.write.commit import create_ref
from dreamdb.write.stage import Stage

__all__ = ["create_snapshot", "store_tag"]


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
    sealed = seal(Kind.TAG, [tag.encode()], compress=False)
    if sealed.nbytes > MAX_CARRIED:
        return create_ref(backend, tag.label, store_tag(backend, source, tag))
    return create_ref(backend, tag.label, sealed.address, sealed.to_bytes())


def store_tag(backend: Backend, source: Source, tag: Tag) -> Address:
    """Put a tag into the object store, durably, and return its address.

    Whatever names a tag without carrying it, such as the reflog of a deleted snapshot, needs this
    first.

    Notes
    -----
    Cost: 1 small object.
    """
    stage = Stage(backend, source)
    try:
        address = stage.document(Kind.TAG, tag.encode())
        stage.flush()
    except BaseException:
        stage.abort()
        raise
    return address
