"""Permutations: a pinned selection of records in an order, as a map-style PyTorch dataset.

Source: design/0019 section 10.  The calls are those of LanceDB's Permutation.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.dataset import Dataset
from dreamdb.errors import FieldNotFoundError, InvalidInputError, nearest_hint
from dreamdb.model import ANCHOR
from dreamdb.objects import from_text
from dreamdb.read import check_batch_size, output_schema, parse_where
from dreamdb.stream import RowPermutation, derive_key, select_rows
from dreamdb.torch.formats import ROW_FORMATS, find_format

__all__ = ["Permutation"]

Positions = npt.NDArray[np.int64]
_BATCH = 100


class Permutation:
    """Records of one version in an order, for a DataLoader or on their own.

    Every method gives a new permutation; all stay at the version they were made on, wherever the
    branch moves, and travel to worker processes however these are started.

    Parameters
    ----------
    dataset : Dataset
        The records.
    positions : ndarray of int64, optional
        Which of them, counted among the visible ones, in order; default: all.

    Examples
    --------
    >>> import dreamdb as vd
    >>> schema = vd.Schema().add_scalar_int("a")
    >>> ds = vd.Dataset.create("permutation-docs", schema, backend="memory://permutation-docs")
    >>> ds.append_many([{"a": i} for i in range(5)])
    5
    >>> permutation = Permutation.identity(ds).shuffle(seed=1).with_format("python_col")
    >>> [batch["a"] for batch in permutation.iter(2)]
    [[0, 3], [1, 4], [2]]
    """

    def __init__(self, dataset: Dataset, positions: Positions | None = None) -> None:
        if not isinstance(dataset, Dataset):
            raise InvalidInputError(
                f"a permutation is made of a Dataset, not of a {type(dataset).__name__}"
            )
        # A handle of its own: the caller's may commit or refresh, and so move.
        self._dataset: Dataset | None = copy.copy(dataset)
        self._name = dataset.name or dataset.current_manifest()
        self._manifest = dataset.current_manifest()
        self._count = dataset.count() if positions is None else len(positions)
        self._positions = positions
        self._columns = {name: name for name in dataset.schema}
        self._format: str | Callable[[pa.RecordBatch], Any] = "python"
        self._batch_size = _BATCH
        self._factory: Callable[[str], Dataset] | None = None

    @classmethod
    def identity(cls, dataset: Dataset) -> Self:
        """Return all records in their stored order.

        Parameters
        ----------
        dataset : Dataset
            The records.
        """
        return cls(dataset)

    @property
    def dataset(self) -> Dataset:
        """The records, at the version of this permutation."""
        if self._dataset is None:
            if self._factory is None:
                raise InvalidInputError("this permutation has neither a dataset nor a factory")
            opened = self._factory(self._name)
            if not isinstance(opened, Dataset):
                raise InvalidInputError(
                    f"the connection factory returned a {type(opened).__name__}, not a Dataset",
                    hint="return vd.Dataset.open_ref(name, backend=...)",
                )
            address = from_text(self._manifest)
            self._dataset = Dataset(opened._space, opened.name, address, "it is pinned")
            _ = self._dataset._view
        return self._dataset

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self._factory is not None:
            state["_dataset"] = None
        return state

    def _changed(self, **members: Any) -> Self:
        other = copy.copy(self)
        other.__dict__.update(members)
        return other

    def _all(self) -> Positions:
        if self._positions is None:
            return np.arange(self._count, dtype=np.int64)
        return self._positions

    def _chosen(self, positions: Positions) -> Self:
        return self._changed(_positions=positions, _count=len(positions))

    # ---------------------------------------------------------------- which records, in what order

    def shuffle(self, seed: int | None = None, clump_size: int = 1) -> Self:
        """Return the records in random order.

        Parameters
        ----------
        seed : int, optional
            The same seed gives the same order; default: a new one.
        clump_size : int
            So many neighbours stay together.
        """
        chosen = secrets.randbits(63) if seed is None else seed
        size = check_batch_size(clump_size)
        before = self._all()
        clumps = -(-len(before) // size)
        if clumps == 0:
            return self
        order = RowPermutation(clumps, derive_key("permutation", chosen))(np.arange(clumps))
        index = (order[:, None] * size + np.arange(size)).reshape(-1)
        return self._chosen(before[index[index < len(before)]])

    def filter(self, where: object) -> Self:
        """Return the records for which a condition holds, in the same order.

        Parameters
        ----------
        where : Expression or str
            As in :meth:`Dataset.scan`.
        """
        view = self.dataset._view
        rows = select_rows(view, parse_where(where, view.content.schema))
        if rows is None:
            return self
        mine = self._all()
        return self._chosen(mine[np.isin(view.row_of_visible(mine), rows)])

    def with_skip(self, skip: int) -> Self:
        """Return the records but for the first ones.

        Parameters
        ----------
        skip : int
            How many are left out.
        """
        return self._chosen(self._all()[_count(skip, "skip") :])

    def with_take(self, limit: int) -> Self:
        """Return the first records.

        Parameters
        ----------
        limit : int
            How many, at most.
        """
        return self._chosen(self._all()[: _count(limit, "limit")])

    skip = with_skip
    take = with_take

    def with_repeat(self, times: int) -> Self:
        """Return the records several times over.

        Parameters
        ----------
        times : int
            How many times.
        """
        return self._chosen(np.tile(self._all(), _count(times, "times")))

    def split(
        self,
        ratios: Mapping[str, float] | Sequence[float],
        *,
        by: str | None = None,
        seed: int = 0,
    ) -> dict[str, Self]:
        """Return the records in parts that have none in common.

        Parameters
        ----------
        ratios : mapping of str to float, or sequence of float
            Share of each part; parts of a sequence are called ``"0"``, ``"1"``, ...
        by : str, optional
            Records with equal values of this field stay together.
        seed : int
            Another seed, another division; as in :meth:`Dataset.splits`, appends change no part.
        """
        named = ratios
        if not isinstance(named, Mapping):
            named = {str(i): share for i, share in enumerate(named)}
        parts = self.dataset.splits(dict(named), by=by, seed=seed)
        mine = self._all()
        rows = self.dataset._view.row_of_visible(mine)
        out = {}
        for name, anchors in parts.items():
            members = self.dataset._view.rows_of(np.asarray(anchors, np.uint64))
            out[name] = self._chosen(mine[np.isin(rows, members)])
        return out

    # ---------------------------------------------------------------- which columns, in what form

    def select_columns(self, columns: Sequence[str]) -> Self:
        """Return the records with some of their columns; others are not read.

        Parameters
        ----------
        columns : sequence of str
            In this order; ``_anchor`` too.
        """
        names = [columns] if isinstance(columns, str) else list(columns)
        if not names:
            raise InvalidInputError("select_columns needs a column")
        known = {**self._columns, ANCHOR: ANCHOR}
        for name in names:
            self._known(name, known)
        return self._changed(_columns={name: known[name] for name in names})

    def remove_columns(self, columns: Sequence[str]) -> Self:
        """Return the records without some of their columns.

        Parameters
        ----------
        columns : sequence of str
            Those that are not there are ignored.
        """
        gone = {columns} if isinstance(columns, str) else set(columns)
        kept = {shown: field for shown, field in self._columns.items() if shown not in gone}
        if not kept:
            raise InvalidInputError("no column is left")
        return self._changed(_columns=kept)

    def rename_column(self, old_name: str, new_name: str) -> Self:
        """Return the records with another name for a column.

        Parameters
        ----------
        old_name, new_name : str
            The names.
        """
        self._known(old_name, self._columns)
        if new_name in self._columns:
            raise InvalidInputError(f"there is a column {new_name!r} already")
        return self._changed(
            _columns={new_name if n == old_name else n: f for n, f in self._columns.items()}
        )

    def rename_columns(self, column_map: Mapping[str, str]) -> Self:
        """Return the records with other names for some columns.

        Parameters
        ----------
        column_map : mapping of str to str
            New names by old ones.
        """
        out = self
        for old_name, new_name in column_map.items():
            out = out.rename_column(old_name, new_name)
        return out

    def _known(self, name: str, known: Mapping[str, str]) -> None:
        if name not in known:
            raise FieldNotFoundError(
                f"there is no column {name!r}",
                hint=nearest_hint(str(name), known, "columns"),
                field=name,
            )

    def with_format(self, format: str) -> Self:  # noqa: A002 - LanceDB's name
        """Return the records in another form.

        Parameters
        ----------
        format : str
            ``"python"`` a list of dictionaries (the default), ``"python_col"`` a dictionary of
            lists, ``"numpy"`` a dictionary of arrays (vectors in one, nulls masked or None),
            ``"pandas"``, ``"polars"``, ``"arrow"`` a RecordBatch, ``"torch"`` a list of
            dictionaries of tensors, ``"torch_col"`` one tensor: (columns, rows) for numbers of one
            type, (rows, dim) for one vector column, else a dictionary of tensors,
            ``"torch_row"`` a list of one tensor per row.
        """
        find_format(format)
        return self._changed(_format=format)

    def with_transform(self, transform: Callable[[pa.RecordBatch], Any]) -> Self:
        """Return the records in a form of your own.

        Parameters
        ----------
        transform : callable
            Takes a RecordBatch; a function at module level where workers are spawned.
        """
        if not callable(transform):
            raise InvalidInputError(f"a transform is a function, not {transform!r}")
        return self._changed(_format=transform)

    def with_batch_size(self, batch_size: int) -> Self:
        """Return the records with another size of the batches that iteration gives.

        Parameters
        ----------
        batch_size : int
            Records per batch.
        """
        return self._changed(_batch_size=check_batch_size(batch_size))

    def with_connection_factory(self, factory: Callable[[str], Dataset]) -> Self:
        """Return a permutation that each process opens by a function of yours.

        Parameters
        ----------
        factory : callable
            Takes the dataset's name, returns the dataset, on any version: this permutation's is
            found by its hash.  A function at module level.  No credentials are pickled then.
        """
        if not callable(factory):
            raise InvalidInputError(f"a connection factory is a function, not {factory!r}")
        return self._changed(_factory=factory)

    # ---------------------------------------------------------------- reading

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of a batch."""
        fields = [field for field in self._columns.values() if field != ANCHOR]
        found = output_schema(self.dataset._view.content.schema, fields)
        return pa.schema([found.field(field).with_name(n) for n, field in self._columns.items()])

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    @property
    def num_columns(self) -> int:
        """How many columns there are."""
        return len(self._columns)

    @property
    def num_rows(self) -> int:
        """How many records there are."""
        return self._count

    @property
    def shape(self) -> tuple[int, int]:
        """Records and columns."""
        return self.num_rows, self.num_columns

    def __len__(self) -> int:
        return self._count

    def _batch(self, offsets: Positions) -> pa.RecordBatch:
        index = np.asarray(offsets, np.int64)
        index = np.where(index < 0, index + self._count, index)
        if len(index) and not (int(index.min()) >= 0 and int(index.max()) < self._count):
            outside = index[(index < 0) | (index >= self._count)]
            raise IndexError(f"record {int(outside[0])} of {self._count}")
        positions = index if self._positions is None else self._positions[index]
        fields = [field for field in self._columns.values() if field != ANCHOR]
        table = self.dataset.take(positions=positions, fields=list(dict.fromkeys(fields)))
        arrays = []
        for field in self._columns.values():
            column = table.column(field).combine_chunks()
            arrays.append(column.chunk(0) if isinstance(column, pa.ChunkedArray) else column)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _formed(self, batch: pa.RecordBatch) -> Any:
        made = self._format if callable(self._format) else find_format(self._format)
        return made(batch)

    def take_offsets(self, offsets: Sequence[int]) -> Any:
        """Return some records as one batch.

        Parameters
        ----------
        offsets : sequence of int
            Their places in this permutation.
        """
        return self._formed(self._batch(np.asarray(list(offsets), np.int64)))

    def __getitem__(self, index: int) -> Any:
        """Return one record; in formats that are not lists of rows, a batch of one."""
        batch = self.take_offsets([index])
        return batch[0] if self._format in ROW_FORMATS else batch

    def __getitems__(self, indices: Sequence[int]) -> Any:
        """Return several records as one batch; the DataLoader calls this."""
        return self.take_offsets(indices)

    def iter(self, batch_size: int, skip_last_batch: bool = False) -> Iterator[Any]:
        """Yield batches.

        Parameters
        ----------
        batch_size : int
            Records per batch.
        skip_last_batch : bool
            Leave out the last batch when it is smaller.
        """
        size = check_batch_size(batch_size)
        stop = self._count - self._count % size if skip_last_batch else self._count
        for start in range(0, stop, size):
            yield self._formed(self._batch(np.arange(start, min(start + size, stop))))

    def __iter__(self) -> Iterator[Any]:
        return self.iter(self._batch_size)

    def __repr__(self) -> str:
        form = self._format if isinstance(self._format, str) else "transformed"
        return f"Permutation({self._name!r}, {self._count:,} records, {self.column_names}, {form})"


def _count(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise InvalidInputError(f"{name} must be an integer from 0 on, not {value!r}")
    return int(value)
