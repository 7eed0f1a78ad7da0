"""Windows: how the samples of one become batches.

Source: design/0019 sections 4 and 5.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from dreamdb.stream import (
    Budget,
    arrange,
    derive_key,
    form_buckets,
    form_packs,
    scramble,
    spread,
)
from dreamdb.training.members import Members

__all__ = ["bucket_former", "pack_former"]

Positions = npt.NDArray[np.int64]


def bucket_former(
    keys: Callable[[Members], Sequence[Positions]],
    budgets: Callable[[Sequence[Positions]], Sequence[Budget]],
    check: Callable[[Members, Sequence[Budget]], None],
    *,
    seed: int,
    most: int | None,
    group: int,
    composition: str | None,
) -> Callable[[int, int, Members], list[list[Positions]]]:
    """Return what forms windows of buckets; see :class:`WindowPlan`.

    Parameters
    ----------
    keys : callable
        Gives the keys of samples, the most important first.
    budgets : callable
        Gives the budgets for such keys.
    check : callable
        Raises for a sample that exceeds a budget by itself.
    seed : int
        Decides between equal samples, and the order of the batches.
    most : int or None
        Samples of a batch.
    group : int
        Batches alike that follow each other.
    composition : str or None
        ``"step"`` or ``"batch"``.
    """

    def form(epoch: int, number: int, members: Members) -> list[list[Positions]]:
        sizes = keys(members)
        limits = budgets(sizes)
        check(members, limits)
        with np.errstate(over="ignore"):
            salt = np.uint64(derive_key(f"ties of window {number}", seed, epoch))
            ties = scramble(members.positions.astype(np.uint64) + salt)
        if composition == "batch":
            order = spread(members.streams, [size.astype(np.float64) for size in sizes], ties)
        else:
            order = np.lexsort((ties, *(-size for size in reversed(sizes))))
        batches = form_buckets(order, limits, most=most)
        key = derive_key(f"batches of window {number}", seed, epoch)
        given = arrange(len(batches), key, group=group, across=composition == "step")
        return [[batches[i]] for i in given.tolist()]

    return form


def pack_former(
    length: Callable[[Members], Positions],
    check: Callable[[Members, Sequence[Budget]], None],
    *,
    seed: int,
    capacity: int,
    rows: int,
) -> Callable[[int, int, Members], list[list[Positions]]]:
    """Return what forms windows of packed rows; see :class:`WindowPlan`.

    Parameters
    ----------
    length : callable
        Gives the lengths of samples.
    check : callable
        Raises for a sample that is longer than a row.
    seed : int
        Decides between equal samples, and the order of the rows.
    capacity : int
        Length of a row.
    rows : int
        Rows of a batch, at most; a window's batches have equally many but for one.
    """

    def form(epoch: int, number: int, members: Members) -> list[list[Positions]]:
        sizes = length(members)
        check(members, [Budget(sizes, capacity)])
        with np.errstate(over="ignore"):
            salt = np.uint64(derive_key(f"ties of window {number}", seed, epoch))
            ties = scramble(members.positions.astype(np.uint64) + salt)
        packs = form_packs(np.lexsort((ties, -sizes)), sizes, capacity)
        key = derive_key(f"batches of window {number}", seed, epoch)
        order = arrange(len(packs), key)
        count = -(-len(packs) // rows)
        edges = [len(packs) * i // count for i in range(count + 1)]
        runs = itertools.pairwise(edges)
        return [[packs[i] for i in order[a:b].tolist()] for a, b in runs]

    return form
