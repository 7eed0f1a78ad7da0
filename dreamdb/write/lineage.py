"""States of a merge: contents with the manifests they come from, and their common base.

Source: design/0008 section 6.  After criss-cross merges two manifests have several best ancestors;
these are merged first, their own conflicts left as the older base has them, and the result is the
base, as git's recursive strategy does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from dreamdb.errors import FormatError, ObjectMissingError
from dreamdb.history import (
    field_renames,
    is_ancestor,
    load_manifest,
    manifests_since,
    merge_bases,
    renames_since,
)
from dreamdb.model import Content, FieldList
from dreamdb.objects import Kind, to_text
from dreamdb.tracks import Source, View
from dreamdb.types import Address
from dreamdb.write.conflicts import Conflicts
from dreamdb.write.merge import Merged, merge_contents
from dreamdb.write.merge_sides import MergeSide
from dreamdb.write.stage import Stage

__all__ = ["State", "common_base", "empty_state", "merge_states", "state_of"]

MAX_DEPTH: Final = 4
_EMPTY: Final = Content(FieldList(()))


@dataclass(frozen=True, slots=True)
class State:
    """A content, and the manifests it was merged from.

    Parameters
    ----------
    view : View
        The content.
    address : Address
        Of the content object.
    origins : tuple of (Address, mapping)
        Manifests, each with the fields that have another name here, or are gone (None).
    """

    view: View
    address: Address
    origins: tuple[tuple[Address, Mapping[str, str | None]], ...] = field(default=())

    @property
    def tips(self) -> list[Address]:
        """The manifests alone."""
        return [address for address, _ in self.origins]


def state_of(source: Source, manifest: Address) -> State:
    """Return the state a manifest names."""
    address = load_manifest(source.cache, manifest).content
    return State(View(source, source.content(address)), address, ((manifest, {}),))


def empty_state(source: Source, stage: Stage) -> State:
    """Return a state without fields: what unrelated histories have in common."""
    address = stage.document(Kind.CONTENT, _EMPTY.encode())
    return State(View(source, _EMPTY), address)


def merge_states(
    stage: Stage,
    base: State,
    ours: State,
    theirs: State,
    conflicts: Conflicts,
    *,
    called: tuple[str, str] = ("ours", "theirs"),
) -> tuple[State, Merged | None]:
    """Merge two states over a base; the result is staged, not flushed.

    Parameters
    ----------
    stage : Stage
        Where objects go.
    base, ours, theirs : State
        What to merge.
    conflicts : Conflicts
        Decides what both changed.
    called : tuple of str
        What the sides are called, for messages.

    Returns
    -------
    state : State
        The result; its origins are those of both sides.
    merged : Merged or None
        What was done; None when one side has all there is.
    """
    source = ours.view.source
    for one, two in ((ours, theirs), (theirs, ours)):
        if two.address in (base.address, one.address):
            names = _names(base, one) if two.address == base.address else {}
            kept, followed = _origins(one, {}), _origins(two, names)
            joined = kept + followed if one is ours else followed + kept
            return State(one.view, one.address, joined), None
    sides = tuple(
        MergeSide(
            base.view, side.view, side.address, _names(base, side), partial(_automatic, base, side)
        )
        for side in (ours, theirs)
    )
    merged = merge_contents(stage, base.view, (sides[0], sides[1]), conflicts, called=called)
    address = stage.document(Kind.CONTENT, merged.content.encode())
    view = View(source, merged.content)
    view.adopt(ours.view)
    origins = _origins(ours, merged.renames[0]) + _origins(theirs, merged.renames[1])
    return State(view, address, origins), merged


def _origins(
    state: State, renames: Mapping[str, str | None]
) -> tuple[tuple[Address, Mapping[str, str | None]], ...]:
    """Return a state's origins with their names carried on."""
    out = []
    for address, names in state.origins:
        carried: dict[str, str | None] = {
            was: None if now is None else renames.get(now, now) for was, now in names.items()
        }
        taken = set(names.values())
        for now, then in renames.items():
            if now not in taken:
                carried.setdefault(now, then)
        out.append((address, carried))
    return tuple(out)


def _names(base: State, side: State) -> dict[str, str]:
    """Return the base's fields that have another name on a side."""
    cache = side.view.source.cache
    out: dict[str, str] = {}
    for old, carried in base.origins:
        for new, onward in side.origins:
            if not is_ancestor(cache, old, new) and new != side.origins[-1][0]:
                continue
            related = is_ancestor(cache, old, new)
            between = renames_since(cache, old, new) if related else field_renames(cache, old, new)
            content = side.view.source.content(load_manifest(cache, old).content)
            for name in content.schema:
                here = carried.get(name, name)
                then = between.get(name, name)
                there = onward.get(then, then)
                if here is not None and there is not None:
                    out.setdefault(here, there)
            break
    return {here: there for here, there in out.items() if here != there}


def _automatic(base: State, side: State) -> list[tuple[int, int]]:
    """Return the ranges of anchors that the library chose between a base and a side."""
    found: list[tuple[int, int]] = []
    for _, manifest in manifests_since(side.view.source.cache, side.tips, base.tips):
        found += _ranges(manifest.operation)
    return found


def _ranges(operation: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return what an operation records; a manifest may come from anywhere, so it is checked."""
    out: list[tuple[int, int]] = []
    recorded, steps = operation.get("automatic", []), operation.get("steps", [])
    if not isinstance(recorded, list) or not isinstance(steps, list):
        raise FormatError("a manifest's operation is malformed")
    for pair in recorded:
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(type(n) is int and 0 <= n < 1 << 64 for n in pair)
        ):
            raise FormatError("a manifest records malformed anchors")
        out.append((pair[0], pair[1]))
    for step in steps:
        if not isinstance(step, dict):
            raise FormatError("a manifest's operation is malformed")
        out += _ranges(step)
    return out


def common_base(stage: Stage, ours: State, theirs: State, *, depth: int = 0) -> State | None:
    """Return the state that two states are merged over; None for unrelated histories.

    Parameters
    ----------
    stage : Stage
        Where a base that must be merged first goes; no ref needs its objects.
    ours, theirs : State
        The sides.
    depth : int
        How many criss-crosses lie above; the first ancestor alone is taken below the fourth.

    Raises
    ------
    ObjectMissingError
        When the history between them is not complete.
    """
    source = ours.view.source
    try:
        bases = merge_bases(source.cache, ours.tips, theirs.tips)
        if not bases:
            return None
        return _joined(stage, source, bases if depth < MAX_DEPTH else bases[:1], depth)
    except ObjectMissingError as error:
        raise ObjectMissingError(
            f"the merge base of {to_text(ours.tips[0])} and {to_text(theirs.tips[0])} cannot be "
            f"read, it may have been collected: {error}",
            hint="restore or pull the missing history, or append one side's records to the other",
            **error.details,
        ) from error


def _joined(stage: Stage, source: Source, bases: Sequence[Address], depth: int) -> State:
    """Merge several best ancestors into one base."""
    joined = state_of(source, bases[0])
    for address in bases[1:]:
        other = state_of(source, address)
        below = common_base(stage, joined, other, depth=depth + 1)
        below = below or empty_state(source, stage)
        joined, _ = merge_states(stage, below, joined, other, Conflicts("base"))
        stage.flush()
    return joined
