"""Payload to values: strict about everything that reading depends on, lazy about big values.

A payload is hostile until proven otherwise.  It is never given to a general parser: its metadata
must equal the template of one of the physical types that the field's kind can have, its slots must
describe buffers that lie one after the other and have exactly the lengths that rows and offsets
imply, and what offsets, indices and UTF-8 say is checked before anything follows them.

Source: design/0002 sections 6.1, 6.4 and 11.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dreamdb.codecs.body import BodyReader
from dreamdb.codecs.columns import as_bytes, fixed_values, numpy_type
from dreamdb.codecs.encode import EncodedFragment, encode
from dreamdb.codecs.logical import arrow_type, is_plain, row_nbytes
from dreamdb.codecs.messages import (
    ALIGNMENT,
    END_OF_STREAM,
    BatchSlots,
    StreamTemplate,
    stream_template,
)
from dreamdb.errors import FormatError
from dreamdb.types import BLOB_KINDS, FieldType

__all__ = ["KEPT_DICTIONARY", "DecodedFragment", "check_canonical", "decode", "physical_types"]

_SIGNED: Final = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_UNSIGNED: Final = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
KEPT_DICTIONARY: Final = pa.dictionary(pa.int32(), pa.string())
_DICTIONARIES: Final = tuple(
    pa.dictionary(index, pa.string()) for index in (pa.int8(), pa.int16(), pa.int32())
)


@dataclass(slots=True)
class DecodedFragment:
    """The values of one fragment.

    Parameters
    ----------
    array : pyarrow.Array
        Values of type ``arrow_type(ftype)``; for plain kinds views of the payload.
    rows, nulls : int
        Number of rows, and how many of them are null.
    data_start : int
        Plain kinds (media, binary, embedding, tensor): payload offset of the value buffer.  Its
        bytes have NOT been passed to ``verify``; the reader does so for the ranges it touches.
        -1 for the other kinds, which are verified and finished.
    width : int
        Bytes per row of an embedding or tensor; 0 for every other kind.
    offsets : ndarray of int32, shape (rows + 1,), optional
        Media and binary: where the values lie, relative to ``data_start``; checked.
    """

    array: pa.Array[Any]
    rows: int
    nulls: int
    data_start: int = -1
    width: int = 0
    offsets: npt.NDArray[np.int32] | None = None


def decode(
    ftype: FieldType,
    payload: memoryview,
    *,
    rows: int,
    last_key: int = 0,
    verify: Callable[[int, int], None] | None = None,
    dictionary: bool = False,
) -> DecodedFragment:
    """Decode the payload of one fragment.

    Parameters
    ----------
    ftype : FieldType
        The field's type.
    payload : memoryview
        The payload; it should start at a multiple of 8 in memory.
    rows : int
        How many rows the tree entry declares.
    last_key : int
        The entry's last anchor; used for ``anchor`` only.
    verify : callable, optional
        ``verify(start, stop)`` is called for each byte range of the payload before its bytes are
        used.  Plain kinds verify metadata, validity and offsets, the others everything.  None:
        the payload is known to be good, and its last padding is checked as well.
    dictionary : bool
        ``categorical`` only: return the values as ``dictionary<int32, string>``.

    Returns
    -------
    DecodedFragment
        Views of the payload for plain kinds; values are never copied for them.

    Raises
    ------
    FormatError
        When the bytes are not a payload of that field with so many rows.
    """
    # Arrow's own buffers show signed bytes, which compare as other numbers.
    payload = payload.cast("B")
    if not is_plain(ftype):
        if verify is not None:
            verify(0, payload.nbytes)
        return _decode_whole(ftype, payload, rows, last_key, dictionary=dictionary)
    dtype = arrow_type(ftype)
    batch = stream_template(dtype).batches[0]
    head_nbytes = len(batch.fixed)
    _require_head(payload, head_nbytes)
    if verify is not None:
        verify(0, head_nbytes)
    slots = batch.read(payload, 0)
    _check_lengths(payload, slots, head_nbytes, rows)
    data_start = head_nbytes + slots.buffers[-2]
    if verify is not None and data_start <= payload.nbytes:
        verify(head_nbytes, data_start)
    reader = BodyReader(payload, head_nbytes, slots)
    array = reader.read_column(dtype, rows, check_last=verify is None)
    if verify is None:
        _check_end(payload)
    offsets = None
    if ftype.kind in BLOB_KINDS:
        offsets = np.frombuffer(payload, np.int32, rows + 1, head_nbytes + slots.buffers[2])
    return DecodedFragment(array, rows, array.null_count, data_start, row_nbytes(ftype), offsets)


def check_canonical(
    ftype: FieldType, payload: memoryview, *, rows: int, last_key: int = 0
) -> EncodedFragment:
    """Require that a payload is exactly what encoding its own values gives.

    Parameters
    ----------
    ftype, payload, rows, last_key
        As for :func:`decode`; the whole payload must be verified already.

    Returns
    -------
    EncodedFragment
        What encoding the values gives: nulls and bounds, to compare with the tree entry.

    Raises
    ------
    FormatError
        When the payload cannot be decoded, or other bytes stand for the same values: a wider
        integer type, garbage under nulls, a bitmap without nulls.
    """
    decoded = decode(ftype, payload, rows=rows, last_key=last_key)
    payload = payload.cast("B")
    at = 0
    encoded = encode(ftype, [decoded.array])
    for part in encoded.parts:
        piece = memoryview(part).cast("B")
        if payload[at : at + piece.nbytes] != piece:
            raise FormatError(
                f"fragment of {ftype} is not canonical near byte {at}: "
                "encoding its values gives other bytes"
            )
        at += piece.nbytes
    if at != payload.nbytes:
        raise FormatError(f"fragment of {ftype} has {payload.nbytes} bytes, canonical are {at}")
    return encoded


def _require_head(payload: memoryview, head_nbytes: int) -> None:
    if payload.nbytes < head_nbytes + len(END_OF_STREAM):
        raise FormatError(f"fragment of {payload.nbytes} bytes ends inside its metadata")


def _check_lengths(payload: memoryview, slots: BatchSlots, head_stop: int, rows: int) -> None:
    """Check row count, body length and payload length of the record batch."""
    if slots.rows != rows:
        raise FormatError(f"fragment declares {slots.rows} rows, its entry {rows}")
    expected = head_stop + slots.body_nbytes + len(END_OF_STREAM)
    if payload.nbytes != expected:
        raise FormatError(f"fragment has {payload.nbytes} bytes, its metadata says {expected}")


def _check_end(payload: memoryview) -> None:
    if bytes(payload[-len(END_OF_STREAM) :]) != END_OF_STREAM:
        raise FormatError("fragment does not end with the end-of-stream marker")


def _decode_whole(
    ftype: FieldType, payload: memoryview, rows: int, last_key: int, *, dictionary: bool = False
) -> DecodedFragment:
    """Decode a payload all of whose bytes are verified."""
    template = _template_of(payload, physical_types(ftype))
    if len(template.batches) == 2:
        array = _read_dictionary(template, payload, rows, keep=dictionary)
        return DecodedFragment(array, rows, array.null_count)
    stored = _read_record_batch(template, payload, 0, rows)
    if ftype.kind in ("int", "timestamp"):
        array = _widen(stored, arrow_type(ftype))
    elif ftype.kind == "anchor":
        array = _restore_anchors(stored, last_key)
    else:
        array = stored
    return DecodedFragment(array, rows, array.null_count)


def physical_types(ftype: FieldType) -> Sequence[pa.DataType]:
    """Return every physical type that a field's kind can have."""
    if ftype.kind in ("int", "timestamp"):
        return _SIGNED
    if ftype.kind == "anchor":
        return _UNSIGNED
    if ftype.kind == "categorical":
        return _DICTIONARIES
    if ftype.kind == "string":
        # Indices of a string's dictionary never need more than int16.
        return (pa.string(), *_DICTIONARIES[:2])
    return (arrow_type(ftype),)


