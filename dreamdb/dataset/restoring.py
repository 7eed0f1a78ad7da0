"""Bringing deleted refs back from their reflog.

Source: design/0008 section 9.
"""

from __future__ import annotations

from dreamdb import config
from dreamdb.dataset.session import OpenSpace
from dreamdb.errors import InvalidInputError, ObjectMissingError
from dreamdb.history import check_new_name
from dreamdb.maintain import check_complete
from dreamdb.model import Tag
from dreamdb.objects import Kind, check_ref_name
from dreamdb.write import deleted_value, restore_ref

__all__ = ["restore_deleted"]


def restore_deleted(space: OpenSpace, name: str, to: str | None) -> None:
    """Create a deleted ref again, with everything it needs still there.

    Parameters
    ----------
    space : OpenSpace
        Where it was.
    name : str
        What it was called.
    to : str or None
        What the branch is to be called now; None for its old name.

    Raises
    ------
    RefNotFoundError, AlreadyExistsError, ObjectMissingError
        See :meth:`Space.restore`.
    InvalidInputError
        When a snapshot is to be renamed: its name is part of what it is.
    """
    target = check_ref_name(name) if to is None else check_new_name(to)
    address = deleted_value(space.backend, check_ref_name(name))
    try:
        opened = space.cache.open(address, None)
    except ObjectMissingError:
        raise ObjectMissingError(
            f"{name!r} cannot be restored: what it named was collected", ref=name
        ) from None
    manifest = address
    if opened.kind is Kind.TAG:
        if target != name:
            raise InvalidInputError(
                f"{name!r} is a snapshot and keeps its name",
                hint="restore it, then make a branch or another snapshot of it",
                ref=name,
            )
        manifest = Tag.decode(opened.view()).manifest
    check_complete(space.backend, space.source, manifest)
    why = "restore" if target == name else f"restore of {name}"
    restore_ref(space.backend, target, address, who=config.author(), why=why)
