"""Promises of the ref port.

Source: design/0005, design/0006 section 8.
"""
# ruff: noqa: D401 - the docstring of a check is the promise that it tests

from __future__ import annotations

import threading
from functools import partial
from typing import Final

from dreamdb.errors import InvalidInputError, RefConflictError, RefNameError
from dreamdb.store import MAX_CARRIED, LogEntry, RefValue
from dreamdb.testing.samples import (
    Check,
    OpenSpace,
    count_up,
    numbered_address,
    numbered_value,
    raises,
    run_together,
    sample_object,
)
from dreamdb.types import Address

__all__ = [
    "CHECKS",
    "a_value_without_token_is_enough",
    "bad_names_and_values_are_refused",
    "conflicts_change_nothing",
    "counting_threads_lose_nothing",
    "creation_and_deletion_take_turns",
    "creators_of_a_ref_race",
    "logs_keep_every_move",
    "logs_take_entries_from_threads",
    "names_do_not_collide",
    "readers_never_see_half_a_ref",
    "refs_carry_their_object",
    "refs_move_by_compare_and_swap",
]


def refs_move_by_compare_and_swap(open_space: OpenSpace) -> None:
    """Create, update, delete; each only from the value that is there."""
    refs = open_space().refs
    one, two = numbered_address(1), numbered_address(2)
    assert refs.read("main") is None
    created = refs.swap("main", None, one)
    assert numbered_value(created) == 1
    assert numbered_value(open_space().refs.read("main")) == 1
    moved = refs.swap("main", created, two)
    assert numbered_value(moved) == 2
    assert numbered_value(refs.swap("main", moved, two)) == 2
    assert refs.swap("main", refs.read("main"), None) is None
    assert open_space().refs.read("main") is None
    assert refs.swap("main", None, one) is not None


def conflicts_change_nothing(open_space: OpenSpace) -> None:
    """A swap from another value is refused, tells what it found, and leaves the ref alone."""
    refs = open_space().refs
    one, two, three = (numbered_address(n) for n in (1, 2, 3))
    first = refs.swap("main", None, one)
    second = refs.swap("main", first, two)
    for expected in (None, first, RefValue(three)):
        for new in (three, None):
            error = raises(RefConflictError, refs.swap, "main", expected, new)
            assert isinstance(error, RefConflictError)
            assert error.details["actual"] == two
            assert error.details["expected"] == (None if expected is None else expected.address)
    raises(RefConflictError, refs.swap, "absent", second, one)
    raises(RefConflictError, refs.swap, "absent", second, None)
    assert refs.swap("absent", None, None) is None
    assert list(refs.list()) == [("main", RefValue(two))]


def a_value_without_token_is_enough(open_space: OpenSpace) -> None:
    """An expected value that was remembered rather than read still swaps."""
    refs = open_space().refs
    refs.swap("main", None, numbered_address(1))
    moved = refs.swap("main", RefValue(numbered_address(1)), numbered_address(2))
    assert numbered_value(moved) == 2
    refs.swap("main", RefValue(numbered_address(2)), None)
    assert refs.read("main") is None


def refs_carry_their_object(open_space: OpenSpace) -> None:
    """A ref gives back the object it carries, whole; only its own object can be carried."""
    refs = open_space().refs
    mine, other, huge = sample_object(1), sample_object(2), sample_object(3, MAX_CARRIED)
    value = refs.swap("kept", None, mine.address, mine.to_bytes())
    assert value is not None
    for found in (value, open_space().refs.read("kept"), dict(open_space().refs.list())["kept"]):
        assert found is not None
        assert found.address == mine.address
        assert found.carried == mine.to_bytes()
    moved = refs.swap("kept", RefValue(mine.address), other.address)
    assert moved is not None
    assert open_space().refs.read("kept") == moved
    assert moved.carried is None
    for wrong in (b"", b"short", other.to_bytes(), mine.to_bytes() + b"\0"):
        raises(InvalidInputError, refs.swap, "bad", None, mine.address, wrong)
    raises(InvalidInputError, refs.swap, "bad", None, huge.address, huge.to_bytes())
    raises(InvalidInputError, refs.swap, "kept", moved, None, other.to_bytes())
    assert [name for name, _ in refs.list()] == ["kept"]
    refs.swap("kept", moved, None)
    assert refs.read("kept") is None


def names_do_not_collide(open_space: OpenSpace) -> None:
    """A name, its prefix and its other case are three refs; the list is sorted by name."""
    refs = open_space().refs
    names = ["sweep", "sweep/x", "Sweep", "sweep/lp-lr0.001-bs128", "SWEEP/X", "a+b", "a@b", "z_1"]
    names.append("v" * 200)
    for number, name in enumerate(names, start=1):
        refs.swap(name, None, numbered_address(number))
    expected = sorted((name, numbered_address(n)) for n, name in enumerate(names, start=1))
    found = [(name, value.address) for name, value in open_space().refs.list()]
    assert found == expected


