"""Numbers in numpy arrays, checked and converted as a whole.

Source: design/0004 section 3.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs.arrays import bool_array, fixed_array, vector_array
from dreamdb.codecs.columns import Bools
from dreamdb.codecs.logical import arrow_type
from dreamdb.codecs.place import Place, a_field
from dreamdb.types import FieldType

__all__ = ["convert_numbers", "convert_vectors", "first_bad", "nanoseconds"]

Values = npt.NDArray[Any]

_KIND_NAMES: Final = {
    "b": "bool",
    "i": "integer",
    "u": "integer",
    "f": "float",
    "c": "complex",
    "M": "datetime",
    "m": "timedelta",
    "U": "string",
    "T": "string",
    "S": "bytes",
    "O": "object",
    "V": "structured",
}
_EXACT: Final = {2: 1 << 11, 4: 1 << 24, 8: 1 << 53}
"""Largest magnitude up to which every integer is exact, by bytes of the float."""

_NS: Final = {
    "W": 604_800_000_000_000,
    "D": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_CALENDAR_DAYS: Final = {"Y": 365, "M": 28}


def first_bad(bad: Bools, validity: Bools | None) -> int | None:
    """Return the first position that is bad and not null."""
    if validity is not None:
        bad = bad & validity
    return int(bad.argmax()) if bad.any() else None


def native(values: Values) -> Values:
    """Return values in this machine's byte order."""
    if values.dtype.isnative:
        return values
    return values.astype(values.dtype.newbyteorder("="))


def convert_numbers(
    ftype: FieldType, values: Values, validity: Bools | None, place: Place
) -> pa.Array[Any]:
    """Convert one number per row.

    Parameters
    ----------
    ftype : FieldType
        Of kind ``bool int float timestamp anchor``.
    values : ndarray, shape (rows,)
        Anything under nulls.
    validity : ndarray of bool, optional
        Which rows hold a value.
    place : Place
        For messages.

    Returns
    -------
    pyarrow.Array
        Of the logical type; a view when the width is already right.
    """
    values = native(values)
    if ftype.kind == "bool":
        if values.dtype.kind != "b":
            raise _wrong_kind(ftype, values, place, "compare first, for example values != 0")
        return bool_array(values, validity)
    if ftype.kind == "timestamp":
        return _convert_timestamps(ftype, values, validity, place)
    if ftype.kind == "float":
        return _convert_floats(ftype, values, validity, place)
    if values.dtype.kind not in "iu":
        hint = None
        if values.dtype.kind == "f":
            hint = "round and cast to an integer type first, or use a float field"
        elif values.dtype.kind == "b":
            hint = "use a bool field, or cast to an integer type first"
        raise _wrong_kind(ftype, values, place, hint)
    limits = np.iinfo(np.uint64 if ftype.kind == "anchor" else np.int64)
    if not np.can_cast(values.dtype, limits.dtype, "safe") and len(values):
        bad = values < 0 if ftype.kind == "anchor" else values > np.iinfo(np.int64).max
        row = first_bad(bad, validity)
        if row is not None:
            raise place.error(row, f"{values[row]} is outside {limits.min} to {limits.max}")
    return fixed_array(arrow_type(ftype), values.astype(limits.dtype, copy=False), validity)


def _wrong_kind(
    ftype: FieldType, values: Values, place: Place, hint: str | None = None
) -> Exception:
    name = _KIND_NAMES.get(values.dtype.kind, str(values.dtype))
    row = 0 if len(values) else None
    return place.error(row, f"{name} values ({values.dtype}) given for {a_field(ftype)}", hint)


def _convert_floats(
    ftype: FieldType, values: Values, validity: Bools | None, place: Place
) -> pa.Array[Any]:
    if values.dtype.kind in "iu":
        row = _first_inexact(values, 8, validity)
        if row is not None:
            raise place.error(
                row,
                f"integer {values[row]} is above 2^53 and not exact as a float",
                "use an int field",
            )
    elif values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise _wrong_kind(ftype, values, place)
    return fixed_array(pa.float64(), values.astype(np.float64, copy=False), validity)


def _first_inexact(values: Values, float_nbytes: int, validity: Bools | None) -> int | None:
    limit = _EXACT[float_nbytes]
    if np.iinfo(values.dtype).max <= limit:
        return None
    bad = values > limit
    if values.dtype.kind == "i":
        bad |= values < -limit
    return first_bad(bad, validity)


def _convert_timestamps(
    ftype: FieldType, values: Values, validity: Bools | None, place: Place
) -> pa.Array[Any]:
    if values.dtype.kind in "iu":
        if values.dtype == np.uint64:
            row = first_bad(values > np.iinfo(np.int64).max, validity)
            if row is not None:
                raise place.error(row, f"{values[row]} ns is outside the int64 range")
        return nanoseconds(values.astype(np.int64, copy=False), 1, validity, place)
    if values.dtype.kind != "M":
        raise _wrong_kind(
            ftype, values, place, "give datetime, numpy.datetime64 or int nanoseconds (UTC)"
        )
    present = ~np.isnat(values)
    if present.all():
        present = validity if validity is not None else present
    elif validity is not None:
        present &= validity
    unit, count = np.datetime_data(values.dtype)
    if unit in _CALENDAR_DAYS:
        # Years and months have no fixed length; days do.  Far-off ones are refused before the
        # conversion could overflow.
        limit = np.iinfo(np.int64).max // (_CALENDAR_DAYS[unit] * _NS["D"] * count)
        numbers = values.view(np.int64)
        row = first_bad((numbers > limit) | (numbers < -limit), present)
        if row is not None:
            raise _out_of_range(row, str(values[row]), place)
        values, unit, count = values.astype("M8[D]"), "D", 1
    if unit == "generic":
        return fixed_array(pa.timestamp("ns"), np.zeros(len(values), np.int64), present)
    if unit not in _NS:
        raise place.error(
            0, f"datetime64[{unit}] is finer than nanoseconds", "cast to datetime64[ns] first"
        )
    numbers = np.ascontiguousarray(values).view(np.int64)
    return nanoseconds(numbers, _NS[unit] * count, present, place)


