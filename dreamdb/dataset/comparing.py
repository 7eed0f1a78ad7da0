"""Two versions side by side: diff, merge bases.

Source: design/0008 sections 2 and 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dreamdb.dataset.handle import Handle
from dreamdb.dataset.locate import find_manifest, manifest_at, to_time_ns
from dreamdb.dataset.session import BackendLike, OpenSpace, open_space
from dreamdb.errors import InvalidInputError
from dreamdb.history import (
    ancestor_at_time,
    field_renames,
    find_ref,
    load_manifest,
    resolve_ref,
)
from dreamdb.history import merge_base as best_ancestors
from dreamdb.objects import to_text
from dreamdb.read import Diff
from dreamdb.tracks import View
from dreamdb.types import Address

__all__ = ["Comparing", "diff", "locate_version", "merge_base"]


class Comparing(Handle):
    """The verb that compares this version with another."""

    def diff(self, a: Any, b: Any = None, *, fields: Sequence[str] | None = None) -> Diff:
        """Return what changed from one version to another, by default to this one.

        Parameters
        ----------
        a : str, dict, Dataset, int, datetime or tuple
            The version before, as in :func:`dreamdb.diff`; a time is one of this branch.
        b : str, dict, Dataset, int, datetime or tuple, optional
            The version after; default: the one this handle reads, so that ``ds.diff("v1")`` says
            what has changed since ``v1``.
        fields : sequence of str, optional
            Look at these fields only.

        Notes
        -----
        Cost: as :func:`dreamdb.diff`.
        """
        space = self._space
        before = locate_version(space, a, self._manifest)
        after = self._manifest if b is None else locate_version(space, b, self._manifest)
        here = self._name or to_text(self._manifest)
        names = _called(a, before), here if b is None else _called(b, after)
        return _diff(space, before, after, names, fields)


def diff(
    a: Any,
    b: Any,
    backend: BackendLike | None = None,
    *,
    fields: Sequence[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Diff:
    """Return what changed from version ``a`` to version ``b``.

    Parameters
    ----------
    a, b : str, dict, Dataset, int, datetime or tuple
        A branch or snapshot, a manifest, the dictionary of ``snapshot()``, a handle, or a pair
        ``(ref, time)``.  A bare time is one of the other version's line.
    backend : str, PathLike or Backend, optional
        Where they lie; not needed when one of them is a handle.
    fields : sequence of str, optional
        Look at these fields only.
    storage_options : mapping, optional
        Credentials and settings of the file system.

    Returns
    -------
    Diff
        Counts first; values are read when they are asked for.

    Raises
    ------
    RefNotFoundError, NotFoundError
        With the nearest names.
    InvalidInputError
        When two times, or two spaces, are given.

    Notes
    -----
    Cost: proportional to what differs, whatever the size.
    """
    handles = [given for given in (a, b) if isinstance(given, Handle)]
    if backend is None and not handles:
        raise InvalidInputError("diff needs a backend", hint="backend='path/to/space'")
    space = (
        handles[0]._space
        if backend is None
        else open_space(backend, storage_options=storage_options)
    )
    if _is_time(space, a) and _is_time(space, b):
        raise InvalidInputError(
            "both versions are times", hint="name the ref: diff(('main', time), ('main', later))"
        )
    if _is_time(space, a):
        after = locate_version(space, b, None)
        before = locate_version(space, a, after)
    else:
        before = locate_version(space, a, None)
        after = locate_version(space, b, before)
    return _diff(space, before, after, (_called(a, before), _called(b, after)), fields)


def _diff(
    space: OpenSpace,
    before: Address,
    after: Address,
    names: tuple[str, str],
    fields: Sequence[str] | None,
) -> Diff:
    if fields is not None:
        fields = [fields] if isinstance(fields, str) else list(fields)
    views = []
    for address in (before, after):
        manifest = load_manifest(space.cache, address)
        views.append(View(space.source, space.source.content(manifest.content)))
    left, right = (set(view.content.schema) for view in views)
    # Renames are read from the manifests in between; equal names mean that there is none to find.
    renames = field_renames(space.cache, before, after) if left - right and right - left else {}
    return Diff(views[0], views[1], names=names, renames=renames, fields=fields)


def locate_version(space: OpenSpace, given: Any, line: Address | None) -> Address:
    """Return the manifest that a version means.

    Parameters
    ----------
    space : OpenSpace
        Where to look.
    given : str, bytes, dict, Dataset, int, datetime or tuple
        As in :func:`diff`.
    line : Address or None
        Whose history a bare time belongs to.

    Raises
    ------
    InvalidInputError
        When it is a time and there is no line, or a handle on another space.
    """
    if isinstance(given, Handle):
        if given._space is not space and given.backend != space.url:
            raise InvalidInputError(
                f"the handle is on another space: {given.backend}, not {space.url}",
                hint="pull one of them first",
            )
        return given._manifest
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
        tip = resolve_ref(space.backend, space.cache, given[0]).manifest
        return manifest_at(space, tip, given[1])
    if _is_time(space, given):
        when = to_time_ns(given)
        if line is None or when is None:
            raise InvalidInputError(
                f"whose history is meant by the time {given!r}?", hint="give (ref, time)"
            )
        return ancestor_at_time(space.cache, line, when)
    return find_manifest(space, given)


def _is_time(space: OpenSpace, given: Any) -> bool:
    """Tell a time from a ref that is called like one."""
    if to_time_ns(given) is None:
        return False
    return not isinstance(given, str) or find_ref(space.backend, space.cache, given) is None


def _called(given: Any, address: Address) -> str:
    if isinstance(given, Handle) and given.name:
        return given.name
    if isinstance(given, Mapping) and isinstance(given.get("label"), str):
        return str(given["label"])
    if isinstance(given, str):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        return f"{given[0]} at {given[1]}"
    return to_text(address)


def merge_base(
    a: Any,
    b: Any,
    backend: BackendLike | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return the best common ancestors of two versions.

    Parameters
    ----------
    a, b, backend, storage_options
        As in :func:`diff`.

    Returns
    -------
    list of str
        Manifests; empty for unrelated histories, several after criss-cross merges.
    """
    handles = [given for given in (a, b) if isinstance(given, Handle)]
    if backend is None and not handles:
        raise InvalidInputError("merge_base needs a backend", hint="backend='path/to/space'")
    space = (
        handles[0]._space
        if backend is None
        else open_space(backend, storage_options=storage_options)
    )
    ours, theirs = locate_version(space, a, None), locate_version(space, b, None)
    return [to_text(base) for base in best_ancestors(space.cache, ours, theirs)]
