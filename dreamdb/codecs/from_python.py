"""Python lists of values, one object per row, as arrays of a field's logical type.

Source: design/0004 section 3.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs.arrays import (
    bytes_arrays,
    joined_array,
    list_array,
    spread_vectors,
    struct_array,
)
from dreamdb.codecs.columns import Bools
from dreamdb.codecs.from_numpy import convert_numbers, convert_vectors, shape_error
from dreamdb.codecs.logical import arrow_type
from dreamdb.codecs.place import Place, a_field
from dreamdb.types import BLOB_KINDS, STRING_KINDS, FieldType

__all__ = ["array_like", "convert_python"]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SCALAR_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "bool": (bool, np.bool_),
    "int": (int, np.integer),
    "anchor": (int, np.integer),
    "float": (float, int, np.floating, np.integer),
    "timestamp": (dt.date, int, np.datetime64, np.integer),
}
_NUMPY_TYPES: Final = {"bool": np.bool_, "int": np.int64, "anchor": np.uint64, "float": np.float64}
_BYTES_TYPES: Final = (bytes, bytearray, memoryview, pa.Buffer)


def convert_python(ftype: FieldType, values: Sequence[Any], place: Place) -> list[pa.Array[Any]]:
    """Convert one Python object per row; ``None`` is null.

    Parameters
    ----------
    ftype : FieldType
        The field's type.
    values : sequence
        Scalars, bytes-like objects, strings, vectors, lists or dictionaries.
    place : Place
        For messages.

    Returns
    -------
    list of pyarrow.Array
        Arrays of the logical type; several when 32-bit offsets do not reach.

    Raises
    ------
    InvalidInputError
        When a value does not fit; the error names its row.
    """
    if ftype.kind in STRING_KINDS:
        return _convert_strings(ftype, values, place)
    if ftype.kind in BLOB_KINDS:
        return _convert_blobs(ftype, values, place)
    if ftype.kind in ("embedding", "tensor"):
        return [_convert_vectors(ftype, values, place)]
    if ftype.kind == "list":
        return [_convert_lists(ftype, values, place)]
    if ftype.kind == "struct":
        return [_convert_structs(ftype, values, place)]
    return [_convert_scalars(ftype, values, place)]


def array_like(value: Any) -> bool:
    """Return whether numpy can read an object as an array: numpy and torch arrays."""
    return not isinstance(value, (np.generic, list, tuple)) and hasattr(value, "__array__")


def as_array(value: Any, row: int | None, place: Place) -> npt.NDArray[Any]:
    """Return an array-like object as numpy array, sharing its memory where possible."""
    if isinstance(value, np.ma.MaskedArray):
        raise place.error(
            row, "a masked numpy array is ambiguous", "give None or an Arrow array with nulls"
        )
    try:
        return np.asarray(value)
    except (TypeError, RuntimeError, ValueError) as error:
        raise place.error(
            row,
            f"{type(value).__module__}.{type(value).__name__} cannot be read as an array: {error}",
            "for torch tensors: value.detach().cpu(), and .float() for bfloat16",
        ) from None


def _validity(values: Sequence[Any]) -> Bools | None:
    if NoneType not in set(map(type, values)):
        return None
    return np.fromiter((value is not None for value in values), np.bool_, len(values))


def _require_types(
    ftype: FieldType,
    values: Sequence[Any],
    exact: type | None,
    place: Place,
    *,
    fits: Callable[[Any], bool],
    hint: Callable[[Any], str | None],
) -> None:
    """Raise for the first value that is neither None nor fits; ``exact`` always fits."""
    if set(map(type, values)) <= {exact, NoneType}:
        return
    for row, value in enumerate(values):
        if value is not None and not fits(value):
            raise place.error(
                row,
                f"{_shown(value)} ({type(value).__name__}) given for {a_field(ftype)}",
                hint(value),
            )


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _convert_scalars(ftype: FieldType, values: Sequence[Any], place: Place) -> pa.Array[Any]:
    accepted = _SCALAR_TYPES[ftype.kind]

    def fits(value: Any) -> bool:
        if isinstance(value, bool) and ftype.kind != "bool":
            return False
        return isinstance(value, accepted)

    def hint(value: Any) -> str | None:
        if isinstance(value, float) and value != value:
            return "use None for a missing value"
        if ftype.kind == "timestamp":
            return "give datetime, numpy.datetime64 or int nanoseconds (UTC)"
        if isinstance(value, (bool, np.bool_)):
            return "convert explicitly with int() or float(), or use a bool field"
        return "convert explicitly, or use a field of another kind"

    exact = {"bool": bool, "int": int, "anchor": int, "float": float}.get(ftype.kind)
    _require_types(ftype, values, exact, place, fits=fits, hint=hint)
    if ftype.kind == "timestamp":
        return _convert_timestamps(ftype, values, place)
    validity = _validity(values)
    filled = values if validity is None else [0 if value is None else value for value in values]
    if ftype.kind == "float":
        _refuse_inexact(filled, place)
    elif ftype.kind != "bool":
        filled = _in_range(filled, np.iinfo(_NUMPY_TYPES[ftype.kind]), place)
    return convert_numbers(ftype, np.array(filled, _NUMPY_TYPES[ftype.kind]), validity, place)


def _refuse_inexact(values: Sequence[Any], place: Place) -> None:
    if set(map(type, values)) <= {float}:
        return
    for row, value in enumerate(values):
        if isinstance(value, (int, np.integer)) and abs(int(value)) > 1 << 53:
            raise place.error(
                row, f"integer {value} is above 2^53 and not exact as a float", "use an int field"
            )


def _in_range(values: Sequence[Any], limits: Any, place: Place) -> Sequence[int]:
    """Return Python integers, all of which fit; numpy would wrap its own scalars silently."""
    if not set(map(type, values)) <= {int}:
        values = list(map(int, values))
    if values and not (limits.min <= min(values) and max(values) <= limits.max):
        row = next(i for i, v in enumerate(values) if not limits.min <= v <= limits.max)
        raise place.error(row, f"{values[row]} is outside {limits.min} to {limits.max}")
    return values


def _convert_timestamps(ftype: FieldType, values: Sequence[Any], place: Place) -> pa.Array[Any]:
    numbers = np.zeros(len(values), np.int64)
    validity = np.ones(len(values), np.bool_)
    for row, value in enumerate(values):
        found = None if value is None else _nanoseconds_of(ftype, value, row, place)
        if found is None:
            validity[row] = False
            continue
        if not -(1 << 63) < found < 1 << 63:
            raise place.error(
                row,
                f"{_shown(value)} is outside what int64 nanoseconds hold (years 1677 to 2262)",
            )
        numbers[row] = found
    return convert_numbers(ftype, numbers, validity, place)


def _nanoseconds_of(ftype: FieldType, value: Any, row: int, place: Place) -> int | None:
    """Return nanoseconds since 1970 in UTC; None for "not a time"."""
    if isinstance(value, np.datetime64):
        one = convert_numbers(ftype, np.array([value]), None, place.starting_at(row))
        return (
            None if one.null_count else int(np.frombuffer(memoryview(one.buffers()[1]), "<i8")[0])
        )
    if isinstance(value, (int, np.integer)):
        return int(value)
    if value != value:
        # pandas' NaT is a datetime that does not equal itself.
        return None
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    elif value.tzinfo is None or value.utcoffset() is None:
        value = value.replace(tzinfo=dt.UTC)
    since = value - _EPOCH
    whole = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return int(whole) * 1_000 + int(getattr(value, "nanosecond", 0))


def _ends(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(np.fromiter(lengths, np.int64, len(lengths)), out=ends[1:])
    return ends


def _convert_strings(ftype: FieldType, values: Sequence[Any], place: Place) -> list[pa.Array[Any]]:
    def hint(value: Any) -> str | None:
        if isinstance(value, _BYTES_TYPES):
            return "decode it, or use a binary field"
        if isinstance(value, float) and value != value:
            return "use None for a missing value"
        return "convert it with str() if that is meant"

    _require_types(ftype, values, str, place, fits=lambda value: isinstance(value, str), hint=hint)
    validity = _validity(values)
    filled = values if validity is None else ["" if value is None else value for value in values]
    joined = "".join(filled)
    if joined.isascii():
        return bytes_arrays(
            pa.string(),
            pa.py_buffer(joined.encode()),
            _ends(list(map(len, filled))),
            validity,
            place,
        )
    encoded = []
    for row, value in enumerate(filled):
        try:
            encoded.append(value.encode())
        except UnicodeEncodeError:
            raise place.error(
                row, f"{_shown(value)} holds surrogates, which UTF-8 cannot encode"
            ) from None
    data = pa.py_buffer(b"".join(encoded))
    return bytes_arrays(pa.string(), data, _ends(list(map(len, encoded))), validity, place)


def _convert_blobs(ftype: FieldType, values: Sequence[Any], place: Place) -> list[pa.Array[Any]]:
    def fits(value: Any) -> bool:
        if isinstance(value, np.ndarray):
            return value.dtype == np.uint8 and value.ndim == 1
        return isinstance(value, _BYTES_TYPES)

    def hint(value: Any) -> str | None:
        if isinstance(value, str):
            return "encode it, or use a text field; a path is read with Path(value).read_bytes()"
        if array_like(value):
            return "encode the pixels or samples first, or use a tensor field"
        return "give bytes, bytearray or memoryview"

    _require_types(ftype, values, bytes, place, fits=fits, hint=hint)
    validity = _validity(values)
    filled = [_as_bytes(value) for value in values]
    data = pa.py_buffer(b"".join(filled))
    return bytes_arrays(pa.binary(), data, _ends(list(map(len, filled))), validity, place)


def _as_bytes(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    return memoryview(value).tobytes()


def _convert_vectors(ftype: FieldType, values: Sequence[Any], place: Place) -> pa.Array[Any]:
    shape = (ftype.dim or 0,) if ftype.kind == "embedding" else ftype.shape or ()
    validity = _validity(values)
    present = (
        np.arange(len(values)) if validity is None else np.flatnonzero(validity).astype(np.int64)
    )
    rows = [value for value in values if value is not None]
    inner = place.among(present)
    if not rows:
        return pa.nulls(len(values), arrow_type(ftype))
    for index, row in enumerate(rows):
        if array_like(row):
            rows[index] = as_array(row, index, inner)
        elif not isinstance(row, (list, tuple)):
            raise inner.error(
                index,
                f"{_shown(row)} is of type {type(row).__name__}, not a vector",
                "give a list, a numpy array or a torch tensor of numbers",
            )
    dense = _stacked(ftype, rows, shape, inner)
    converted = convert_vectors(ftype, dense, None, inner)
    return converted if validity is None else spread_vectors(converted, validity)


def _stacked(
    ftype: FieldType, rows: Sequence[Any], shape: tuple[int, ...], place: Place
) -> npt.NDArray[Any]:
    """Return equally shaped rows as one array, or name the row that differs."""
    try:
        dense = np.asarray(rows)
    except (ValueError, TypeError, OverflowError):
        dense = np.zeros(0)
    kinds = {row.dtype.kind for row in rows if isinstance(row, np.ndarray)}
    if dense.shape[1:] == shape and dense.dtype.kind in "iuf" and kinds <= set("iuf"):
        return dense
    for index, row in enumerate(rows):
        try:
            one = np.asarray(row)
        except (ValueError, TypeError, OverflowError):
            raise place.error(index, "the rows of a nested list differ in length") from None
        if one.dtype.kind not in "iuf" and one.size:
            problem = f"a vector with elements that are not numbers ({one.dtype})"
            if one.dtype.kind == "O" and any(element is None for element in one.flat):
                problem = "a vector with null elements"
            raise place.error(
                index, f"{problem} given for {a_field(ftype)}", "give None for the whole vector"
            )
        if one.shape != shape:
            raise shape_error(ftype, one.shape, index, place)
    return np.stack([np.asarray(row) for row in rows])


def _convert_lists(ftype: FieldType, values: Sequence[Any], place: Place) -> pa.Array[Any]:
    def fits(value: Any) -> bool:
        return isinstance(value, (list, tuple)) or (array_like(value) and np.ndim(value) == 1)

    _require_types(
        ftype, values, list, place, fits=fits, hint=lambda _: "give a list or tuple per row"
    )
    assert ftype.item is not None
    flat: list[Any] = []
    counts = np.zeros(len(values), np.int64)
    for row, value in enumerate(values):
        if value is not None:
            flat.extend(as_array(value, row, place) if array_like(value) else value)
            counts[row] = len(value)
    owners = np.repeat(np.arange(len(values)), counts)
    if len(owners) > np.iinfo(np.int32).max:
        raise place.error(None, f"{len(owners)} list items in one call", "append fewer rows")
    items = joined_array(convert_python(ftype.item, flat, place.items(owners)))
    return list_array(arrow_type(ftype), counts, _validity(values), items)


def _convert_structs(ftype: FieldType, values: Sequence[Any], place: Place) -> pa.Array[Any]:
    _require_types(
        ftype,
        values,
        dict,
        place,
        fits=lambda value: isinstance(value, Mapping),
        hint=lambda _: "give a dictionary per row",
    )
    members = ftype.fields or ()
    known = {name for name, _ in members}
    for row, value in enumerate(values):
        if value is not None and not value.keys() <= known:
            extra = sorted(map(str, value.keys() - known))
            raise place.error(
                row,
                f"the struct has no member {extra[0]!r}",
                f"members: {', '.join(sorted(known))}",
            )
    children = [
        joined_array(
            convert_python(
                member,
                [None if value is None else value.get(name) for value in values],
                place.member(name),
            )
        )
        for name, member in members
    ]
    return struct_array(arrow_type(ftype), len(values), _validity(values), children)
