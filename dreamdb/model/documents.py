"""Content, manifest, tag and space documents.

Source: design/0002 sections 9 and 12.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dreamdb.errors import FormatError, InvalidInputError, UnsupportedFormatError
from dreamdb.model.marks import CATALOG, CUTS, REDACTIONS
from dreamdb.model.schema import FieldList
from dreamdb.objects import check_ref_name, decode_document, encode_document, from_text, to_text
from dreamdb.types import Address, Bytes

__all__ = ["Content", "Manifest", "Tag", "check_space", "new_space", "skip_generation"]

FORMAT: Final = 1
CODED_FORMAT: Final = 2
"""Of contents in which a field is stored as codes: readers of format 1 must refuse them."""
REQUIRED_FEATURES: Final[frozenset[str]] = frozenset({CATALOG, CUTS, REDACTIONS})


def _text(address: Address | None) -> str | None:
    return None if address is None else to_text(address)


def _address(value: Any, what: str) -> Address:
    if not isinstance(value, str):
        raise FormatError(f"{what} is not an address")
    try:
        return from_text(value)
    except InvalidInputError as error:
        raise FormatError(f"{what}: {error}") from None


def _optional(value: Any, what: str) -> Address | None:
    return None if value is None else _address(value, what)


def _members(document: dict[str, Any], names: set[str], what: str, latest: int = FORMAT) -> None:
    version = document.get("format")
    if type(version) is not int or not FORMAT <= version <= latest:
        raise UnsupportedFormatError(
            f"a {what} has format {version!r}",
            hint="a newer dreamdb wrote it: pip install -U dreamdb",
        )
    if set(document) != names:
        odd = sorted(set(document) ^ names)
        raise FormatError(f"a {what} has missing or unknown members: {odd[:8]}")


def _strings(value: Any, what: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise FormatError(f"{what} is not a dictionary of texts")
    return dict(value)


def _addresses(value: Any, what: str) -> dict[str, str]:
    """Return a dictionary of texts of addresses, checked."""
    found = _strings(value, what)
    for text in found.values():
        _address(text, what)
    return found


def _str(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise FormatError(f"{what} is not text")
    return value


def _count(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise FormatError(f"{what} is not a count")
    return value


@dataclass(frozen=True, slots=True)
class Content:
    """A dataset's state without its history: equal state, equal address.

    Parameters
    ----------
    schema : FieldList
        The fields.
    timeline : Address or None
        Root of the anchors; None without records.
    tracks : mapping of str to (Address or None)
        Root of each field's values.
    tombstones : Address or None
        Root of the deleted anchors.
    metadata : mapping of str to str
        Free notes that belong to the data, not to its history.
    """

    schema: FieldList
    timeline: Address | None = None
    tracks: Mapping[str, Address | None] = field(default_factory=dict)
    tombstones: Address | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        roots = {name: self.tracks.get(name) for name in self.schema}
        object.__setattr__(self, "tracks", roots)

    def encode(self) -> bytes:
        """Return the payload of the content object."""
        return encode_document(
            {
                "format": self._format(),
                "schema": self.schema.to_document(),
                "timeline": _text(self.timeline),
                "tracks": {name: _text(root) for name, root in self.tracks.items()},
                "tombstones": _text(self.tombstones),
                "metadata": dict(self.metadata),
            }
        )

    def _format(self) -> int:
        coded = any(field.type.codec is not None for field in self.schema.fields)
        return CODED_FORMAT if coded else FORMAT

    @classmethod
    def decode(cls, payload: Bytes) -> Content:
        """Parse and check a content object."""
        return cls.from_document(decode_document(payload, what="a content"))

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Content:
        """Check a decoded content object."""
        names = {"format", "schema", "timeline", "tracks", "tombstones", "metadata"}
        _members(document, names, "content", CODED_FORMAT)
        schema = FieldList.from_document(document["schema"])
        tracks = document["tracks"]
        if not isinstance(tracks, dict) or set(tracks) != set(schema):
            raise FormatError("a content's tracks do not match its schema")
        timeline = _optional(document["timeline"], "the timeline")
        roots = {name: _optional(tracks[name], f"the track {name!r}") for name in schema}
        if any((root is None) != (timeline is None) for root in roots.values()):
            raise FormatError("a content has tracks without a timeline, or the reverse")
        content = cls(
            schema,
            timeline,
            roots,
            _optional(document["tombstones"], "the tombstones"),
            _strings(document["metadata"], "the metadata"),
        )
        if content._format() != document["format"]:
            raise FormatError("a content's format does not fit its fields")
        return content


def skip_generation(generation: int) -> int:
    """Return the generation a manifest's skip address aims at: the lowest set bit cleared."""
    return generation & (generation - 1) if generation else 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """A commit: a content, its parents, and who made it, when, and how.

    Parameters
    ----------
    content : Address
        The state.
    parents : tuple of Address
        Manifests this one follows; the first is the branch's previous tip.
    generation : int
        0 for a root, else one more than the largest parent's.
    skip : Address or None
        A first-parent ancestor near generation ``skip_generation(generation)``, so that ancestry
        and time travel take a logarithmic number of reads.
    author, message : str
        Who and why.
    time_ns : int
        Nanoseconds since the epoch, later than every parent's.
    operation : mapping
        What made it: ``name`` and counts, renames included.
    application : mapping of str to str
        The caller's own notes, such as a run id.
    nonce : str
        Random, so that two writers never make the same manifest.
    indexes : mapping of str to str
        Text address of each indexed field's index; derived from the content, so readers may pass
        over what they do not know.
    """

    content: Address
    parents: tuple[Address, ...]
    generation: int
    skip: Address | None
    author: str
    message: str
    time_ns: int
    operation: Mapping[str, Any]
    application: Mapping[str, str] = field(default_factory=dict)
    nonce: str = field(default_factory=lambda: os.urandom(8).hex())
    indexes: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the payload of the manifest object."""
        return encode_document(
            {
                "format": FORMAT,
                "content": to_text(self.content),
                "indexes": dict(self.indexes),
                "parents": [to_text(p) for p in self.parents],
                "generation": self.generation,
                "skip": _text(self.skip),
                "author": self.author,
                "message": self.message,
                "time_ns": self.time_ns,
                "operation": dict(self.operation),
                "application": dict(self.application),
                "nonce": self.nonce,
            }
        )

    @classmethod
    def decode(cls, payload: Bytes) -> Manifest:
        """Parse and check a manifest object."""
        return cls.from_document(decode_document(payload, what="a manifest"))

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Manifest:
        """Check a decoded manifest object."""
        names = {
            "format", "content", "indexes", "parents", "generation", "skip", "author", "message",
            "time_ns", "operation", "application", "nonce",
        }  # fmt: skip
        _members(document, names, "manifest")
        parents = document["parents"]
        if not isinstance(parents, list) or len(parents) > 64:
            raise FormatError("a manifest's parents are malformed")
        operation = document["operation"]
        if not isinstance(operation, dict) or not isinstance(operation.get("name"), str):
            raise FormatError("a manifest's operation is malformed")
        generation = _count(document["generation"], "the generation")
        if (generation == 0) != (not parents):
            raise FormatError("a manifest's generation does not fit its parents")
        return cls(
            _address(document["content"], "the content"),
            tuple(_address(p, "a parent") for p in parents),
            generation,
            _optional(document["skip"], "the skip address"),
            _str(document["author"], "the author"),
            _str(document["message"], "the message"),
            _count(document["time_ns"], "the time"),
            operation,
            _strings(document["application"], "the application notes"),
            _str(document["nonce"], "the nonce"),
            _addresses(document["indexes"], "the indexes"),
        )


@dataclass(frozen=True, slots=True)
class Tag:
    """What a snapshot names: a manifest, and why it was kept.

    Parameters
    ----------
    label : str
        The snapshot's name.
    manifest : Address
        The state that was kept.
    author, message : str
        Who and why.
    time_ns : int
        Nanoseconds since the epoch.
    metadata : mapping of str to str
        The caller's notes, such as a model's hash.
    """

    label: str
    manifest: Address
    author: str
    message: str
    time_ns: int
    metadata: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the payload of the tag object."""
        return encode_document(
            {
                "format": FORMAT,
                "label": self.label,
                "manifest": to_text(self.manifest),
                "author": self.author,
                "message": self.message,
                "time_ns": self.time_ns,
                "metadata": dict(self.metadata),
            }
        )

    @classmethod
    def decode(cls, payload: Bytes) -> Tag:
        """Parse and check a tag object."""
        document = decode_document(payload, what="a tag")
        names = {"format", "label", "manifest", "author", "message", "time_ns", "metadata"}
        _members(document, names, "tag")
        try:
            label = check_ref_name(document["label"])
        except InvalidInputError as error:
            raise FormatError(f"a tag has a malformed label: {error}") from None
        return cls(
            label,
            _address(document["manifest"], "the manifest"),
            _str(document["author"], "the author"),
            _str(document["message"], "the message"),
            _count(document["time_ns"], "the time"),
            _strings(document["metadata"], "the metadata"),
        )


