"""Keys of the documents beside the objects, and the conflict that a swap reports.

Source: design/0015 section 2.
"""

from __future__ import annotations

import re
from typing import Final

from dreamdb.errors import InvalidInputError, RefConflictError

__all__ = [
    "SPACE_DOCUMENT",
    "check_document_key",
    "check_folder",
    "document_conflict",
    "is_document_name",
]

SPACE_DOCUMENT: Final = "space.json"
_FOLDER: Final = re.compile(r"(?:cuts|condemned|partial|redactions|leases)\Z")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,99}\Z")


def check_document_key(key: str) -> tuple[str, str]:
    """Return folder and name of a key; the folder is empty for a document at the top.

    Raises
    ------
    InvalidInputError
        When no document has that key.
    """
    folder, slash, name = key.partition("/")
    if key == SPACE_DOCUMENT or (not slash and _FOLDER.match(key)):
        return "", key
    if slash and _FOLDER.match(folder) and _NAME.match(name):
        return folder, name
    raise InvalidInputError(f"{key!r} is not the key of a document of a space")


def check_folder(folder: str) -> str:
    """Return a folder of documents; raise InvalidInputError for any other."""
    if not _FOLDER.match(folder):
        raise InvalidInputError(f"{folder!r} is not a folder of documents")
    return folder


def is_document_name(name: str) -> bool:
    """Return whether a file in a folder of documents is one."""
    return _NAME.match(name) is not None


def document_conflict(key: str, where: str) -> RefConflictError:
    """Return the error of a swap that found another document."""
    return RefConflictError(
        f"{key} in {where} was changed by somebody else meanwhile",
        hint="read it and try again",
        key=key,
    )
