"""What lies in the store and nobody needs: in which order it may go, and why it is there.

Source: design/0015 section 3.  What refers goes before what it refers to, so that at any moment,
after a crash too, an object that is there has everything below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from dreamdb.errors import DreamDBError
from dreamdb.maintain.reach import node_needs
from dreamdb.model import Content, Manifest, Node
from dreamdb.objects import ENVELOPE_SIZE, Envelope, Kind, OpenedObject, to_text
from dreamdb.types import ZERO_ADDRESS, Address

__all__ = ["Garbage", "ReadStored", "rank_garbage"]

ReadStored = Callable[[Address], memoryview]
"""Returns a stored object, or its first bytes, from the store or from the trash."""

_ORPHAN: Final = "left by a write that was not published"
_DAMAGED: Final = "damaged, and nothing needs it"
_RANKS: Final = {
    Kind.TAG: 1,
    Kind.CATALOG: 1,
    Kind.MANIFEST: 2,
    Kind.CONTENT: 4,
    Kind.NODE: 5,
    Kind.FRAGMENT: 6,
}
_OTHER: Final = 3


@dataclass(frozen=True, slots=True)
class Garbage:
    """One object that no root needs.

    Parameters
    ----------
    object : str
        Text address.
    nbytes : int
        Stored bytes.
    kind : str
        What it is, or ``"damaged"``.
    why : str
        Why nothing needs it.
    """

    object: str
    nbytes: int
    kind: str
    why: str


@dataclass(slots=True)
class _Found:
    rank: tuple[int, int]
    kind: str
    why: str


def rank_garbage(
    sizes: dict[Address, int], open_stored: ReadStored, read_head: ReadStored
) -> list[tuple[Address, Garbage, int]]:
    """Return garbage in the order in which it may be removed.

    Parameters
    ----------
    sizes : dict of Address to int
        Stored bytes of each object.
    open_stored : callable
        Opens one of them.
    read_head : callable
        Reads at least the envelope of one of them.

    Returns
    -------
    list of (Address, Garbage, int)
        With the phase it belongs to: what refers before what it refers to.  Everything of one
        phase must be gone, durably, before the next begins.

    Notes
    -----
    Cost: 1 small read per object, and 1 open per object that is no fragment.
    """
    found: dict[Address, _Found] = {}
    manifests: list[tuple[int, Address, Manifest]] = []
    nodes: dict[Address, list[Address]] = {}
    contents: dict[Address, OpenedObject] = {}
    for address in sizes:
        try:
            kind = _kind(read_head(address), sizes[address], address)
        except DreamDBError:
            found[address] = _Found((0, 0), "damaged", _DAMAGED)
            continue
        if kind is Kind.FRAGMENT:
            found[address] = _Found((_RANKS[kind], 0), "fragment", _ORPHAN)
            continue
        _look(address, kind, open_stored, found, manifests, nodes, contents)
    _tell_why(found, manifests, nodes, contents)
    out = [
        (address, Garbage(to_text(address), sizes[address], one.kind, one.why), one.rank)
        for address, one in found.items()
    ]
    out.sort(key=lambda item: (item[2], item[1].object))
    # Each level of nodes is a phase of its own; the manifests are one, newer ones first.
    phases: dict[tuple[int, int], int] = {}
    return [
        (
            address,
            told,
            phases.setdefault(rank if rank[0] == _RANKS[Kind.NODE] else (rank[0], 0), len(phases)),
        )
        for address, told, rank in out
    ]


def _kind(stored: memoryview, nbytes: int, address: Address) -> Kind:
    return Envelope.parse(stored[:ENVELOPE_SIZE], nbytes, to_text(address)).kind


def _look(
    address: Address,
    kind: Kind,
    open_stored: ReadStored,
    found: dict[Address, _Found],
    manifests: list[tuple[int, Address, Manifest]],
    nodes: dict[Address, list[Address]],
    contents: dict[Address, OpenedObject],
) -> None:
    """Open one document or node and note what it names."""
    name = kind.name.lower().replace("_", "-")
    rank = (_RANKS.get(kind, _OTHER), 0)
    try:
        opened = OpenedObject(address, open_stored(address), kind)
        if kind is Kind.NODE:
            node = Node.decode(opened.view())
            needs = node_needs(opened)
            below = [one for one, _ in needs.objects]
            if needs.fragments is not None:
                below += [Address(row.tobytes()) for row in needs.fragments]
            nodes[address] = below
            rank = (rank[0], -node.level)
        elif kind is Kind.MANIFEST:
            manifest = Manifest.decode(opened.view())
            manifests.append((manifest.generation, address, manifest))
            rank = (rank[0], -manifest.generation)
        elif kind is Kind.CONTENT:
            contents[address] = opened
    except DreamDBError:
        found[address] = _Found((0, 0), "damaged", _DAMAGED)
        return
    found[address] = _Found(rank, name, _ORPHAN)


def _tell_why(
    found: dict[Address, _Found],
    manifests: Iterable[tuple[int, Address, Manifest]],
    nodes: dict[Address, list[Address]],
    contents: dict[Address, OpenedObject],
) -> None:
    """Say of each object which abandoned commit needed it."""
    for _, address, manifest in sorted(manifests, key=lambda item: (-item[0], item[1])):
        name = to_text(address)[:12]
        said = f" ({manifest.message})" if manifest.message else ""
        found[address].why = f"a commit that no ref leads to{said}"
        stack = [manifest.content]
        why = f"needed only by the commit {name}, which no ref leads to"
        while stack:
            at = stack.pop()
            one = found.get(at)
            if at == ZERO_ADDRESS or one is None or (one.why != _ORPHAN):
                continue
            one.why = why
            if at in contents:
                content = Content.decode(contents[at].view())
                trees = (content.timeline, content.tombstones, *content.tracks.values())
                stack += [root for root in trees if root is not None]
            elif at in nodes:
                stack += nodes[at]
