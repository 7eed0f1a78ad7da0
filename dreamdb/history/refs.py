"""Resolving ref names: branches name manifests, snapshots tags, version tags catalogs.

Source: design/0005.  Refs mostly carry the tag or the catalog that they name.
"""

from __future__ import annotations

from dataclasses import dataclass

from dreamdb.errors import FormatError, InvalidInputError, RefNotFoundError, nearest_hint
from dreamdb.model import Catalog, Tag
from dreamdb.objects import Kind, OpenedObject, check_ref_name
from dreamdb.store import Backend, ObjectCache, RefValue
from dreamdb.types import Address

__all__ = [
    "ResolvedRef",
    "find_ref",
    "manifests_of",
    "open_catalog",
    "read_ref",
    "resolve_address",
    "resolve_ref",
]


@dataclass(frozen=True, slots=True)
class ResolvedRef:
    """A ref and what it names.

    Parameters
    ----------
    name : str
        The ref's name.
    value : RefValue
        The body as read, for a later compare-and-swap.
    manifest : Address
        The manifest: the body itself, or the one the tag names.
    tag : Tag or None
        The tag of a snapshot; None for a branch.
    """

    name: str
    value: RefValue
    manifest: Address
    tag: Tag | None

    @property
    def is_snapshot(self) -> bool:
        """Whether the ref is immutable."""
        return self.tag is not None


def find_ref(backend: Backend, cache: ObjectCache, name: str) -> ResolvedRef | None:
    """Return a ref, or None when there is none of that name.

    Notes
    -----
    Cost: 1 ref read; for a branch nothing more, as its manifest is read when needed anyway.
    """
    value = backend.refs.read(check_ref_name(name))
    if value is None:
        return None
    return resolve_address(cache, name, value)


def resolve_address(cache: ObjectCache, name: str, value: RefValue) -> ResolvedRef:
    """Tell a branch from a snapshot by the kind of the object its body names.

    Notes
    -----
    Cost: 1 object read, cached; none when the ref carries the object.
    """
    opened = _opened(cache, value)
    if opened.kind is Kind.MANIFEST:
        return ResolvedRef(name, value, value.address, None)
    if opened.kind is Kind.TAG:
        tag = Tag.decode(opened.view())
        if tag.label != name:
            raise FormatError(
                f"the ref {name!r} names a tag of {tag.label!r}", ref=name, label=tag.label
            )
        return ResolvedRef(name, value, tag.manifest, tag)
    if opened.kind is Kind.CATALOG:
        raise InvalidInputError(
            f"{name!r} is a version tag of the whole database, not a dataset",
            hint=f"read a table of it: SELECT ... FROM table AT VERSION '{name}'; "
            f"DROP VERSION TAG '{name}' removes it",
            ref=name,
        )
    raise FormatError(f"the ref {name!r} names a {opened.kind.name.lower()}", ref=name)


def _opened(cache: ObjectCache, value: RefValue) -> OpenedObject:
    """Return the object that a ref names, from the ref itself when it carries it."""
    if value.carried is None:
        return cache.open(value.address, None)
    return cache.adopt(value.address, value.carried)


def read_ref(backend: Backend, name: str) -> RefValue:
    """Return the value of a ref.

    Raises
    ------
    RefNotFoundError
        With the nearest names.

    Notes
    -----
    Cost: 1 ref read.
    """
    value = backend.refs.read(check_ref_name(name))
    if value is None:
        names = [n for n, _ in backend.refs.list()]
        near = nearest_hint(name, names, "refs")
        raise RefNotFoundError(
            f"ref {name!r} not found in {backend.url}",
            hint=near or "the space has no refs yet: create a dataset first",
            ref=name,
        )
    return value


def resolve_ref(backend: Backend, cache: ObjectCache, name: str) -> ResolvedRef:
    """Return a branch or a snapshot.

    Raises
    ------
    RefNotFoundError
        With the nearest names.
    InvalidInputError
        When it is a version tag.
    """
    return resolve_address(cache, name, read_ref(backend, name))


def open_catalog(cache: ObjectCache, name: str, value: RefValue) -> Catalog | None:
    """Return the catalog that a ref names; None when the ref is a branch or a snapshot.

    Raises
    ------
    FormatError
        When the catalog belongs to another ref.

    Notes
    -----
    Cost: 1 object read, cached; none when the ref carries the object.
    """
    opened = _opened(cache, value)
    if opened.kind is not Kind.CATALOG:
        return None
    catalog = Catalog.decode(opened.view())
    if catalog.label != name:
        raise FormatError(
            f"the ref {name!r} names a catalog of {catalog.label!r}", ref=name, label=catalog.label
        )
    return catalog


def manifests_of(cache: ObjectCache, name: str, value: RefValue) -> list[Address]:
    """Return the manifests that a ref keeps: one, or those of all tables of a version tag.

    Notes
    -----
    Only a branch keeps just the address that it holds.
    """
    catalog = open_catalog(cache, name, value)
    if catalog is not None:
        return list(catalog.tables.values())
    return [resolve_address(cache, name, value).manifest]
