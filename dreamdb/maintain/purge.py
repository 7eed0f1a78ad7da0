"""Purging: records leave every version of a dataset, so that the collector can remove their bytes.

Source: design/0015 section 6.  For each content that holds one of the records the same content
without them is written, and a redaction says that it stands in for the other; then the other is
removed.  Manifests, and so the addresses that people have written down, stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dreamdb.errors import AnchorNotFoundError
from dreamdb.history import (
    ancestors,
    load_manifest,
    manifests_of,
    reload_cuts,
    require_feature,
    resolve_content,
    write_redaction,
)
from dreamdb.maintain.collect import mark_roots, remover
from dreamdb.maintain.mark import Marks, keys_of
from dreamdb.maintain.roots import roots
from dreamdb.model import REDACTIONS, Manifest, Redaction
from dreamdb.objects import Kind, to_text
from dreamdb.store import Backend, RefValue, documents_of, trash_of
from dreamdb.tracks import Source, View, find_in_keys
from dreamdb.types import Address
from dreamdb.write import (
    CommitNote,
    Removed,
    Stage,
    follow_indexes,
    make_manifest,
    remove_records,
)

__all__ = ["AbsenceReport", "PurgeReport", "check_absent", "purge_records"]

Anchors = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What a purge did, or would do.

    Parameters
    ----------
    dry_run : bool
        Whether it only looked.
    records : int
        Distinct records that some version holds.
    unknown : tuple of int
        Anchors that no version holds.
    contents : int
        States of the data that are written again without the records.
    manifests : int
        Versions that have one of these states.
    refs : tuple of str
        Branches, snapshots and version tags that show less from now on.
    moved : tuple of str
        Branches that got a new version, which says that records were purged.
    """

    dry_run: bool
    records: int
    unknown: tuple[int, ...]
    contents: int
    manifests: int
    refs: tuple[str, ...]
    moved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AbsenceReport:
    """Whether records are gone from a space.

    Parameters
    ----------
    held_by : tuple of (str, int)
        Version and anchor of each record that is still there.
    garbage : int
        Objects that no root needs: they may hold anything.
    trash : int
        Objects in the trash.
    contents : int
        States of the data that were looked at.
    """

    held_by: tuple[tuple[str, int], ...]
    garbage: int
    trash: int
    contents: int

    @property
    def ok(self) -> bool:
        """Whether nothing of the records can be left."""
        return not self.held_by and not self.garbage and not self.trash


@dataclass(frozen=True, slots=True)
class _Ref:
    """A ref's value and the manifests that it keeps."""

    value: RefValue
    manifests: list[Address]

    @property
    def is_branch(self) -> bool:
        return self.manifests == [self.value.address]


@dataclass(slots=True)
class _Line:
    """The versions of one dataset, those that some history connects, and all refs of the space."""

    manifests: list[tuple[Address, Manifest]]
    refs: dict[str, _Ref]


def _line_of(backend: Backend, source: Source, start: Address, now_ns: int) -> _Line:
    """Return every version that shares history with a manifest."""
    found: dict[str, _Ref] = {}
    tips: dict[Address, None] = {start: None}
    for name, value in roots(backend, now_ns=now_ns):
        label = name.removeprefix("reflog of ")
        ref = _Ref(value, manifests_of(source.cache, label, value))
        tips.update(dict.fromkeys(ref.manifests))
        if label == name:
            found[name] = ref
    everything = list(ancestors(source.cache, *tips))
    # Manifests that name each other belong together, whichever of them is the older one.
    group: dict[Address, Address] = {address: address for address, _ in everything}

    def top(address: Address) -> Address:
        while group[address] != address:
            group[address] = address = group[group[address]]
        return address

    for address, manifest in everything:
        for parent in manifest.parents:
            group[top(address)] = top(parent)
    mine = top(start)
    return _Line([(a, m) for a, m in everything if top(a) == mine], found)


def purge_records(
    backend: Backend,
    source: Source,
    start: Address,
    anchors: Anchors,
    note: CommitNote,
    *,
    dry_run: bool = True,
    now_ns: int | None = None,
) -> PurgeReport:
    """Remove records from every version of a dataset.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    start : Address
        A version of the dataset: all that share history with it are changed.
    anchors : ndarray of uint64
        The records, deleted ones too.
    note : CommitNote
        Who purges, and why.
    dry_run : bool
        Only look.
    now_ns : int, optional
        The present, nanoseconds since the epoch.

    Raises
    ------
    AnchorNotFoundError
        When no version holds any of the records; nothing was changed.
    StorageError
        When the storage failed.  Run the purge again: it goes on where it stopped.

    Notes
    -----
    Cost: for each state of the data that holds one of the records, the fragments around each, of
    every track that an earlier state did not share.  All writers wait.
    """
    now = time.time_ns() if now_ns is None else now_ns
    wanted = np.unique(anchors)
    with nullcontext() if dry_run else backend.objects.hold_exclusive():
        reload_cuts(source.cache)
        line = _line_of(backend, source, start, now)
        states = _states(source, line)
        held = {c: found for c in states if len(found := _held(source, c, wanted))}
        seen = np.unique(np.concatenate(list(held.values()))) if held else wanted[:0]
        if not len(seen):
            raise AnchorNotFoundError(
                "no version of this dataset holds "
                + (f"the anchor {int(wanted[0])}" if len(wanted) == 1 else "any of these anchors"),
                hint="the records may have been purged before; look with verify --absent",
                anchors=wanted.tolist(),
            )
        hurt = {m for c in held for m in states[c]}
        # Refs of another dataset too, when it had the very same content.
        refs = tuple(
            name
            for name, ref in line.refs.items()
            if any(_content_of(source, manifest) in held for manifest in ref.manifests)
        )
        tips = {n: line.refs[n].value for n in refs if line.refs[n].is_branch}
        if not dry_run:
            _purge(backend, source, held, tips, note, now)
    return PurgeReport(
        dry_run,
        len(seen),
        tuple(np.setdiff1d(wanted, seen).tolist()),
        len(held),
        len(hurt),
        refs,
        tuple(tips),
    )


