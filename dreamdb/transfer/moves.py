"""Moving a ref after its objects have arrived: who may, what is logged, what a lost answer means.

Source: design/0010 section 5, design/0005 section 2.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from dreamdb import config
from dreamdb.errors import (
    AlreadyExistsError,
    ConflictError,
    DreamDBError,
    ObjectMissingError,
    RefConflictError,
    StorageError,
)
from dreamdb.history import ResolvedRef, is_ancestor, merge_base, resolve_address
from dreamdb.objects import to_text
from dreamdb.store import Backend, LogEntry, ObjectCache, RefValue
from dreamdb.transfer.place import Place
from dreamdb.types import Address

__all__ = [
    "Wanted",
    "check_snapshot",
    "fast_forward",
    "follows",
    "move_ref",
    "not_fast_forward",
]

_ATTEMPTS: Final = 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """A ref of the origin and the ref of the target that shall hold the same.

    Parameters
    ----------
    found : ResolvedRef
        The origin's ref.
    name : str
        The target's.
    held : RefValue or None
        What the target's holds.
    """

    found: ResolvedRef
    name: str
    held: RefValue | None

    @property
    def kind(self) -> str:
        """``"branch"`` or ``"snapshot"``."""
        return "snapshot" if self.found.is_snapshot else "branch"

    @property
    def new(self) -> Address:
        """What the target's ref shall hold."""
        return self.found.value.address

    @property
    def carried(self) -> bytes | None:
        """The stored tag, where the origin's ref carries it: the target's ref will too."""
        return self.found.value.carried

    @property
    def is_done(self) -> bool:
        """Whether it holds that already."""
        return self.held is not None and self.held.address == self.new


def follows(origin: ObjectCache, old: Address, new: Address) -> bool:
    """Return whether a manifest's history contains another; one that is not there is not in it."""
    try:
        return is_ancestor(origin, old, new)
    except ObjectMissingError:
        return False


def check_snapshot(place: Place, wanted: Wanted) -> None:
    """Refuse to replace a snapshot, or anything by a snapshot.

    Raises
    ------
    AlreadyExistsError
        When the name is taken in the target by something else.
    """
    if wanted.held is None or wanted.is_done:
        return
    taken = "ref"
    try:
        found = resolve_address(place.cache, wanted.name, wanted.held)
        taken = "snapshot" if found.is_snapshot else "branch"
    except DreamDBError:
        if not wanted.found.is_snapshot:
            return  # A branch whose manifest is damaged or gone may be moved on.
    if wanted.found.is_snapshot or taken == "snapshot":
        raise AlreadyExistsError(
            f"{place.url} has another {taken} {wanted.name!r}; snapshots never move",
            hint="name other refs, or delete that one first: dreamdb delete-ref "
            f"{wanted.name} --backend {place.url}",
            ref=wanted.name,
            actual=to_text(wanted.held.address),
            wanted=to_text(wanted.new),
        )


def not_fast_forward(
    known: ObjectCache, name: str, url: str, old: Address, new: Address, *, hint: str
) -> ConflictError:
    """Return the error of a move that would leave commits behind.

    Parameters
    ----------
    known : ObjectCache
        Where both histories may be looked up.
    name, url : str
        The ref that would move, and where.
    old, new : Address
        What it holds, and what it would hold.
    hint : str
        The next step.
    """
    try:
        unrelated = not merge_base(known, old, new)
    except DreamDBError:
        unrelated = False
    why = (
        "their histories have nothing in common"
        if unrelated
        else "it has commits that are not in the history of what would replace them"
    )
    return ConflictError(
        f"branch {name!r} in {url} cannot move from {to_text(old)} to {to_text(new)}: {why}",
        hint=hint,
        ref=name,
        old=to_text(old),
        new=to_text(new),
        unrelated=unrelated,
    )


def move_ref(
    backend: Backend,
    name: str,
    held: RefValue | None,
    new: Address,
    *,
    carried: bytes | None = None,
    log: str | None = None,
) -> None:
    """Move a ref, or make it; on any doubt read it back.

    Parameters
    ----------
    backend : Backend
        Where it is.
    name : str
        The ref.
    held : RefValue or None
        What it held when this was decided.
    new : Address
        What it shall hold; durable there, unless it is carried.
    carried : bytes, optional
        The stored object of that address, to be kept with the ref.
    log : str, optional
        Why, for a move that is no fast-forward: recorded before it is made.

    Raises
    ------
    RefConflictError
        When another writer moved it meanwhile.
    StorageError
        When the storage failed; ``details["published"]`` is False, or None when it cannot be told.
    """
    if log is not None:
        old = None if held is None else held.address
        entry = LogEntry(time.time_ns(), old, new, config.author(), log)
        backend.refs.append_log(name, entry)
    try:
        backend.refs.swap(name, held, new, carried)
    except RefConflictError as error:
        if not _holds(backend, name, new):
            error.hint = "another writer moved it; run it again: what has arrived is not sent again"
            raise
    except StorageError as error:
        try:
            if _holds(backend, name, new):
                return
            error.details["published"] = False
        except StorageError:
            error.details["published"] = None
        raise


def _holds(backend: Backend, name: str, new: Address) -> bool:
    found = backend.refs.read(name)
    return found is not None and found.address == new


def fast_forward(place: Place, name: str, new: Address, *, hint: str) -> Address | None:
    """Move a branch to a later manifest that is stored there.

    Parameters
    ----------
    place : Place
        The space.
    name : str
        The branch.
    new : Address
        The manifest.
    hint : str
        What to do when it is not later.

    Returns
    -------
    Address or None
        What it held before; None when it had that manifest in its history already.

    Raises
    ------
    ConflictError
        When the branch has commits that the manifest's history lacks.
    """
    for attempt in range(_ATTEMPTS):
        held = place.backend.refs.read(name)
        if held is None:
            raise ConflictError(f"branch {name!r} in {place.url} was deleted meanwhile", ref=name)
        if follows(place.cache, new, held.address):
            return None
        if not follows(place.cache, held.address, new):
            raise not_fast_forward(place.cache, name, place.url, held.address, new, hint=hint)
        try:
            move_ref(place.backend, name, held, new)
            return held.address
        except RefConflictError:
            if attempt + 1 == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")
