"""Versioning verbs of a dataset: snapshots, branches, history.

Source: design/0004 section 4, design/0005.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from dreamdb import config
from dreamdb.dataset.handle import Handle
from dreamdb.dataset.locate import find_manifest, require_stored
from dreamdb.dataset.log import Log, LogRecord, format_time
from dreamdb.errors import AlreadyExistsError, InvalidInputError
from dreamdb.history import ancestors, first_parents, manifests_of
from dreamdb.model import Tag
from dreamdb.objects import check_ref_name, to_text
from dreamdb.store import LogEntry
from dreamdb.tracks import View
from dreamdb.write import check_notes, check_text, create_ref, create_snapshot

__all__ = ["Versions"]


class Versions(Handle):
    """The verbs that name versions and look back."""

    def snapshot(
        self,
        label: str,
        message: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> dict[str, str | None]:
        """Keep this version under a name that never moves.

        Parameters
        ----------
        label : str
            The snapshot's name; ``open_ref(label)`` finds it.
        message : str, optional
            Why it was kept.
        metadata : mapping of str to str, optional
            Notes, such as a model's hash or a metric.

        Returns
        -------
        dict
            ``label``, ``manifest`` and ``timeline``: addresses as text (timeline is None for an
            empty dataset).  :meth:`Dataset.open_at` takes it.

        Raises
        ------
        AlreadyExistsError
            When a ref has that name.
        NotFoundError
            When this version was collected since it was opened.

        Notes
        -----
        Cost: 1 ref read and 1 ref creation, at any size: the ref carries the snapshot's tag.
        """
        check_ref_name(label)
        notes = check_notes({} if metadata is None else metadata, "metadata")
        said = check_text("" if message is None else message, "the message")
        space = self._space
        if space.backend.refs.read(label) is not None:
            raise AlreadyExistsError(
                f"ref {label!r} exists already in {space.url}",
                hint="names are per space, snapshots never move: choose another name",
                ref=label,
            )
        tag = Tag(label, self._manifest, config.author(), said, time.time_ns(), notes)
        with space.backend.objects.hold():
            require_stored(space, self._manifest)
            create_snapshot(space.backend, space.source, tag)
        timeline = self._view.content.timeline
        return {
            "label": label,
            "manifest": to_text(self._manifest),
            "timeline": None if timeline is None else to_text(timeline),
        }

    def branch(self, name: str, at: Any = None) -> Self:
        """Create a branch and return a handle on it.

        Parameters
        ----------
        name : str
            The branch's name, such as ``"sweep/lp-lr0.001-bs128"``.
        at : str or dict, optional
            A manifest, a snapshot's dictionary or a ref to start from; default: this handle's
            manifest.

        Returns
        -------
        Dataset
            Writable.

        Raises
        ------
        AlreadyExistsError
            When a ref has that name.

        Notes
        -----
        Cost: 1 ref creation, at any size: no object is copied or written.
        """
        check_ref_name(name)
        space = self._space
        manifest = self._manifest
        if at is not None:
            manifest = find_manifest(space, at)
        with space.backend.objects.hold():
            require_stored(space, manifest)
            create_ref(space.backend, name, manifest)
        return type(self)(space, name, manifest, None)

    def log(self, n: int | None = None) -> Log:
        """Return the manifests that led here, newest first, merges included.

        Parameters
        ----------
        n : int, optional
            At most so many.

        Returns
        -------
        Log
            ``print(ds.log())`` draws it; ``.to_arrow()`` tabulates it.

        Notes
        -----
        Cost: about 4 object reads per manifest, cached.
        """
        found = ancestors(self._space.cache, self._manifest, limit=n)
        return self._log([self._log_record(address, manifest) for address, manifest in found])

    def history(self, max_depth: int | None = None) -> Log:
        """Return this branch's own line: the tip, its first parent, and so on.

        Parameters
        ----------
        max_depth : int, optional
            At most so many.
        """
        records: list[LogRecord] = []
        for address, manifest in first_parents(self._space.cache, self._manifest):
            if max_depth is not None and len(records) >= max_depth:
                break
            records.append(self._log_record(address, manifest))
        return self._log(records)

    def _log_record(self, address: Any, manifest: Any) -> LogRecord:
        source = self._space.source
        view = View(source, source.content(manifest.content))
        return LogRecord(
            to_text(address),
            tuple(to_text(p) for p in manifest.parents),
            manifest.time_ns,
            manifest.author,
            manifest.message,
            dict(manifest.operation),
            view.count(),
            application=dict(manifest.application),
        )

    def _log(self, records: list[LogRecord]) -> Log:
        from dataclasses import replace

        space = self._space
        names: dict[str, list[str]] = {}
        for name, value in space.backend.refs.list():
            for manifest in manifests_of(space.cache, name, value):
                names.setdefault(to_text(manifest), []).append(name)
        return Log([replace(r, refs=tuple(names.get(r.manifest, ()))) for r in records])

    def reflog(self) -> list[dict[str, Any]]:
        """Return the moves of this ref that are not in its history: deletions and resets.

        Returns
        -------
        list of dict
            ``time``, ``time_ns``, ``old``, ``new``, ``who``, ``why``; newest first.
        """
        if self._name is None:
            raise InvalidInputError("this handle was opened by manifest and has no reflog")
        return reflog_records(self._space.backend.refs.read_log(self._name))


def reflog_records(entries: list[LogEntry]) -> list[dict[str, Any]]:
    """Return log entries as dictionaries, newest first."""
    return [
        {
            "time": format_time(entry.time_ns),
            "time_ns": entry.time_ns,
            "old": None if entry.old is None else to_text(entry.old),
            "new": None if entry.new is None else to_text(entry.new),
            "who": entry.who,
            "why": entry.why,
        }
        for entry in reversed(entries)
    ]
