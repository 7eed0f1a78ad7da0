"""Features of a space: what a reader must know before it may read it.

Source: design/0002 section 12.
"""

from __future__ import annotations

from dreamdb.errors import ConflictError, NotFoundError
from dreamdb.objects import decode_document, encode_document
from dreamdb.store.ports import Backend

__all__ = ["require_feature"]

_ATTEMPTS = 16


def require_feature(backend: Backend, feature: str) -> None:
    """Write a feature into ``space.json`` unless it is there: older versions then refuse the space.

    Parameters
    ----------
    backend : Backend
        The space.
    feature : str
        A name of design/0002 section 12.

    Raises
    ------
    NotFoundError
        When there is no space.
    ConflictError
        When other writers change the document each time.

    Notes
    -----
    Cost: 1 read of ``space.json``, and a replacement the first time.
    """
    for _ in range(_ATTEMPTS):
        stored = backend.read_space()
        if stored is None:
            raise NotFoundError(f"there is no space at {backend.url}", url=backend.url)
        document = decode_document(stored, what=f"space.json in {backend.url}")
        if feature in document["required"]:
            return
        document["required"] = sorted({*document["required"], feature})
        if backend.replace_space(stored, encode_document(document)):
            return
    raise ConflictError(
        f"other writers changed space.json of {backend.url} each of {_ATTEMPTS} times",
        hint="try again",
    )
