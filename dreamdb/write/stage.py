"""Staging: objects of one commit, sealed in threads and uploaded before the ref moves.

Source: design/0006 section 1.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
import pyarrow as pa

from dreamdb.codecs import encode
from dreamdb.model import Entries, Node, empty_entries, stats_kind
from dreamdb.objects import Kind, SealedObject, seal
from dreamdb.store import Backend
from dreamdb.tracks import Source
from dreamdb.types import Address, Bytes, FieldType
from dreamdb.vectors import parse_codec

__all__ = ["PendingEntry", "Stage"]

_INLINE: Final = 256 << 10
_IN_FLIGHT: Final = 64 << 20
_REMEMBER: Final = 1 << 20


class PendingEntry:
    """A tree entry whose address may still be computed in another thread."""

    __slots__ = ("_entry", "_job")

    def __init__(self, entry: Entries, job: Future[Address] | None) -> None:
        self._entry = entry
        self._job = job

    def result(self) -> Entries:
        """Return the entry, waiting for its address when needed."""
        if self._job is not None:
            self._entry["address"] = np.void(self._job.result())
            self._job = None
        return self._entry


class Stage:
    """Collects the objects of one commit.

    Large fragments are hashed and written by a thread pool while the caller goes on; small
    objects are handled in place, since a thread hop costs more than they do.

    Parameters
    ----------
    backend : Backend
        Where objects go.
    source : Source
        Learns the nodes and small payloads written here, so that they are not read back.
    """

    def __init__(self, backend: Backend, source: Source) -> None:
        self._backend = backend
        self._source = source
        self._upload = backend.objects.upload()
        self._pool: ThreadPoolExecutor = source.pool()
        self._jobs: list[tuple[Future[Address], int]] = []
        self._in_flight = 0
        self._lock = threading.Lock()
        self._nodes: dict[Address, Node] = {}
        self.written_nbytes = 0
        self.written_objects = 0

    def node(self, address: Address) -> Node:
        """Return a node, staged here or stored."""
        node = self._nodes.get(address)
        return self._source.node(address) if node is None else node

    def emit(self, node: Node) -> Address:
        """Stage a node and return its address."""
        payload = node.encode()
        address = self.document(Kind.NODE, payload)
        self._nodes[address] = node
        return address

    def document(self, kind: Kind, payload: bytes) -> Address:
        """Stage a small object and return its address."""
        sealed = seal(kind, [payload], compress=True)
        self._put(sealed)
        self._source.cache.put_known(sealed.address, kind, payload)
        return sealed.address

    def plain(self, kind: Kind, parts: Sequence[Bytes]) -> Address:
        """Stage an object that is read in pieces, uncompressed, and return its address."""
        sealed = seal(kind, parts, compress=False)
        self._put(sealed)
        return sealed.address

    def codec_of(self, ftype: FieldType) -> None:
        """Stage the codec object of a field stored as codes: a content needs it in its space."""
        if ftype.codec is not None:
            self.document(Kind.CODEC, parse_codec(ftype.codec, ftype.dim).encode())

    def fragment(
        self, ftype: FieldType, chunks: Sequence[pa.Array], *, key: int, rows: int, rung: int
    ) -> PendingEntry:
        """Encode and stage one fragment and return its entry.

        Parameters
        ----------
        ftype : FieldType
            What the values are.
        chunks : sequence of Array
            The values, of the logical type, in order.
        key, rows, rung : int
            Of the entry.
        """
        stats = stats_kind(ftype.kind)
        entry = empty_entries(stats, 1)
        entry["key"], entry["rows"], entry["rung"] = key, rows, rung
        nulls = sum(chunk.null_count for chunk in chunks)
        entry["nulls"] = nulls
        if nulls == rows:
            return PendingEntry(entry, None)
        nbytes = sum(chunk.nbytes for chunk in chunks)
        if nbytes <= _INLINE:
            entry["address"] = np.void(self._store(ftype, chunks, entry))
            return PendingEntry(entry, None)
        while self._in_flight + nbytes > _IN_FLIGHT and self._jobs:
            self._wait_oldest()
        job = self._pool.submit(self._store, ftype, chunks, entry)
        self._jobs.append((job, nbytes))
        self._in_flight += nbytes
        return PendingEntry(entry, job)

    def _store(self, ftype: FieldType, chunks: Sequence[pa.Array], entry: Entries) -> Address:
        encoded = encode(ftype, chunks)
        entry["nbytes"] = encoded.nbytes
        if "low" in (entry.dtype.names or ()):
            for name, bound in zip(("low", "high"), encoded.stats, strict=True):
                entry[name] = np.frombuffer(bound, entry.dtype[name])
        sealed = seal(Kind.FRAGMENT, encoded.parts, compress=encoded.compress)
        self._put(sealed)
        if encoded.nbytes <= _REMEMBER and ftype.kind == "anchor":
            payload: Bytes = b"".join(encoded.parts)
            self._source.cache.put_known(sealed.address, Kind.FRAGMENT, payload)
        elif encoded.compress and encoded.nbytes <= _INLINE:
            # The next small append begins with the values of this open fragment.
            self._source.remember_values(ftype, sealed.address, chunks)
        return sealed.address

    def _put(self, sealed: SealedObject) -> None:
        if self._upload.put(sealed):
            with self._lock:
                self.written_objects += 1
                self.written_nbytes += sealed.nbytes

    def _wait_oldest(self) -> None:
        job, nbytes = self._jobs.pop(0)
        self._in_flight -= nbytes
        job.result()

    def flush(self) -> None:
        """Make everything staged so far durable and readable."""
        while self._jobs:
            self._wait_oldest()
        self._upload.finish()
        for address, node in self._nodes.items():
            self._source.remember_node(address, node)
        self._nodes.clear()
        self._upload = self._backend.objects.upload()

    def abort(self) -> None:
        """Drop what is not durable yet; wait for running jobs first."""
        for job, _ in self._jobs:
            job.exception()
        self._jobs.clear()
        self._upload.abort()
