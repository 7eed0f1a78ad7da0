"""Shared and exclusive locks between threads, and re-entrance for every kind of space lock.

Source: design/0006 section 4.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager

from dreamdb.errors import InternalError

__all__ = ["NamedLocks", "SharedLock", "reentrant"]

_LOCKS: weakref.WeakSet[SharedLock] = weakref.WeakSet()


class SharedLock:
    """Many shared holders or one exclusive holder, within this process.

    Not re-entrant by itself, see :func:`reentrant`.  A forked child starts with it free: the
    threads that held it in the parent do not exist there.
    """

    def __init__(self) -> None:
        self._renew()
        _LOCKS.add(self)

    def _renew(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._shared = 0
        self._exclusive = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold together with other shared holders."""
        changed = self._changed
        with changed:
            while self._exclusive:
                changed.wait()
            self._shared += 1
        try:
            yield
        finally:
            # A child forked while this was held has renewed the lock: nothing to give back there.
            if changed is self._changed:
                with changed:
                    self._shared -= 1
                    changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold alone."""
        changed = self._changed
        with changed:
            while self._exclusive or self._shared:
                changed.wait()
            self._exclusive = True
        try:
            yield
        finally:
            if changed is self._changed:
                with changed:
                    self._exclusive = False
                    changed.notify_all()


class NamedLocks:
    """One :class:`SharedLock` per name, made when first asked for and kept."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, SharedLock] = {}

    def get(self, name: Hashable) -> SharedLock:
        """Return the lock of a name; the same object for every thread."""
        # dict.setdefault is atomic under the GIL, so no lock is needed that a fork could break.
        return self._locks.get(name) or self._locks.setdefault(name, SharedLock())


class _HeldByThread(threading.local):
    """What the current thread holds: key -> whether exclusively."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.exclusive: dict[Hashable, bool] = {}

    def current(self) -> dict[Hashable, bool]:
        if self.process != os.getpid():
            self.process, self.exclusive = os.getpid(), {}
        return self.exclusive


_HELD = _HeldByThread()


@contextmanager
def reentrant(
    key: Hashable, *, exclusive: bool, acquire: Callable[[], AbstractContextManager[object]]
) -> Iterator[None]:
    """Acquire a lock unless the current thread has it already.

    Parameters
    ----------
    key : hashable
        What is locked, the same for all handles of one space.
    exclusive : bool
        How it is wanted.
    acquire : callable
        Returns the context manager that takes the lock.

    Raises
    ------
    InternalError
        When the thread holds it shared and wants it exclusively: it would wait for itself.
    """
    held = _HELD.current()
    if key in held:
        if exclusive and not held[key]:
            raise InternalError(f"{key} is held for a commit; it cannot become exclusive")
        yield
        return
    with acquire():
        held[key] = exclusive
        try:
            yield
        finally:
            held.pop(key, None)


def _renew_after_fork() -> None:
    for lock in list(_LOCKS):
        lock._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)
