"""The dataset that a DataLoader reads.

Source: design/0009.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from multiprocessing.context import get_spawning_popen
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from dreamdb.dataset import Dataset
from dreamdb.errors import InvalidInputError, StateError, StorageError
from dreamdb.read import check_batch_size, parse_where
from dreamdb.stream import (
    ColumnReader,
    EpochOrder,
    StepPlan,
    derive_key,
    read_ahead,
    select_rows,
    step_batches,
)
from dreamdb.torch.batch_array import as_batch_array, as_batch_list
from dreamdb.torch.passes import BatchIterator, Progress
from dreamdb.torch.shared_state import PassStart, SharedState
from dreamdb.torch.state import StreamIdentity, find_states

__all__ = ["DreamDBDataset"]


class DreamDBDataset(IterableDataset[dict[str, Any]]):
    """Batches of a dataset's records, for ``DataLoader(..., batch_size=None)``.

    The stream is the same for any number of workers: every record once per epoch, the same
    batches in the same order.  It stays at the version that the handle read when it was made,
    wherever the branch moves.

    Parameters
    ----------
    dataset : Dataset
        The records.
    fields : sequence of str, optional
        What each batch holds; default: all.
    batch_size : int
        Records per batch and rank; the last batches of an epoch may have fewer.
    shuffle_seed : int, optional
        A true permutation of all records, another one in each epoch; None: anchor order.
    where : Expression or str, optional
        Only records for which it holds, as in :meth:`Dataset.scan`.
    drop_last : bool
        Leave out the last step when it is not full.
    nulls : str
        What a missing number or vector becomes: ``"raise"`` an error, ``"zero"``, or with
        ``"mask"`` zero and a further array ``<field>_mask``, true where there is a value.
    rank, world_size : int, optional
        Which part this process reads; default: of torch.distributed when it is initialised, else
        everything.  Ranks read disjoint parts in equally many steps.
    tensors : bool
        Yield tensors instead of numpy arrays.

    Notes
    -----
    A batch is a dictionary.  ``_anchor`` (uint64), numbers (int64, float64, bool), timestamps
    (int64 nanoseconds) and vectors (``(rows, dim)`` float32, ``(rows, *shape)``) are numpy
    arrays; strings and bytes are lists, with None for null.

    Cost: with ``where``, one read of the condition's fields when it is made.  First batch: 1
    object open per fragment it touches.

    Examples
    --------
    Train, checkpoint and continue, in another process or with other workers and ranks::

        train = DreamDBDataset(ds, ["embedding", "label"], batch_size=256, shuffle_seed=42)
        if checkpoint:
            train.load_state_dict(checkpoint)
        loader = torch.utils.data.DataLoader(train, batch_size=None, num_workers=2)
        for epoch in range(train.epoch, 10):
            train.set_epoch(epoch)
            for step, batch in enumerate(loader, 1):
                ...
                checkpoint = train.state_dict(step=step)
    """

    def __init__(
        self,
        dataset: Dataset,
        fields: Sequence[str] | str | None = None,
        batch_size: int = 256,
        shuffle_seed: int | None = None,
        where: object = None,
        *,
        drop_last: bool = False,
        nulls: str = "raise",
        rank: int | None = None,
        world_size: int | None = None,
        tensors: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(dataset, Dataset):
            raise InvalidInputError(
                f"dataset must be a Dataset, not a {type(dataset).__name__}",
                hint="open one: vd.Dataset.open_ref(name, backend=...)",
            )
        # A handle of its own: the caller's may commit or refresh, and so move.
        self.dataset: Dataset = copy.copy(dataset)
        self.fields = tuple(self.dataset._view.check_fields(fields))
        self.batch_size = check_batch_size(batch_size)
        self.shuffle_seed = None if shuffle_seed is None else _checked_seed(shuffle_seed)
        self.drop_last = bool(drop_last)
        self.nulls = nulls
        self.tensors = bool(tensors)
        self._where = where
        self._given_ranks = _checked_ranks(rank, world_size)
        self._shared = SharedState()
        self._latest: Progress | None = None
        self._continue_worker: Progress | None = None
        ColumnReader(self.dataset._view, self.fields, nulls=nulls)
        if where is not None:
            # Once, here: forked workers inherit it.
            _ = self._selected

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is not None and self.dataset.backend.startswith("memory:"):
            # Said here, as the worker itself could only die of it.
            raise StorageError(
                f"{self.dataset.backend} lives in this process, and a worker that is started "
                "afresh cannot read it",
                hint="use a directory, or multiprocessing_context='fork'",
            )
        state = {k: v for k, v in self.__dict__.items() if k not in ("_selected", "_identity")}
        # Another process may not know the process group.
        state["_given_ranks"] = (self.rank, self.world_size)
        state["_latest"] = None
        return state

    def __repr__(self) -> str:
        return (
            f"DreamDBDataset({self.dataset.name or self.dataset.current_manifest()!r}, "
            f"fields={list(self.fields)}, batch_size={self.batch_size}, "
            f"shuffle_seed={self.shuffle_seed})"
        )

    @property
    def rank(self) -> int:
        """Which rank reads here."""
        return self._ranks()[0]

    @property
    def world_size(self) -> int:
        """How many ranks share the records."""
        return self._ranks()[1]

    def _ranks(self) -> tuple[int, int]:
        given = self._given_ranks
        if given is not None:
            return given
        group = torch.distributed
        if group.is_available() and group.is_initialized():
            return group.get_rank(), group.get_world_size()
        return 0, 1

    @cached_property
    def _selected(self) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        view = self.dataset._view
        return select_rows(view, parse_where(self._where, view.content.schema))

    @cached_property
    def _identity(self) -> StreamIdentity:
        predicate = parse_where(self._where, self.dataset._view.content.schema)
        return StreamIdentity(
            manifest=self.dataset.current_manifest(),
            seed=self.shuffle_seed,
            where=None if predicate is None else str(predicate.expression),
            batch_size=self.batch_size,
            rows=self.num_rows,
        )

    @property
    def num_rows(self) -> int:
        """Records of one epoch, over all ranks."""
        return self.dataset.count() if self._selected is None else len(self._selected)

    @property
    def _plan(self) -> StepPlan:
        return StepPlan(self.num_rows, self.batch_size, self.world_size, self.drop_last)

    def __len__(self) -> int:
        return self._plan.count()

    @property
    def epoch(self) -> int:
        """The epoch of the next pass; after loading a state, the one to continue."""
        return self._shared.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; call it before each, on every rank.

        Parameters
        ----------
        epoch : int
            Not negative.  Each epoch has its own order.  Setting the epoch of a state that was
            just loaded keeps its position.

        Notes
        -----
        Reaches all workers, persistent ones too.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, (int, np.integer)) or epoch < 0:
            raise InvalidInputError(f"epoch must be an integer from 0 on, not {epoch!r}")
        if self._shared.set_epoch(int(epoch)):
            self._latest = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        progress, self._continue_worker = self._continue_worker, None
        start = self._shared.begin(restored=progress is not None)
        self._latest = progress = progress or self._here(start)
        return BatchIterator(self, progress)

    def _read(self, progress: Progress) -> Iterator[dict[str, Any]]:
        """Return the batches from where a pass stands."""
        plan, rank = self._plan, self.rank
        position = progress.start.position
        steps = range(progress.next_step, plan.count(position), progress.workers)
        view = self.dataset._view
        order = EpochOrder(
            view,
            seed=self.shuffle_seed,
            epoch=progress.start.epoch,
            selected=self._selected,
        )
        reader = ColumnReader(view, self.fields, nulls=self.nulls)
        shares = (plan.share(position, step, rank) for step in steps)
        blocks = step_batches(reader, order, shares, world_size=self.world_size * progress.workers)
        if get_worker_info() is None:
            # Workers read ahead by themselves.
            blocks = read_ahead(blocks)
        return map(self._finished, chain.from_iterable(blocks))

    def _finished(self, batch: dict[str, Any]) -> dict[str, Any]:
        convert = torch.from_numpy if self.tensors else as_batch_array
        return {
            name: convert(values) if isinstance(values, np.ndarray) else as_batch_list(values)
            for name, values in batch.items()
        }

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Return where the stream stands, as JSON values: the same on every rank.

        Parameters
        ----------
        step : int, optional
            Batches consumed in this pass, for a DataLoader with workers: they run ahead, so only
            the loop knows.  Not needed without workers or with torchdata's StatefulDataLoader.

        Returns
        -------
        dict
            Manifest, plan, epoch and position.  The end of an epoch is the next one's start.

        Raises
        ------
        StateError
            When the pass runs in workers and ``step`` is missing.
        """
        latest = self._latest
        if get_worker_info() is not None:
            return self._state_of(latest or self._here(PassStart(self._shared.epoch, 0)))
        where = self._shared.where
        if where == "workers" and step is None:
            raise StateError(
                "the pass runs in worker processes, and only your loop knows how many "
                "batches it has consumed",
                hint="state_dict(step=n), or torchdata's StatefulDataLoader",
            )
        if where == "restored workers":
            raise StateError(
                "the loader restored this pass from a state of its own, and only it can tell "
                "where the pass stands",
                hint="use the loader's state_dict(); load_state_dict takes that too",
            )
        if latest is not None and where == "here":
            return self._state_of(latest, step)
        return self._state_after(self._shared.epoch, self._shared.base, step or 0)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass continue where a state was taken.

        Parameters
        ----------
        state : dict
            From :meth:`state_dict`, or a whole state of torchdata's StatefulDataLoader.  Batch
            size, seed, condition and manifest must be the same; the number of workers and of
            ranks, and the fields, may change.

        Raises
        ------
        StateError
            Naming what differs.
        """
        if get_worker_info() is not None:
            self._continue_worker = self._progress_of(state)
            return
        found = [self._identity.check(inner) for inner in find_states(state)]
        if not found:
            self._identity.check(state)
        merged = self._merged(found)
        ahead = state.get("_steps_since_snapshot", 0) if "workers" in found[0] else 0
        merged = self._state_after(merged["epoch"], merged["position"], ahead)
        self._latest = None
        self._shared.place(merged["epoch"], merged["position"])

    def _merged(self, states: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the one position that the states of all workers of a pass amount to."""
        first = states[0]
        if "workers" not in first:
            return first
        for state in states:
            if state["epoch"] != first["epoch"] or state["position"] != first["position"]:
                raise StateError("the state's workers stand in different passes")
        plan = StepPlan(self.num_rows, self.batch_size, first["world_size"], self.drop_last)
        total = plan.count(first["position"])
        steps = min(total, *(state["step"] for state in states))
        return self._state_after(first["epoch"], first["position"], steps, plan)

    def _here(self, start: PassStart) -> Progress:
        info = get_worker_info()
        return Progress(start) if info is None else Progress(start, info.id, info.num_workers)

    def _state_after(
        self, epoch: int, position: int, steps: int, plan: StepPlan | None = None
    ) -> dict[str, Any]:
        plan = plan or self._plan
        position = plan.after(position, steps)
        if plan.count(position) == 0 and self.num_rows:
            return self._identity.state(epoch + 1, 0)
        return self._identity.state(epoch, position)

    def _state_of(self, progress: Progress, step: int | None = None) -> dict[str, Any]:
        start = progress.start
        if progress.workers == 1:
            steps = progress.next_step if step is None else step
            return self._state_after(start.epoch, start.position, steps)
        # One of several workers can't know what the others have done.
        return self._identity.state(
            start.epoch,
            start.position,
            step=progress.next_step,
            worker=progress.worker,
            workers=progress.workers,
            world_size=self.world_size,
        )

    def _progress_of(self, state: Mapping[str, Any]) -> Progress:
        state = self._identity.check(state)
        progress = self._here(PassStart(state["epoch"], state["position"]))
        if "workers" not in state:
            return progress
        for name, own in (
            ("workers", progress.workers),
            ("worker", progress.worker),
            ("world_size", self.world_size),
        ):
            if state[name] != own:
                raise StateError(
                    f"the state is of another {name}: {state[name]}, here {own}",
                    hint="give the whole loader's state to DreamDBDataset.load_state_dict",
                    differs=name,
                )
        progress.done = (state["step"] - progress.worker) // progress.workers
        return progress


def _checked_seed(seed: int) -> int:
    derive_key("epoch", seed)
    return int(seed)


def _checked_ranks(rank: int | None, world_size: int | None) -> tuple[int, int] | None:
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None:
        raise InvalidInputError("rank and world_size go together")
    for value in (rank, world_size):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise InvalidInputError(f"rank and world_size must be integers, not {value!r}")
    if not 0 <= rank < world_size:
        raise InvalidInputError(f"there is no rank {rank} among {world_size}")
    return int(rank), int(world_size)
