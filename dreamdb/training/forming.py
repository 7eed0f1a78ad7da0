"""Forming: the sizes that budgets need, and the budgets themselves.

Source: design/0019 section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dreamdb.errors import InvalidInputError
from dreamdb.model import ANCHOR
from dreamdb.stream import Budget
from dreamdb.training.assembly import Assembler, needed_maps
from dreamdb.training.collation import Pad, PadMask, Stack
from dreamdb.training.formation import BucketKey, Packing, WindowedBucket
from dreamdb.training.members import Members
from dreamdb.training.transforms import CenterCrop, RandomResizedCrop, Resize
from dreamdb.training.windows import bucket_former, pack_former

if TYPE_CHECKING:
    from dreamdb.training.batches import BatchStream

__all__ = ["Cost", "Forming"]

Sizes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one batch costs.

    Parameters
    ----------
    real, padded : int
        Size of its samples, without and with padding.
    fill : float
        The share of its tightest budget that it uses.
    """

    real: int
    padded: int
    fill: float


class Forming:
    """How windows of a stream become batches.

    Parameters
    ----------
    stream : BatchStream
        Whose.
    """

    def __init__(self, stream: BatchStream) -> None:
        self._stream = stream
        for key in self.keys:
            for name in key.columns if key.stored is None else (key.stored,):
                stream.sampled.check_column(name)
        # Budgets that cannot be computed are told before the first batch.
        if isinstance(stream.formation, WindowedBucket):
            self._budgets([np.ones(1, np.int64) for _ in self.keys])

    @property
    def keys(self) -> tuple[BucketKey, ...]:
        """What windows are sorted by."""
        formation = self._stream.formation
        if isinstance(formation, WindowedBucket):
            return tuple(formation.keys)
        return (formation.length,) if isinstance(formation, Packing) else ()

    @cached_property
    def multiples(self) -> dict[str, int]:
        """What the padded lengths of each column are multiples of."""
        found: dict[str, int] = {}
        for collation in self._stream.fields.values():
            if isinstance(collation, (Pad, PadMask)):
                before = found.get(collation.source, 1)
                found[collation.source] = int(np.lcm(before, collation.pad_to_multiple_of))
        return found

    @property
    def widths(self) -> dict[str, int]:
        """The lengths of packed rows."""
        formation = self._stream.formation
        source = formation.length.length_of if isinstance(formation, Packing) else None
        if source is None or not isinstance(formation, Packing):
            return {}
        multiple = self.multiples.get(source, 1)
        return {source: -(-formation.max_tokens // multiple) * multiple}

    @property
    def checks(self) -> list[tuple[str, str]]:
        """Sequences and the columns that are said to hold their lengths."""
        return [(k.length_of, k.stored) for k in self.keys if k.stored and k.length_of]

    def describe(self) -> list[str]:
        """Return what the lengths depend on beside the data, as text."""
        if not self.keys:
            return []
        wanted = {name for key in self.keys if key.stored is None for name in key.columns}
        maps = needed_maps(self._stream.sampled.maps, wanted)
        padded = [f"{name} padded to {m}" for name, m in sorted(self.multiples.items())]
        told = [mapped.describe() for mapped in maps] + padded
        if isinstance(self._stream.formation, WindowedBucket):
            if self._stream.formation.budget.max_frames is not None:
                told.append(f"{self._frames()} frames")
            if self._stream.formation.budget.max_bytes is not None:
                told.append(f"{self._fixed_nbytes()} bytes")
        return told

    @cached_property
    def _measurer(self) -> Assembler:
        sampled = self._stream.sampled
        return Assembler(
            [(s.name, s.relation) for s in sampled.source.streams],
            sampled.identity,
            sampled.maps,
            {},
            seed=0,
            on_error="raise",
            widths={},
            multiples={},
        )

    def measure(self, expression: str, members: Members) -> Sizes:
        """Return the value of a key for some samples, computed.

        Parameters
        ----------
        expression : str
            As for :class:`BucketKey`.
        members : Members
            The samples.
        """
        return self._sizes(BucketKey(expression), members)

    def _sizes(self, key: BucketKey, members: Members) -> Sizes:
        if key.stored is not None:
            key = BucketKey(key.stored)
        columns = self._measurer.computed(members, key.columns, maps=self._stream.sampled.maps)
        found = key.sizes(columns)
        return np.broadcast_to(found, (len(members),)).astype(np.int64)

    def costs(self, members: Members, batches: Sequence[Sequence[Sizes]]) -> Iterator[Cost]:
        """Yield what the batches of a window cost.

        Parameters
        ----------
        members : Members
            The window's samples.
        batches : sequence of sequences of ndarray
            Their packed rows.
        """
        sizes = [self._sizes(key, members) for key in self.keys]
        formation = self._stream.formation
        if isinstance(formation, Packing):
            for rows in batches:
                real = sum(int(sizes[0][row].sum()) for row in rows)
                yield Cost(real, len(rows) * formation.max_tokens, 1.0)
            return
        budgets = self._budgets(sizes)
        for (row,) in batches:
            if not budgets:
                yield Cost(len(row), len(row), 1.0)
                continue
            padded = [len(row) * int(budget.padded[row].max()) for budget in budgets]
            fill = max(cost / b.limit for cost, b in zip(padded, budgets, strict=True))
            yield Cost(int(budgets[0].sizes[row].sum()), padded[0], fill)

    def _frames(self) -> int | None:
        lengths = [
            collation.sequence_length
            for collation in self._stream.fields.values()
            if isinstance(collation, Stack) and collation.is_video
        ]
        return max((n for n in lengths if n), default=None)

    def _fixed_nbytes(self) -> int:
        return sum(_nbytes(self._stream, name) for name in self._stream.fields)

    def _budgets(self, sizes: Sequence[Sizes]) -> list[Budget]:
        formation = self._stream.formation
        assert isinstance(formation, WindowedBucket)
        budget, count = formation.budget, len(sizes[0])
        out = []
        length = next((i for i, key in enumerate(self.keys) if key.length_of), None)
        if budget.max_tokens is not None:
            if length is None:
                raise InvalidInputError(
                    "max_tokens needs a key that is a length",
                    hint="keys=[BucketKey('len(tokens)')]",
                )
            multiple = self.multiples.get(self.keys[length].length_of or "", 1)
            out.append(Budget(sizes[length], budget.max_tokens, multiple))
        if budget.max_frames is not None:
            out.append(Budget(self._frame_sizes(sizes, count), budget.max_frames))
        if budget.max_bytes is not None:
            fixed = np.full(count, self._fixed_nbytes(), np.int64)
            if length is not None:
                source = self.keys[length].length_of or ""
                rectangles = [
                    c
                    for c in self._stream.fields.values()
                    if source in c.inputs and hasattr(c, "dtype") and not isinstance(c, Stack)
                ]
                padded = Budget(sizes[length], 1, self.multiples.get(source, 1)).padded
                each = sum(np.dtype(c.dtype).itemsize for c in rectangles)
                fixed = fixed + padded * each
            out.append(Budget(fixed, budget.max_bytes))
        return out

    def _frame_sizes(self, sizes: Sequence[Sizes], count: int) -> Sizes:
        frames = self._frames()
        if frames is not None:
            return np.full(count, frames, np.int64)
        for key, size in zip(self.keys, sizes, strict=True):
            if "frame" in key.expression:
                return size
        raise InvalidInputError(
            "max_frames needs clips, or a key that counts frames",
            hint="Stack(..., sequence_length=16), or BucketKey('frame_count')",
        )

    def _check(self, members: Members, budgets: Sequence[Budget]) -> None:
        for budget in budgets:
            over = np.flatnonzero(budget.padded > budget.limit)
            if isinstance(self._stream.formation, Packing):
                over = np.flatnonzero(budget.sizes > budget.limit)
            if len(over):
                at = int(over[0])
                (identity,) = self._measurer.identities(members.take([at]))
                raise InvalidInputError(
                    f"the sample {identity!r} takes {int(budget.padded[at]):,}, and the budget of "
                    f"a batch is {budget.limit:,}",
                    hint="a larger budget, Tokenize(..., max_length=), or filter such samples out",
                    sample=identity,
                )

    def former(self) -> Callable[[int, int, Members], list[list[Sizes]]]:
        """Return what forms a window; see :class:`~dreamdb.training.plans.WindowPlan`."""
        stream = self._stream
        seed = stream.sampled.order.seed or stream.sampled.source.seed
        formation = stream.formation
        if isinstance(formation, Packing):
            return pack_former(
                lambda members: self._sizes(formation.length, members),
                self._check,
                seed=seed,
                capacity=formation.max_tokens,
                rows=stream.batch_size or 1,
            )
        assert isinstance(formation, WindowedBucket)
        limits = [n for n in (stream.batch_size, formation.budget.max_samples) if n is not None]
        composition = None if stream.composition is None else stream.composition.scope
        return bucket_former(
            lambda members: [self._sizes(key, members) for key in self.keys],
            self._budgets,
            self._check,
            seed=seed,
            most=min(limits, default=None),
            group=formation.group,
            composition=composition,
        )


def _nbytes(stream: BatchStream, name: str) -> int:
    """Return the bytes that one sample of a field takes, where that does not depend on it."""
    collation = stream.fields[name]
    if not isinstance(collation, Stack):
        return 0
    if collation.decode is None:
        return _value_nbytes(stream, collation)
    side = collation.crop
    for change in collation.transforms:
        if isinstance(change, (RandomResizedCrop, CenterCrop)):
            side = change.size
        elif isinstance(change, Resize) and isinstance(change.size, tuple):
            side = round(float(np.sqrt(np.prod(change.size))))
    if side is None:
        raise InvalidInputError(
            f"max_bytes needs images of one size, and {name!r} does not say which",
            hint="Stack(..., crop=224)",
        )
    item = np.dtype(collation.dtype or "uint8").itemsize
    return 3 * side * side * item * (collation.sequence_length or 1)


def _value_nbytes(stream: BatchStream, collation: Stack) -> int:
    if collation.source in (m.output for m in stream.sampled.maps) or collation.source == ANCHOR:
        return 8
    ftype: Any = stream.sampled.source.streams[0].relation.column(collation.source).type
    item = np.dtype(collation.dtype or ftype.dtype or "float32").itemsize
    if ftype.kind == "embedding":
        return int(ftype.dim) * item
    if ftype.kind == "tensor":
        return int(np.prod(ftype.shape)) * item
    return 8
