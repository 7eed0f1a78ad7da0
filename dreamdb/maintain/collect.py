"""Collecting garbage beside writers that share the space's lock.

Source: design/0015 sections 1 to 4.  Marking runs while others write.  Then, alone in the space,
what was published meanwhile is marked too, and a batch of what is still not needed is taken away;
writers that wait see the next moment without those objects and store them again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from dreamdb.errors import (
    IntegrityError,
    ObjectMissingError,
    StorageError,
    UnsupportedFormatError,
)
from dreamdb.maintain.garbage import Garbage, rank_garbage
from dreamdb.maintain.mark import Marks, keys_of
from dreamdb.maintain.roots import roots, starting_points
from dreamdb.model import Manifest
from dreamdb.objects import ENVELOPE_SIZE, Kind, OpenedObject
from dreamdb.store import Backend, Trash, trash_of
from dreamdb.tracks import Source
from dreamdb.types import Address

__all__ = [
    "TRASH_KEEP_NS",
    "GcReport",
    "RestoreReport",
    "collect_garbage",
    "mark_roots",
    "remover",
    "restore_trash",
]

TRASH_KEEP_NS: Final = 7 * 86_400 * 1_000_000_000
"""How long an object stays in the trash, in nanoseconds."""

_BATCH: Final = 4_096


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a collection did, or would do.

    Parameters
    ----------
    dry_run : bool
        Whether it only looked.
    reachable, reachable_nbytes : int
        Objects that some root needs, and their stored bytes.
    garbage : tuple of Garbage
        What no root needs; in the order in which it goes.
    roots : int
        Refs and reflog entries that were followed.
    removed : int
        Objects that were taken away; less than the garbage when writers needed some again.
    trashed : bool
        Whether they went to the trash rather than for good.
    emptied, emptied_nbytes : int
        Objects of the trash that are, or would be, deleted for good.
    temporaries : int
        Files of writers that died, removed.
    """

    dry_run: bool
    reachable: int
    reachable_nbytes: int
    garbage: tuple[Garbage, ...] = field(default=())
    roots: int = 0
    removed: int = 0
    trashed: bool = False
    emptied: int = 0
    emptied_nbytes: int = 0
    temporaries: int = 0

    @property
    def garbage_nbytes(self) -> int:
        """Stored bytes of the garbage."""
        return sum(one.nbytes for one in self.garbage)


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What came back from the trash.

    Parameters
    ----------
    dry_run : bool
        Whether it only looked.
    objects, nbytes : int
        How many, and their stored bytes.
    manifests : tuple of (str, str)
        Address and message of each commit among them, newest first; a branch on one of them keeps
        it from the next collection.
    """

    dry_run: bool
    objects: int
    nbytes: int
    manifests: tuple[tuple[str, str], ...] = ()


def mark_roots(backend: Backend, marks: Marks, *, now_ns: int) -> int:
    """Mark what all roots need and return how many roots there are.

    Raises
    ------
    IntegrityError
        When a root cannot be followed: nothing may be called garbage then.
    UnsupportedFormatError
        When a newer version wrote something whose needs this one does not know.
    """
    try:
        starts = starting_points(marks.source, roots(backend, now_ns=now_ns))
        marks.mark(starts)
    except UnsupportedFormatError:
        raise
    except (IntegrityError, ObjectMissingError) as error:
        raise IntegrityError(
            f"garbage cannot be told while the space is damaged: {error}",
            hint="run `dreamdb verify`",
            **error.details,
        ) from error
    return len(starts)


def collect_garbage(
    backend: Backend,
    source: Source,
    *,
    dry_run: bool = True,
    trash: bool = True,
    now_ns: int | None = None,
) -> GcReport:
    """Find what no root needs and take it away.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    dry_run : bool
        Only look.
    trash : bool
        Move objects to the trash, where they stay for seven days; otherwise delete them, and
        everything in the trash, for good.
    now_ns : int, optional
        The present, nanoseconds since the epoch.

    Raises
    ------
    IntegrityError
        When a root cannot be followed, or there is none: nothing was removed.
    StorageError
        When the storage has no trash and ``trash`` is true.

    Notes
    -----
    Cost: 1 listing, 1 read per manifest, content and tree node, 1 read per piece of garbage.
    Writers wait while up to 4,096 objects at a time are taken away.
    """
    now = time.time_ns() if now_ns is None else now_ns
    bin_ = trash_of(backend)
    if trash and bin_ is None and not dry_run:
        raise StorageError(
            f"{backend.url} has no trash: what is deleted there is gone",
            hint="gc(dry_run=False, trash=False), or gc --yes --no-trash",
        )
    marks = Marks(backend, source)
    num_roots = mark_roots(backend, marks, now_ns=now)
    sizes = dict(backend.objects.list())
    if sizes and not num_roots:
        raise IntegrityError(
            f"{backend.url} has {len(sizes)} objects and no ref: either all refs were lost, or "
            "nothing in it is wanted any more",
            hint="restore a ref, or delete the whole space",
        )
    addresses = list(sizes)
    needed = marks.needed(keys_of(addresses))
    unneeded = {addresses[i]: sizes[addresses[i]] for i in np.flatnonzero(~needed).tolist()}
    store = backend.objects
    ranked = rank_garbage(unneeded, store.open, lambda one: store.read(one, 0, ENVELOPE_SIZE))
    kept = sum(sizes.values()) - sum(unneeded.values())
    report = GcReport(
        dry_run,
        len(sizes) - len(unneeded),
        kept,
        tuple(told for _, told, _ in ranked),
        num_roots,
        trashed=trash,
    )
    old = (
        []
        if bin_ is None
        else [one for one in bin_.list() if not trash or one.time_ns < now - TRASH_KEEP_NS]
    )
    report = replace(report, emptied=len(old), emptied_nbytes=sum(one.nbytes for one in old))
    if dry_run:
        return report
    remove = remover(backend, bin_, trash=trash, now_ns=now)
    steps = [(address, phase) for address, _, phase in ranked]
    removed = _sweep(backend, source, marks, steps, remove, now_ns=now)
    with backend.objects.hold_exclusive():
        _empty(bin_, [one.address for one in old])
    temporaries = getattr(backend, "remove_stale_temporaries", None)
    return replace(report, removed=removed, temporaries=0 if temporaries is None else temporaries())


def _sweep(
    backend: Backend,
    source: Source,
    marks: Marks,
    steps: Sequence[tuple[Address, int]],
    remove: Callable[[list[Address]], None],
    *,
    now_ns: int,
) -> int:
    """Take garbage away in batches of one phase each, alone in the space."""
    removed = 0
    at = 0
    while at < len(steps):
        phase = steps[at][1]
        stop = at
        while stop < len(steps) and stop - at < _BATCH and steps[stop][1] == phase:
            stop += 1
        batch = [address for address, _ in steps[at:stop]]
        with backend.objects.hold_exclusive():
            # Whoever has published something since uses what is marked now.
            mark_roots(backend, marks, now_ns=now_ns)
            needed = marks.needed(keys_of(batch)).tolist()
            going = [a for a, keep in zip(batch, needed, strict=True) if not keep]
            remove(going)
        for address in going:
            source.forget(address)
        removed += len(going)
        at = stop
    return removed


def remover(
    backend: Backend, bin_: Trash | None, *, trash: bool, now_ns: int
) -> Callable[[list[Address]], None]:
    """Return what takes objects away durably.

    Parameters
    ----------
    backend : Backend
        The space.
    bin_ : Trash or None
        Its trash.
    trash : bool
        Leave the objects there; otherwise they are gone at once.
    now_ns : int
        When they are thrown away.
    """

    def delete(addresses: list[Address]) -> None:
        for address in addresses:
            backend.objects.delete(address)

    def throw(addresses: list[Address]) -> None:
        assert bin_ is not None
        for address in addresses:
            bin_.throw(address, now_ns)
        bin_.flush()
        if not trash:
            _empty(bin_, addresses)

    return delete if bin_ is None else throw


def _empty(bin_: Trash | None, addresses: Sequence[Address]) -> None:
    if bin_ is None or not addresses:
        return
    for address in addresses:
        bin_.remove(address)
    bin_.flush()


def restore_trash(backend: Backend, *, dry_run: bool = True) -> RestoreReport:
    """Move everything in the trash back into the store.

    Nothing refers to it there: make a branch on what is wanted before the next collection.

    Parameters
    ----------
    backend : Backend
        The space.
    dry_run : bool
        Only look.

    Raises
    ------
    StorageError
        When the storage has no trash.

    Notes
    -----
    Cost: 1 read and 1 move per object; what is referred to comes before what refers to it.
    """
    bin_ = trash_of(backend)
    if bin_ is None:
        raise StorageError(f"{backend.url} has no trash: what was deleted there is gone")
    sizes = {one.address: one.nbytes for one in bin_.list()}
    ranked = rank_garbage(sizes, bin_.open, bin_.open)
    manifests = tuple(
        (told.object, _message(bin_, address))
        for address, told, _ in ranked
        if told.kind == "manifest"
    )
    if not dry_run:
        with backend.objects.hold_exclusive():
            phase = None
            for address, _, own in reversed(ranked):
                if phase is not None and own != phase:
                    bin_.flush()
                phase = own
                bin_.restore(address)
            bin_.flush()
    return RestoreReport(dry_run, len(sizes), sum(sizes.values()), manifests)


def _message(bin_: Trash, address: Address) -> str:
    opened = OpenedObject(address, bin_.open(address), Kind.MANIFEST)
    return Manifest.decode(opened.view()).message
