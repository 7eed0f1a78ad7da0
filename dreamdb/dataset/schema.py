"""The public schema: a chain of ``add_*`` calls, or inferred from data.

Source: design/0004 section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

import pyarrow as pa

from dreamdb.codecs import field_type_of
from dreamdb.dataset.vector_options import VectorOptions, check_options
from dreamdb.errors import FieldNotFoundError, SchemaError, nearest_hint
from dreamdb.model import (
    Field,
    FieldList,
    check_algorithm,
    check_field_name,
    default_rungs,
    field_type,
)
from dreamdb.read import output_schema
from dreamdb.types import BLOB_KINDS, FieldType
from dreamdb.write import KEY_KINDS

__all__ = ["SCALARS", "Schema", "scalar_type"]

SCALARS: Final = ("bool", "int", "float", "string", "categorical", "timestamp", "text")
_SCALAR_NAMES: Final = {
    "int64": "int",
    "integer": "int",
    "double": "float",
    "float64": "float",
    "str": "string",
    "boolean": "bool",
    "datetime": "timestamp",
}
_TARGET_NBYTES: Final = 4 << 20


def scalar_type(value_type: object) -> FieldType:
    """Return the field type that a scalar type's name stands for.

    Parameters
    ----------
    value_type : str or type
        ``bool int float string categorical timestamp text``, a common alias, or a Python type.

    Raises
    ------
    SchemaError
        For any other name.
    """
    name = value_type.__name__ if isinstance(value_type, type) else value_type
    kind = _SCALAR_NAMES.get(str(name), str(name))
    if kind not in SCALARS:
        raise SchemaError(
            f"{value_type!r} is not a scalar type", hint=nearest_hint(kind, SCALARS, "types")
        )
    return field_type(kind)


class Schema:
    """The fields of a dataset, in order.

    Every ``add_*`` returns the schema, so calls chain.  ``required=True`` refuses nulls.
    ``rows_per_fragment`` overrides how many records a full fragment holds on average.

    Examples
    --------
    >>> schema = Schema().add_image("image", mime="png").add_scalar_int("label")
    >>> list(schema)
    ['image', 'label']
    """

    def __init__(self) -> None:
        self._fields: dict[str, Field] = {}
        self._options: dict[str, VectorOptions] = {}

    def _add(
        self,
        name: str,
        ftype: FieldType,
        *,
        required: bool = False,
        rows_per_fragment: int | None = None,
        algorithm: str | None = None,
    ) -> Self:
        check_field_name(name)
        if name in self._fields:
            raise SchemaError(f"the field {name!r} is added twice", field=name)
        rung, floor = default_rungs(ftype, rows_per_fragment=rows_per_fragment)
        self._fields[name] = Field(
            name,
            ftype,
            required=bool(required),
            rung=rung,
            floor=floor,
            order=len(self._fields),
            algorithm=algorithm,
        )
        return self

    def add_image(
        self,
        name: str,
        mime: str = "jpeg",
        *,
        required: bool = False,
        rows_per_fragment: int | None = None,
    ) -> Self:
        """Add a field of encoded images.

        Parameters
        ----------
        name : str
            Letters, digits, ``_``, ``-``, ``.``.
        mime : str
            Media type, such as ``"jpeg"`` or ``"image/png"``.
        required : bool
            Refuse nulls.
        rows_per_fragment : int, optional
            Records per full fragment; default 256.
        """
        ftype = field_type("image", mime=mime)
        return self._add(name, ftype, required=required, rows_per_fragment=rows_per_fragment)

    def add_video(
        self,
        name: str,
        mime: str = "mp4",
        *,
        required: bool = False,
        rows_per_fragment: int | None = None,
    ) -> Self:
        """Add a field of encoded videos; each is an object of its own by default.

        Parameters
        ----------
        name, mime, required, rows_per_fragment
            As in :meth:`add_image`.
        """
        ftype = field_type("video", mime=mime)
        return self._add(name, ftype, required=required, rows_per_fragment=rows_per_fragment)

    def add_audio(
        self,
        name: str,
        mime: str = "wav",
        *,
        required: bool = False,
        rows_per_fragment: int | None = None,
    ) -> Self:
        """Add a field of encoded sound.

        Parameters
        ----------
        name, mime, required, rows_per_fragment
            As in :meth:`add_image`; 64 records per full fragment by default.
        """
        ftype = field_type("audio", mime=mime)
        return self._add(name, ftype, required=required, rows_per_fragment=rows_per_fragment)

    def add_binary(
        self, name: str, *, required: bool = False, rows_per_fragment: int | None = None
    ) -> Self:
        """Add a field of bytes without a media type.

        Parameters
        ----------
        name, required, rows_per_fragment
            As in :meth:`add_image`.
        """
        ftype = field_type("binary")
        return self._add(name, ftype, required=required, rows_per_fragment=rows_per_fragment)

    def add_embedding(
        self,
        name: str,
        dim: int,
        algorithm: str = "dreamdb.flat-cosine",
        spatial_index: bytes | str | None = None,
        compressor: bytes | str | None = None,
        rerank: bool = False,
        *,
        required: bool = False,
        rows_per_fragment: int | None = None,
    ) -> Self:
        """Add a field of float32 vectors.

        Without ``compressor`` vectors are stored exactly.  With one, only codes are stored and
        reads return the least-squares reconstruction; ``rerank=True`` keeps the exact vectors,
        which are then what reads return, and uses the codes for searching.

        Parameters
        ----------
        name : str
            The field.
        dim : int
            Length of each vector.
        algorithm : str
            Similarity of searches: ``dreamdb.flat-cosine``, ``-dot``, ``-l2``, or the same with
            ``ivf``; ``dreamdb.lsh-cosine`` is accepted for ``ivf``.
        spatial_index : bytes or str, optional
            What ``train_and_publish_ivf_centroids`` returned: the field is indexed, and the index
            follows every append.
        compressor : bytes or str, optional
            What ``publish_codec`` or ``publish_rabitq_compressor`` returned, or a codec's name:
            ``float16``, ``sq8``, ``rabitq-1``, ``-2``, ``-4``, ``-8``.
        rerank : bool
            Keep exact vectors beside the codes.
        required : bool
            Refuse nulls.
        rows_per_fragment : int, optional
            Default: about 4 MiB.
        """
        options = check_options(spatial_index, compressor, rerank)
        ftype = field_type("embedding", dim=dim)
        self._add(
            name,
            ftype,
            required=required,
            rows_per_fragment=rows_per_fragment,
            algorithm=check_algorithm(algorithm),
        )
        if options.spatial_index is not None or options.compressor is not None:
            self._options[name] = options
        return self

    def add_tensor(
        self,
        name: str,
        dtype: Any,
        shape: Sequence[int],
        *,
        required: bool = False,
        rows_per_fragment: int | None = None,
    ) -> Self:
        """Add a field of numeric arrays of one shape.

        Parameters
        ----------
        name : str
            The field.
        dtype : numpy dtype or its name
            Any integer or float type.
        shape : sequence of int
            Shape of each value.
        required, rows_per_fragment
            As in :meth:`add_embedding`.
        """
        ftype = field_type("tensor", dtype=dtype, shape=tuple(shape))
        return self._add(name, ftype, required=required, rows_per_fragment=rows_per_fragment)

    add_array = add_tensor

    def add_text(
        self, name: str, *, required: bool = False, rows_per_fragment: int | None = None
    ) -> Self:
        """Add a field of longer texts, such as documents or captions.

        Parameters
        ----------
        name, required, rows_per_fragment
            As in :meth:`add_image`; 1,024 records per full fragment by default.
        """
        ftype = field_type("text")
        return self._add(name, ftype, required=required, rows_per_fragment=rows_per_fragment)

    def add_scalar_bool(self, name: str, *, required: bool = False) -> Self:
        """Add a field of booleans.

        Parameters
        ----------
        name : str
            The field.
        required : bool
            Refuse nulls.
        """
        return self._add(name, field_type("bool"), required=required)

    def add_scalar_int(self, name: str, *, required: bool = False) -> Self:
        """Add a field of 64-bit integers.

        Parameters
        ----------
        name : str
            The field.
        required : bool
            Refuse nulls.
        """
        return self._add(name, field_type("int"), required=required)

    def add_scalar_float(self, name: str, *, required: bool = False) -> Self:
        """Add a field of 64-bit floats; NaN is a value.

        Parameters
        ----------
        name : str
            The field.
        required : bool
            Refuse nulls.
        """
        return self._add(name, field_type("float"), required=required)

    def add_scalar_string(self, name: str, *, required: bool = False) -> Self:
        """Add a field of short texts, such as ids and names.

        Parameters
        ----------
        name : str
            The field.
        required : bool
            Refuse nulls.
        """
        return self._add(name, field_type("string"), required=required)

    def add_scalar_categorical(self, name: str, *, required: bool = False) -> Self:
        """Add a field of texts with few distinct values.

        Parameters
        ----------
        name : str
            The field.
        required : bool
            Refuse nulls.
        """
        return self._add(name, field_type("categorical"), required=required)

    def add_scalar_timestamp(self, name: str, *, required: bool = False) -> Self:
        """Add a field of times: nanoseconds since the epoch, UTC.

        Parameters
        ----------
        name : str
            The field.
        required : bool
            Refuse nulls.
        """
        return self._add(name, field_type("timestamp"), required=required)

    def add_list(self, name: str, item: str = "float", *, required: bool = False) -> Self:
        """Add a field of lists of scalars.

        Parameters
        ----------
        name : str
            The field.
        item : str
            Scalar type of the elements.
        required : bool
            Refuse nulls.
        """
        return self._add(name, field_type("list", item=scalar_type(item)), required=required)

    def add_struct(
        self, name: str, fields: Mapping[str, str | FieldType], *, required: bool = False
    ) -> Self:
        """Add a field of records with named members.

        Parameters
        ----------
        name : str
            The field.
        fields : mapping of str to str or FieldType
            Scalar type of each member.
        required : bool
            Refuse nulls.
        """
        members = [
            (member, kind if isinstance(kind, FieldType) else scalar_type(kind))
            for member, kind in fields.items()
        ]
        return self._add(name, field_type("struct", fields=members), required=required)

    @classmethod
    def from_arrow(
        cls, schema: pa.Schema, *, mime: Mapping[str, str] | None = None, data: Any = None
    ) -> Self:
        """Infer a schema from Arrow types.

        Parameters
        ----------
        schema : pyarrow.Schema
            ``_anchor`` is left out.  Fixed-size lists of float32 become embeddings.
        mime : mapping of str to str, optional
            Binary columns that are images, with their media type.
        data : Table, optional
            A sample: sizes of texts and bytes choose how many records a fragment holds.

        Raises
        ------
        SchemaError
            For a type without a counterpart.
        """
        out = cls()
        for column in schema:
            if column.name == "_anchor":
                continue
            try:
                ftype = field_type_of(column.type)
            except SchemaError as error:
                raise SchemaError(
                    f"column {column.name!r}: {error}", hint=error.hint, field=column.name
                ) from None
            if ftype.kind == "binary" and mime and column.name in mime:
                ftype = field_type("image", mime=mime[column.name])
            algorithm = "dreamdb.flat-cosine" if ftype.kind == "embedding" else None
            out._add(
                column.name,
                ftype,
                required=not column.nullable,
                rows_per_fragment=_sampled_rows(ftype, column.name, data),
                algorithm=algorithm,
            )
        return out

    @classmethod
    def of_fields(cls, fields: FieldList) -> Self:
        """Return the public schema of a stored one.

        Parameters
        ----------
        fields : FieldList
            The stored fields.
        """
        out = cls()
        out._fields = {name: fields[name] for name in fields}
        return out

    @property
    def vector_options(self) -> dict[str, VectorOptions]:
        """Codecs and spatial indexes as they were given to :meth:`add_embedding`, by field."""
        return dict(self._options)

    def to_fields(self, key: str | None = None) -> FieldList:
        """Return the stored form.

        Parameters
        ----------
        key : str, optional
            The field that gives records their anchors.

        Raises
        ------
        SchemaError
            When the key is unknown or of a kind that cannot be one.
        """
        if key is not None:
            if key not in self._fields:
                raise SchemaError(
                    f"the key field {key!r} is not in the schema",
                    hint=nearest_hint(key, self._fields, "fields"),
                )
            if self._fields[key].type.kind not in KEY_KINDS:
                raise SchemaError(f"a {self._fields[key].type} cannot be a key", field=key)
        return FieldList.of(self._fields.values(), key)

    def to_arrow(self) -> pa.Schema:
        """Return the Arrow schema of a scan of all fields, without the anchor."""
        return output_schema(self.to_fields(), list(self), anchor=False)

    def __getitem__(self, name: str) -> Field:
        if name not in self._fields:
            raise FieldNotFoundError(
                f"there is no field {name!r}", hint=nearest_hint(name, self._fields, "fields")
            )
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schema):
            return NotImplemented
        return _comparable(self) == _comparable(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        listed = ", ".join(
            f"{f.name}: {f.type}{' required' if f.required else ''}" for f in self._fields.values()
        )
        return f"Schema({listed})"


def _comparable(schema: Schema) -> dict[str, tuple[FieldType, bool]]:
    return {f.name: (f.type, f.required) for f in schema._fields.values()}


def _sampled_rows(ftype: FieldType, name: str, data: Any) -> int | None:
    """Return records per fragment by the size of the values in a sample; None for the default."""
    if data is None or ftype.kind not in BLOB_KINDS | {"text"} or not data.num_rows:
        return None
    mean = max(1.0, data.column(name).nbytes / data.num_rows)
    return int(min(65_536, max(1, _TARGET_NBYTES / mean)))
