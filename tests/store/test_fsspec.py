"""The generic store: what it needs, what it says when that is missing, and its seam for S3."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from dreamdb.errors import (
    InvalidInputError,
    ReadOnlyError,
    RefConflictError,
    StorageError,
)
from dreamdb.objects import object_key
from dreamdb.store.fsspec_files import RemoteFiles
from dreamdb.store.fsspec_refs import FsspecRefs, PreconditionFailed
from dreamdb.store.fsspec_store import FsspecBackend
from dreamdb.testing.samples import (
    numbered_address,
    numbered_value,
    payload_of,
    raises,
    sample_object,
    store_all,
)
from tests.store.processes import in_fork
from tests.store.spaces import fsspec_memory

SECRET = "hunter2-hunter2"


class FailingFileSystem(MemoryFileSystem):
    """Fails every call with the error that it was given."""

    protocol = "failing"
    cachable = False

    def __init__(self, error: Exception, **options: Any) -> None:
        super().__init__(**options)
        self.error = error

    def _fail(self, *arguments: Any, **options: Any) -> Any:
        raise self.error

    cat_file = info = pipe_file = ls = find = rm_file = makedirs = _fail


def failing(error: Exception) -> FsspecBackend:
    fs = FailingFileSystem(error, password=SECRET)
    return FsspecBackend.from_filesystem(fs, "/x", url="failing://x", single_writer=True)


def read_only() -> FsspecBackend:
    return FsspecBackend.from_filesystem(MemoryFileSystem(), "/ro", url="wrapped-memory://ro")


def test_without_compare_and_swap_reading_works_and_writing_is_refused() -> None:
    backend = read_only()
    store_all(backend, sample_object(1))
    assert payload_of(backend, sample_object(1).address)
    assert backend.refs.read("main") is None
    for call in (
        lambda: backend.create_space(b"{}"),
        lambda: backend.refs.swap("main", None, numbered_address(1)),
    ):
        error = raises(StorageError, call)
        assert "cannot compare-and-swap" in str(error)
        assert "single_writer" in str(getattr(error, "hint", ""))
    assert backend.read_space() is None


def test_a_wrapped_file_system_does_not_pickle() -> None:
    with pytest.raises(InvalidInputError, match="wraps a file system"):
        pickle.dumps(read_only())


@pytest.mark.parametrize(
    ("error", "expected", "transient"),
    [
        (ValueError(f"odd answer with {SECRET} in it"), StorageError, False),
        (TimeoutError("slow"), StorageError, True),
        (ConnectionResetError("gone"), StorageError, True),
        (OSError(5, "Input/output error"), StorageError, False),
    ],
)
def test_every_failure_is_typed_and_holds_no_secret(
    error: Exception, expected: type[Exception], transient: bool
) -> None:
    backend = failing(error)
    address = sample_object(1).address
    for call in (
        backend.read_space,
        lambda: backend.create_space(b"{}"),
        lambda: backend.objects.open(address),
        lambda: backend.objects.read(address, 0, 5),
        lambda: backend.objects.size(address),
        lambda: list(backend.objects.list()),
        lambda: backend.objects.delete(address),
        lambda: store_all(backend, sample_object(1)),
        lambda: backend.refs.read("main"),
        lambda: list(backend.refs.list()),
    ):
        caught = raises(expected, call)
        assert isinstance(caught, StorageError)
        assert SECRET not in f"{caught!r} {caught.hint} {caught.details}"
        assert "failing://x" in str(caught)
        assert caught.transient is transient


def test_a_refused_write_is_a_read_only_error() -> None:
    backend = failing(PermissionError("denied"))
    raises(ReadOnlyError, lambda: backend.objects.delete(sample_object(1).address))
    raises(StorageError, backend.read_space)


def test_an_upload_that_failed_stays_failed() -> None:
    class FullFileSystem(MemoryFileSystem):
        protocol = "full"
        cachable = False

        def pipe_file(self, *arguments: Any, **options: Any) -> None:
            raise OSError(28, "No space left on device")

    backend = FsspecBackend.from_filesystem(
        FullFileSystem(), "/full", url="full://x", single_writer=True
    )
    upload = backend.objects.upload()
    upload.put(sample_object(1))
    with pytest.raises(StorageError, match="No space left"):
        upload.finish()
    upload.abort()


def test_growing_files_are_written_aside_and_renamed(tmp_path: Path) -> None:
    written: list[str] = []

    class WatchedFileSystem(LocalFileSystem):
        cachable = False

        def pipe_file(self, path: str, *arguments: Any, **options: Any) -> None:
            written.append(path)
            super().pipe_file(path, *arguments, **options)

    backend = FsspecBackend.from_filesystem(
        WatchedFileSystem(), str(tmp_path), url=f"watched://{tmp_path}", single_writer=True
    )
    sealed = sample_object(1)
    store_all(backend, sealed)
    backend.refs.swap("main", None, sealed.address)
    assert len(written) == 2
    assert all("/tmp/" in path.removeprefix(str(tmp_path)) for path in written)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (tmp_path / object_key(sealed.address)).read_bytes() == sealed.to_bytes()


def test_a_truncated_object_is_stored_again(tmp_path: Path) -> None:
    backend = FsspecBackend.from_filesystem(
        LocalFileSystem(), str(tmp_path), url=f"wrapped-local://{tmp_path}", single_writer=True
    )
    sealed = sample_object(1, 1_000)
    store_all(backend, sealed)
    path = tmp_path / object_key(sealed.address)
    for nbytes in (0, 10, 64, 500):
        path.write_bytes(sealed.to_bytes()[:nbytes])
        assert store_all(backend, sealed) == [True]
        assert path.read_bytes() == sealed.to_bytes()


def test_a_forked_child_uploads_with_threads_of_its_own(tmp_path: Path) -> None:
    backend = FsspecBackend.from_filesystem(
        LocalFileSystem(), str(tmp_path), url=f"forked-local://{tmp_path}", single_writer=True
    )
    store_all(backend, *(sample_object(n) for n in range(10)))
    new = in_fork(lambda: store_all(backend, *(sample_object(n) for n in range(5, 15))))
    assert new == [False] * 5 + [True] * 5
    assert len(list(backend.objects.list())) == 15


class VersionedFiles:
    """A server with conditional writes: versions are numbers, never the bytes."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, int]] = {}
        self.changes = 0

    def read(self, key: str) -> tuple[bytes, object] | None:
        return self.files.get(key)

    def create(self, key: str, body: bytes) -> object:
        if key in self.files:
            raise PreconditionFailed(key)
        return self._write(key, body)

    def replace(self, key: str, body: bytes, version: object) -> object:
        if key not in self.files or self.files[key][1] != version:
            raise PreconditionFailed(key)
        return self._write(key, body)

    def remove(self, key: str, version: object) -> None:
        if key not in self.files or self.files[key][1] != version:
            raise PreconditionFailed(key)
        del self.files[key]

    def _write(self, key: str, body: bytes) -> object:
        self.changes += 1
        self.files[key] = (body, self.changes)
        return self.changes


def test_conditional_writes_plug_in(tmp_path: Path) -> None:
    server = VersionedFiles()
    files = RemoteFiles(lambda: (MemoryFileSystem(), "/versioned"), url="versioned://x")
    backend = FsspecBackend(files, server)
    assert backend.create_space(b"{}")
    refs = FsspecRefs(files, server)
    first = refs.swap("main", None, numbered_address(1))
    second = refs.swap("main", first, numbered_address(2))
    assert numbered_value(refs.read("main")) == 2
    for expected in (None, first):
        error = raises(RefConflictError, refs.swap, "main", expected, numbered_address(3))
        assert isinstance(error, RefConflictError)
        assert error.details["actual"] == numbered_address(2)
    assert refs.swap("main", second, None) is None
    assert refs.read("main") is None


def test_two_handles_of_one_memory_file_system_share_a_space(tmp_path: Path) -> None:
    open_space = fsspec_memory(tmp_path)
    open_space().refs.swap("main", None, numbered_address(4))
    assert numbered_value(open_space().refs.read("main")) == 4
