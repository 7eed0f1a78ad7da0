"""Trials of a storage for ``doctor``.

Source: design/0006.  They run in a scratch space below the space that is checked, so that they
meet the same disk or bucket and never the data.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dreamdb.cli.checks import Finding, run_check
from dreamdb.errors import DreamDBError, RefConflictError, StorageError

__all__ = ["check_storage"]

_LOW_SPACE_NBYTES: Final = 1 << 30
_WAIT_S: Final = 0.2
_PATIENCE_S: Final = 30.0
_MOVES: Final = 10
# Says "waits" when it has waited in vain for a while, and "entered" when it has the lock.
_OTHER_PROCESS: Final = """
import json, sys, threading
from dreamdb.store import open_backend
url, wait, patience = json.loads(sys.argv[1])
entered = threading.Event()
def commit():
    with open_backend(url).objects.hold():
        entered.set()
thread = threading.Thread(target=commit)
thread.start()
if not entered.wait(wait):
    print("waits", flush=True)
thread.join(patience)
if entered.is_set():
    print("entered", flush=True)
"""


def check_storage(url: str, storage_options: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what trials of a storage find.

    Parameters
    ----------
    url : str
        Where the space is, or will be.
    storage_options : mapping
        Settings of the file system.
    """
    from dreamdb.store import open_backend
    from dreamdb.store.local import LocalBackend

    try:
        backend = open_backend(url, storage_options=storage_options)
        document = backend.read_space()
    except DreamDBError as error:
        yield Finding("space", "failed", str(error))
        return
    yield run_check("space", lambda: _space(backend.url, document))
    scratch = _Scratch(backend.url, storage_options)
    try:
        yield run_check("write", scratch.write)
        yield run_check("race", scratch.race)
        yield run_check("locks", scratch.locks)
        if isinstance(backend, LocalBackend):
            if not storage_options.get("single_writer"):
                yield run_check("processes", scratch.processes)
            yield run_check("rename", scratch.rename)
    finally:
        removed = run_check("tidy up", scratch.remove)
    if removed.status != "ok":
        yield removed
    if isinstance(backend, LocalBackend):
        path = backend.path
        yield run_check("disk", lambda: _free_space(path))


def _space(url: str, document: bytes | None) -> str | Finding:
    from dreamdb.model import check_space

    if document is None:
        return Finding("space", "warning", f"there is no space at {url} yet: dreamdb init makes it")
    check_space(document, url)
    return f"{url} has a format that this version reads and writes"


def _free_space(path: str) -> str | Finding:
    from dreamdb.dataset import format_nbytes

    while not os.path.exists(path):
        path = os.path.dirname(path)
    usage = shutil.disk_usage(path)
    told = f"{format_nbytes(usage.free)} free of {format_nbytes(usage.total)}"
    return told if usage.free >= _LOW_SPACE_NBYTES else Finding("disk", "warning", told)


