"""What is said about a space's history beside its objects: features, cuts, redactions.

Source: design/0002 sections 12 and 13, design/0015.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dreamdb.errors import FormatError, InvalidInputError, UnsupportedFormatError
from dreamdb.objects import decode_document, encode_document, from_text, to_text
from dreamdb.types import Address, Bytes

__all__ = [
    "CATALOG",
    "CUTS",
    "MAX_CUT_PARENTS",
    "REDACTIONS",
    "HistoryCuts",
    "Redaction",
    "decode_cuts",
    "encode_cuts",
    "required_features",
    "with_feature",
]

FORMAT: Final = 1
CATALOG: Final = "catalog"
"""Name of the feature that says that refs may name catalogs."""
CUTS: Final = "cuts"
"""Key of the list of cuts, and the name of the feature that says there is one."""
REDACTIONS: Final = "redactions"
"""Folder of the redactions, and the name of the feature that says there are some."""
MAX_CUT_PARENTS: Final = 64

HistoryCuts: TypeAlias = Mapping[Address, tuple[Address, ...]]
"""Manifest -> the parents that a walk takes instead of those it names."""


def required_features(payload: Bytes, url: str) -> frozenset[str]:
    """Return the features that a checked ``space.json`` requires.

    Parameters
    ----------
    payload : bytes-like
        The document.
    url : str
        For messages.
    """
    return frozenset(decode_document(payload, what=f"space.json in {url}").get("required", ()))


def with_feature(payload: Bytes, feature: str, url: str) -> bytes:
    """Return ``space.json`` with a required feature added.

    Parameters
    ----------
    payload : bytes-like
        The document.
    feature : str
        Its name.
    url : str
        For messages.
    """
    document = decode_document(payload, what=f"space.json in {url}")
    document["required"] = sorted({*document.get("required", ()), feature})
    return encode_document(document)


def encode_cuts(cuts: HistoryCuts) -> bytes:
    """Return the document of a list of cuts."""
    told = {to_text(m): [to_text(p) for p in parents] for m, parents in cuts.items()}
    return encode_document({"cuts": told, "format": FORMAT})


def decode_cuts(payload: Bytes) -> dict[Address, tuple[Address, ...]]:
    """Parse and check a list of cuts.

    Raises
    ------
    FormatError
        When it is malformed.
    """
    document = decode_document(payload, what="the list of cuts")
    _check_members(document, {"cuts", "format"}, "the list of cuts")
    cuts = document["cuts"]
    if not isinstance(cuts, dict):
        raise FormatError("the list of cuts is malformed")
    out = {}
    for name, parents in cuts.items():
        if not isinstance(parents, list) or len(parents) > MAX_CUT_PARENTS:
            raise FormatError(f"the cut of {name} is malformed")
        out[_address(name)] = tuple(_address(parent) for parent in parents)
    return out


@dataclass(frozen=True, slots=True)
class Redaction:
    """Why a content is gone, and which one stands in for it.

    Parameters
    ----------
    content : Address
        The content that was removed.
    replacement : Address
        The content that readers get instead: the same without the purged records.
    records : int
        How many records it has less.
    time_ns : int
        When it was purged, nanoseconds since the epoch.
    who, why : str
        By whom, and the reason that was given.
    """

    content: Address
    replacement: Address
    records: int
    time_ns: int
    who: str
    why: str

    def encode(self) -> bytes:
        """Return the document."""
        return encode_document(
            {
                "content": to_text(self.content),
                "format": FORMAT,
                "records": self.records,
                "replacement": to_text(self.replacement),
                "time_ns": self.time_ns,
                "who": self.who,
                "why": self.why,
            }
        )

    @classmethod
    def decode(cls, payload: Bytes) -> Redaction:
        """Parse and check a redaction."""
        document = decode_document(payload, what="a redaction")
        names = {"content", "format", "records", "replacement", "time_ns", "who", "why"}
        _check_members(document, names, "a redaction")
        for name in ("records", "time_ns"):
            if type(document[name]) is not int or document[name] < 0:
                raise FormatError(f"a redaction's {name} is not a count")
        for name in ("who", "why"):
            if not isinstance(document[name], str):
                raise FormatError(f"a redaction's {name} is not text")
        return cls(
            _address(document["content"]),
            _address(document["replacement"]),
            document["records"],
            document["time_ns"],
            document["who"],
            document["why"],
        )


def _check_members(document: dict[str, Any], names: set[str], what: str) -> None:
    version = document.get("format")
    if type(version) is not int or version != FORMAT:
        raise UnsupportedFormatError(
            f"{what} has format {version!r}",
            hint="a newer dreamdb wrote it: pip install -U dreamdb",
        )
    if set(document) != names:
        raise FormatError(f"{what} has missing or unknown members")


def _address(value: Any) -> Address:
    try:
        return from_text(value if isinstance(value, str) else "")
    except InvalidInputError as error:
        raise FormatError(f"a mark of the history: {error}") from None
