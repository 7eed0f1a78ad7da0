"""Spatial indexes: the centroids of an inverted file, and their training.

Source: design/0018 section 5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from dreamdb.errors import FormatError, InvalidInputError
from dreamdb.index.root import METRICS
from dreamdb.objects import Kind, address_of
from dreamdb.types import Address, Bytes

__all__ = ["SpatialIndex", "assign_cells", "normalised", "train_centroids"]

Floats = npt.NDArray[np.float32]

MAGIC: Final = b"DDS1"
MAX_CELLS: Final = 1 << 20
_HEADER: Final = struct.Struct("<4sIIB51x")
_BLOCK: Final = 8_192
_PER_CELL: Final = 256


@dataclass(frozen=True)
class SpatialIndex:
    """The centroids of the cells.

    Parameters
    ----------
    centroids : ndarray of float32, shape (k, dim)
        One per cell.
    metric : str
        What they were trained for; for ``cosine`` the vectors were brought to length 1.
    """

    centroids: Floats
    metric: str

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.centroids.shape[1])

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.centroids)

    def encode(self) -> bytes:
        """Return the payload of the spatial-index object."""
        head = _HEADER.pack(MAGIC, self.dim, self.cells, METRICS.index(self.metric))
        return head + np.ascontiguousarray(self.centroids, "<f4").tobytes()

    @property
    def address(self) -> Address:
        """The object's name: the same in every space."""
        return address_of(Kind.SPATIAL_INDEX, [self.encode()])

    @classmethod
    def decode(cls, payload: Bytes) -> SpatialIndex:
        """Parse and check a spatial-index object."""
        view = memoryview(payload).cast("B")
        if view.nbytes < _HEADER.size or bytes(view[:4]) != MAGIC:
            raise FormatError("a spatial index does not begin with its magic")
        _, dim, cells, metric = _HEADER.unpack_from(view)
        if bytes(view[13 : _HEADER.size]).strip(b"\0") or metric >= len(METRICS):
            raise FormatError("a spatial index has a malformed header")
        if not (dim and cells) or view.nbytes != _HEADER.size + 4 * dim * cells:
            raise FormatError("a spatial index has another length than its header says")
        centroids = np.frombuffer(view, "<f4", dim * cells, _HEADER.size).reshape(cells, dim)
        if not np.isfinite(centroids).all():
            raise FormatError("a spatial index holds NaN or infinity")
        return cls(centroids, METRICS[metric])


def normalised(vectors: Floats) -> Floats:
    """Return vectors of length 1; zero vectors stay zero."""
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    norms = np.sqrt(squares)[:, None]
    out: Floats = (vectors / np.where(norms == 0, 1.0, norms)).astype(np.float32)
    return out


def assign_cells(vectors: Floats, centroids: Floats) -> npt.NDArray[np.int64]:
    """Return the nearest centroid of each vector."""
    squares = np.einsum("ij,ij->i", centroids, centroids)
    turned = np.ascontiguousarray(centroids.T)
    out = np.empty(len(vectors), np.int64)
    for at in range(0, len(vectors), _BLOCK):
        part = vectors[at : at + _BLOCK]
        out[at : at + _BLOCK] = np.argmin(squares - np.float32(2) * (part @ turned), axis=1)
    return out


def train_centroids(
    sample: npt.ArrayLike,
    dim: int,
    cells: int,
    *,
    iterations: int = 8,
    seed: int = 0,
    metric: str = "cosine",
) -> SpatialIndex:
    """Return centroids by Lloyd's k-means.

    Parameters
    ----------
    sample : array-like of float32, shape (n, dim)
        Vectors; of more than 256 per cell, that many are chosen by the seed.
    dim : int
        Length of a vector.
    cells : int
        How many centroids.
    iterations : int
        Rounds of assigning and averaging.
    seed : int
        Chooses the first centroids.
    metric : str
        ``cosine`` brings the vectors to length 1 first.

    Raises
    ------
    InvalidInputError
        For NaN, infinity, another dimension, or fewer vectors than cells.

    Notes
    -----
    The same arguments give the same centroids on one machine and numpy; matrix products round
    differently on others.
    """
    vectors = _check_sample(sample, dim)
    if isinstance(cells, bool) or not isinstance(cells, (int, np.integer)) or cells < 1:
        raise InvalidInputError(f"the number of cells must be a positive integer, not {cells!r}")
    if cells > min(len(vectors), MAX_CELLS):
        raise InvalidInputError(
            f"{len(vectors)} vectors cannot make {cells} cells",
            hint="give at least as many vectors as cells; 40 to 256 per cell train well",
        )
    if metric not in METRICS:
        raise InvalidInputError(f"there is no metric {metric!r}", hint=f"use one of {METRICS}")
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 0:
        raise InvalidInputError(f"iterations must be a number of rounds, not {iterations!r}")
    order = _shuffled(len(vectors), seed)
    vectors = vectors[np.sort(order[: cells * _PER_CELL])]
    if metric == "cosine":
        vectors = normalised(vectors)
    order = _shuffled(len(vectors), seed)
    centroids = vectors[order[:cells]].copy()
    for _ in range(iterations):
        centroids = _average(vectors, assign_cells(vectors, centroids), centroids, order)
    return SpatialIndex(centroids, metric)


def _check_sample(sample: npt.ArrayLike, dim: int) -> Floats:
    try:
        vectors = np.ascontiguousarray(sample, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"the sample holds no vectors: {error}") from None
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise InvalidInputError(f"the sample has shape {vectors.shape}, not (n, {dim})")
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidInputError(f"row {row} of the sample holds NaN or infinity", row=row)
    if len(vectors) and float(np.abs(vectors).max()) > 2.0**40:
        raise InvalidInputError("the sample holds numbers above 2**40; scale the vectors")
    return vectors


def _shuffled(count: int, seed: int) -> npt.NDArray[np.int64]:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 64:
        raise InvalidInputError(f"{seed!r} is not a seed from 0 to 2**64 - 1")
    stream = blake3(b"dreamdb k-means\0" + seed.to_bytes(8, "little")).digest(length=8 * count)
    return np.argsort(np.frombuffer(stream, "<u8"), kind="stable")


def _average(
    vectors: Floats, cells: npt.NDArray[np.int64], old: Floats, order: npt.NDArray[np.int64]
) -> Floats:
    """Return the means of the cells; an empty one takes the next vector of the shuffled order."""
    counts = np.bincount(cells, minlength=len(old))
    full = np.flatnonzero(counts)
    by_cell = np.argsort(cells, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    out = old.copy()
    for cell in full.tolist():
        members = by_cell[starts[cell] : starts[cell] + counts[cell]]
        out[cell] = np.add.reduce(vectors[members].astype(np.float64), axis=0) / counts[cell]
    empty = np.flatnonzero(counts == 0)
    crowded = order[np.argsort(-counts[cells[order]], kind="stable")]
    out[empty] = vectors[crowded[: len(empty)]]
    return out