def bad_names_and_values_are_refused(open_space: OpenSpace) -> None:
    """What cannot be a ref name or an address is refused before anything is touched."""
    refs = open_space().refs
    for name in ("", "/a", "a//b", "../up", "a/..", "-x", ".hidden", "a b", "x.lock", "a\0b"):
        raises(RefNameError, refs.read, name)
        raises(RefNameError, refs.swap, name, None, numbered_address(1))
        raises(RefNameError, refs.append_log, name, _entry(1))
        raises(RefNameError, refs.read_log, name)
    for body in (b"", b"short", bytes(33), b"\x1e" * 34):
        raises(InvalidInputError, refs.swap, "main", None, Address(body))
    assert list(refs.list()) == []
    assert list(refs.logs()) == []


def counting_threads_lose_nothing(open_space: OpenSpace) -> None:
    """Eight threads that count one ref up by compare-and-swap reach the sum."""
    run_together([partial(_count, open_space, 15)] * 8)
    assert numbered_value(open_space().refs.read("counter")) == 8 * 15


def _count(open_space: OpenSpace, times: int) -> None:
    count_up(open_space(), "counter", times)


def creators_of_a_ref_race(open_space: OpenSpace) -> None:
    """Of several creators of one ref exactly one wins, and its value is there."""
    winners: list[int] = []

    def create(number: int) -> None:
        try:
            open_space().refs.swap("race", None, numbered_address(number))
        except RefConflictError:
            return
        winners.append(number)

    run_together([partial(create, n) for n in range(1, 9)])
    assert winners == [numbered_value(open_space().refs.read("race"))]


def creation_and_deletion_take_turns(open_space: OpenSpace) -> None:
    """Whoever has created a ref is the only one who can delete it, however often it comes and goes.

    Catches locks that are lost when the thing they guard is removed.
    """

    def cycle(number: int) -> None:
        refs = open_space().refs
        done = 0
        while done < 25:
            try:
                mine = refs.swap("job", None, numbered_address(number))
            except RefConflictError:
                continue
            refs.swap("job", mine, None)
            done += 1

    run_together([partial(cycle, n) for n in range(1, 5)])
    assert open_space().refs.read("job") is None


def readers_never_see_half_a_ref(open_space: OpenSpace) -> None:
    """While a ref moves, each read gives one of its values, and they only grow."""
    writer = open_space().refs
    held = writer.swap("main", None, numbered_address(1))
    done = threading.Event()

    def read() -> None:
        refs = open_space().refs
        last = 0
        while not done.is_set():
            value = numbered_value(refs.read("main"))
            assert value >= last
            last = value

    def write() -> None:
        nonlocal held
        try:
            for number in range(2, 60):
                held = writer.swap("main", held, numbered_address(number))
        finally:
            done.set()

    run_together([write, read, read])


def _entry(number: int, *, who: str = "ada", why: str = "reset") -> LogEntry:
    old = None if number == 1 else numbered_address(number - 1)
    return LogEntry(1_700_000_000_000_000_000 + number, old, numbered_address(number), who, why)


def logs_keep_every_move(open_space: OpenSpace) -> None:
    """Entries come back whole, oldest first, whatever their text, and outlive the ref."""
    refs = open_space().refs
    assert refs.read_log("main") == []
    assert list(refs.logs()) == []
    texts = ["reset", "délete\n{}", '"quoted"', "", "x" * 5_000]
    entries = [_entry(n, who=f"who {n}", why=why) for n, why in enumerate(texts, start=1)]
    entries.append(LogEntry(1_700_000_000_000_001_000, numbered_address(9), None, "ada", "delete"))
    held = refs.swap("main", None, numbered_address(1))
    for entry in entries:
        refs.append_log("main", entry)
    refs.append_log("Main", _entry(1))
    refs.swap("main", held, None)
    again = open_space().refs
    assert again.read_log("main") == entries
    assert again.read_log("Main") == [_entry(1)]
    assert list(again.logs()) == ["Main", "main"]


def logs_take_entries_from_threads(open_space: OpenSpace) -> None:
    """Entries appended at once are all there, none torn."""

    def append(start: int) -> None:
        refs = open_space().refs
        for number in range(start, start + 10):
            refs.append_log("main", _entry(number))

    run_together([partial(append, s) for s in (100, 200, 300, 400)])
    found = open_space().refs.read_log("main")
    wanted = [_entry(s + n) for s in (100, 200, 300, 400) for n in range(10)]
    assert sorted(e.time_ns for e in found) == sorted(e.time_ns for e in wanted)
    assert all(entry in wanted for entry in found)


CHECKS: Final[tuple[Check, ...]] = (
    refs_move_by_compare_and_swap,
    conflicts_change_nothing,
    a_value_without_token_is_enough,
    refs_carry_their_object,
    names_do_not_collide,
    bad_names_and_values_are_refused,
    counting_threads_lose_nothing,
    creators_of_a_ref_race,
    creation_and_deletion_take_turns,
    readers_never_see_half_a_ref,
    logs_keep_every_move,
    logs_take_entries_from_threads,
)
