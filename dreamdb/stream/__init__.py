"""Training streams: the order of records, epoch by epoch."""

from dreamdb.stream.epoch import Epoch
from dreamdb.stream.order import RowPermutation, derive_key

__all__ = ["Epoch", "RowPermutation", "derive_key"]
