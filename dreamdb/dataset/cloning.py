"""Making a space from another one: whole, one version of it, or some of its fields.

Source: design/0010 sections 5 to 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from dreamdb.dataset.remotes import RemoteLike, ends, open_remote_space, place_of
from dreamdb.dataset.session import BackendLike, OpenSpace, make_space
from dreamdb.dataset.space import Space
from dreamdb.errors import (
    AlreadyExistsError,
    FieldNotFoundError,
    InvalidInputError,
    nearest_hint,
)
from dreamdb.history import ResolvedRef, change_cuts, load_manifest, reload_cuts
from dreamdb.model import HistoryCuts, Partial
from dreamdb.store import RefValue, check_origin
from dreamdb.transfer import (
    Place,
    Progress,
    Wanted,
    check_snapshot,
    copy_refs,
    find_refs,
    follows,
)

__all__ = ["clone"]


def clone(
    source: RemoteLike,
    target: BackendLike,
    ref: str | Sequence[str] | None = None,
    shallow: bool = False,
    fields: Sequence[str] | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    source_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Space:
    """Copy a space, or a part of it, to a new one.

    Run it again after it was interrupted: it goes on, and nothing is sent twice.

    Parameters
    ----------
    source : str, PathLike, Backend, Space or Dataset
        What is copied.
    target : str, PathLike or Backend
        Where to; the space is made.  An existing one is filled up when it is of the same kind and
        none of its refs is in the way.
    ref : str or sequence of str, optional
        Which branches and snapshots; all by default.
    shallow : bool
        Copy one version of one ``ref`` without its history, which is cut there.
    fields : sequence of str, optional
        Copy the values of these fields only.  Others are fetched from ``source``, verified and
        kept, when they are read; the new space remembers its URL, and never credentials.
    storage_options : mapping, optional
        Credentials and settings of the target.  Those of the source, for fetching later, are
        given as ``origin_options`` among them.
    source_options : mapping, optional
        Credentials and settings of the source.
    progress : callable, optional
        Called with objects and bytes that went over since the last call.

    Returns
    -------
    Space
        The copy.

    Raises
    ------
    RefNotFoundError, FieldNotFoundError
        With the nearest names; nothing was made.
    AlreadyExistsError
        When the target is another kind of space, or has other refs of these names.
    IntegrityError
        When an object of the source is damaged: it was not copied, the target is usable.

    Notes
    -----
    Cost: 1 read per object at the source, 1 look and 1 write each at the target; no listing of
    objects.
    """
    origin = open_remote_space(source, source_options)
    names = [ref] if isinstance(ref, str) else ref
    if shallow and (names is None or len(names) != 1):
        raise InvalidInputError(
            "a shallow clone is one version: name one ref",
            hint="clone(source, target, ref='v1', shallow=True)",
        )
    found = find_refs(place_of(origin), names)
    partial = _partial(origin, found, fields)
    options = dict(storage_options or {})
    if partial is not None and source_options:
        options.setdefault("origin_options", dict(source_options))
    opened = make_space(target, partial, storage_options=options)
    here, there = ends(origin, opened)
    with opened.backend.objects.hold():
        cuts = _cuts(origin, found, shallow=shallow)
        found = _check_target(here, opened, (cuts, partial), found, shallow=shallow)
        wanted = [w for ref in found if (w := _wanted(here, there, ref)) is not None]
        copy_refs(here, there, wanted, near=here, log=None, progress=progress)
    return Space(opened)


def _partial(
    origin: OpenSpace, found: list[ResolvedRef], fields: Sequence[str] | None
) -> Partial | None:
    """Return which fields the new space will keep; None: all."""
    told = origin.partial
    if fields is None:
        return told
    kept = _check_fields(origin, found, fields)
    return Partial(kept, check_origin(origin.url if told is None else told.origin))


def _cuts(origin: OpenSpace, found: list[ResolvedRef], *, shallow: bool) -> HistoryCuts:
    """Return the cuts that the new space will have."""
    reload_cuts(origin.cache)
    if not shallow:
        return origin.cache.cuts
    (tip,) = (ref.manifest for ref in found)
    # A first manifest has no parents to cut off.
    whole = tip not in origin.cache.cuts and not load_manifest(origin.cache, tip).parents
    return {} if whole else {tip: ()}


def _check_fields(
    origin: OpenSpace, found: list[ResolvedRef], fields: Sequence[str]
) -> frozenset[str]:
    if isinstance(fields, str) or not fields:
        raise InvalidInputError(f"fields must be a list of names, not {fields!r}")
    known: set[str] = set()
    for ref in found:
        content = load_manifest(origin.cache, ref.manifest).content
        known |= set(origin.source.content(content).schema)
    for name in fields:
        if name not in known:
            raise FieldNotFoundError(
                f"no field {name!r} in the refs that are cloned from {origin.url}",
                hint=nearest_hint(name, known, "fields"),
                field=name,
            )
    return frozenset(fields)


_Kind: TypeAlias = "tuple[HistoryCuts, Partial | None]"


def _check_target(
    origin: Place,
    target: OpenSpace,
    wanted: _Kind,
    found: list[ResolvedRef],
    *,
    shallow: bool,
) -> list[ResolvedRef]:
    """Cut the history of a new target; refuse one of another kind; return the refs to copy."""
    reload_cuts(target.cache)
    cuts, partial = wanted
    here = target.cache.cuts
    if target.partial == partial:
        if here == cuts:
            return found
        if shallow and len(here) == 1:
            # The branch went on since the clone was made: the version it began with is copied.
            (ref,), (tip,) = found, here
            if not ref.is_snapshot and follows(origin.cache, tip, ref.manifest):
                return [ResolvedRef(ref.name, RefValue(tip), tip, None)]
        if not here and next(iter(target.backend.refs.list()), None) is None:
            change_cuts(target.stored, lambda known: {**known, **cuts})
            reload_cuts(target.cache)
            return found
        if not shallow and cuts:
            # The origin's history was expired since; what is here stays as it is.
            return found
    raise AlreadyExistsError(
        f"there is another kind of space at {target.url}: "
        f"{_told(here, target.partial)}, not {_told(cuts, partial)}",
        hint="clone to a new place, or fetch into the existing space",
        url=target.url,
    )


def _told(cuts: HistoryCuts, partial: Partial | None) -> str:
    cut = f"with history cut at {len(cuts)} manifests" if cuts else "whole"
    return cut if partial is None else f"{cut}, with the fields {sorted(partial.fields)}"


def _wanted(origin: Place, target: Place, ref: ResolvedRef) -> Wanted | None:
    """Return the ref to make; None when an earlier attempt, or somebody since, has done it."""
    wanted = Wanted(ref, ref.name, target.backend.refs.read(ref.name))
    check_snapshot(target, wanted)
    if wanted.held is None:
        return wanted
    if wanted.is_done or follows(target.cache, ref.manifest, wanted.held.address):
        return None
    if follows(origin.cache, wanted.held.address, ref.manifest):
        return wanted
    raise AlreadyExistsError(
        f"{target.url} has a branch {ref.name!r} with another history",
        hint="clone to a new place, or fetch into the existing space",
        ref=ref.name,
    )
