"""Values as users give them, checked and in the logical type of their field.

Source: design/0004 section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs.coded import encode_vectors
from dreamdb.codecs.columns import validity_of
from dreamdb.codecs.from_arrow import convert_arrow
from dreamdb.codecs.from_numpy import convert_numbers, convert_vectors
from dreamdb.codecs.from_python import array_like, as_array, convert_python
from dreamdb.codecs.logical import arrow_type
from dreamdb.codecs.place import Place
from dreamdb.errors import InvalidInputError
from dreamdb.types import FieldType
from dreamdb.vectors import stored_type

__all__ = ["coerce"]

_NUMBER_KINDS = frozenset({"bool", "int", "float", "timestamp", "anchor"})


def coerce(
    ftype: FieldType,
    values: object,
    *,
    field: str,
    required: bool = False,
    first_row: int = 0,
) -> pa.ChunkedArray[Any]:
    """Check values and convert them to the logical type of their field.

    Parameters
    ----------
    ftype : FieldType
        The field's type.
    values : object
        One value per row: a ``pyarrow.Array`` or ``ChunkedArray``, anything with
        ``__arrow_c_stream__`` or ``__arrow_c_array__``, a numpy array, anything with
        ``__array__`` such as a torch tensor, or a list or tuple of Python objects in which
        ``None`` is null.  Naive datetimes are UTC; zoned ones are converted to UTC; integers are
        nanoseconds.  Struct members that a row lacks are null.
    field : str
        Name of the field, for messages.
    required : bool
        Refuse nulls.
    first_row : int
        Row number of the first value, for messages.

    Returns
    -------
    pyarrow.ChunkedArray
        Of type ``arrow_type(ftype)``, for a field with a codec of the type of its codes.  Memory
        that already fits is shared, not copied.

    Raises
    ------
    InvalidInputError
        For the first value that the field cannot hold exactly; ``details`` has ``field`` and
        ``row``.  Nothing is guessed: no bool for an int, no float for an int, no string for a
        time or a number, no NaN or infinity in an embedding, no null element in a vector.
    """
    place = Place(field, field, first_row)
    arrays: list[pa.Array[Any]] = []
    at = 0
    for part in _parts(values, place):
        here = place.starting_at(at)
        if isinstance(part, (pa.Array, pa.ExtensionArray)):
            converted = convert_arrow(ftype, part, here)
        elif isinstance(part, np.ndarray):
            converted = _convert_ndarray(ftype, part, here)
        else:
            converted = convert_python(ftype, part, here)
        if required:
            _refuse_null(converted, here)
        arrays += converted if ftype.codec is None else _encoded(ftype, converted, here)
        at += len(part)
    kept = [array for array in arrays if len(array)]
    return pa.chunked_array(kept, arrow_type(stored_type(ftype)))


def _encoded(ftype: FieldType, arrays: list[pa.Array[Any]], place: Place) -> list[pa.Array[Any]]:
    out, at = [], 0
    for array in arrays:
        try:
            out.append(encode_vectors(ftype, array))
        except InvalidInputError as error:
            row = at + int(error.details["row"])
            raise place.error(row, str(error), error.hint) from None
        at += len(array)
    return out


def _parts(values: Any, place: Place) -> list[Any]:
    """Return the values as Arrow arrays, one numpy array or one sequence."""
    if isinstance(values, pa.ChunkedArray):
        return list(values.chunks)
    if isinstance(values, (pa.Array, np.ndarray)):
        parts: list[Any] = [values]
    elif hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__"):
        parts = _import_arrow(values, place)
    elif isinstance(values, (list, tuple)) or array_like(values):
        parts = [values]
    else:
        raise place.error(
            None,
            f"values of type {type(values).__name__} are not one value per row",
            "give a list, a numpy array or an Arrow array",
        )
    return [as_array(p, None, place) if array_like(p) and not _is_arrow(p) else p for p in parts]


def _import_arrow(values: Any, place: Place) -> list[Any]:
    """Take over values that speak Arrow's C interface: pandas, polars and others."""
    try:
        if hasattr(values, "__arrow_c_stream__"):
            return list(pa.chunked_array(values).chunks)
        return [pa.array(values)]
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise place.error(
            None, f"values of type {type(values).__name__} cannot be read as Arrow: {error}"
        ) from None


def _is_arrow(value: Any) -> bool:
    return isinstance(value, pa.Array)


def _convert_ndarray(
    ftype: FieldType, values: npt.NDArray[Any], place: Place
) -> list[pa.Array[Any]]:
    if values.ndim == 0:
        raise place.error(None, "a single value is not one value per row", "wrap it in a list")
    if len(values) == 0:
        return []
    kind = values.dtype.kind
    if kind == "S":
        raise place.error(
            0, "numpy bytes arrays drop trailing zero bytes", "give a list of bytes objects"
        )
    if ftype.kind in ("embedding", "tensor") and kind != "O":
        return [convert_vectors(ftype, values, None, place)]
    if ftype.kind in _NUMBER_KINDS and kind not in "OUT":
        if values.ndim != 1:
            raise place.error(
                0, f"array of shape {list(values.shape)} given for one {ftype} per row"
            )
        return [convert_numbers(ftype, values, None, place)]
    # Objects, strings and rows of lists: element by element.
    return convert_python(ftype, list(values) if values.ndim > 1 else values.tolist(), place)


def _refuse_null(arrays: list[pa.Array[Any]], place: Place) -> None:
    at = 0
    for array in arrays:
        validity = validity_of(array)
        if validity is not None:
            raise place.error(
                at + int((~validity).argmax()),
                "the value is null but the field is required",
                "give a value, or declare the field with required=False",
            )
        at += len(array)
