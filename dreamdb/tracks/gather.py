"""Gathering: values at any rows, in the order asked for.

Source: design/0002 section 6 (random access).  Rows are grouped by fragment and copied from the
fragments' buffers with numpy; Arrow's own take over chunked arrays is far slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array, rows_of_lists
from dreamdb.tracks.addressed import (
    AddressedBlobs,
    AddressedRows,
    addressed_blobs,
    addressed_rows,
)
from dreamdb.tracks.buffers import empty
from dreamdb.tracks.track import Track
from dreamdb.types import BLOB_KINDS
from dreamdb.vectors import decode_rows, parse_codec

__all__ = [
    "NUMPY_KINDS",
    "decode_gathered",
    "gather",
    "gather_list",
    "gather_numpy",
    "increasing",
    "validity",
    "vectors_of",
]

Positions = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_NUMBERS = {"int": np.int64, "float": np.float64, "timestamp": np.int64, "anchor": np.uint64}
_SMALL_NBYTES: Final = 8 << 20
_SMALL_ROWS: Final = 1 << 20
NUMPY_KINDS = frozenset({*_NUMBERS, "bool", "embedding", "tensor"})
"""Kinds of fields whose values :func:`gather_numpy` returns."""


def gather(track: Track, rows: Positions) -> pa.Array:
    """Return a track's values at some rows.

    Parameters
    ----------
    track : Track
        Where to read.
    rows : ndarray of int64
        Rows of the timeline, in any order; repeats are allowed.

    Returns
    -------
    Array
        Of the logical type, in the order of ``rows``.

    Notes
    -----
    Cost: 1 object open per fragment touched, cached; of plain values only the touched pages are
    verified.
    """
    if not len(rows):
        return pa.nulls(0, track.arrow)
    kind = track.ftype.kind
    direct = _direct(track, rows)
    if direct is not None:
        return direct
    rows, order = increasing(rows)
    if kind in BLOB_KINDS:
        return _gather_blobs(track, rows, order)
    if kind in _NUMBERS:
        return _gather_numbers(track, rows, order, np.dtype(_NUMBERS[kind]))
    if kind in ("embedding", "tensor"):
        return _gather_vectors(track, rows, order)
    return _gather_any(track, rows, order)


def _access(track: Track) -> AddressedRows | AddressedBlobs | pa.Array | bool:
    """Return what gives random access to a track as a whole; False when nothing does."""
    access = track.random_access
    if access is None:
        ftype = track.ftype
        if ftype.kind in BLOB_KINDS:
            access = addressed_blobs(track)
        elif ftype.kind in ("embedding", "tensor"):
            dtype = np.dtype(ftype.dtype or np.float32)
            access = addressed_rows(track, dtype, track.arrow.list_size)
        elif ftype.kind in _NUMBERS:
            access = addressed_rows(track, np.dtype(_NUMBERS[ftype.kind]), 0)
        elif track.nbytes <= _SMALL_NBYTES and track.rows <= _SMALL_ROWS:
            access = pa.concat_arrays(track.chunks(0, track.rows))
        track.random_access = access = False if access is None else access
    return access


def _direct(track: Track, rows: Positions) -> pa.Array | None:
    """Return values by one indexing operation; None when the track does not allow it."""
    access = _access(track)
    if isinstance(access, pa.Array):
        return access.take(numbers_array(rows))
    if isinstance(access, AddressedBlobs):
        found = access.take(rows)
        return None if found is None else _bytes_array(*found, None)
    values = _direct_numpy(track, rows)
    if values is None:
        return None
    if values.ndim == 1:
        return pa.Array.from_buffers(track.arrow, len(values), [None, pa.py_buffer(values)], 0)
    child = pa.Array.from_buffers(
        track.arrow.value_type, values.size, [None, pa.py_buffer(values.reshape(-1))], 0
    )
    return pa.Array.from_buffers(track.arrow, len(values), [None], 0, children=[child])


def _direct_numpy(track: Track, rows: Positions) -> npt.NDArray[Any] | None:
    access = _access(track)
    return access.take(rows) if isinstance(access, AddressedRows) else None


def gather_list(track: Track, rows: Positions) -> list[Any]:
    """Return a track's values at some rows as Python objects.

    Parameters
    ----------
    track, rows
        As in :func:`gather`.

    Returns
    -------
    list
        In the order of ``rows``; None where there is no value.
    """
    if len(rows) and track.ftype.kind in BLOB_KINDS:
        access = _access(track)
        found = access.take_each(rows) if isinstance(access, AddressedBlobs) else None
        if found is not None:
            return found
    out: list[Any] = gather(track, rows).to_pylist()
    return out


def increasing(rows: Positions) -> tuple[Positions, Positions | None]:
    """Return rows sorted, and where each of them stood; None when they were sorted already."""
    if len(rows) < 2 or bool((rows[1:] >= rows[:-1]).all()):
        return rows, None
    order = np.argsort(rows, kind="stable")
    return rows[order], order


def gather_numpy(
    track: Track, rows: Positions, order: Positions | None = None
) -> tuple[npt.NDArray[Any], Bools | None]:
    """Return a track's numbers or vectors at some rows without building Arrow arrays.

    Parameters
    ----------
    track : Track
        Of one of :data:`NUMPY_KINDS`.
    rows : ndarray of int64, shape (n,)
        Increasing rows of the timeline; see :func:`increasing`.
    order : ndarray of int64, shape (n,), optional
        Where the value of each row goes; default: as ``rows`` stand.

    Returns
    -------
    values : ndarray, shape (n,), (n, dim) or (n, *shape)
        Owned by the caller: int64 (timestamps: nanoseconds), float64, bool, uint64 (anchors),
        float32 (embeddings), or a tensor's own type.  Zero where there is no value.
    valid : ndarray of bool, shape (n,), or None
        Which rows have a value; None when all have.

    Notes
    -----
    Cost: 1 object open per fragment touched, cached; of plain values only the touched pages are
    verified.
    """
    ftype = track.ftype
    if ftype.kind == "bool":
        return _gather_bools(track, rows, order)
    if len(rows):
        asked = rows
        if order is not None:
            asked = np.empty_like(rows)
            asked[order] = rows
        direct = _direct_numpy(track, asked)
        if direct is not None:
            shape = ftype.shape if ftype.kind == "tensor" else direct.shape[1:]
            return direct.reshape(len(rows), *(shape or ())), None
    if ftype.kind in _NUMBERS:
        dtype = np.dtype(_NUMBERS[ftype.kind])
        return _gather_fixed(track, rows, order, dtype)
    size = track.arrow.list_size
    out, valid = _gather_fixed(track, rows, order, np.dtype(ftype.dtype or np.float32), size)
    return out.reshape(len(rows), *(ftype.shape or (size,))), valid


def decode_gathered(track: Track, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what :func:`gather_numpy` gave with codes as the vectors they stand for."""
    declared = track.declared
    if declared.codec is None:
        return values
    return decode_rows(parse_codec(declared.codec, declared.dim), values)


