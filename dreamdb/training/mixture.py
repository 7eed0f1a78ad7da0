"""Mixtures: several relations as one stream, in proportions.

Source: design/0019 section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dreamdb.dataset import Dataset
from dreamdb.errors import InvalidInputError
from dreamdb.model import ANCHOR
from dreamdb.stream import derive_key
from dreamdb.training.relation import STREAM_ID, Relation, relation

if TYPE_CHECKING:
    from dreamdb.training.sampling import Order, RuntimeParam, SampleStream

__all__ = ["Mixture", "Stream", "mix"]


@dataclass(frozen=True)
class Stream:
    """One relation of a mixture, and how much of it an epoch takes.

    Parameters
    ----------
    name : str
        What ``stream_id`` says.
    source : Relation or Dataset
        Where the samples come from.
    proportion : float, optional
        Share of the epoch; the shares of all streams add up to 1.
    repeat : float, optional
        How many times an epoch goes through the stream; 0.5 takes half of it.
    choose : int, optional
        How many samples an epoch takes.
    """

    name: str
    source: Relation | Dataset
    proportion: float | None = None
    repeat: float | None = None
    choose: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidInputError(f"a stream needs a name, not {self.name!r}")
        object.__setattr__(self, "source", relation(self.source))
        given = [n for n in ("proportion", "repeat", "choose") if getattr(self, n) is not None]
        if len(given) > 1:
            raise InvalidInputError(
                f"the stream {self.name!r} has {' and '.join(given)}",
                hint="one of them says how much is taken",
            )
        for name in given:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise InvalidInputError(
                    f"{name}={value!r} of the stream {self.name!r} can't be met: it must be "
                    "positive",
                    hint="leave the stream out",
                )
            if not math.isfinite(value) or (name == "choose" and value != int(value)):
                raise InvalidInputError(
                    f"{name}={value!r} of the stream {self.name!r} can't be met"
                )

    @property
    def relation(self) -> Relation:
        """Where the samples come from."""
        assert isinstance(self.source, Relation)
        return self.source


def mix(streams: Sequence[Stream], epoch_size: int | None = None, seed: int = 0) -> Mixture:
    """Return several relations as one stream.

    Parameters
    ----------
    streams : sequence of Stream
        All with ``proportion``, or none.
    epoch_size : int, optional
        Samples of an epoch; only with proportions.  Without it an epoch ends when the first stream
        has been shown once.
    seed : int
        Shifts the pattern in which streams alternate.

    Notes
    -----
    Streams go on where they stood in the epoch before, and begin again when they are through.
    """
    given = list(streams)
    if not given or not all(isinstance(stream, Stream) for stream in given):
        raise InvalidInputError("mix needs streams", hint="vd.Stream('web', ds, proportion=0.7)")
    names = [stream.name for stream in given]
    if len(set(names)) != len(names):
        raise InvalidInputError(f"two streams have the same name: {names}")
    shares = [stream.proportion for stream in given]
    if any(share is not None for share in shares):
        if any(share is None for share in shares):
            raise InvalidInputError(
                "either every stream has a proportion or none",
                hint="repeat= and choose= say counts, proportion= says shares",
            )
        total = sum(share for share in shares if share is not None)
        if abs(total - 1) > 1e-6:
            raise InvalidInputError(
                f"the proportions add up to {total:g}, not to 1", proportions=shares
            )
    elif epoch_size is not None:
        raise InvalidInputError(
            "epoch_size needs proportions", hint="repeat= and choose= already say how many"
        )
    if epoch_size is not None and (isinstance(epoch_size, bool) or int(epoch_size) < 1):
        raise InvalidInputError(f"epoch_size must be positive, not {epoch_size!r}")
    derive_key("mix", seed)
    return Mixture(tuple(given), None if epoch_size is None else int(epoch_size), seed)


@dataclass(frozen=True)
class Mixture:
    """Several relations as one stream; :func:`mix` makes it.

    Parameters
    ----------
    streams : tuple of Stream
        The relations.
    epoch_size : int or None
        Samples of an epoch, when it was said.
    seed : int
        Shifts the pattern.
    """

    streams: tuple[Stream, ...]
    epoch_size: int | None = None
    seed: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every stream has, and ``stream_id``."""
        first, *others = (stream.relation.columns for stream in self.streams)
        return (STREAM_ID, *(n for n in first if all(n in other for other in others)))

    def filter(self, where: object) -> Mixture:
        """Keep the samples of every stream for which a condition holds.

        Parameters
        ----------
        where : Expression or str
            As in :meth:`Relation.filter`.
        """
        return self._each(lambda found: found.filter(where))

    def project(self, *names: str, **expressions: Any) -> Mixture:
        """Keep and compute columns of every stream.

        Parameters
        ----------
        *names : str
            Columns to keep; ``stream_id`` is always there.
        **expressions : Expression
            Further columns.
        """
        return self._each(lambda found: found.project(*names, **expressions))

    def _each(self, change: Any) -> Mixture:
        out = []
        for stream in self.streams:
            try:
                out.append(replace(stream, source=change(stream.relation)))
            except InvalidInputError as error:
                if len(self.streams) > 1:
                    error.add_note(f"in the stream {stream.name!r}")
                raise
        return replace(self, streams=tuple(out))

    def counts(self) -> list[int]:
        """Return how many samples of each stream an epoch takes.

        Raises
        ------
        InvalidInputError
            When a stream is empty, or so small a part of the epoch that it has no sample.
        """
        sizes = [stream.relation.count() for stream in self.streams]
        for stream, size in zip(self.streams, sizes, strict=True):
            if not size:
                raise InvalidInputError(
                    f"the stream {stream.name!r} has no rows",
                    hint="rows after each step: "
                    + "; ".join(f"{text}: {rows:,}" for text, rows in stream.relation.steps()),
                    stream=stream.name,
                )
        if self.streams[0].proportion is None:
            return [
                stream.choose or max(1, round((stream.repeat or 1.0) * size))
                for stream, size in zip(self.streams, sizes, strict=True)
            ]
        shares = [float(stream.proportion or 0) for stream in self.streams]
        total = self.epoch_size
        if total is None:
            total = min(int(size / share) for size, share in zip(sizes, shares, strict=True))
        counts = _apportion(total, shares)
        for stream, count in zip(self.streams, counts, strict=True):
            if not count:
                raise InvalidInputError(
                    f"the proportion {stream.proportion:g} of the stream {stream.name!r} can't be "
                    f"met: an epoch of {total:,} samples has none of it",
                    hint="a larger epoch_size, or leave the stream out",
                    stream=stream.name,
                )
        return counts

    def sample(
        self,
        *,
        identity: str = ANCHOR,
        order: Order | None = None,
        epoch: RuntimeParam | int | None = None,
        assignment: Any = None,
    ) -> SampleStream:
        """Return the samples in an order, epoch by epoch, dealt to ranks.

        Parameters
        ----------
        identity, order, epoch, assignment
            As in :meth:`Relation.sample`.
        """
        from dreamdb.training.sampling import SampleStream

        return SampleStream.of(self, identity, order, epoch, assignment)

    def describe(self) -> list[str]:
        """Return one line per stream, and what they are mixed by."""
        return [
            f"{s.name}: {s.relation.describe()}; proportion={s.proportion} repeat={s.repeat} "
            f"choose={s.choose}"
            for s in self.streams
        ]


def _apportion(total: int, shares: Sequence[float]) -> list[int]:
    """Return whole numbers in proportion: the largest remainders are rounded up."""
    exact = [total * share for share in shares]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: max(0, total - sum(counts))]:
        counts[i] += 1
    return counts
