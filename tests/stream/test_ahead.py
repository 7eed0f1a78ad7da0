"""Reading ahead: same items, same errors, bounded, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dreamdb.errors import IntegrityError
from dreamdb.stream import read_ahead


def threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("dreamdb-ahead")}


def test_items_come_in_order() -> None:
    assert list(read_ahead(iter(range(50)), depth=3)) == list(range(50))
    assert threads() == set()


def test_an_empty_source() -> None:
    assert list(read_ahead(iter(()))) == []


def test_an_error_comes_in_its_place() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise IntegrityError("damaged", hint="restore it", object="x")

    items = read_ahead(source(), depth=5)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(IntegrityError, match="damaged") as caught:
        next(items)
    assert caught.value.details == {"object": "x"}
    assert threads() == set()


@pytest.mark.parametrize("depth", [1, 3])
def test_it_never_runs_further_ahead_than_asked(depth: int) -> None:
    made: list[int] = []
    consumed = 0

    def source() -> Iterator[int]:
        for i in range(40):
            made.append(i)
            assert len(made) <= consumed + depth + 1
            yield i

    for _ in read_ahead(source(), depth=depth):
        consumed += 1
    assert consumed == 40


def test_closing_stops_the_thread_and_the_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = read_ahead(source())
    next(items)
    assert threads() == set()  # The first item is not held up by the second.
    next(items)
    assert threads()
    del items
    assert threads() == set()
    assert closed.wait(5)
