"""Several processes in one directory, and processes that are killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamdb.objects import Kind, OpenedObject
from dreamdb.store.local import LocalBackend
from dreamdb.testing.samples import numbered_address, numbered_value, sample_object, store_all
from tests.store import processes


@pytest.fixture
def space(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "space")


def test_processes_share_a_directory(space: LocalBackend, tmp_path: Path) -> None:
    url = space.url
    four = range(4)
    assert sum(processes.together(processes.create, [(url, n) for n in four])) == 1
    assert space.read_space() in {b'{"creator":%d}' % n for n in four}

    processes.together(processes.count, [(url, 40)] * 4)
    assert numbered_value(space.refs.read("counter")) == 4 * 40

    won = processes.together(processes.create_ref, [(url, n) for n in range(1, 5)])
    assert won.count(True) == 1
    assert numbered_value(space.refs.read("race")) == won.index(True) + 1

    new = processes.together(processes.upload_the_same, [(url, 30)] * 4)
    assert sum(new) >= 30
    assert len(list(space.objects.list())) == 30
    assert list((tmp_path / "space" / "tmp").iterdir()) == []

    marker = tmp_path / "inside"
    marker.mkdir()
    roles = [(url, str(marker), 150, exclusive) for exclusive in (False, False, True)]
    assert processes.together(processes.alternate, roles) == [0, 0, 0]


def test_a_killed_writer_leaves_a_usable_space(space: LocalBackend) -> None:
    space.create_space(b"{}")
    writers = [
        processes.SPAWN.Process(target=processes.commit_for_ever, args=(space.url, f"w{n}"))
        for n in range(2)
    ]
    for writer in writers:
        writer.start()
    while len(list(space.refs.list())) < 2 or len(list(space.objects.list())) < 40:
        assert all(writer.is_alive() for writer in writers)
    for writer in writers:
        processes.kill(writer)
    for address in [value.address for _, value in space.refs.list()]:
        OpenedObject(address, space.objects.open(address), Kind.FRAGMENT).view()
    for address, _ in space.objects.list():
        OpenedObject(address, space.objects.open(address), Kind.FRAGMENT).view()
    with space.objects.hold_exclusive():
        space.remove_stale_temporaries(min_age_s=-1)
    assert list((Path(space.path) / "tmp").iterdir()) == []
    assert store_all(space, sample_object(10**6)) == [True]
    for name, value in list(space.refs.list()):
        held = space.refs.read(name)
        assert held == value
        space.refs.swap(name, held, numbered_address(1))


def test_the_lock_of_a_killed_process_is_free(space: LocalBackend) -> None:
    space.create_space(b"{}")
    told = processes.SPAWN.Event()
    holder = processes.SPAWN.Process(target=processes.hold_for_ever, args=(space.url, told))
    holder.start()
    told.wait(60)
    processes.kill(holder)
    with space.objects.hold():
        assert store_all(space, sample_object(1)) == [True]


def test_a_forked_child_goes_on(space: LocalBackend) -> None:
    space.create_space(b"{}")
    store_all(space, sample_object(1))
    held = space.refs.swap("main", None, numbered_address(1))

    def child() -> int:
        store_all(space, sample_object(2))
        with space.objects.hold():
            return numbered_value(space.refs.swap("main", held, numbered_address(2)))

    with space.objects.hold_exclusive():
        pass
    assert processes.in_fork(child) == 2
    assert numbered_value(space.refs.read("main")) == 2
    assert store_all(space, sample_object(1), sample_object(2)) == [False, False]


def test_a_child_forked_within_a_commit_does_not_keep_the_lock(space: LocalBackend) -> None:
    space.create_space(b"{}")
    started = processes.multiprocessing.get_context("fork").Event()
    sleeper = processes.multiprocessing.get_context("fork").Process(target=started.wait)
    with space.objects.hold():
        sleeper.start()
    with space.objects.hold_exclusive():  # The child still has a copy of the descriptor.
        assert sleeper.is_alive()
    started.set()
    sleeper.join()
