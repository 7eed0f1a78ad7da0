"""The trash of a directory: ``trash/<time>/<53>``, filled and emptied by renames.

Source: design/0015 section 4.  Only the collector calls this, while it holds the space alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TypeAlias

from dreamdb.errors import InvalidInputError, ObjectMissingError
from dreamdb.objects import from_text, object_key, to_text
from dreamdb.store.local_files import Disk, disk_error, ensure_directory
from dreamdb.store.ports import TrashedObject
from dreamdb.types import Address

__all__ = ["LocalTrash"]

_Paths: TypeAlias = list[str]


class LocalTrash:
    """Objects that the collector has taken out of a directory.

    Parameters
    ----------
    disk : Disk
        The space's directory.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._root = disk.path("trash")
        self._touched: set[str] = set()

    def throw(self, address: Address, time_ns: int) -> None:
        """Move an object from the store to the trash; missing is not an error."""
        folder = os.path.join(self._root, f"{time_ns:020d}")
        path = self._disk.path(*object_key(address).split("/"))
        try:
            ensure_directory(folder)
            os.replace(path, os.path.join(folder, os.path.basename(path)))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failed(error, "throw away", address) from error
        self._touched |= {os.path.dirname(path), folder}

    def flush(self) -> None:
        """Return once all moves so far are durable."""
        try:
            for folder in sorted(self._touched):
                with contextlib.suppress(FileNotFoundError):
                    self._disk.sync_directory(folder)
        except OSError as error:
            raise disk_error(error, f"sync the trash of {self._disk.root}", writing=True) from error
        self._touched.clear()

    def list(self) -> Iterator[TrashedObject]:
        """Yield what lies in the trash; foreign files are passed over."""
        for address, path, time_ns in self._files():
            try:
                yield TrashedObject(address, os.stat(path).st_size, time_ns)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise disk_error(error, f"list {path}", writing=False) from error

    def open(self, address: Address) -> memoryview:
        """Return a whole stored object from the trash, unverified."""
        for path in self._paths(address):
            try:
                with open(path, "rb") as file:
                    return memoryview(file.read())
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._failed(error, "read", address) from error
        name = to_text(address)
        raise ObjectMissingError(f"object {name} is not in the trash", object=name)

    def restore(self, address: Address) -> None:
        """Move an object back into the store; one that is there again is left alone."""
        target = self._disk.path(*object_key(address).split("/"))
        for path in self._paths(address):
            try:
                if os.path.exists(target):
                    os.unlink(path)
                else:
                    ensure_directory(os.path.dirname(target))
                    os.replace(path, target)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._failed(error, "restore", address) from error
            self._touched |= {os.path.dirname(path), os.path.dirname(target)}
            self._tidy(os.path.dirname(path))

    def remove(self, address: Address) -> None:
        """Delete an object from the trash for good; missing is not an error."""
        for path in self._paths(address):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._failed(error, "delete", address) from error
            self._touched.add(os.path.dirname(path))
            self._tidy(os.path.dirname(path))

    def _folders(self) -> Iterator[tuple[str, int]]:
        try:
            names = sorted(os.listdir(self._root))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise disk_error(error, f"list {self._root}", writing=False) from error
        for name in names:
            if len(name) == 20 and name.isdecimal():
                yield os.path.join(self._root, name), int(name)

    def _files(self) -> Iterator[tuple[Address, str, int]]:
        for folder, time_ns in self._folders():
            try:
                names = os.listdir(folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            for name in names:
                with contextlib.suppress(InvalidInputError):
                    yield from_text(name), os.path.join(folder, name), time_ns

    def _paths(self, address: Address) -> _Paths:
        name = to_text(address)
        return [
            path
            for folder, _ in self._folders()
            if os.path.lexists(path := os.path.join(folder, name))
        ]

    def _tidy(self, folder: str) -> None:
        """Remove a folder of the trash when nothing is left in it."""
        with contextlib.suppress(OSError):
            os.rmdir(folder)
            self._touched.discard(folder)
            self._touched.add(self._root)

    def _failed(self, error: OSError, verb: str, address: Address) -> Exception:
        doing = f"{verb} object {to_text(address)} in the trash of {self._disk.root}"
        return disk_error(error, doing, writing=True)
