"""The schema: a dataset's fields, their types, and where their tracks are cut.

Source: design/0002 section 5, design/0004.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from typing import Any, Final

import numpy as np

from dreamdb.errors import FieldNotFoundError, FormatError, SchemaError, nearest_hint
from dreamdb.model.cuts import LADDER, nearest_rung
from dreamdb.types import FieldType
from dreamdb.vectors import parse_codec

__all__ = ["ANCHOR", "Field", "FieldList", "check_field_name", "default_rungs", "field_type"]

ANCHOR: Final = "_anchor"
TIMELINE_RUNGS: Final = (6, 5)
TOMBSTONE_RUNGS: Final = (6, 5)
MAX_FIELDS: Final = 4096
MAX_DIM: Final = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}\Z")
_VECTOR_TARGET: Final = 4 << 20
_VECTOR_FLOOR: Final = 256 << 10
_KINDS: Final[dict[str, tuple[int, int]]] = {
    "bool": (7, 5),
    "int": (7, 5),
    "float": (7, 5),
    "timestamp": (7, 5),
    "categorical": (7, 5),
    "string": (6, 4),
    "text": (4, 3),
    "list": (5, 3),
    "struct": (5, 3),
    "image": (3, 2),
    "audio": (2, 1),
    "binary": (3, 2),
    "video": (0, 0),
}
_ITEM_KINDS: Final = frozenset({"bool", "int", "float", "string", "text", "timestamp"})
_MEMBER_KINDS: Final = _ITEM_KINDS | {"binary", "list", "struct"}
_DTYPES: Final = frozenset(
    {
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64",
    }
)  # fmt: skip
_ALGORITHMS: Final = frozenset(
    {
        "dreamdb.flat-cosine", "dreamdb.flat-dot", "dreamdb.flat-l2",
        "dreamdb.ivf-cosine", "dreamdb.ivf-dot", "dreamdb.ivf-l2", "dreamdb.lsh-cosine",
    }
)  # fmt: skip


def check_field_name(name: object) -> str:
    """Return the name when a field may have it.

    Raises
    ------
    SchemaError
        When it is empty, reserved, or holds other characters.
    """
    if not isinstance(name, str) or not _NAME.match(name):
        raise SchemaError(
            f"{name!r} is not a field name",
            hint="use 1 to 200 letters, digits, '_', '-' or '.'",
            field=name,
        )
    if name == ANCHOR or name == "_time_anchors" or name == "_score":
        raise SchemaError(f"the field name {name!r} is reserved", field=name)
    return name


def _positive(value: object, what: str, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise SchemaError(f"{what} must be an integer, not {value!r}")
    if not 1 <= int(value) <= limit:
        raise SchemaError(f"{what} must be between 1 and {limit}, not {value}")
    return int(value)


def field_type(kind: str, **members: Any) -> FieldType:
    """Build a field type from its members and check it.

    Raises
    ------
    SchemaError
        When a member is missing, unknown or out of range.
    """
    if kind == "embedding":
        dim, codec = _positive(members.get("dim"), "dim", MAX_DIM), members.get("codec")
        if codec is not None:
            parse_codec(codec, dim)
        return FieldType(kind, dim=dim, codec=codec)
    if kind == "tensor":
        dtype = members.get("dtype")
        try:
            name = np.dtype(dtype).name
        except TypeError:
            name = str(dtype)
        if name not in _DTYPES:
            raise SchemaError(
                f"a tensor cannot have dtype {dtype!r}", hint=f"use one of {sorted(_DTYPES)}"
            )
        shape = tuple(_positive(n, "a tensor's shape", MAX_DIM) for n in members.get("shape") or ())
        if not shape or int(np.prod(shape, dtype=object)) > 1 << 28:
            raise SchemaError(f"a tensor cannot have shape {shape}")
        return FieldType(kind, dtype=name, shape=shape)
    if kind in ("image", "video", "audio"):
        mime = members.get("mime")
        if not isinstance(mime, str) or not re.fullmatch(r"[A-Za-z0-9.+/-]{1,64}", mime):
            raise SchemaError(f"{mime!r} is not a media type", hint="for example mime='jpeg'")
        return FieldType(kind, mime=mime)
    if kind == "list":
        item = members.get("item")
        if not isinstance(item, FieldType) or item.kind not in _ITEM_KINDS:
            raise SchemaError(f"a list cannot hold {item}")
        return FieldType(kind, item=item)
    if kind == "struct":
        fields = tuple(members.get("fields") or ())
        names = [name for name, _ in fields]
        if not fields or len(set(names)) != len(names) or len(names) > 256:
            raise SchemaError("a struct needs members with distinct names")
        for name, member in fields:
            if not isinstance(name, str) or not name or len(name) > 200:
                raise SchemaError(f"{name!r} is not a struct member's name")
            if not isinstance(member, FieldType) or member.kind not in _MEMBER_KINDS:
                raise SchemaError(f"the struct member {name!r} cannot be {member}")
        return FieldType(kind, fields=fields)
    if kind in _KINDS:
        return FieldType(kind)
    raise SchemaError(f"there is no field kind {kind!r}", hint=nearest_hint(kind, _KINDS, "kinds"))


def row_nbytes(ftype: FieldType) -> int | None:
    """Return the bytes per row of a fixed-width vector type, else None."""
    if ftype.kind == "embedding":
        return 4 * (ftype.dim or 1)
    if ftype.kind == "tensor":
        return int(np.dtype(ftype.dtype).itemsize * np.prod(ftype.shape or (1,)))
    return None


def default_rungs(ftype: FieldType, *, rows_per_fragment: int | None = None) -> tuple[int, int]:
    """Return the rung and the tail floor of a field's track.

    Parameters
    ----------
    ftype : FieldType
        The declared type; the choice never depends on data.
    rows_per_fragment : int, optional
        Records per full fragment; the nearest rung is taken.
    """
    width = row_nbytes(ftype)
    if rows_per_fragment is not None:
        rows = _positive(rows_per_fragment, "rows_per_fragment", LADDER[-1])
        rung = nearest_rung(rows)
        return rung, max(0, rung - 2) if width is None else min(
            rung, nearest_rung(_VECTOR_FLOOR / width)
        )
    if width is not None:
        rung = nearest_rung(_VECTOR_TARGET / width)
        return rung, min(rung, nearest_rung(_VECTOR_FLOOR / width))
    return _KINDS[ftype.kind]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a schema.

    Parameters
    ----------
    name : str
        Unique in its schema.
    type : FieldType
        What its values are.
    required : bool
        Whether null is refused.
    rung, floor : int
        Rung of the track's fragments, and the lowest rung of its open tail.
    order : int or None
        Position among the fields the dataset was created with; None for fields added later.
    parent : str or None
        For a layer, the field it was derived from.
    algorithm : str or None
        Similarity of an embedding, such as ``"dreamdb.ivf-cosine"``.
    """

    name: str
    type: FieldType
    required: bool = False
    rung: int = 7
    floor: int = 5
    order: int | None = None
    parent: str | None = None
    algorithm: str | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the canonical JSON form."""
        out: dict[str, Any] = {
            "name": self.name,
            "type": self.type.to_document(),
            "rung": self.rung,
            "floor": self.floor,
        }
        if self.required:
            out["required"] = True
        for key in ("order", "parent", "algorithm"):
            value = getattr(self, key)
            if value is not None:
                out[key] = value
        return out

    @classmethod
    def from_document(cls, document: Any) -> Field:
        """Parse the canonical JSON form; anything unexpected is a FormatError."""
        known = {"name", "type", "rung", "floor", "required", "order", "parent", "algorithm"}
        if not isinstance(document, dict) or not set(document) <= known:
            raise FormatError(f"a schema holds a malformed field: {str(document)[:200]}")
        try:
            rung, floor = document["rung"], document["floor"]
            order = document.get("order")
            numbers = [rung, floor] + ([] if order is None else [order])
            if any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in numbers):
                raise FormatError("a schema holds a malformed number")
            if not floor <= rung < len(LADDER):
                raise FormatError(f"a schema holds the rungs {rung}, {floor}")
            if document.get("required", True) is not True:
                raise FormatError("a schema holds a malformed 'required'")
            parent, algorithm = document.get("parent"), document.get("algorithm")
            if not all(v is None or isinstance(v, str) for v in (parent, algorithm)):
                raise FormatError("a schema holds a malformed field")
            return cls(
                check_field_name(document["name"]),
                _type_from_document(document["type"], 0),
                required="required" in document,
                rung=rung,
                floor=floor,
                order=order,
                parent=parent,
                algorithm=algorithm,
            )
        except (KeyError, TypeError, ValueError, SchemaError) as error:
            raise FormatError(f"a schema holds a malformed field: {error}") from None


def _type_from_document(document: Any, depth: int) -> FieldType:
    if depth > 8 or not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise FormatError("a schema holds a malformed type")
    members = {k: v for k, v in document.items() if k != "kind"}
    if "item" in members:
        members["item"] = _type_from_document(members["item"], depth + 1)
    if "fields" in members:
        members["fields"] = [(n, _type_from_document(t, depth + 1)) for n, t in members["fields"]]
    ftype = field_type(document["kind"], **members)
    if ftype.to_document() != document:
        raise FormatError("a schema holds a type with unexpected members")
    return ftype


def check_algorithm(algorithm: object) -> str:
    """Return the algorithm's name when it is known."""
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise SchemaError(
            f"there is no algorithm {algorithm!r}",
            hint=nearest_hint(str(algorithm), _ALGORITHMS, "algorithms"),
        )
    return algorithm


