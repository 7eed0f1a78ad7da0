"""Promises of the object port and of the space document.

Source: design/0005, design/0006 section 8.
"""
# ruff: noqa: D401 - the docstring of a check is the promise that it tests

from __future__ import annotations

from functools import partial
from typing import Final

from dreamdb.errors import DreamDBError, InvalidInputError, ObjectMissingError
from dreamdb.objects import Kind, OpenedObject, address_of, seal
from dreamdb.store import Upload
from dreamdb.testing.samples import (
    Check,
    OpenSpace,
    payload_of,
    raises,
    run_together,
    sample_object,
    store_all,
)

__all__ = [
    "CHECKS",
    "aborted_uploads_leave_no_half_objects",
    "deleted_objects_are_gone",
    "finishing_is_idempotent",
    "many_objects_fit_one_upload",
    "missing_objects_are_typed",
    "objects_are_stored_in_pieces",
    "objects_are_stored_once",
    "objects_come_back",
    "ranges_are_clipped",
    "space_document_is_replaced",
    "space_has_one_creator",
    "space_is_created_once",
    "threads_share_an_upload",
    "uploads_of_equal_objects_meet",
    "urls_hold_no_secrets",
    "views_outlive_deletion",
]


def space_is_created_once(open_space: OpenSpace) -> None:
    """A space document is written by the first creator and never again."""
    backend = open_space()
    assert backend.read_space() is None
    assert backend.create_space(b'{"format":1}')
    assert not backend.create_space(b'{"format":2}')
    assert open_space().read_space() == b'{"format":1}'


def space_document_is_replaced(open_space: OpenSpace) -> None:
    """The space document changes only when it is what the caller read; one of several wins."""
    backend = open_space()
    assert not backend.replace_space(b'{"format":1}', b'{"format":2}')
    assert backend.create_space(b'{"format":1}')
    assert not backend.replace_space(b'{"format":3}', b'{"format":2}')
    assert backend.replace_space(b'{"format":1}', b'{"format":2}')
    assert open_space().read_space() == b'{"format":2}'
    winners: list[bytes] = []

    def replace(number: int) -> None:
        document = b'{"writer":%d}' % number
        if open_space().replace_space(b'{"format":2}', document):
            winners.append(document)

    run_together([partial(replace, n) for n in range(6)])
    assert len(winners) == 1
    assert open_space().read_space() == winners[0]


def space_has_one_creator(open_space: OpenSpace) -> None:
    """Of several creators at once exactly one is told that it won, and its document stays."""
    winners: list[bytes] = []

    def create(number: int) -> None:
        document = b'{"creator":%d}' % number
        if open_space().create_space(document):
            winners.append(document)

    run_together([partial(create, n) for n in range(8)])
    assert len(winners) == 1
    assert open_space().read_space() == winners[0]


def objects_come_back(open_space: OpenSpace) -> None:
    """What was put is read back byte for byte, small, large, plain, compressed and empty."""
    backend = open_space()
    sizes = (0, 1, 100, 16_384, 70_000, 300_000)
    objects = [sample_object(n, size) for n, size in enumerate(sizes)]
    objects.append(sample_object(99, 50_000, compress=True))
    assert store_all(backend, *objects) == [True] * len(objects)
    for handle in (backend, open_space()):
        for sealed in objects:
            stored = handle.objects.open(sealed.address)
            assert stored.readonly
            assert bytes(stored) == sealed.to_bytes()
            assert handle.objects.size(sealed.address) == sealed.nbytes
            OpenedObject(sealed.address, stored, Kind.FRAGMENT).view()


def objects_are_stored_in_pieces(open_space: OpenSpace) -> None:
    """An object of more pieces than one system call takes is stored whole."""
    backend = open_space()
    pieces = [bytes([n % 256]) * (n % 7) for n in range(5_000)]
    sealed = seal(Kind.FRAGMENT, pieces, compress=False)
    store_all(backend, sealed)
    assert payload_of(backend, sealed.address) == b"".join(pieces)


def ranges_are_clipped(open_space: OpenSpace) -> None:
    """A range is what slicing the stored bytes gives; a negative start is refused."""
    backend = open_space()
    sealed = sample_object(1, 100_000)
    store_all(backend, sealed)
    whole = sealed.to_bytes()
    size = len(whole)
    ranges = [
        (0, 64),
        (10, 10),
        (5, 4),
        (size - 3, size + 9),
        (size, size + 1),
        (size + 5, size + 9),
    ]
    for start, stop in [*ranges, (0, size), (16_000, 40_000)]:
        assert bytes(backend.objects.read(sealed.address, start, stop)) == whole[start:stop]
    raises(InvalidInputError, backend.objects.read, sealed.address, -1, 5)


def objects_are_stored_once(open_space: OpenSpace) -> None:
    """Putting an object again says that it is there, in one upload and in the next."""
    backend = open_space()
    first, second = sample_object(1), sample_object(2)
    assert store_all(backend, first, first, second) == [True, False, True]
    assert store_all(open_space(), first, second) == [False, False]
    assert sorted(backend.objects.list()) == sorted(
        (sealed.address, sealed.nbytes) for sealed in (first, second)
    )