def nanoseconds(
    numbers: npt.NDArray[np.int64], factor: int, validity: Bools | None, place: Place
) -> pa.Array[Any]:
    """Return timestamps from counts of a unit since 1970 (UTC).

    Parameters
    ----------
    numbers : ndarray of int64, shape (rows,)
        Counts; anything under nulls.
    factor : int
        Nanoseconds per unit.
    validity : ndarray of bool, optional
        Which rows hold a value.
    place : Place
        For messages.
    """
    # The lowest int64 is what numpy and pandas take for "not a time", so it is out of range too.
    limit = np.iinfo(np.int64).max // factor
    row = first_bad((numbers > limit) | (numbers < -limit), validity)
    if row is not None:
        raise _out_of_range(row, f"{numbers[row]} x {factor} ns", place)
    if factor != 1:
        numbers = numbers * factor
    return fixed_array(pa.timestamp("ns"), numbers, validity)


def _out_of_range(row: int, shown: str, place: Place) -> Exception:
    return place.error(row, f"{shown} is outside what int64 nanoseconds hold (years 1677 to 2262)")


def convert_vectors(
    ftype: FieldType, values: Values, validity: Bools | None, place: Place
) -> pa.Array[Any]:
    """Convert one embedding or tensor per row.

    Parameters
    ----------
    ftype : FieldType
        Of kind ``embedding`` or ``tensor``.
    values : ndarray, shape (rows, dim) or (rows, *shape)
        Numbers; anything under nulls.
    validity : ndarray of bool, optional
        Which rows hold a value.
    place : Place
        For messages.

    Returns
    -------
    pyarrow.Array
        Fixed-size lists; a view when element type and memory order are already right.
    """
    if values.dtype.kind not in "iuf":
        raise _wrong_kind(ftype, values, place)
    shape = (ftype.dim,) if ftype.kind == "embedding" else ftype.shape or ()
    if values.shape[1:] != shape:
        raise shape_error(ftype, values.shape[1:], 0, place)
    wanted = np.dtype(np.float32 if ftype.kind == "embedding" else ftype.dtype)
    values = native(values)
    size = math.prod(values.shape[1:])
    rows = np.ascontiguousarray(values).reshape(len(values), size)
    if rows.dtype != wanted:
        rows = _cast_elements(ftype, rows, wanted, validity, place)
    if ftype.kind == "embedding":
        _refuse_not_finite(rows, validity, place)
    return vector_array(arrow_type(ftype), rows, validity)


def shape_error(ftype: FieldType, got: tuple[int, ...], row: int | None, place: Place) -> Exception:
    """Return the error for a vector or tensor of another shape."""
    if ftype.kind == "embedding" and len(got) == 1:
        return place.error(row, f"vector has dimension {got[0]}, the field has {ftype.dim}")
    shape = [ftype.dim] if ftype.kind == "embedding" else list(ftype.shape or ())
    return place.error(row, f"value has shape {list(got)}, the field has {shape}")


def _cast_elements(
    ftype: FieldType, rows: Values, wanted: np.dtype[Any], validity: Bools | None, place: Place
) -> Values:
    """Cast elements, refusing what the wanted type cannot hold."""
    bad: Values
    if np.can_cast(rows.dtype, wanted, "safe"):
        return rows.astype(wanted)
    if wanted.kind == "f" and rows.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            cast = rows.astype(wanted)
        bad = np.isinf(cast) & np.isfinite(rows)
        reason = "overflows"
    elif wanted.kind == "f":
        limit = _EXACT[wanted.itemsize]
        bad, reason = (rows > limit) | (rows < -limit), "is not exact as"
        cast = rows.astype(wanted)
    elif rows.dtype.kind in "iu":
        limits = np.iinfo(wanted)
        bad, reason = (rows < limits.min) | (rows > limits.max), "is out of range for"
        cast = rows.astype(wanted)
    else:
        raise _wrong_kind(ftype, rows, place, f"cast to {wanted} first")
    row = first_bad(np.logical_or.reduce(bad, axis=1), validity)
    if row is not None:
        value = rows[row][bad[row]][0]
        raise place.error(row, f"element {value} {reason} {wanted}")
    return cast


def _refuse_not_finite(rows: Values, validity: Bools | None, place: Place) -> None:
    if np.isfinite(rows).all():
        return
    bad = ~np.isfinite(rows)
    row = first_bad(np.logical_or.reduce(bad, axis=1), validity)
    if row is not None:
        position = int(bad[row].argmax())
        raise place.error(
            row,
            f"vector has {rows[row, position]} at position {position}",
            "drop the row or give None; vectors must be finite",
        )
