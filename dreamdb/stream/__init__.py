"""Training streams: the order of records, epoch by epoch, and their batches."""

from dreamdb.stream.ahead import read_ahead
from dreamdb.stream.columns import NULLS, ColumnReader, step_batches
from dreamdb.stream.epoch import Epoch, EpochOrder, select_rows
from dreamdb.stream.order import RowPermutation, derive_key
from dreamdb.stream.steps import StepPlan

__all__ = [
    "NULLS",
    "ColumnReader",
    "Epoch",
    "EpochOrder",
    "RowPermutation",
    "StepPlan",
    "derive_key",
    "read_ahead",
    "select_rows",
    "step_batches",
]
