"""The checks of ``doctor``: known answers of hashes and codecs, and trials of a storage.

Source: design/0006.  Trials run in a scratch space below the space that is checked, so that they
meet the same disk or bucket and never the data.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dreamdb.errors import DreamDBError, IntegrityError, RefConflictError, StorageError

__all__ = ["Finding", "check_library", "check_storage"]

# The hash of nothing is BLAKE3's own test vector; the others are those of design/0002.
_BLAKE3_EMPTY: Final = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
_LOW_SPACE_NBYTES: Final = 1 << 30
_WAIT_S: Final = 0.2
_PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Parameters
    ----------
    name : str
        What was checked.
    status : str
        ``"ok"``, ``"warning"`` or ``"failed"``.
    detail : str
        In words.
    """

    name: str
    status: str
    detail: str


def _run(name: str, check: Callable[[], str | Finding]) -> Finding:
    try:
        found = check()
    except DreamDBError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return Finding(name, "failed", f"{error}{hint}")
    except (OSError, ValueError, AssertionError) as error:
        return Finding(name, "failed", f"{type(error).__name__}: {error}")
    return found if isinstance(found, Finding) else Finding(name, "ok", found)


def check_library() -> Iterator[Finding]:
    """Yield what the hash and codec self-tests find."""
    yield _run("hash", _hashes)
    yield _run("codecs", _codecs)


def _hashes() -> str:
    from blake3 import blake3

    from dreamdb.objects import Kind, address_of, from_text, to_text

    if blake3(b"").hexdigest() != _BLAKE3_EMPTY:
        raise IntegrityError("the blake3 package gives a wrong hash", hint="reinstall blake3")
    # The same bytes in one piece and in pieces, over a page's edge, give one address.
    payload = bytes(range(256)) * 65
    whole = address_of(Kind.FRAGMENT, [payload])
    pieces = address_of(Kind.FRAGMENT, [payload[:7], payload[7:16_384], payload[16_384:]])
    if whole != pieces or from_text(to_text(whole)) != whole:
        raise IntegrityError("addresses of equal bytes differ", hint="reinstall dreamdb")
    if address_of(Kind.NODE, [payload]) == whole:
        raise IntegrityError("objects of two kinds have one address", hint="reinstall dreamdb")
    return "BLAKE3 and addresses give the known answers"


def _codecs() -> str:
    """Write one record of every kind, and nulls, into memory; read them back and verify."""
    import numpy as np

    from dreamdb import Dataset, Schema, connect

    url = f"memory://doctor-{uuid.uuid4().hex}"
    schema = (
        Schema()
        .add_image("image", mime="png")
        .add_embedding("vector", dim=3)
        .add_tensor("tensor", "int16", (2, 2))
        .add_text("text")
        .add_scalar_bool("bool")
        .add_scalar_int("int")
        .add_scalar_float("float")
        .add_scalar_string("string")
        .add_scalar_categorical("categorical")
        .add_scalar_timestamp("timestamp")
        .add_list("list", "int")
    )
    record: dict[str, Any] = {
        "image": b"\x89PNG\x00\xff",
        "vector": np.array([0.5, -1.0, 2.0], np.float32),
        "tensor": np.array([[1, -2], [3, 4]], np.int16),
        "text": "für alle Fälle",
        "bool": True,
        "int": -(1 << 62),
        "float": 1e-300,
        "string": "",
        "categorical": "a",
        "timestamp": np.datetime64("2026-01-02T03:04:05.123456789", "ns"),
        "list": [1, 2, 3],
    }
    dataset = Dataset.create("every-kind", schema, url, data=[record, dict.fromkeys(record)])
    full, empty = dataset[0], dataset[1]
    wrong = [name for name in record if not np.array_equal(full[name], record[name])]
    wrong += [name for name in record if empty[name] is not None]
    report = connect(url).verify()
    if wrong or not report.ok:
        raise IntegrityError(f"values come back changed: {wrong or report.damage}")
    return f"{len(record)} kinds of fields come back as they were written"


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
    yield _run("space", lambda: _space(backend.url, document))
    scratch = _Scratch(backend.url, storage_options)
    try:
        yield _run("write", scratch.write)
        yield _run("race", scratch.race)
        yield _run("locks", scratch.locks)
        if isinstance(backend, LocalBackend):
            yield _run("rename", scratch.rename)
    finally:
        removed = _run("tidy up", scratch.remove)
    if removed.status != "ok":
        yield removed
    if isinstance(backend, LocalBackend):
        path = backend.path
        yield _run("disk", lambda: _free_space(path))


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
        self._path = Path(unquote_path(url), self._url.rsplit("/", 1)[1])

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
        return "of two writers of one ref exactly one wins"

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
            shutil.rmtree(self._path, ignore_errors=False)
        elif not self._url.startswith("memory://"):
            import fsspec

            system, path = fsspec.core.url_to_fs(self._url, **self._options)
            system.rm(path, recursive=True)
        return "removed"


def unquote_path(url: str) -> str:
    """Return the path of a ``file://`` URL; other URLs have none."""
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(url).path) if url.startswith("file://") else ""
