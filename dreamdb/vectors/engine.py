"""Rows to codes and back, by numpy or by the compiled kernels: the same bytes either way.

numpy needs no warming up; the kernels are two to three times as fast but take a while to load.
They are loaded when one call has enough work for them, or many small ones had.

Source: design/0017 sections 3 and 6.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamdb.config import num_threads
from dreamdb.errors import InvalidInputError
from dreamdb.vectors.codec import Codec
from dreamdb.vectors.rabitq import STEPS, Codes, decode_codes, encode_codes, rotate_rows
from dreamdb.vectors.rotation import Rotation, rotation_of

__all__ = [
    "compiled_ready",
    "count_work",
    "decode_rows",
    "encode_residuals",
    "encode_rows",
    "encode_unchecked",
    "in_threads",
    "load_compiled",
    "rotate",
]

Floats = npt.NDArray[np.float32]
Bytes2 = npt.NDArray[np.uint8]

_WORTH: Final = 1 << 23  # elements: about the time that loading the kernels takes
_SPLIT: Final = 1 << 17  # elements per thread at least
_LOWEST, _HIGHEST = np.float32(2.0**-40), np.float32(2.0**40)
_LARGEST_NORM: Final = 1e38
_LOCK = threading.Lock()
_STATE: dict[str, Any] = {"module": None, "work": 0, "missing": False, "pool": None}


def _renew() -> None:
    # A fork may happen while another thread loads the kernels.
    global _LOCK
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def compiled_ready() -> bool:
    """Return whether the compiled kernels are loaded."""
    return _STATE["module"] is not None


def load_compiled() -> bool:
    """Load the compiled kernels now, instead of when enough work has come.

    Returns
    -------
    bool
        False when numba is not installed; everything works without it.
    """
    with _LOCK:
        if _STATE["module"] is None and not _STATE["missing"]:
            if importlib.util.find_spec("numba") is None:
                _STATE["missing"] = True
            else:
                from dreamdb.vectors import compiled

                _STATE["module"] = compiled
    return compiled_ready()


def count_work(elements: int) -> Any:
    """Return the compiled kernels when they are loaded or worth loading, else None.

    Parameters
    ----------
    elements : int
        How many numbers the work at hand touches.
    """
    module = _STATE["module"]
    if module is not None or _STATE["missing"]:
        return module
    _STATE["work"] += elements
    if _STATE["work"] >= _WORTH:
        load_compiled()
    return _STATE["module"]


def _pool() -> ThreadPoolExecutor:
    """Return this process's threads for codes; they never wait for one another."""
    held = _STATE["pool"]
    if held is None or held[0] != os.getpid():
        held = _STATE["pool"] = (os.getpid(), ThreadPoolExecutor(num_threads(), "dreamdb-codes"))
    pool: ThreadPoolExecutor = held[1]
    return pool


