"""Promises of stores that leases can protect: uploads of one object can be told apart.

Source: design/0015 section 8.
"""
# ruff: noqa: D401 - the docstring of a check is the promise that it tests

from __future__ import annotations

from typing import Final

from dreamdb.store import StampedObjects
from dreamdb.testing.samples import Check, OpenSpace, payload_of, run_together, sample_object

__all__ = [
    "STAMP_CHECKS",
    "a_stamp_is_removed_once",
    "only_the_stamped_upload_is_removed",
    "uploads_have_stamps_of_their_own",
]


def _objects(open_space: OpenSpace) -> StampedObjects:
    found = open_space().objects
    assert isinstance(found, StampedObjects), "this backend's objects have no stamps"
    return found


def uploads_have_stamps_of_their_own(open_space: OpenSpace) -> None:
    """Storing an object again changes its stamp and nothing else."""
    store, address = _objects(open_space), sample_object(1).address
    assert store.stamp(address) is None
    stamps = set()
    for _ in range(5):
        store.replace(sample_object(1))
        stamps.add(_objects(open_space).stamp(address))
        assert payload_of(open_space(), address)
    assert len(stamps) == 5
    assert None not in stamps


def only_the_stamped_upload_is_removed(open_space: OpenSpace) -> None:
    """A removal by a stamp spares an object that was stored again."""
    store, address = _objects(open_space), sample_object(1).address
    assert store.delete_stamped(address, b"12345678") is False
    store.replace(sample_object(1))
    old = store.stamp(address)
    assert old is not None
    store.replace(sample_object(1))
    assert store.delete_stamped(address, old) is False
    assert store.size(address) is not None
    new = store.stamp(address)
    assert new is not None
    assert store.delete_stamped(address, new) is True
    assert store.size(address) is None


def a_stamp_is_removed_once(open_space: OpenSpace) -> None:
    """Of several removals by one stamp exactly one says that it did it."""
    address = sample_object(1).address
    _objects(open_space).replace(sample_object(1))
    stamp = _objects(open_space).stamp(address)
    assert stamp is not None
    done: list[bool] = []
    run_together([lambda: done.append(_objects(open_space).delete_stamped(address, stamp))] * 6)
    assert sorted(done) == [False] * 5 + [True]


STAMP_CHECKS: Final[tuple[Check, ...]] = (
    uploads_have_stamps_of_their_own,
    only_the_stamped_upload_is_removed,
    a_stamp_is_removed_once,
)