def _template_of(payload: memoryview, candidates: Sequence[pa.DataType]) -> StreamTemplate:
    """Return the template whose schema message starts the payload."""
    for dtype in candidates:
        template = stream_template(dtype)
        if payload[: len(template.schema)] == template.schema:
            return template
    raise FormatError("fragment has another schema than its field's kind allows")


def _read_record_batch(
    template: StreamTemplate, payload: memoryview, at: int, rows: int
) -> pa.Array[Any]:
    """Read the last batch of a payload, and the end of the stream."""
    batch = template.batches[-1]
    _require_head(payload, at + len(batch.fixed))
    slots = batch.read(payload, at)
    body = at + len(batch.fixed)
    _check_lengths(payload, slots, body, rows)
    array = BodyReader(payload, body, slots).read_column(template.batch_types[-1], rows)
    _check_end(payload)
    return array


def _read_dictionary(
    template: StreamTemplate, payload: memoryview, rows: int, *, keep: bool = False
) -> pa.Array[Any]:
    """Read a dictionary batch and the indices into it, and return the values, or both as stored."""
    head = template.batches[0]
    _require_head(payload, len(head.fixed))
    slots = head.read(payload, 0)
    body = len(head.fixed)
    stop = body + slots.body_nbytes
    if stop % ALIGNMENT or stop > payload.nbytes:
        raise FormatError(f"fragment's dictionary ends at byte {stop}")
    words = BodyReader(payload, body, slots).read_column(
        template.batch_types[0], slots.rows, aligned_to=ALIGNMENT
    )
    if words.null_count:
        raise FormatError("fragment's dictionary holds a null")
    if (
        len(words) > 1
        and not pc.all(pc.less(words.slice(0, len(words) - 1), words.slice(1))).as_py()
    ):
        raise FormatError("fragment's dictionary is not sorted without duplicates")
    indices = _read_record_batch(template, payload, stop, rows)
    codes = fixed_values(indices, numpy_type(indices.type))
    if indices.null_count < rows and (int(codes.min()) < 0 or int(codes.max()) >= len(words)):
        raise FormatError(f"fragment has an index outside its {len(words)} dictionary values")
    if indices.null_count == rows:
        return pa.nulls(rows, KEPT_DICTIONARY if keep else pa.string())
    if keep:
        return pa.DictionaryArray.from_arrays(_widen(indices, pa.int32()), words, safe=False)
    return words.take(indices)


