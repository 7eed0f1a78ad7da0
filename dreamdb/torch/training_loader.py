"""The loader of a training stream: tensors, and where training stands.

Source: design/0019 sections 5 and 8.  The order of all samples is computed here, in the training
process; a worker is told which samples a batch has, and so keeps no state.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.distributed
import torch.utils.data

from dreamdb.errors import InvalidInputError, StateError
from dreamdb.stream import read_ahead
from dreamdb.torch.batch_keys import BatchKeys, BatchMaker
from dreamdb.training import StreamState, read_state, write_receipt
from dreamdb.training.window_plan import WindowPlan

if TYPE_CHECKING:
    from dreamdb.training import Batch, BatchStream, Receipt

__all__ = ["TrainingLoader"]

_TOLD: Final = 100


class TrainingLoader:
    """Batches of tensors, epoch after epoch; :meth:`BatchStream.to_torch` makes it.

    An iteration goes to the end of an epoch, and the next one takes the next epoch.  Left early,
    the next one begins the epoch again, unless a state is loaded.

    Parameters
    ----------
    stream : BatchStream
        What to load.
    prefetch, num_workers, device, pin_memory, params, start_method
        As in :meth:`BatchStream.to_torch`.

    Examples
    --------
    Train, checkpoint and continue, in another process or with other workers and ranks::

        loader = stream.to_torch(num_workers=2)
        if checkpoint:
            loader.load_state_dict(checkpoint)
        while loader.epoch < 10:
            for batch in loader:
                ...
                checkpoint = loader.state_dict()
    """

    def __init__(
        self,
        stream: BatchStream,
        *,
        prefetch: int = 2,
        num_workers: int = 0,
        device: str | None = None,
        pin_memory: bool | str = "auto",
        params: Mapping[str, Any] | None = None,
        start_method: str | None = None,
    ) -> None:
        for name, value in (("prefetch", prefetch), ("num_workers", num_workers)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InvalidInputError(f"{name} must be an integer from 0 on, not {value!r}")
        if pin_memory not in (True, False, "auto"):
            raise InvalidInputError(f"pin_memory={pin_memory!r}", hint="True, False or 'auto'")
        epoch, self._given_ranks = stream.bound(params or {})
        self.stream = stream
        self.num_workers, self.prefetch = num_workers, prefetch
        self._devices = _devices(stream, device)
        cuda = any(found.type == "cuda" for found in self._devices.values())
        self._pin = cuda if pin_memory == "auto" else bool(pin_memory)
        if self._pin and not torch.cuda.is_available():
            raise InvalidInputError(
                "pin_memory=True, and there is no CUDA device here", hint="pin_memory='auto'"
            )
        self._start_method = start_method
        self._steps = stream.steps
        self._state = self._begin = StreamState(epoch, self._steps.start)
        self._consumed: list[dict[str, Any]] = []
        self._counts: Counter[str] = Counter()
        self._failed: list[tuple[Any, str]] = []
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._workers: Any = None

    def _ranks(self) -> tuple[int, int]:
        if self._given_ranks is not None:
            return self._given_ranks
        group = torch.distributed
        if group.is_available() and group.is_initialized():
            return group.get_rank(), group.get_world_size()
        return 0, 1

    @property
    def rank(self) -> int:
        """Which rank reads here."""
        return self._ranks()[0]

    @property
    def world_size(self) -> int:
        """How many ranks share the samples."""
        return self._ranks()[1]

    @property
    def epoch(self) -> int:
        """The epoch of the next batch."""
        return self._state.epoch

    @property
    def step(self) -> int:
        """Steps of this epoch that were taken."""
        return self._state.step

    def __len__(self) -> int:
        """Return how many steps the next iteration has."""
        return self._steps.count(self._begin.epoch, self._begin.place, self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration.

        Parameters
        ----------
        epoch : int
            Not negative.  The epoch of a state that was just loaded keeps its place.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, (int, np.integer)) or epoch < 0:
            raise InvalidInputError(f"epoch must be an integer from 0 on, not {epoch!r}")
        if epoch != self._begin.epoch:
            self._state = self._begin = StreamState(int(epoch), self._steps.start)

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Return where training stands: JSON values, the same on every rank.

        Parameters
        ----------
        step : int, optional
            Steps since the iteration began, when another loader iterates over :attr:`keys`.
        """
        state = self._state
        if step is not None:
            state = self._after(self._begin, step)
        return state.to_json(self.stream.plan)

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Let the next iteration continue where another one stood.

        Parameters
        ----------
        state : dict
            From :meth:`state_dict`, with any number of workers and ranks.
        strict : bool
            Refuse a state of other data, another mixture or order; otherwise only one of other
            batches.

        Raises
        ------
        StateError
            Naming what differs; the loader stays as it was.
        """
        found = read_state(state, self.stream.plan, self._steps, strict=strict)
        self._state = self._begin = found

    def skip(self, steps: int) -> None:
        """Leave out some steps of the next iteration; nothing is read.

        Parameters
        ----------
        steps : int
            How many, at most to the end of the epoch.
        """
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0:
            raise InvalidInputError(f"steps must be an integer from 0 on, not {steps!r}")
        self._state = self._begin = self._after(self._begin, int(steps))

    def _after(self, state: StreamState, steps: int) -> StreamState:
        place = self._steps.after(state.epoch, state.place, steps, self.world_size)
        return self._normal(StreamState(state.epoch, place, state.step + steps))

    def _normal(self, state: StreamState) -> StreamState:
        if self._steps.is_end(state.place):
            return StreamState(state.epoch + 1, self._steps.start)
        return state

    def __iter__(self) -> Iterator[dict[str, Any]]:
        begin, (rank, world_size) = self._begin, self._ranks()
        # Left early, the next iteration begins the epoch again.
        self._begin = StreamState(begin.epoch, self._steps.start)
        self._state = begin
        span: dict[str, Any] = {
            "epoch": begin.epoch,
            "place": list(begin.place),
            "steps": 0,
            "world": world_size,
        }
        planned = self._steps.batches(begin.epoch, begin.place, rank, world_size)
        made = self._made(planned)
        state, clock = begin, time.perf_counter
        try:
            while True:
                before = clock()
                item = next(made, None)
                self._seconds["wait"] += clock() - before
                if item is None:
                    break
                place, (fields, failed, seconds, samples) = item
                if self._ranks() != (rank, world_size):
                    raise StateError(
                        f"rank and world size changed from {rank} of {world_size} to "
                        f"{self.rank} of {self.world_size} during an epoch",
                        hint="save state_dict(), and load it into a new loader",
                        differs="world_size",
                    )
                self._note(failed, seconds, samples)
                state = self._normal(StreamState(begin.epoch, place, state.step + 1))
                span["steps"] += 1
                if span["steps"] == 1:
                    self._consumed.append(span)
                self._state = state
                if state.epoch != begin.epoch:
                    # A trainer that counts steps does not ask for the end.
                    self._begin = state
                yield {name: self._placed(name, value) for name, value in fields.items()}
        finally:
            close = getattr(made, "close", None)
            if close is not None:
                close()
        self._state = self._begin = StreamState(begin.epoch + 1, self._steps.start)

    def _made(self, planned: Iterator[tuple[Any, Batch]]) -> Iterator[tuple[Any, Any]]:
        """Return places and made batches, made ahead."""
        maker = BatchMaker(self.stream.assembler)
        if self.num_workers:
            return self._by_workers(planned, maker)
        items = (
            (place, maker.tensors(made, len(batch)))
            for (place, batch), made in self.stream.assembler.batches(planned, lambda i: i[1])
        )
        return read_ahead(items, self.prefetch - 1) if self.prefetch else items

    def _by_workers(
        self, planned: Iterator[tuple[Any, Batch]], maker: BatchMaker
    ) -> Iterator[tuple[Any, Any]]:
        if self._workers is None:
            self._keys: _Feed = _Feed()
            self._workers = torch.utils.data.DataLoader(
                maker,
                batch_size=None,
                sampler=self._keys,
                collate_fn=_as_is,
                num_workers=self.num_workers,
                prefetch_factor=max(1, self.prefetch),
                multiprocessing_context=self._context(),
                persistent_workers=True,
            )
        if isinstance(self._steps, WindowPlan):
            # Forming a window takes a while; a thread does it while the model trains.
            planned = read_ahead(planned, 2 * self.num_workers * max(1, self.prefetch))
        places: deque[Any] = deque()

        def keys() -> Iterator[Batch]:
            for place, batch in planned:
                places.append(place)
                yield batch

        self._keys.source = keys()
        for made in self._workers:
            yield places.popleft(), made

    def _context(self) -> str | None:
        if self._start_method not in (None, *multiprocessing.get_all_start_methods()):
            raise InvalidInputError(
                f"start_method={self._start_method!r} is not known here",
                hint=f"one of {', '.join(multiprocessing.get_all_start_methods())}",
            )
        return self._start_method

    def _note(self, failed: list[tuple[Any, str]], seconds: Mapping[str, float], rows: int) -> None:
        self._counts.update(batches=1, samples=rows, failed=len(failed))
        self._failed += failed[: max(0, _TOLD - len(self._failed))]
        for name, spent in seconds.items():
            self._seconds[name] += spent

    def _placed(self, name: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        device = self._devices.get(name)
        if self._pin:
            value = value.pin_memory()
        return value if device is None else value.to(device, non_blocking=self._pin)

    @property
    def stats(self) -> dict[str, Any]:
        """What was loaded so far.

        ``batches``, ``samples``; ``failed``: samples skipped or replaced, the first of them with
        their reasons in ``failures``; ``seconds`` spent reading, mapping, decoding, collating (in
        all workers together) and waiting (here).
        """
        return {
            "batches": self._counts["batches"],
            "samples": self._counts["samples"],
            "failed": self._counts["failed"],
            "failures": list(self._failed),
            "seconds": dict(self._seconds),
        }

    @property
    def consumed(self) -> list[dict[str, Any]]:
        """The runs of steps that were taken: epoch, place, steps and world size of each."""
        return [dict(span) for span in self._consumed]

    def receipt(
        self,
        name: str,
        *,
        message: str | None = None,
        notes: Mapping[str, str] | None = None,
        earlier: Sequence[Mapping[str, Any]] = (),
    ) -> Receipt:
        """Keep what this run has seen as a snapshot, from which it can be replayed.

        Parameters
        ----------
        name : str
            The snapshot; call it on one rank only, since all ranks' are the same.
        message : str, optional
            Why it is kept.
        notes : mapping of str to str, optional
            Further notes, such as a model's hash.
        earlier : sequence of dict, optional
            What :attr:`consumed` said in the processes that this one continued.

        Raises
        ------
        AlreadyExistsError
            When a ref has that name.
        """
        consumed = [*earlier, *self.consumed]
        return write_receipt(name, self.stream, consumed, message=message, notes=notes)

    @property
    def dataset(self) -> BatchMaker:
        """Makes the batches of :attr:`keys`: for a DataLoader of your own.

        ``DataLoader(loader.dataset, sampler=loader.keys, batch_size=None)``, or torchdata's
        StatefulDataLoader.
        """
        return BatchMaker(self.stream.assembler, plain=True)

    @property
    def keys(self) -> BatchKeys:
        """Which batches the next iteration has, in order: the sampler of such a DataLoader."""
        return BatchKeys(self)

    def __repr__(self) -> str:
        return (
            f"TrainingLoader({self.stream!r}, epoch={self.epoch}, step={self.step}, "
            f"rank={self.rank} of {self.world_size}, num_workers={self.num_workers})"
        )


class _Feed:
    """A sampler that yields what it is given for one iteration."""

    source: Iterator[Any]

    def __iter__(self) -> Iterator[Any]:
        return self.source


def _as_is(item: Any) -> Any:
    return item


def _devices(stream: BatchStream, device: str | None) -> dict[str, torch.device]:
    """Return where each field goes, each device checked."""
    wanted = {name: c.device or device for name, c in stream.fields.items()}
    if stream.on_error == "replace":
        wanted["_valid"] = device
    out = {}
    for name, text in wanted.items():
        if text is None:
            continue
        try:
            found = torch.device(text)
        except RuntimeError:
            raise InvalidInputError(f"{text!r} is not a device", hint="'cuda' or 'cpu'") from None
        if found.type == "cuda" and not torch.cuda.is_available():
            raise InvalidInputError(
                f"the field {name!r} is wanted on {text!r}, and there is no CUDA device here",
                hint="device='cuda' if torch.cuda.is_available() else 'cpu'",
            )
        out[name] = found
    return out