class _Scratch:
    """A space of its own below the one that is checked."""

    def __init__(self, url: str, storage_options: Mapping[str, Any]) -> None:
        self._options = dict(storage_options)
        separator = "-" if url.startswith("memory://") else "/"
        self._url = f"{url.rstrip('/')}{separator}doctor-{uuid.uuid4().hex[:12]}"
        self._path = Path(_path_of(url), self._url.rsplit("/", 1)[1])

    def _open(self) -> Any:
        from dreamdb.store import open_backend

        return open_backend(self._url, storage_options=self._options)

    def write(self) -> str:
        """Make a space, store an object and read it back."""
        from dreamdb.model import new_space
        from dreamdb.objects import Kind, seal

        backend = self._open()
        backend.create_space(new_space())
        sealed = seal(Kind.FRAGMENT, [b"doctor" * 10_000], compress=False)
        upload = backend.objects.upload()
        upload.put(sealed)
        upload.finish()
        if self._open().objects.size(sealed.address) is None:
            raise StorageError("an object that was written durably is not there")
        return "objects are written, synced and found again"

    def race(self) -> str:
        """Let two handles make and move one ref: exactly one may win each time."""
        from dreamdb.objects import Kind, address_of

        first, second = self._open(), self._open()
        one, two, three = (address_of(Kind.MANIFEST, [bytes([n])]) for n in range(3))
        held = first.refs.swap("race", None, one)
        self._must_lose(lambda: second.refs.swap("race", None, two), "made a ref twice")
        stale = second.refs.read("race")
        first.refs.swap("race", held, two)
        self._must_lose(lambda: second.refs.swap("race", stale, three), "lost an update")
        found = second.refs.read("race")
        if found is None or found.address != two:
            raise StorageError("a ref does not hold what was written to it")
        second.refs.swap("race", found, None)
        self._race_together()
        return "of two writers of one ref exactly one wins"

    def _race_together(self) -> None:
        """Let two threads move one ref through numbered values; no number may be skipped."""
        from dreamdb.objects import Kind, address_of

        values = [address_of(Kind.MANIFEST, [b"race %d" % n]) for n in range(2 * _MOVES + 1)]
        self._open().refs.swap("together", None, values[0])
        errors: list[BaseException] = []

        def move() -> None:
            backend, done = self._open(), 0
            try:
                while done < _MOVES:
                    held = backend.refs.read("together")
                    if held is None:
                        raise StorageError("a ref vanished while it was moved")
                    following = values[values.index(held.address) + 1]
                    try:
                        backend.refs.swap("together", held, following)
                    except RefConflictError:
                        continue
                    done += 1
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        threads = [threading.Thread(target=move) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        found = self._open().refs.read("together")
        if found is None or found.address != values[-1]:
            raise StorageError("two writers of one ref have overwritten each other's moves")

    @staticmethod
    def _must_lose(swap: Callable[[], object], what: str) -> None:
        try:
            swap()
        except RefConflictError:
            return
        raise StorageError(f"this storage {what}: it has no compare-and-swap")

    def locks(self) -> str:
        """Let a commit wait for the collector."""
        first, second = self._open(), self._open()
        entered = threading.Event()
        errors: list[BaseException] = []

        def commit() -> None:
            try:
                with second.objects.hold():
                    entered.set()
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)
                entered.set()

        waiting = threading.Thread(target=commit, daemon=True)
        with first.objects.hold_exclusive():
            waiting.start()
            overtaken = entered.wait(_WAIT_S)
        released = entered.wait(_PATIENCE_S)
        if errors:
            raise errors[0]
        if overtaken:
            raise StorageError("a commit did not wait for the collector: locks do not work here")
        if not released:
            raise StorageError("a lock that was released stays taken")
        return "commits and the collector exclude each other"

    def processes(self) -> str:
        """Let a commit of another process wait for the collector of this one."""
        told = json.dumps([self._url, _WAIT_S, _PATIENCE_S])
        backend = self._open()
        with backend.objects.hold_exclusive():
            other = subprocess.Popen(
                [sys.executable, "-c", _OTHER_PROCESS, told],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert other.stdout is not None
            overtaken = other.stdout.readline().strip()
        try:
            rest, errors = other.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            other.kill()
            other.communicate()
            raise StorageError("another process did not get a lock that was released") from None
        if overtaken == "entered":
            raise StorageError("a commit of another process did not wait: locks do not work here")
        if overtaken != "waits" or rest.strip() != "entered":
            last = (errors.strip().splitlines() or ["no answer"])[-1]
            raise StorageError(f"another process could not take a lock: {last}")
        return "two processes exclude each other"

    def rename(self) -> str:
        """Write, sync and rename a file; a new one must not replace an old one by linking."""
        source, target = self._path / "tmp" / "probe", self._path / "probe"
        with open(source, "wb") as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
        os.replace(source, target)
        if target.read_bytes() != b"doctor" or source.exists():
            raise StorageError("a renamed file is not what was written")
        return "files are synced and renamed atomically"

    def remove(self) -> str:
        """Remove the scratch space."""
        if self._url.startswith("file://"):
            if self._path.exists():
                shutil.rmtree(self._path)
        elif not self._url.startswith("memory://"):
            from dreamdb.store.fsspec_urls import parse_remote

            system, path = parse_remote(self._url, self._options).connect()
            if system.exists(path):
                system.rm(path, recursive=True)
        return "the scratch space is removed"


def _path_of(url: str) -> str:
    """Return the path of a ``file://`` URL; other URLs have none."""
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(url).path) if url.startswith("file://") else ""
