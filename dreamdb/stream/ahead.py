"""Reading ahead in one thread.

Source: design/0009.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["read_ahead"]

T = TypeVar("T")


def read_ahead(source: Iterator[T], depth: int = 1) -> Iterator[T]:
    """Yield what a source yields, all but the first item computed in a thread of its own.

    Parameters
    ----------
    source : iterator
        Used by that thread only; an exception it raises comes out here, in its place.
    depth : int
        Items computed before they are asked for, at most.

    Notes
    -----
    The thread ends with the source, with an exception, or when the generator is closed or
    forgotten; closing waits for the item under way.
    """
    end = object()
    # The first item comes without a thread: computing the second one would hold it up.
    first = next(source, end)
    if first is end:
        return
    yield first  # type: ignore[misc]
    pending: deque[Future[T | object]] = deque()
    pool = ThreadPoolExecutor(1, "dreamdb-ahead")
    try:
        while True:
            while len(pending) <= depth:
                pending.append(pool.submit(next, source, end))
            item = pending.popleft().result()
            if item is end:
                return
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
