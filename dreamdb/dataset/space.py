"""Spaces: what lies in one place, and what concerns several refs.

Source: design/0004 sections 1 and 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dreamdb import config
from dreamdb.dataset.dataset import Dataset
from dreamdb.dataset.restoring import restore_deleted
from dreamdb.dataset.session import BackendLike, OpenSpace, open_space
from dreamdb.dataset.upkeep import Upkeep
from dreamdb.dataset.versions import reflog_records
from dreamdb.errors import InvalidInputError
from dreamdb.history import (
    load_manifest,
    manifests_of,
    open_catalog,
    read_ref,
    resolve_address,
    resolve_ref,
)
from dreamdb.objects import check_ref_name, to_text
from dreamdb.read import Comparison, compare_views
from dreamdb.tracks import View
from dreamdb.write import check_text, delete_ref

__all__ = ["RefInfo", "Space", "compare_refs", "connect"]


@dataclass(frozen=True, slots=True)
class RefInfo:
    """One ref.

    Parameters
    ----------
    name : str
        Its name.
    kind : str
        ``"branch"``, ``"snapshot"``, or ``"tag"``: a version tag of all tables (see
        :class:`dreamdb.Database`).
    manifest : str
        The manifest it names; of a version tag the catalog.
    time_ns : int
        When the manifest, or the snapshot, was made.
    author, message : str
        Who and why.
    metadata : mapping of str to str
        Notes of a snapshot.
    """

    name: str
    kind: str
    manifest: str
    time_ns: int
    author: str
    message: str
    metadata: Mapping[str, str]


class Space(Upkeep):
    """One place that holds objects and refs.

    Parameters
    ----------
    opened : OpenSpace
        The backend and its caches.
    """

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return self._space.url

    def refs(self, prefix: str = "") -> list[RefInfo]:
        """Return the refs, sorted by name.

        Parameters
        ----------
        prefix : str
            Only names that start so.

        Notes
        -----
        Cost: 1 listing, 1 object read per ref, cached.
        """
        out = []
        for name, value in self._space.backend.refs.list():
            if not name.startswith(prefix):
                continue
            catalog = open_catalog(self._space.cache, name, value)
            if catalog is not None:
                told_by = (catalog.time_ns, catalog.author, catalog.message)
                at = to_text(value.address)
                out.append(RefInfo(name, "tag", at, *told_by, dict(catalog.metadata)))
                continue
            found = resolve_address(self._space.cache, name, value)
            manifest = load_manifest(self._space.cache, found.manifest)
            told = found.tag if found.tag is not None else manifest
            out.append(
                RefInfo(
                    name,
                    "snapshot" if found.is_snapshot else "branch",
                    to_text(found.manifest),
                    told.time_ns,
                    told.author,
                    told.message,
                    dict(found.tag.metadata) if found.tag is not None else {},
                )
            )
        return out

    def list_refs(self, prefix: str = "") -> list[str]:
        """Return the names of the refs, sorted.

        Parameters
        ----------
        prefix : str
            Only names that start so.
        """
        return [n for n, _ in self._space.backend.refs.list() if n.startswith(prefix)]

    def datasets(self) -> list[str]:
        """Return the names of the branches, sorted."""
        return [ref.name for ref in self.refs() if ref.kind == "branch"]

    def open(self, ref_name: str, at: Any = None) -> Dataset:
        """Open a branch or a snapshot.

        Parameters
        ----------
        ref_name : str
            Its name.
        at : object, optional
            As in :meth:`Dataset.open_ref`.
        """
        return Dataset.open_ref(
            ref_name,
            self._space.given,
            at,
            storage_options=self._space.storage_options,
        )

    def delete_ref(self, name: str, *, reason: str | None = None) -> None:
        """Delete a branch, a snapshot or a version tag; its objects stay until they are collected.

        Parameters
        ----------
        name : str
            Which one.
        reason : str, optional
            Recorded in its reflog, which is kept: the ref can be restored.

        Raises
        ------
        RefNotFoundError
            When there is none of that name.
        ConflictError
            When another writer moved it meanwhile.
        """
        space = self._space
        value = read_ref(space.backend, name)
        manifests_of(space.cache, name, value)
        why = "delete" + (f": {check_text(reason, 'the reason')}" if reason else "")
        delete_ref(space.backend, space.source, name, value, who=config.author(), why=why)

    def restore(self, name: str, to: str | None = None) -> Dataset:
        """Bring a deleted branch or snapshot back from its reflog.

        Parameters
        ----------
        name : str
            The ref as it was called.
        to : str, optional
            Another name for the branch; a snapshot keeps its own.

        Raises
        ------
        RefNotFoundError
            When no deletion of it is recorded.
        AlreadyExistsError
            When a ref has that name.
        ObjectMissingError
            When its data was collected meanwhile.
        InvalidInputError
            For a version tag, which :meth:`dreamdb.Database.restore_version_tag` brings back.
        """
        restore_deleted(self._space, name, to)
        return self.open(name if to is None else to)

    def reflog(self, name: str) -> list[dict[str, Any]]:
        """Return the moves of a ref that no history shows, newest first; also of a deleted one.

        Parameters
        ----------
        name : str
            The ref.
        """
        return reflog_records(self._space.backend.refs.read_log(check_ref_name(name)))

    def compare_refs(self, refs: Sequence[str], fields: Sequence[str]) -> Comparison:
        """Join fields of several refs by anchor.

        Parameters
        ----------
        refs, fields
            As in :func:`compare_refs`.
        """
        return _compare(self._space, refs, fields)

    def __repr__(self) -> str:
        return f"Space({self.url!r}, {len(self.list_refs())} refs)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)


def connect(
    backend: BackendLike,
    *,
    create: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Space:
    """Open a space.

    Parameters
    ----------
    backend : str, PathLike or Backend
        A path, ``file:///abs``, ``memory://name``, ``s3://bucket/prefix``,
        ``http(s)://host:port/bucket[/prefix]``, or another fsspec URL.
    create : bool
        Make the space when there is none.
    storage_options : mapping, optional
        Credentials and settings of the file system; never shown and never pickled in a URL.

    Raises
    ------
    NotFoundError
        When there is no space there.
    """
    return Space(open_space(backend, storage_options=storage_options, create=create))


def compare_refs(
    refs: Sequence[str],
    fields: Sequence[str],
    backend: BackendLike,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> Comparison:
    """Join fields of several refs by anchor into one wide table.

    Parameters
    ----------
    refs : sequence of str
        Branches or snapshots.
    fields : sequence of str
        Fields that each of them has.
    backend : str, PathLike or Backend
        Where they lie.
    storage_options : mapping, optional
        Credentials and settings of the file system.

    Returns
    -------
    Comparison
        An Arrow table with ``_anchor`` and ``<field>@<ref>`` columns, one row per record of any
        ref (null where a ref lacks it), and ``agreement()``.

    Raises
    ------
    RefNotFoundError, FieldNotFoundError
        With the nearest names.

    Notes
    -----
    Cost: each column is read once.
    """
    return _compare(open_space(backend, storage_options=storage_options), refs, fields)


def _compare(space: OpenSpace, refs: Sequence[str], fields: Sequence[str]) -> Comparison:
    for what, given in (("refs", refs), ("fields", fields)):
        if isinstance(given, str) or not len(given):
            raise InvalidInputError(f"{what} must be a list of names, not {given!r}")
        if len(set(given)) != len(given):
            raise InvalidInputError(f"{what} names something twice: {list(given)}")
    views = []
    for name in refs:
        found = resolve_ref(space.backend, space.cache, name)
        content = space.source.content(load_manifest(space.cache, found.manifest).content)
        views.append((name, View(space.source, content)))
    return compare_views(views, list(fields))
