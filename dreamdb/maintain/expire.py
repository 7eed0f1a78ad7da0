"""Expiring history: intermediate manifests go, what they led to stays.

Source: design/0015 section 5.  Expiry only writes the list of cuts; the collector then finds that
nothing leads to the manifests in between.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from dreamdb.errors import IntegrityError, InvalidInputError
from dreamdb.history import ancestors, change_cuts, manifests_of, read_cuts, reload_cuts
from dreamdb.maintain.roots import roots
from dreamdb.model import MAX_CUT_PARENTS, HistoryCuts, Manifest
from dreamdb.objects import to_text
from dreamdb.store import Backend, documents_of
from dreamdb.tracks import Source
from dreamdb.types import Address

__all__ = ["ExpireReport", "Keep", "expire_history", "parse_keep"]

_UNITS_NS: Final = {
    "minute": 60 * 10**9,
    "hour": 3_600 * 10**9,
    "day": 86_400 * 10**9,
    "week": 7 * 86_400 * 10**9,
    "year": 365 * 86_400 * 10**9,
}
_SPAN: Final = re.compile(r"(\d{1,6})\s*(minute|hour|day|week|year)s?\Z")


@dataclass(frozen=True, slots=True)
class Keep:
    """Which manifests of a line stay.

    Parameters
    ----------
    newest : int
        So many of each branch, counted from its tip.
    span_ns : int or None
        And those that are younger, in nanoseconds.
    """

    newest: int = 1
    span_ns: int | None = None


def parse_keep(keep: object) -> Keep:
    """Return what ``keep`` means.

    Parameters
    ----------
    keep : int, str or timedelta
        A number of manifests, or a span of time such as ``"30 days"``.

    Raises
    ------
    InvalidInputError
        When it is neither, or nothing would stay.
    """
    if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1:
        return Keep(keep)
    if isinstance(keep, datetime.timedelta) and keep > datetime.timedelta(0):
        seconds = keep.days * 86_400 + keep.seconds
        return Keep(1, seconds * 10**9 + keep.microseconds * 1_000)
    if isinstance(keep, str):
        text = keep.strip().lower()
        found = _SPAN.match(text)
        if found and int(found[1]):
            return Keep(1, int(found[1]) * _UNITS_NS[found[2]])
        if text.isascii() and text.isdecimal() and int(text) >= 1:
            return Keep(int(text))
    raise InvalidInputError(
        f"keep={keep!r} says neither how many manifests nor for how long",
        hint="keep=100, keep='30 days', keep='12 hours'",
    )


@dataclass(frozen=True, slots=True)
class ExpireReport:
    """What an expiry did, or would do.

    Parameters
    ----------
    dry_run : bool
        Whether it only looked.
    kept : int
        Manifests that stay.
    expired : tuple of (str, int, str)
        Address, time in nanoseconds and message of each manifest that no walk meets any more,
        newest first.
    cuts : int
        Manifests whose parents are others now, older cuts included.
    """

    dry_run: bool
    kept: int
    expired: tuple[tuple[str, int, str], ...]
    cuts: int


def expire_history(
    backend: Backend,
    source: Source,
    keep: object,
    *,
    dry_run: bool = True,
    now_ns: int | None = None,
) -> ExpireReport:
    """Cut the history behind what is kept.

    Kept are the tips of all branches, what snapshots, version tags and recent moves of refs name,
    the newest manifests of each branch, and those where the lines of two branches part, so that
    they can still be merged.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    keep : int, str or timedelta
        How many manifests of each branch, or for how long.
    dry_run : bool
        Only look.
    now_ns : int, optional
        The present, nanoseconds since the epoch.

    Raises
    ------
    InvalidInputError
        When ``keep`` is no number and no span.
    IntegrityError, ObjectMissingError
        When a ref cannot be followed; nothing was changed.

    Notes
    -----
    Cost: 1 read per manifest, cached; 2 documents written.  Nothing is deleted: the collector
    does that.
    """
    wanted = parse_keep(keep)
    now = time.time_ns() if now_ns is None else now_ns
    with nullcontext() if dry_run else backend.objects.hold_exclusive():
        reload_cuts(source.cache)
        history = _read_history(backend, source, now)
        kept = _kept(history, wanted, now)
        cuts = _cuts(history, kept)
        gone = [(to_text(a), m.time_ns, m.message) for a, m in history.manifests if a not in kept]
        known = read_cuts(documents_of(backend))
        old = {m: parents for m, parents in known.items() if m in kept}
        merged = {**old, **cuts}
        if not dry_run and merged != known:
            change_cuts(backend, lambda _: merged)
            reload_cuts(source.cache)
    return ExpireReport(dry_run, len(kept), tuple(gone), len(merged))


@dataclass(slots=True)
class _History:
    """All manifests, children first, and the lines that lead to them."""

    manifests: list[tuple[Address, Manifest]]
    branches: list[Address]
    others: list[Address]


def _read_history(backend: Backend, source: Source, now_ns: int) -> _History:
    branches: dict[Address, None] = {}
    others: dict[Address, None] = {}
    for name, value in roots(backend, now_ns=now_ns):
        label = name.removeprefix("reflog of ")
        found = manifests_of(source.cache, label, value)
        is_branch = label == name and found == [value.address]
        (branches if is_branch else others).update(dict.fromkeys(found))
    tips = [*branches, *others]
    return _History(list(ancestors(source.cache, *tips)), list(branches), list(others))


def _kept(history: _History, keep: Keep, now_ns: int) -> set[Address]:
    """Return the manifests that stay."""
    kept = {*history.branches, *history.others}
    if keep.span_ns is not None:
        oldest = now_ns - keep.span_ns
        kept |= {a for a, m in history.manifests if m.time_ns >= oldest}
    known = dict(history.manifests)
    for tip in history.branches:
        kept |= set(_newest(known, tip, keep.newest))
    return kept | _forks(history)


def _newest(known: dict[Address, Manifest], tip: Address, count: int) -> Iterable[Address]:
    """Return the newest manifests that lead to a tip."""
    heap, seen = [tip], {tip}
    out: list[Address] = []
    while heap and len(out) < count:
        heap.sort(key=lambda a: (known[a].generation, known[a].time_ns, a))
        address = heap.pop()
        out.append(address)
        for parent in known[address].parents:
            if parent not in seen:
                seen.add(parent)
                heap.append(parent)
    return out


def _forks(history: _History) -> set[Address]:
    """Return the manifests where the lines of different tips part."""
    # Which tips lead to a manifest, as the bits of a number.
    lines: dict[Address, int] = {}
    for number, tip in enumerate([*history.branches, *history.others]):
        lines[tip] = lines.get(tip, 0) | 1 << number
    seen_from: dict[Address, set[int]] = {}
    for address, manifest in history.manifests:
        own = lines[address]
        for parent in manifest.parents:
            lines[parent] = lines.get(parent, 0) | own
            seen_from.setdefault(parent, set()).add(own)
    return {address for address, masks in seen_from.items() if len(masks) > 1}


def _cuts(history: _History, kept: set[Address]) -> HistoryCuts:
    """Return the parents of each kept manifest that has lost some: the nearest ones kept."""
    known = dict(history.manifests)
    nearest: dict[Address, tuple[Address, ...]] = {}
    cuts: dict[Address, tuple[Address, ...]] = {}
    for address, manifest in reversed(history.manifests):
        if all(parent in kept for parent in manifest.parents):
            nearest[address] = manifest.parents
            continue
        found: dict[Address, None] = {}
        for parent in manifest.parents:
            found.update(dict.fromkeys([parent] if parent in kept else nearest[parent]))
        nearest[address] = _without_ancestors(tuple(found), nearest, known)
        if address in kept:
            if len(nearest[address]) > MAX_CUT_PARENTS:
                raise IntegrityError(
                    f"the cut behind {to_text(address)} would have {len(nearest[address])} parents",
                    hint="keep more of the history",
                )
            cuts[address] = nearest[address]
    return cuts


def _without_ancestors(
    parents: tuple[Address, ...],
    nearest: dict[Address, tuple[Address, ...]],
    known: dict[Address, Manifest],
) -> tuple[Address, ...]:
    """Leave out parents that another one leads to; the first stays first."""
    if len(parents) < 2:
        return parents
    lowest = min(known[parent].generation for parent in parents)
    below: set[Address] = set()
    stack = [above for parent in parents for above in nearest[parent]]
    while stack:
        address = stack.pop()
        if address not in below and known[address].generation >= lowest:
            below.add(address)
            stack += nearest[address]
    return tuple(p for at, p in enumerate(parents) if not at or p not in below)
