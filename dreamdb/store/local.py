"""A space in a directory.

Source: design/0001 section 2, design/0006 section 1.  Layout::

    space.json           what the space is
    objects/<1>/<53>     immutable objects, mode 0444
    refs/<key>           33 bytes each
    logs/<key>           reflog, one JSON line per move
    locks/<key>          empty files to lock; ``.space`` stands for the whole space
    tmp/                 files on their way; safe to remove when no writer runs
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from dreamdb.errors import InvalidInputError
from dreamdb.objects import FOLDERS
from dreamdb.store.local_files import Disk, disk_error, ensure_directory
from dreamdb.store.local_locks import FileLocks
from dreamdb.store.local_objects import SPACE_LOCK, LocalObjects
from dreamdb.store.local_refs import LocalRefs

__all__ = ["LocalBackend"]

_SPACE = "space.json"
# No ref has this key: none starts with a dot.
_DOCUMENT_LOCK = ".document"
_FOLDERS = ("objects", "refs", "logs", "locks", "tmp")
_STALE_AFTER_S = 60.0


class LocalBackend:
    """Both ports over a directory.  Opening it reads and writes nothing.

    Parameters
    ----------
    path : str or os.PathLike
        The directory; it need not exist yet.
    single_writer : bool
        For file systems without working locks: lock between the threads of this process only.
        The user promises that no other process writes.

    Raises
    ------
    InvalidInputError
        When the path is a file.
    """

    def __init__(self, path: str | os.PathLike[str], *, single_writer: bool = False) -> None:
        # Links are resolved so that equal URLs name the same space.
        root = os.path.realpath(os.path.expanduser(os.fspath(path)))
        if os.path.exists(root) and not os.path.isdir(root):
            raise InvalidInputError(
                f"{root} is a file; a space is a directory",
                hint="name the directory that holds space.json, or a new one",
            )
        self._single_writer = single_writer
        self._disk = Disk(root)
        self._locks = FileLocks(self._disk.path("locks"), in_process=single_writer)
        self.objects = LocalObjects(self._disk, self._locks)
        self.refs = LocalRefs(self._disk, self._locks)

    @property
    def url(self) -> str:
        """Canonical URL of the directory."""
        return Path(self._disk.root).as_uri()

    @property
    def path(self) -> str:
        """Absolute path of the directory."""
        return self._disk.root

    @property
    def syncs(self) -> int:
        """How many files and directories this handle has synced; for request budgets."""
        return self._disk.syncs

    def read_space(self) -> bytes | None:
        """Return the bytes of ``space.json``, or None when there is no space here."""
        try:
            with open(self._disk.path(_SPACE), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_error(error, f"read {self._disk.path(_SPACE)}", writing=False) from error

    def create_space(self, document: bytes) -> bool:
        """Write ``space.json`` unless there is one; return whether this call wrote it."""
        root = self._disk.root
        try:
            for folder in _FOLDERS:
                ensure_directory(self._disk.path(folder))
            for shard in FOLDERS:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self._disk.path("objects", shard))
            # Before the space is there: no commit ever makes a folder, nor syncs this one.
            self._disk.sync_directory(self._disk.path("objects"))
            # Creators take turns; a reader sees the document whole or not at all.
            with self._locks.exclusive(SPACE_LOCK, what=f"the space {root}"):
                if os.path.lexists(self._disk.path(_SPACE)):
                    return False
                self._disk.publish([document], root, _SPACE)
                return True
        except OSError as error:
            raise disk_error(error, f"create a space in {root}", writing=True) from error

    def replace_space(self, expected: bytes, document: bytes) -> bool:
        """Replace ``space.json`` if it still is what is expected; return whether it was."""
        root = self._disk.root
        try:
            with self._locks.exclusive(_DOCUMENT_LOCK, what=f"the document of {root}"):
                if self.read_space() != expected:
                    return False
                self._disk.publish([document], root, _SPACE)
                return True
        except OSError as error:
            raise disk_error(error, f"change {_SPACE} in {root}", writing=True) from error

    def remove_stale_temporaries(self, *, min_age_s: float = _STALE_AFTER_S) -> int:
        """Remove temporaries whose writer has died; return how many.

        Parameters
        ----------
        min_age_s : float
            Younger ones are left alone, in seconds.
        """
        try:
            return self._disk.remove_stale_temporaries(min_age_s=min_age_s)
        except OSError as error:
            raise disk_error(
                error, f"remove temporaries in {self._disk.root}", writing=True
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._disk.root, self._single_writer)

    def __repr__(self) -> str:
        return f"LocalBackend({self._disk.root!r})"


def _reopen(root: str, single_writer: bool) -> LocalBackend:
    return LocalBackend(root, single_writer=single_writer)
