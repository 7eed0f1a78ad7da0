"""Estimating distances from codes: in numpy, or compiled with the same numbers.

All sums are integers and every float32 operation stands in one order, so both engines keep the
same candidates.  A query becomes signed integers twice: of 4 bits for the coarse codes, whose
inner products are then counts of bits, and of 12 bits for the finer ones.

Source: design/0018 section 7.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from dreamdb.index.segment import LANES, Segment
from dreamdb.vectors.engine import count_work, rotate
from dreamdb.vectors.rotation import Rotation

__all__ = [
    "NOTHING",
    "CodedQuery",
    "Extents",
    "code_query",
    "compiled_scan",
    "members_of",
    "refine",
    "scan_extents",
]

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

NOTHING: Final = np.float32(np.inf)
_COARSE: Final = 7
_FINE: Final = 2_047


class CodedQuery(NamedTuple):
    """A rotated query as integers.

    Parameters
    ----------
    planes : ndarray of uint64, shape (4, words)
        Bits of the 4-bit numbers in two's complement, the lowest first.
    scale : float32
        Half of what a 4-bit unit is worth.
    total : int
        Sum of the 4-bit numbers.
    fine : ndarray of int32, shape (size,)
        12-bit numbers.
    fine_scale : float32
        Half of what a 12-bit unit is worth.
    fine_total : int
        Sum of the 12-bit numbers.
    """

    planes: Words
    scale: np.float32
    total: int
    fine: npt.NDArray[np.int32]
    fine_scale: np.float32
    fine_total: int


class Extents(NamedTuple):
    """Cells of segments, in the order they are scanned.

    Parameters
    ----------
    table : ndarray of uint64, shape (n, 4)
        Address of the segment's blocks, first vector, number of vectors, first row of the group.
    offsets : ndarray of float32, shape (n,)
        What the query and the cell's centroid add to every estimate.
    segments : ndarray of int64, shape (n,)
        Which segment.
    """

    table: Words
    offsets: Floats
    segments: Positions


def compiled_scan(elements: int) -> Any:
    """Return the compiled scan when the kernels are loaded or worth loading, else None."""
    if count_work(elements) is None:
        return None
    from dreamdb.index import compiled

    return compiled


def members_of(numbers: Positions) -> list[int]:
    """Return the distinct numbers; numpy.unique would import numpy.ma, which takes 15 ms."""
    out: list[int] = np.flatnonzero(np.bincount(numbers)).tolist() if len(numbers) else []
    return out


def code_query(rotation: Rotation, query: Floats) -> CodedQuery:
    """Return a query as integers.

    Parameters
    ----------
    rotation : Rotation
        Of the index.
    query : ndarray of float32, shape (dim,)
        Of ordinary magnitude.
    """
    turned = rotate(rotation, query[None])[0]
    largest = np.float32(np.abs(turned).max())
    if largest == 0:
        largest = np.float32(1)
    unit, fine_unit = largest / np.float32(_COARSE), largest / np.float32(_FINE)
    small = np.rint(turned / unit).astype(np.int8)
    fine = np.rint(turned / fine_unit).astype(np.int32)
    bits = (small.view(np.uint8)[None, :] >> np.arange(4, dtype=np.uint8)[:, None]) & 1
    planes = np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)
    half = np.float32(0.5)
    return CodedQuery(
        np.ascontiguousarray(planes),
        np.float32(unit * half),
        int(small.sum(dtype=np.int64)),
        fine,
        np.float32(fine_unit * half),
        int(fine.sum(dtype=np.int64)),
    )


def scan_extents(
    segments: list[Segment],
    extents: Extents,
    first: int,
    query: CodedQuery,
    mask: npt.NDArray[np.uint8] | None,
    best: Floats,
    found: Positions,
    slots: Positions,
) -> int:
    """Keep the nearest vectors of some cells by their coarse codes.

    Parameters
    ----------
    segments : list of Segment
        All of the index; the cells are verified.
    extents : Extents
        Which cells.
    first : int
        Number of the first extent among all that are scanned for this query.
    query : CodedQuery
        The query.
    mask : ndarray of uint8, optional
        A bit per row of the timeline, least significant first: which rows count.
    best : ndarray of float32, shape (pool,)
        Smallest estimates so far, as a heap with the largest in front; infinity where none is.
    found : ndarray of int64, shape (pool,)
        Row of each.
    slots : ndarray of int64, shape (pool,)
        Extent and vector of each: ``extent << 32 | vector``.

    Returns
    -------
    int
        How many vectors counted.

    Notes
    -----
    Of equal estimates the earlier row stays.
    """
    words = query.planes.shape[1]
    kernels = compiled_scan(int(extents.table[:, 2].sum()) * words * 8)
    if kernels is not None:
        bits = np.zeros(1, np.uint8) if mask is None else mask
        seen: int = kernels.scan_extents(
            extents.table,
            extents.offsets,
            first,
            words,
            query.planes,
            query.scale,
            query.total,
            bits,
            mask is not None,
            best,
            found,
            slots,
        )
        return seen
    new_slots, rows, estimates = _estimates(segments, extents, first, query, mask)
    limit = best[0]
    if len(estimates) > len(best):
        # Whatever is above this cannot stay; the rest is few enough to sort.
        limit = min(limit, np.partition(estimates, len(best) - 1)[len(best) - 1])
    keep = estimates <= limit
    values = np.concatenate([best, estimates[keep]])
    all_rows = np.concatenate([found, rows[keep]])
    all_slots = np.concatenate([slots, new_slots[keep]])
    # Sorted from the worst to the best, which is a heap.
    kept = np.lexsort((all_rows, values))[: len(best)][::-1]
    best[:], found[:], slots[:] = values[kept], all_rows[kept], all_slots[kept]
    return len(rows)


def _estimates(
    segments: list[Segment],
    extents: Extents,
    first: int,
    query: CodedQuery,
    mask: npt.NDArray[np.uint8] | None,
) -> tuple[Positions, Positions, Floats]:
    """Return slots, rows and estimates of all vectors that count, segment by segment."""
    slots: list[Positions] = [np.empty(0, np.int64)]
    rows_of: list[Positions] = [np.empty(0, np.int64)]
    estimates: list[Floats] = [np.empty(0, np.float32)]
    for number in members_of(extents.segments):
        mine = np.flatnonzero(extents.segments == number)
        low = extents.table[mine, 1].astype(np.int64)
        counts = extents.table[mine, 2].astype(np.int64)
        if not counts.sum():
            continue
        which = np.repeat(np.arange(len(mine)), counts)
        inside = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        vectors = low[which] + inside
        used = np.zeros(len(segments[number].blocks), np.bool_)
        used[vectors // LANES] = True
        blocks = segments[number].blocks[used]
        place = (np.cumsum(used) - 1)[vectors // LANES]
        lanes = vectors % LANES
        rows = blocks["row"][place, lanes] + int(extents.table[mine[0], 3])
        if mask is not None:
            alive = (mask[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1 == 1
            which, vectors, place, lanes = which[alive], vectors[alive], place[alive], lanes[alive]
            rows = rows[alive]
        sums = np.zeros((len(blocks), LANES), np.int64)
        for plane, weight in enumerate((1, 2, 4, -8)):
            shared = blocks["code"] & query.planes[plane][None, :, None]
            sums += weight * np.bitwise_count(shared).sum(axis=1, dtype=np.int64)
        share = (2 * sums - query.total).astype(np.float32)[place, lanes]
        offsets = extents.offsets[mine][which]
        estimate = blocks["add"][place, lanes] + (
            offsets + blocks["factor"][place, lanes] * (query.scale * share)
        )
        slots.append(((mine[which] + first) << 32) | vectors)
        rows_of.append(rows)
        estimates.append(estimate.astype(np.float32))
    return np.concatenate(slots), np.concatenate(rows_of), np.concatenate(estimates)


def refine(
    segments: list[Segment],
    bases: Words,
    numbers: Positions,
    vectors: Positions,
    offsets: Floats,
    query: CodedQuery,
    bits: int,
) -> Floats:
    """Return estimates by the finer codes.

    Parameters
    ----------
    segments : list of Segment
        All of the index; the finer codes are verified.
    bases : ndarray of uint64
        Where the finer codes of each lie in memory.
    numbers, vectors : ndarray of int64, shape (n,)
        Which segment, and which of its vectors.
    offsets : ndarray of float32, shape (n,)
        What the query and the cell's centroid add.
    query : CodedQuery
        The query.
    bits : int
        Of the finer codes.
    """
    out = np.empty(len(vectors), np.float32)
    kernels = compiled_scan(0)
    if kernels is not None:
        width = segments[0].refine.dtype.itemsize
        addresses = bases[numbers] + (vectors * width).astype(np.uint64)
        kernels.refine_candidates(
            addresses, offsets, query.fine, query.fine_scale, query.fine_total, bits, out
        )
        return out
    per, top = 8 // bits, 2**bits - 1
    shifts = (np.arange(per) * bits).astype(np.uint8)
    for number in members_of(numbers):
        mine = numbers == number
        rows = segments[number].refine[vectors[mine]]
        levels = (rows["code"][:, :, None] >> shifts) & np.uint8(top)
        sums = levels.reshape(len(rows), -1).astype(np.float64) @ query.fine.astype(np.float64)
        share = (2 * sums.astype(np.int64) - top * query.fine_total).astype(np.float32)
        out[mine] = rows["add"] + (offsets[mine] + rows["factor"] * (query.fine_scale * share))
    return out
