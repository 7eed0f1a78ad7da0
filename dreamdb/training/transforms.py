"""Transforms of images, with random numbers that depend on the sample alone.

Source: design/0019 section 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dreamdb.errors import InvalidInputError
from dreamdb.training.images import as_array, as_image

__all__ = [
    "CenterCrop",
    "Normalize",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "Resize",
    "Transform",
    "check_transforms",
]

Draws = npt.NDArray[np.float64]
_TRIES = 10


class Transform:
    """A change of an image; ``draws`` says how many random numbers it takes.

    A class of your own derives from this; a function of the image alone needs none.
    """

    draws: ClassVar[int] = 0

    def apply(self, image: Any, numbers: Draws | None) -> Any:
        """Return the changed image.

        Parameters
        ----------
        image : PIL.Image.Image or ndarray
            What the transform before gave; an array has shape (height, width, channels).
        numbers : ndarray of float64 or None
            ``draws`` numbers in ``[0, 1)``.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class RandomResizedCrop(Transform):
    """A part of the image of random area and shape, resized to a square.

    Parameters
    ----------
    size : int
        Height and width of the result.
    scale : (float, float)
        Least and most area of the part, as a share of the image.
    ratio : (float, float)
        Least and most width over height.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    draws: ClassVar[int] = 4 * _TRIES

    def apply(self, image: Any, numbers: Draws | None) -> Any:
        """Return the part.

        Parameters
        ----------
        image : PIL.Image.Image or ndarray
            The whole.
        numbers : ndarray of float64
            Area, shape, top and left of every try.
        """
        assert numbers is not None
        picture = as_image(image)
        box = self._box(picture.width, picture.height, numbers.reshape(_TRIES, 4).tolist())
        return picture.resize((self.size, self.size), _bilinear(), box=box)

    def _box(
        self, width: int, height: int, tries: list[list[float]]
    ) -> tuple[float, float, float, float]:
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for area, shape, top, left in tries:
            wanted = width * height * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
            ratio = math.exp(low + shape * (high - low))
            w, h = round(math.sqrt(wanted * ratio)), round(math.sqrt(wanted / ratio))
            if 0 < w <= width and 0 < h <= height:
                x, y = int(left * (width - w + 1)), int(top * (height - h + 1))
                return x, y, x + w, y + h
        # No part fitted: the largest centred one of a shape that is allowed.
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        x, y = (width - w) // 2, (height - h) // 2
        return x, y, x + w, y + h


@dataclass(frozen=True)
class RandomHorizontalFlip(Transform):
    """The image, or its mirror image.

    Parameters
    ----------
    p : float
        How often it is mirrored.
    """

    p: float = 0.5
    draws: ClassVar[int] = 1

    def apply(self, image: Any, numbers: Draws | None) -> Any:
        """Return the image or its mirror image.

        Parameters
        ----------
        image : PIL.Image.Image or ndarray
            The image.
        numbers : ndarray of float64
            One.
        """
        assert numbers is not None
        if numbers[0] >= self.p:
            return image
        if isinstance(image, np.ndarray):
            return image[:, ::-1]
        from PIL import Image

        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@dataclass(frozen=True)
class Resize(Transform):
    """The image at another size.

    Parameters
    ----------
    size : int or (int, int)
        Its shorter side, or height and width.
    """

    size: int | tuple[int, int]

    def apply(self, image: Any, numbers: Draws | None) -> Any:
        """Return the image resized.

        Parameters
        ----------
        image : PIL.Image.Image or ndarray
            The image.
        numbers : None
            None are taken.
        """
        del numbers
        picture = as_image(image)
        if isinstance(self.size, int):
            share = self.size / min(picture.width, picture.height)
            width, height = round(picture.width * share), round(picture.height * share)
        else:
            height, width = self.size
        return picture.resize((max(1, width), max(1, height)), _bilinear())


@dataclass(frozen=True)
class CenterCrop(Transform):
    """The centre of the image.

    Parameters
    ----------
    size : int
        Height and width of the part.
    """

    size: int

    def apply(self, image: Any, numbers: Draws | None) -> Any:
        """Return the centre.

        Parameters
        ----------
        image : PIL.Image.Image or ndarray
            The image.
        numbers : None
            None are taken.

        Raises
        ------
        InvalidInputError
            When the image is smaller.
        """
        del numbers
        picture = as_image(image)
        if min(picture.width, picture.height) < self.size:
            raise InvalidInputError(
                f"an image of {picture.width} x {picture.height} is smaller than the centre of "
                f"{self.size}"
            )
        x, y = (picture.width - self.size) // 2, (picture.height - self.size) // 2
        return picture.crop((x, y, x + self.size, y + self.size))


@dataclass(frozen=True)
class Normalize(Transform):
    """Values brought to mean 0 and deviation 1; integers are taken as shares of 255.

    Parameters
    ----------
    mean, std : sequence of float
        One per channel.
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(value > 0 for value in self.std):
            raise InvalidInputError(
                f"Normalize needs as many means as positive deviations: {self.mean}, {self.std}"
            )

    def apply(self, image: Any, numbers: Draws | None) -> Any:
        """Return the image as float32, shape (height, width, channels).

        Parameters
        ----------
        image : PIL.Image.Image or ndarray
            The image.
        numbers : None
            None are taken.
        """
        del numbers
        values = as_array(image)
        scale = np.float32(1 / 255) if values.dtype.kind in "iu" else np.float32(1)
        factor = scale / np.asarray(self.std, np.float32)
        shift = np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)
        return values.astype(np.float32) * factor - shift


def check_transforms(
    transforms: Sequence[Transform | Callable[[Any], Any]],
) -> tuple[Transform | Callable[[Any], Any], ...]:
    """Return transforms as a tuple, each checked.

    Parameters
    ----------
    transforms : sequence of Transform or callable
        What a user passed.
    """
    given = tuple(transforms)
    for change in given:
        if not isinstance(change, Transform) and (isinstance(change, type) or not callable(change)):
            raise InvalidInputError(
                f"{change!r} is not a transform", hint="such as RandomHorizontalFlip()"
            )
    return given


def _bilinear() -> Any:
    from PIL import Image

    return Image.Resampling.BILINEAR
