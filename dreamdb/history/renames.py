"""Which field became which, as the manifests record it.

Source: design/0008 section 4.  Tracks are keyed by name; a rename is recorded in the manifest that
made it, so diff and merge follow a field under its new name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from dreamdb.errors import FormatError
from dreamdb.history.dag import is_ancestor, load_manifest, merge_base
from dreamdb.store import ObjectCache
from dreamdb.types import Address

__all__ = ["field_renames", "renames_since"]

_Step: TypeAlias = dict[str, str | None]


def renames_since(cache: ObjectCache, old: Address, new: Address) -> dict[str, str]:
    """Return the fields of an ancestor that have another name in a later manifest.

    Parameters
    ----------
    cache : ObjectCache
        Where manifests are read.
    old, new : Address
        A manifest and one that descends from it.

    Returns
    -------
    dict of str to str
        Name then to name now; fields dropped on the way are left out.

    Notes
    -----
    Cost: 1 manifest read per manifest on the way.
    """
    steps: list[_Step] = []
    address = new
    while address != old:
        manifest = load_manifest(cache, address)
        index = 0
        if len(manifest.parents) > 1:
            index = next(
                (i for i, p in enumerate(manifest.parents) if is_ancestor(cache, old, p)), 0
            )
        if not manifest.parents:
            return {}
        steps += reversed(_steps(manifest.operation, index))
        address = manifest.parents[index]
    names: dict[str, str | None] = {}
    for step in reversed(steps):
        current = {now: then for then, now in names.items() if now is not None}
        for was, becomes in step.items():
            names[current.get(was, was)] = becomes
    return {then: now for then, now in names.items() if now is not None and then != now}


def _steps(operation: Mapping[str, Any], parent: int) -> list[_Step]:
    """Return the renames and drops that an operation records, in order, each checked."""
    recorded = operation.get("renames")
    name = operation.get("name")
    if recorded is not None:
        if not isinstance(recorded, list):
            raise FormatError("a manifest records malformed renames")
        return [_checked(recorded[parent])] if parent < len(recorded) else []
    if name == "transaction":
        steps = operation.get("steps")
        if not isinstance(steps, list) or not all(isinstance(s, dict) for s in steps):
            raise FormatError("a manifest's operation is malformed")
        return [step for part in steps for step in _steps(part, 0)]
    if name == "rename field":
        return [_checked({operation.get("old"): operation.get("new")})]
    if name == "drop field":
        fields = operation.get("fields")
        return [_checked(dict.fromkeys(fields) if isinstance(fields, list) else None)]
    return []


def _checked(step: Any) -> _Step:
    if not isinstance(step, dict) or not all(
        isinstance(was, str) and (now is None or isinstance(now, str)) for was, now in step.items()
    ):
        raise FormatError("a manifest records malformed renames")
    return dict(step)


def field_renames(cache: ObjectCache, before: Address, after: Address) -> dict[str, str]:
    """Return which field of one manifest has which other name in another, through their base.

    Parameters
    ----------
    cache : ObjectCache
        Where manifests are read.
    before, after : Address
        Any two manifests.
    """
    bases = merge_base(cache, before, after)
    if not bases:
        return {}
    back = {now: then for then, now in renames_since(cache, bases[0], before).items()}
    onward = renames_since(cache, bases[0], after)
    out = {name: onward.get(then, then) for name, then in back.items()}
    out |= {then: now for then, now in onward.items() if then not in back.values()}
    return {name: now for name, now in out.items() if name != now}
