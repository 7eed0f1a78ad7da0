"""The rare verbs of one version, behind ``ds.maintain``.

Source: design/0015, design/0016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dreamdb.dataset.handle import Handle
from dreamdb.dataset.locate import find_manifest
from dreamdb.dataset.session import BackendLike, open_space
from dreamdb.errors import InvalidInputError
from dreamdb.maintain import RefUsage, disk_usage
from dreamdb.proofs import prove_record

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


class Maintained(Handle):
    """Gives a handle its rare verbs."""

    @property
    def maintain(self) -> Maintenance:
        """The rare verbs: ``prove``, ``du``."""
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
