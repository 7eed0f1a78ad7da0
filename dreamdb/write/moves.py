"""Moving a branch other than by committing: reset, undo, restoring a deleted ref.

Source: design/0008 section 9, design/0002 section 8.  Each such move is logged before it is made,
so what it leaves behind can be found again.
"""

from __future__ import annotations

import re
import time
from typing import Final

from dreamdb.errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    RefConflictError,
    RefNotFoundError,
    StorageError,
)
from dreamdb.history import load_manifest
from dreamdb.objects import to_text
from dreamdb.store import Backend, LogEntry, RefValue
from dreamdb.tracks import Source
from dreamdb.types import Address
from dreamdb.write.commit import branch_tip

__all__ = ["deleted_value", "move_branch", "previous_tip", "restore_ref"]

UNDO: Final = "undo"
_UNDO_OF: Final = re.compile(r"undo of the move at (\d+)\Z")


def move_branch(
    backend: Backend,
    source: Source,
    ref: str,
    expected: Address,
    new: Address,
    *,
    who: str,
    why: str,
) -> None:
    """Set a branch to a manifest, whatever it was; logged first.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    ref : str
        The branch.
    expected : Address
        The manifest the caller has seen.
    new : Address
        Where to; everything it needs is stored.
    who, why : str
        For the log.

    Raises
    ------
    ConflictError
        When another writer has moved the branch meanwhile; nothing was changed.
    StorageError
        When storage failed; ``details['published']`` is False, or None when it cannot be told.

    Notes
    -----
    Cost: 1 ref read, 1 log read, 1 log line, 1 ref swap.
    """
    with backend.objects.hold():
        current = branch_tip(backend, source, ref)
        if current.address != expected:
            raise _moved(ref)
        backend.refs.append_log(ref, _entry(backend, ref, current.address, new, who, why))
        _swap(backend, ref, current, new)


def _entry(
    backend: Backend, ref: str, old: Address | None, new: Address, who: str, why: str
) -> LogEntry:
    """Return a line that is later than all others of the log: lines are named by their time."""
    lines = backend.refs.read_log(ref)
    last = max((line.time_ns for line in lines), default=0)
    return LogEntry(max(time.time_ns(), last + 1), old, new, who, why)


def _swap(backend: Backend, ref: str, current: RefValue | None, new: Address) -> None:
    """Move a ref; on any doubt look whether it is where it should be."""
    try:
        backend.refs.swap(ref, current, new)
    except RefConflictError:
        now = backend.refs.read(ref)
        if now is None or now.address != new:
            raise _moved(ref) from None
    except StorageError as error:
        try:
            now = backend.refs.read(ref)
        except StorageError:
            error.details["published"] = None
            raise error from None
        if now is not None and now.address == new:
            return
        before = None if current is None else current.address
        same = (None if now is None else now.address) == before
        error.details["published"] = False if same else None
        raise


def _moved(ref: str) -> ConflictError:
    return ConflictError(
        f"publish conflict on ref {ref!r}: another writer moved it meanwhile; nothing was changed",
        hint="call refresh(), look at log(), and try again",
        ref=ref,
    )


def previous_tip(backend: Backend, source: Source, ref: str, tip: Address) -> tuple[Address, str]:
    """Return where a branch was before its last move, and the reason for going back there.

    A reset that led to the tip is taken back first, unless it was taken back before; else the
    branch's last commit is.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    ref : str
        The branch.
    tip : Address
        Where it is.

    Raises
    ------
    NotFoundError
        When there is nothing to take back.
    """
    lines = backend.refs.read_log(ref)
    matches = (_UNDO_OF.match(line.why) for line in lines)
    done = {int(match[1]) for match in matches if match}
    for line in reversed(lines):
        if line.new == tip and line.old is not None and not line.why.startswith(UNDO):
            if line.time_ns not in done:
                return line.old, f"undo of the move at {line.time_ns}"
    parents = load_manifest(source.cache, tip).parents
    if not parents:
        raise NotFoundError(
            f"there is nothing to undo: {to_text(tip)} is the first manifest of {ref!r}",
            hint="reflog() lists the moves of the ref",
            ref=ref,
        )
    return parents[0], UNDO


def deleted_value(backend: Backend, name: str) -> Address:
    """Return what a deleted ref named last, from its log.

    Raises
    ------
    RefNotFoundError
        When no deletion of it is recorded.
    """
    for line in reversed(backend.refs.read_log(name)):
        if line.new is None and line.old is not None:
            return line.old
    raise RefNotFoundError(
        f"no deletion of a ref {name!r} is recorded in {backend.url}",
        hint="reflog(name) lists the moves of a ref",
        ref=name,
    )


def restore_ref(backend: Backend, name: str, address: Address, *, who: str, why: str) -> None:
    """Create a ref again at what it named; logged first.

    Parameters
    ----------
    backend : Backend
        The space.
    name : str
        The ref.
    address : Address
        A manifest or a tag; everything it needs is stored.
    who, why : str
        For the log.

    Raises
    ------
    AlreadyExistsError
        When a ref has that name.
    """
    with backend.objects.hold():
        if backend.refs.read(name) is not None:
            raise _taken(name)
        backend.refs.append_log(name, _entry(backend, name, None, address, who, why))
        try:
            _swap(backend, name, None, address)
        except ConflictError:
            raise _taken(name) from None


def _taken(name: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"ref {name!r} exists already", hint="restore it under another name", ref=name
    )
