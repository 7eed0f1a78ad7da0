"""What is said about a space beside its objects: cuts, redactions, what is kept elsewhere.

Source: design/0015 sections 5 and 6, design/0010 section 6.  All of it lives in the space's
document store, so it needs no object and changes no address.  A space that has some says so in
``space.json``; one that has none is never asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dreamdb.errors import FormatError, ObjectMissingError, RefConflictError, StorageError
from dreamdb.model import (
    CUTS,
    PARTIAL,
    REDACTIONS,
    HistoryCuts,
    Partial,
    Redaction,
    decode_cuts,
    encode_cuts,
    required_features,
    with_feature,
)
from dreamdb.objects import Kind, OpenedObject, to_text
from dreamdb.store import Backend, DocumentStore, ObjectCache, documents_of
from dreamdb.types import Address

__all__ = [
    "change_cuts",
    "load_marks",
    "open_content",
    "read_cuts",
    "read_partial",
    "read_redaction",
    "redactions",
    "reload_cuts",
    "require_feature",
    "resolve_content",
    "write_partial",
    "write_redaction",
]

_MAX_ATTEMPTS: Final = 64
_SPACE: Final = "space.json"


def load_marks(cache: ObjectCache, backend: Backend, space_document: bytes) -> None:
    """Tell a cache where its space's documents are, and read the cuts when there are some.

    Parameters
    ----------
    cache : ObjectCache
        The space's cache; walks through history take the cuts from it.
    backend : Backend
        The space.
    space_document : bytes
        Its ``space.json``.

    Notes
    -----
    Cost: 1 document read when the space requires ``cuts``, else none.
    """
    cache.documents = getattr(backend, "documents", None)
    if CUTS in required_features(space_document, backend.url):
        reload_cuts(cache)


def read_cuts(documents: DocumentStore) -> dict[Address, tuple[Address, ...]]:
    """Return the cuts of a space; empty when its history is whole."""
    found = documents.read(CUTS)
    return {} if found is None else decode_cuts(found.body)


def reload_cuts(cache: ObjectCache) -> bool:
    """Read the cuts again; return whether they have changed.

    Notes
    -----
    Cost: 1 document read.
    """
    if cache.documents is None:
        return False
    cuts = read_cuts(cache.documents)
    changed = cuts != cache.cuts
    cache.cuts = cuts
    return changed


def require_feature(backend: Backend, feature: str) -> None:
    """Add a required feature to ``space.json`` unless it is there.

    Parameters
    ----------
    backend : Backend
        The space.
    feature : str
        Its name; programs that do not know it refuse the space from now on.
    """
    documents = documents_of(backend)

    def add(body: bytes | None) -> bytes:
        if body is None:
            raise StorageError(f"the space at {backend.url} has no space.json")
        return with_feature(body, feature, backend.url)

    _change(documents, _SPACE, add)


def change_cuts(backend: Backend, change: Callable[[HistoryCuts], HistoryCuts]) -> HistoryCuts:
    """Replace the cuts of a space.

    A cut says which parents walks through history take instead of those a manifest names: none
    where the history ends, later ones where manifests in between are gone.  Record it before the
    parents are removed, or, in a copy, before the ref that needs it.

    Parameters
    ----------
    backend : Backend
        The space.
    change : callable
        Takes the present cuts, returns the new ones; called again when another writer was faster.

    Returns
    -------
    mapping
        The new cuts.
    """
    documents = documents_of(backend)
    require_feature(backend, CUTS)
    result: HistoryCuts = {}

    def apply(body: bytes | None) -> bytes:
        nonlocal result
        result = change({} if body is None else decode_cuts(body))
        return encode_cuts(result)

    _change(documents, CUTS, apply)
    return result


def read_partial(backend: Backend, space_document: bytes) -> Partial | None:
    """Return which fields a space keeps; None when it keeps all.

    Parameters
    ----------
    backend : Backend
        The space.
    space_document : bytes
        Its ``space.json``.

    Raises
    ------
    FormatError
        When the space is a partial one and does not say of what.

    Notes
    -----
    Cost: 1 document read when the space requires ``partial``, else none.
    """
    if PARTIAL not in required_features(space_document, backend.url):
        return None
    found = documents_of(backend).read(PARTIAL)
    if found is None:
        raise FormatError(
            f"the space {backend.url} does not say which fields it has and where others are"
        )
    return Partial.decode(found.body)


def write_partial(backend: Backend, partial: Partial) -> None:
    """Record which fields a space will keep, durably; it is made a partial one by its features."""
    body = partial.encode()
    _change(documents_of(backend), PARTIAL, lambda _: body)


def _change(documents: DocumentStore, key: str, change: Callable[[bytes | None], bytes]) -> None:
    """Read, change and swap a document until nobody else was faster."""
    for _ in range(_MAX_ATTEMPTS):
        found = documents.read(key)
        body = None if found is None else found.body
        new = change(body)
        if new == body:
            return
        try:
            documents.swap(key, found, new)
        except RefConflictError:
            continue
        return
    raise StorageError(f"{key} keeps being changed by others; nothing was written")


def read_redaction(documents: DocumentStore, content: Address) -> Redaction | None:
    """Return the redaction of a content, or None when it was never purged."""
    found = documents.read(f"{REDACTIONS}/{to_text(content)}")
    if found is None:
        return None
    redaction = Redaction.decode(found.body)
    if redaction.content != content:
        raise FormatError(f"the redaction of {to_text(content)} is of another content")
    return redaction


def write_redaction(documents: DocumentStore, redaction: Redaction) -> None:
    """Record a redaction, durably; an earlier one of the same content is replaced."""
    body = redaction.encode()
    _change(documents, f"{REDACTIONS}/{to_text(redaction.content)}", lambda _: body)


def redactions(documents: DocumentStore) -> list[Redaction]:
    """Return all redactions of a space."""
    found = [documents.read(f"{REDACTIONS}/{name}") for name in documents.list(REDACTIONS)]
    return [Redaction.decode(document.body) for document in found if document is not None]


def resolve_content(
    cache: ObjectCache, content: Address, *, fresh: bool = False
) -> tuple[Address, list[Redaction]]:
    """Return the content that stands for another, and the redactions that led there.

    Parameters
    ----------
    cache : ObjectCache
        Of the space.
    content : Address
        What a manifest names.
    fresh : bool
        Look into the store, whatever this process remembers of it.

    Raises
    ------
    ObjectMissingError
        When the content is gone and was not redacted.

    Notes
    -----
    Cost: 1 object read, cached; 1 document and 1 object more per redaction.
    """
    passed: list[Redaction] = []
    at = content
    while True:
        if fresh:
            cache.forget(at)
        try:
            cache.open(at, Kind.CONTENT)
            return at, passed
        except ObjectMissingError:
            documents = cache.documents
            found = None if documents is None else read_redaction(documents, at)
            if found is None:
                raise
            if any(found.content == before.content for before in passed):
                raise FormatError(f"the redactions of {to_text(content)} lead in a circle") from (
                    None
                )
            passed.append(found)
            at = found.replacement


def open_content(cache: ObjectCache, content: Address, *, fresh: bool = False) -> OpenedObject:
    """Return a content object, or the one that stands in for it since it was redacted.

    Parameters
    ----------
    cache, content, fresh
        As in :func:`resolve_content`.

    Notes
    -----
    Cost: 1 object read, cached.
    """
    return cache.open(resolve_content(cache, content, fresh=fresh)[0], Kind.CONTENT)
