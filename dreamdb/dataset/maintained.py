"""The rare verbs of one version, behind ``ds.maintain``.

Source: design/0015, design/0016.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dreamdb import config
from dreamdb.dataset.handle import Handle
from dreamdb.dataset.locate import find_manifest
from dreamdb.dataset.session import BackendLike, open_space
from dreamdb.errors import InvalidInputError
from dreamdb.maintain import (
    AbsenceReport,
    PurgeReport,
    RefUsage,
    check_absent,
    disk_usage,
    purge_records,
)
from dreamdb.proofs import prove_record
from dreamdb.write import CommitNote, anchor_array

__all__ = ["Maintained", "Maintenance", "prove"]


class Maintenance:
    """What is rarely done with one version.

    Parameters
    ----------
    handle : Handle
        The dataset.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def prove(self, anchor: int, fields: str | Sequence[str] = ()) -> bytes:
        """Return a certificate that a record is, or is not, in this version.

        Anybody can check it with :func:`dreamdb.verify_proof` and the version's address, without
        the space.

        Parameters
        ----------
        anchor : int
            The record.
        fields : sequence of str
            Fields whose values the certificate shall hold.

        Returns
        -------
        bytes
            The tree nodes on the way to the record, and the pages that hold the values: usually
            less than 256 KB, and what the values themselves take.

        Raises
        ------
        FieldNotFoundError
            When there is no such field.
        NotFoundError
            When records of this version were purged.

        Notes
        -----
        Cost: about 4 object reads, and 3 per field, cached.
        """
        cache = self._handle._space.cache
        return prove_record(cache, self._handle._manifest, anchor, fields)

    def du(self) -> RefUsage:
        """Return how many bytes this ref takes, alone and with others.

        Raises
        ------
        InvalidInputError
            When this handle was opened by manifest.
        """
        space = self._handle._space
        if self._handle.name is None:
            raise InvalidInputError("this handle was opened by manifest; only refs can be measured")
        (usage,) = disk_usage(space.backend, space.source, [self._handle.name]).refs
        return usage

    def purge(
        self, anchors: Any, *, reason: str | None = None, dry_run: bool = True
    ) -> PurgeReport:
        """Remove records from this dataset and from all its older versions, for good.

        Manifests keep their addresses; what they show is the same data without the records.
        Branches that held one get a version that says so.  The bytes go with the next
        ``Space.gc(dry_run=False, trash=False)``, and :meth:`absent` proves it.

        Parameters
        ----------
        anchors : int or sequence of int
            The records; deleted ones too.  Records of other datasets of the space are not meant.
        reason : str, optional
            Recorded in the redactions and in the new versions.
        dry_run : bool
            Only look.

        Returns
        -------
        PurgeReport
            How many versions hold the records, and which refs will show less.

        Raises
        ------
        AnchorNotFoundError
            When no version holds any of the records; nothing was changed.
        ReadOnlyError, StorageError
            When the storage failed.  Run the purge again: it goes on where it stopped.

        Notes
        -----
        Cost: for each state of the data that holds one of the records, the fragments around each.
        """
        handle = self._handle
        space = handle._space
        note = CommitNote(config.author(), "" if reason is None else reason)
        wanted = _anchors(anchors)
        # Not under the handle's lock: a transaction holds the space first and takes that later.
        report = purge_records(
            space.backend, space.source, handle._manifest, wanted, note, dry_run=dry_run
        )
        if not dry_run:
            with handle._lock:
                handle._move(handle._manifest)
            if handle.name in report.moved:
                handle.refresh()
        return report

    def absent(self, anchors: Any) -> AbsenceReport:
        """Return whether records are gone from every version, and nothing is left of them.

        Parameters
        ----------
        anchors : int or sequence of int
            The records.

        Returns
        -------
        AbsenceReport
            ``ok`` when no version holds one of them and the space holds no object, and no trash,
            that no version needs.
        """
        handle = self._handle
        space = handle._space
        return check_absent(space.backend, space.source, handle._manifest, _anchors(anchors))


def _anchors(given: Any) -> npt.NDArray[np.uint64]:
    """Return anchors as numpy; a single one is a list of one."""
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        given = [given]
    if isinstance(given, Iterable) and not hasattr(given, "dtype"):
        given = list(given)
    return np.unique(anchor_array(given, what="anchors"))


class Maintained(Handle):
    """Gives a handle its rare verbs."""

    @property
    def maintain(self) -> Maintenance:
        """The rare verbs: ``prove``, ``du``, ``purge``, ``absent``."""
        return Maintenance(self)


def prove(
    version: str | Mapping[str, Any],
    anchor: int,
    fields: str | Sequence[str] = (),
    *,
    backend: BackendLike,
    storage_options: Mapping[str, Any] | None = None,
) -> bytes:
    """Return a certificate that a record is, or is not, in a version.

    Parameters
    ----------
    version : str or dict
        A ref, a manifest, or what ``snapshot()`` returned.
    anchor : int
        The record.
    fields : sequence of str
        Fields whose values the certificate shall hold.
    backend : str, PathLike or Backend
        Where it lies.
    storage_options : mapping, optional
        Credentials and settings of the file system.

    Returns
    -------
    bytes
        To be checked with :func:`verify_proof`.

    Raises
    ------
    FieldNotFoundError, RefNotFoundError
        With the nearest names.
    NotFoundError
        When there is no such version, or records of it were purged.
    """
    space = open_space(backend, storage_options=storage_options)
    return prove_record(space.cache, find_manifest(space, version), anchor, fields)
