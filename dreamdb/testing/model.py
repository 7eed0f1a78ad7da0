"""The reference model: what a space holds, in dictionaries, with none of its machinery.

Source: design/0006 section 8.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamdb.errors import DreamDBError
from dreamdb.store import Backend, LogEntry, documents_of
from dreamdb.types import Address

__all__ = ["SpaceModel"]


@dataclass
class SpaceModel:
    """What a space should hold after the operations that were done on it.

    Parameters
    ----------
    objects : dict of Address to int
        Stored objects and the lengths of their payloads.
    refs : dict of str to Address
        Refs.
    logs : dict of str to list of LogEntry
        Reflogs, oldest first.
    documents : dict of str to bytes
        Documents beside the objects.
    """

    objects: dict[Address, int] = field(default_factory=dict)
    refs: dict[str, Address] = field(default_factory=dict)
    logs: dict[str, list[LogEntry]] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)

    def move(self, name: str, expected: Address | None, new: Address | None) -> bool:
        """Move a ref as a compare-and-swap does; return whether it was allowed.

        Parameters
        ----------
        name : str
            The ref.
        expected, new : Address or None
            Its value before and after.
        """
        if self.refs.get(name) != expected:
            return False
        self.refs.pop(name, None)
        if new is not None:
            self.refs[name] = new
        return True

    def change(self, key: str, expected: bytes | None, new: bytes | None) -> bool:
        """Replace a document as a compare-and-swap does; return whether it was allowed.

        Parameters
        ----------
        key : str
            The document.
        expected, new : bytes or None
            Its body before and after.
        """
        if self.documents.get(key) != expected:
            return False
        self.documents.pop(key, None)
        if new is not None:
            self.documents[key] = new
        return True

    def differences(self, backend: Backend) -> list[str]:
        """Return what a backend holds otherwise; empty when it agrees."""
        out = []
        refs = [(name, value.address) for name, value in backend.refs.list()]
        if refs != sorted(self.refs.items()):
            out.append(f"refs are {refs}, not {sorted(self.refs.items())}")
        if list(backend.refs.logs()) != sorted(self.logs):
            out.append(f"logs are of {list(backend.refs.logs())}, not of {sorted(self.logs)}")
        out += [
            f"the log of {name!r} differs"
            for name, entries in self.logs.items()
            if backend.refs.read_log(name) != entries
        ]
        listed = {address for address, _ in backend.objects.list()}
        if listed != set(self.objects):
            out.append(f"{len(listed)} objects are listed, not {len(self.objects)}")
        out += [
            f"{address.hex()} cannot be read"
            for address in self.objects
            if backend.objects.size(address) is None
        ]
        for key, body in self.documents.items():
            try:
                found = documents_of(backend).read(key)
            except DreamDBError as error:
                out.append(f"{key}: {error}")
                continue
            if found is None or found.body != body:
                out.append(f"{key} differs")
        return out
