"""The backends that the contract runs over: each maker gives an empty space."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from dreamdb.store import Backend, LeasedBackend, LeaseTerms, open_backend
from dreamdb.store.fsspec_store import FsspecBackend
from dreamdb.testing import CountingBackend, FaultBackend, OpenSpace

_NUMBERS = itertools.count()


def local(folder: Path) -> OpenSpace:
    return lambda: open_backend(folder / "space")


def local_single_writer(folder: Path) -> OpenSpace:
    return lambda: open_backend(folder / "space", storage_options={"single_writer": True})


def memory(folder: Path) -> OpenSpace:
    name = f"contract-{next(_NUMBERS)}"
    return lambda: open_backend(f"memory://{name}")


def fsspec_memory(folder: Path) -> OpenSpace:
    root = f"/contract-{next(_NUMBERS)}"

    def open_space() -> Backend:
        fs = MemoryFileSystem()
        return FsspecBackend.from_filesystem(
            fs, root, url=f"wrapped-memory:/{root}", single_writer=True
        )

    return open_space


def fsspec_local(folder: Path) -> OpenSpace:
    def open_space() -> Backend:
        fs = LocalFileSystem()
        root = str(folder / "space")
        return FsspecBackend.from_filesystem(
            fs, root, url=f"wrapped-local://{root}", single_writer=True
        )

    return open_space


def fsspec_dir(folder: Path) -> OpenSpace:
    def open_space() -> Backend:
        fs = DirFileSystem(path=str(folder), fs=LocalFileSystem())
        return FsspecBackend.from_filesystem(
            fs, "space", url=f"wrapped-dir://{folder}", single_writer=True
        )

    return open_space


def counted(folder: Path) -> OpenSpace:
    inner = memory(folder)
    return lambda: CountingBackend(inner())


def faultless(folder: Path) -> OpenSpace:
    inner = memory(folder)
    return lambda: FaultBackend(inner())


def leased(folder: Path) -> OpenSpace:
    inner = memory(folder)
    terms = LeaseTerms(30.0, 0.001)
    return lambda: LeasedBackend(inner(), terms)


MAKERS: list[Callable[[Path], OpenSpace]] = [
    local,
    local_single_writer,
    memory,
    fsspec_memory,
    fsspec_local,
    fsspec_dir,
    counted,
    faultless,
    leased,
]
