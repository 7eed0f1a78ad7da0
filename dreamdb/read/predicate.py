"""Predicates: a pyarrow expression or a SQL condition, checked, evaluated, and used for pruning.

Source: design/0004 section 6.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dreamdb.codecs import arrow_type, value_bounds
from dreamdb.errors import ExpressionError, FieldNotFoundError, InvalidInputError, nearest_hint
from dreamdb.model import ANCHOR, FieldList
from dreamdb.types import FieldType

__all__ = ["Bounds", "Predicate", "col", "parse_where"]

_NO_FIELD = re.compile(r"No match for FieldRef\.Name\((.*?)\) in ", re.S)
_MAX_ALTERNATIVES: Final = 8
_QUOTED = re.compile(r'"[^"]*"')
# Functions, != and literals of truth; comparisons whose operands are conditions themselves.
_MAY_MATCH_NAN = re.compile(r"\w\(|!=|\b(?:true|false|nan)\b|\)\s*[=<>]|[=<>]\s*\(", re.I)


def col(name: str) -> pc.Expression:
    """Return an expression that stands for a field.

    Parameters
    ----------
    name : str
        The field; ``"_anchor"`` too.

    Returns
    -------
    pyarrow.compute.Expression
        Compare it, combine with ``&``, ``|``, ``~``, use ``isin``, ``is_null``, arithmetic.

    Examples
    --------
    >>> str((col("label") > 3) & (col("split") == "train"))
    '((label > 3) and (split == "train"))'
    """
    return pc.field(name)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a tree entry says about the values of one field in a run of rows.

    Parameters
    ----------
    low, high : object or None
        Values between which all non-null ones lie; None when unknown.
    nulls, rows : int
        How many values are null, of how many.
    """

    low: Any
    high: Any
    nulls: int
    rows: int

    @classmethod
    def of_entry(cls, ftype: FieldType, entry: np.void) -> Bounds:
        """Return the bounds that a tree entry of a field keeps."""
        nulls, rows = int(entry["nulls"]), int(entry["rows"])
        low = high = None
        if "low" in (entry.dtype.names or ()) and nulls < rows:
            width = entry.dtype["low"].itemsize
            stored = [
                bytes(np.asarray(entry[n]).tobytes()).ljust(width, b"\0") for n in ("low", "high")
            ]
            known = value_bounds(ftype, stored[0], stored[1])
            low, high = (None, None) if known is None else known
        return cls(low, high, nulls, rows)


