"""Single objects on their way from one space to another: looked for, verified, stored, counted.

Source: design/0010 section 4.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self, TypeVar

from dreamdb import config
from dreamdb.errors import DreamDBError, IntegrityError, ObjectMissingError
from dreamdb.objects import Kind, OpenedObject, SealedObject, copy_sealed, seal, to_text
from dreamdb.transfer.place import Place
from dreamdb.types import Address

__all__ = ["Copier", "Progress", "damaged_at"]

Progress = Callable[[int, int], None]
"""Called with the objects and the stored bytes that have gone over since the last call."""

_Result = TypeVar("_Result")

_IN_FLIGHT_NBYTES: Final = 64 << 20
_IN_FLIGHT: Final = 256
# More than there are cores: most of the time they wait for a disk or a server.
_THREADS: Final = 8
_FLUSH_NBYTES: Final = 64 << 20
_FLUSH_OBJECTS: Final = 512


def damaged_at(error: IntegrityError, url: str) -> IntegrityError:
    """Return an error that says where a damaged object was met and that it was not copied."""
    name = error.details.get("object")
    return type(error)(
        f"{error}; it is damaged in {url} and was not copied",
        hint=f"repair it there from a space that has it: dreamdb verify {url} --repair-from URL",
        **{**error.details, "object": name, "url": url},
    )


class Copier:
    """Copies objects with a few threads, a bounded number of bytes at a time.

    Objects are stored in batches.  When the copy fails or is interrupted, what has arrived stays;
    a process that is killed loses the last batch at most.

    Parameters
    ----------
    origin, target : Place
        From where, and to where.
    progress : callable, optional
        Told of each object that has gone over.
    """

    def __init__(self, origin: Place, target: Place, progress: Progress | None = None) -> None:
        self.origin = origin
        self.target = target
        self.num_objects = 0
        self.nbytes = 0
        self._progress = progress
        self._kept = target.kept
        self._upload = self._kept.upload()
        self._pool = ThreadPoolExecutor(max(_THREADS, config.num_threads()), "dreamdb-copy")
        self._jobs: deque[tuple[Future[None], int]] = deque()
        self._in_flight = 0
        self._lock = threading.Lock()
        # Of the batch: not to be found in the store before it is flushed.
        self._batch: set[Address] = set()
        self._asked: set[Address] = set()
        self._batch_nbytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.flush()
                self._upload.abort()
            else:
                self._give_up()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def has(self, address: Address) -> bool:
        """Return whether the target has an object already, or will have it with this batch.

        Cost: 1 look at the target.
        """
        return address in self._batch or self._kept.size(address) is not None

    def map(
        self, function: Callable[[Address], _Result], addresses: Sequence[Address]
    ) -> list[_Result]:
        """Call a function with each address, several at a time; return the results in order."""
        if len(addresses) < 2:
            return [function(address) for address in addresses]
        return list(self._pool.map(function, addresses))

    def open(self, address: Address, kind: Kind) -> tuple[OpenedObject, SealedObject]:
        """Read and verify an object of the origin.

        Raises
        ------
        ObjectMissingError, IntegrityError
            When the origin lacks it, or its copy is damaged.

        Notes
        -----
        Cost: 1 object read.
        """
        with self._of_origin(address):
            return copy_sealed(address, self.origin.backend.objects.open(address), kind)

    def document(self, address: Address, kind: Kind) -> tuple[memoryview, SealedObject | None]:
        """Return a document's payload, and its sealed form unless the target has it.

        Notes
        -----
        Cost: 1 look at the target; 1 object read, cached, where it is found.
        """
        if self.has(address):
            # Left by an interrupted copy, or here by another way.
            with contextlib.suppress(IntegrityError, ObjectMissingError):
                return self.target.cache.open(address, kind).view(), None
        with self._of_origin(address):
            payload = self.origin.cache.open(address, kind).view()
        return payload, seal(kind, [payload], compress=True)

    @contextmanager
    def _of_origin(self, address: Address) -> Iterator[None]:
        """Say in errors which object of the origin they are about."""
        try:
            yield
        except IntegrityError as error:
            error.details.setdefault("object", to_text(address))
            raise damaged_at(error, self.origin.url) from None
        except ObjectMissingError as error:
            raise ObjectMissingError(
                f"object {to_text(address)} is not in {self.origin.url}",
                hint=error.hint,
                **error.details,
            ) from None

    def copy(self, address: Address, kind: Kind, nbytes: int) -> None:
        """Copy an object in the background unless the target has it.

        Parameters
        ----------
        address : Address
            Which one.
        kind : Kind
            What it must be.
        nbytes : int
            About how large it is: bounds what is in memory at a time.
        """
        if address not in self._asked:
            self._make_room(nbytes)
            self._asked.add(address)
            self._jobs.append((self._pool.submit(self._copy, address, kind), nbytes))
            self._in_flight += nbytes

    def put(self, sealed: SealedObject) -> None:
        """Store an object that was opened before, in the background."""
        self._make_room(sealed.nbytes)
        self._jobs.append((self._pool.submit(self._put, sealed), sealed.nbytes))
        self._in_flight += sealed.nbytes

    def _put(self, sealed: SealedObject) -> None:
        if self._upload.put(sealed):
            with self._lock:
                self._batch.add(sealed.address)
                self._batch_nbytes += sealed.nbytes
                self.num_objects += 1
                self.nbytes += sealed.nbytes
                if self._progress is not None:
                    self._progress(1, sealed.nbytes)

    def flush(self) -> None:
        """Make everything copied so far durable."""
        while self._jobs:
            self._wait_oldest()
        self._asked.clear()
        if self._batch:
            self._upload.finish()
            self._upload = self._kept.upload()
            self._batch.clear()
            self._batch_nbytes = 0

    def _copy(self, address: Address, kind: Kind) -> None:
        if not self.has(address):
            self._put(self.open(address, kind)[1])

    def _make_room(self, nbytes: int) -> None:
        while self._jobs and (
            self._in_flight + nbytes > _IN_FLIGHT_NBYTES or len(self._jobs) >= _IN_FLIGHT
        ):
            self._wait_oldest()
        if self._batch_nbytes >= _FLUSH_NBYTES or len(self._batch) >= _FLUSH_OBJECTS:
            self.flush()

    def _wait_oldest(self) -> None:
        job, nbytes = self._jobs.popleft()
        self._in_flight -= nbytes
        job.result()

    def _give_up(self) -> None:
        """Keep what has arrived whole, so that the next attempt goes on from there."""
        for job, _ in self._jobs:
            job.cancel()
        for job, _ in self._jobs:
            if not job.cancelled():
                job.exception()
        self._jobs.clear()
        try:
            self._upload.finish()
        except DreamDBError:
            self._upload.abort()
