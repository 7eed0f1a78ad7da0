"""From what users name another space by to the two ends of a transfer.

Source: design/0010 section 1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from dreamdb.dataset.handle import Handle
from dreamdb.dataset.session import OpenSpace, open_space
from dreamdb.errors import InvalidInputError
from dreamdb.store import Backend
from dreamdb.transfer import Place

__all__ = ["RemoteLike", "ends", "open_remote_space", "place_of"]

RemoteLike: TypeAlias = "str | os.PathLike[str] | Backend | Handle | Any"
"""A URL, a path, a Backend, a Space, or a Dataset in the other space."""


def open_remote_space(
    remote: RemoteLike, storage_options: Mapping[str, Any] | None = None
) -> OpenSpace:
    """Open the other space of a transfer.

    Parameters
    ----------
    remote : str, PathLike, Backend, Space or Dataset
        What names it.
    storage_options : mapping, optional
        Its credentials and settings.

    Raises
    ------
    NotFoundError
        When there is no space.
    """
    opened = getattr(remote, "_space", None)
    if isinstance(opened, OpenSpace):
        return opened
    given: Any = remote  # What is none of these is refused there.
    return open_space(given, storage_options=storage_options)


def place_of(space: OpenSpace) -> Place:
    """Return a space as one end of a transfer.

    Parameters
    ----------
    space : OpenSpace
        The space.
    """
    return Place(space.backend, space.source)


def ends(origin: OpenSpace, target: OpenSpace) -> tuple[Place, Place]:
    """Return the two ends of a transfer.

    Parameters
    ----------
    origin, target : OpenSpace
        From where, and to where.

    Raises
    ------
    InvalidInputError
        When they are one space.
    """
    if origin.url == target.url:
        raise InvalidInputError(
            f"both ends are the same space, {origin.url}", hint="name another space"
        )
    return place_of(origin), place_of(target)
