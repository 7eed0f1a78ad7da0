"""What a certificate proves: the way from a manifest's address to one record, walked twice.

Source: design/0016 section 3.  The prover and the verifier take the same steps over the same
objects; the one has them from a space and notes what it touched, the other has only that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dreamdb.codecs import ReadRange, anchors_behind, cell_value
from dreamdb.errors import FieldNotFoundError, FormatError, InvalidInputError, nearest_hint
from dreamdb.model import Content, Manifest, Node, check_child, stats_kind
from dreamdb.objects import Kind, from_text, to_text
from dreamdb.proofs.certificate import Certificate, Part
from dreamdb.types import ZERO_ADDRESS, Address, Bytes, FieldType

__all__ = ["Objects", "Proof", "check_anchor", "find_record", "verify_proof"]

_MAX_ANCHOR = (1 << 64) - 1


class Objects(Protocol):
    """Where the walk finds objects."""

    def payload(self, address: Address, kind: Kind) -> Bytes:
        """Return a whole payload."""
        ...

    def ranges(self, address: Address) -> tuple[ReadRange, int]:
        """Return what reads ranges of a fragment, and its length."""
        ...


@dataclass(frozen=True, slots=True)
class Proof:
    """What a certificate proves about one record of one version.

    Parameters
    ----------
    manifest : str
        The version.
    anchor : int
        The record.
    status : str
        ``"present"``, ``"deleted"`` (stored, and hidden by a tombstone) or ``"absent"``.
    values : mapping of str to object
        Values of the fields that were asked for; empty unless the record is present.
    time_ns : int
        When the version was made, nanoseconds since the epoch, as its manifest says.
    author, message : str
        By whom and why, as its manifest says.
    """

    manifest: str
    anchor: int
    status: str
    values: Mapping[str, Any] = field(default_factory=dict)
    time_ns: int = 0
    author: str = ""
    message: str = ""

    @property
    def present(self) -> bool:
        """Whether the record is visible in that version."""
        return self.status == "present"

    def __bool__(self) -> bool:
        return self.present


def check_anchor(anchor: object) -> int:
    """Return an anchor as an integer; raise InvalidInputError when it is none."""
    if isinstance(anchor, (int, np.integer)) and not isinstance(anchor, bool):
        if 0 <= int(anchor) <= _MAX_ANCHOR:
            return int(anchor)
    raise InvalidInputError(f"an anchor is an integer from 0 to 2**64 - 1, not {anchor!r}")


def find_record(
    objects: Objects, manifest_address: Address, anchor: int, fields: Sequence[str]
) -> Proof:
    """Walk from a manifest to a record.

    Parameters
    ----------
    objects : Objects
        Where objects come from, each verified against its address.
    manifest_address : Address
        The version.
    anchor : int
        The record.
    fields : sequence of str
        Whose values are wanted.

    Raises
    ------
    FieldNotFoundError
        When the version has no such field.
    FormatError
        When an object is not what it should be.
    """
    manifest = Manifest.decode(objects.payload(manifest_address, Kind.MANIFEST))
    content = Content.decode(objects.payload(manifest.content, Kind.CONTENT))
    for name in fields:
        if name not in content.schema:
            raise FieldNotFoundError(
                f"there is no field {name!r}",
                hint=nearest_hint(name, list(content.schema), "fields"),
                field=name,
            )
    row = _find_anchor(objects, content.timeline, anchor)
    status = "present"
    if row is None:
        status = "absent"
    elif _find_anchor(objects, content.tombstones, anchor) is not None:
        status = "deleted"
    values: dict[str, Any] = {}
    if status == "present" and row is not None:
        for name in fields:
            values[name] = _value(objects, content.tracks[name], content.schema[name].type, row)
    return Proof(
        to_text(manifest_address),
        anchor,
        status,
        values,
        manifest.time_ns,
        manifest.author,
        manifest.message,
    )


def _node(objects: Objects, address: Address, stats: int) -> Node:
    node = Node.decode(objects.payload(address, Kind.NODE))
    if node.stats != stats:
        raise FormatError("a track's tree keeps other statistics than its field")
    return node


def _descend(objects: Objects, node: Node, index: int, stats: int) -> Node:
    """Return a child after checking that it is what its entry says."""
    entry = node.entries[index]
    child = _node(objects, Address(bytes(entry["address"])), stats)
    check_child(node, entry, child)
    return child


def _find_anchor(objects: Objects, root: Address | None, anchor: int) -> int | None:
    """Return the row of an anchor in a track of anchors, None when it is not there."""
    if root is None:
        return None
    node = _node(objects, root, 0)
    before = 0
    while True:
        index = int(np.searchsorted(node.entries["key"], np.uint64(anchor)))
        if index == len(node.entries):
            return None
        before += int(node.entries["rows"][:index].sum())
        if node.level == 1:
            break
        node = _descend(objects, node, index, 0)
    entry = node.entries[index]
    rows, last = int(entry["rows"]), int(entry["key"])
    address = Address(bytes(entry["address"]))
    if address == ZERO_ADDRESS:
        raise FormatError("a timeline has rows without anchors")
    read, nbytes = objects.ranges(address)
    # Only what is behind the anchor is needed; a certificate holds those pages and no others.
    start = rows - 1
    anchors = np.array([last], np.uint64)
    step = 512
    while int(anchors[0]) > anchor and start > 0:
        start = max(0, start - step)
        step *= 4
        anchors = anchors_behind(read, nbytes, rows=rows, start=start, last_key=last)
    at = int(np.searchsorted(anchors, np.uint64(anchor)))
    if at < len(anchors) and int(anchors[at]) == anchor:
        return before + start + at
    return None


def _value(objects: Objects, root: Address | None, ftype: FieldType, row: int) -> Any:
    """Return the value of a field at a row of the timeline."""
    if root is None:
        raise FormatError("a content has a timeline and a track without a tree")
    stats = stats_kind(ftype.kind)
    node = _node(objects, root, stats)
    while True:
        ends = np.cumsum(node.entries["rows"]).astype(np.int64)
        index = int(np.searchsorted(ends, row, "right"))
        if index == len(ends):
            raise FormatError("a track has fewer rows than the timeline")
        entry = node.entries[index]
        row -= int(ends[index]) - int(entry["rows"])
        if node.level == 1:
            break
        node = _descend(objects, node, index, stats)
    address = Address(bytes(entry["address"]))
    if address == ZERO_ADDRESS:
        return None
    read, nbytes = objects.ranges(address)
    if nbytes != int(entry["nbytes"]):
        raise FormatError("a fragment has another length than its entry says")
    return cell_value(ftype, read, nbytes, rows=int(entry["rows"]), row=row)


class _Held:
    """The objects of a certificate."""

    def __init__(self, parts: Mapping[Address, Part]) -> None:
        self._parts = parts
        self.used: set[Address] = set()

    def _part(self, address: Address, kind: Kind) -> Part:
        part = self._parts.get(address)
        if part is None or part.kind is not kind:
            raise FormatError(f"the certificate lacks the {kind.name.lower()} {to_text(address)}")
        self.used.add(address)
        return part

    def payload(self, address: Address, kind: Kind) -> Bytes:
        part = self._part(address, kind)
        return part.read(0, part.nbytes)

    def ranges(self, address: Address) -> tuple[ReadRange, int]:
        part = self._part(address, Kind.FRAGMENT)
        return part.read, part.nbytes


def verify_proof(certificate: Bytes, manifest: str | bytes | Mapping[str, Any]) -> Proof:
    """Check a certificate against a version's address, without the space.

    The manifest's address must come from somewhere else than the certificate: from a model card, a
    log, a snapshot's dictionary.  A reader of that version sees exactly what is proved.

    Parameters
    ----------
    certificate : bytes-like
        What ``prove`` returned.
    manifest : str, bytes or dict
        Address of the version: 53 characters, 33 bytes, or what ``snapshot()`` returned.

    Returns
    -------
    Proof
        True when the record is present; with the values that were asked for.

    Raises
    ------
    FormatError
        When the certificate was changed, is incomplete, or is of another version.
    InvalidInputError
        When ``manifest`` is no address.

    Notes
    -----
    Cost: no request; less than 5 ms.
    """
    wanted = _address(manifest)
    if isinstance(certificate, str) or not isinstance(certificate, (bytes, bytearray, memoryview)):
        raise InvalidInputError(f"a certificate is bytes, not {type(certificate).__name__}")
    held = Certificate.decode(certificate)
    claim = held.claim
    if set(claim) != {"anchor", "fields", "format", "manifest"} or claim["format"] != 1:
        raise FormatError("a certificate's claim has missing or unknown members")
    fields = claim["fields"]
    if not isinstance(fields, list) or not all(isinstance(name, str) for name in fields):
        raise FormatError("a certificate's claim is malformed")
    if claim["manifest"] != to_text(wanted):
        raise FormatError(
            f"the certificate is of the manifest {claim['manifest']}, not of {to_text(wanted)}",
            hint="give the address of the version that the certificate was made of",
        )
    objects = _Held(held.parts)
    try:
        proof = find_record(objects, wanted, check_anchor(claim["anchor"]), fields)
    except (FieldNotFoundError, InvalidInputError) as error:
        raise FormatError(f"a certificate's claim is malformed: {error}") from None
    if objects.used != set(held.parts):
        raise FormatError("the certificate holds objects that prove nothing")
    return proof


def _address(manifest: object) -> Address:
    if isinstance(manifest, Mapping):
        manifest = manifest.get("manifest")
    if isinstance(manifest, (bytes, bytearray)):
        manifest = to_text(Address(bytes(manifest)))
    if not isinstance(manifest, str):
        raise InvalidInputError(
            f"a manifest's address is text or bytes, not {type(manifest).__name__}"
        )
    return from_text(manifest)
