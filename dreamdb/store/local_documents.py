"""Documents beside the objects as files, replaced under a lock.

Source: design/0015 section 2.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from dreamdb.store.document_keys import (
    check_document_key,
    check_folder,
    document_conflict,
    is_document_name,
)
from dreamdb.store.local_files import Disk, disk_error, ensure_directory
from dreamdb.store.local_locks import FileLocks
from dreamdb.store.ports import StoredDocument

__all__ = ["LocalDocuments"]

_LOCK: Final = ".documents"
"""One lock for all documents: they change rarely; no ref key starts with a dot."""


class LocalDocuments:
    """The document port over a directory.

    Parameters
    ----------
    disk : Disk
        The space's directory.
    locks : FileLocks
        Its locks.
    """

    def __init__(self, disk: Disk, locks: FileLocks) -> None:
        self._disk = disk
        self._locks = locks

    def read(self, key: str) -> StoredDocument | None:
        """Return a document, or None when there is none."""
        folder, name = check_document_key(key)
        path = self._disk.path(folder, name)
        try:
            with open(path, "rb") as file:
                body = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_error(error, f"read {path}", writing=False) from error
        return StoredDocument(body, body)

    def swap(
        self, key: str, expected: StoredDocument | None, new: bytes | None
    ) -> StoredDocument | None:
        """Replace a document if it still is what is expected, durably."""
        folder, name = check_document_key(key)
        directory = self._disk.path(folder)
        with self._locks.exclusive(_LOCK, what=f"the documents of {self._disk.root}"):
            found = self.read(key)
            if (found and found.body) != (expected and expected.body):
                raise document_conflict(key, self._disk.root)
            try:
                if new is not None:
                    ensure_directory(directory)
                    self._disk.publish([new], directory, name)
                elif found is not None:
                    os.unlink(os.path.join(directory, name))
                    self._disk.sync_directory(directory)
            except OSError as error:
                raise disk_error(error, f"change {key} in {self._disk.root}", writing=True) from (
                    error
                )
        return None if new is None else StoredDocument(new, new)

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names below a folder, sorted."""
        path = self._disk.path(check_folder(folder))
        try:
            names = os.listdir(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise disk_error(error, f"list {path}", writing=False) from error
        yield from sorted(name for name in names if is_document_name(name))
