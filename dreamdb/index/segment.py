"""Segments: the codes of one group of rows, sorted by cell, in blocks of 32.

Source: design/0018 section 6.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamdb.errors import FormatError
from dreamdb.index.centroids import assign_cells
from dreamdb.objects import PAGE_SIZE, OpenedObject
from dreamdb.types import Bytes
from dreamdb.vectors import Codec, padded_dim
from dreamdb.vectors.engine import encode_residuals
from dreamdb.vectors.rabitq import Codes
from dreamdb.vectors.rotation import rotation_of

__all__ = ["LANES", "Segment", "block_type", "encode_segment", "refine_type"]

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

MAGIC: Final = b"DDX1"
LANES: Final = 32
_HEADER: Final = struct.Struct("<4sIIIIIQ32x")
_LIMIT: Final = float(2**40)


def block_type(dim: int) -> np.dtype[Any]:
    """Return the layout of a block: 32 vectors side by side, word by word."""
    words = padded_dim(dim) // 64
    return np.dtype(
        [
            ("row", "<u4", LANES),
            ("add", "<f4", LANES),
            ("factor", "<f4", LANES),
            ("code", "<u8", (words, LANES)),
        ]
    )


def refine_type(codec: Codec) -> np.dtype[Any]:
    """Return the layout of a row of finer codes."""
    nbytes = padded_dim(codec.dim) * codec.bits // 8
    return np.dtype([("add", "<f4"), ("factor", "<f4"), ("code", "u1", (nbytes,))])


def _factors(codes: Codes, metric: str) -> tuple[Floats, Floats]:
    """Return what is added and what multiplies the inner product: smaller sums are nearer."""
    scale = np.where(codes.inner > 0, codes.squares / np.where(codes.inner > 0, codes.inner, 1), 0)
    if metric == "dot":
        return np.zeros(len(scale), np.float32), (-scale).astype(np.float32)
    add = codes.squares + 2 * scale * codes.centre
    return add.astype(np.float32), (-2 * scale).astype(np.float32)


def encode_segment(
    vectors: Floats,
    rows: Positions,
    span: int,
    codec: Codec,
    metric: str,
    centroids: Floats,
    rotated: Floats,
) -> list[Bytes] | None:
    """Return the payload of a segment, in pieces.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
        Of the metric: for ``cosine`` of length 1.
    rows : ndarray of int64, shape (n,)
        Where each stands in its group.
    span : int
        Rows of the group, nulls included.
    codec : Codec
        The finer code; 1 bit has none.
    metric : str
        ``cosine``, ``dot`` or ``l2``.
    centroids, rotated : ndarray of float32, shape (k, dim) and (k, size)
        The cells.

    Returns
    -------
    list of bytes-like or None
        None when a number is too large or too small for float32 squares: such a group is searched
        exactly.
    """
    largest = np.abs(vectors).max(axis=1, initial=0)
    if ((largest > _LIMIT) | ((largest > 0) & (largest < 1 / _LIMIT))).any():
        return None
    rotation = rotation_of(codec.seed, codec.dim)
    cells = assign_cells(vectors, centroids)
    order = np.argsort(cells, kind="stable")
    cells, vectors = cells[order], vectors[order]
    edges = np.searchsorted(cells, np.arange(len(centroids) + 1)).astype("<u4")
    count = len(vectors)
    blocks = np.zeros(-(-count // LANES), block_type(codec.dim))
    coarse = encode_residuals(rotation, vectors, 1, rotated, cells)
    add, factor = _factors(coarse, metric)
    for name, values in (("row", rows[order]), ("add", add), ("factor", factor)):
        padded = np.zeros(len(blocks) * LANES, blocks.dtype[name].base)
        padded[:count] = values
        blocks[name] = padded.reshape(-1, LANES)
    words = np.zeros((len(blocks) * LANES, rotation.size // 64), "<u8")
    words[:count] = coarse.codes.view("<u8")
    blocks["code"] = words.reshape(len(blocks), LANES, -1).transpose(0, 2, 1)
    refine = np.zeros(count if codec.bits > 1 else 0, refine_type(codec))
    if codec.bits > 1:
        fine = encode_residuals(rotation, vectors, codec.bits, rotated, cells)
        refine["add"], refine["factor"] = _factors(fine, metric)
        refine["code"] = fine.codes
    table = edges.tobytes()
    table += bytes(-len(table) % 64)
    head = _HEADER.pack(MAGIC, codec.dim, len(centroids), count, codec.bits, 0, span)
    return [head, table, blocks.tobytes(), refine.tobytes()]


class Segment:
    """A segment opened for reading; its bytes are verified as cells and rows are touched.

    Parameters
    ----------
    opened : OpenedObject
        The object.
    codec : Codec
        The finer code.
    cells : int
        How many cells there must be.
    span : int or None
        Rows of the group it stands for; None takes what the segment says.
    """

    def __init__(self, opened: OpenedObject, codec: Codec, cells: int, span: int | None) -> None:
        self._opened = opened
        payload = opened.payload
        if opened.nbytes < _HEADER.size:
            raise FormatError("an index segment is shorter than its header")
        opened.verify(0, _HEADER.size)
        magic, dim, num_cells, count, bits, zero, rows = _HEADER.unpack_from(payload)
        if magic != MAGIC or zero or (dim, num_cells, bits) != (codec.dim, cells, codec.bits):
            raise FormatError("an index segment is not of its index")
        if span not in (None, rows) or count > rows:
            raise FormatError("an index segment is of other rows")
        table = -(-4 * (cells + 1) // 64) * 64
        own = block_type(dim)
        self.rows = count
        self.blocks_at = _HEADER.size + table
        num_blocks = -(-count // LANES)
        self.refine_at = self.blocks_at + num_blocks * own.itemsize
        fine = refine_type(codec)
        num_fine = count if bits > 1 else 0
        if opened.nbytes != self.refine_at + num_fine * fine.itemsize:
            raise FormatError("an index segment has another length than its header says")
        opened.verify(_HEADER.size, self.blocks_at)
        edges = np.frombuffer(payload, "<u4", cells + 1, _HEADER.size).astype(np.int64)
        if edges[0] or edges[-1] != count or (edges[1:] < edges[:-1]).any():
            raise FormatError("an index segment has cells out of order")
        self.edges: Positions = edges
        self.span: int = rows
        self.blocks = np.frombuffer(payload, own, num_blocks, self.blocks_at)
        self.refine = np.frombuffer(payload, fine, num_fine, self.refine_at)
        self._seen = np.zeros(cells, np.bool_)

    @property
    def nbytes(self) -> int:
        """Length of the payload."""
        return int(self._opened.nbytes)

    @property
    def blocks_address(self) -> int:
        """Where the blocks lie in this process's memory."""
        return int(self.blocks.__array_interface__["data"][0])

    @property
    def refine_address(self) -> int:
        """Where the finer codes lie in this process's memory."""
        return int(self.refine.__array_interface__["data"][0])

    def verify_cells(self, cells: Positions) -> None:
        """Check the bytes of some cells, each once; their rows must lie in the group."""
        missing = cells[~self._seen[cells]]
        if not len(missing):
            return
        missing = missing[self.edges[missing] < self.edges[missing + 1]]
        if len(missing):
            steps = np.zeros(len(self.blocks) + 1, np.int64)
            np.add.at(steps, self.edges[missing] // LANES, 1)
            np.add.at(steps, -(-self.edges[missing + 1] // LANES), -1)
            touched = np.flatnonzero(np.cumsum(steps)[:-1])
            self._verify_blocks(touched)
            if int(self.blocks["row"][touched].max()) >= self.span:
                raise FormatError("an index segment names rows outside its group")
        self._seen[cells] = True

    def _verify_blocks(self, touched: Positions) -> None:
        """Check some blocks, in runs of pages that follow one another."""
        width = self.blocks.dtype.itemsize
        first = (self.blocks_at + touched * width) // PAGE_SIZE
        last = (self.blocks_at + (touched + 1) * width - 1) // PAGE_SIZE
        gaps = np.flatnonzero(first[1:] > last[:-1] + 1) + 1
        starts, stops = [0, *gaps.tolist()], [*gaps.tolist(), len(touched)]
        for low, high in zip(starts, stops, strict=True):
            begin, end = int(first[low]), int(last[high - 1]) + 1
            self._opened.verify(begin * PAGE_SIZE, min(end * PAGE_SIZE, self._opened.nbytes))

    def verify_refine(self, slots: Positions) -> None:
        """Check the finer codes of some vectors."""
        if self._opened.verified:
            return
        width = self.refine.dtype.itemsize
        for at in (self.refine_at + slots * width).tolist():
            self._opened.verify(at, at + width)

    def verify_all(self) -> None:
        """Check every byte."""
        self._opened.view()
        self.verify_cells(np.arange(len(self.edges) - 1))
