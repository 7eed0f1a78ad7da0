"""The values of a batch: numpy arrays and lists that a DataLoader passes on as they are.

Source: design/0009.  A DataLoader with ``batch_size=None`` turns every numpy array into a tensor,
and programs written for arrays (``torch.from_numpy(batch["embedding"])``) fail.  It leaves
subclasses from elsewhere alone, and these cross from a worker through a ring of shared memory
instead of through a pipe.
"""

from __future__ import annotations

import itertools
from multiprocessing.reduction import ForkingPickler
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

# Gives ForkingPickler its way with tensors: shared memory without a name.
import torch.multiprocessing
from torch.utils.data import get_worker_info

from dreamdb.torch.ring import SMALLEST, Slot, can_pass_descriptors, leave_in_slot

__all__ = ["BatchArray", "BatchList", "as_batch_array", "as_batch_list"]

# A tensor costs a file descriptor and a socket's handshake; below this the pipe is as fast.
_SHARED_NBYTES: Final = 1 << 20


class BatchArray(np.ndarray[Any, np.dtype[Any]]):
    """A numpy array in every respect; ``torch.from_numpy`` takes it without a copy."""


class BatchList(list[Any]):
    """A list of bytes, texts and nulls; in the training process it is a plain list."""


def as_batch_array(values: npt.NDArray[Any]) -> BatchArray:
    """Return an array as a batch's array, without a copy.

    Parameters
    ----------
    values : ndarray
        Of any type and shape.
    """
    return values.view(BatchArray)


def as_batch_list(values: list[Any]) -> list[Any]:
    """Return a list as a batch's list where that makes a difference: in a worker, for bytes.

    Parameters
    ----------
    values : list
        Values of one field.
    """
    if get_worker_info() is None or not all(type(value) is bytes for value in values):
        return values
    return BatchList(values)


def _from_tensor(values: torch.Tensor) -> BatchArray:
    return as_batch_array(values.numpy())


def _from_bytes(data: bytearray, dtype: str, shape: tuple[int, ...]) -> BatchArray:
    return as_batch_array(np.frombuffer(data, np.dtype(dtype)).reshape(shape))


def _from_slot(slot: Slot, dtype: str, shape: tuple[int, ...]) -> BatchArray:
    return as_batch_array(slot.open().view(np.dtype(dtype)).reshape(shape))


def _list_from_slot(slot: Slot, lengths: bytes) -> list[bytes]:
    memory = memoryview(slot.open().data)
    edges = np.cumsum(np.frombuffer(lengths, np.int64)).tolist()
    return [bytes(memory[a:b]) for a, b in itertools.pairwise([0, *edges])]


def _reduce(values: BatchArray) -> tuple[Any, ...]:
    plain = np.ascontiguousarray(values).view(np.ndarray)
    if plain.nbytes >= SMALLEST and get_worker_info() is not None:
        slot = leave_in_slot([plain.reshape(-1).view(np.uint8)], plain.nbytes)
        if slot is not None:
            return _from_slot, (slot, plain.dtype.str, plain.shape)
    if plain.nbytes >= _SHARED_NBYTES and can_pass_descriptors():
        return _from_tensor, (torch.from_numpy(plain),)
    data = bytearray(plain.reshape(-1).view(np.uint8))
    return _from_bytes, (data, plain.dtype.str, plain.shape)


def _reduce_list(values: BatchList) -> tuple[Any, ...]:
    if get_worker_info() is not None and all(type(value) is bytes for value in values):
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        nbytes = int(lengths.sum())
        slot = leave_in_slot(values, nbytes) if nbytes >= SMALLEST else None
        if slot is not None:
            return _list_from_slot, (slot, lengths.tobytes())
    return list, (list(values),)


ForkingPickler.register(BatchArray, _reduce)
ForkingPickler.register(BatchList, _reduce_list)
