"""Looking after a space: what is checked, collected, expired, purged.

Source: design/0011, design/0015.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from dreamdb.dataset.session import OpenSpace
from dreamdb.errors import StorageError
from dreamdb.maintain import (
    DiskUsage,
    ExpireReport,
    GcReport,
    RestoreReport,
    VerifyReport,
    collect_garbage,
    collect_leased,
    disk_usage,
    expire_history,
    restore_trash,
    verify_space,
)
from dreamdb.store import LeasedBackend

__all__ = ["Upkeep"]


class Upkeep:
    """The verbs that look after a space.  Those that remove something only look by default.

    Parameters
    ----------
    opened : OpenSpace
        The backend and its caches.
    """

    def __init__(self, opened: OpenSpace) -> None:
        self._space = opened

    def gc(self, *, dry_run: bool = True, trash: bool = True) -> GcReport:
        """Find objects that no ref and no recent move of a ref needs, and take them away.

        Commits of other processes may go on; each waits for a moment while a batch of objects is
        taken away.  Transactions that are open are waited for.

        Parameters
        ----------
        dry_run : bool
            Only look.
        trash : bool
            Move objects to the trash, where they stay for seven days.  Otherwise delete them, and
            everything in the trash, for good.

        Returns
        -------
        GcReport
            What is needed, what is not, and why.

        Raises
        ------
        IntegrityError
            When a ref cannot be followed, or there is none: nothing was removed.
        StorageError
            When the storage has no trash and ``trash`` is true.

        Notes
        -----
        Cost: 1 listing, 1 read per manifest, content and tree node; fragments are not read.
        """
        backend = self._space.stored
        if isinstance(backend, LeasedBackend):
            if trash and not dry_run:
                raise StorageError(
                    f"{backend.url} has no trash: what is deleted there is gone",
                    hint="gc(dry_run=False, trash=False), or gc --yes --no-trash",
                )
            return collect_leased(backend, self._space.source, dry_run=dry_run)
        return collect_garbage(backend, self._space.source, dry_run=dry_run, trash=trash)

    def restore_trash(self, *, dry_run: bool = True) -> RestoreReport:
        """Bring back what the collector has thrown away in the last seven days.

        Parameters
        ----------
        dry_run : bool
            Only look.

        Returns
        -------
        RestoreReport
            The commits among them: make a branch on one of them to keep it.
        """
        return restore_trash(self._space.stored, dry_run=dry_run)

    def expire(self, keep: int | str | datetime.timedelta, *, dry_run: bool = True) -> ExpireReport:
        """Shorten the history: intermediate manifests go, snapshots and all tips stay.

        Logs, merges and time travel then pass over what is gone.  The next :meth:`gc` takes the
        manifests away, and the data that only they needed.

        Parameters
        ----------
        keep : int, str or timedelta
            How many manifests of each branch, or for how long: ``"30 days"``.
        dry_run : bool
            Only look.

        Returns
        -------
        ExpireReport
            How many stay, and which go.

        Raises
        ------
        InvalidInputError
            When ``keep`` is no number above zero and no span of time.

        Notes
        -----
        Cost: 1 read per manifest; 2 small documents are written.
        """
        return expire_history(self._space.stored, self._space.source, keep, dry_run=dry_run)

    def du(self, refs: Sequence[str] | None = None) -> DiskUsage:
        """Return how many bytes refs, their fields and snapshots take, alone and together.

        Parameters
        ----------
        refs : sequence of str, optional
            Tell about these only.

        Raises
        ------
        RefNotFoundError
            With the nearest names.

        Notes
        -----
        Cost: 1 listing, 1 read per manifest, content and tree node that some ref needs.
        """
        if isinstance(refs, str):
            refs = [refs]
        return disk_usage(self._space.stored, self._space.source, refs)

    def verify(self, *, data: bool = True) -> VerifyReport:
        """Check every reachable object and what they say about each other.

        Parameters
        ----------
        data : bool
            Also read and check all values; otherwise trees and documents only.
        """
        return verify_space(self._space.stored, self._space.kept_source(), data=data)