@dataclass(frozen=True)
class Predicate:
    """A condition over fields.

    Parameters
    ----------
    expression : pyarrow.compute.Expression
        Evaluates to bool; null counts as false.
    fields : tuple of str
        The fields it reads.
    schema : pyarrow.Schema
        Their types.
    """

    expression: pc.Expression
    fields: tuple[str, ...]
    schema: pa.Schema
    types: Mapping[str, FieldType]

    def matches(self, columns: Mapping[str, pa.Array]) -> npt.NDArray[np.int64]:
        """Return the indices of the rows for which the condition holds.

        Raises
        ------
        ExpressionError
            When it cannot be evaluated, such as for a division by zero.
        """
        from pyarrow import acero

        table = pa.table([columns[name] for name in self.fields], names=list(self.fields))
        plan = acero.Declaration.from_sequence(
            [
                acero.Declaration("table_source", acero.TableSourceNodeOptions(table)),
                acero.Declaration(
                    "project", acero.ProjectNodeOptions([self.expression], ["holds"])
                ),
            ]
        )
        try:
            # In this thread: scans run several of these side by side already.
            holds = plan.to_table(use_threads=False).column("holds").combine_chunks()
        except pa.ArrowException as error:
            raise ExpressionError(f"the predicate cannot be evaluated: {error}") from None
        if isinstance(holds, pa.ChunkedArray):
            holds = holds.chunk(0)
        if holds.null_count:
            holds = holds.fill_null(False)
        return np.flatnonzero(bits_of(holds))

    @cached_property
    def _nan_never_matches(self) -> bool:
        """Whether comparisons are joined by AND and OR only, so that a NaN makes them false."""
        return _MAY_MATCH_NAN.search(_QUOTED.sub("", str(self.expression))) is None

    def _guarantees(self, bounds: Mapping[str, Bounds]) -> list[pc.Expression]:
        """Return conditions of which at least one holds for every row of a run."""
        choices: list[list[pc.Expression]] = []
        for name, bound in bounds.items():
            field, known = pc.field(name), []
            # A NaN lies outside any bounds, and conditions other than comparisons may hold for it.
            usable = self._nan_never_matches or self.types[name].kind != "float"
            if bound.nulls < bound.rows:
                inside = None
                dtype = self.schema.field(name).type
                if usable and bound.low is not None:
                    inside = field >= pa.scalar(bound.low, dtype)
                if usable and bound.high is not None:
                    upper = field <= pa.scalar(bound.high, dtype)
                    inside = upper if inside is None else inside & upper
                if inside is None:
                    continue
                known.append(inside)
            if bound.nulls:
                known.append(field.is_null())
            choices.append(known)
        combined = list(itertools.islice(itertools.product(*choices), _MAX_ALTERNATIVES + 1))
        if len(combined) > _MAX_ALTERNATIVES:
            return [pc.scalar(True)]
        out = []
        for alternative in combined:
            whole = None
            for part in alternative:
                whole = part if whole is None else whole & part
            out.append(pc.scalar(True) if whole is None else whole)
        return out

    def may_match(self, runs: Sequence[Mapping[str, Bounds]]) -> list[bool]:
        """Return for each run of rows whether some row may satisfy the condition.

        Parameters
        ----------
        runs : sequence of mappings
            For each run the bounds of the fields the condition reads.

        Notes
        -----
        Arrow simplifies the condition under the bounds; a run is dropped only when it proves that
        nothing can match.
        """
        import pyarrow.dataset as pads
        from pyarrow.fs import LocalFileSystem

        form, files = pads.ParquetFileFormat(), LocalFileSystem()
        fragments = [
            form.make_fragment(str(index), filesystem=files, partition_expression=guarantee)
            for index, bounds in enumerate(runs)
            for guarantee in self._guarantees(bounds)
        ]
        if not fragments:
            return [True] * len(runs)
        # These fragments are never opened: the data set only simplifies the filter for each.
        data_set = pads.FileSystemDataset(fragments, self.schema, form, files)
        try:
            alive = {int(f.path) for f in data_set.get_fragments(filter=self.expression)}
        except pa.ArrowException:
            return [True] * len(runs)
        return [index in alive for index in range(len(runs))]


def bits_of(array: pa.Array) -> npt.NDArray[np.bool_]:
    """Return the values of an array of booleans without nulls."""
    bitmap = array.buffers()[1]
    if bitmap is None or not len(array):
        return np.zeros(len(array), np.bool_)
    packed = np.frombuffer(bitmap, np.uint8)
    bits = np.unpackbits(packed, count=array.offset + len(array), bitorder="little")
    return bits[array.offset :].astype(np.bool_)


def parse_where(where: object, schema: FieldList) -> Predicate | None:
    """Check a condition against a schema.

    Parameters
    ----------
    where : pyarrow.compute.Expression, str or None
        An expression, a SQL condition such as ``"label > 3 AND split = 'train'"``, or nothing.
    schema : FieldList
        The fields.

    Raises
    ------
    FieldNotFoundError
        When it names an unknown field.
    ExpressionError
        When it cannot be parsed, compares incompatible types, or is not a condition.
    """
    if where is None:
        return None
    types = {ANCHOR: FieldType("anchor"), **{n: schema[n].type for n in schema}}
    if isinstance(where, str):
        from dreamdb.read.sql_condition import parse_condition

        where = parse_condition(where, types)
    if not isinstance(where, pc.Expression):
        raise InvalidInputError(
            f"a predicate is an expression or a text, not a {type(where).__name__}",
            hint="for example where=vd.col('label') > 3, or where=\"label > 3\"",
        )
    text = str(where)
    used = tuple(name for name in types if name in text) or (ANCHOR,)
    arrow = pa.schema([(name, arrow_type(types[name])) for name in used])
    try:
        arrow.empty_table().filter(where)
    except pa.ArrowException as error:
        missing = _NO_FIELD.search(str(error))
        if missing:
            raise FieldNotFoundError(
                f"the predicate names the field {missing[1]!r}, which does not exist",
                hint=nearest_hint(missing[1], types, "fields"),
                field=missing[1],
            ) from None
        raise ExpressionError(f"the predicate {text} is not usable: {error}") from None
    return Predicate(where, used, arrow, types)
