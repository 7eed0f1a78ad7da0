"""Training streams: the order of records, epoch by epoch, and their batches."""

from dreamdb.stream.ahead import read_ahead
from dreamdb.stream.columns import NULLS, ColumnReader, step_batches
from dreamdb.stream.epoch import Epoch, EpochOrder, select_rows
from dreamdb.stream.formation import Budget, arrange, form_buckets, form_packs, spread
from dreamdb.stream.interleaving import Interleaving
from dreamdb.stream.order import RowPermutation, derive_key
from dreamdb.stream.randomness import philox, scramble, uniforms
from dreamdb.stream.sample_orders import (
    BlockOrder,
    BucketOrder,
    GlobalOrder,
    SampleOrder,
    SequentialOrder,
)
from dreamdb.stream.steps import StepPlan

__all__ = [
    "NULLS",
    "BlockOrder",
    "BucketOrder",
    "Budget",
    "ColumnReader",
    "Epoch",
    "EpochOrder",
    "GlobalOrder",
    "Interleaving",
    "RowPermutation",
    "SampleOrder",
    "SequentialOrder",
    "StepPlan",
    "arrange",
    "derive_key",
    "form_buckets",
    "form_packs",
    "philox",
    "read_ahead",
    "scramble",
    "select_rows",
    "spread",
    "step_batches",
    "uniforms",
]
