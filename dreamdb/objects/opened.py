"""An object opened for reading, verified page by page as it is touched.

Source: design/0002 sections 3.3 and 3.4.
"""

from __future__ import annotations

from typing import Final

from blake3 import blake3

from dreamdb.errors import FormatError, HashMismatchError
from dreamdb.objects.address import HASH_SIZE, PAGE_SIZE, Kind, num_pages, to_text
from dreamdb.objects.address import page_hashes as hash_pages
from dreamdb.objects.envelope import (
    ENVELOPE_SIZE,
    Compression,
    Envelope,
    check_address,
    decompress,
)
from dreamdb.types import Address

__all__ = ["OpenedObject"]

_SMALL: Final = 8 * PAGE_SIZE


class OpenedObject:
    """The payload of one stored object and what of it has been verified.

    Compressed and small objects are verified whole when opened.  Larger plain objects check only
    their page list then; :meth:`verify` checks the pages of a range, each at most once.

    Parameters
    ----------
    address : Address
        The object's name.
    stored : memoryview
        The whole stored object (mapped or in memory).
    kind : Kind or None
        What the caller expects; another kind is a FormatError.  None accepts any kind and leaves
        it in :attr:`kind`.

    Raises
    ------
    HashMismatchError, FormatError
        When the bytes are not that object.
    """

    __slots__ = (
        "_hashes",
        "_pending",
        "_seen",
        "address",
        "kind",
        "nbytes",
        "payload",
        "stored_nbytes",
    )

    def __init__(self, address: Address, stored: memoryview, kind: Kind | None) -> None:
        name = to_text(address)
        envelope = Envelope.parse(stored[:ENVELOPE_SIZE], stored.nbytes, name)
        if kind is None:
            kind = envelope.kind
        elif envelope.kind is not kind:
            raise FormatError(
                f"object {name} is a {envelope.kind.name.lower()}, not a {kind.name.lower()}",
                object=name,
            )
        body = stored[ENVELOPE_SIZE : ENVELOPE_SIZE + envelope.body_nbytes]
        self.address = address
        self.kind = kind
        self.stored_nbytes = stored.nbytes
        self.nbytes = envelope.raw_nbytes
        self._hashes: memoryview | None = None
        self._seen = bytearray()
        self._pending = 0
        if envelope.compression is Compression.ZSTD:
            body = decompress(envelope, body, name)
        self.payload = body
        if envelope.trailer_nbytes:
            hashes = stored[ENVELOPE_SIZE + envelope.body_nbytes :]
            check_address(address, kind, self.nbytes, bytes(hashes))
            self._pending = num_pages(self.nbytes)
            self._seen = bytearray(self._pending)
            self._hashes = hashes
            if self.nbytes <= _SMALL:
                self.verify(0, self.nbytes)
        else:
            length, computed = hash_pages([body])
            check_address(address, kind, length, computed)

    @property
    def verified(self) -> bool:
        """Whether every page has been checked."""
        return self._pending == 0

    def verify(self, start: int, stop: int) -> None:
        """Check the pages that hold payload bytes ``[start, stop)``.

        Parameters
        ----------
        start, stop : int
            Byte range of the payload.

        Raises
        ------
        HashMismatchError
            When a page does not have its hash.
        """
        if not self._pending or stop <= start:
            return
        seen = self._seen
        page, end = start // PAGE_SIZE, (stop - 1) // PAGE_SIZE + 1
        while (page := seen.find(0, page, end)) >= 0:
            behind = seen.find(1, page, end)
            self._verify_run(page, end if behind < 0 else behind)

    def _verify_run(self, first: int, stop: int) -> None:
        assert self._hashes is not None
        payload = self.payload
        found = b"".join(
            [
                blake3(payload[at : at + PAGE_SIZE]).digest()
                for at in range(first * PAGE_SIZE, min(stop * PAGE_SIZE, self.nbytes), PAGE_SIZE)
            ]
        )
        expected = bytes(self._hashes[first * HASH_SIZE : stop * HASH_SIZE])
        if found != expected:
            page = first + next(
                at
                for at in range(stop - first)
                if found[at * HASH_SIZE :][:HASH_SIZE] != expected[at * HASH_SIZE :][:HASH_SIZE]
            )
            name = to_text(self.address)
            raise HashMismatchError(
                f"object {name} is damaged in page {page} "
                f"(bytes {page * PAGE_SIZE} to {(page + 1) * PAGE_SIZE})",
                hint="run `dreamdb verify` to see what it affects",
                object=name,
                page=page,
            )
        # Two threads may verify the same page; marking is idempotent and the count is recomputed.
        self._seen[first:stop] = b"\x01" * (stop - first)
        self._pending = self._seen.count(0)

    def view(self) -> memoryview:
        """Return the whole payload, verified."""
        self.verify(0, self.nbytes)
        return self.payload
