"""The arrays of a batch: numpy arrays that a DataLoader passes on as they are.

Source: design/0009.  A DataLoader with ``batch_size=None`` turns every numpy array into a tensor,
and programs written for arrays (``torch.from_numpy(batch["embedding"])``) fail.  It leaves
subclasses from elsewhere alone, and this one crosses from a worker through shared memory, as a
tensor would, instead of through a pipe.
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

# Gives ForkingPickler its way with tensors: shared memory without a name.
import torch.multiprocessing

__all__ = ["BatchArray", "as_batch_array"]

# A tensor costs a file descriptor and a socket's handshake; below this the pipe is as fast.
_SHARED_NBYTES: Final = 1 << 20


class BatchArray(np.ndarray[Any, np.dtype[Any]]):
    """A numpy array in every respect; ``torch.from_numpy`` takes it without a copy."""


def as_batch_array(values: npt.NDArray[Any]) -> BatchArray:
    """Return an array as a batch's array, without a copy.

    Parameters
    ----------
    values : ndarray
        Of any type and shape.
    """
    return values.view(BatchArray)


def _from_tensor(values: torch.Tensor) -> BatchArray:
    return as_batch_array(values.numpy())


def _from_bytes(data: bytearray, dtype: str, shape: tuple[int, ...]) -> BatchArray:
    return as_batch_array(np.frombuffer(data, np.dtype(dtype)).reshape(shape))


def _reduce(values: BatchArray) -> tuple[Any, ...]:
    plain = np.ascontiguousarray(values).view(np.ndarray)
    if plain.nbytes >= _SHARED_NBYTES:
        return _from_tensor, (torch.from_numpy(plain),)
    data = bytearray(plain.reshape(-1).view(np.uint8))
    return _from_bytes, (data, plain.dtype.str, plain.shape)


ForkingPickler.register(BatchArray, _reduce)
