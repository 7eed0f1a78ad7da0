"""What a dataset's copies in all worker processes share: the epoch, and where it begins.

Source: design/0009.  DataLoader tells its workers nothing when a new pass begins, so ``set_epoch``
and a resume point reach them, persistent ones too, through a few integers in shared memory that
has no name and vanishes with its last process.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.utils.data import get_worker_info

__all__ = ["PassStart", "SharedState"]

_EPOCH, _START, _TOKEN, _BASE, _WHERE, _OWNERS = 0, 1, 2, 3, 4, 5
_PLACES: Final = ("nowhere", "here", "workers", "restored workers")
_MAX_OWNERS: Final = 64


@dataclass(frozen=True, slots=True)
class PassStart:
    """Where one pass over the data begins.

    Parameters
    ----------
    epoch : int
        Which epoch.
    position : int
        First position; not 0 when it continues an interrupted run.
    """

    epoch: int
    position: int


def _in_shared_memory(cells: Any) -> torch.Tensor:
    return cells if cells.is_shared() else cells.share_memory_()


class SharedState:
    """Epoch and resume point, one for all copies of a dataset.

    A resume point holds for one pass: the first that begins after it was set.
    """

    def __init__(self) -> None:
        self._cells = _in_shared_memory(torch.zeros(_OWNERS + _MAX_OWNERS, dtype=torch.int64))
        self._passes = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"_cells": self._cells, "_passes": self._passes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._passes = state["_passes"]
        # Through a DataLoader the memory itself arrives; through pickle, a copy of its own.
        self._cells = _in_shared_memory(state["_cells"])

    def _get(self, cell: int) -> int:
        return int(self._cells[cell])

    @property
    def epoch(self) -> int:
        """The epoch of the next pass."""
        return self._get(_EPOCH)

    @property
    def base(self) -> int:
        """The position at which the pass under way began, or the next one will."""
        return self._get(_BASE)

    @property
    def where(self) -> str:
        """Where the last pass began: nowhere, here, workers, or restored workers."""
        return _PLACES[self._get(_WHERE)]

    def set_epoch(self, epoch: int) -> bool:
        """Set the epoch of the next pass; keep a resume point of this epoch not used yet.

        Parameters
        ----------
        epoch : int
            Not negative.

        Returns
        -------
        bool
            Whether the next pass begins at the epoch's start.
        """
        if epoch == self.epoch and self._get(_START) and not self._get(_TOKEN):
            return False
        self.place(epoch, 0)
        return True

    def place(self, epoch: int, position: int) -> None:
        """Let the next pass begin at a position of an epoch.

        Parameters
        ----------
        epoch, position : int
            Where.
        """
        self._cells[_WHERE:] = 0
        self._cells[_TOKEN] = 0
        self._cells[_START] = self._cells[_BASE] = position
        self._cells[_EPOCH] = epoch

    def begin(self, *, restored: bool = False) -> PassStart:
        """Begin a pass in this process: where it starts.

        Parameters
        ----------
        restored : bool
            A loader restores this worker's place; only the worker itself knows it.
        """
        info = get_worker_info()
        self._passes += 1
        start, epoch = self._get(_START), self.epoch
        if start and not self._claim(info):
            start = 0
        self._cells[_BASE] = start
        self._cells[_WHERE] = 1 if info is None else 3 if restored else 2
        return PassStart(epoch, start)

    def _claim(self, info: Any) -> bool:
        """Return whether this pass is the one that continues at the resume point."""
        if info is None:
            free = not self._get(_TOKEN)
            self._cells[_TOKEN] = self._get(_TOKEN) or 1 + secrets.randbits(62)
            return free
        # The workers of one pass agree on the loader's seed and on how often they have begun.
        token = (info.seed - info.id + 0x9E3779B97F4A7C15 * self._passes) % (1 << 62) + 1
        if not self._get(_TOKEN):
            self._cells[_TOKEN] = token
        # Equal seeds in a later pass, as after torch.manual_seed, are told apart by the process.
        owner = _OWNERS + info.id % _MAX_OWNERS
        if self._get(_TOKEN) != token or self._get(owner) not in (0, os.getpid()):
            return False
        self._cells[owner] = os.getpid()
        return True
