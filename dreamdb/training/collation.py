"""Collations: what each field of a batch is made of.

Source: design/0019 section 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamdb.errors import InvalidInputError
from dreamdb.training.columns import Values
from dreamdb.training.images import DECODERS, decode_image, finish_image, normalise_format
from dreamdb.training.transforms import Transform, check_transforms
from dreamdb.training.videos import decode_clip

__all__ = [
    "Collation",
    "List",
    "Pad",
    "PadMask",
    "PositionIds",
    "Samples",
    "SegmentIds",
    "ShiftedLabels",
    "Stack",
]

Positions = npt.NDArray[np.int64]
Uniforms = Callable[[str, int], npt.NDArray[np.float64]]
_VIDEO: Final = {"h264", "video", "mp4"}


@dataclass
class Samples:
    """The samples of one batch, before they are collated.

    Parameters
    ----------
    columns : mapping of str to (values, valid)
        What was read and computed.
    count : int
        How many samples.
    packs : ndarray of int64, optional
        In which packed row each one lies.
    uniforms : callable
        Gives the random numbers of all samples for a purpose: ``(purpose, draws)``.
    widths : mapping of str to int
        Width of the rows made of a column, where it is fixed.
    multiples : mapping of str to int
        What the widths of other columns are multiples of.
    """

    columns: Mapping[str, Values]
    count: int
    packs: Positions | None
    uniforms: Uniforms
    widths: Mapping[str, int] = field(default_factory=dict)
    multiples: Mapping[str, int] = field(default_factory=dict)

    def layout(self, source: str, kept: Positions) -> Layout:
        """Return where the elements of a column go.

        Parameters
        ----------
        source : str
            A column of sequences.
        kept : ndarray of int64
            Samples that are in the batch.
        """
        values = self.columns[source][0]
        # A sample that is replaced has no elements.
        arrays = [
            np.empty(0, np.int64) if values[i] is None else np.asarray(values[i])
            for i in kept.tolist()
        ]
        lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
        if self.packs is None:
            rows, offsets = np.arange(len(arrays)), np.zeros(len(arrays), np.int64)
        else:
            _, rows = np.unique(self.packs[kept], return_inverse=True)
            ends = np.cumsum(lengths)
            first = np.flatnonzero(np.diff(rows, prepend=-1))
            base = np.repeat((ends - lengths)[first], np.diff(np.append(first, len(rows))))
            offsets = ends - lengths - base
        multiple = self.multiples.get(source, 1)
        longest = int((offsets + lengths).max(initial=0))
        width = max(self.widths.get(source, 0), -(-longest // multiple) * multiple, 1)
        return Layout(arrays, lengths, rows, offsets, int(rows.max(initial=-1)) + 1, width)


@dataclass(frozen=True)
class Layout:
    """Where the elements of sequences go in a rectangle.

    Parameters
    ----------
    arrays : list of ndarray
        The sequences.
    lengths, rows, offsets : ndarray of int64
        Their lengths, and where each one begins.
    height, width : int
        Shape of the rectangle.
    """

    arrays: list[npt.NDArray[Any]]
    lengths: Positions
    rows: Positions
    offsets: Positions
    height: int
    width: int

    @cached_property
    def inside(self) -> Positions:
        """Index of every element within its sequence."""
        ends = np.cumsum(self.lengths)
        starts = np.repeat(ends - self.lengths, self.lengths)
        return np.arange(int(self.lengths.sum())) - starts

    @cached_property
    def places(self) -> Positions:
        """Flat index of every element in the rectangle."""
        begin = self.rows * self.width + self.offsets
        return np.repeat(begin, self.lengths) + self.inside

    @cached_property
    def elements(self) -> npt.NDArray[Any]:
        """All elements, one sequence after the other."""
        return np.concatenate(self.arrays) if self.arrays else np.empty(0, np.int64)

    def filled(self, places: Positions, values: Any, fill: Any, dtype: str) -> npt.NDArray[Any]:
        """Return the rectangle with some places set.

        Parameters
        ----------
        places : ndarray of int64
            Flat indices.
        values : ndarray or scalar
            What stands there.
        fill : scalar
            What stands elsewhere.
        dtype : str
            Of the result.
        """
        out = np.full(self.height * self.width, fill, dtype)
        out[places] = values
        return out.reshape(self.height, self.width)


class Collation:
    """One field of a batch.

    ``prepare`` turns samples into values one by one and says which of them failed; ``finish``
    makes the field of those that are kept.
    """

    source: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns it is made of."""
        return (self.source,)

    @property
    def device(self) -> str | None:
        """Where the field is wanted, when it says so itself."""
        return None

    def prepare(self, name: str, samples: Samples) -> tuple[Any, dict[int, str]]:
        """Return values, and for each sample that has none why.

        Parameters
        ----------
        name : str
            The field's name.
        samples : Samples
            The batch.
        """
        del name
        values, valid = samples.columns[self.source]
        if valid is not None:
            gone = np.flatnonzero(~valid).tolist()
        elif isinstance(values, list):
            gone = [i for i, value in enumerate(values) if value is None]
        else:
            gone = []
        return values, dict.fromkeys(gone, f"it has no {self.source!r}")

    def finish(self, prepared: Any, samples: Samples, kept: Positions) -> Any:
        """Return the field.

        Parameters
        ----------
        prepared : object
            From :meth:`prepare`.
        samples : Samples
            The batch.
        kept : ndarray of int64
            Samples that are in it.
        """
        raise NotImplementedError

    def describe(self) -> str:
        """Return the collation as text."""
        told = ", ".join(
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)  # type: ignore[arg-type]
            if getattr(self, f.name) != f.default
        )
        return f"{type(self).__name__}({told})"


