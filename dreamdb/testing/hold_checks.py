"""Promises of the lock between commits and the collector.

Source: design/0005, design/0006 section 8.
"""
# ruff: noqa: D401 - the docstring of a check is the promise that it tests

from __future__ import annotations

import threading
from typing import Final

from dreamdb.testing.samples import Check, OpenSpace, raises, run_together

__all__ = [
    "CHECKS",
    "commits_run_side_by_side",
    "holds_nest",
    "the_collector_runs_alone",
]

_PATIENCE_S = 0.03


def commits_run_side_by_side(open_space: OpenSpace) -> None:
    """Two commits hold the space at the same time."""
    met = threading.Barrier(2, timeout=30)

    def commit() -> None:
        with open_space().objects.hold():
            met.wait()  # Passes only when both are inside at once.

    run_together([commit, commit])


def the_collector_runs_alone(open_space: OpenSpace) -> None:
    """A collector waits for commits and for other collectors, and commits wait for it."""
    for first_alone, second_alone in ((False, True), (True, False), (True, True)):
        _one_waits_for_the_other(open_space, first_alone, second_alone)


def _one_waits_for_the_other(open_space: OpenSpace, first_alone: bool, second_alone: bool) -> None:
    first, second = open_space().objects, open_space().objects
    held, inside = threading.Event(), threading.Event()

    def hold_first() -> None:
        with first.hold_exclusive() if first_alone else first.hold():
            held.set()
            # A correct backend never gets there; a broken one has time to.
            assert not inside.wait(_PATIENCE_S)

    def hold_second() -> None:
        held.wait()
        with second.hold_exclusive() if second_alone else second.hold():
            inside.set()

    run_together([hold_first, hold_second])
    assert inside.is_set()


def holds_nest(open_space: OpenSpace) -> None:
    """A thread that holds may hold again, through any handle; an error lets go."""
    with open_space().objects.hold(), open_space().objects.hold():
        pass
    store = open_space().objects
    with store.hold_exclusive(), open_space().objects.hold(), store.hold_exclusive():
        pass
    raises(KeyError, _fail_inside, open_space)
    with store.hold_exclusive():
        pass


def _fail_inside(open_space: OpenSpace) -> None:
    with open_space().objects.hold():
        raise KeyError("planned")


CHECKS: Final[tuple[Check, ...]] = (
    commits_run_side_by_side,
    the_collector_runs_alone,
    holds_nest,
)
