"""Committing: stage, swap the ref, and when another writer was faster, replay or report.

Source: design/0005, design/0006.  The swap is the only commit point: before it nothing is
visible, after it everything is durable.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dreamdb.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    ReadOnlyError,
    RefConflictError,
    StorageError,
)
from dreamdb.history import find_ref, is_ancestor, load_manifest, resolve_address, skip_address
from dreamdb.index import IndexRoot
from dreamdb.model import Content, Manifest
from dreamdb.objects import Kind
from dreamdb.store import Backend, RefValue
from dreamdb.tracks import Source, View
from dreamdb.types import Address
from dreamdb.write.changes import Change
from dreamdb.write.indexes import follow_indexes, stage_indexes
from dreamdb.write.stage import Stage

__all__ = [
    "MAX_ATTEMPTS",
    "CommitNote",
    "Committed",
    "branch_tip",
    "check_notes",
    "check_text",
    "commit",
    "create_ref",
    "lost_every_race",
    "make_manifest",
    "pause",
    "stage_root",
    "swap_branch",
]

MAX_ATTEMPTS: Final = 64


def check_text(value: object, what: str) -> str:
    """Return a text that can be stored.

    Parameters
    ----------
    value : object
        The text.
    what : str
        What it is, for the message.

    Raises
    ------
    InvalidInputError
        When it is no text, or holds surrogates.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} must be text, not {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"{what} is not Unicode text: {value!r}") from None
    return value


def check_notes(notes: object, what: str) -> dict[str, str]:
    """Return notes that can be stored: texts by name.

    Parameters
    ----------
    notes : object
        A mapping.
    what : str
        What they are, for the message.

    Raises
    ------
    InvalidInputError
        When they are not.
    """
    if not isinstance(notes, Mapping):
        raise InvalidInputError(f"{what} must be a dictionary of texts, not {notes!r}")
    return {
        check_text(name, "the name of a note"): check_text(value, f"the note {name!r}")
        for name, value in notes.items()
    }


@dataclass(frozen=True, slots=True)
class CommitNote:
    """Who commits, and what they say about it.

    Parameters
    ----------
    author, message : str
        Recorded in the manifest.
    application : mapping of str to str
        The caller's notes.
    """

    author: str
    message: str = ""
    application: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text(self.author, "the author")
        check_text(self.message, "the message")
        check_notes(self.application, "application")


@dataclass(frozen=True, slots=True)
class Committed:
    """A published manifest.

    Parameters
    ----------
    manifest : Address
        The new tip, or the old one when nothing changed.
    view : View
        Its content.
    changed : bool
        Whether a manifest was written.
    nbytes, num_objects : int
        What was stored.
    """

    manifest: Address
    view: View
    changed: bool
    nbytes: int = 0
    num_objects: int = 0


def make_manifest(
    source: Source,
    content: Address,
    parents: Sequence[Address],
    operation: Mapping[str, Any],
    note: CommitNote,
    indexes: Mapping[str, str] | None = None,
) -> Manifest:
    """Return a manifest that follows its parents in generation and in time.

    Parameters
    ----------
    source : Source
        Where the parents come from.
    content : Address
        The state.
    parents : sequence of Address
        The first is the branch's previous tip.
    operation : mapping
        What the manifest records.
    note : CommitNote
        Author, message, notes.
    indexes : mapping of str to str, optional
        Roots of the indexes; default: those of the first parent, which stay right, since segments
        belong to fragments.
    """
    before = [load_manifest(source.cache, p) for p in parents]
    generation = max((m.generation for m in before), default=-1) + 1
    if indexes is None:
        indexes = before[0].indexes if before else {}
    return Manifest(
        content=content,
        parents=tuple(parents),
        generation=generation,
        skip=skip_address(source.cache, parents[0], generation) if parents else None,
        author=note.author,
        message=note.message,
        time_ns=max([time.time_ns()] + [m.time_ns + 1 for m in before]),
        operation=operation,
        application=note.application,
        indexes=indexes,
    )


def stage_root(
    stage: Stage,
    source: Source,
    content: Content,
    note: CommitNote,
    operation: Mapping[str, Any],
    indexes: Mapping[str, IndexRoot] | None = None,
) -> Address:
    """Stage the first manifest of a dataset and return its address.

    Parameters
    ----------
    stage, source : Stage, Source
        Where objects go, and the space's caches.
    content : Content
        The first state.
    note : CommitNote
        Who creates it.
    operation : mapping
        What the manifest records.
    indexes : mapping of str to IndexRoot, optional
        How fields are to be indexed.
    """
    for member in content.schema.fields:
        stage.codec_of(member.type)
    address = stage.document(Kind.CONTENT, content.encode())
    texts = stage_indexes(stage, source, content, indexes or {})
    manifest = make_manifest(source, address, (), operation, note, texts)
    return stage.document(Kind.MANIFEST, manifest.encode())


def _operation(changes: Sequence[Change]) -> dict[str, Any]:
    if len(changes) == 1:
        return changes[0].summary()
    return {"name": "transaction", "steps": [change.summary() for change in changes]}


