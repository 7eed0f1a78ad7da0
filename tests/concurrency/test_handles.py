"""One handle in several threads, made to meet at the worst moment."""

from __future__ import annotations

import threading
from typing import Any

import dreamdb as vd
from dreamdb.store import Backend, open_backend
from tests.concurrency.spaces import make, values


class _GatedObjects:
    """An object store whose first read waits at a gate, once it is armed."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.armed = False
        self.waiting = threading.Event()
        self.gate = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def open(self, address: Any) -> memoryview:
        """Wait when armed, then read."""
        if self.armed:
            self.armed = False
            self.waiting.set()
            assert self.gate.wait(30)
        found: memoryview = self._inner.open(address)
        return found


class GatedBackend:
    """A backend that lets a test hold one reader back."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.objects = _GatedObjects(inner.objects)
        self.refs = inner.refs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_slow_first_read_does_not_undo_a_commit() -> None:
    url = "memory://gated"
    make(url, 10)
    backend: Any = GatedBackend(open_backend(url))
    ds = vd.Dataset.open_ref("main", backend)
    backend.objects.armed = True
    counts: list[int] = []
    reader = threading.Thread(target=lambda: counts.append(ds.count()))
    reader.start()
    assert backend.objects.waiting.wait(30)
    writer = threading.Thread(target=lambda: ds.append_many([{"x": 100}]))
    writer.start()
    # The writer either waits for the reader or has finished before it.
    writer.join(0.3)
    backend.objects.gate.set()
    reader.join()
    writer.join()
    assert ds.append_many([{"x": 101}]) == 1
    assert values(url)[10:] == [100, 101]
    assert ds.count() == 12
    assert counts in ([10], [11])
