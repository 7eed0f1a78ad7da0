"""From what users hold (a label, a dictionary, a manifest, a time) to a manifest.

Source: design/0004 section 1.
"""

from __future__ import annotations

import datetime
import numbers
import re
from collections.abc import Mapping
from typing import Any

from dreamdb.dataset.session import OpenSpace
from dreamdb.errors import InvalidInputError, NotFoundError, ObjectMissingError
from dreamdb.history import (
    ancestor_at_time,
    load_manifest,
    resolve_content,
    resolve_ref,
)
from dreamdb.objects import from_text, to_text
from dreamdb.types import Address

__all__ = ["find_manifest", "manifest_at", "require_stored", "to_time_ns"]

_ADDRESS = re.compile(r"[a-z2-7]{53}\Z")


def to_time_ns(when: Any) -> int | None:
    """Return a time as nanoseconds since the epoch; None when it is not a time.

    Parameters
    ----------
    when : int, datetime or str
        Nanoseconds, a datetime (naive: UTC), or ISO 8601 text.
    """
    if isinstance(when, numbers.Integral) and not isinstance(when, bool):
        return int(when)
    if isinstance(when, str):
        try:
            when = datetime.datetime.fromisoformat(when)
        except ValueError:
            return None
    if isinstance(when, datetime.datetime):
        moment = when if when.tzinfo is not None else when.replace(tzinfo=datetime.UTC)
        delta = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        return ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1_000
    return None


def find_manifest(space: OpenSpace, given: Any) -> Address:
    """Return the manifest that a snapshot dictionary, an address, or a ref names.

    Parameters
    ----------
    space : OpenSpace
        Where to look.
    given : dict, str or bytes
        The dictionary of ``snapshot()``, a manifest's text or 33 bytes, or a ref's name.

    Raises
    ------
    InvalidInputError, NotFoundError, IntegrityError
        When it is none of these, is not there, or is damaged.
    """
    if isinstance(given, Mapping):
        if "manifest" not in given:
            raise InvalidInputError(
                "the dictionary has no 'manifest'", hint="pass what snapshot() returned"
            )
        return _checked(space, given["manifest"], given.get("timeline"), given)
    if isinstance(given, (bytes, bytearray)):
        given = to_text(Address(bytes(given)))
    if not isinstance(given, str):
        raise InvalidInputError(
            f"a version is a snapshot's dictionary, its label or a manifest, "
            f"not a {type(given).__name__}"
        )
    if _ADDRESS.match(given):
        return _checked(space, given, None, None)
    return resolve_ref(space.backend, space.cache, given).manifest


def _checked(
    space: OpenSpace, manifest: Any, timeline: Any, snapshot: Mapping[str, Any] | None
) -> Address:
    address = from_text(str(manifest))
    try:
        loaded = load_manifest(space.cache, address)
    except ObjectMissingError:
        raise NotFoundError(
            f"the manifest {manifest} is not in {space.url}",
            hint="check the backend; list what is there with: dreamdb refs",
            manifest=str(manifest),
        ) from None
    if snapshot is not None and "timeline" in snapshot:
        stored = space.source.content(loaded.content).timeline
        # After a purge another content stands in for the one that the snapshot was made of.
        redacted = resolve_content(space.cache, loaded.content)[1]
        if not redacted and (None if stored is None else to_text(stored)) != timeline:
            raise InvalidInputError(
                f"the snapshot's timeline does not belong to its manifest {manifest}",
                hint="pass the dictionary exactly as snapshot() returned it",
            )
    return address


def require_stored(space: OpenSpace, manifest: Address) -> None:
    """Raise unless a manifest is still in the store; call it while the space is held.

    A handle may outlive what it reads: no ref keeps an old version.  An object that is stored has
    everything below it, because the collector takes what refers before what it refers to.

    Parameters
    ----------
    space : OpenSpace
        Where it should be.
    manifest : Address
        What a ref is about to name.

    Raises
    ------
    NotFoundError
        When it was collected.

    Notes
    -----
    Cost: 1 look for an object, which reads nothing.
    """
    if space.backend.objects.size(manifest) is None:
        raise NotFoundError(
            f"the manifest {to_text(manifest)} was collected since it was opened: no ref led to it",
            hint="bring it back with: dreamdb gc --restore",
            manifest=to_text(manifest),
        )


def manifest_at(space: OpenSpace, tip: Address, at: Any) -> Address:
    """Return the manifest of a branch at a time, or a given manifest.

    Parameters
    ----------
    space : OpenSpace
        Where to look.
    tip : Address
        The branch's tip.
    at : int, datetime, str or dict
        A time, a manifest, a snapshot's dictionary, or a label.
    """
    time_ns = to_time_ns(at)
    if time_ns is not None:
        return ancestor_at_time(space.cache, tip, time_ns)
    return find_manifest(space, at)
