"""Batches: the prepared training stream.

Source: design/0019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dreamdb.errors import InvalidInputError
from dreamdb.model import ANCHOR
from dreamdb.read import check_batch_size
from dreamdb.training.assembly import ON_ERROR, Assembler, default_fields
from dreamdb.training.collation import Collation
from dreamdb.training.formation import (
    DropPartial,
    KeepPartial,
    Packing,
    StratifiedByStream,
    WindowedBucket,
)
from dreamdb.training.forming import Forming
from dreamdb.training.members import EpochMembers, Members
from dreamdb.training.plans import Batch, CountPlan
from dreamdb.training.relation import STREAM_ID
from dreamdb.training.sampling import RuntimeParam, SampleStream
from dreamdb.training.state import StreamPlan
from dreamdb.training.window_plan import Plan, WindowPlan
from dreamdb.write import anchor_array, anchor_of_key

if TYPE_CHECKING:
    from dreamdb.torch.training_loader import TrainingLoader
    from dreamdb.training.explain import Explanation

__all__ = ["BatchStream", "Occurrence"]


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Where a sample is seen.

    Parameters
    ----------
    epoch, step : int
        Which step of which epoch.
    rank : int
        By which rank.
    index : int
        Its place in the batch.
    """

    epoch: int
    step: int
    rank: int
    index: int


