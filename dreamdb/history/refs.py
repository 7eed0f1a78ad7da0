"""Resolving ref names: branches name manifests, snapshots name tags and mostly carry them.

Source: design/0005.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dreamdb.errors import FormatError, RefNameError, RefNotFoundError, nearest_hint
from dreamdb.model import Tag
from dreamdb.objects import Kind, check_ref_name
from dreamdb.store import Backend, ObjectCache, RefValue
from dreamdb.types import Address

__all__ = [
    "ResolvedRef",
    "check_new_name",
    "find_ref",
    "is_tracking",
    "resolve_address",
    "resolve_ref",
    "tracking_name",
]

_REMOTES: Final = "remotes/"


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
    if value.carried is None:
        opened = cache.open(value.address, None)
    else:
        opened = cache.adopt(value.address, value.carried)
    if opened.kind is Kind.MANIFEST:
        return ResolvedRef(name, value, value.address, None)
    if opened.kind is Kind.TAG:
        tag = Tag.decode(opened.view())
        if tag.label != name:
            raise FormatError(
                f"the ref {name!r} names a tag of {tag.label!r}", ref=name, label=tag.label
            )
        return ResolvedRef(name, value, tag.manifest, tag)
    raise FormatError(f"the ref {name!r} names a {opened.kind.name.lower()}", ref=name)


def resolve_ref(backend: Backend, cache: ObjectCache, name: str) -> ResolvedRef:
    """Return a ref.

    Raises
    ------
    RefNotFoundError
        With the nearest names.
    """
    found = find_ref(backend, cache, name)
    if found is None:
        names = [n for n, _ in backend.refs.list()]
        near = nearest_hint(name, names, "refs")
        raise RefNotFoundError(
            f"ref {name!r} not found in {backend.url}",
            hint=near or "the space has no refs yet: create a dataset first",
            ref=name,
        )
    return found


def is_tracking(name: str) -> bool:
    """Return whether a name is one of a remote-tracking ref, which only fetches move."""
    return name.startswith(_REMOTES)


def tracking_name(remote: str, branch: str) -> str:
    """Return the remote-tracking ref of a remote's branch: ``remotes/<remote>/<branch>``.

    Raises
    ------
    RefNameError
        When the remote's name is no single segment of a ref name, or both together are too long.
    """
    if "/" in check_ref_name(remote):
        raise RefNameError(
            f"the name of a remote is one segment, not {remote!r}", hint="such as 'origin'"
        )
    return check_ref_name(f"{_REMOTES}{remote}/{branch}")


def check_new_name(name: str) -> str:
    """Return a name under which a user may make a ref.

    Raises
    ------
    RefNameError
        When it cannot name a ref, or is one of a remote-tracking ref.
    """
    if is_tracking(check_ref_name(name)):
        raise RefNameError(
            f"ref name {name!r} is not allowed: names below {_REMOTES} follow other spaces",
            hint="choose another name; fetch makes and moves those",
        )
    return name
