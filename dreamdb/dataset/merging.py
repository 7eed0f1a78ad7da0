"""Verbs that join lines of history or take steps back: merge, revert, cherry_pick, reset, undo.

Source: design/0008 sections 6 to 10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from dreamdb import config
from dreamdb.codecs import numbers_array
from dreamdb.dataset.comparing import locate_version
from dreamdb.dataset.handle import Handle
from dreamdb.dataset.log import LogRecord
from dreamdb.dataset.versions import Versions
from dreamdb.errors import InvalidInputError
from dreamdb.history import is_ancestor, load_manifest
from dreamdb.maintain import check_complete
from dreamdb.objects import to_text
from dreamdb.read import last_writer
from dreamdb.types import Address
from dreamdb.write import (
    CommitNote,
    Conflicts,
    MergeOutcome,
    apply_change,
    check_text,
    merge_into,
    move_branch,
    previous_tip,
)

__all__ = ["STRATEGIES", "MergeReport", "Merging"]

STRATEGIES: Final = ("three-way", "fast-forward", "ours", "theirs")


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge, a revert or a cherry-pick has done.

    Parameters
    ----------
    manifest : str
        Where the branch is now.
    changed : bool
        Whether the branch has moved.
    fast_forward : bool
        Whether it only moved on to a manifest that was there.
    decided : int
        Conflicts that the strategy, the function or the table decided.
    moved : Table
        ``old`` and ``new`` anchors of records that gave way, because both sides had let the
        library choose the same anchor for different records.
    num_objects, nbytes : int
        What was stored.
    """

    manifest: str
    changed: bool
    fast_forward: bool
    decided: int
    moved: pa.Table
    num_objects: int
    nbytes: int