def new_space() -> bytes:
    """Return the bytes of a new ``space.json``."""
    return encode_document({"dreamdb": "space", "format": FORMAT, "required": [], "optional": []})


def check_space(payload: Bytes, url: str) -> None:
    """Raise unless this library can read and write a space.

    Parameters
    ----------
    payload : bytes-like
        The bytes of ``space.json``.
    url : str
        For messages.

    Raises
    ------
    UnsupportedFormatError
        For a newer format or an unknown required feature.
    FormatError
        When the document is malformed.
    """
    document = decode_document(payload, what=f"space.json in {url}")
    if document.get("dreamdb") != "space":
        raise FormatError(f"{url} holds a space.json that is not DreamDB's")
    version = document.get("format")
    if type(version) is not int or version != FORMAT:
        raise UnsupportedFormatError(
            f"the space {url} has format {version!r}",
            hint="a newer dreamdb made it: pip install -U dreamdb",
        )
    required = document.get("required")
    if not isinstance(required, list) or not all(isinstance(f, str) for f in required):
        raise FormatError(f"the space {url} lists malformed features")
    unknown = sorted(set(required) - REQUIRED_FEATURES)
    if unknown:
        raise UnsupportedFormatError(
            f"the space {url} needs features this version does not know: {unknown}",
            hint="pip install -U dreamdb",
        )
