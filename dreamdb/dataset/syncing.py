"""Verbs of a dataset that concern another space: push, pull.

Source: design/0010 section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dreamdb.dataset.handle import Handle
from dreamdb.dataset.remotes import RemoteLike, ends, open_remote_space
from dreamdb.errors import InvalidInputError
from dreamdb.history import resolve_ref, tracking_name
from dreamdb.transfer import (
    Progress,
    RefMove,
    TransferReport,
    fast_forward,
    fetch_refs,
    push_ref,
)

__all__ = ["Syncing"]


class Syncing(Handle):
    """The verbs that send this dataset to another space, or bring it up to date from there."""

    def push(
        self,
        remote: RemoteLike,
        ref: str | None = None,
        force: bool = False,
        *,
        storage_options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> TransferReport:
        """Make a ref of another space hold what it holds here.

        Parameters
        ----------
        remote : str, PathLike, Backend, Space or Dataset
            The other space; it must exist.
        ref : str, optional
            A branch or a snapshot of this space; default: the ref of this handle.
        force : bool
            Move the branch there even if it has commits that are not here; its reflog keeps them.
        storage_options : mapping, optional
            Credentials and settings of the other space.
        progress : callable, optional
            Called with objects and bytes that went over since the last call.

        Returns
        -------
        TransferReport
            Empty ``refs`` when the other space was up to date.

        Raises
        ------
        ConflictError
            When the branch there has commits that are not here, or moved meanwhile.
        AlreadyExistsError
            When the other space has another snapshot of that name.
        ReadOnlyError, StorageError
            When the other space refuses or fails; no ref moved, and what has arrived stays.

        Notes
        -----
        Cost: there 1 ref read, 1 look and 1 write per object that is missing, 1 ref swap.
        """
        name = self._name if ref is None else ref
        if name is None:
            raise InvalidInputError(
                "this handle was opened by manifest: it has no ref to push",
                hint="push(remote, ref='name'), or open a branch",
            )
        origin, target = ends(self._space, open_remote_space(remote, storage_options))
        return push_ref(origin, target, name, force=force, progress=progress)

    def pull(
        self,
        remote: RemoteLike,
        ref: str | None = None,
        *,
        name: str = "origin",
        storage_options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> TransferReport:
        """Bring this branch up to date with a branch of another space, by fast-forward only.

        Parameters
        ----------
        remote : str, PathLike, Backend, Space or Dataset
            The other space.
        ref : str, optional
            The branch there; default: this branch's name.
        name : str
            What the other space is called here: the branch is also kept as
            ``remotes/<name>/<ref>``.
        storage_options : mapping, optional
            Credentials and settings of the other space.
        progress : callable, optional
            Called with objects and bytes that went over since the last call.

        Returns
        -------
        TransferReport
            What was copied, and the refs that moved; this handle moves along.

        Raises
        ------
        ConflictError
            When both sides have commits that the other lacks: what was fetched is kept as
            ``remotes/<name>/<ref>``, to be merged.
        ReadOnlyError
            When this handle is a snapshot or pinned.

        Notes
        -----
        Cost: there 1 ref read and 1 read per object that is missing here; here 1 look for each.
        """
        branch = self._require_writable()
        wanted = branch if ref is None else ref
        origin, target = ends(open_remote_space(remote, storage_options), self._space)
        there = resolve_ref(origin.backend, origin.cache, wanted)
        with self._lock, target.backend.objects.hold():
            fetched = fetch_refs(origin, target, name, names=[wanted], progress=progress)
            kept = wanted if there.is_snapshot else tracking_name(name, wanted)
            new = resolve_ref(target.backend, target.cache, kept).manifest
            hint = f"both sides have commits of their own: merge {kept!r} into {branch!r}"
            old = fast_forward(target, branch, new, hint=hint)
            self.refresh()
        if old is None:
            return fetched
        moved = (*fetched.refs, RefMove.of(branch, "branch", old, new))
        return TransferReport(
            fetched.origin,
            fetched.target,
            moved,
            fetched.manifests,
            fetched.objects,
            fetched.nbytes,
        )