@dataclass(frozen=True, slots=True)
class FieldList(Mapping[str, Field]):
    """The fields of one content, in their order: created fields first, later ones by name.

    Parameters
    ----------
    fields : tuple of Field
        Distinct names.
    key : str or None
        The field whose value determines the anchor, for ``key=`` datasets.
    """

    fields: tuple[Field, ...]
    key: str | None = None
    _by_name: dict[str, Field] = attribute(init=False, repr=False, compare=False)
    _hash: int = attribute(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {f.name: f for f in self.fields})
        object.__setattr__(self, "_hash", hash((self.fields, self.key)))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, fields: Iterable[Field], key: str | None = None) -> FieldList:
        """Sort fields into their canonical order and check them together."""
        ordered = sorted(
            fields, key=lambda f: (f.order is None, f.order if f.order is not None else 0, f.name)
        )
        names = [f.name for f in ordered]
        if len(set(names)) != len(names):
            raise SchemaError("two fields have the same name")
        if len(names) > MAX_FIELDS:
            raise SchemaError(f"a dataset has at most {MAX_FIELDS} fields")
        if key is not None and key not in names:
            raise SchemaError(f"the key field {key!r} is not in the schema")
        return cls(tuple(ordered), key)

    def __getitem__(self, name: str) -> Field:
        field = self._by_name.get(name)
        if field is not None:
            return field
        raise FieldNotFoundError(
            f"there is no field {name!r}",
            hint=nearest_hint(str(name), [f.name for f in self.fields], "fields"),
            field=name,
        )

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def find(self, name: str) -> Field | None:
        """Return a field, or None when there is none of that name."""
        return self._by_name.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter([f.name for f in self.fields])

    def __len__(self) -> int:
        return len(self.fields)

    def add(self, field: Field) -> FieldList:
        """Return the list with one more field."""
        return FieldList.of((*self.fields, field), self.key)

    def drop(self, name: str) -> FieldList:
        """Return the list without a field."""
        self[name]
        return FieldList.of((f for f in self.fields if f.name != name), self.key)

    def rename(self, old: str, new: str) -> FieldList:
        """Return the list with a field under another name."""
        self[old]
        renamed = (replace(f, name=new) if f.name == old else f for f in self.fields)
        return FieldList.of(renamed, new if self.key == old else self.key)

    def to_document(self) -> dict[str, Any]:
        """Return the canonical JSON form."""
        out: dict[str, Any] = {"fields": [f.to_document() for f in self.fields]}
        if self.key is not None:
            out["key"] = self.key
        return out

    @classmethod
    def from_document(cls, document: Any) -> FieldList:
        """Parse the canonical JSON form."""
        if (
            not isinstance(document, dict)
            or not set(document) <= {"fields", "key"}
            or not isinstance(document.get("fields"), list)
        ):
            raise FormatError("a content holds a malformed schema")
        try:
            listed = [Field.from_document(f) for f in document["fields"]]
            out = cls.of(listed, document.get("key"))
        except SchemaError as error:
            raise FormatError(f"a content holds a malformed schema: {error}") from None
        if [f.name for f in out.fields] != [f.name for f in listed]:
            raise FormatError("a content's fields are out of order")
        if out.to_document() != document:
            raise FormatError("a content's schema has unexpected members")
        return out
