"""Functions that run in other processes, and ways to run them."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dreamdb.errors import RefConflictError
from dreamdb.objects import Kind, OpenedObject
from dreamdb.store import open_backend
from dreamdb.testing.samples import (
    count_up,
    numbered_address,
    numbered_value,
    sample_object,
    store_all,
)

SPAWN = multiprocessing.get_context("spawn")
_NOBODY = 65_534


def together(function: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Run a function in one spawned process per tuple of arguments, all started at once."""
    with SPAWN.Pool(len(arguments)) as pool:
        return pool.starmap(function, arguments, chunksize=1)


def in_fork(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a forked child and return its result, which must be plain JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        signal.alarm(20)  # A child that hangs dies, and fails its test.
        try:
            os.write(writing, json.dumps(function(*arguments)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return json.loads(answer)


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[tuple[Path, Callable[..., Any]]]:
    """Give a folder, and a way to run functions without the rights of root.

    Root ignores file modes, so there the function runs in a child that has become another user.
    """
    folder = Path(tempfile.mkdtemp(prefix="dreamdb-test-"))
    folder.chmod(0o755)

    def without_rights(function: Callable[..., Any], *arguments: Any) -> Any:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
        return function(*arguments)

    def run(function: Callable[..., Any], *arguments: Any) -> Any:
        if os.geteuid() == 0:
            return in_fork(without_rights, function, *arguments)
        return function(*arguments)

    try:
        yield folder, run
    finally:
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder)


def count(url: str, times: int) -> int:
    return count_up(open_backend(url), "counter", times)


def create(url: str, number: int) -> bool:
    return open_backend(url).create_space(b'{"creator":%d}' % number)


def create_ref(url: str, number: int) -> bool:
    try:
        open_backend(url).refs.swap("race", None, numbered_address(number))
    except RefConflictError:
        return False
    return True


def upload_the_same(url: str, numbers: int) -> int:
    """Upload objects that every other process uploads too; return how many were new here."""
    backend = open_backend(url)
    objects = [sample_object(n, 500 + 4_000 * (n % 3)) for n in range(numbers)]
    new = store_all(backend, *objects)
    for sealed in objects:
        OpenedObject(sealed.address, backend.objects.open(sealed.address), Kind.FRAGMENT).view()
    return sum(new)


def alternate(url: str, marker: str, times: int, exclusive: bool) -> int:
    """Hold the space again and again; return how often an excluded process was inside too."""
    objects = open_backend(url).objects
    folder = Path(marker)
    met = 0
    for _ in range(times):
        with objects.hold_exclusive() if exclusive else objects.hold():
            mine = folder / f"{'collect' if exclusive else 'commit'}-{os.getpid()}"
            mine.touch()
            others = [path for path in folder.iterdir() if path != mine]
            met += sum(1 for path in others if exclusive or path.name.startswith("collect"))
            mine.unlink()
    return met


def commit_for_ever(url: str, name: str) -> None:
    """Commit numbered objects, each named by a ref, until killed."""
    backend = open_backend(url)
    number = numbered_value(None)
    held = backend.refs.read(name)
    while True:
        number += 1
        sealed = sample_object(number, 300 + 3_000 * (number % 4))
        with backend.objects.hold():
            store_all(backend, sample_object(-number), sealed)
            held = backend.refs.swap(name, held, sealed.address)


def hold_for_ever(url: str, told: Any) -> None:
    with open_backend(url).objects.hold_exclusive():
        told.set()
        time.sleep(3_600)


def kill(process: Any) -> None:
    """End a process that these tests have started, as a power cut would."""
    os.kill(process.pid, signal.SIGKILL)
    process.join()