def commit(
    backend: Backend,
    source: Source,
    ref: str,
    base: Address,
    view: View,
    changes: Sequence[Change],
    note: CommitNote,
    *,
    prepared: Content | None = None,
) -> Committed:
    """Apply changes to the tip of a branch and publish the result.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    ref : str
        A branch.
    base : Address
        The manifest the caller saw.
    view : View
        Its content.
    changes : sequence of Change
        Applied in order; all or nothing.
    note : CommitNote
        Author, message, notes.
    prepared : Content, optional
        What the changes make of ``view``, when that is known and its objects are stored.

    Returns
    -------
    Committed
        With the view of what is now published.

    Raises
    ------
    ConflictError
        When another writer changed what the changes touch; nothing was published.
    StorageError
        When storage failed; ``details['published']`` is False, or None when it cannot be told.

    Notes
    -----
    Cost: 1 ref read, the objects of the commit, 1 ref swap; per lost race as much again.
    """
    with backend.objects.hold():
        for attempt in range(MAX_ATTEMPTS):
            current = branch_tip(backend, source, ref)
            tip_view = view
            if current.address != base:
                tip_view = _replay_view(source, base, view, current.address, changes)
            ready = prepared if tip_view is view else None
            published = _attempt(backend, source, ref, current, tip_view, changes, note, ready)
            if published is not None:
                return published
            pause(attempt)
    raise lost_every_race(ref)


def pause(attempt: int) -> None:
    """Wait a little, at random, before the next attempt."""
    time.sleep(random.uniform(0.0, min(0.2, 0.002 * 2 ** min(attempt, 6))))


def lost_every_race(ref: str) -> ConflictError:
    """Return the error of a commit that other writers were always faster than."""
    return ConflictError(
        f"publish conflict on ref {ref!r}: lost {MAX_ATTEMPTS} races in a row; "
        "nothing was published",
        hint="fewer writers per branch, or one branch per writer and a merge",
        ref=ref,
    )


def branch_tip(backend: Backend, source: Source, ref: str) -> RefValue:
    """Return where a branch is; refuse a snapshot and a branch that is gone."""
    found = find_ref(backend, source.cache, ref)
    if found is None:
        raise ConflictError(
            f"publish conflict on ref {ref!r}: another writer deleted it; nothing was published",
            hint="open another branch, or recreate this one from the handle with branch()",
            ref=ref,
        )
    if found.is_snapshot:
        raise ReadOnlyError(
            f"{ref!r} is a snapshot and never moves",
            hint="make a branch from it: ds.branch('name')",
            ref=ref,
        )
    return found.value


def _replay_view(
    source: Source, base: Address, view: View, tip: Address, changes: Sequence[Change]
) -> View:
    """Return the newer content after checking that every change still means the same."""
    fresh = View(source, source.content(load_manifest(source.cache, tip).content))
    fresh.adopt(view)
    for change in changes:
        change.check_replay(view, fresh)
    return fresh


def _attempt(
    backend: Backend,
    source: Source,
    ref: str,
    current: RefValue,
    view: View,
    changes: Sequence[Change],
    note: CommitNote,
    prepared: Content | None,
) -> Committed | None:
    """Try to publish on top of one tip; return None when the race was lost."""
    stage = Stage(backend, source)
    try:
        content = _apply_all(source, stage, view, changes) if prepared is None else prepared
        before = load_manifest(source.cache, current.address).indexes
        indexes = follow_indexes(stage, source, view.content, content, before, changes)
        if content == view.content and indexes == before:
            stage.abort()
            return Committed(current.address, view, changed=False)
        address = stage.document(Kind.CONTENT, content.encode())
        manifest = make_manifest(
            source, address, (current.address,), _operation(changes), note, indexes
        )
        mine = stage.document(Kind.MANIFEST, manifest.encode())
        stage.flush()
    except BaseException:
        stage.abort()
        raise
    if not swap_branch(backend, source, ref, current, mine):
        return None
    result = View(source, content)
    result.adopt(view)
    return Committed(mine, result, True, stage.written_nbytes, stage.written_objects)


def _apply_all(source: Source, stage: Stage, view: View, changes: Sequence[Change]) -> Content:
    """Apply changes one after the other; each sees what the earlier ones have written."""
    content = view.content
    for index, change in enumerate(changes):
        content = change.apply(view, stage)
        if index + 1 < len(changes) and content != view.content:
            stage.flush()
            following = View(source, content)
            following.adopt(view)
            view = following
    return content


def swap_branch(
    backend: Backend, source: Source, ref: str, current: RefValue, mine: Address
) -> bool:
    """Move the ref; on any doubt read it back and look for our manifest in its history.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    ref : str
        The branch.
    current : RefValue
        What it held.
    mine : Address
        Our manifest.

    Returns
    -------
    bool
        False when another writer was faster.
    """
    try:
        backend.refs.swap(ref, current, mine)
        return True
    except RefConflictError:
        tip = backend.refs.read(ref)
        return tip is not None and _includes(source, ref, mine, tip)
    except StorageError as error:
        try:
            tip = backend.refs.read(ref)
        except StorageError:
            tip = None
        else:
            if tip is not None and _includes(source, ref, mine, tip):
                return True
            published = False if tip is not None and tip.address == current.address else None
            error.details["published"] = published
            raise
        error.details["published"] = None
        error.add_note(
            "it is not known whether the commit was published: open the ref and look at its log"
        )
        raise


def _includes(source: Source, ref: str, mine: Address, tip: RefValue) -> bool:
    found = resolve_address(source.cache, ref, tip)
    return is_ancestor(source.cache, mine, found.manifest)


def create_ref(
    backend: Backend, name: str, address: Address, carried: bytes | None = None
) -> RefValue:
    """Create a ref; what it names must be durable already, unless the ref carries it.

    Parameters
    ----------
    backend : Backend
        The space.
    name : str
        The new ref.
    address : Address
        What it names.
    carried : bytes, optional
        The stored object of that address.

    Raises
    ------
    AlreadyExistsError
        When a ref has that name, unless it already holds the address.
    """
    try:
        value = backend.refs.swap(name, None, address, carried)
    except RefConflictError:
        raise AlreadyExistsError(
            f"ref {name!r} exists already in {backend.url}",
            hint="names are per space: choose another, or open the existing one with open_ref",
            ref=name,
        ) from None
    assert value is not None
    return value
