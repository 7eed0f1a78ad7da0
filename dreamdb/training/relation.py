"""Relations: a pinned dataset, joined, filtered and projected, as a training stream reads it.

Source: design/0019 section 1.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from dreamdb.dataset import Dataset
from dreamdb.errors import InvalidInputError, nearest_hint
from dreamdb.model import ANCHOR, Field, FieldList
from dreamdb.read import Predicate, parse_where
from dreamdb.training.columns import Column, Derived, Stored, derived_column, named_columns
from dreamdb.training.population import Filter, Join, Population, populate
from dreamdb.types import FieldType

if TYPE_CHECKING:
    from dreamdb.training.sampling import Order, RuntimeParam, SampleStream

__all__ = ["STREAM_ID", "Relation", "relation"]

STREAM_ID = "stream_id"


def relation(dataset: Dataset | Relation) -> Relation:
    """Return a dataset as a relation, pinned at the version that its handle reads.

    Parameters
    ----------
    dataset : Dataset
        The records.

    Examples
    --------
    >>> import dreamdb as vd
    >>> schema = vd.Schema().add_scalar_int("label").add_scalar_float("weight")
    >>> ds = vd.Dataset.create("pets", schema, backend="memory://relation-docs")
    >>> ds.append_many([{"label": i % 2, "weight": i / 4} for i in range(8)])
    8
    >>> heavy = vd.relation(ds).filter(vd.col("weight") >= 1).project("label")
    >>> heavy.count(), heavy.columns
    (4, ('label',))
    """
    if isinstance(dataset, Relation):
        return dataset
    if not isinstance(dataset, Dataset):
        raise InvalidInputError(
            f"a relation is made of a Dataset, not of a {type(dataset).__name__}",
            hint="open one: vd.Dataset.open_ref(name, backend=...)",
        )
    # A handle of its own: the caller's may commit or refresh, and so move.
    handle = copy.copy(dataset)
    schema = handle._view.content.schema
    columns: dict[str, Column] = {name: Stored(0, name, schema[name].type) for name in schema}
    return Relation((handle,), columns)


def _fields(columns: Mapping[str, Column]) -> FieldList:
    return FieldList(tuple(Field(name, column.type) for name, column in columns.items()))


@dataclass(frozen=True)
class _Step:
    """What was done to a relation, for its description and for its rows."""

    act: Filter | Join
    text: str


class Relation:
    """Records of one dataset with columns of others beside them; every verb gives a new one.

    Nothing is read until rows are needed; then joins and filters are evaluated once.

    Parameters
    ----------
    datasets : tuple of Dataset
        The dataset itself, then those that were joined.
    columns : mapping of str to Column
        What can be named.
    steps : tuple
        Joins and filters, in order.
    """

    def __init__(
        self,
        datasets: tuple[Dataset, ...],
        columns: Mapping[str, Column],
        steps: tuple[_Step, ...] = (),
    ) -> None:
        self._datasets = datasets
        self._columns = dict(columns)
        self._steps = steps
        self._population: Population | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_population": None}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that can be named, the anchor apart."""
        return tuple(self._columns)

    @property
    def name(self) -> str:
        """The dataset's name, or its manifest."""
        return self._datasets[0].name or self._datasets[0].current_manifest()

    @property
    def manifests(self) -> tuple[str, ...]:
        """The versions this relation reads, the dataset itself first."""
        return tuple(dataset.current_manifest() for dataset in self._datasets)

    def column(self, name: str) -> Column:
        """Return a column.

        Parameters
        ----------
        name : str
            One of :attr:`columns`, or ``_anchor``.

        Raises
        ------
        InvalidInputError
            With the nearest names.
        """
        if name == ANCHOR:
            return Stored(0, ANCHOR, FieldType("anchor"))
        if name not in self._columns:
            raise InvalidInputError(
                f"the relation {self.name!r} has no column {name!r}",
                hint=nearest_hint(name, self._columns, "columns"),
                column=name,
            )
        return self._columns[name]

    def _with(self, step: _Step, **changes: Any) -> Self:
        datasets = changes.get("datasets", self._datasets)
        columns = changes.get("columns", self._columns)
        return type(self)(datasets, columns, (*self._steps, step))

    def filter(self, where: object) -> Self:
        """Keep the rows for which a condition holds.

        Parameters
        ----------
        where : Expression or str
            Over the columns, as in :meth:`Dataset.scan`; null counts as false.
        """
        if where is None:
            raise InvalidInputError("filter needs a condition", hint="vd.col('label') > 3")
        predicate = parse_where(where, _fields(self._columns))
        assert isinstance(predicate, Predicate)
        named = named_columns(predicate.expression, self._columns)
        predicate = parse_where(predicate.expression, _fields(named))
        assert isinstance(predicate, Predicate)
        return self._with(_Step(Filter(predicate, named), f"filter {predicate.expression}"))

    def project(self, *names: str, **expressions: Any) -> Self:
        """Keep some columns, and compute others.

        Parameters
        ----------
        *names : str
            Columns to keep, in this order.
        **expressions : Expression
            Further columns, such as ``pixels=vd.col("width") * vd.col("height")``.

        Raises
        ------
        InvalidInputError
            When a column does not exist, or an expression cannot be computed.
        """
        if not names and not expressions:
            raise InvalidInputError("project needs a column", hint=f"one of {list(self.columns)}")
        kept: dict[str, Column] = {}
        for name in names:
            if name in (STREAM_ID, ANCHOR) and name not in self._columns:
                continue  # always there
            if name in kept:
                raise InvalidInputError(f"the column {name!r} is named twice")
            kept[name] = self.column(name)
        for name, expression in expressions.items():
            if name in kept:
                raise InvalidInputError(f"the column {name!r} is named twice")
            if not isinstance(expression, pc.Expression):
                raise InvalidInputError(
                    f"{name}= must be an expression, not a {type(expression).__name__}",
                    hint="such as vd.col('width') * vd.col('height')",
                )
            kept[name] = derived_column(name, expression, self._columns)
        return type(self)(self._datasets, kept, self._steps)

    def join(
        self, other: Dataset | Relation, on: str | tuple[str, str], how: str = "inner"
    ) -> Self:
        """Put the columns of another dataset beside these.

        Parameters
        ----------
        other : Dataset or Relation
            At most one of its rows has each key; its own filters hold.
        on : str or (str, str)
            The column that both have, or this one's and the other's; ``"_anchor"`` joins records
            with the same anchor.
        how : str
            ``"inner"`` leaves out rows without a partner, ``"left"`` keeps them with nulls.

        Raises
        ------
        InvalidInputError
            When a key repeats in ``other``, the keys have different types, or both have a column
            of the same name.
        """
        if how not in ("inner", "left"):
            raise InvalidInputError(f"how={how!r} is not a join", hint="'inner' or 'left'")
        right = relation(other)
        mine, theirs = (on, on) if isinstance(on, str) else on
        left_column, right_column = self.column(mine), right.column(theirs)
        if left_column.type.kind == "float" or left_column.arrow != right_column.arrow:
            raise InvalidInputError(
                f"cannot join {mine!r} ({left_column.type}) with {theirs!r} ({right_column.type})",
                hint="join integers, texts or anchors of the same type",
            )
        shift = len(self._datasets)
        columns = dict(self._columns)
        for name, column in right._columns.items():
            if name == theirs and theirs == mine:
                continue
            if name in columns:
                raise InvalidInputError(
                    f"both sides of the join have a column {name!r}",
                    hint="leave it out of one side: .project(...)",
                    column=name,
                )
            columns[name] = column.moved(shift)
        step = _Step(
            Join(left_column, right_column, right, shift, len(right._datasets), how == "left"),
            f"{how} join {right.describe()} on {mine} = {theirs}",
        )
        return self._with(step, datasets=(*self._datasets, *right._datasets), columns=columns)

    def population(self) -> Population:
        """Return which rows there are; evaluated when it is first called.

        Notes
        -----
        Cost: reads the columns that joins and filters name, except the runs that statistics
        exclude.  Without either nothing but the timeline's tree.
        """
        if self._population is None:
            views = tuple(dataset._view for dataset in self._datasets)
            self._population = populate(views, [step.act for step in self._steps])
        return self._population

    def count(self) -> int:
        """Return how many rows there are."""
        return self.population().count

    def describe(self) -> str:
        """Return one line per step: what is read, and how rows were chosen."""
        lines = [f"{self._datasets[0].current_manifest()}", *(step.text for step in self._steps)]
        derived = [
            f"{name} = {column.expression}"
            for name, column in self._columns.items()
            if isinstance(column, Derived)
        ]
        return "; ".join([*lines, *derived])

    def steps(self) -> list[tuple[str, int]]:
        """Return what was done, in the order of evaluation, and the rows left each time."""
        texts = [step.text for step in self._steps] + [f"dataset {self.name}"]
        return [(texts[number], count) for number, count in self.population().trace]

    def to_arrow(self, limit: int = 1_000) -> pa.Table:
        """Return the first rows as a table.

        Parameters
        ----------
        limit : int
            At most so many.
        """
        import numpy as np

        from dreamdb.training.columns import read_arrow

        population = self.population()
        index = np.arange(min(limit, population.count), dtype=np.int64)
        rows = population.rows(index)
        arrays = read_arrow(population.views, self._columns, self._columns, rows)
        return pa.table(arrays)

    def sample(
        self,
        *,
        identity: str = ANCHOR,
        order: Order | None = None,
        epoch: RuntimeParam | int | None = None,
        assignment: Any = None,
    ) -> SampleStream:
        """Return the rows in an order, epoch by epoch, dealt to ranks.

        Parameters
        ----------
        identity : str
            The column that names a sample in errors, in ``where`` and for hashed orders.
        order : Order
            :class:`ShardAwareShuffle`, :class:`HashBucketed`, :class:`GlobalShuffle` or
            :class:`Sequential` (the default).
        epoch : RuntimeParam or int, optional
            The first epoch, or the name by which it is bound.
        assignment : DataParallel, optional
            Rank and world size; default: of torch.distributed when it is initialised.
        """
        from dreamdb.training.mixture import Stream, mix

        return mix([Stream(self.name, self)]).sample(
            identity=identity, order=order, epoch=epoch, assignment=assignment
        )

    def __repr__(self) -> str:
        return f"Relation({self.describe()!r}, columns={list(self.columns)})"
