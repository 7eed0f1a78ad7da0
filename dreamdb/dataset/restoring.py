"""Bringing deleted refs back from their reflog.

Source: design/0008 section 9.
"""

from __future__ import annotations

from collections.abc import Iterable

from dreamdb import config
from dreamdb.dataset.session import OpenSpace
from dreamdb.errors import InvalidInputError, ObjectMissingError
from dreamdb.maintain import check_complete
from dreamdb.model import Catalog, Tag
from dreamdb.objects import Kind, OpenedObject, check_ref_name
from dreamdb.types import Address
from dreamdb.write import deleted_value, restore_ref

__all__ = ["restore_deleted", "restore_version_tag"]


def restore_deleted(space: OpenSpace, name: str, to: str | None) -> None:
    """Create a deleted branch or snapshot again, with everything it needs still there.

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
        When a snapshot is to be renamed: its name is part of what it is.  For a version tag.
    """
    target = check_ref_name(name if to is None else to)
    address, opened = _deleted(space, name)
    manifest = address
    if opened.kind is Kind.TAG:
        if target != name:
            raise InvalidInputError(
                f"{name!r} is a snapshot and keeps its name",
                hint="restore it, then make a branch or another snapshot of it",
                ref=name,
            )
        manifest = Tag.decode(opened.view()).manifest
    elif opened.kind is Kind.CATALOG:
        raise InvalidInputError(
            f"{name!r} was a version tag of the whole database, not a dataset",
            hint=f"Database(url).restore_version_tag({name!r})",
            ref=name,
        )
    _restore(space, name, target, address, [manifest])


def restore_version_tag(space: OpenSpace, name: str) -> None:
    """Create a deleted version tag again, with everything its tables need still there.

    Parameters
    ----------
    space : OpenSpace
        Where it was.
    name : str
        What it was called.

    Raises
    ------
    RefNotFoundError, AlreadyExistsError, ObjectMissingError
        As for :meth:`Space.restore`.
    InvalidInputError
        When it was no version tag.
    """
    address, opened = _deleted(space, name)
    if opened.kind is not Kind.CATALOG:
        raise InvalidInputError(
            f"{name!r} was a dataset, not a version tag",
            hint=f"Space.restore({name!r}) brings it back",
            ref=name,
        )
    _restore(space, name, name, address, Catalog.decode(opened.view()).tables.values())


def _deleted(space: OpenSpace, name: str) -> tuple[Address, OpenedObject]:
    """Return what a deleted ref named."""
    address = deleted_value(space.backend, check_ref_name(name))
    try:
        return address, space.cache.open(address, None)
    except ObjectMissingError:
        raise ObjectMissingError(
            f"{name!r} cannot be restored: what it named was collected", ref=name
        ) from None


def _restore(
    space: OpenSpace, name: str, target: str, address: Address, manifests: Iterable[Address]
) -> None:
    for manifest in manifests:
        check_complete(space.backend, space.source, manifest)
    why = "restore" if target == name else f"restore of {name}"
    restore_ref(space.backend, target, address, who=config.author(), why=why)
