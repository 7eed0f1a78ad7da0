"""Batches by key: what a DataLoader's sampler and dataset are for a training stream.

Source: design/0019 section 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.utils.data

from dreamdb.errors import StorageError
from dreamdb.training import StreamState

if TYPE_CHECKING:
    from dreamdb.torch.training_loader import TrainingLoader
    from dreamdb.training import Batch
    from dreamdb.training.assembly import Assembled, Assembler

__all__ = ["BatchKeys", "BatchMaker"]


class BatchMaker(torch.utils.data.Dataset[Any]):
    """A map-style dataset whose index says which samples a batch has.

    Parameters
    ----------
    assembler : Assembler
        Reads and collates.
    plain : bool
        Give the batch alone, without what happened while it was made.
    """

    def __init__(self, assembler: Assembler, *, plain: bool = False) -> None:
        self._assembler = assembler
        self._plain = plain

    def __getstate__(self) -> dict[str, Any]:
        memory = [url for url in self._assembler.backends if url.startswith("memory:")]
        if memory and get_spawning_popen() is not None:
            raise StorageError(
                f"{memory[0]} lives in this process, and a worker that is started afresh cannot "
                "read it",
                hint="use a directory, or multiprocessing_context='fork'",
            )
        return self.__dict__

    def __getitem__(self, batch: Batch) -> Any:
        """Return a batch.

        Parameters
        ----------
        batch : Batch
            Which samples, from :class:`BatchKeys`.
        """
        made = self._assembler(batch)
        if self._plain:
            return {name: _tensor(value) for name, value in made.fields.items()}
        return self.tensors(made, len(batch))

    def tensors(self, made: Assembled, samples: int) -> tuple[Any, ...]:
        """Return a batch's fields as tensors, what failed, the time it took, and its size.

        Parameters
        ----------
        made : Assembled
            The batch.
        samples : int
            How many samples were asked for.
        """
        fields = {name: _tensor(value) for name, value in made.fields.items()}
        return fields, made.failed, made.seconds, samples


def _tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return torch.from_numpy(np.ascontiguousarray(value))


class BatchKeys:
    """The batches of the loader's next iteration, as keys; the sampler of another DataLoader.

    Parameters
    ----------
    loader : TrainingLoader
        Whose.
    """

    def __init__(self, loader: TrainingLoader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> BatchKeyIterator:
        return BatchKeyIterator(self._loader)


class BatchKeyIterator:
    """One pass over :class:`BatchKeys`; torchdata's StatefulDataLoader keeps its state.

    Parameters
    ----------
    loader : TrainingLoader
        Whose.
    """

    def __init__(self, loader: TrainingLoader) -> None:
        self._loader = loader
        self._begin(loader._begin)

    def _begin(self, state: StreamState) -> None:
        self._state = state
        self._planned: Iterator[Any] = self._loader._steps.batches(
            state.epoch, state.place, self._loader.rank, self._loader.world_size
        )

    def __iter__(self) -> BatchKeyIterator:
        return self

    def __next__(self) -> Batch:
        place, batch = next(self._planned)
        self._state = StreamState(self._state.epoch, place, self._state.step + 1)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return where this pass stands, as JSON values."""
        return self._state.to_json(self._loader.stream.plan)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where another pass stood.

        Parameters
        ----------
        state : dict
            From :meth:`state_dict`.
        """
        from dreamdb.training import read_state

        self._begin(read_state(state, self._loader.stream.plan, self._loader._steps))
