"""Roots: what nobody may collect.

Source: design/0015 section 1.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

from dreamdb.history import manifests_of
from dreamdb.store import Backend, RefValue
from dreamdb.tracks import Source
from dreamdb.types import Address

__all__ = ["REFLOG_KEEP_NS", "roots", "starting_points"]

REFLOG_KEEP_NS: Final = 30 * 86_400 * 1_000_000_000
"""How long an entry of a reflog keeps what it names, in nanoseconds."""


def roots(backend: Backend, *, now_ns: int | None = None) -> Iterator[tuple[str, RefValue]]:
    """Yield every root: refs, then what young entries of their reflogs name.

    Parameters
    ----------
    backend : Backend
        The space.
    now_ns : int, optional
        The present, nanoseconds since the epoch; default: the clock.

    Yields
    ------
    tuple of (str, RefValue)
        The ref's name, or ``"reflog of"`` and the name, and the value to follow.
    """
    yield from backend.refs.list()
    oldest = (time.time_ns() if now_ns is None else now_ns) - REFLOG_KEEP_NS
    for name in backend.refs.logs():
        for entry in backend.refs.read_log(name):
            if entry.time_ns < oldest:
                continue
            for address in (entry.old, entry.new):
                if address is not None:
                    yield f"reflog of {name}", RefValue(address)


def starting_points(source: Source, followed: Iterable[tuple[str, RefValue]]) -> list[Address]:
    """Return the objects to start from: what a ref names, or what the object it carries names.

    Parameters
    ----------
    source : Source
        The space.
    followed : iterable of (str, RefValue)
        From :func:`roots`.
    """
    starts: list[Address] = []
    for name, value in followed:
        if value.carried is None:
            starts.append(value.address)
        else:
            starts += manifests_of(source.cache, name, value)
    return starts
