"""Catalogs: what a version tag names, a manifest for every table of a space.

Source: design/0002 section 15, design/0020 section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamdb.errors import FormatError, InvalidInputError
from dreamdb.model.documents import FORMAT, _address, _count, _members, _str, _strings
from dreamdb.objects import check_ref_name, decode_document, encode_document, to_text
from dreamdb.types import Address, Bytes

__all__ = ["Catalog"]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The state of several datasets at one time.

    Parameters
    ----------
    label : str
        The version tag's name.
    tables : mapping of str to Address
        The manifest of each dataset, by the branch's name.
    author, message : str
        Who and why.
    time_ns : int
        Nanoseconds since the epoch; no manifest of the catalog is later.
    metadata : mapping of str to str
        Notes, such as how the tables are exported for training.
    """

    label: str
    tables: Mapping[str, Address]
    author: str
    message: str
    time_ns: int
    metadata: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the payload of the catalog object."""
        return encode_document(
            {
                "format": FORMAT,
                "label": self.label,
                "tables": {name: to_text(manifest) for name, manifest in self.tables.items()},
                "author": self.author,
                "message": self.message,
                "time_ns": self.time_ns,
                "metadata": dict(self.metadata),
            }
        )

    @classmethod
    def decode(cls, payload: Bytes) -> Catalog:
        """Parse and check a catalog object."""
        document = decode_document(payload, what="a catalog")
        names = {"format", "label", "tables", "author", "message", "time_ns", "metadata"}
        _members(document, names, "catalog")
        tables: Any = document["tables"]
        if not isinstance(tables, dict):
            raise FormatError("a catalog's tables are malformed")
        try:
            label = check_ref_name(document["label"])
            listed = {check_ref_name(name): value for name, value in tables.items()}
        except InvalidInputError as error:
            raise FormatError(f"a catalog holds a malformed name: {error}") from None
        return cls(
            label,
            {name: _address(value, f"the manifest of {name!r}") for name, value in listed.items()},
            _str(document["author"], "the author"),
            _str(document["message"], "the message"),
            _count(document["time_ns"], "the time"),
            _strings(document["metadata"], "the metadata"),
        )
