"""Commits that merge: their own parents, and the same race for the ref as every other commit.

Source: design/0008 section 6, design/0005.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamdb.errors import (
    ConflictError,
    InvalidInputError,
    ObjectMissingError,
)
from dreamdb.history import is_ancestor, load_manifest
from dreamdb.objects import Kind, to_text
from dreamdb.store import Backend, RefValue
from dreamdb.tracks import Source, View
from dreamdb.types import Address
from dreamdb.write.commit import (
    MAX_ATTEMPTS,
    CommitNote,
    Committed,
    branch_tip,
    lost_every_race,
    make_manifest,
    pause,
    swap_branch,
)
from dreamdb.write.conflicts import Conflicts
from dreamdb.write.lineage import State, common_base, empty_state, merge_states, state_of
from dreamdb.write.merge import Merged
from dreamdb.write.merge_shards import Shard, add_shards, shard_of
from dreamdb.write.stage import Stage

__all__ = ["MAX_PARENTS", "MergeOutcome", "apply_change", "merge_into"]

MAX_PARENTS: Final = 64


@dataclass(frozen=True, slots=True)
class MergeOutcome:
    """What a merge, a revert or a cherry-pick has come to.

    Parameters
    ----------
    committed : Committed
        What is published now.
    fast_forward : bool
        Whether the branch only moved on to a manifest that was there.
    decided : int
        Conflicts that were decided.
    moved : list of tuple of ndarray of uint64
        Old and new anchors of records that gave way to others.
    """

    committed: Committed
    fast_forward: bool = False
    decided: int = 0
    moved: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]] = field(default_factory=list)


@dataclass(slots=True)
class _Built:
    """A result that is staged and wants to be published."""

    state: State
    parents: list[Address]
    operation: dict[str, Any]
    merges: list[Merged]


_Build = Callable[[Stage, State], "_Built | Address | None"]


def _publish(
    backend: Backend, source: Source, ref: str, build: _Build, note: CommitNote
) -> MergeOutcome:
    """Build on the tip of a branch and publish; build again when another writer was faster.

    ``build`` returns what it has staged, or a manifest to move on to, or None for nothing to do.
    """
    with backend.objects.hold():
        for attempt in range(MAX_ATTEMPTS):
            current = branch_tip(backend, source, ref)
            outcome = _attempt(backend, source, ref, current, build, note)
            if outcome is not None:
                return outcome
            pause(attempt)
    raise lost_every_race(ref)


def _attempt(
    backend: Backend,
    source: Source,
    ref: str,
    current: RefValue,
    build: _Build,
    note: CommitNote,
) -> MergeOutcome | None:
    tip = state_of(source, current.address)
    stage = Stage(backend, source)
    try:
        built = build(stage, tip)
        if built is None:
            stage.abort()
            return MergeOutcome(Committed(current.address, tip.view, changed=False))
        if isinstance(built, _Built):
            manifest = make_manifest(
                source, built.state.address, built.parents, built.operation, note
            )
            mine = stage.document(Kind.MANIFEST, manifest.encode())
            stage.flush()
            view = built.state.view
        else:
            stage.abort()
            mine, view = built, state_of(source, built).view
    except BaseException:
        stage.abort()
        raise
    if not swap_branch(backend, source, ref, current, mine):
        return None
    view.adopt(tip.view)
    done = Committed(mine, view, True, stage.written_nbytes, stage.written_objects)
    if not isinstance(built, _Built):
        return MergeOutcome(done, fast_forward=True)
    return MergeOutcome(
        done,
        decided=sum(m.decided for m in built.merges),
        moved=[(m.old, m.new) for m in built.merges if len(m.new)],
    )


def merge_into(
    backend: Backend,
    source: Source,
    ref: str,
    others: Sequence[tuple[str, Address]],
    conflicts: Callable[[], Conflicts],
    note: CommitNote,
    *,
    strategy: str,
    unrelated: bool = False,
) -> MergeOutcome:
    """Merge manifests into a branch.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    ref : str
        The branch.
    others : sequence of (str, Address)
        What to merge, and what it is called.
    conflicts : callable
        Returns what decides conflicts, anew for each attempt.
    note : CommitNote
        Author, message, notes.
    strategy : str
        ``"fast-forward"`` refuses anything but moving on.
    unrelated : bool
        Merge histories without a common ancestor, over an empty base.

    Raises
    ------
    ConflictError
        When only a fast-forward was allowed and the branch has moved on by itself.
    MergeConflictError
        When conflicts stay open; nothing was published.
    InvalidInputError
        When the histories have nothing in common.

    Notes
    -----
    Cost: the manifests since the base, once; then as :func:`merge_contents`; 1 ref read, 1 swap.
    """

    def build(stage: Stage, tip: State) -> _Built | Address | None:
        left = _needed(source, tip, others)
        if not left:
            return None
        if len(left) == 1 and is_ancestor(source.cache, tip.tips[0], left[0][1]):
            return left[0][1]
        if strategy == "fast-forward":
            raise ConflictError(
                f"{ref!r} cannot be moved on to {left[0][0]!r}: it has manifests of its own",
                hint="merge with strategy='three-way'",
                ref=ref,
            )
        state, merges = _fold(stage, tip, left, conflicts(), ref, unrelated)
        names = dict(state.origins)
        parents = [*tip.tips, *(address for _, address in left)]
        operation = _operation("merge", [names[p] for p in parents], merges, strategy)
        return _Built(state, parents, operation, merges)

    if len(others) >= MAX_PARENTS:
        raise InvalidInputError(
            f"one merge takes at most {MAX_PARENTS - 1} versions, not {len(others)}",
            hint="merge them in groups",
        )
    return _publish(backend, source, ref, build, note)


def _needed(
    source: Source, tip: State, others: Sequence[tuple[str, Address]]
) -> list[tuple[str, Address]]:
    """Return the manifests that bring something: no ancestor of the tip or of another."""
    out: list[tuple[str, Address]] = []
    for index, (name, address) in enumerate(others):
        rivals = [*tip.tips, *(a for _, a in others[index + 1 :]), *(a for _, a in out)]
        if not any(is_ancestor(source.cache, address, rival) for rival in rivals):
            out.append((name, address))
    return out


def _fold(
    stage: Stage,
    tip: State,
    others: Sequence[tuple[str, Address]],
    conflicts: Conflicts,
    ref: str,
    unrelated: bool,
) -> tuple[State, list[Merged]]:
    """Merge versions that only add records all at once, then the others one by one."""
    source = tip.view.source
    state, merges = tip, []
    if len(others) > 1:
        state, others = _fold_shards(stage, tip, others, unrelated)
    for name, address in others:
        if state is not tip:
            stage.flush()
        other = state_of(source, address)
        base = common_base(stage, state, other)
        if base is None:
            if not unrelated:
                raise InvalidInputError(
                    f"{ref!r} and {name!r} have no common ancestor",
                    hint="merge(..., unrelated=True) merges them over an empty base",
                )
            base = empty_state(source, stage)
        state, merged = merge_states(stage, base, state, other, conflicts, called=(ref, name))
        if merged is not None:
            merges.append(merged)
    return state, merges


def _fold_shards(
    stage: Stage, tip: State, others: Sequence[tuple[str, Address]], unrelated: bool
) -> tuple[State, Sequence[tuple[str, Address]]]:
    """Add the records of all versions that have only added some; return what is left to merge."""
    source = tip.view.source
    shards: list[Shard] = []
    added: list[State] = []
    left = []
    for name, address in others:
        other = state_of(source, address)
        base = common_base(stage, tip, other)
        if base is None and unrelated:
            base = empty_state(source, stage)
        shard = None if base is None else shard_of(base.view, tip.view, other.view)
        if shard is None:
            left.append((name, address))
        else:
            shards.append(shard)
            added.append(other)
    if len(shards) < 2:
        return tip, others
    content = add_shards(tip.view, stage, shards)
    if content is None:
        return tip, others
    address = stage.document(Kind.CONTENT, content.encode())
    origins = tip.origins + tuple(origin for state in added for origin in state.origins)
    view = View(source, content)
    view.adopt(tip.view)
    return State(view, address, origins), left


def _operation(
    name: str,
    renames: Sequence[Mapping[str, str | None]],
    merges: Sequence[Merged],
    strategy: str | None = None,
) -> dict[str, Any]:
    out: dict[str, Any] = {"name": name}
    if strategy is not None:
        out["strategy"] = strategy
    decided = sum(m.decided for m in merges)
    moved = [[int(m.new[0]), int(m.new[-1])] for m in merges if len(m.new)]
    if decided:
        out["decided"] = decided
    if moved:
        out["automatic"] = moved
    if any(renames):
        out["renames"] = [dict(names) for names in renames]
    return out


def apply_change(
    backend: Backend,
    source: Source,
    ref: str,
    verb: str,
    manifest: Address,
    conflicts: Callable[[], Conflicts],
    note: CommitNote,
    *,
    parent: int | None = None,
) -> MergeOutcome:
    """Apply what a manifest changed, or the opposite, to the tip of a branch.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    ref : str
        The branch.
    verb : str
        ``"revert"`` or ``"cherry-pick"``.
    manifest : Address
        Whose change.
    conflicts : callable
        Returns what decides conflicts, anew for each attempt.
    note : CommitNote
        Author, message, notes.
    parent : int, optional
        Of a merge: the parent its change is counted from.

    Raises
    ------
    InvalidInputError
        When the manifest is a merge and no parent is named, or has none to revert to, or a
        manifest to revert is not in the branch's history.
    MergeConflictError
        When the branch has changed the same cells otherwise.

    Notes
    -----
    Cost: as a merge of that one change.
    """
    changed = load_manifest(source.cache, manifest)
    before = _parent(changed.parents, manifest, verb, parent)

    def build(stage: Stage, tip: State) -> _Built | None:
        if verb == "revert" and not is_ancestor(source.cache, manifest, tip.tips[0]):
            raise InvalidInputError(
                f"the manifest {to_text(manifest)} is not in the history of {ref!r}",
                hint="dreamdb log lists it",
            )
        after = state_of(source, manifest)
        old = empty_state(source, stage) if before is None else state_of(source, before)
        base, theirs = (after, old) if verb == "revert" else (old, after)
        try:
            state, merged = merge_states(
                stage, base, tip, theirs, conflicts(), called=(ref, to_text(manifest)[:16])
            )
        except ObjectMissingError as error:
            raise ObjectMissingError(
                f"cannot {verb} {to_text(manifest)}: its data or its parent's may have been "
                f"collected: {error}",
                hint="restore or pull the missing history",
                **error.details,
            ) from error
        if state.address == tip.address:
            return None
        merges = [] if merged is None else [merged]
        operation = _operation(verb, [state.origins[0][1]], merges)
        operation["manifest"] = to_text(manifest)
        return _Built(state, tip.tips, operation, merges)

    return _publish(backend, source, ref, build, note)


def _parent(
    parents: Sequence[Address], manifest: Address, verb: str, index: int | None
) -> Address | None:
    """Return the manifest that a change is counted from."""
    name = to_text(manifest)
    if index is None and len(parents) > 1:
        raise InvalidInputError(
            f"{name} is a merge of {len(parents)} manifests", hint=f"{verb} it with parent=0"
        )
    if index is not None and (isinstance(index, bool) or not 0 <= index < len(parents)):
        raise InvalidInputError(f"{name} has {len(parents)} parents, no parent {index!r}")
    if not parents:
        if verb == "revert":
            raise InvalidInputError(f"{name} is the first manifest: there is nothing before it")
        return None
    return parents[index or 0]
