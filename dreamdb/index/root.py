"""The root of an index: how it was made, and the segments that exist.

Source: design/0018 section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from dreamdb.errors import DreamDBError, FormatError, UnsupportedFormatError
from dreamdb.objects import decode_document, encode_document, from_text, to_text
from dreamdb.types import Address, Bytes
from dreamdb.vectors import Codec, parse_codec

__all__ = ["METRICS", "IndexRoot", "Indexed"]

METRICS: Final = ("cosine", "dot", "l2")
FORMAT: Final = 1


class Indexed(NamedTuple):
    """A group of rows that has a segment.

    Parameters
    ----------
    segment : Address
        The segment.
    rows : int
        Vectors in it.
    """

    segment: Address
    rows: int


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise FormatError("an index holds a malformed count")
    return value


@dataclass(frozen=True, slots=True)
class IndexRoot:
    """What an index is, and where its segments are.

    Parameters
    ----------
    codec : Codec
        The code that refines the 1-bit estimate; its seed chooses the rotation.
    metric : str
        ``cosine``, ``dot`` or ``l2``.
    centroids : Address or None
        The spatial index; None for an index with one cell.
    segments : mapping of str to Indexed
        By the digest of the group of rows that each stands for.
    """

    codec: Codec
    metric: str
    centroids: Address | None = None
    segments: Mapping[str, Indexed] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``"ivf"``, or ``"flat"`` for an index with one cell."""
        return "flat" if self.centroids is None else "ivf"

    def encode(self) -> bytes:
        """Return the payload of the index object."""
        return encode_document(
            {
                "format": FORMAT,
                "codec": self.codec.text,
                "dim": self.codec.dim,
                "metric": self.metric,
                "centroids": None if self.centroids is None else to_text(self.centroids),
                "segments": {
                    digest: [to_text(one.segment), one.rows]
                    for digest, one in self.segments.items()
                },
            }
        )

    @classmethod
    def decode(cls, payload: Bytes) -> IndexRoot:
        """Parse and check an index object."""
        document: dict[str, Any] = decode_document(payload, what="an index")
        if document.get("format") != FORMAT:
            raise UnsupportedFormatError(
                f"an index has format {document.get('format')!r}",
                hint="pip install -U dreamdb, or build the index anew",
            )
        names = {"format", "codec", "dim", "metric", "centroids", "segments"}
        if set(document) != names or document["metric"] not in METRICS:
            raise FormatError("an index has missing or unknown members")
        try:
            codec = parse_codec(document["codec"], document["dim"])
            centroids = document["centroids"]
            segments = {
                digest: Indexed(from_text(address), _count(rows))
                for digest, (address, rows) in document["segments"].items()
            }
            if not codec.bits:
                raise FormatError("an index has a codec that is not RaBitQ")
            found = None if centroids is None else from_text(centroids)
        except (AttributeError, TypeError, ValueError, DreamDBError) as error:
            raise FormatError(f"an index is malformed: {error}") from None
        return cls(codec, document["metric"], found, segments)
