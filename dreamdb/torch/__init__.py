"""PyTorch: a dataset for the DataLoader, the same stream for any number of workers and ranks.

>>> import torch.utils.data
>>> import dreamdb as vd
>>> from dreamdb.torch import DreamDBDataset
>>> schema = vd.Schema().add_embedding("embedding", 2).add_scalar_int("label")
>>> ds = vd.Dataset.create("torch-docs", schema, backend="memory://torch-docs")
>>> ds.append_many([{"embedding": [1.0, 0.0], "label": 3}, {"embedding": [0.0, 1.0], "label": 7}])
2
>>> train = DreamDBDataset(dataset=ds, batch_size=2)
>>> loader = torch.utils.data.DataLoader(train, batch_size=None)
>>> [batch["label"].tolist() for batch in loader]
[[3, 7]]
"""

from __future__ import annotations

from dreamdb.errors import MissingDependencyError

try:
    import torch  # noqa: F401
except ImportError:
    raise MissingDependencyError(
        "PyTorch is not installed", hint="pip install 'dreamdb[torch]'"
    ) from None

from dreamdb.torch.batch_array import BatchArray
from dreamdb.torch.dataset import DreamDBDataset
from dreamdb.torch.passes import BatchIterator
from dreamdb.torch.permutation import Permutation
from dreamdb.torch.training_loader import TrainingLoader
from dreamdb.torch.training_sets import LanceExport, training_set_loader

__all__ = [
    "BatchArray",
    "BatchIterator",
    "DreamDBDataset",
    "LanceExport",
    "Permutation",
    "TrainingLoader",
    "training_set_loader",
]
