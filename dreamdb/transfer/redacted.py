"""Contents that were purged at one end of a transfer: what stands in for them goes over.

Source: design/0010 section 8, design/0015 section 6.
"""

from __future__ import annotations

from dreamdb.history import read_redaction, require_feature, write_redaction
from dreamdb.model import REDACTIONS, Redaction
from dreamdb.objects import from_text
from dreamdb.store import documents_of
from dreamdb.transfer.place import Place
from dreamdb.types import Address

__all__ = ["RedactedContents", "standing_in"]


def standing_in(place: Place, content: Address) -> tuple[Address, list[Redaction]]:
    """Return the content that a space's redactions put in the place of another, there or not.

    Parameters
    ----------
    place : Place
        The space.
    content : Address
        What a manifest names.

    Returns
    -------
    content : Address
        The same one when it was not redacted.
    passed : list of Redaction
        Those that led there.

    Notes
    -----
    Cost: 1 document read, and 1 more per redaction.
    """
    passed: dict[Address, Redaction] = {}
    documents = place.cache.documents
    while documents is not None and content not in passed:
        found = read_redaction(documents, content)
        if found is None:
            break
        passed[content] = found
        content = found.replacement
    return content, list(passed.values())


class RedactedContents:
    """Tells which content is copied for the one that a manifest names.

    What the target has purged does not come back.  What the origin has purged is replaced in the
    target too, where the manifest is new to it.

    Parameters
    ----------
    origin, target : Place
        From where, and to where.
    known : bool
        Whether the target has redactions.
    """

    def __init__(self, origin: Place, target: Place, *, known: bool) -> None:
        self._origin = origin
        self._target = target
        listed = documents_of(target.backend).list(REDACTIONS) if known else ()
        self._there = {from_text(name) for name in listed}
        self._met: dict[Address, Redaction] = {}

    def in_target(self, content: Address) -> Address:
        """Return the content that the target has for one that it has purged.

        Cost: none for others; 1 document read per redaction.
        """
        return standing_in(self._target, content)[0] if content in self._there else content

    def in_origin(self, content: Address) -> Address:
        """Return the content that the origin has for one that is gone; itself when none has.

        Cost: 1 document read, and 1 more per redaction.
        """
        found, passed = standing_in(self._origin, content)
        self._met.update({redaction.content: redaction for redaction in passed})
        return found

    def write(self) -> None:
        """Record in the target, durably, the redactions that were met and that it lacks."""
        lacking = [one for name, one in self._met.items() if name not in self._there]
        if lacking:
            require_feature(self._target.backend, REDACTIONS)
        for redaction in lacking:
            write_redaction(documents_of(self._target.backend), redaction)
            self._there.add(redaction.content)
        self._met.clear()
