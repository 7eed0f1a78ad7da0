"""Merging schemas: which fields the result has, and where each comes from.

Source: design/0008 section 7.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from dreamdb.errors import SchemaError
from dreamdb.model import Field, FieldList, check_field_name, pair_fields
from dreamdb.types import FieldType
from dreamdb.write.conflicts import BASE, OURS, THEIRS, ConflictGroup, Conflicts

__all__ = ["DroppedField", "MergedField", "MergedSchema", "merge_notes", "merge_schemas"]

_TEXT = FieldType("text")
_NO_ANCHORS = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class MergedField:
    """A field of the result.

    Parameters
    ----------
    field : Field
        Its definition.
    base : str or None
        Its name in the merge base; None when it was added since.
    names : tuple of (str or None)
        Its name on our side and on theirs; None where there is none.
    """

    field: Field
    base: str | None
    names: tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class DroppedField:
    """A field that one side dropped and the other kept as it was.

    Parameters
    ----------
    base : str
        Its name in the merge base.
    keeper : int
        The side that kept it; its changed cells are conflicts.
    merged : MergedField
        What it would be if it stayed.
    """

    base: str
    keeper: int
    merged: MergedField


@dataclass(frozen=True, slots=True)
class MergedSchema:
    """The fields of the result.

    Parameters
    ----------
    fields : tuple of MergedField
        In no order.
    dropped : tuple of DroppedField
        To be looked at before they go.
    key : str or None
        Name of the key field.
    """

    fields: tuple[MergedField, ...]
    dropped: tuple[DroppedField, ...]
    key: str | None

    def field_list(self) -> FieldList:
        """Return the schema of the result."""
        return FieldList.of((f.field for f in self.fields), self.key)


def merge_schemas(
    base: FieldList,
    sides: tuple[FieldList, FieldList],
    renames: tuple[Mapping[str, str], Mapping[str, str]],
    conflicts: Conflicts,
) -> MergedSchema:
    """Merge two schemas over their base.

    Parameters
    ----------
    base : FieldList
        The merge base's fields.
    sides : tuple of FieldList
        Ours and theirs.
    renames : tuple of mapping
        Base names to the names on each side.
    conflicts : Conflicts
        Decides what both changed.

    Raises
    ------
    SchemaError
        When the sides address their records by different keys, or the decisions leave two fields
        with one name.
    """
    forward = []
    for side, renamed in zip(sides, renames, strict=True):
        pairs = pair_fields(base, side, renamed, same_cuts=True).shared
        forward.append(dict(pairs))
    fields: list[MergedField] = []
    dropped: list[DroppedField] = []
    for name, old in base.items():
        mine, other = (names.get(name) for names in forward)
        if mine is not None and other is not None:
            fields.append(_both_kept(old, sides[0][mine], sides[1][other], conflicts))
        elif mine is not None or other is not None:
            keeper = OURS if mine is not None else THEIRS
            kept = sides[keeper][(mine or other) or ""]
            merged = MergedField(kept, name, (mine, other))
            if kept == old:
                dropped.append(DroppedField(name, keeper, merged))
            elif _keeps(conflicts, old, kept, keeper):
                fields.append(merged)
    known = [set(names.values()) for names in forward]
    new = [{n: f for n, f in side.items() if n not in known[i]} for i, side in enumerate(sides)]
    for name in sorted({*new[0], *new[1]}):
        fields += _added(name, new[0].get(name), new[1].get(name), conflicts)
    fields = _distinct(base, fields, conflicts)
    return MergedSchema(tuple(fields), tuple(dropped), _key(base, sides, fields))


def _both_kept(old: Field, mine: Field, other: Field, conflicts: Conflicts) -> MergedField:
    """Merge name and attributes of a field that both sides still have."""
    names = (mine.name, other.name)
    merged: dict[str, Any] = {}
    clash = False
    for attribute in ("name", "required", "parent", "algorithm", "order"):
        was, a, b = (getattr(f, attribute) for f in (old, mine, other))
        clash |= a != b and was not in (a, b)
        merged[attribute] = a if b == was else b
    if clash:
        chosen = (mine, other, old)[_decide(conflicts, other.name, old, mine, other)]
        return MergedField(chosen, old.name, names)
    return MergedField(replace(mine, **merged), old.name, names)


def _keeps(conflicts: Conflicts, old: Field, kept: Field, keeper: int) -> bool:
    """Decide about a field that one side dropped and the other changed."""
    sides = (kept, None) if keeper == OURS else (None, kept)
    return _decide(conflicts, old.name, old, *sides) != 1 - keeper


def _added(
    name: str, mine: Field | None, other: Field | None, conflicts: Conflicts
) -> list[MergedField]:
    if mine is None or other is None:
        found = mine or other
        assert found is not None
        names = (name, None) if mine is not None else (None, name)
        return [MergedField(found, None, names)]
    if mine == other:
        return [MergedField(mine, None, (name, name))]
    choice = _decide(conflicts, name, None, mine, other)
    if choice == BASE:
        return []
    alike = (mine.type, mine.rung, mine.floor) == (other.type, other.rung, other.floor)
    if choice == OURS:
        return [MergedField(mine, None, (name, name if alike else None))]
    return [MergedField(other, None, (name if alike else None, name))]


def _distinct(
    base: FieldList, fields: list[MergedField], conflicts: Conflicts
) -> list[MergedField]:
    """Decide about two fields that the sides gave one name."""
    out: dict[str, MergedField] = {}
    for field in fields:
        name = field.field.name
        rival = out.get(name)
        if rival is None:
            out[name] = field
            continue
        claims = {_claimant(f, name): f for f in (rival, field)}
        if set(claims) != {OURS, THEIRS}:
            raise SchemaError(f"the merge would give two fields the name {name!r}", field=name)
        choice = _decide(conflicts, name, None, claims[OURS].field, claims[THEIRS].field)
        winner = claims[THEIRS if choice == THEIRS else OURS]
        loser = field if winner is rival else rival
        out[name] = winner
        if loser.base is not None:
            if loser.base in out:
                raise SchemaError(
                    f"the merge would give two fields the name {loser.base!r}",
                    hint="rename one of them on its branch first",
                    field=loser.base,
                )
            back = replace(loser.field, name=loser.base)
            out[loser.base] = replace(loser, field=back)
    return list(out.values())


def _claimant(field: MergedField, name: str) -> int:
    """Return the side that gave a field this name."""
    mine, other = field.names
    if field.base is not None and mine is not None and other is not None:
        return OURS if mine == name and field.base != name else THEIRS
    return OURS if mine == name else THEIRS


def _key(
    base: FieldList, sides: tuple[FieldList, FieldList], fields: list[MergedField]
) -> str | None:
    found = []
    for index, side in enumerate(sides):
        merged = next((f for f in fields if f.names[index] == side.key), None)
        found.append(None if side.key is None or merged is None else merged.field.name)
    if found[0] != found[1] or (found[0] is None) != (sides[0].key is None):
        raise SchemaError(
            f"the two sides identify records differently: key {sides[0].key!r} and "
            f"{sides[1].key!r}",
            hint="merge branches of datasets with the same key",
        )
    return None if found[0] is None else check_field_name(found[0])


def _decide(
    conflicts: Conflicts, name: str, base: Field | None, mine: Field | None, other: Field | None
) -> int:
    group = _single("schema", name, *(_described(f) for f in (base, mine, other)))
    return int(conflicts.decide(group).which[0])


def _described(field: Field | None) -> str | None:
    return None if field is None else json.dumps(field.to_document(), sort_keys=True)


def _single(
    kind: str, name: str, base: str | None, mine: str | None, other: str | None
) -> ConflictGroup:
    values = [pa.array([value], pa.string()) for value in (base, mine, other)]
    return ConflictGroup(kind, name, _TEXT, _NO_ANCHORS, *values)


def merge_notes(
    base: Mapping[str, str],
    sides: tuple[Mapping[str, str], Mapping[str, str]],
    conflicts: Conflicts,
) -> dict[str, str]:
    """Merge the notes of two contents over their base.

    Parameters
    ----------
    base : mapping of str to str
        The merge base's.
    sides : tuple of mapping
        Ours and theirs.
    conflicts : Conflicts
        Decides about notes that both changed.
    """
    out: dict[str, str] = {}
    for name in sorted({*base, *sides[0], *sides[1]}):
        was, mine, other = base.get(name), sides[0].get(name), sides[1].get(name)
        value = mine if other == was else other
        if mine != other and was not in (mine, other):
            group = _single("note", name, was, mine, other)
            value = conflicts.decide(group).pick(group)[0].as_py()
        if value is not None:
            out[name] = value
    return out
