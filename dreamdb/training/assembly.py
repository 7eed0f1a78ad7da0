"""Assembly: reading the samples of batches and collating them.

Source: design/0019 section 7.  An assembler has no state: the batch says which samples, so any
worker makes any batch, and makes it the same.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamdb.errors import DreamDBError, InvalidInputError
from dreamdb.model import ANCHOR
from dreamdb.stream import derive_key, uniforms
from dreamdb.training.collation import Collation, List, Samples
from dreamdb.training.columns import Column, Stored, Values, read_values
from dreamdb.training.mapping import Mapped
from dreamdb.training.members import Members, sample_ids
from dreamdb.training.plans import Batch
from dreamdb.training.relation import STREAM_ID, Relation

__all__ = ["ON_ERROR", "Assembled", "Assembler", "default_fields", "needed_maps"]

ON_ERROR: Final = ("raise", "skip", "replace")
_BLOCK_NBYTES: Final = 4 << 20
_BLOCK_ROWS: Final = 65_536


@dataclass
class Assembled:
    """A batch, and what happened while it was made.

    Parameters
    ----------
    fields : dict of str to ndarray or list
        The batch.
    failed : list of (object, str)
        Identity of each sample that was left out or replaced, and why.
    seconds : dict of str to float
        Time spent reading, mapping, decoding and collating.
    """

    fields: dict[str, Any]
    failed: list[tuple[Any, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Assembler:
    """Makes batches.

    Parameters
    ----------
    sources : sequence of (str, Relation)
        The streams.
    identity : str
        The column that names a sample.
    maps : sequence of Mapped
        Computed columns.
    fields : mapping of str to Collation
        What a batch is made of.
    seed : int
        Of the random numbers of transforms.
    on_error : str
        One of :data:`ON_ERROR`.
    widths, multiples : mapping of str to int
        See :class:`~dreamdb.training.collation.Samples`.
    checks : sequence of (str, str)
        Sequences whose stored length is compared with the true one.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, Relation]],
        identity: str,
        maps: Sequence[Mapped],
        fields: Mapping[str, Collation],
        *,
        seed: int,
        on_error: str,
        widths: Mapping[str, int],
        multiples: Mapping[str, int],
        checks: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._sources = list(sources)
        self._identity = identity
        self._fields = dict(fields)
        self._seed, self._on_error = seed, on_error
        self._widths, self._multiples = dict(widths), dict(multiples)
        self._checks = tuple(checks)
        wanted = {name for collation in self._fields.values() for name in collation.inputs}
        wanted |= {name for pair in self._checks for name in pair}
        self._maps = needed_maps(maps, wanted)
        computed = {mapped.output for mapped in self._maps}
        wanted |= {name for mapped in self._maps for name in mapped.inputs}
        self._names = sorted(wanted - computed - {STREAM_ID, ANCHOR})

    @property
    def backends(self) -> list[str]:
        """URLs of the spaces it reads."""
        return [dataset.backend for _, source in self._sources for dataset in source._datasets]

    @property
    def stored_columns(self) -> list[str]:
        """The stored columns that batches need."""
        return list(self._names)

    @property
    def row_nbytes(self) -> int:
        """About how many bytes a sample takes, as stored."""
        total = 0
        for _, source in self._sources[:1]:
            views = [dataset._view for dataset in source._datasets]
            for name in self._names:
                column = source.column(name)
                if isinstance(column, Stored) and column.field != ANCHOR:
                    track = views[column.side].track(column.field)
                    total += -(-track.nbytes // max(1, track.rows))
        return max(16, total)

    def columns(self, members: Members, names: Iterable[str]) -> dict[str, Values]:
        """Return stored columns of some samples, whatever their streams.

        Parameters
        ----------
        members : Members
            The samples.
        names : iterable of str
            Which columns; ``stream_id`` and the anchor too.
        """
        asked = list(dict.fromkeys(names))
        stored = [name for name in asked if name != STREAM_ID or self._stores_stream_id()]
        parts: list[tuple[npt.NDArray[np.int64], dict[str, Values]]] = []
        for stream, (_, source) in enumerate(self._sources):
            chosen = np.flatnonzero(members.streams == stream)
            if not len(chosen):
                continue
            views = [dataset._view for dataset in source._datasets]
            columns: dict[str, Column] = {name: source.column(name) for name in stored}
            rows = [np.ascontiguousarray(members.sides[chosen, side]) for side in range(len(views))]
            parts.append((chosen, read_values(views, columns, stored, rows)))
        out = {name: _merged(len(members), parts, name) for name in stored}
        if STREAM_ID in asked and STREAM_ID not in out:
            names_of = [name for name, _ in self._sources]
            out[STREAM_ID] = [names_of[i] for i in members.streams.tolist()], None
        return out

    def _stores_stream_id(self) -> bool:
        return all(STREAM_ID in source.columns for _, source in self._sources)

    def batches(self, planned: Iterator[Any], batch_of: Any = None) -> Iterator[tuple[Any, Any]]:
        """Yield every planned item with its assembled batch, reading several together.

        Parameters
        ----------
        planned : iterator
            Batches, or items that hold one.
        batch_of : callable, optional
            Takes an item, returns its batch.

        Notes
        -----
        The first batch is read alone, so that it comes at once; later ones about 4 MiB at a time.
        """
        pick = batch_of or (lambda item: item)
        most = max(1, min(_BLOCK_ROWS, _BLOCK_NBYTES // self.row_nbytes))
        limit = 1
        while True:
            block: list[Any] = []
            rows = 0
            for item in planned:
                block.append(item)
                rows += len(pick(item))
                if rows >= limit:
                    break
            if not block:
                return
            yield from zip(block, self._some([pick(item) for item in block]), strict=True)
            limit = min(most, 4 * rows)

    def _some(self, batches: list[Batch]) -> Iterator[Assembled]:
        begin = time.perf_counter()
        try:
            whole = self.columns(
                Members.joined([batch.members for batch in batches]),
                [*self._names, ANCHOR, *([STREAM_ID] if self._wants_stream() else [])],
            )
        except DreamDBError:
            if len(batches) == 1:
                raise
            # The batches in front of the failing one are good, and come first.
            for batch in batches:
                yield from self._some([batch])
            return
        spent = (time.perf_counter() - begin) / len(batches)
        edges = np.cumsum([0, *map(len, batches)]).tolist()
        for batch, (low, high) in zip(batches, itertools.pairwise(edges), strict=True):
            part = {
                name: (values[low:high], None if valid is None else valid[low:high])
                for name, (values, valid) in whole.items()
            }
            yield self._collated(batch, part, spent)

    def _wants_stream(self) -> bool:
        return any(STREAM_ID in collation.inputs for collation in self._fields.values())

    def __call__(self, batch: Batch) -> Assembled:
        """Return one batch.

        Parameters
        ----------
        batch : Batch
            Which samples.
        """
        return next(self._some([batch]))

    def computed(
        self, members: Members, names: Iterable[str], maps: Sequence[Mapped]
    ) -> dict[str, Values]:
        """Return stored and computed columns of some samples.

        Parameters
        ----------
        members : Members
            The samples.
        names : iterable of str
            Which columns.
        maps : sequence of Mapped
            How columns are computed.
        """
        wanted = set(names)
        needed = needed_maps(maps, wanted)
        wanted |= {name for mapped in needed for name in mapped.inputs}
        wanted -= {mapped.output for mapped in needed}
        columns = self.columns(members, sorted(wanted))
        for mapped in needed:
            columns[mapped.output] = _mapped(mapped, columns), None
        return columns

    def _collated(self, batch: Batch, columns: dict[str, Values], spent: float) -> Assembled:
        clock = time.perf_counter
        begin = clock()
        for mapped in self._maps:
            columns[mapped.output] = _mapped(mapped, columns), None
        self._check_sizes(batch, columns)
        members = batch.members
        samples = Samples(
            columns,
            len(members),
            batch.packs,
            _Draws(self._seed, lambda: self._ids(columns, members), members.passes),
            self._widths,
            self._multiples,
        )
        mapped_at = clock()
        failures: dict[int, str] = {}
        prepared = {}
        for name, collation in self._fields.items():
            values, failed = collation.prepare(name, samples)
            prepared[name] = values
            for i, why in failed.items():
                failures.setdefault(i, f"{name!r}: {why}")
        decoded_at = clock()
        told = self._told(batch, failures)
        kept = np.arange(len(members))
        if failures and self._on_error == "skip":
            kept = np.delete(kept, sorted(failures))
        if len(failures) == len(members) and failures:
            raise InvalidInputError(
                f"every sample of a batch failed; the first: {told[0][0]!r}: {told[0][1]}",
                hint="filter these samples out",
                sample=told[0][0],
            )
        fields = {
            name: collation.finish(prepared[name], samples, kept)
            for name, collation in self._fields.items()
        }
        if self._on_error == "replace":
            valid = np.ones(len(members), np.bool_)
            valid[list(failures)] = False
            fields["_valid"] = valid
        return Assembled(
            fields,
            told,
            {
                "read": spent,
                "map": mapped_at - begin,
                "decode": decoded_at - mapped_at,
                "collate": clock() - decoded_at,
            },
        )

    def _ids(self, columns: Mapping[str, Values], members: Members) -> npt.NDArray[np.uint64]:
        names = [name for name, _ in self._sources]
        return sample_ids(names, members.streams, columns[ANCHOR][0])

    def _told(self, batch: Batch, failures: Mapping[int, str]) -> list[tuple[Any, str]]:
        """Return the identities of failed samples; raise when none may fail."""
        if not failures:
            return []
        order = sorted(failures)
        told = [
            (identity, failures[i])
            for identity, i in zip(self.identities(batch.members.take(order)), order, strict=True)
        ]
        if self._on_error == "raise":
            identity, why = told[0]
            raise InvalidInputError(
                f"the sample {identity!r} cannot be used: {why}",
                hint="on_error='skip' or on_error='replace' counts such samples instead",
                sample=identity,
            )
        return told

    def identities(self, members: Members) -> list[Any]:
        """Return what names some samples.

        Parameters
        ----------
        members : Members
            The samples.
        """
        values, _ = self.columns(members, [self._identity])[self._identity]
        return values.tolist() if isinstance(values, np.ndarray) else values

    def _check_sizes(self, batch: Batch, columns: Mapping[str, Values]) -> None:
        for source, stored in self._checks:
            lengths = np.fromiter(map(len, columns[source][0]), np.int64, len(batch))
            said = np.asarray(columns[stored][0], np.int64)
            if not np.array_equal(lengths, said):
                at = int(np.argmax(lengths != said))
                (identity,) = self.identities(batch.members.take([at]))
                raise InvalidInputError(
                    f"the sample {identity!r} has {int(lengths[at])} {source}, and {stored!r} says "
                    f"{int(said[at])}: batches formed by it would not keep their budget",
                    hint=f"store the true lengths (lengths()), or leave stored={stored!r} out",
                    sample=identity,
                )


@dataclass
class _Draws:
    """Random numbers of the samples of a batch, by purpose."""

    seed: int
    find_ids: Callable[[], npt.NDArray[np.uint64]]
    passes: npt.NDArray[np.int64]

    @cached_property
    def ids(self) -> npt.NDArray[np.uint64]:
        return self.find_ids()

    def __call__(self, purpose: str, draws: int) -> npt.NDArray[np.float64]:
        out = np.empty((len(self.passes), draws))
        for number in np.unique(self.passes).tolist():
            chosen = np.flatnonzero(self.passes == number)
            key = derive_key(f"transform {purpose}", self.seed, number)
            out[chosen] = uniforms(key, self.ids[chosen], draws)
        return out


def needed_maps(maps: Sequence[Mapped], wanted: Iterable[str]) -> list[Mapped]:
    """Return the mappings that some columns need, in order.

    Parameters
    ----------
    maps : sequence of Mapped
        All of them.
    wanted : iterable of str
        The columns.
    """
    needed, names = [], set(wanted)
    for mapped in reversed(maps):
        if mapped.output in names:
            needed.append(mapped)
            names |= set(mapped.inputs)
    return needed[::-1]


def _mapped(mapped: Mapped, columns: Mapping[str, Values]) -> list[Any]:
    inputs = []
    for name in mapped.inputs:
        values = columns[name][0]
        inputs.append(values.tolist() if isinstance(values, np.ndarray) else values)
    return mapped.compute(inputs)


def _merged(
    count: int, parts: list[tuple[npt.NDArray[np.int64], dict[str, Values]]], name: str
) -> Values:
    """Return one column of several streams in the order of the samples."""
    if len(parts) == 1:
        return parts[0][1][name]
    found = [(chosen, *values[name]) for chosen, values in parts]
    if not all(isinstance(values, np.ndarray) for _, values, _ in found):
        out: list[Any] = [None] * count
        for chosen, values, _ in found:
            listed = values.tolist() if isinstance(values, np.ndarray) else values
            for at, value in zip(chosen.tolist(), listed, strict=True):
                out[at] = value
        return out, None
    shapes = {values.shape[1:] for _, values, _ in found}
    if len(shapes) > 1:
        raise InvalidInputError(
            f"the streams have {name!r} in different shapes: {sorted(shapes)}", column=name
        )
    dtype = np.result_type(*(values.dtype for _, values, _ in found))
    whole = np.zeros((count, *shapes.pop()), dtype)
    there = np.ones(count, np.bool_)
    for chosen, values, valid in found:
        whole[chosen] = values
        if valid is not None:
            there[chosen] = valid
    return whole, None if there.all() else there


def default_fields(source: Relation) -> dict[str, Collation]:
    """Return a collation for every column of a relation.

    Parameters
    ----------
    source : Relation
        Numbers and vectors are stacked, everything else is listed.
    """
    from dreamdb.tracks import NUMPY_KINDS
    from dreamdb.training.collation import Stack

    fields: dict[str, Collation] = {}
    for name in source.columns:
        kind = source.column(name).type.kind
        fields[name] = Stack(name) if kind in NUMPY_KINDS else List(name)
    return fields
