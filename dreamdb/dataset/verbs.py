"""From arguments to changes: checks that need the schema and the records, before a commit.

Source: design/0004 section 3.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import coerce, numbers_array
from dreamdb.dataset.vector_options import VectorOptions, bind_field
from dreamdb.errors import AlreadyExistsError, AnchorNotFoundError, InvalidInputError, SchemaError
from dreamdb.index import IndexRoot
from dreamdb.model import Field, check_algorithm, check_field_name, default_rungs
from dreamdb.read import ScanPlan, matching_rows, parse_where
from dreamdb.tracks import View, gather
from dreamdb.types import FieldType
from dreamdb.write import (
    AddRecords,
    Change,
    DeleteRecords,
    SetCells,
    Slab,
    WriteLayer,
    anchor_array,
    check_anchors,
    check_text,
    slabs,
)

__all__ = [
    "MODES",
    "add_records",
    "delete_records",
    "layer_field",
    "set_cells",
    "vector_field",
    "write_layer",
]

MODES: Final = ("create", "replace", "update")
Anchors = npt.NDArray[np.uint64]


def add_records(
    view: View, data: object, *, anchor: str | None = None, upsert: bool = False
) -> AddRecords:
    """Return the change that appends or upserts records.

    Parameters
    ----------
    view : View
        The records.
    data : object
        Anything tabular.
    anchor : str, optional
        The column that holds the anchors.
    upsert : bool
        Change records that are stored.
    """
    schema = view.content.schema
    required: Iterable[str] | None = () if upsert else None
    if upsert and schema.key is None and anchor is None and not _has_anchors(data):
        raise InvalidInputError(
            "upsert needs anchors, or a dataset with a key",
            hint="give each record an '_anchor', name the column with anchor=..., "
            "or create the dataset with key=...",
        )

    def read() -> Iterator[Slab]:
        return slabs(data, schema, anchor=anchor, fields=required)

    if _rereadable(data):
        unique = not upsert and schema.key is None
        return AddRecords(lambda: _checked(read, view, unique=unique), upsert=upsert)
    return AddRecords(read, upsert=upsert)


def _rereadable(data: object) -> bool:
    if isinstance(data, (list, tuple)):
        return all(isinstance(item, (Mapping, pa.Table, pa.RecordBatch)) for item in data)
    frame = type(data).__module__.split(".")[0] in ("pandas", "polars")
    return frame or isinstance(data, (pa.Table, pa.RecordBatch, Mapping))


def _checked(read: Callable[[], Iterator[Slab]], view: View, *, unique: bool) -> Iterator[Slab]:
    """Yield slabs; several are all checked first, so that bad data leaves no object behind."""
    slabs_read = read()
    begun = list(itertools.islice(slabs_read, 2))
    if len(begun) == 2:
        given = [slab.anchors for slab in itertools.chain(begun, slabs_read)]
        if given[0] is not None:
            anchors = np.concatenate([a for a in given if a is not None])
            check_anchors(anchors)
            stored = np.flatnonzero(view.find(anchors) >= 0)
            if unique and len(stored):
                anchor = int(anchors[stored[0]])
                raise AlreadyExistsError(
                    f"row {int(stored[0])}: a record with the anchor {anchor} exists already",
                    hint="use upsert() to change stored records",
                    anchor=anchor,
                    row=int(stored[0]),
                )
        begun, slabs_read = [], read()
    yield from begun
    yield from slabs_read


def _has_anchors(data: object) -> bool:
    if isinstance(data, Sequence) and data and isinstance(data[0], Mapping):
        return "_anchor" in data[0]
    if isinstance(data, Mapping):
        return "_anchor" in data
    for attribute in ("column_names", "columns"):
        names = getattr(data, attribute, None)
        if names is not None and not callable(names) and all(isinstance(n, str) for n in names):
            return "_anchor" in list(names)
    # What cannot be told beforehand is checked slab by slab.
    return True


def set_cells(view: View, anchors: object, values: Mapping[str, object]) -> SetCells:
    """Return the change that replaces cells of some records.

    Parameters
    ----------
    view : View
        The records.
    anchors : int or array-like of uint64
        Which records.
    values : mapping of str to object
        One value per anchor, or one for all, by field.
    """
    if not isinstance(values, Mapping) or not values:
        raise InvalidInputError("update needs a dictionary of fields and values")
    view.check_fields(list(values))
    wanted = anchor_array(_as_list(anchors), what="anchors")
    order = check_anchors(wanted)
    view.rows_of(wanted)
    columns = {}
    for name, given in values.items():
        field = view.content.schema[name]
        if name == view.content.schema.key:
            raise InvalidInputError(
                f"{name!r} is the key and cannot be updated",
                hint="delete the record and append it under its new key",
                field=name,
            )
        column = _spread(field, given, len(wanted))
        if len(column) != len(wanted):
            raise InvalidInputError(
                f"field {name!r} has {len(column)} values for {len(wanted)} anchors", field=name
            )
        columns[name] = _reorder(column, order)
    return SetCells(wanted if order is None else wanted[order], columns)


def _as_list(anchors: object) -> object:
    return [anchors] if isinstance(anchors, (int, np.integer)) else anchors


def _spread(field: Field, given: object, count: int) -> pa.ChunkedArray:
    """Coerce one value per record, or one value for all of them."""
    one = (str, bytes, bytearray, memoryview, int, float, np.generic, datetime.date, Mapping)
    single = given is None or isinstance(given, one)
    if isinstance(given, np.ndarray) and field.type.kind in ("embedding", "tensor"):
        rank = 1 if field.type.kind == "embedding" else len(field.type.shape or ())
        single = given.ndim == rank
    elif isinstance(given, (list, tuple)) and field.type.kind == "embedding":
        single = bool(given) and isinstance(given[0], (int, float))
    values = [given] * count if single else given
    return coerce(field.type, values, field=field.name, required=field.required)


def _reorder(column: pa.ChunkedArray, order: Any) -> pa.ChunkedArray:
    if order is None:
        return column
    joined = pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
    return pa.chunked_array([joined.take(numbers_array(order))], column.type)


def delete_records(view: View, which: object, reason: str | None) -> DeleteRecords:
    """Return the change that deletes records, by anchors or by a condition.

    Parameters
    ----------
    view : View
        The records.
    which : array-like of uint64, Expression or str
        Anchors or a condition.
    reason : str or None
        Recorded in the manifest.
    """
    import pyarrow.compute as pc

    if reason is not None:
        check_text(reason, "the reason")
    if isinstance(which, (str, pc.Expression)):
        predicate = parse_where(which, view.content.schema)
        plan = ScanPlan(fields=(), predicate=predicate, start=0, stop=view.rows)
        found = list(matching_rows(view, plan))
        rows = np.concatenate(found) if found else np.empty(0, np.int64)
        column = gather(view.timeline, rows)
        anchors = np.array(column.to_pylist(), np.uint64)
    else:
        anchors = anchor_array(_as_list(which), what="anchors")
        order = check_anchors(anchors)
        anchors = anchors if order is None else anchors[order]
        view.rows_of(anchors)
    return DeleteRecords(anchors, reason)


def layer_field(
    view: View,
    name: str,
    ftype: FieldType,
    *,
    parent: str | None,
    algorithm: str | None = None,
) -> Field:
    """Return the definition of a layer; an existing field keeps its cuts.

    Parameters
    ----------
    view : View
        The records.
    name : str
        The layer.
    ftype : FieldType
        What its values are.
    parent : str or None
        The field it was derived from.
    algorithm : str, optional
        Similarity of an embedding.
    """
    check_field_name(name)
    schema = view.content.schema
    if parent is not None:
        view.check_fields([parent])
    if name in schema:
        old = schema[name]
        if old.type != ftype:
            raise SchemaError(
                f"the field {name!r} is {old.type}, not {ftype}",
                hint="drop_field() first, or use another name",
                field=name,
            )
        return replace(old, parent=parent or old.parent, algorithm=algorithm or old.algorithm)
    rung, floor = default_rungs(ftype)
    if algorithm is not None:
        check_algorithm(algorithm)
    return Field(name, ftype, rung=rung, floor=floor, parent=parent, algorithm=algorithm)


def vector_field(
    view: View,
    name: str,
    ftype: FieldType,
    options: VectorOptions,
    *,
    parent: str | None,
    algorithm: str,
) -> tuple[Field, IndexRoot | None]:
    """Return the definition of a layer of vectors, and how it is indexed.

    Parameters
    ----------
    view : View
        The records.
    name : str
        The layer.
    ftype : FieldType
        An embedding.
    options : VectorOptions
        Codec and spatial index; none keep those of an existing field.
    parent : str or None
        The field it was derived from.
    algorithm : str
        Similarity.
    """
    old = view.content.schema.find(name)
    codec = None if old is None else old.type.codec
    if old is not None and old.type == replace(ftype, codec=codec):
        ftype = old.type
    field = layer_field(view, name, ftype, parent=parent, algorithm=algorithm)
    if options.compressor is None and options.spatial_index is None:
        return field, None
    bound, index = bind_field(view.source.cache, field, options)
    if old is not None and bound.type != old.type:
        raise SchemaError(
            f"the field {name!r} is {old.type}, not {bound.type}",
            hint=f"ds.reencode({name!r}, codec) changes how a field is stored",
            field=name,
        )
    return bound, index


def write_layer(view: View, field: Field, samples: object, mode: str) -> Change:
    """Return the change that writes a layer.

    Parameters
    ----------
    view : View
        The records.
    field : Field
        The layer's definition.
    samples : object
        ``[(anchor, value), ...]``, a table with ``_anchor`` (or its first column) and a value
        column, a mapping of anchor to value, or a pair of arrays.
    mode : str
        ``create``, ``replace`` or ``update``.
    """
    if mode not in MODES:
        raise InvalidInputError(f"mode={mode!r} is not a choice", hint=f"use one of {MODES}")
    exists = field.name in view.content.schema
    if mode == "update" and not exists:
        view.check_fields([field.name])
    given, values = _split_samples(samples, field.name)
    anchors = anchor_array(given, what="samples")
    column = coerce(field.type, values, field=field.name, required=field.required)
    if len(anchors) != len(column):
        raise InvalidInputError(
            f"the layer {field.name!r} has {len(anchors)} anchors and {len(column)} values",
            field=field.name,
        )
    order = check_anchors(anchors)
    if order is not None:
        anchors, column = anchors[order], _reorder(column, order)
    if exists and field.name == view.content.schema.key:
        raise InvalidInputError(
            f"{field.name!r} is the key and cannot be written as a layer", field=field.name
        )
    if mode == "replace" and field.required and len(anchors) < view.count():
        raise InvalidInputError(
            f"field {field.name!r} is required: the layer has values for {len(anchors)} of "
            f"{view.count()} records",
            hint="give every record a value, or use mode='update'",
            field=field.name,
        )
    if mode == "update":
        view.rows_of(anchors)
        return SetCells(anchors, {field.name: column})
    if mode == "create" or not exists:
        # The commit checks again; failing here means that nothing is staged.
        _check_known(view, anchors, field.name)
    return WriteLayer(field, anchors, column, "create" if mode == "create" else "replace")


def _check_known(view: View, anchors: Anchors, name: str) -> None:
    if len(anchors) == view.count() and np.array_equal(view.visible_anchors(), anchors):
        return
    try:
        view.rows_of(anchors)
    except AnchorNotFoundError as error:
        raise AnchorNotFoundError(
            f"the layer {name!r} names a record that does not exist: {error}",
            hint="layers hold values for existing records; append the records first",
            **error.details,
        ) from None


def _split_samples(samples: object, name: str) -> tuple[object, object]:
    if isinstance(samples, Mapping) and not hasattr(samples, "__arrow_c_stream__"):
        if "_anchor" in samples and len(samples) == 2:
            (other,) = [k for k in samples if k != "_anchor"]
            return samples["_anchor"], samples[other]
        return list(samples.keys()), list(samples.values())
    if isinstance(samples, tuple) and len(samples) == 2 and not _is_pair(samples):
        return samples[0], samples[1]
    table: pa.Table | None = None
    if isinstance(samples, pa.Table):
        table = samples
    elif isinstance(samples, pa.RecordBatch):
        table = pa.Table.from_batches([samples])
    elif type(samples).__module__.split(".")[0] == "pandas":
        table = pa.Table.from_pandas(samples, preserve_index=False)
    elif hasattr(samples, "__arrow_c_stream__"):
        table = pa.table(samples)
    if table is not None:
        return _split_table(table, name)
    try:
        listed = list(samples)  # type: ignore[call-overload]
        pairs = [(anchor, value) for anchor, value in listed]
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"the samples of the layer {name!r} are not pairs",
            hint="give [(anchor, value), ...], a table with '_anchor' and a value column, "
            "or (anchors, values)",
            field=name,
        ) from None
    return [anchor for anchor, _ in pairs], [value for _, value in pairs]


def _is_pair(samples: tuple[object, ...]) -> bool:
    """Tell ``((anchor, value), (anchor, value))`` from ``(anchors, values)``."""
    return all(isinstance(item, tuple) and len(item) == 2 for item in samples)


def _split_table(table: pa.Table, name: str) -> tuple[object, object]:
    names = table.column_names
    anchor = "_anchor" if "_anchor" in names else names[0] if names else None
    rest = [n for n in names if n != anchor]
    value = name if name in rest else rest[0] if len(rest) == 1 else None
    if anchor is None or value is None:
        raise InvalidInputError(
            f"cannot tell which column of {names} holds the values of {name!r}",
            hint=f"name the columns '_anchor' and {name!r}",
            field=name,
        )
    return table.column(anchor), table.column(value)
