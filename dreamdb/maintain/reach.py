"""Reachability: which objects the refs and reflogs of a space need.

Source: design/0011.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dreamdb.errors import DreamDBError, IntegrityError, ObjectMissingError
from dreamdb.history import load_manifest, resolve_address, skip_line
from dreamdb.model import Content, Node
from dreamdb.objects import Kind, OpenedObject
from dreamdb.store import Backend, RefValue
from dreamdb.tracks import Source
from dreamdb.types import ZERO_ADDRESS, Address

__all__ = ["GcReport", "collect_garbage", "reachable_objects", "roots"]

_Named = tuple[Address, Kind | None, bool]


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a collection would do.

    Parameters
    ----------
    reachable, reachable_nbytes : int
        Objects that some root needs, and their stored bytes.
    garbage : tuple of (str, int)
        Text address and stored bytes of every object that no root needs.
    roots : int
        Refs and reflog entries that were followed.
    """

    reachable: int
    reachable_nbytes: int
    garbage: tuple[tuple[str, int], ...] = field(default=())
    roots: int = 0

    @property
    def garbage_nbytes(self) -> int:
        """Stored bytes of the garbage."""
        return sum(nbytes for _, nbytes in self.garbage)


def roots(backend: Backend) -> Iterator[tuple[str, Address]]:
    """Yield every root: refs, then what their reflogs name."""
    yield from backend.refs.list()
    for name in backend.refs.logs():
        for entry in backend.refs.read_log(name):
            for address in (entry.old, entry.new):
                if address is not None:
                    yield f"reflog of {name}", address


def reachable_objects(
    backend: Backend, source: Source, starts: list[Address], *, lenient: bool = False
) -> Iterator[tuple[Address, Kind | None]]:
    """Yield every object the starts need, each once, the referring one first.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    starts : list of Address
        Manifests and tags.
    lenient : bool
        Yield an object that cannot be read, and go on without what only it names.

    Notes
    -----
    Where history is cut, a manifest's parents are not followed, and manifests behind the cut that
    skip addresses lead through are yielded without their contents.  In a partial clone, trees of
    fields that are kept elsewhere are followed as far as they are here.

    Cost: 1 object read per manifest, content and tree node; fragments are not read.
    """
    seen: set[Address] = set()
    behind: set[Address] = set()
    stack: list[_Named] = [(a, None, False) for a in starts]
    while stack:
        address, kind, elsewhere = stack.pop()
        if address in seen or address == ZERO_ADDRESS:
            continue
        seen.add(address)
        if kind is Kind.FRAGMENT:
            yield address, kind
            continue
        try:
            opened = source.cache.open(address, kind)
            kind, below = opened.kind, _named_by(source, address, opened)
            if address in source.cache.cuts:
                behind.update(other for other, _ in skip_line(source.cache, address))
        except DreamDBError as error:
            if elsewhere and isinstance(error, ObjectMissingError):
                continue
            if not lenient:
                raise
            below = []
        yield address, kind
        stack += [(a, k, elsewhere or e) for a, k, e in below]
    yield from ((address, Kind.MANIFEST) for address in behind - seen)


def _named_by(source: Source, address: Address, opened: OpenedObject) -> list[_Named]:
    """Return what an object names: address, kind, and whether it is kept elsewhere."""
    if opened.kind is Kind.MANIFEST:
        manifest = load_manifest(source.cache, address)
        out: list[_Named] = [(p, Kind.MANIFEST, False) for p in manifest.parents]
        if manifest.skip is not None:
            out.append((manifest.skip, Kind.MANIFEST, False))
        return [*out, (manifest.content, Kind.CONTENT, False)]
    if opened.kind is Kind.CONTENT:
        content = Content.decode(opened.view())
        kept = source.cache.fields
        trees = [(content.timeline, False), (content.tombstones, False)]
        trees += [(r, kept is not None and n not in kept) for n, r in content.tracks.items()]
        return [(root, Kind.NODE, elsewhere) for root, elsewhere in trees if root is not None]
    if opened.kind is Kind.TAG:
        found = resolve_address(source.cache, _label_of(opened.view()), RefValue(address))
        return [(found.manifest, Kind.MANIFEST, False)]
    if opened.kind is Kind.NODE:
        node = Node.decode(opened.view())
        below = Kind.FRAGMENT if node.level == 1 else Kind.NODE
        return [(Address(a.tobytes()), below, False) for a in node.entries["address"]]
    raise IntegrityError(f"a {opened.kind.name.lower()} is named as history")


def _label_of(payload: memoryview) -> str:
    from dreamdb.model import Tag

    return Tag.decode(payload).label


def collect_garbage(backend: Backend, source: Source) -> GcReport:
    """Report which objects no root needs.

    Raises
    ------
    IntegrityError
        When a root cannot be followed: nothing may be called garbage then.
    """
    followed = list(roots(backend))
    live: set[Address] = set()
    try:
        for address, _ in reachable_objects(backend, source, [a for _, a in followed]):
            live.add(address)
    except DreamDBError as error:
        raise IntegrityError(
            f"garbage cannot be told while the space is damaged: {error}",
            hint="run `dreamdb verify`",
        ) from error
    garbage, nbytes = [], 0
    from dreamdb.objects import to_text

    for address, size in backend.objects.list():
        if address in live:
            nbytes += size
        else:
            garbage.append((to_text(address), size))
    return GcReport(len(live), nbytes, tuple(sorted(garbage)), len(followed))