def vectors_of(track: Track, array: pa.Array) -> npt.NDArray[np.float32]:
    """Return a slice of an embedding's track as vectors, shape (n, dim); zeros under nulls."""
    declared = track.declared
    if declared.codec is None:
        return rows_of_lists(array, np.float32)
    rows = rows_of_lists(array, np.uint8)
    return decode_rows(parse_codec(declared.codec, declared.dim), rows)


def validity(array: pa.Array) -> npt.NDArray[np.bool_]:
    """Return which values of an array are not null."""
    bitmap = array.buffers()[0]
    if bitmap is None or not array.null_count:
        return np.ones(len(array), np.bool_)
    bits = np.unpackbits(
        np.frombuffer(bitmap, np.uint8), count=array.offset + len(array), bitorder="little"
    )
    return bits[array.offset :].astype(np.bool_)


def _mask_buffer(valid: npt.NDArray[np.bool_] | None) -> tuple[pa.Buffer | None, int]:
    if valid is None:
        return None, 0
    return pa.py_buffer(np.packbits(valid, bitorder="little")), int(len(valid) - valid.sum())


def _gather_fixed(
    track: Track,
    rows: Positions,
    order: Positions | None,
    dtype: np.dtype[Any],
    size: int = 0,
) -> tuple[npt.NDArray[Any], Bools | None]:
    """Gather numbers, or with a ``size`` vectors of so many elements."""
    out = empty((len(rows), size) if size else (len(rows),), dtype)
    valid: Bools | None = None
    for begin, end, index, inside in track.groups(rows):
        fragment = track.fragment_at(index)
        where = slice(begin, end) if order is None else order[begin:end]
        if fragment is None:
            valid = np.ones(len(rows), np.bool_) if valid is None else valid
            valid[where] = False
            out[where] = 0
            continue
        fragment.verify_rows(inside)
        array = fragment.array
        buffer = (array.values if size else array).buffers()[1]
        values = np.frombuffer(buffer, dtype, fragment.decoded.rows * max(1, size))
        if size:
            values = values.reshape(-1, size)
        if order is None:
            np.take(values, inside, axis=0, out=out[begin:end], mode="clip")
        else:
            out[where] = values[inside]
        if array.null_count:
            valid = np.ones(len(rows), np.bool_) if valid is None else valid
            valid[where] = validity(array)[inside]
    return out, valid


