"""One entry of a reflog as one line of canonical JSON.

Source: design/0002 section 8, design/0005.
"""

from __future__ import annotations

from typing import Any

from dreamdb.errors import DreamDBError, IntegrityError
from dreamdb.objects import decode_document, encode_document, from_text, to_text
from dreamdb.store.ports import LogEntry
from dreamdb.types import Address

__all__ = ["decode_entry", "encode_entry"]


def encode_entry(entry: LogEntry) -> bytes:
    """Return an entry's line without its newline."""
    return encode_document(
        {
            "new": None if entry.new is None else to_text(entry.new),
            "old": None if entry.old is None else to_text(entry.old),
            "time_ns": entry.time_ns,
            "who": entry.who,
            "why": entry.why,
        }
    )


def decode_entry(line: bytes, *, name: str, number: int) -> LogEntry:
    """Parse a line strictly.

    Parameters
    ----------
    line : bytes
        Without its newline.
    name : str
        The ref, for messages.
    number : int
        The line's position in the log, for messages.

    Raises
    ------
    IntegrityError
        When the line is not an entry.
    """
    try:
        document = decode_document(line, what="the entry")
        if set(document) != {"new", "old", "time_ns", "who", "why"}:
            raise IntegrityError("the entry has other members")
        return LogEntry(
            time_ns=_typed(document, "time_ns", int),
            old=_address(document["old"]),
            new=_address(document["new"]),
            who=_typed(document, "who", str),
            why=_typed(document, "why", str),
        )
    except DreamDBError as error:
        raise IntegrityError(
            f"entry {number} of the log of ref {name!r} is damaged: {error}",
            hint="run `dreamdb verify`",
            ref=name,
        ) from None


def _typed(document: dict[str, Any], member: str, kind: type) -> Any:
    value = document[member]
    if type(value) is not kind:
        raise IntegrityError(f"{member} is a {type(value).__name__}")
    return value


def _address(text: Any) -> Address | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise IntegrityError(f"an address is a {type(text).__name__}")
    return from_text(text)
