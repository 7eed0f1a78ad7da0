"""A track: one field's values over the timeline, as fragments found by row.

Source: design/0002 sections 6 and 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import KEPT_DICTIONARY, arrow_type
from dreamdb.errors import FormatError
from dreamdb.model import Entries, empty_entries, leaf_entries, stats_kind
from dreamdb.tracks.source import Fragment, Source
from dreamdb.types import ADDRESS_SIZE, ZERO_ADDRESS, Address, FieldType
from dreamdb.vectors import stored_type

__all__ = ["Track"]

Positions = npt.NDArray[np.int64]
_FEW_NODES: Final = 16
_WINDOW: Final = 1 << 18


class Track:
    """Read access to one track.

    Parameters
    ----------
    source : Source
        Where nodes and fragments come from.
    ftype : FieldType
        What the values are.  For a field with a codec, :attr:`declared` is that, and
        :attr:`ftype` what is stored: rows of codes.
    rung, floor : int
        Where the track is cut.
    root : Address or None
        The tree's root; None for an empty track.
    """

    def __init__(
        self, source: Source, ftype: FieldType, rung: int, floor: int, root: Address | None
    ) -> None:
        self.source = source
        self.declared = ftype
        self.ftype = stored_type(ftype)
        self.rung = rung
        self.floor = floor
        self.root = root
        self.stats = stats_kind(ftype.kind)
        self.arrow = arrow_type(self.ftype)
        self._flat: tuple[Entries, Positions, Positions] | None = None
        self._addresses: list[Address] | None = None
        # Prepared by `gather` when it is first asked for; False when it cannot be.
        self.random_access: Any = None
        # Which part of the rows a reader has announced: they are then verified together.
        self.expected = 0.0
        self._window: tuple[int, int, Entries, Positions, Positions] | None = None
        self._totals: tuple[int, int, int] | None = None

    def _sum(self) -> tuple[int, int, int]:
        if self._totals is None:
            if self.root is None:
                self._totals = (0, 0, 0)
            else:
                entries = self.source.node(self.root).entries
                self._totals = (
                    int(entries["rows"].sum()),
                    int(entries["nulls"].sum()),
                    int(entries["nbytes"].sum()),
                )
        return self._totals

    @property
    def rows(self) -> int:
        """Records the track covers, deleted ones included.  Cost: 1 object read, cached."""
        return self._sum()[0]

    @property
    def nulls(self) -> int:
        """Null values."""
        return self._sum()[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all fragments' payloads."""
        return self._sum()[2]

    @property
    def last_key(self) -> int:
        """The largest anchor the track covers; -1 when it is empty."""
        if self.root is None:
            return -1
        return int(self.source.node(self.root).entries["key"][-1])

    def between(self, start: int, stop: int) -> tuple[Entries, int]:
        """Return the fragment entries that overlap rows ``[start, stop)`` and the first's row."""
        if start >= stop or self.root is None:
            return empty_entries(self.stats), start
        if self._flat is None:
            node = self.source.node(self.root)
            if node.level == 1 or (node.level == 2 and len(node.entries) <= _FEW_NODES):
                self.flat()
        if self._flat is not None:
            entries, starts, ends = self._flat
        else:
            entries, starts, ends = self._window_over(start, stop)
        low = int(ends.searchsorted(start, "right"))
        high = int(ends.searchsorted(stop, "left")) + 1
        return entries[low:high], int(starts[low]) if low < len(starts) else start

    def _window_over(self, start: int, stop: int) -> tuple[Entries, Positions, Positions]:
        """Return entries around a range; kept, since scans ask for one range after the other."""
        found = self._window
        if found is None or start < found[0] or stop > found[1]:
            end = min(max(stop, start + _WINDOW), self.rows)
            entries, at = leaf_entries(
                self.root, self.stats, load=self.source.node, start=start, stop=end
            )
            ends = at + np.cumsum(entries["rows"]).astype(np.int64)
            found = (start, end, entries, ends - entries["rows"].astype(np.int64), ends)
            self._window = found
        return found[2:]

    def flat(self) -> tuple[Entries, Positions, Positions]:
        """Return all entries, their first rows and their end rows.

        Notes
        -----
        Cost: 1 object read per tree node, once.
        """
        if self._flat is None:
            entries, _ = leaf_entries(self.root, self.stats, load=self.source.node)
            ends = np.cumsum(entries["rows"]).astype(np.int64)
            starts = ends - entries["rows"].astype(np.int64)
            self._flat = (entries, starts, ends)
        return self._flat

    @property
    def addresses(self) -> list[Address]:
        """The addresses of :meth:`flat`; the zero address for all-null chunks."""
        if self._addresses is None:
            joined = np.ascontiguousarray(self.flat()[0]["address"]).tobytes()
            self._addresses = [
                Address(joined[at : at + ADDRESS_SIZE])
                for at in range(0, len(joined), ADDRESS_SIZE)
            ]
        return self._addresses

    def fragment(self, entry: np.void, *, dictionary: bool = False) -> Fragment | None:
        """Return the fragment of an entry; None for an all-null chunk.

        Parameters
        ----------
        entry : numpy.void
            A row of the tree's entries.
        dictionary : bool
            Categoricals as Arrow dictionaries.
        """
        address = Address(bytes(entry["address"]))
        if address == ZERO_ADDRESS:
            self._require_nullable()
            return None
        return self.source.fragment(
            self.ftype,
            address,
            rows=int(entry["rows"]),
            last_key=int(entry["key"]),
            dictionary=dictionary,
        )

    def _require_nullable(self) -> None:
        if self.ftype.kind == "anchor":
            raise FormatError("a timeline has rows without anchors")

    def is_ready(self, entry: np.void) -> bool:
        """Return whether an entry's fragment is open and fully verified."""
        address = Address(bytes(entry["address"]))
        return address == ZERO_ADDRESS or self.source.is_ready(
            self.ftype, address, last_key=int(entry["key"])
        )

    def fragment_at(self, index: int) -> Fragment | None:
        """Return the fragment with an index into :meth:`flat`."""
        entries = self.flat()[0]
        address = self.addresses[index]
        if address == ZERO_ADDRESS:
            self._require_nullable()
            return None
        entry = entries[index]
        return self.source.fragment(
            self.ftype, address, rows=int(entry["rows"]), last_key=int(entry["key"])
        )

    def chunks(self, start: int, stop: int, *, dictionary: bool = False) -> list[pa.Array]:
        """Return rows ``[start, stop)`` as slices of fragments, verified, without copying.

        Parameters
        ----------
        start, stop : int
            Which rows.
        dictionary : bool
            Categoricals as Arrow dictionaries, each fragment with its own.

        Notes
        -----
        Cost: 1 object open per fragment, cached.
        """
        if start >= stop:
            return []
        if stop > self.rows:
            raise FormatError(f"a track has {self.rows} rows, row {stop - 1} was asked for")
        entries, at = self.between(start, stop)
        out = []
        for entry in entries:
            rows = int(entry["rows"])
            low, high = max(start - at, 0), min(stop - at, rows)
            fragment = self.fragment(entry, dictionary=dictionary)
            if fragment is None:
                kind = KEPT_DICTIONARY if dictionary else self.arrow
                out.append(pa.nulls(high - low, kind))
            else:
                out.append(fragment.slice(low, high))
            at += rows
        return out

    def slice(self, start: int, stop: int) -> pa.Array:
        """Return rows ``[start, stop)`` as one array; copies only across fragments."""
        chunks = self.chunks(start, stop)
        if len(chunks) == 1:
            return chunks[0]
        if not chunks:
            return pa.nulls(0, self.arrow)
        return pa.concat_arrays(chunks)

    def dictionary_slice(self, start: int, stop: int) -> pa.Array:
        """Return rows ``[start, stop)`` of a categorical as one dictionary array."""
        chunks = self.chunks(start, stop, dictionary=True)
        if len(chunks) == 1:
            return chunks[0]
        if not chunks:
            return pa.nulls(0, KEPT_DICTIONARY)
        joined = pa.chunked_array(chunks).unify_dictionaries()
        return pa.concat_arrays(joined.chunks)

    def all(self) -> pa.ChunkedArray:
        """Return every row."""
        return pa.chunked_array(self.chunks(0, self.rows), self.arrow)

    def groups(self, positions: Positions) -> Iterator[tuple[int, int, int, Positions]]:
        """Group increasing rows by fragment.

        Yields
        ------
        begin, end : int
            Slice of ``positions``.
        index : int
            Fragment index into :meth:`flat`.
        rows : ndarray of int64
            Rows inside that fragment.
        """
        _, starts, ends = self.flat()
        which = np.searchsorted(ends, positions, "right")
        if not len(which):
            return
        bounds = [0, *(np.flatnonzero(which[1:] != which[:-1]) + 1).tolist(), len(which)]
        inside = positions - starts[which]
        index: list[Any] = which[bounds[:-1]].tolist()
        for k, begin in enumerate(bounds[:-1]):
            end = bounds[k + 1]
            yield begin, end, index[k], inside[begin:end]
