"""Settings from the environment, read in this one place.

=========================  ========================================================
``DREAMDB_BACKEND``        default backend URL of the command line
``DREAMDB_AUTHOR``         author recorded in manifests (default: user@host)
``DREAMDB_THREADS``        threads for hashing, compression and file I/O (default: cores, 2 to 8)
``DREAMDB_OPEN_OBJECTS``   how many objects a process keeps mapped (default 4096)
``DREAMDB_NO_PROGRESS``    any value switches progress bars off
=========================  ========================================================
"""

from __future__ import annotations

import getpass
import os
import socket

from dreamdb.errors import InvalidInputError

__all__ = ["author", "default_backend", "num_threads", "open_objects", "progress_wanted"]


def _positive(name: str, default: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise InvalidInputError(f"{name}={text!r} is not a positive integer")
    return value


def num_threads() -> int:
    """Return how many threads one process uses for hashing and I/O."""
    return _positive("DREAMDB_THREADS", min(8, max(2, os.cpu_count() or 2)))


def open_objects() -> int:
    """Return how many objects one process keeps mapped at most."""
    return _positive("DREAMDB_OPEN_OBJECTS", 4096)


def default_backend() -> str | None:
    """Return the backend URL the command line uses when none is given."""
    return os.environ.get("DREAMDB_BACKEND") or None


def progress_wanted() -> bool:
    """Return whether progress bars may be shown at all."""
    return "DREAMDB_NO_PROGRESS" not in os.environ


def author() -> str:
    """Return who is recorded as the author of a manifest."""
    named = os.environ.get("DREAMDB_AUTHOR")
    if named:
        return named
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid{os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"