class Merging(Versions):
    """The verbs on a branch handle."""

    def merge(
        self,
        other: Any,
        strategy: str = "three-way",
        message: str | None = None,
        *,
        resolve: Any = None,
        unrelated: bool = False,
        application: Mapping[str, str] | None = None,
    ) -> MergeReport:
        """Merge another version into this branch, record by record and cell by cell.

        Parameters
        ----------
        other : str, dict or Dataset
            A branch or snapshot, a manifest, or a handle.
        strategy : str
            ``"three-way"`` moves on when that is enough and merges otherwise;
            ``"fast-forward"`` refuses to do more than move on; ``"ours"`` and ``"theirs"`` are
            ``"three-way"`` with every conflict decided for that side.
        message : str, optional
            Recorded in the manifest.
        resolve : callable, Table or None
            Decides conflicts one by one.  A function takes a :class:`dreamdb.Conflict` and returns
            ``"ours"``, ``"theirs"``, ``"base"``, ``conflict.use(value)``, or None to leave it
            open.  A table has ``anchor``, ``field``, ``choice`` and, where the choice is
            ``"value"``, ``value``.
        unrelated : bool
            Merge datasets without a common ancestor, over an empty base.
        application : mapping of str to str, optional
            Notes recorded in the manifest.

        Returns
        -------
        MergeReport
            Also when there was nothing to do.

        Raises
        ------
        MergeConflictError
            When conflicts stay open: ``details["conflicts"]`` is their table.  The branch is as
            it was.
        ConflictError
            When only a fast-forward was allowed.
        InvalidInputError
            When the histories are unrelated.

        Notes
        -----
        Cost: what differs from the merge base; the side with fewer changes is applied to the
        other, so the objects written are in proportion to the smaller one.
        """
        return self.merge_many(
            [other],
            strategy,
            message,
            resolve=resolve,
            unrelated=unrelated,
            application=application,
        )

    def merge_many(
        self,
        others: Sequence[Any],
        strategy: str = "three-way",
        message: str | None = None,
        *,
        resolve: Any = None,
        unrelated: bool = False,
        application: Mapping[str, str] | None = None,
    ) -> MergeReport:
        """Merge several versions in one commit, such as the shards of a parallel ingest.

        Parameters
        ----------
        others : sequence of str, dict or Dataset
            At most 63 versions.
        strategy, message, resolve, unrelated, application
            As in :meth:`merge`.

        Returns
        -------
        MergeReport
            All or nothing: one manifest with all of them as parents.
        """
        ref = self._require_writable()
        if isinstance(others, (str, bytes, Mapping)) or not len(others):
            raise InvalidInputError("merge_many takes a list of versions", hint="[branch, ...]")
        if strategy not in STRATEGIES:
            raise InvalidInputError(
                f"strategy={strategy!r} is not a choice", hint=f"use one of {STRATEGIES}"
            )
        if resolve is not None and strategy in ("ours", "theirs"):
            raise InvalidInputError(
                f"strategy={strategy!r} decides every conflict already", hint="leave resolve out"
            )
        decide = strategy if strategy in ("ours", "theirs") else resolve
        named = [(_called(v), locate_version(self._space, v, None)) for v in others]
        note = _note(message, application)
        Conflicts(decide)
        with self._lock:
            outcome = merge_into(
                self._space.backend,
                self._space.source,
                ref,
                named,
                lambda: Conflicts(decide),
                note,
                strategy=strategy,
                unrelated=unrelated,
            )
            return self._adopt_outcome(outcome)

    def revert(
        self,
        manifest: Any,
        message: str | None = None,
        *,
        parent: int | None = None,
        strategy: str = "three-way",
        resolve: Any = None,
    ) -> MergeReport:
        """Take back what one manifest of this branch's history has changed, in a new commit.

        Parameters
        ----------
        manifest : str, dict or Dataset
            Which one.
        message : str, optional
            Recorded in the manifest.
        parent : int, optional
            For a merge: the parent its change is counted from.
        strategy : str
            ``"three-way"``, or ``"ours"`` and ``"theirs"`` to decide every conflict for the
            branch or for the state before the manifest.
        resolve : callable, Table or None
            As in :meth:`merge`.

        Returns
        -------
        MergeReport
            ``changed`` is false when nothing of it was left.

        Raises
        ------
        MergeConflictError
            When later commits have changed the same cells.

        Notes
        -----
        Cost: in proportion to what the manifest changed.  Records that it appended are removed
        again, so reverting the newest manifest gives the content before it, address and all.
        """
        why = f"revert {to_text(locate_version(self._space, manifest, self._manifest))[:16]}"
        return self._repeat("revert", manifest, message or why, parent, strategy, resolve)

    def cherry_pick(
        self,
        manifest: Any,
        message: str | None = None,
        *,
        parent: int | None = None,
        strategy: str = "three-way",
        resolve: Any = None,
    ) -> MergeReport:
        """Repeat on this branch what one manifest of any history has changed.

        Parameters
        ----------
        manifest, parent, strategy, resolve
            As in :meth:`revert`.
        message : str, optional
            Recorded in the manifest; default: the message of the original.

        Returns
        -------
        MergeReport
            ``changed`` is false when the branch has all of it already.

        Raises
        ------
        MergeConflictError
            When the branch has changed the same cells otherwise.
        """
        address = locate_version(self._space, manifest, self._manifest)
        said = message or load_manifest(self._space.cache, address).message
        return self._repeat("cherry-pick", manifest, said, parent, strategy, resolve)

    def _repeat(
        self,
        verb: str,
        manifest: Any,
        message: str,
        parent: int | None,
        strategy: str,
        resolve: Any,
    ) -> MergeReport:
        ref = self._require_writable()
        if strategy not in STRATEGIES or strategy == "fast-forward":
            raise InvalidInputError(
                f"strategy={strategy!r} is not a choice", hint="three-way, ours or theirs"
            )
        decide = strategy if strategy in ("ours", "theirs") else resolve
        Conflicts(decide)
        with self._lock:
            outcome = apply_change(
                self._space.backend,
                self._space.source,
                ref,
                verb,
                locate_version(self._space, manifest, self._manifest),
                lambda: Conflicts(decide),
                _note(message, None),
                parent=parent,
            )
            return self._adopt_outcome(outcome)

    def _adopt_outcome(self, outcome: MergeOutcome) -> MergeReport:
        done = outcome.committed
        if done.manifest != self._manifest:
            self._move(done.manifest, done.view)
        old = [o for o, _ in outcome.moved] or [np.empty(0, np.uint64)]
        new = [n for _, n in outcome.moved] or [np.empty(0, np.uint64)]
        moved = {
            "old": numbers_array(np.concatenate(old)),
            "new": numbers_array(np.concatenate(new)),
        }
        return MergeReport(
            to_text(done.manifest),
            done.changed,
            outcome.fast_forward,
            outcome.decided,
            pa.table(moved),
            done.num_objects,
            done.nbytes,
        )

    def reset(self, manifest: Any, *, reason: str | None = None) -> str:
        """Set this branch to another version; what it held stays in the reflog.

        Parameters
        ----------
        manifest : str, dict, Dataset, int or datetime
            A version; a time is one of this branch.
        reason : str, optional
            Recorded in the reflog.

        Returns
        -------
        str
            The manifest the branch was at; ``reset`` to it, or :meth:`undo`, goes back.

        Raises
        ------
        ConflictError
            When another writer has moved the branch since this handle looked.
        ObjectMissingError
            When the version is not complete in this space.

        Notes
        -----
        Cost: 1 ref read, 1 log line, 1 ref swap; for a version that the branch's history does not
        hold, also one look at each of its objects.
        """
        self._require_writable()
        said = "reset" + (f": {check_text(reason, 'the reason')}" if reason else "")
        return self._set(locate_version(self._space, manifest, self._manifest), said)

    def undo(self) -> str:
        """Take back the branch's last move: its last commit, merge or reset.

        Called again it goes one step further back.  Nothing is lost: the reflog has every step.

        Returns
        -------
        str
            The manifest the branch was at.

        Raises
        ------
        NotFoundError
            When there is nothing to take back.
        ConflictError
            When another writer has moved the branch since this handle looked.
        """
        ref = self._require_writable()
        space = self._space
        target, why = previous_tip(space.backend, space.source, ref, self._manifest)
        return self._set(target, why)

    def _set(self, target: Address, why: str) -> str:
        ref = self._require_writable()
        space, before = self._space, self._manifest
        if not is_ancestor(space.cache, target, before):
            check_complete(space.backend, space.source, target)
        with self._lock:
            move_branch(
                space.backend, space.source, ref, before, target, who=config.author(), why=why
            )
            self._move(target)
        return to_text(before)

    def blame(self, anchor: int, field: str) -> LogRecord:
        """Return the manifest that gave a cell the value it has.

        Parameters
        ----------
        anchor : int
            The record.
        field : str
            The field.

        Returns
        -------
        LogRecord
            With ``manifest``, ``author``, ``message``, ``time_ns`` and ``operation``.

        Raises
        ------
        AnchorNotFoundError, FieldNotFoundError
            When there is no such cell.

        Notes
        -----
        Cost: 2 object reads per manifest on the way back; where the trees differ one path more.
        """
        if isinstance(anchor, (bool, np.bool_)) or not isinstance(anchor, (int, np.integer)):
            raise InvalidInputError(f"an anchor is an integer, not {anchor!r}")
        found, _ = last_writer(self._space.source, self._manifest, int(anchor), field)
        return self._log_record(found, load_manifest(self._space.cache, found))


def _note(message: str | None, application: Mapping[str, str] | None) -> CommitNote:
    return CommitNote(config.author(), message or "", application or {})


def _called(version: Any) -> str:
    if isinstance(version, Handle):
        return version.name or version.current_manifest()
    if isinstance(version, Mapping):
        return str(version.get("label") or version.get("manifest"))
    return str(version)
