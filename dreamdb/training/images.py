"""Images: bytes to pixels.

Source: design/0019 section 7.
"""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamdb.errors import InvalidInputError, MissingDependencyError

__all__ = [
    "DECODERS",
    "as_array",
    "as_image",
    "decode_image",
    "finish_image",
    "fit",
    "normalise_format",
]

DECODERS: Final = {"jpeg": "JPEG", "jpg": "JPEG", "png": "PNG", "webp": "WEBP", "image": None}
"""What ``decode`` may say of images, and Pillow's names."""


def normalise_format(decode: str | None) -> str | None:
    """Return Pillow's name of a format; None for any.

    Parameters
    ----------
    decode : str or None
        One of :data:`DECODERS`.
    """
    return DECODERS.get(decode or "image")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependencyError(
            "decoding images needs Pillow", hint="pip install 'dreamdb[images]'"
        ) from None
    return Image


def decode_image(
    data: bytes, form: str | None, *, shorter: int | None = None, crop: int | None = None
) -> Any:
    """Return an image in three colours.

    Parameters
    ----------
    data : bytes
        The file.
    form : str or None
        Pillow's name of the only format that is accepted.
    shorter, crop : int, optional
        Shorter side to resize to, and side of the centre to cut out.

    Raises
    ------
    InvalidInputError
        When the bytes cannot be decoded.
    """
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(data), formats=None if form is None else [form]) as opened:
            opened.load()
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, pillow.DecompressionBombError) as error:
        raise InvalidInputError(f"it cannot be decoded as {form or 'an image'}: {error}") from None
    return fit(image, shorter, crop)


def fit(image: Any, shorter: int | None, crop: int | None) -> Any:
    """Return an image resized by its shorter side, and its centre.

    Parameters
    ----------
    image : PIL.Image.Image
        The image.
    shorter, crop : int or None
        Shorter side; side of the centre.
    """
    if shorter is not None:
        share = shorter / min(image.width, image.height)
        size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
        image = image.resize(size, _pillow().Resampling.BILINEAR)
    if crop is not None:
        if min(image.width, image.height) < crop:
            raise InvalidInputError(
                f"{image.width} x {image.height} pixels are less than the centre of {crop}"
            )
        x, y = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((x, y, x + crop, y + crop))
    return image


def as_array(image: Any) -> npt.NDArray[Any]:
    """Return an image as an array of shape (height, width, channels).

    Parameters
    ----------
    image : PIL.Image.Image or ndarray
        The image.
    """
    values = np.asarray(image)
    return values[..., None] if values.ndim == 2 else values


def as_image(image: Any) -> Any:
    """Return an image as Pillow's.

    Parameters
    ----------
    image : PIL.Image.Image or ndarray of uint8
        The image.
    """
    if not isinstance(image, np.ndarray):
        return image
    if image.dtype != np.uint8:
        raise InvalidInputError(
            f"an image of {image.dtype} cannot be resized", hint="Normalize comes last"
        )
    return _pillow().fromarray(image.squeeze(-1) if image.shape[-1:] == (1,) else image)


def finish_image(image: Any, dtype: str | None, *, channels_last: bool) -> npt.NDArray[Any]:
    """Return an image in its final type and layout.

    Parameters
    ----------
    image : PIL.Image.Image or ndarray
        After the transforms.
    dtype : str or None
        Of the result; integers become floats as shares of 255.
    channels_last : bool
        Shape (height, width, channels) instead of (channels, height, width).
    """
    values = as_array(image)
    if dtype is not None and np.dtype(dtype) != values.dtype:
        if np.dtype(dtype).kind == "f" and values.dtype.kind in "iu":
            values = values.astype(np.float32) * np.float32(1 / 255)
        values = values.astype(dtype)
    return values if channels_last else values.transpose(2, 0, 1)