def _widen(stored: pa.Array[Any], dtype: pa.DataType) -> pa.Array[Any]:
    """Return narrow integers in a wider type, sharing the validity bitmap."""
    wide = np.int32 if pa.types.is_int32(dtype) else np.int64
    values = fixed_values(stored, numpy_type(stored.type)).astype(wide, copy=False)
    buffers = [stored.buffers()[0], pa.py_buffer(as_bytes(values))]
    return pa.Array.from_buffers(dtype, len(stored), buffers, stored.null_count)


def _restore_anchors(stored: pa.Array[Any], last_key: int) -> pa.Array[Any]:
    """Return anchors from their differences and the last of them."""
    if stored.null_count:
        raise FormatError("fragment of anchors holds a null")
    sums = fixed_values(stored, numpy_type(stored.type)).astype(np.uint64)
    if len(sums):
        if sums[0] != 0:
            raise FormatError("fragment of anchors does not start with difference 0")
        np.cumsum(sums, out=sums)
        # A difference of zero repeats a sum; one that overflows makes the next sum smaller.
        if not (sums[1:] > sums[:-1]).all():
            raise FormatError("fragment of anchors is not strictly increasing")
        first = last_key - int(sums[-1])
        if first < 0 or last_key > np.iinfo(np.uint64).max:
            raise FormatError(f"fragment of anchors does not fit its last key {last_key}")
        sums += np.uint64(first)
    buffers = [None, pa.py_buffer(as_bytes(sums))]
    return pa.Array.from_buffers(pa.uint64(), len(sums), buffers, 0)
