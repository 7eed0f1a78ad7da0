"""Documents beside the objects over storage that has conditional writes, or one writer.

Source: design/0015 section 2.
"""

from __future__ import annotations

from collections.abc import Iterator

from dreamdb.store.document_keys import (
    check_document_key,
    check_folder,
    document_conflict,
    is_document_name,
)
from dreamdb.store.fsspec_files import RemoteFiles
from dreamdb.store.fsspec_refs import ConditionalWriter, PreconditionFailed
from dreamdb.store.ports import StoredDocument

__all__ = ["FsspecDocuments"]


class FsspecDocuments:
    """The document port: one file per document.

    Parameters
    ----------
    files : RemoteFiles
        Where the files are.
    writer : ConditionalWriter
        How they change.
    """

    def __init__(self, files: RemoteFiles, writer: ConditionalWriter) -> None:
        self._files = files
        self._writer = writer

    def read(self, key: str) -> StoredDocument | None:
        """Return a document, or None when there is none."""
        check_document_key(key)
        found = self._writer.read(key)
        return None if found is None else StoredDocument(bytes(found[0]), found[1])

    def swap(
        self, key: str, expected: StoredDocument | None, new: bytes | None
    ) -> StoredDocument | None:
        """Replace a document if it still is what is expected."""
        check_document_key(key)
        try:
            if expected is None:
                if new is not None:
                    return StoredDocument(new, self._writer.create(key, new))
                if self._writer.read(key) is not None:
                    raise PreconditionFailed(key)
                return None
            if new is None:
                self._writer.remove(key, expected.token)
                return None
            return StoredDocument(new, self._writer.replace(key, new, expected.token))
        except PreconditionFailed:
            raise document_conflict(key, self._files.url) from None

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names below a folder, sorted."""
        names = self._files.names(check_folder(folder))
        yield from sorted(name for name in names if is_document_name(name))