@dataclass(frozen=True)
class List(Collation):
    """Values as a list; nulls are None.

    Parameters
    ----------
    source : str
        The column.
    """

    source: str

    def prepare(self, name: str, samples: Samples) -> tuple[Any, dict[int, str]]:
        """Return the values.

        Parameters
        ----------
        name : str
            The field's name.
        samples : Samples
            The batch.
        """
        del name
        values, valid = samples.columns[self.source]
        if isinstance(values, np.ndarray):
            rows = values.tolist() if values.ndim == 1 else list(values)
            if valid is not None:
                rows = [row if ok else None for row, ok in zip(rows, valid.tolist(), strict=True)]
            return rows, {}
        return values, {}

    def finish(self, prepared: Any, samples: Samples, kept: Positions) -> Any:
        """Return a list; of packed rows a list of lists.

        Parameters
        ----------
        prepared : object
            From :meth:`prepare`.
        samples : Samples
            The batch.
        kept : ndarray of int64
            Samples that are in it.
        """
        if samples.packs is None:
            return [prepared[i] for i in kept.tolist()]
        _, rows = np.unique(samples.packs[kept], return_inverse=True)
        out: list[list[Any]] = [[] for _ in range(int(rows.max(initial=-1)) + 1)]
        for row, i in zip(rows.tolist(), kept.tolist(), strict=True):
            out[row].append(prepared[i])
        return out