def missing_objects_are_typed(open_space: OpenSpace) -> None:
    """An object that is not there is ObjectMissingError, size None, and no error to delete."""
    backend = open_space()
    nowhere = address_of(Kind.FRAGMENT, [b"never stored"])
    for _ in range(2):
        raises(ObjectMissingError, backend.objects.open, nowhere)
        raises(ObjectMissingError, backend.objects.read, nowhere, 0, 10)
        assert backend.objects.size(nowhere) is None
        backend.objects.delete(nowhere)
        assert list(backend.objects.list()) == []
        store_all(backend, sample_object(1))
        backend.objects.delete(sample_object(1).address)


def deleted_objects_are_gone(open_space: OpenSpace) -> None:
    """A deleted object is missing for every handle, and can be stored again."""
    backend = open_space()
    kept, dropped = sample_object(1), sample_object(2)
    store_all(backend, kept, dropped)
    backend.objects.delete(dropped.address)
    raises(ObjectMissingError, open_space().objects.open, dropped.address)
    assert [address for address, _ in backend.objects.list()] == [kept.address]
    assert store_all(backend, dropped) == [True]
    assert payload_of(open_space(), dropped.address) == payload_of(backend, dropped.address)


def views_outlive_deletion(open_space: OpenSpace) -> None:
    """Bytes that a reader holds stay what they were when the object is deleted."""
    backend = open_space()
    sealed = sample_object(1, 300_000)
    store_all(backend, sealed)
    held = backend.objects.open(sealed.address)
    backend.objects.delete(sealed.address)
    assert bytes(held) == sealed.to_bytes()


def aborted_uploads_leave_no_half_objects(open_space: OpenSpace) -> None:
    """After an abort, whatever is listed is whole, and the same objects can be stored."""
    backend = open_space()
    objects = [sample_object(n, size) for n, size in enumerate((10, 1_000, 300_000))]
    upload = backend.objects.upload()
    for sealed in objects:
        upload.put(sealed)
    upload.abort()
    upload.abort()
    for address, _ in backend.objects.list():
        payload_of(backend, address)
    store_all(backend, *objects)
    for sealed in objects:
        assert bytes(open_space().objects.open(sealed.address)) == sealed.to_bytes()


def finishing_is_idempotent(open_space: OpenSpace) -> None:
    """Finish may be called again, abort after it changes nothing, and no put may follow."""
    backend = open_space()
    sealed = sample_object(1)
    upload = backend.objects.upload()
    upload.put(sealed)
    upload.finish()
    upload.finish()
    upload.abort()
    assert backend.objects.size(sealed.address) == sealed.nbytes
    raises(DreamDBError, upload.put, sample_object(2))
    assert backend.objects.size(sample_object(2).address) is None


def many_objects_fit_one_upload(open_space: OpenSpace) -> None:
    """An upload of more objects than a process may open files keeps them all."""
    backend = open_space()
    objects = [sample_object(n) for n in range(700)]
    assert all(store_all(backend, *objects))
    assert {address for address, _ in backend.objects.list()} == {o.address for o in objects}


def threads_share_an_upload(open_space: OpenSpace) -> None:
    """Puts from several threads into one upload all arrive, each object once."""
    backend = open_space()
    objects = [sample_object(n, 1_000 + 5_000 * (n % 5)) for n in range(64)]
    upload = backend.objects.upload()
    new: list[bool] = []

    def put_all(upload: Upload, shift: int) -> None:
        for position in range(len(objects)):
            new.append(upload.put(objects[(position + shift) % len(objects)]))

    run_together([partial(put_all, upload, s) for s in (0, 7, 31, 63)])
    upload.finish()
    assert new.count(True) == len(objects)
    for sealed in objects:
        assert bytes(backend.objects.open(sealed.address)) == sealed.to_bytes()


def uploads_of_equal_objects_meet(open_space: OpenSpace) -> None:
    """Several uploads of the same objects at once all succeed, and each promise holds."""
    objects = [sample_object(n, 2_000) for n in range(12)]

    def upload() -> None:
        backend = open_space()
        store_all(backend, *objects)
        for sealed in objects:
            payload_of(backend, sealed.address)

    run_together([upload] * 6)
    assert len(list(open_space().objects.list())) == len(objects)


def urls_hold_no_secrets(open_space: OpenSpace) -> None:
    """Handles of one space have one URL, and it names no user."""
    first, second = open_space(), open_space()
    assert first.url == second.url
    assert "@" not in first.url
    assert "://" in first.url


CHECKS: Final[tuple[Check, ...]] = (
    space_is_created_once,
    space_document_is_replaced,
    space_has_one_creator,
    objects_come_back,
    objects_are_stored_in_pieces,
    ranges_are_clipped,
    objects_are_stored_once,
    missing_objects_are_typed,
    deleted_objects_are_gone,
    views_outlive_deletion,
    aborted_uploads_leave_no_half_objects,
    finishing_is_idempotent,
    many_objects_fit_one_upload,
    threads_share_an_upload,
    uploads_of_equal_objects_meet,
    urls_hold_no_secrets,
)
