"""Conflicts of a merge: collecting them, showing them as a table, having them decided.

Source: design/0008 section 8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import arrow_type, coerce, numbers_array
from dreamdb.errors import InvalidInputError, MergeConflictError
from dreamdb.types import FieldType

__all__ = [
    "BASE",
    "OURS",
    "THEIRS",
    "VALUE",
    "Choices",
    "Conflict",
    "ConflictGroup",
    "Conflicts",
    "Resolution",
    "Resolve",
]

OURS: Final = 0
THEIRS: Final = 1
BASE: Final = 2
VALUE: Final = 3
UNDECIDED: Final = -1
_WORDS: Final = {"ours": OURS, "theirs": THEIRS, "base": BASE, "value": VALUE}
TEXT: Final = FieldType("text")


@dataclass(frozen=True, slots=True)
class Resolution:
    """A value that decides a conflict; made by :meth:`Conflict.use`.

    Parameters
    ----------
    value : object
        What the cell is to hold.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class Conflict:
    """One cell, record, field or note that both sides changed.

    Parameters
    ----------
    kind : str
        ``cell`` (both changed it), ``add`` (both added the record), ``delete`` (one side deleted
        the record, the other changed this cell), ``schema`` (a field's name or definition) or
        ``note`` (metadata).
    anchor : int or None
        The record; None for ``schema`` and ``note``.
    field : str
        The field, by its name in the merged schema, or the note.
    base, ours, theirs : object
        The values; None where there is none.
    """

    kind: str
    anchor: int | None
    field: str
    base: Any
    ours: Any
    theirs: Any

    def use(self, value: Any) -> Resolution:
        """Return the decision for another value than those of the two sides."""
        return Resolution(value)


Resolve: TypeAlias = Callable[[Conflict], "str | Resolution | None"]
"""Decides one conflict: ``"ours"``, ``"theirs"``, ``"base"``, ``conflict.use(value)``; None leaves
it open."""


@dataclass(frozen=True, slots=True)
class ConflictGroup:
    """Conflicts of one kind in one field.

    Parameters
    ----------
    kind, field : str
        As in :class:`Conflict`.
    ftype : FieldType
        What the values are.
    anchors : ndarray of uint64
        The records; empty for ``schema`` and ``note``, which are single.
    base, ours, theirs : Array
        One value per record, of the logical type.
    """

    kind: str
    field: str
    ftype: FieldType
    anchors: npt.NDArray[np.uint64]
    base: pa.Array
    ours: pa.Array
    theirs: pa.Array

    def __len__(self) -> int:
        return len(self.ours)

    def __iter__(self) -> Iterator[Conflict]:
        anchors: list[int | None] = self.anchors.tolist() or [None] * len(self)
        sides = [values.to_pylist() for values in (self.base, self.ours, self.theirs)]
        for anchor, base, ours, theirs in zip(anchors, *sides, strict=True):
            yield Conflict(self.kind, anchor, self.field, base, ours, theirs)


@dataclass(frozen=True, slots=True)
class Choices:
    """How a group was decided.

    Parameters
    ----------
    which : ndarray of int8
        OURS, THEIRS, BASE or VALUE for each conflict.
    values : Array
        The values for those that are VALUE, of the logical type; null elsewhere.
    """

    which: npt.NDArray[np.int8]
    values: pa.Array

    def pick(self, group: ConflictGroup) -> pa.Array:
        """Return the chosen values."""
        count = len(group)
        parts = [group.ours, group.theirs, group.base, self.values]
        index = self.which.astype(np.int64) * count + np.arange(count)
        return pa.concat_arrays(parts).take(numbers_array(index))