def _gather_bools(
    track: Track, rows: Positions, order: Positions | None
) -> tuple[Bools, Bools | None]:
    out = np.empty(len(rows), np.bool_)
    valid: Bools | None = None
    for begin, end, index, inside in track.groups(rows):
        fragment = track.fragment_at(index)
        where = slice(begin, end) if order is None else order[begin:end]
        if fragment is None or fragment.array.null_count:
            valid = np.ones(len(rows), np.bool_) if valid is None else valid
            valid[where] = False if fragment is None else validity(fragment.array)[inside]
        if fragment is None:
            out[where] = False
            continue
        fragment.verify_rows(inside)
        bits = np.frombuffer(fragment.array.buffers()[1], np.uint8)
        at = inside + fragment.array.offset
        out[where] = (bits[at >> 3] >> (at & 7).astype(np.uint8)) & 1
    return out, valid


def _gather_numbers(
    track: Track, rows: Positions, order: Positions | None, dtype: np.dtype[Any]
) -> pa.Array:
    out, valid = _gather_fixed(track, rows, order, dtype)
    bitmap, nulls = _mask_buffer(valid)
    return pa.Array.from_buffers(track.arrow, len(rows), [bitmap, pa.py_buffer(out)], nulls)


def _gather_vectors(track: Track, rows: Positions, order: Positions | None) -> pa.Array:
    item, size = track.arrow.value_type, track.arrow.list_size
    dtype = np.dtype(track.ftype.dtype or np.float32)
    out, valid = _gather_fixed(track, rows, order, dtype, size)
    bitmap, nulls = _mask_buffer(valid)
    child = pa.Array.from_buffers(item, len(rows) * size, [None, pa.py_buffer(out)])
    return pa.Array.from_buffers(track.arrow, len(rows), [bitmap], nulls, children=[child])


def _gather_blobs(track: Track, rows: Positions, order: Positions | None) -> pa.Array:
    count = len(rows)
    pieces: list[memoryview | bytes] = [b""] * count
    lengths = np.zeros(count, np.int64)
    valid: npt.NDArray[np.bool_] | None = None
    slots = np.arange(count) if order is None else order
    for begin, end, index, inside in track.groups(rows):
        fragment = track.fragment_at(index)
        where = slots[begin:end]
        if fragment is None:
            valid = np.ones(count, np.bool_) if valid is None else valid
            valid[where] = False
            continue
        fragment.verify_rows(inside)
        array, offsets = fragment.array, fragment.decoded.offsets
        assert offsets is not None
        data = memoryview(array.buffers()[2] or b"")
        starts, stops = offsets[inside], offsets[inside + 1]
        lengths[where] = stops - starts
        for slot, start, stop in zip(where.tolist(), starts.tolist(), stops.tolist(), strict=True):
            pieces[slot] = data[start:stop]
        if array.null_count:
            valid = np.ones(count, np.bool_) if valid is None else valid
            valid[where] = validity(array)[inside]
    return _joined(pieces, lengths, valid)


def _joined(
    pieces: Sequence[memoryview | bytes], lengths: Positions, valid: Bools | None
) -> pa.Array:
    """Return values of varying length as one array."""
    count = len(pieces)
    edges = np.zeros(count + 1, np.int64)
    np.cumsum(lengths, out=edges[1:])
    return _bytes_array(b"".join(pieces), edges, valid)


def _bytes_array(
    data: bytes | npt.NDArray[np.uint8], edges: Positions, valid: Bools | None
) -> pa.Array:
    """Return values that lie one after the other as one array."""
    count = len(edges) - 1
    bitmap, nulls = _mask_buffer(valid)
    if int(edges[-1]) < 1 << 31:
        buffers = [bitmap, pa.py_buffer(edges.astype(np.int32)), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.binary(), count, buffers, nulls)
    large = pa.Array.from_buffers(
        pa.large_binary(), count, [bitmap, pa.py_buffer(edges), pa.py_buffer(data)], nulls
    )
    # More than 2 GiB in one array: the caller asked for too many rows at once.
    return large.cast(pa.binary())


def _gather_any(track: Track, rows: Positions, order: Positions | None) -> pa.Array:
    parts = []
    for _, _, index, inside in track.groups(rows):
        fragment = track.fragment_at(index)
        if fragment is None:
            parts.append(pa.nulls(len(inside), track.arrow))
        else:
            fragment.verify_rows(inside)
            parts.append(fragment.array.take(_indices(inside)))
    joined = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
    if order is None:
        return joined
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return joined.take(_indices(back))


def _indices(rows: Positions) -> pa.Array:
    # pa.array imports pandas where it is installed.
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows)])
