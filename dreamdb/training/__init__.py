"""Training streams: relations, mixtures, samples in an order, batches, and what explains them.

>>> import dreamdb as vd
>>> from dreamdb.training import GlobalShuffle, List, Stack
>>> schema = vd.Schema().add_embedding("embedding", 2).add_scalar_int("label")
>>> ds = vd.Dataset.create("training-docs", schema, backend="memory://training-docs")
>>> ds.append_many([{"embedding": [i, -i], "label": i % 3, "_anchor": i} for i in range(7)])
7
>>> train = (
...     vd.relation(ds)
...     .filter(vd.col("label") < 2)
...     .sample(order=GlobalShuffle(seed=17))
...     .collate(batch_size=2, fields={"x": Stack("embedding"), "id": List("_anchor")})
... )
>>> [batch["id"] for batch in train.read_epoch(0)]
[[1, 4], [0, 3], [6]]
>>> train.where(3, epoch=0)
[Occurrence(epoch=0, step=1, rank=0, index=1)]
"""

from dreamdb.training.batches import BatchStream, Occurrence
from dreamdb.training.collation import (
    Collation,
    List,
    Pad,
    PadMask,
    PositionIds,
    SegmentIds,
    ShiftedLabels,
    Stack,
)
from dreamdb.training.formation import (
    BatchBudget,
    BucketKey,
    DropPartial,
    KeepPartial,
    Packing,
    StratifiedByStream,
    WindowedBucket,
)
from dreamdb.training.mapping import Map, Mapped, Tokenize
from dreamdb.training.mixture import Mixture, Stream, mix
from dreamdb.training.plans import Batch
from dreamdb.training.receipt import Receipt, Replayed, read_receipt, write_receipt
from dreamdb.training.relation import Relation, relation
from dreamdb.training.sampling import (
    DataParallel,
    GlobalShuffle,
    HashBucketed,
    RuntimeParam,
    SampleStream,
    Sequential,
    ShardAwareShuffle,
    ShuffleBuckets,
)
from dreamdb.training.state import StreamState, read_state
from dreamdb.training.transforms import (
    CenterCrop,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Transform,
)

__all__ = [
    "Batch",
    "BatchBudget",
    "BatchStream",
    "BucketKey",
    "CenterCrop",
    "Collation",
    "DataParallel",
    "DropPartial",
    "GlobalShuffle",
    "HashBucketed",
    "KeepPartial",
    "List",
    "Map",
    "Mapped",
    "Mixture",
    "Normalize",
    "Occurrence",
    "Packing",
    "Pad",
    "PadMask",
    "PositionIds",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "Receipt",
    "Relation",
    "Replayed",
    "Resize",
    "RuntimeParam",
    "SampleStream",
    "SegmentIds",
    "Sequential",
    "ShardAwareShuffle",
    "ShiftedLabels",
    "ShuffleBuckets",
    "Stack",
    "StratifiedByStream",
    "Stream",
    "StreamState",
    "Tokenize",
    "Transform",
    "WindowedBucket",
    "mix",
    "read_receipt",
    "read_state",
    "relation",
    "write_receipt",
]