class BatchStream:
    """Batches of samples; :meth:`SampleStream.collate` makes it.

    What every rank sees in every step is a function of this description: nothing is read to say
    it, but for the lengths that budgets need.

    Parameters
    ----------
    sampled : SampleStream
        The samples in their order.
    batch_size : int or None
        Samples, or packed rows, per batch and rank.
    formation : WindowedBucket, Packing or None
        How batches are formed when not by counting.
    composition : StratifiedByStream or None
        Whether batches resemble the mixture.
    drop_last : bool
        Whether the last samples of an epoch may be left out.
    fields : mapping of str to Collation
        What a batch is made of.
    on_error : str
        What happens to samples that cannot be used.
    """

    def __init__(
        self,
        sampled: SampleStream,
        batch_size: int | None,
        formation: WindowedBucket | Packing | None,
        composition: StratifiedByStream | None,
        drop_last: bool,
        fields: Mapping[str, Collation],
        on_error: str,
    ) -> None:
        self.sampled = sampled
        self.batch_size = batch_size
        self.formation = formation
        self.composition = composition
        self.drop_last = drop_last
        self.fields = dict(fields)
        self.on_error = on_error

    def __getstate__(self) -> dict[str, Any]:
        # What was worked out is worked out again: opened contents do not pickle.
        return {
            name: self.__dict__[name]
            for name in (
                "sampled",
                "batch_size",
                "formation",
                "composition",
                "drop_last",
                "fields",
                "on_error",
            )
        }

    @classmethod
    def of(
        cls,
        sampled: SampleStream,
        batch_size: object,
        formation: object,
        composition: object,
        last: object,
        fields: Mapping[str, Any] | None,
        on_error: str,
    ) -> BatchStream:
        """Return a stream whose arguments were checked.

        Parameters
        ----------
        sampled : SampleStream
            The samples.
        batch_size, formation, composition, last, fields, on_error
            As in :meth:`SampleStream.collate`.
        """
        if formation is not None and not isinstance(formation, (WindowedBucket, Packing)):
            raise InvalidInputError(
                f"{formation!r} is not a formation", hint="WindowedBucket(...) or Packing(...)"
            )
        if composition is not None and not isinstance(composition, StratifiedByStream):
            raise InvalidInputError(
                f"{composition!r} is not a composition", hint="StratifiedByStream('stream_id')"
            )
        if batch_size is None and not isinstance(formation, WindowedBucket):
            raise InvalidInputError(
                "collate needs a batch_size",
                hint="or a formation with a budget: WindowedBucket(...)",
            )
        size = None if batch_size is None else check_batch_size(batch_size)
        if on_error not in ON_ERROR:
            raise InvalidInputError(
                f"on_error={on_error!r} is not a choice", hint=f"one of {', '.join(ON_ERROR)}"
            )
        kept = {None: False, KeepPartial: False, DropPartial: True}
        kind = last if last is None or isinstance(last, type) else type(last)
        if kind not in kept:
            raise InvalidInputError(
                f"last={last!r} is not a choice", hint="DropPartial, KeepPartial"
            )
        given = _fields(sampled, fields)
        for collation in given.values():
            for name in collation.inputs:
                sampled.check_column(name)
        return cls(sampled, size, formation, composition, kept[kind], given, on_error)

    @cached_property
    def members(self) -> EpochMembers:
        """Which sample stands where.

        Notes
        -----
        Cost: evaluates joins and filters when first asked for.
        """
        return EpochMembers(self.sampled)

    @cached_property
    def assembler(self) -> Assembler:
        """What makes batches of samples."""
        forming = self.forming
        return Assembler(
            [(s.name, s.relation) for s in self.sampled.source.streams],
            self.sampled.identity,
            self.sampled.maps,
            self.fields,
            seed=self.sampled.order.seed or self.sampled.source.seed,
            on_error=self.on_error,
            widths=forming.widths,
            multiples=forming.multiples,
            checks=forming.checks,
        )

    @cached_property
    def forming(self) -> Forming:
        """How windows become batches."""
        return Forming(self)

    @cached_property
    def steps(self) -> Plan:
        """How epochs are cut into steps."""
        if self.formation is None:
            return CountPlan(self.members, self.batch_size or 1, self.drop_last)
        return WindowPlan(
            self.members,
            self.formation.window_size,
            self.forming.former(),
            self.drop_last,
            isinstance(self.formation, Packing),
        )

    @cached_property
    def plan(self) -> StreamPlan:
        """Everything that the order depends on, in words."""
        sampled, mixture = self.sampled, self.sampled.source
        counts = [f"{n}: {c}" for n, c in zip(self.members.names, self.members.counts, strict=True)]
        if len(counts) == 1:
            # By what name the only dataset was opened makes no difference.
            counts = [str(self.members.total)]
        sizes = [f"{p.count} rows" for p in self.members.populations]
        order = repr(sampled.order)
        return StreamPlan(
            {
                "data": (*(s.relation.describe() for s in mixture.streams), *sizes),
                "mixture": (*counts, f"seed {mixture.seed}"),
                "order": (order, sampled.identity if "Hash" in order else ""),
                "formation": (
                    f"batch_size {self.batch_size}",
                    repr(self.formation),
                    repr(self.composition),
                    f"drop_last {self.drop_last}",
                    *self.forming.describe(),
                ),
            }
        )

    @property
    def manifests(self) -> list[str]:
        """The versions of all datasets it reads."""
        streams = self.sampled.source.streams
        return list(dict.fromkeys(m for s in streams for m in s.relation.manifests))

    def count(self, epoch: int = 0, world_size: int = 1) -> int:
        """Return how many steps an epoch has.

        Parameters
        ----------
        epoch : int
            Which epoch.
        world_size : int
            For how many ranks.

        Notes
        -----
        Cost: nothing for batches of equal count; with a formation, the lengths of all samples.
        """
        return self.steps.count(_checked(epoch, "epoch"), self.steps.start, world_size)

    def _batch_of(self, epoch: int, step: int, rank: int, world_size: int) -> Batch:
        steps = self.steps
        total = self.count(epoch, world_size)
        if not 0 <= _checked(step, "step") < total:
            raise InvalidInputError(f"there is no step {step} in an epoch of {total} steps")
        if not 0 <= _checked(rank, "rank") < world_size:
            raise InvalidInputError(f"there is no rank {rank} among {world_size}")
        return steps.batch(epoch, step, rank, world_size)

    def rows(self, epoch: int, step: int, rank: int | None = None, world_size: int = 1) -> pa.Table:
        """Return what the model saw, or will see, in a step.

        Parameters
        ----------
        epoch, step : int
            Which step, counted in an epoch that ``world_size`` ranks run from its start.
        rank : int, optional
            Only this rank's batch; default: all ranks'.
        world_size : int
            For how many ranks.

        Returns
        -------
        pyarrow.Table
            ``rank``, ``stream_id``, ``_anchor``, the identity, and with packing ``row``, in the
            order of the batches.
        """
        parts = []
        for one in range(world_size) if rank is None else [rank]:
            batch = self._batch_of(epoch, step, one, world_size)
            members = batch.members
            columns = {
                "rank": pa.array([one] * len(members), pa.int64()),
                STREAM_ID: pa.array([self.members.names[i] for i in members.streams.tolist()]),
                ANCHOR: pa.array(self.members.anchors(members)),
            }
            if self.sampled.identity != ANCHOR:
                columns[self.sampled.identity] = pa.array(self.assembler.identities(members))
            if batch.packs is not None:
                columns["row"] = pa.array(batch.packs)
            parts.append(pa.table(columns))
        return pa.concat_tables(parts)

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
        """Return the batch of one step: bit by bit what training saw.

        Parameters
        ----------
        epoch, step, rank, world_size : int
            As in :meth:`rows`.

        Returns
        -------
        dict of str to ndarray or list
            The fields.
        """
        return self.assembler(self._batch_of(epoch, step, rank, world_size)).fields

    def where(self, sample_id: Any, epoch: int, world_size: int = 1) -> list[Occurrence]:
        """Return at which steps of an epoch a sample is seen.

        Parameters
        ----------
        sample_id : object
            Its identity.
        epoch : int
            Which epoch.
        world_size : int
            For how many ranks.

        Returns
        -------
        list of Occurrence
            In order; empty when the epoch leaves the sample out.

        Raises
        ------
        InvalidInputError
            When no stream has such a sample.

        Notes
        -----
        Cost: one look-up of the identity.
        """
        found, known = [], False
        for stream in range(len(self.members.names)):
            for row in self._rows_of(stream, sample_id):
                known = True
                for position in self.members.places(_checked(epoch, "epoch"), stream, row):
                    at = self.steps.locate(epoch, position, world_size)
                    if at is not None:
                        found.append(Occurrence(epoch, *at))
        if not known:
            raise InvalidInputError(
                f"no stream has a sample whose {self.sampled.identity!r} is {sample_id!r}",
                hint="filters and joins may have left it out",
                sample=sample_id,
            )
        return sorted(found, key=lambda o: (o.step, o.rank, o.index))

    def _rows_of(self, stream: int, sample_id: Any) -> list[int]:
        source = self.sampled.source.streams[stream].relation
        population = self.members.populations[stream]
        dataset = source._datasets[0]
        if self.sampled.identity in (ANCHOR, dataset.key):
            keyed = self.sampled.identity != ANCHOR
            anchor = anchor_of_key(sample_id) if keyed else anchor_array([sample_id])[0]
            rows = population.views[0].find(np.array([anchor], np.uint64))
        else:
            chosen = source.filter(pc.field(self.sampled.identity) == pc.scalar(sample_id))
            other = chosen.population()
            rows = other.rows(np.arange(other.count, dtype=np.int64))[0]
        found = (population.find(int(row)) for row in rows.tolist() if row >= 0)
        return [row for row in found if row >= 0]

    def lengths(self, expression: str) -> dict[str, pa.Table]:
        """Return a bucket key of every sample, to be stored beside the samples.

        Parameters
        ----------
        expression : str
            As for :class:`BucketKey`, such as ``"len(tokens)"``.

        Returns
        -------
        dict of str to pyarrow.Table
            For each stream ``_anchor`` and ``value``: what ``add_scalar_layer`` takes.  A
            :class:`BucketKey` with ``stored=`` then plans without computing.
        """
        out = {}
        for stream, (name, population) in enumerate(
            zip(self.members.names, self.members.populations, strict=True)
        ):
            anchors, values = [], []
            for low in range(0, population.count, 8_192):
                index = np.arange(low, min(low + 8_192, population.count), dtype=np.int64)
                sides = np.stack(population.rows(index), axis=1)
                streams = np.full(len(index), stream, np.int64)
                members = Members(index, streams, index, np.zeros_like(index), sides)
                anchors.append(population.anchors(index))
                values.append(self.forming.measure(expression, members))
            out[name] = pa.table(
                {
                    ANCHOR: np.concatenate(anchors or [np.empty(0, np.uint64)]),
                    "value": np.concatenate(values or [np.empty(0, np.int64)]),
                }
            )
        return out

    def read_epoch(
        self, epoch: int = 0, rank: int = 0, world_size: int = 1
    ) -> Iterator[dict[str, Any]]:
        """Yield the batches of one rank as numpy arrays and lists.

        Parameters
        ----------
        epoch, rank, world_size : int
            Which epoch, and whose batches.
        """
        planned = self.steps.batches(_checked(epoch, "epoch"), self.steps.start, rank, world_size)
        for _, made in self.assembler.batches(planned, lambda item: item[1]):
            yield made.fields

    def bound(self, params: Mapping[str, Any]) -> tuple[int, tuple[int, int] | None]:
        """Return the first epoch, and rank and world size when they are known.

        Parameters
        ----------
        params : mapping of str to int
            Values of runtime parameters.

        Raises
        ------
        InvalidInputError
            When a name is not a parameter, or a value is out of range.
        """
        used: set[str] = set()

        def value(given: RuntimeParam | int | None, otherwise: int | None) -> int | None:
            if not isinstance(given, RuntimeParam):
                return otherwise if given is None else given
            used.add(given.name)
            return params.get(given.name, otherwise)

        epoch = value(self.sampled.epoch, 0)
        assignment = self.sampled.assignment
        rank = value(None if assignment is None else assignment.rank, None)
        world = value(None if assignment is None else assignment.world_size, None)
        unknown = sorted(set(params) - used)
        if unknown:
            raise InvalidInputError(
                f"there is no runtime parameter {unknown[0]!r}",
                hint=f"there are: {', '.join(sorted(used)) or 'none'}",
            )
        if (rank is None) != (world is None):
            raise InvalidInputError("rank and world_size go together; bind both")
        first = _checked(0 if epoch is None else epoch, "epoch")
        if rank is None or world is None:
            return first, None
        if not 0 <= _checked(rank, "rank") < _checked(world, "world_size"):
            raise InvalidInputError(f"there is no rank {rank} among {world}")
        return first, (rank, world)

    def explain(self, analyze: bool = False, steps: int = 20, world_size: int = 1) -> Explanation:
        """Return how the stream is made: EXPLAIN DATA.

        Parameters
        ----------
        analyze : bool
            Run some steps, and say where their time went.
        steps : int
            How many.
        world_size : int
            For how many ranks.
        """
        from dreamdb.training.explain import explain

        return explain(self, analyze=analyze, steps=steps, world_size=world_size)

    def to_torch(
        self,
        prefetch: int = 2,
        num_workers: int = 0,
        device: str | None = None,
        pin_memory: bool | str = "auto",
        *,
        params: Mapping[str, Any] | None = None,
        start_method: str | None = None,
    ) -> TrainingLoader:
        """Return a loader of PyTorch tensors.

        Parameters
        ----------
        prefetch : int
            Batches that are made ahead, per worker.
        num_workers : int
            Processes that make batches; 0: a thread of this one.
        device : str, optional
            Where tensors are put.
        pin_memory : bool or str
            Whether tensors are copied to pinned memory first; ``"auto"``: when CUDA is there and
            the device asks for it.
        params : mapping of str to int, optional
            Values of runtime parameters: ``{"epoch": 3, "data_parallel_rank": 0, ...}``.
        start_method : str, optional
            How processes are started: ``"fork"``, ``"spawn"`` or ``"forkserver"``.
        """
        from dreamdb.torch.training_loader import TrainingLoader

        return TrainingLoader(
            self,
            prefetch=prefetch,
            num_workers=num_workers,
            device=device,
            pin_memory=pin_memory,
            params=params,
            start_method=start_method,
        )

    def __repr__(self) -> str:
        streams = ", ".join(stream.name for stream in self.sampled.source.streams)
        return (
            f"BatchStream({streams}: {list(self.fields)}, batch_size={self.batch_size}, "
            f"order={self.sampled.order!r})"
        )

    def _repr_html_(self) -> str:
        return self.explain()._repr_html_()


def _fields(sampled: SampleStream, fields: Mapping[str, Any] | None) -> dict[str, Collation]:
    if fields is None:
        return default_fields(sampled.source.streams[0].relation)
    if not fields:
        raise InvalidInputError("a batch needs a field", hint="fields={'x': Stack('x')}")
    for name, collation in fields.items():
        if not isinstance(collation, Collation):
            raise InvalidInputError(
                f"the field {name!r} is {collation!r}, not a collation",
                hint=f"such as Stack({name!r}) or List({name!r})",
            )
    return dict(fields)


def _checked(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise InvalidInputError(f"{name} must be an integer from 0 on, not {value!r}")
    return int(value)
