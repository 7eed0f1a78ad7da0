"""Clips: bytes to frames.

Source: design/0019 section 7.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from dreamdb.errors import InvalidInputError, MissingDependencyError
from dreamdb.training.images import fit

__all__ = ["decode_clip"]


def decode_clip(
    data: bytes, length: int, *, shorter: int | None = None, crop: int | None = None
) -> list[Any]:
    """Return some frames of a clip, evenly spread over it.

    Parameters
    ----------
    data : bytes
        The file, in a container that PyAV reads.
    length : int
        How many frames; a shorter clip repeats frames.
    shorter, crop : int, optional
        Shorter side to resize to, and side of the centre to cut out.

    Returns
    -------
    list of PIL.Image.Image
        In order of time.

    Raises
    ------
    InvalidInputError
        When there is no frame, or the bytes cannot be decoded.
    """
    try:
        import av
    except ImportError:
        raise MissingDependencyError(
            "decoding clips needs PyAV", hint="pip install 'dreamdb[video]'"
        ) from None
    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            if not container.streams.video:
                raise InvalidInputError("it holds no video")
            stream = container.streams.video[0]
            # One clip, one thread: workers and batches already use the processors.
            stream.thread_type = "NONE"
            frames = list(container.decode(stream))
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"it cannot be decoded as a clip: {error}") from None
    if not frames:
        raise InvalidInputError("it holds no frame")
    chosen = np.floor((np.arange(length) + 0.5) * len(frames) / length).astype(int)
    return [fit(frames[i].to_image(), shorter, crop) for i in chosen.tolist()]
