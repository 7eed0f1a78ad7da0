"""Collecting where writers hold leases instead of locks: nobody ever waits for the collector.

Source: design/0015 section 8.  Mark, publish what is going to be removed, wait for the leases that
are older than the list, mark again, and remove what is still not needed and was not stored again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from dreamdb.errors import IntegrityError
from dreamdb.maintain.collect import GcReport, mark_roots
from dreamdb.maintain.garbage import rank_garbage
from dreamdb.maintain.mark import Marks, keys_of
from dreamdb.objects import ENVELOPE_SIZE
from dreamdb.store import LeasedBackend, StampedObjects
from dreamdb.store.leases import read_condemned
from dreamdb.tracks import Source
from dreamdb.types import Address

__all__ = ["collect_leased"]

_MAX_CONDEMNED: Final = 500_000


def collect_leased(
    backend: LeasedBackend, source: Source, *, dry_run: bool = True, now_ns: int | None = None
) -> GcReport:
    """Find what no root needs and remove it, while others write under leases.

    Parameters
    ----------
    backend, source : LeasedBackend, Source
        The space.
    dry_run : bool
        Only look.
    now_ns : int, optional
        The present, nanoseconds since the epoch, for reflogs.

    Raises
    ------
    IntegrityError
        When a root cannot be followed, or there is none: nothing was removed.
    StorageError
        When this collector was so slow that its own lease ran out; what is left goes next time.

    Notes
    -----
    Cost: as :func:`~dreamdb.maintain.collect_garbage`, and 1 conditional request per object that
    goes.  At most 500,000 objects go in one run; what refers goes before what it refers to.
    """
    now = time.time_ns() if now_ns is None else now_ns
    store, leases = backend.objects.inner, backend.leases
    marks = Marks(backend.inner, source)
    num_roots = mark_roots(backend, marks, now_ns=now)
    sizes = dict(store.list())
    if sizes and not num_roots:
        raise IntegrityError(
            f"{backend.url} has {len(sizes)} objects and no ref", hint="restore a ref first"
        )
    addresses = list(sizes)
    needed = marks.needed(keys_of(addresses))
    unneeded = {addresses[i]: sizes[addresses[i]] for i in np.flatnonzero(~needed).tolist()}
    ranked = rank_garbage(unneeded, store.open, lambda one: store.read(one, 0, ENVELOPE_SIZE))
    report = GcReport(
        dry_run,
        len(sizes) - len(unneeded),
        sum(sizes.values()) - sum(unneeded.values()),
        tuple(told for _, told, _ in ranked),
        num_roots,
    )
    left = read_condemned(backend.documents).stored is not None
    if dry_run or not (ranked or left):
        return report
    order = [address for address, _, _ in ranked[:_MAX_CONDEMNED]]
    stamps = {address: stamp for address in order if (stamp := store.stamp(address)) is not None}
    with leases.collecting() as lease:
        published = leases.publish(lease.name, frozenset(stamps), closed=False, lease=lease)
        try:
            leases.drain(lease.name, lease)
            mark_roots(backend, marks, now_ns=now)
            going = marks.needed(keys_of(order)).tolist()
            doomed = [a for a, keep in zip(order, going, strict=True) if not keep and a in stamps]
            removed = _remove(store, source, doomed, stamps, lease.renew)
        finally:
            leases.withdraw(published)
    return replace(report, removed=removed)


def _remove(
    store: StampedObjects,
    source: Source,
    doomed: list[Address],
    stamps: dict[Address, bytes],
    renew: Callable[[], None],
) -> int:
    """Remove objects that still are what they were; return how many."""
    removed = 0
    for address in doomed:
        renew()
        if store.delete_stamped(address, stamps[address]):
            source.forget(address)
            removed += 1
    return removed
