"""What only memory spaces promise: one per name, and none across processes."""

from __future__ import annotations

import pickle

import pytest

from dreamdb.errors import InvalidInputError, StorageError
from dreamdb.store import open_backend
from dreamdb.store.memory import MemoryBackend
from dreamdb.testing.samples import (
    numbered_address,
    numbered_value,
    payload_of,
    sample_object,
    store_all,
)
from tests.store.processes import SPAWN, in_fork


def use(backend: MemoryBackend) -> list[str]:
    """Try every kind of use; return the errors' text."""
    errors = []
    for call in (
        backend.read_space,
        lambda: backend.create_space(b"{}"),
        lambda: backend.refs.read("main"),
        lambda: backend.refs.swap("main", None, numbered_address(1)),
        lambda: list(backend.refs.list()),
        lambda: backend.objects.open(sample_object(1).address),
        lambda: store_all(backend, sample_object(1)),
        lambda: list(backend.objects.list()),
    ):
        try:
            call()
        except StorageError as error:
            errors.append(f"{error} | {error.hint}")
    return errors


def test_equal_names_are_one_space() -> None:
    first = open_backend("memory://shared/one")
    first.refs.swap("main", None, numbered_address(1))
    assert numbered_value(open_backend("memory://shared/one/").refs.read("main")) == 1
    assert open_backend("memory://shared").refs.read("main") is None
    assert first.url == "memory://shared/one"


@pytest.mark.parametrize("url", ["memory://", "memory:///"])
def test_a_memory_space_needs_a_name(url: str) -> None:
    with pytest.raises(InvalidInputError, match="needs a name"):
        open_backend(url)


def test_pickling_within_the_process_reaches_the_same_space() -> None:
    first = MemoryBackend("pickled-here")
    store_all(first, sample_object(1))
    again = pickle.loads(pickle.dumps(first))  # noqa: S301 - our own bytes
    assert payload_of(again, sample_object(1).address)


def test_another_process_is_told_why_it_finds_nothing() -> None:
    with SPAWN.Pool(1) as pool:
        errors = pool.apply(use, (MemoryBackend("pickled-there"),))
    assert len(errors) == 8
    assert all("do not cross processes" in error for error in errors)
    assert all("directory" in error for error in errors)


def test_a_forked_child_reads_its_copy_and_may_not_write() -> None:
    backend = MemoryBackend("forked")
    store_all(backend, sample_object(1))
    backend.refs.swap("main", None, numbered_address(5))

    def child() -> list[object]:
        value = numbered_value(backend.refs.read("main"))
        found = len(payload_of(backend, sample_object(1).address))
        try:
            backend.refs.swap("main", backend.refs.read("main"), numbered_address(6))
        except StorageError as error:
            return [value, found, str(error)]
        return [value, found, "written"]

    value, found, error = in_fork(child)
    assert (value, found) == (5, 100)
    assert "would be lost" in error
    assert numbered_value(backend.refs.read("main")) == 5
