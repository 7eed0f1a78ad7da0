"""Sampling: in which order samples come, and which rank gets which.

Source: design/0019 sections 2 and 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from dreamdb.errors import InvalidInputError, nearest_hint
from dreamdb.model import ANCHOR
from dreamdb.stream import (
    BlockOrder,
    BucketOrder,
    GlobalOrder,
    SampleOrder,
    SequentialOrder,
    derive_key,
)
from dreamdb.training.columns import read_values
from dreamdb.training.mixture import Mixture
from dreamdb.training.relation import STREAM_ID, Relation

if TYPE_CHECKING:
    from dreamdb.training.batches import BatchStream
    from dreamdb.training.mapping import Mapped

__all__ = [
    "DataParallel",
    "GlobalShuffle",
    "HashBucketed",
    "Order",
    "RuntimeParam",
    "SampleStream",
    "Sequential",
    "ShardAwareShuffle",
    "ShuffleBuckets",
    "identity_hashes",
]

Positions = npt.NDArray[np.int64]
_HASH_BLOCK: Final = 65_536


@dataclass(frozen=True)
class RuntimeParam:
    """A value that is bound when the stream runs.

    Parameters
    ----------
    name : str
        By which it is bound: ``to_torch(params={name: value})``.
    """

    name: str


@dataclass(frozen=True)
class DataParallel:
    """Which part of every step this process trains on.

    Parameters
    ----------
    rank, world_size : int or RuntimeParam
        Numbers, or names that are bound later.  A name that nobody binds takes the value of
        torch.distributed when it is initialised, else 0 of 1.
    """

    rank: int | RuntimeParam
    world_size: int | RuntimeParam


@dataclass(frozen=True)
class Sequential:
    """Samples as they are stored.

    Parameters
    ----------
    seed : int, optional
        Of the random numbers of transforms.
    """

    seed: int | None = None

    def build(self, source: Relation, identity: str) -> SampleOrder:
        """Return the order of one relation.

        Parameters
        ----------
        source : Relation
            The rows.
        identity : str
            The column that identifies them.
        """
        del identity
        return SequentialOrder(source.count())


@dataclass(frozen=True)
class GlobalShuffle:
    """A true permutation of all samples, another one in each epoch.

    Parameters
    ----------
    seed : int
        Which permutations.
    """

    seed: int

    def build(self, source: Relation, identity: str) -> SampleOrder:
        """Return the order of one relation.

        Parameters
        ----------
        source : Relation
            The rows.
        identity : str
            The column that identifies them.
        """
        del identity
        return GlobalOrder(source.count(), self.seed)


@dataclass(frozen=True)
class ShardAwareShuffle:
    """Granules of neighbouring samples in random order, samples shuffled block by block.

    Parameters
    ----------
    seed : int
        Which orders.
    shard_key : sequence of str
        Columns whose change ends a granule, beside the chunks of the storage.
    shuffle_block_size : int
        Samples that are shuffled together.
    sampling_granularity : str
        ``"row_group"``: the chunks in which records are stored.
    lanes : int, optional
        Runs of granules that are read side by side; ranks whose number divides it read none of
        each other's granules.  Default: 1.
    """

    seed: int
    shard_key: Sequence[str] = ()
    shuffle_block_size: int = 1_000_000
    sampling_granularity: str = "row_group"
    lanes: int | None = None

    def __post_init__(self) -> None:
        keys = (self.shard_key,) if isinstance(self.shard_key, str) else tuple(self.shard_key)
        object.__setattr__(self, "shard_key", keys)
        derive_key("order", self.seed)
        if self.sampling_granularity != "row_group":
            raise InvalidInputError(
                f"sampling_granularity={self.sampling_granularity!r} is not known",
                hint="'row_group'",
            )
        for name in ("shuffle_block_size", "lanes"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or int(value) < 1):
                raise InvalidInputError(f"{name} must be positive, not {value!r}")

    def build(self, source: Relation, identity: str) -> SampleOrder:
        """Return the order of one relation.

        Parameters
        ----------
        source : Relation
            The rows.
        identity : str
            The column that identifies them.
        """
        del identity
        population = source.population()
        keys = [key for key in self.shard_key if key != STREAM_ID]
        if keys:
            columns = {key: source.column(key) for key in keys}
            sizes = population.granules_by(keys, columns)
        else:
            sizes = population.granules()
        return BlockOrder(sizes, self.seed, self.shuffle_block_size, self.lanes or 1)


@dataclass(frozen=True)
class ShuffleBuckets:
    """Buckets in another order in each epoch.

    Parameters
    ----------
    seed : int
        Which orders.
    """

    seed: int


@dataclass(frozen=True)
class HashBucketed:
    """Samples in buckets by a hash of their identity, whenever they were stored.

    Parameters
    ----------
    seed : int
        Which buckets and orders.
    bucket_count : int
        How many.
    bucket_order : ShuffleBuckets, optional
        Order of the buckets; without it they come in their numbers' order.
    """

    seed: int
    bucket_count: int
    bucket_order: ShuffleBuckets | None = None

    def __post_init__(self) -> None:
        derive_key("order", self.seed)
        if isinstance(self.bucket_count, bool) or not 1 <= int(self.bucket_count) <= 1 << 32:
            raise InvalidInputError(f"bucket_count must be positive, not {self.bucket_count!r}")

    def build(self, source: Relation, identity: str) -> SampleOrder:
        """Return the order of one relation.

        Parameters
        ----------
        source : Relation
            The rows.
        identity : str
            The column that identifies them.
        """
        shuffled = None if self.bucket_order is None else self.bucket_order.seed
        hashes = identity_hashes(source, identity)
        return BucketOrder(hashes, self.seed, int(self.bucket_count), shuffled)


Order = ShardAwareShuffle | HashBucketed | GlobalShuffle | Sequential


def identity_hashes(source: Relation, identity: str) -> npt.NDArray[np.uint64]:
    """Return a number for each row that depends on its identity alone.

    Parameters
    ----------
    source : Relation
        The rows.
    identity : str
        The column that identifies them.

    Notes
    -----
    Cost: reads the column once; anchors of a keyed dataset already are such numbers.
    """
    population = source.population()
    keyed = source._datasets[0].key
    out = []
    for start in range(0, population.count, _HASH_BLOCK):
        index = np.arange(start, min(start + _HASH_BLOCK, population.count), dtype=np.int64)
        if identity in (ANCHOR, keyed):
            out.append(population.anchors(index))
            continue
        columns = {identity: source.column(identity)}
        values, _ = read_values(population.views, columns, [identity], population.rows(index))[
            identity
        ]
        if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu":
            out.append(values.astype(np.int64).view(np.uint64))
            continue
        digests = (blake3(repr(value).encode()).digest(length=8) for value in list(values))
        out.append(np.frombuffer(b"".join(digests), "<u8").astype(np.uint64))
    return np.concatenate(out) if out else np.empty(0, np.uint64)


@dataclass(frozen=True)
class SampleStream:
    """Samples in an order; give them a shape with :meth:`map` and :meth:`collate`.

    Parameters
    ----------
    source : Mixture
        The populations.
    identity : str
        The column that names a sample.
    order : Order
        In which order they come.
    epoch : RuntimeParam or int
        The first epoch.
    assignment : DataParallel or None
        Rank and world size.
    maps : tuple of Mapped
        Columns that are computed from others.
    """

    source: Mixture
    identity: str
    order: Order
    epoch: RuntimeParam | int
    assignment: DataParallel | None
    maps: tuple[Mapped, ...] = field(default=())

    @classmethod
    def of(
        cls, source: Mixture, identity: str, order: object, epoch: object, assignment: object
    ) -> SampleStream:
        """Return a stream whose arguments were checked.

        Parameters
        ----------
        source, identity, order, epoch, assignment
            As in :meth:`Relation.sample`.
        """
        order = Sequential() if order is None else order
        if not isinstance(order, Order):
            raise InvalidInputError(
                f"{order!r} is not an order",
                hint="ShardAwareShuffle, HashBucketed, GlobalShuffle or Sequential",
            )
        epoch = RuntimeParam("epoch") if epoch is None else epoch
        if not isinstance(epoch, RuntimeParam):
            if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
                raise InvalidInputError(f"epoch must be an integer from 0 on, not {epoch!r}")
        if assignment is not None and not isinstance(assignment, DataParallel):
            raise InvalidInputError(
                f"{assignment!r} is not an assignment",
                hint="DataParallel(rank=..., world_size=...)",
            )
        for stream in source.streams:
            stream.relation.column(identity)
        return cls(source, identity, order, epoch, assignment)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a batch can be made of."""
        return (*self.source.columns, *(mapped.output for mapped in self.maps))

    def map(self, mapped: Mapped) -> SampleStream:
        """Add a computed column.

        Parameters
        ----------
        mapped : Mapped
            Such as ``Tokenize("text", tokenizer) >> "tokens"``.
        """
        from dreamdb.training.mapping import Mapped as Checked

        if not isinstance(mapped, Checked) or not mapped.output:
            raise InvalidInputError(
                f"{mapped!r} is not a mapping with an output",
                hint="Tokenize('text', tokenizer) >> 'tokens'",
            )
        for name in mapped.inputs:
            self.check_column(name)
        if mapped.output in self.columns or mapped.output == ANCHOR:
            raise InvalidInputError(f"there is a column {mapped.output!r} already")
        return replace(self, maps=(*self.maps, mapped))

    def check_column(self, name: str) -> None:
        """Raise unless every stream has a column.

        Parameters
        ----------
        name : str
            The column.

        Raises
        ------
        InvalidInputError
            Naming the stream that lacks it.
        """
        if name in self.columns or name == ANCHOR:
            return
        for stream in self.source.streams:
            if name not in stream.relation.columns:
                raise InvalidInputError(
                    f"the stream {stream.name!r} has no column {name!r}",
                    hint=nearest_hint(name, self.columns, "columns"),
                    stream=stream.name,
                    column=name,
                )

    def collate(
        self,
        *,
        batch_size: int | None = None,
        formation: Any = None,
        composition: Any = None,
        last: Any = None,
        fields: Mapping[str, Any] | None = None,
        on_error: str = "raise",
    ) -> BatchStream:
        """Return batches.

        Parameters
        ----------
        batch_size : int, optional
            Samples per batch and rank; with a formation that has a budget, at most so many; with
            :class:`Packing`, packed rows.
        formation : WindowedBucket or Packing, optional
            How batches are formed when not by counting.
        composition : StratifiedByStream, optional
            Whether every batch, or every step, resembles the mixture.
        last : DropPartial or KeepPartial
            What happens to the last samples of an epoch; default: kept.
        fields : mapping of str to collation
            The batch: ``{"image": Stack("image_ref", ...), "id": List("sample_id")}``; default:
            every column as it is.
        on_error : str
            For a sample that cannot be decoded, or a null: ``"raise"``, ``"skip"`` (counted), or
            ``"replace"`` (zeros, counted, and marked in the array ``_valid``).
        """
        from dreamdb.training.batches import BatchStream

        return BatchStream.of(self, batch_size, formation, composition, last, fields, on_error)
