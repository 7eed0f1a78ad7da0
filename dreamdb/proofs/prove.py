"""Making certificates.

Source: design/0016 section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from dreamdb.codecs import ReadRange
from dreamdb.errors import InvalidInputError, NotFoundError
from dreamdb.history import resolve_content
from dreamdb.model import Manifest
from dreamdb.objects import Kind, to_text
from dreamdb.proofs.certificate import Certificate, Part
from dreamdb.proofs.claim import check_anchor, find_record
from dreamdb.store import ObjectCache
from dreamdb.types import Address

__all__ = ["prove_record"]


class _Recorder:
    """Objects of a space, and which of their pages were touched."""

    def __init__(self, cache: ObjectCache) -> None:
        self._cache = cache
        self.parts: dict[Address, Part] = {}

    def payload(self, address: Address, kind: Kind) -> memoryview:
        view = self._cache.open(address, kind).view()
        part = self.parts.setdefault(address, Part.of(kind, view))
        part.keep(view, 0, view.nbytes)
        return view

    def ranges(self, address: Address) -> tuple[ReadRange, int]:
        opened = self._cache.open(address, Kind.FRAGMENT)
        view = opened.view()
        part = self.parts.setdefault(address, Part.of(Kind.FRAGMENT, view))

        def read(start: int, stop: int) -> bytes:
            part.keep(view, start, stop)
            return bytes(view[start:stop])

        return read, view.nbytes


def prove_record(
    cache: ObjectCache, manifest: Address, anchor: object, fields: Sequence[str] = ()
) -> bytes:
    """Return a certificate that a record is, or is not, in a version.

    Parameters
    ----------
    cache : ObjectCache
        Of the space.
    manifest : Address
        The version.
    anchor : int
        The record.
    fields : sequence of str
        Whose values the certificate shall hold.

    Raises
    ------
    FieldNotFoundError
        When the version has no such field.
    NotFoundError
        When records of this version were purged: its address cannot be led back to what is left.

    Notes
    -----
    Cost: 1 object read per node on the way and per field, cached.
    """
    if isinstance(fields, str):
        fields = [fields]
    if len(set(fields)) != len(fields):
        raise InvalidInputError(f"fields names something twice: {list(fields)}")
    number = check_anchor(anchor)
    _require_original(cache, manifest)
    recorder = _Recorder(cache)
    find_record(recorder, manifest, number, list(fields))
    claim = {
        "anchor": number,
        "fields": list(fields),
        "format": 1,
        "manifest": to_text(manifest),
    }
    return Certificate(claim, recorder.parts).encode()


def _require_original(cache: ObjectCache, manifest: Address) -> None:
    content = Manifest.decode(cache.open(manifest, Kind.MANIFEST).view()).content
    if resolve_content(cache, content)[1]:
        raise NotFoundError(
            f"nothing can be proved about {to_text(manifest)}: records of it were purged, and "
            "what is left has another address",
            hint="prove it of a later version",
            manifest=to_text(manifest),
        )
