"""Values of one fragment as a canonical payload.

A payload is an Arrow IPC stream: the schema message, for dictionaries the dictionary batch, one
record batch, and the end-of-stream marker ``ffffffff 00000000``.  Buffers lie in the body one
after the other, each followed by zeros up to a multiple of 8; the body of a dictionary batch is
filled with zeros up to a multiple of 64.  So every body starts at a multiple of 64.

The physical type depends on the field's kind and on the values only:

=============================  ====================================================================
image video audio binary       ``binary``
embedding, tensor              ``fixed_size_list`` of the element type
text                           ``string``
categorical                    dictionary (below), always
string                         dictionary when ``rows >= 64`` and ``4 * distinct <= rows`` and
                               ``distinct <= 32768``; else ``string``.  Nulls count as rows and are
                               no distinct value
int, timestamp                 the narrowest of int8, int16, int32, int64 that holds every value;
                               nulls count as 0
float                          ``double``
bool                           ``bool``
list, struct                   the logical type; nothing inside is narrowed
anchor                         differences ``d[0] = 0, d[i] = a[i] - a[i-1]`` in the narrowest of
                               uint8, uint16, uint32, uint64; the last anchor is the entry's key
=============================  ====================================================================

A dictionary holds the distinct values once each, in ascending order of their UTF-8 bytes.  The
indices are the narrowest of int8, int16, int32 that holds ``distinct - 1``; 0 under nulls; nulls
are in the indices' bitmap, never in the dictionary.

Source: design/0002 sections 6.1 and 6.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dreamdb.codecs.columns import Arrays, Bools, Column, fixed_values, joint_validity, validity_of
from dreamdb.codecs.logical import arrow_type, is_plain
from dreamdb.codecs.messages import ALIGNMENT, END_OF_STREAM, BatchSlots, stream_template
from dreamdb.codecs.statistics import (
    Bounds,
    empty_bounds,
    float_bounds,
    integer_bounds,
    string_bounds,
)
from dreamdb.errors import InvalidInputError
from dreamdb.types import STRING_KINDS, Bytes, FieldType

__all__ = ["MAX_FRAGMENT_NBYTES", "EncodedFragment", "encode"]

MAX_FRAGMENT_NBYTES: Final = 1 << 30
_SIGNED: Final = (np.int8, np.int16, np.int32, np.int64)
_UNSIGNED: Final = (np.uint8, np.uint16, np.uint32, np.uint64)
_ARROW_INT: Final = {
    np.dtype(code).name: dtype
    for code, dtype in (
        (np.int8, pa.int8()),
        (np.int16, pa.int16()),
        (np.int32, pa.int32()),
        (np.int64, pa.int64()),
        (np.uint8, pa.uint8()),
        (np.uint16, pa.uint16()),
        (np.uint32, pa.uint32()),
        (np.uint64, pa.uint64()),
    )
}
_MIN_DICTIONARY_ROWS: Final = 64
_ROWS_PER_DISTINCT: Final = 4
_MAX_DISTINCT: Final = 1 << 15


@dataclass(slots=True)
class EncodedFragment:
    """A payload in pieces, and what a tree entry says about it.

    Parameters
    ----------
    parts : list of bytes-like
        The payload; large pieces are views of the caller's memory.
    nbytes : int
        Length of the payload.
    compress : bool
        Whether the stored object should be compressed.
    rows, nulls : int
        Number of rows, and how many of them are null.
    stats : tuple of bytes
        Minimum and maximum, each :func:`~dreamdb.codecs.stats_width` bytes.
    """

    parts: list[Bytes]
    nbytes: int
    compress: bool
    rows: int
    nulls: int
    stats: Bounds


def encode(ftype: FieldType, chunks: Sequence[pa.Array[Any]]) -> EncodedFragment:
    """Encode the values of one fragment.

    Parameters
    ----------
    ftype : FieldType
        The field's type.
    chunks : sequence of pyarrow.Array
        Arrays of type ``arrow_type(ftype)`` as :func:`~dreamdb.codecs.coerce` returns them; slices
        are fine.  Their concatenation is the fragment.

    Returns
    -------
    EncodedFragment
        The same bytes for the same values, however they are chunked or sliced.

    Raises
    ------
    InvalidInputError
        When an array has another type, anchors do not rise, or the fragment is above 1 GiB.
    """
    wanted = arrow_type(ftype)
    for chunk in chunks:
        if chunk.type != wanted:
            raise InvalidInputError(f"values of type {chunk.type} given for a field of {wanted}")
    arrays = [chunk for chunk in chunks if len(chunk)]
    rows = sum(map(len, arrays))
    column = Column()
    stats = empty_bounds(ftype)
    if ftype.kind in ("int", "timestamp"):
        physical, stats = _encode_integers(column, arrays)
    elif ftype.kind == "anchor":
        physical, stats = _encode_anchors(column, arrays)
    elif ftype.kind in STRING_KINDS:
        return _encode_strings(ftype, arrays, rows)
    else:
        physical = wanted
        column.add_arrays(wanted, arrays)
        if column.nodes[1] < rows and ftype.kind == "bool":
            stats = _bool_stats(arrays)
        elif column.nodes[1] < rows and ftype.kind == "float":
            stats = float_bounds(_present(arrays, np.float64))
    return _assemble(ftype, physical, [column], stats)


def _assemble(
    ftype: FieldType, physical: pa.DataType, columns: Sequence[Column], stats: Bounds
) -> EncodedFragment:
    """Put heads, buffers and padding together; the last column is that of the record batch."""
    template = stream_template(physical)
    parts: list[Bytes] = []
    nbytes = 0
    for batch, column in zip(template.batches, columns, strict=True):
        slots: list[int] = []
        body: list[Bytes] = []
        at = 0
        for pieces in column.buffers:
            length = 0
            for piece in pieces:
                length += memoryview(piece).nbytes
            slots += (at, length)
            body += pieces
            padding = -length % 8
            if padding:
                body.append(bytes(padding))
            at += length + padding
        if column is not columns[-1] and at % ALIGNMENT:
            body.append(bytes(-at % ALIGNMENT))
            at += -at % ALIGNMENT
        head = batch.fill(BatchSlots(at, column.nodes[0], tuple(column.nodes), tuple(slots)))
        parts.append(head)
        parts += body
        nbytes += len(head) + at
    parts.append(END_OF_STREAM)
    nbytes += len(END_OF_STREAM)
    rows, nulls = columns[-1].nodes[:2]
    if nbytes > MAX_FRAGMENT_NBYTES:
        raise _too_large(nbytes, rows)
    return EncodedFragment(parts, nbytes, not is_plain(ftype), rows, nulls, stats)


def _too_large(nbytes: int, rows: int) -> InvalidInputError:
    if rows == 1:
        return InvalidInputError(
            f"one value of {nbytes} bytes is above the limit of {MAX_FRAGMENT_NBYTES}",
            hint="split it, or store a reference to it",
            nbytes=nbytes,
        )
    return InvalidInputError(
        f"a fragment of {rows} rows has {nbytes} bytes, above the limit of {MAX_FRAGMENT_NBYTES}",
        hint="give the field a smaller rows_per_fragment",
        nbytes=nbytes,
    )


def _present(arrays: Arrays, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return the values that are not null, one after the other."""
    parts = []
    for array in arrays:
        values, validity = fixed_values(array, dtype), validity_of(array)
        parts.append(values if validity is None else values[validity])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _bool_stats(arrays: Arrays) -> Bounds:
    found = [pc.min_max(array) for array in arrays if array.null_count < len(array)]
    low = min(pair["min"].as_py() for pair in found)
    high = max(pair["max"].as_py() for pair in found)
    return integer_bounds(int(low), int(high), signed=True)


