"""Reachability: which objects the refs and reflogs of a space need.

Source: design/0011.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dreamdb.errors import DreamDBError, IntegrityError
from dreamdb.history import resolve_address
from dreamdb.model import Catalog, Content, Manifest, Node
from dreamdb.objects import Kind, OpenedObject
from dreamdb.store import Backend, RefValue
from dreamdb.tracks import Source
from dreamdb.types import ZERO_ADDRESS, Address

__all__ = ["GcReport", "collect_garbage", "reachable_objects", "roots"]


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
        Manifests, tags and catalogs.
    lenient : bool
        Yield an object that cannot be read, and go on without what only it names.

    Notes
    -----
    Cost: 1 object read per manifest, content and tree node; fragments are not read.
    """
    seen: set[Address] = set()
    stack: list[tuple[Address, Kind | None]] = [(a, None) for a in starts]
    while stack:
        address, kind = stack.pop()
        if address in seen or address == ZERO_ADDRESS:
            continue
        seen.add(address)
        if kind is Kind.FRAGMENT:
            yield address, kind
            continue
        try:
            opened = source.cache.open(address, kind)
            kind, below = opened.kind, _named_by(source, address, opened)
        except DreamDBError:
            if not lenient:
                raise
            below = []
        yield address, kind
        stack += below


def _named_by(
    source: Source, address: Address, opened: OpenedObject
) -> list[tuple[Address, Kind | None]]:
    """Return the objects that an object names, and what they must be."""
    if opened.kind is Kind.MANIFEST:
        manifest = Manifest.decode(opened.view())
        out: list[tuple[Address, Kind | None]] = [(p, Kind.MANIFEST) for p in manifest.parents]
        if manifest.skip is not None:
            out.append((manifest.skip, Kind.MANIFEST))
        return [*out, (manifest.content, Kind.CONTENT)]
    if opened.kind is Kind.CONTENT:
        content = Content.decode(opened.view())
        trees = [content.timeline, content.tombstones, *content.tracks.values()]
        return [(root, Kind.NODE) for root in trees if root is not None]
    if opened.kind is Kind.TAG:
        found = resolve_address(source.cache, _label_of(opened.view()), RefValue(address))
        return [(found.manifest, Kind.MANIFEST)]
    if opened.kind is Kind.CATALOG:
        catalog = Catalog.decode(opened.view())
        return [(manifest, Kind.MANIFEST) for manifest in catalog.tables.values()]
    if opened.kind is Kind.NODE:
        node = Node.decode(opened.view())
        below = Kind.FRAGMENT if node.level == 1 else Kind.NODE
        return [(Address(a.tobytes()), below) for a in node.entries["address"]]
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
