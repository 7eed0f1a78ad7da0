"""Promises of the document port and of the trash, for backends that offer them.

Source: design/0015 sections 2 and 4.
"""
# ruff: noqa: D401 - the docstring of a check is the promise that it tests

from __future__ import annotations

from functools import partial
from typing import Final

from dreamdb.errors import InvalidInputError, ObjectMissingError, RefConflictError
from dreamdb.store import DocumentStore, Trash, documents_of, trash_of
from dreamdb.testing.samples import (
    Check,
    OpenSpace,
    payload_of,
    raises,
    run_together,
    sample_object,
    store_all,
)
from dreamdb.types import Address

__all__ = [
    "DOCUMENT_CHECKS",
    "TRASH_CHECKS",
    "conflicting_documents_change_nothing",
    "document_keys_stay_in_their_place",
    "documents_count_without_loss",
    "documents_move_by_compare_and_swap",
    "restored_objects_come_back",
    "thrown_objects_are_out_of_the_store",
    "trash_is_emptied_for_good",
]


def _documents(open_space: OpenSpace) -> DocumentStore:
    return documents_of(open_space())


def documents_move_by_compare_and_swap(open_space: OpenSpace) -> None:
    """Create, replace, remove; each only from the document that is there; other handles see it."""
    documents = _documents(open_space)
    assert documents.read("cuts") is None
    first = documents.swap("cuts", None, b"one")
    assert first is not None
    assert first.body == b"one"
    second = documents.swap("cuts", first, b"two")
    found = _documents(open_space).read("cuts")
    assert found is not None
    assert found.body == b"two"
    assert second is not None
    assert documents.swap("cuts", found, None) is None
    assert _documents(open_space).read("cuts") is None
    assert documents.swap("cuts", None, None) is None


def conflicting_documents_change_nothing(open_space: OpenSpace) -> None:
    """A swap from another document is refused and leaves the one that is there alone."""
    documents = _documents(open_space)
    first = documents.swap("leases/a", None, b"one")
    documents.swap("leases/a", first, b"two")
    for new in (b"three", None):
        for expected in (None, first):
            raises(RefConflictError, documents.swap, "leases/a", expected, new)
    raises(RefConflictError, documents.swap, "leases/b", first, b"four")
    found = documents.read("leases/a")
    assert found is not None
    assert found.body == b"two"
    assert list(documents.list("leases")) == ["a"]
    assert list(documents.list("redactions")) == []


def document_keys_stay_in_their_place(open_space: OpenSpace) -> None:
    """What is no key of a document is refused before anything is touched."""
    documents = _documents(open_space)
    for key in (
        "",
        "objects",
        "refs/main",
        "../cuts",
        "leases/../x",
        "leases/",
        "Cuts",
        "cuts/a/b",
    ):
        raises(InvalidInputError, documents.read, key)
        raises(InvalidInputError, documents.swap, key, None, b"x")
    raises(InvalidInputError, list, documents.list("refs"))


def documents_count_without_loss(open_space: OpenSpace) -> None:
    """Threads that count one document up by compare-and-swap reach the sum."""
    run_together([partial(_count, open_space, 10)] * 6)
    found = _documents(open_space).read("condemned")
    assert found is not None
    assert int(found.body) == 60


def _count(open_space: OpenSpace, times: int) -> None:
    documents = _documents(open_space)
    done = 0
    while done < times:
        held = documents.read("condemned")
        number = 0 if held is None else int(held.body)
        try:
            documents.swap("condemned", held, b"%d" % (number + 1))
        except RefConflictError:
            continue
        done += 1


def _trash(open_space: OpenSpace) -> Trash:
    found = trash_of(open_space())
    assert found is not None, "this backend has no trash"
    return found


def thrown_objects_are_out_of_the_store(open_space: OpenSpace) -> None:
    """What is thrown away is in the trash with its time and its bytes, and nowhere else."""
    one, two = sample_object(1), sample_object(2, 70_000)
    store_all(open_space(), one, two)
    trash = _trash(open_space)
    trash.throw(one.address, 5)
    trash.throw(two.address, 6)
    trash.throw(sample_object(3).address, 7)  # Missing is not an error.
    trash.flush()
    assert open_space().objects.size(one.address) is None
    assert list(open_space().objects.list()) == []
    found = {item.address: (item.nbytes, item.time_ns) for item in _trash(open_space).list()}
    assert found == {one.address: (one.nbytes, 5), two.address: (two.nbytes, 6)}
    assert bytes(_trash(open_space).open(two.address)) == two.to_bytes()


def restored_objects_come_back(open_space: OpenSpace) -> None:
    """What is restored can be read again; what was stored meanwhile stays."""
    one, two = sample_object(1), sample_object(2)
    store_all(open_space(), one, two)
    trash = _trash(open_space)
    for sealed in (one, two):
        trash.throw(sealed.address, 5)
    store_all(open_space(), two)
    for sealed in (one, two, sample_object(3)):
        trash.restore(sealed.address)
    trash.flush()
    for sealed in (one, two):
        assert len(payload_of(open_space(), sealed.address)) == sealed.raw_nbytes
    assert list(_trash(open_space).list()) == []


def trash_is_emptied_for_good(open_space: OpenSpace) -> None:
    """What is removed from the trash is nowhere any more; removing it again does nothing."""
    one, two = sample_object(1), sample_object(2)
    store_all(open_space(), one, two)
    trash = _trash(open_space)
    trash.throw(one.address, 5)
    trash.throw(two.address, 6)
    for _ in range(2):
        trash.remove(one.address)
    trash.flush()
    assert [item.address for item in _trash(open_space).list()] == [two.address]
    raises(ObjectMissingError, trash.open, one.address)
    trash.restore(one.address)
    assert open_space().objects.size(Address(one.address)) is None


DOCUMENT_CHECKS: Final[tuple[Check, ...]] = (
    documents_move_by_compare_and_swap,
    conflicting_documents_change_nothing,
    document_keys_stay_in_their_place,
    documents_count_without_loss,
)

TRASH_CHECKS: Final[tuple[Check, ...]] = (
    thrown_objects_are_out_of_the_store,
    restored_objects_come_back,
    trash_is_emptied_for_good,
)
