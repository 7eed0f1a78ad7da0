"""The document that says what a space is: its features, where history is cut, what is promised.

Source: design/0002 section 12, design/0010 sections 5 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from dreamdb.errors import FormatError, InvalidInputError
from dreamdb.model.documents import FORMAT, check_space
from dreamdb.objects import decode_document, encode_document, from_text, to_text
from dreamdb.types import Address, Bytes

__all__ = ["CUT", "PARTIAL", "SpaceDocument"]

CUT: Final = "cut"
"""Required feature: some manifests are kept without their parents."""

PARTIAL: Final = "partial"
"""Required feature: some fields are kept elsewhere and fetched when they are read."""


@dataclass(frozen=True, slots=True)
class SpaceDocument:
    """What ``space.json`` says beyond the format.

    Parameters
    ----------
    cuts : frozenset of Address
        Manifests whose parents are not kept here.
    origin : str or None
        URL, without credentials, of the space that has what this one lacks; None for a whole one.
    fields : frozenset of str or None
        The fields that are kept here; None: all.
    """

    cuts: frozenset[Address] = frozenset()
    origin: str | None = None
    fields: frozenset[str] | None = None

    def encode(self) -> bytes:
        """Return the bytes of ``space.json``."""
        required = []
        document: dict[str, Any] = {"dreamdb": "space", "format": FORMAT, "optional": []}
        if self.cuts:
            required.append(CUT)
            document["cuts"] = sorted(map(to_text, self.cuts))
        if self.origin is not None:
            required.append(PARTIAL)
            document["partial"] = {"fields": sorted(self.fields or ()), "origin": self.origin}
        return encode_document({**document, "required": required})

    @classmethod
    def decode(cls, payload: Bytes, url: str) -> SpaceDocument:
        """Parse and check ``space.json``.

        Parameters
        ----------
        payload : bytes-like
            Its bytes.
        url : str
            For messages.

        Raises
        ------
        UnsupportedFormatError
            For a newer format or an unknown required feature.
        FormatError
            When the document is malformed.
        """
        check_space(payload, url)
        document = decode_document(payload, what=f"space.json in {url}")
        required = document["required"]
        cuts = _cuts(document.get("cuts"), url) if CUT in required else frozenset()
        if PARTIAL not in required:
            return cls(cuts)
        origin, fields = _partial(document.get("partial"), url)
        return cls(cuts, origin, fields)


def _cuts(listed: Any, url: str) -> frozenset[Address]:
    try:
        if not isinstance(listed, list) or not listed:
            raise InvalidInputError("it is not a list of manifests")
        found = frozenset(from_text(str(text)) for text in listed)
    except InvalidInputError as error:
        raise FormatError(f"the cuts of the space {url} are malformed: {error}") from None
    return found


def _partial(told: Any, url: str) -> tuple[str, frozenset[str]]:
    if isinstance(told, dict) and set(told) == {"fields", "origin"}:
        fields, origin = told["fields"], told["origin"]
        if isinstance(origin, str) and isinstance(fields, list):
            if fields and all(isinstance(name, str) for name in fields):
                return origin, frozenset(fields)
    raise FormatError(f"the space {url} does not say which fields it has and where others are")