def _states(source: Source, line: _Line) -> dict[Address, list[Address]]:
    """Return the contents that are read today, each with the manifests that have it."""
    out: dict[Address, list[Address]] = {}
    for address, manifest in line.manifests:
        content = resolve_content(source.cache, manifest.content, fresh=True)[0]
        out.setdefault(content, []).append(address)
    return out


def _content_of(source: Source, manifest: Address) -> Address:
    """Return the content that readers of a manifest get today."""
    return resolve_content(source.cache, load_manifest(source.cache, manifest).content)[0]


def _held(source: Source, content: Address, wanted: Anchors) -> Anchors:
    """Return those of the anchors that a content stores, deleted ones too."""
    view = View(source, source.content(content))
    return wanted[find_in_keys(view.timeline, wanted) >= 0]


def _purge(
    backend: Backend,
    source: Source,
    held: Mapping[Address, Anchors],
    tips: Mapping[str, RefValue],
    note: CommitNote,
    now_ns: int,
) -> None:
    documents = documents_of(backend)
    replaced: dict[Address, Address] = {}
    stage = Stage(backend, source)
    try:
        known: dict[bytes, Removed] = {}
        for content, anchors in held.items():
            view = View(source, source.content(content))
            after = remove_records(view, stage, anchors, known.setdefault(anchors.tobytes(), {}))
            replaced[content] = stage.document(Kind.CONTENT, after.encode())
        stage.flush()
        require_feature(backend, REDACTIONS)
        for content, anchors in held.items():
            redaction = Redaction(
                content, replaced[content], len(anchors), now_ns, note.author, note.message
            )
            write_redaction(documents, redaction)
        moves = []
        for name, value in tips.items():
            tip = value.address
            content = _content_of(source, tip)
            operation = {"name": "purge", "rows": len(held[content])}
            # Segments of fragments that were rewritten hold codes of purged vectors: left out.
            before, after = source.content(content), source.content(replaced[content])
            known_indexes = load_manifest(source.cache, tip).indexes
            indexes = follow_indexes(stage, source, before, after, known_indexes, ())
            made = make_manifest(source, replaced[content], (tip,), operation, note, indexes)
            moves.append((name, value, stage.document(Kind.MANIFEST, made.encode())))
        stage.flush()
    except BaseException:
        stage.abort()
        raise
    # A handle that still reads the old content must not commit on top of it.
    for name, value, manifest in moves:
        backend.refs.swap(name, value, manifest)
    # Only now do readers of older versions get the replacements.
    remover(backend, trash_of(backend), trash=False, now_ns=now_ns)(list(held))
    for content in held:
        source.forget(content)


def check_absent(
    backend: Backend,
    source: Source,
    start: Address,
    anchors: Anchors,
    *,
    now_ns: int | None = None,
) -> AbsenceReport:
    """Look for records in every version of a dataset, and for objects that no version needs.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    start : Address
        A version of the dataset: all that share history with it are looked at.
    anchors : ndarray of uint64
        The records.
    now_ns : int, optional
        The present, nanoseconds since the epoch.

    Notes
    -----
    Cost: 1 listing, 1 read per manifest, content and tree node of the space, and the fragments of
    the timeline that may hold the records.
    """
    now = time.time_ns() if now_ns is None else now_ns
    wanted = np.unique(anchors)
    reload_cuts(source.cache)
    states = _states(source, _line_of(backend, source, start, now))
    found = [
        (to_text(manifest), int(anchor))
        for content, manifests in states.items()
        for anchor in _held(source, content, wanted)
        for manifest in manifests
    ]
    marks = Marks(backend, source)
    mark_roots(backend, marks, now_ns=now)
    listed = [address for address, _ in backend.objects.list()]
    garbage = int((~marks.needed(keys_of(listed))).sum())
    bin_ = trash_of(backend)
    trash = 0 if bin_ is None else sum(1 for _ in bin_.list())
    return AbsenceReport(tuple(found), garbage, trash, len(states))