def in_threads(work: Callable[[int, int], None], rows: int, elements: int) -> None:
    """Call ``work(low, high)`` over all rows, in threads when there is enough to do."""
    threads = 1 if elements < 2 * _SPLIT else min(num_threads(), elements // _SPLIT)
    if threads <= 1:
        work(0, rows)
        return
    step = -(-rows // (threads * 2 * 64)) * 64
    jobs = [_pool().submit(work, at, min(rows, at + step)) for at in range(step, rows, step)]
    work(0, min(step, rows))
    for job in jobs:
        job.result()


def rotate(rotation: Rotation, rows: Floats) -> Floats:
    """Return rotated vectors, shape (n, size)."""
    rows = np.ascontiguousarray(rows)
    kernels = count_work(rows.size)
    if kernels is None:
        return rotate_rows(rotation, rows)
    out = np.empty((len(rows), rotation.size), np.float32)
    arguments = rows, rotation.signs, rotation.power, rotation.factor, out

    def work(low: int, high: int) -> None:
        kernels.rotate_range(*arguments, low, high)

    in_threads(work, len(rows), rows.size)
    return out


def encode_residuals(
    rotation: Rotation,
    rows: Floats,
    bits: int,
    centroids: Floats | None = None,
    cells: npt.NDArray[np.int64] | None = None,
) -> Codes:
    """Encode vectors, or their differences to centroids; see :func:`rabitq.encode_codes`.

    Parameters
    ----------
    rotation, rows, bits, centroids, cells
        As there.
    """
    codes = np.empty((len(rows), rotation.size * bits // 8), np.uint8)
    return Codes(codes, *_encode_into(rotation, rows, bits, centroids, cells, codes, 0))


def _encode_into(
    rotation: Rotation,
    rows: Floats,
    bits: int,
    centroids: Floats | None,
    cells: npt.NDArray[np.int64] | None,
    codes: Bytes2,
    at: int,
) -> npt.NDArray[np.float64]:
    """Write codes from byte ``at`` of each row of ``codes`` and return the sums."""
    rows = np.ascontiguousarray(rows)
    sums = np.zeros((4, len(rows)), np.float64)
    kernels = count_work(rows.size)
    if kernels is None:

        def plain(low: int, high: int) -> None:
            own = None if cells is None else cells[low:high]
            part = encode_codes(rotation, rows[low:high], bits, centroids, own)
            codes[low:high, at:] = part.codes
            sums[:, low:high] = part[1:]

        in_threads(plain, len(rows), rows.size)
        return sums
    middle = np.empty((0, rotation.size), np.float32) if centroids is None else centroids
    which = np.empty(0, np.int64) if cells is None else np.ascontiguousarray(cells, np.int64)
    fixed = rotation.signs, rotation.power, rotation.factor, bits, STEPS[bits], at, codes, sums

    def fast(low: int, high: int) -> None:
        kernels.encode_range(rows, middle, which, *fixed, low, high)

    in_threads(fast, len(rows), rows.size)
    return sums


def encode_rows(codec: Codec, vectors: npt.ArrayLike) -> Bytes2:
    """Encode vectors.

    Parameters
    ----------
    codec : Codec
        How.
    vectors : array-like of float32, shape (n, dim)
        Finite.

    Returns
    -------
    ndarray of uint8, shape (n, codec.width)
        Equal vectors give equal bytes, whatever stands beside them.

    Raises
    ------
    InvalidInputError
        For another dimension, NaN, infinity, or numbers too large for the codec; ``details`` has
        the ``row``.
    """
    rows = np.ascontiguousarray(vectors, np.float32)
    if rows.ndim != 2 or rows.shape[1] != codec.dim:
        raise InvalidInputError(
            f"vectors have shape {rows.shape}, the codec {codec.name} encodes (n, {codec.dim})"
        )
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidInputError(f"the vector in row {row} holds NaN or infinity", row=row)
    return encode_unchecked(codec, rows)


def encode_unchecked(codec: Codec, rows: Floats) -> Bytes2:
    """Encode finite vectors of the right shape; see :func:`encode_rows`."""
    if codec.name == "float32":
        return _bytes_of(rows.astype("<f4", copy=False), codec)
    largest = np.abs(rows).max(axis=1, initial=0)
    if codec.name == "float16":
        _refuse_above(largest, np.float32(65504.0), "float16 holds up to 65504")
        return _bytes_of(rows.astype("<f2"), codec)
    if codec.name == "sq8":
        return _encode_sq8(codec, rows, largest)
    return _encode_rabitq(codec, rows, largest)


def _bytes_of(values: npt.NDArray[Any], codec: Codec) -> Bytes2:
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), codec.width)


def _refuse_above(largest: Floats, limit: Any, why: str) -> None:
    above = largest > limit
    if above.any():
        row = int(np.argmax(above))
        raise InvalidInputError(
            f"the vector holds {float(largest[row]):.6g}, and {why}",
            hint="scale the vectors, or store them exactly",
            row=row,
        )


def _encode_sq8(codec: Codec, rows: Floats, largest: Floats) -> Bytes2:
    out = np.empty((len(rows), codec.width), np.uint8)
    scale = largest / np.float32(127)
    # The scale of the smallest numbers is rounded to zero, or too small: then all levels are 0.
    scale[scale < np.float32(1e-38)] = 0
    with np.errstate(divide="ignore"):
        inverse = np.where(scale > 0, np.float32(1) / scale, np.float32(0)).astype(np.float32)
    out[:, :4] = scale.astype("<f4").view(np.uint8).reshape(-1, 4)

    def work(low: int, high: int) -> None:
        for at in range(low, high, 256):
            part = slice(at, min(at + 256, high))
            levels = np.rint(rows[part] * inverse[part, None])
            np.clip(levels, -127, 127, out=levels)
            out[part, 4:] = levels.astype(np.int8).view(np.uint8)

    in_threads(work, len(rows), rows.size)
    return out


def _encode_rabitq(codec: Codec, rows: Floats, largest: Floats) -> Bytes2:
    rotation = rotation_of(codec.seed, codec.dim)
    # Powers of two scale exactly: squares and sums stay inside float32 at any magnitude.
    odd = (largest > 0) & ((largest < _LOWEST) | (largest > _HIGHEST))
    exponent = np.where(odd, np.frexp(largest)[1], 0)
    if odd.any():
        rows = np.ldexp(rows, -exponent[:, None]).astype(np.float32)
    out = np.empty((len(rows), codec.width), np.uint8)
    squares, inner, grid, _ = _encode_into(rotation, rows, codec.bits, None, None, out, 8)
    _refuse_norms(np.ldexp(np.sqrt(squares), exponent))
    with np.errstate(divide="ignore", invalid="ignore"):
        least = np.where(inner > 0, inner / grid, 0.0)
        unbiased = np.where(inner > 0, squares / inner, 0.0)
    factors = np.stack([np.ldexp(least, exponent), np.ldexp(unbiased, exponent)], axis=1)
    out[:, :8] = factors.astype("<f4").view(np.uint8)
    return out


def _refuse_norms(norms: npt.NDArray[np.float64]) -> None:
    above = norms > _LARGEST_NORM
    if above.any():
        row = int(np.argmax(above))
        raise InvalidInputError(
            f"the vector has the norm {norms[row]:.3g}, and codes hold up to 1e38",
            hint="scale the vectors, or store them exactly",
            row=row,
        )


def decode_rows(codec: Codec, rows: Bytes2, out: Floats | None = None) -> Floats:
    """Return the vectors that codes stand for: the least-squares reconstruction.

    Parameters
    ----------
    codec : Codec
        How they were encoded.
    rows : ndarray of uint8, shape (n, codec.width)
        Codes.
    out : ndarray of float32, shape (n, dim), optional
        Where they go.

    Returns
    -------
    ndarray of float32, shape (n, dim)
    """
    rows = np.ascontiguousarray(rows)
    if rows.ndim != 2 or rows.shape[1] != codec.width:
        raise InvalidInputError(f"codes have shape {rows.shape}, not (n, {codec.width})")
    if out is None:
        out = np.empty((len(rows), codec.dim), np.float32)
    if codec.name in ("float32", "float16"):
        out[:] = rows.view("<f4" if codec.name == "float32" else "<f2")
        return out
    factor = np.ascontiguousarray(rows[:, :4]).view("<f4").reshape(-1).astype(np.float32)
    work = _sq8_decoder(rows, factor, out) if codec.name == "sq8" else None
    if work is None:
        work = _rabitq_decoder(codec, rows, factor, out)
    in_threads(work, len(rows), out.size)
    return out


def _sq8_decoder(rows: Bytes2, factor: Floats, out: Floats) -> Callable[[int, int], None]:
    levels = rows.view(np.int8)

    def work(low: int, high: int) -> None:
        np.multiply(levels[low:high, 4:], factor[low:high, None], out=out[low:high])

    return work


def _rabitq_decoder(
    codec: Codec, rows: Bytes2, factor: Floats, out: Floats
) -> Callable[[int, int], None]:
    rotation = rotation_of(codec.seed, codec.dim)
    kernels = count_work(out.size)

    def plain(low: int, high: int) -> None:
        decode_codes(rotation, rows[low:high, 8:], factor[low:high], codec.bits, out[low:high])

    def fast(low: int, high: int) -> None:
        signs, power, scale = rotation.signs, rotation.power, rotation.factor
        kernels.decode_range(rows, 8, factor, signs, power, scale, codec.bits, out, low, high)

    return plain if kernels is None else fast
