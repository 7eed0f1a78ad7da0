"""Roots: what nobody may collect.

Source: design/0015 section 1.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from dreamdb.store import Backend
from dreamdb.types import Address

__all__ = ["REFLOG_KEEP_NS", "roots"]

REFLOG_KEEP_NS: Final = 30 * 86_400 * 1_000_000_000
"""How long an entry of a reflog keeps what it names, in nanoseconds."""


def roots(backend: Backend, *, now_ns: int | None = None) -> Iterator[tuple[str, Address]]:
    """Yield every root: refs, then what young entries of their reflogs name.

    Parameters
    ----------
    backend : Backend
        The space.
    now_ns : int, optional
        The present, nanoseconds since the epoch; default: the clock.
    """
    yield from backend.refs.list()
    oldest = (time.time_ns() if now_ns is None else now_ns) - REFLOG_KEEP_NS
    for name in backend.refs.logs():
        for entry in backend.refs.read_log(name):
            if entry.time_ns < oldest:
                continue
            for address in (entry.old, entry.new):
                if address is not None:
                    yield f"reflog of {name}", address