class Conflicts:
    """Collects the conflicts of a merge and has each group decided.

    Parameters
    ----------
    resolve : str, callable, Table or None
        ``"ours"``, ``"theirs"`` or ``"base"`` for all; a function of one :class:`Conflict`; or a
        table with ``anchor``, ``field``, ``choice`` and, for choices ``"value"``, ``value``.
    """

    def __init__(self, resolve: str | Resolve | pa.Table | None) -> None:
        self._resolve = resolve
        self._table: Mapping[tuple[int | None, str], tuple[str | None, Any]] = {}
        if isinstance(resolve, str):
            _choice(resolve)
        elif resolve is not None and not callable(resolve):
            self._table = _choices_of(resolve)
        self._open: list[ConflictGroup] = []
        self.decided = 0

    def decide(self, group: ConflictGroup) -> Choices:
        """Return the decisions about a group; what stays open counts as ours until :meth:`check`.

        Raises
        ------
        InvalidInputError
            When a decision is not one.
        """
        count = len(group)
        nothing = pa.nulls(count, arrow_type(group.ftype))
        if isinstance(self._resolve, str):
            self.decided += count
            return Choices(np.full(count, _choice(self._resolve), np.int8), nothing)
        if self._resolve is None:
            self._open.append(group)
            return Choices(np.zeros(count, np.int8), nothing)
        which = np.full(count, UNDECIDED, np.int8)
        values: list[Any] = [None] * count
        for at, conflict in enumerate(group):
            which[at], values[at] = self._one(conflict)
        left = np.flatnonzero(which == UNDECIDED)
        if len(left):
            self._open.append(_part(group, left))
        self.decided += count - len(left)
        which[left] = OURS
        chosen = which == VALUE
        if chosen.any():
            if group.kind in ("schema", "delete"):
                raise InvalidInputError(
                    f"a conflict of kind {group.kind!r} is decided by a side, not by a value",
                    hint="'ours' or 'theirs'",
                    field=group.field,
                )
            column = coerce(group.ftype, values, field=group.field, required=False)
            nothing = pa.concat_arrays(column.chunks)
        return Choices(which, nothing)

    def _one(self, conflict: Conflict) -> tuple[int, Any]:
        if callable(self._resolve):
            said: Any = self._resolve(conflict)
            if isinstance(said, Resolution):
                return VALUE, said.value
        else:
            said, value = self._table.get((conflict.anchor, conflict.field), (None, None))
            if said == "value":
                return VALUE, value
        return (UNDECIDED if said is None else _choice(said)), None

    def check(self, ours: str, theirs: str) -> None:
        """Raise MergeConflictError when something is still open.

        Parameters
        ----------
        ours, theirs : str
            What the sides are called.
        """
        if not self._open:
            return
        table = conflict_table(self._open)
        first = next(iter(self._open[0]))
        what = f"{first.field!r}" + ("" if first.anchor is None else f" of record {first.anchor}")
        count = f"{table.num_rows} conflict" + ("s" if table.num_rows > 1 else "")
        raise MergeConflictError(
            f"cannot merge {theirs} into {ours}: {count}, the first about {what}; "
            "nothing was published",
            hint="strategy='ours' or 'theirs', or resolve= with a function or a table of choices; "
            "error.details['conflicts'] lists them",
            conflicts=table,
        )


def _choice(said: object) -> int:
    if not isinstance(said, str) or said not in _WORDS or said == "value":
        raise InvalidInputError(
            f"{said!r} does not decide a conflict",
            hint="return 'ours', 'theirs', 'base', conflict.use(value), or None to leave it open",
        )
    return _WORDS[said]


def _choices_of(table: Any) -> dict[tuple[int | None, str], tuple[str | None, Any]]:
    """Return a table of choices as a dictionary."""
    try:
        read = table if isinstance(table, pa.Table) else pa.table(table)
        columns = [read.column(name).to_pylist() for name in ("anchor", "field", "choice")]
    except (KeyError, TypeError, pa.ArrowException) as error:
        raise InvalidInputError(
            f"the choices cannot be read: {error}",
            hint="a table with 'anchor', 'field' and 'choice' ('ours', 'theirs', 'base', 'value')",
        ) from None
    given = "value" in read.column_names
    values = read.column("value").to_pylist() if given else [None] * read.num_rows
    out = {}
    for anchor, field, choice, value in zip(*columns, values, strict=True):
        if choice is not None and choice not in _WORDS:
            _choice(choice)
        out[anchor, field] = choice, value
    return out


def _part(group: ConflictGroup, index: npt.NDArray[np.int64]) -> ConflictGroup:
    taken = numbers_array(index)
    anchors = group.anchors[index] if len(group.anchors) else group.anchors
    sides = [values.take(taken) for values in (group.base, group.ours, group.theirs)]
    return ConflictGroup(group.kind, group.field, group.ftype, anchors, *sides)


def conflict_table(groups: list[ConflictGroup]) -> pa.Table:
    """Return conflicts as a table.

    Parameters
    ----------
    groups : list of ConflictGroup
        At least one.

    Returns
    -------
    Table
        ``anchor`` (uint64; null for schema and notes), ``field``, ``kind``, ``base``, ``ours``,
        ``theirs``: of the field's type when all conflicts have one type, otherwise text (JSON;
        bytes as hexadecimal digits).
    """
    types = {arrow_type(group.ftype) for group in groups}
    dtype = types.pop() if len(types) == 1 else None
    columns: dict[str, list[Any]] = {
        name: [] for name in ("anchor", "field", "kind", "base", "ours", "theirs")
    }
    for group in groups:
        count = len(group)
        known = len(group.anchors)
        anchors = numbers_array(group.anchors) if known else pa.nulls(count, pa.uint64())
        columns["anchor"].append(anchors)
        columns["field"].append(pa.repeat(pa.scalar(group.field, pa.string()), count))
        columns["kind"].append(pa.repeat(pa.scalar(group.kind, pa.string()), count))
        for name in ("base", "ours", "theirs"):
            values = getattr(group, name)
            columns[name].append(values if dtype is not None else _as_text(values))
    return pa.table({name: pa.chunked_array(chunks) for name, chunks in columns.items()})


def _as_text(values: pa.Array) -> pa.Array:
    if pa.types.is_string(values.type):
        return values
    if pa.types.is_timestamp(values.type):
        return values.cast(pa.string())
    plain = [None if v is None else json.dumps(v, default=_hex) for v in values.to_pylist()]
    return pa.array(plain, pa.string())


def _hex(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
