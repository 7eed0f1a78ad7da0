"""Marking: what the roots need, in eight bytes per object.

Source: design/0015 section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from dreamdb.errors import ObjectMissingError
from dreamdb.maintain.reach import LEAVES, Needs, address_keys, needs_of, node_needs
from dreamdb.objects import Kind, OpenedObject
from dreamdb.store import Backend
from dreamdb.tracks import Source
from dreamdb.types import ADDRESS_SIZE, Address

__all__ = ["Marks", "keys_of"]

Keys = npt.NDArray[np.uint64]
_CHUNK: Final = 64
_FEW: Final = 256
_MAX_LOOSE: Final = 1 << 22


def keys_of(addresses: Sequence[Address]) -> Keys:
    """Return the marking keys of addresses."""
    if not addresses:
        return np.empty(0, np.uint64)
    return address_keys(np.frombuffer(b"".join(addresses), np.uint8).reshape(-1, ADDRESS_SIZE))


class Marks:
    """The objects that have been found to be needed.

    Walks breadth first, so that many nodes are read at once; fragments are marked by what their
    node says and never read.  What was marked before is not walked again.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.  Nodes are read past the caches: a mark would only push out what readers use.
    known : dict, optional
        What objects name, by address; used instead of reading them, and added to.  Several marks
        of one space may share it.
    """

    def __init__(
        self, backend: Backend, source: Source, *, known: dict[Address, Needs] | None = None
    ) -> None:
        self._known = known
        self._store = backend.objects
        self.source = source
        self._seen: set[Address] = set()
        self._keys = np.empty(0, np.uint64)
        self._loose: list[Keys] = []
        self._num_loose = 0

    def mark(self, starts: Iterable[Address]) -> None:
        """Mark manifests, tags or catalogs and everything they need.

        Raises
        ------
        IntegrityError, ObjectMissingError, StorageError
            When one of them cannot be followed; what was marked is not all that is needed then.

        Notes
        -----
        Cost: 1 object read per manifest, content and node that was not marked before.
        """
        wave = self._fresh([(address, None) for address in starts])
        pool = self.source.pool()
        while wave:
            following: list[tuple[Address, Kind | None]] = []
            chunks = [wave[at : at + _CHUNK] for at in range(0, len(wave), _CHUNK)]
            # Below that the hops between threads cost more than they save.
            found = pool.map(self._read, chunks) if len(wave) > _FEW else map(self._read, chunks)
            for needs in found:
                for one in needs:
                    following += one.objects
                    if one.fragments is not None:
                        self._add(address_keys(one.fragments))
            wave = self._fresh(following)

    def _fresh(self, named: list[tuple[Address, Kind | None]]) -> list[tuple[Address, Kind | None]]:
        out: dict[Address, Kind | None] = {
            address: kind for address, kind in named if address not in self._seen
        }
        self._seen.update(out)
        self._add(keys_of(list(out)))
        return [(address, kind) for address, kind in out.items() if kind not in LEAVES]

    def _read(self, wave: list[tuple[Address, Kind | None]]) -> list[Needs]:
        return [self._needs(address, kind) for address, kind in wave]

    def _needs(self, address: Address, kind: Kind | None) -> Needs:
        if self._known is None:
            return self._look(address, kind)
        needs = self._known.get(address)
        if needs is None:
            needs = self._known[address] = self._look(address, kind)
        return needs

    def _look(self, address: Address, kind: Kind | None) -> Needs:
        if kind is Kind.NODE:
            return node_needs(OpenedObject(address, self._store.open(address), kind))
        if kind is not Kind.CONTENT:
            # What this process remembers says nothing about what is stored.
            self.source.cache.forget(address)
        try:
            opened = self.source.cache.open(address, kind)
        except ObjectMissingError:
            if kind is not Kind.INDEX:
                raise
            return Needs([])  # Derived: an older version's collector may have taken it.
        return needs_of(self.source, address, opened, fresh=True)

    def _add(self, keys: Keys) -> None:
        self._loose.append(keys)
        self._num_loose += len(keys)
        if self._num_loose > _MAX_LOOSE:
            self._settle()

    def _settle(self) -> None:
        if self._loose:
            keys = np.concatenate([self._keys, *self._loose])
            keys.sort()  # Faster than numpy.unique, which hashes first.
            self._keys = (
                keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys
            )
            self._loose, self._num_loose = [], 0

    @property
    def keys(self) -> Keys:
        """The keys of all marked objects, increasing."""
        self._settle()
        return self._keys

    def needed(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Return for each key whether such an object is needed."""
        known = self.keys
        if not len(known):
            return np.zeros(len(keys), np.bool_)
        at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return known[at] == keys
