"""One pass over the data, and how far it has come.

Source: design/0009.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from dreamdb.torch.shared_state import PassStart

if TYPE_CHECKING:
    from dreamdb.torch.dataset import DreamDBDataset

__all__ = ["BatchIterator", "Progress"]


@dataclass(slots=True)
class Progress:
    """How far one process has come in a pass.

    Parameters
    ----------
    start : PassStart
        Where the pass began.
    worker, workers : int
        This process among those that share the rank's steps.
    done : int
        Batches this process has yielded.
    """

    start: PassStart
    worker: int = 0
    workers: int = 1
    done: int = 0

    @property
    def next_step(self) -> int:
        """The rank's step that comes next here, counted from the start of the pass."""
        return self.worker + self.done * self.workers


class BatchIterator:
    """The batches of one pass; ``iter(dataset)`` makes it.

    Its state can be taken between any two batches; torchdata's StatefulDataLoader does so.

    Parameters
    ----------
    dataset : DreamDBDataset
        What to read.
    progress : Progress
        Where to begin.
    """

    def __init__(self, dataset: DreamDBDataset, progress: Progress) -> None:
        self._dataset = dataset
        self._progress = progress
        self._batches: Iterator[dict[str, Any]] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        if self._batches is None:
            self._batches = self._dataset._read(self._progress)
        batch = next(self._batches)
        self._progress.done += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return where this pass stands, as JSON values."""
        return self._dataset._state_of(self._progress)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where another pass stood.

        Parameters
        ----------
        state : dict
            From :meth:`state_dict`.

        Raises
        ------
        StateError
            When it belongs to other data, another order, or another worker.
        """
        progress = self._dataset._progress_of(state)
        self._progress.start, self._progress.done = progress.start, progress.done
        self._batches = None
