"""Writers that run in threads and in processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dreamdb as vd

__all__ = ["in_processes", "in_threads", "make", "values"]


def make(url: str, rows: int = 0) -> vd.Dataset:
    """Return a dataset ``main`` with records ``{_anchor: i, x: i, y: 0}``."""
    schema = vd.Schema().add_scalar_int("x").add_scalar_int("y")
    ds = vd.Dataset.create("main", schema, backend=url)
    if rows:
        ds.append_many([{"_anchor": i, "x": i, "y": 0} for i in range(rows)])
    return ds


def in_threads(work: Callable[[int], Any], count: int) -> list[Any]:
    """Run ``work(number)`` in threads; return what each returned, or the error it raised."""
    with ThreadPoolExecutor(count) as pool:
        return [_outcome(f) for f in [pool.submit(work, n) for n in range(count)]]


def _outcome(future: Any) -> Any:
    error = future.exception()
    return future.result() if error is None else error


def in_processes(
    work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], method: str
) -> list[Any]:
    """Run a function in one process per set of arguments, all at once."""
    context = multiprocessing.get_context(method)
    with context.Pool(len(arguments)) as pool:
        return pool.starmap(work, arguments, chunksize=1)


def values(url: str, field: str = "x", ref: str = "main") -> list[Any]:
    """Return a field as another reader sees it."""
    found: list[Any] = vd.Dataset.open_ref(ref, url)[field].to_pylist()
    return found
