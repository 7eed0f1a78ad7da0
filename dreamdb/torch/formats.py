"""Formats: one batch of records as Python, numpy, pandas, polars, Arrow or torch.

Source: design/0019 section 10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch

from dreamdb.errors import InvalidInputError, MissingDependencyError, nearest_hint

__all__ = ["FORMATS", "ROW_FORMATS", "find_format"]

ROW_FORMATS: Final = frozenset({"python", "torch", "torch_row"})
"""Formats whose batch is a list of rows."""


def _python(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    return batch.to_pylist()


def _python_col(batch: pa.RecordBatch) -> dict[str, list[Any]]:
    return batch.to_pydict()


def _arrow(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def _pandas(batch: pa.RecordBatch) -> Any:
    try:
        return batch.to_pandas()
    except ImportError:
        raise MissingDependencyError(
            "the format 'pandas' needs pandas", hint="pip install 'dreamdb[pandas]'"
        ) from None


def _polars(batch: pa.RecordBatch) -> Any:
    try:
        import polars
    except ImportError:
        raise MissingDependencyError(
            "the format 'polars' needs polars", hint="pip install 'dreamdb[polars]'"
        ) from None
    return polars.from_arrow(pa.Table.from_batches([batch]))


def _numpy(batch: pa.RecordBatch) -> dict[str, Any]:
    return {name: _array(batch.column(name)) for name in batch.schema.names}


def _array(column: pa.Array) -> Any:
    """Return a column as numpy: missing numbers and vectors are masked, other nulls are None."""
    dtype = column.type
    shape: tuple[int, ...] = ()
    if isinstance(dtype, pa.FixedShapeTensorType):
        shape, column = tuple(dtype.shape), column.storage
        dtype = column.type
    if pa.types.is_fixed_size_list(dtype):
        missing = None
        if column.null_count:
            missing = ~np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)
        child = column.values.slice(column.offset * dtype.list_size, len(column) * dtype.list_size)
        values = np.array(child.fill_null(0).to_numpy(zero_copy_only=False))
        values = values.reshape(len(column), *(shape or (dtype.list_size,)))
        if missing is None:
            return values
        mask = np.broadcast_to(missing.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
        return np.ma.masked_array(values, mask)
    if pa.types.is_timestamp(dtype):
        numbers = column.cast(pa.int64()).fill_null(np.iinfo(np.int64).min)
        return np.array(numbers.to_numpy(zero_copy_only=False)).view("datetime64[ns]")
    if pa.types.is_boolean(dtype) or pa.types.is_integer(dtype) or pa.types.is_floating(dtype):
        zero = False if pa.types.is_boolean(dtype) else 0
        values = np.array(column.fill_null(zero).to_numpy(zero_copy_only=False))
        if not column.null_count:
            return values
        return np.ma.masked_array(
            values, ~np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)
        )
    out = np.empty(len(column), object)
    out[:] = column.to_pylist()
    return out


def _tensor(name: str, column: pa.Array) -> torch.Tensor | None:
    """Return a column of numbers as a tensor; None for texts and bytes."""
    values = _array(column)
    if isinstance(values, np.ma.MaskedArray):
        raise InvalidInputError(
            f"a record has no {name!r}, and a tensor cannot hold a null",
            hint="filter(vd.col(...).is_valid()), or the format 'numpy', whose arrays are masked",
            field=name,
        )
    if values.dtype.kind == "M":
        if np.isnat(values).any():
            raise InvalidInputError(
                f"a record has no {name!r}, and a tensor cannot hold a null", field=name
            )
        values = values.view(np.int64)
    if values.dtype == object:
        return None
    return torch.from_numpy(np.ascontiguousarray(values))


def _tensors(batch: pa.RecordBatch) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in batch.schema.names:
        found = _tensor(name, batch.column(name))
        out[name] = batch.column(name).to_pylist() if found is None else found
    return out


def _torch(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    columns = _tensors(batch)
    return [{name: values[i] for name, values in columns.items()} for i in range(len(batch))]


def _only_tensors(batch: pa.RecordBatch, what: str) -> dict[str, torch.Tensor]:
    columns = _tensors(batch)
    for name, values in columns.items():
        if not isinstance(values, torch.Tensor):
            raise InvalidInputError(
                f"the column {name!r} ({batch.column(name).type}) cannot be a tensor, as the "
                f"format {what!r} needs",
                hint="leave it out: select_columns([...]); or the format 'torch' or 'numpy'",
                field=name,
            )
    return columns


def _torch_col(batch: pa.RecordBatch) -> Any:
    columns = list(_only_tensors(batch, "torch_col").values())
    if len(columns) == 1 and columns[0].ndim > 1:
        return columns[0]
    if len({column.dtype for column in columns}) == 1 and all(c.ndim == 1 for c in columns):
        return torch.stack(columns)
    return dict(zip(batch.schema.names, columns, strict=True))


def _torch_row(batch: pa.RecordBatch) -> list[Any]:
    columns = _only_tensors(batch, "torch_row")
    if len(columns) == 1:
        return list(next(iter(columns.values())))
    if len({c.dtype for c in columns.values()}) == 1 and all(c.ndim == 1 for c in columns.values()):
        return list(torch.stack(list(columns.values()), dim=1))
    return [{name: values[i] for name, values in columns.items()} for i in range(len(batch))]


FORMATS: Final[dict[str, Callable[[pa.RecordBatch], Any]]] = {
    "python": _python,
    "python_col": _python_col,
    "numpy": _numpy,
    "pandas": _pandas,
    "polars": _polars,
    "arrow": _arrow,
    "torch": _torch,
    "torch_row": _torch_row,
    "torch_col": _torch_col,
}
"""What a batch can be turned into."""


def find_format(name: str) -> Callable[[pa.RecordBatch], Any]:
    """Return what makes a format of a batch.

    Parameters
    ----------
    name : str
        One of :data:`FORMATS`.

    Raises
    ------
    InvalidInputError
        With the nearest names.
    """
    if name not in FORMATS:
        raise InvalidInputError(
            f"there is no format {name!r}", hint=nearest_hint(str(name), FORMATS, "formats")
        )
    return FORMATS[name]
