"""Which fields of two schemas are the same field, and what else has changed between them.

Source: design/0008 section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dreamdb.model.schema import Field, FieldList

__all__ = ["FieldPairs", "SchemaChange", "pair_fields"]


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One difference between two schemas.

    Parameters
    ----------
    kind : str
        ``added``, ``dropped``, ``renamed``, ``redefined`` (another type: values are not comparable)
        or ``changed`` (required, parent, similarity, cuts, order).
    field : str
        The name after; of a dropped field the name before.
    before, after : Field or None
        The definitions.
    """

    kind: str
    field: str
    before: Field | None
    after: Field | None

    def __str__(self) -> str:
        if self.kind == "renamed":
            return f"renamed {self.before.name if self.before else ''} -> {self.field}"
        if self.kind == "redefined":
            types = [str(f.type) for f in (self.before, self.after) if f is not None]
            return f"redefined {self.field}: {' -> '.join(types)}"
        known = self.after or self.before
        return f"{self.kind} {self.field}" + (f": {known.type}" if known else "")


@dataclass(frozen=True, slots=True)
class FieldPairs:
    """Two schemas, field by field.

    Parameters
    ----------
    shared : tuple of (str, str)
        Names before and after of the fields whose values can be compared.
    changes : tuple of SchemaChange
        In the order of the later schema, dropped fields last.
    """

    shared: tuple[tuple[str, str], ...]
    changes: tuple[SchemaChange, ...]


def pair_fields(
    before: FieldList,
    after: FieldList,
    renames: Mapping[str, str] | None = None,
    *,
    same_cuts: bool = False,
) -> FieldPairs:
    """Pair the fields of two schemas.

    Parameters
    ----------
    before, after : FieldList
        The schemas.
    renames : mapping of str to str, optional
        Names before to names after, of fields that were renamed.
    same_cuts : bool
        Fields with another rung or floor are not the same field.
    """
    forward = {old: new for old, new in (renames or {}).items() if old in before and new in after}
    taken = set(forward.values())
    for name in before:
        if name not in forward and name in after and name not in taken:
            forward[name] = name
    backward = {new: old for old, new in forward.items()}
    shared: list[tuple[str, str]] = []
    changes: list[SchemaChange] = []
    for name, new in after.items():
        known = backward.get(name)
        if known is None:
            changes.append(SchemaChange("added", name, None, new))
            continue
        old = before[known]
        cut_alike = (old.rung, old.floor) == (new.rung, new.floor)
        if old.type != new.type or (same_cuts and not cut_alike):
            changes.append(SchemaChange("redefined", name, old, new))
            continue
        shared.append((known, name))
        if known != name:
            changes.append(SchemaChange("renamed", name, old, new))
        if _attributes(old) != _attributes(new):
            changes.append(SchemaChange("changed", name, old, new))
    changes += [
        SchemaChange("dropped", name, old, None)
        for name, old in before.items()
        if name not in forward
    ]
    return FieldPairs(tuple(shared), tuple(changes))


def _attributes(field: Field) -> tuple[object, ...]:
    """Return what may change about a field without changing what its values are."""
    return (
        field.required, field.parent, field.algorithm, field.rung, field.floor, field.order
    )  # fmt: skip