@dataclass(frozen=True)
class Stack(Collation):
    """Values of one shape as one array; images and clips are decoded.

    Parameters
    ----------
    source : str
        The column: numbers, vectors, tensors, sequences of equal length, or encoded media.
    decode : str, optional
        ``"jpeg"``, ``"png"``, ``"image"`` (any that Pillow reads), ``"h264"`` or ``"video"``.
    transforms : sequence of Transform
        What is done to each image or frame, in order.
    dtype : str, optional
        Of the result.  Without :class:`Normalize` integer images become floats in ``[0, 1]``.
    layout : str
        ``"nchw"`` or ``"nhwc"``, for clips ``"ntchw"`` or ``"nthwc"``.
    device : str, optional
        Where :meth:`to_torch` puts it.
    sequence_length : int, optional
        Frames of a clip, evenly spread over it; a shorter clip repeats its last frame.
    resize_shorter, crop : int, optional
        Frames are resized to this shorter side, and their centre is cut out.
    """

    source: str
    decode: str | None = None
    transforms: Sequence[Transform | Callable[[Any], Any]] = ()
    dtype: str | None = None
    layout: str | None = None
    device: str | None = None
    sequence_length: int | None = None
    resize_shorter: int | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", check_transforms(self.transforms))
        if self.dtype is not None:
            try:
                np.dtype(self.dtype)
            except TypeError:
                raise InvalidInputError(
                    f"{self.dtype!r} is not a numpy type", hint="'float16', 'float32', 'int64'"
                ) from None
        if self.decode is not None and self.decode not in (*DECODERS, *_VIDEO):
            raise InvalidInputError(
                f"decode={self.decode!r} is not known",
                hint=f"one of {sorted((*DECODERS, *_VIDEO))}",
            )
        media = self.decode is not None
        wanted = ("ntchw", "nthwc") if self.is_video else ("nchw", "nhwc")
        if media and self.layout not in (None, *wanted):
            raise InvalidInputError(
                f"layout={self.layout!r} does not fit decode={self.decode!r}",
                hint=" or ".join(map(repr, wanted)),
            )
        if self.is_video and not self.sequence_length:
            raise InvalidInputError(
                "a clip needs a sequence_length", hint="Stack('clip', decode='h264', "
                "sequence_length=16)"
            )  # fmt: skip
        if not media and (self.transforms or self.crop or self.resize_shorter):
            raise InvalidInputError(
                f"transforms of {self.source!r} need decode=", hint="decode='jpeg'"
            )

    @property
    def is_video(self) -> bool:
        """Whether clips are decoded."""
        return self.decode in _VIDEO

    def prepare(self, name: str, samples: Samples) -> tuple[Any, dict[int, str]]:
        """Return values or decoded images, and which of them failed.

        Parameters
        ----------
        name : str
            The field's name.
        samples : Samples
            The batch.
        """
        values, failed = super().prepare(name, samples)
        if self.decode is None:
            return values, failed
        drawn = [
            samples.uniforms(f"{name} {number} {type(change).__name__}", change.draws)
            for number, change in enumerate(self.transforms)
            if isinstance(change, Transform) and change.draws
        ]
        images: list[Any] = [None] * samples.count
        for i in range(samples.count):
            if i in failed:
                continue
            numbers = [block[i] for block in drawn]
            try:
                images[i] = self._decoded(values[i], numbers)
            except InvalidInputError as error:
                failed[i] = str(error)
        return images, failed

    def _decoded(self, data: Any, numbers: list[npt.NDArray[np.float64]]) -> npt.NDArray[Any]:
        if self.is_video:
            frames = decode_clip(
                data, self.sequence_length or 1, shorter=self.resize_shorter, crop=self.crop
            )
            planes = [self._transformed(frame, numbers) for frame in frames]
            return np.stack(planes)
        image = decode_image(
            data,
            normalise_format(self.decode),
            shorter=self.resize_shorter,
            crop=self.crop,
        )
        return self._transformed(image, numbers)

    def _transformed(self, image: Any, numbers: list[npt.NDArray[np.float64]]) -> npt.NDArray[Any]:
        drawn = iter(numbers)
        for change in self.transforms:
            if isinstance(change, Transform):
                image = change.apply(image, next(drawn) if change.draws else None)
            else:
                image = change(image)
        return finish_image(image, self.dtype, channels_last=(self.layout or "").endswith("hwc"))

    def finish(self, prepared: Any, samples: Samples, kept: Positions) -> Any:
        """Return an array whose first axis is the samples.

        Parameters
        ----------
        prepared : object
            From :meth:`prepare`.
        samples : Samples
            The batch.
        kept : ndarray of int64
            Samples that are in it.
        """
        if samples.packs is not None:
            raise InvalidInputError(
                f"{self.source!r} cannot be stacked in packed rows", hint="List, or Pad"
            )
        if isinstance(prepared, np.ndarray):
            whole = len(kept) == samples.count
            out = prepared if whole else prepared[kept]
            return out if self.dtype is None else out.astype(self.dtype, copy=False)
        rows = [prepared[i] for i in kept.tolist()]
        if any(isinstance(row, (str, bytes, dict)) for row in rows):
            raise InvalidInputError(
                f"{self.source!r} holds {type(rows[0]).__name__}, which does not stack",
                hint=f"List({self.source!r}), or decode= for images and clips",
            )
        there = [np.asarray(row) for row in rows if row is not None]
        shapes = {row.shape for row in there}
        if len(shapes) != 1:
            raise InvalidInputError(
                f"the values of {self.source!r} have {len(shapes)} shapes: {sorted(shapes)[:4]}",
                hint="Pad for sequences, RandomResizedCrop or resize_shorter= and crop= for images",
            )
        zero = np.zeros_like(there[0])
        out = np.stack([zero if row is None else np.asarray(row) for row in rows])
        return out if self.dtype is None else out.astype(self.dtype, copy=False)


