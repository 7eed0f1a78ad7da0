"""The state of a handle: which ref, which manifest, whether it may write.

Source: design/0004 section 1.  A handle never moves under its reader: it reads the manifest it
was opened at until :meth:`Handle.refresh` or one of its own commits moves it.
"""

from __future__ import annotations

import threading
from typing import Any, Self

from dreamdb.dataset.schema import Schema
from dreamdb.dataset.session import OpenSpace
from dreamdb.errors import IntegrityError, ReadOnlyError
from dreamdb.history import load_manifest, resolve_content, resolve_ref
from dreamdb.objects import to_text
from dreamdb.tracks import View
from dreamdb.types import Address

__all__ = ["Handle"]


class Handle:
    """One dataset at one manifest.

    Parameters
    ----------
    space : OpenSpace
        Where it lies.
    name : str or None
        The ref it was opened by; None when opened by manifest.
    manifest : Address
        The manifest it reads.
    read_only : str or None
        Why it cannot write; None for a branch.
    """

    def __init__(
        self, space: OpenSpace, name: str | None, manifest: Address, read_only: str | None
    ) -> None:
        self._space = space
        self._name = name
        self._manifest = manifest
        self._read_only = read_only
        self._lock = threading.RLock()
        self._opened: View | None = None

    @property
    def _view(self) -> View:
        opened = self._opened
        if opened is not None:
            return opened
        # Another thread may commit through this handle meanwhile: manifest and view move together.
        with self._lock:
            if self._opened is None:
                source = self._space.source
                manifest = load_manifest(source.cache, self._manifest)
                self._opened = View(source, source.content(manifest.content))
            return self._opened

    def _move(self, manifest: Address, view: View | None = None) -> None:
        before = self._opened
        self._manifest = manifest
        self._opened = view
        if view is None and before is not None:
            self._view.adopt(before)

    def _require_writable(self) -> str:
        if self._read_only is not None or self._name is None:
            raise ReadOnlyError(
                f"this handle cannot write: {self._read_only}",
                hint="make a branch from it: ds.branch('name')",
                ref=self._name,
            )
        return self._name

    @property
    def name(self) -> str | None:
        """The ref this handle was opened by; None when it was opened by manifest."""
        return self._name

    @property
    def backend(self) -> str:
        """URL of the space, without credentials."""
        return self._space.url

    @property
    def read_only(self) -> bool:
        """Whether writes are refused: snapshots and pinned handles."""
        return self._read_only is not None

    @property
    def schema(self) -> Schema:
        """The fields of this manifest."""
        return Schema.of_fields(self._view.content.schema)

    @property
    def key(self) -> str | None:
        """The field that gives records their anchors, if there is one."""
        return self._view.content.schema.key

    @property
    def content_id(self) -> str:
        """Address of the content: equal stored state, equal address, whatever the history."""
        cache = self._space.cache
        return to_text(resolve_content(cache, load_manifest(cache, self._manifest).content)[0])

    @property
    def metadata(self) -> dict[str, str]:
        """Notes that belong to the data; change them with ``set_metadata``."""
        return dict(self._view.content.metadata)

    def current_manifest(self) -> str:
        """Return the address of the manifest this handle reads, as 53 characters."""
        return to_text(self._manifest)

    def refresh(self) -> Self:
        """Move a branch handle to the branch's tip.

        Returns
        -------
        Dataset
            This handle.  Snapshots and pinned handles stay where they are.

        Notes
        -----
        Cost: 1 ref read.
        """
        if self._read_only is None and self._name is not None:
            with self._lock:
                found = resolve_ref(self._space.backend, self._space.cache, self._name)
                if found.manifest != self._manifest:
                    self._move(found.manifest)
        return self

    def count(self) -> int:
        """Return how many records there are.

        Notes
        -----
        Cost: at most 4 object reads at any size, cached.
        """
        return self._view.count()

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self._space, self._name, self._manifest, self._read_only)
        return _rebuild, (type(self), *state)


def _rebuild(
    cls: type[Handle],
    space: OpenSpace,
    name: str | None,
    manifest: Address,
    read_only: str | None,
) -> Handle:
    handle = cls(space, name, manifest, read_only)
    try:
        load_manifest(space.cache, manifest)
    except LookupError as error:
        raise IntegrityError(
            f"the manifest {to_text(manifest)} is not in {space.url}: {error}",
            hint="memory:// spaces do not cross processes; use a path or a bucket",
        ) from None
    return handle