def _joint_values(arrays: Arrays, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return fixed-width values of a concatenation, zero under nulls; a view when possible."""
    parts = []
    for array in arrays:
        values, validity = fixed_values(array, dtype), validity_of(array)
        parts.append(values if validity is None else np.where(validity, values, 0))
    if not parts:
        return np.zeros(0, dtype)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _encode_integers(column: Column, arrays: Arrays) -> tuple[pa.DataType, Bounds]:
    values = _joint_values(arrays, np.int64)
    validity = joint_validity(arrays)
    stats = bytes(8), bytes(8)
    low = high = 0
    present = values if validity is None else values[validity]
    if len(present):
        low, high = int(present.min()), int(present.max())
        stats = integer_bounds(low, high, signed=True)
    narrow = next(
        code for code in _SIGNED if np.iinfo(code).min <= low and high <= np.iinfo(code).max
    )
    column.add_values(values.astype(narrow, copy=False), validity)
    return _ARROW_INT[np.dtype(narrow).name], stats


def _encode_anchors(column: Column, arrays: Arrays) -> tuple[pa.DataType, Bounds]:
    anchors = _joint_values(arrays, np.uint64)
    if joint_validity(arrays) is not None or not (anchors[1:] > anchors[:-1]).all():
        raise InvalidInputError("anchors must be strictly increasing and not null")
    differences = np.zeros(len(anchors), np.uint64)
    np.subtract(anchors[1:], anchors[:-1], out=differences[1:])
    highest = int(differences.max()) if len(anchors) else 0
    narrow = next(code for code in _UNSIGNED if highest <= np.iinfo(code).max)
    column.add_values(differences.astype(narrow, copy=False), None)
    stats = bytes(8), bytes(8)
    if len(anchors):
        stats = integer_bounds(int(anchors[0]), int(anchors[-1]), signed=False)
    return _ARROW_INT[np.dtype(narrow).name], stats


def _encode_strings(ftype: FieldType, arrays: Arrays, rows: int) -> EncodedFragment:
    nbytes = sum(array.nbytes for array in arrays)
    if nbytes > MAX_FRAGMENT_NBYTES:
        raise _too_large(nbytes, rows)
    joined = arrays[0] if len(arrays) == 1 else None
    if joined is None:
        joined = pa.concat_arrays(arrays) if arrays else pa.nulls(0, pa.string())
    if ftype.kind == "categorical" or (ftype.kind == "string" and _may_repeat(joined)):
        encoded: Any = pc.dictionary_encode(joined)
        distinct = len(encoded.dictionary)
        if ftype.kind == "categorical" or _worth_dictionary(rows, distinct):
            return _encode_dictionary(ftype, encoded, validity_of(joined))
    column = Column()
    column.add_arrays(pa.string(), [joined] if rows else [])
    stats = empty_bounds(ftype)
    if column.nodes[1] < rows:
        # Compared as bytes: the same order as for strings, without decoding.
        found = pc.min_max(joined.cast(pa.binary()))
        stats = string_bounds(found["min"].as_py(), found["max"].as_py())
    return _assemble(ftype, pa.string(), [column], stats)


def _worth_dictionary(rows: int, distinct: int) -> bool:
    return (
        rows >= _MIN_DICTIONARY_ROWS
        and _ROWS_PER_DISTINCT * distinct <= rows
        and distinct <= _MAX_DISTINCT
    )


def _may_repeat(joined: pa.Array[Any]) -> bool:
    """Return False early when a part already has too many distinct values for a dictionary."""
    rows = len(joined)
    if rows < _MIN_DICTIONARY_ROWS:
        return False
    limit = min(rows // _ROWS_PER_DISTINCT, _MAX_DISTINCT)
    sample = joined.slice(0, min(rows, limit + limit // 4 + 1))
    return bool(pc.count_distinct(sample, mode="only_valid").as_py() <= limit)


def _encode_dictionary(ftype: FieldType, encoded: Any, validity: Bools | None) -> EncodedFragment:
    order = pc.sort_indices(encoded.dictionary)
    distinct = len(order)
    narrow = next(code for code in _SIGNED if distinct - 1 <= np.iinfo(code).max)
    rank = np.zeros(max(distinct, 1), narrow)
    rank[fixed_values(order, np.uint64)] = np.arange(distinct)
    indices = fixed_values(encoded.indices, np.int32)
    if validity is not None:
        indices = np.where(validity, indices, 0)
    codes = rank[indices]
    if validity is not None:
        codes[~validity] = 0
    words = encoded.dictionary.take(order)
    dictionary, column = Column(), Column()
    dictionary.add_arrays(pa.string(), [words] if distinct else [])
    column.add_values(codes, validity)
    stats = empty_bounds(ftype)
    if distinct:
        stats = string_bounds(words[0].as_py().encode(), words[-1].as_py().encode())
    physical = pa.dictionary(_ARROW_INT[np.dtype(narrow).name], pa.string())
    return _assemble(ftype, physical, [dictionary, column], stats)