@dataclass(frozen=True)
class Pad(Collation):
    """Sequences as a rectangle, padded at the end.

    Parameters
    ----------
    source : str
        A column of sequences of numbers.
    pad_to_multiple_of : int
        The width is a multiple of this; the largest of all fields of the column holds.
    value : int or float
        What stands behind the end.
    dtype : str
        Of the result.
    """

    source: str
    pad_to_multiple_of: int = 1
    value: float = 0
    dtype: str = "int64"

    def __post_init__(self) -> None:
        _check_multiple(self.pad_to_multiple_of)

    def finish(self, prepared: Any, samples: Samples, kept: Positions) -> Any:
        """Return an array of shape (samples or packed rows, width).

        Parameters
        ----------
        prepared : object
            From :meth:`prepare`.
        samples : Samples
            The batch.
        kept : ndarray of int64
            Samples that are in it.
        """
        del prepared
        layout = samples.layout(self.source, kept)
        return layout.filled(layout.places, layout.elements, self.value, self.dtype)


@dataclass(frozen=True)
class PadMask(Collation):
    """One where :class:`Pad` has an element, zero where it has padding.

    Parameters
    ----------
    source : str
        A column of sequences.
    pad_to_multiple_of : int
        As for :class:`Pad`.
    dtype : str
        Of the result; ``"bool"`` too.
    """

    source: str
    pad_to_multiple_of: int = 1
    dtype: str = "int64"

    def __post_init__(self) -> None:
        _check_multiple(self.pad_to_multiple_of)

    def finish(self, prepared: Any, samples: Samples, kept: Positions) -> Any:
        """Return an array of the shape that :class:`Pad` gives.

        Parameters
        ----------
        prepared : object
            From :meth:`prepare`.
        samples : Samples
            The batch.
        kept : ndarray of int64
            Samples that are in it.
        """
        del prepared
        layout = samples.layout(self.source, kept)
        return layout.filled(layout.places, 1, 0, self.dtype)


@dataclass(frozen=True)
class ShiftedLabels(Collation):
    """At each place the element that follows, for training a language model.

    The last element of a sequence has no label; packed sequences do not see each other.

    Parameters
    ----------
    source : str
        A column of sequences.
    ignore_index : int
        Label where there is none.
    dtype : str
        Of the result.
    """

    source: str
    ignore_index: int = -100
    dtype: str = "int64"

    def finish(self, prepared: Any, samples: Samples, kept: Positions) -> Any:
        """Return an array of the shape that :class:`Pad` gives.

        Parameters
        ----------
        prepared : object
            From :meth:`prepare`.
        samples : Samples
            The batch.
        kept : ndarray of int64
            Samples that are in it.
        """
        del prepared
        layout = samples.layout(self.source, kept)
        follows = np.flatnonzero(layout.inside > 0)
        return layout.filled(
            layout.places[follows] - 1, layout.elements[follows], self.ignore_index, self.dtype
        )


@dataclass(frozen=True)
class PositionIds(Collation):
    """The index of each element in its own sequence; zero in the padding.

    Parameters
    ----------
    source : str
        A column of sequences.
    dtype : str
        Of the result.
    """

    source: str
    dtype: str = "int64"

    def finish(self, prepared: Any, samples: Samples, kept: Positions) -> Any:
        """Return an array of the shape that :class:`Pad` gives.

        Parameters
        ----------
        prepared : object
            From :meth:`prepare`.
        samples : Samples
            The batch.
        kept : ndarray of int64
            Samples that are in it.
        """
        del prepared
        layout = samples.layout(self.source, kept)
        return layout.filled(layout.places, layout.inside, 0, self.dtype)


@dataclass(frozen=True)
class SegmentIds(Collation):
    """Which sample of its packed row each element belongs to, from 1; zero in the padding.

    Parameters
    ----------
    source : str
        A column of sequences.
    dtype : str
        Of the result.
    """

    source: str
    dtype: str = "int64"

    def finish(self, prepared: Any, samples: Samples, kept: Positions) -> Any:
        """Return an array of the shape that :class:`Pad` gives.

        Parameters
        ----------
        prepared : object
            From :meth:`prepare`.
        samples : Samples
            The batch.
        kept : ndarray of int64
            Samples that are in it.
        """
        del prepared
        layout = samples.layout(self.source, kept)
        first = np.flatnonzero(np.diff(layout.rows, prepend=-1))
        sizes = np.diff(np.append(first, len(layout.rows)))
        numbers = np.arange(len(layout.rows)) - np.repeat(first, sizes) + 1
        return layout.filled(layout.places, np.repeat(numbers, layout.lengths), 0, self.dtype)


def _check_multiple(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"pad_to_multiple_of must be a positive integer, not {value!r}")
