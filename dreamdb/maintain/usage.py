"""How much each ref, each of its fields and each snapshot takes, alone and together.

Source: design/0015 section 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dreamdb.history import load_manifest, manifests_of, open_catalog, read_ref
from dreamdb.maintain.mark import Marks, keys_of
from dreamdb.maintain.reach import Needs, address_keys
from dreamdb.maintain.roots import starting_points
from dreamdb.model import ANCHOR
from dreamdb.store import Backend, RefValue
from dreamdb.tracks import Source
from dreamdb.types import Address

__all__ = ["DiskUsage", "FieldUsage", "RefUsage", "disk_usage"]

Keys = npt.NDArray[np.uint64]
_TOMBSTONES = "_tombstones"


@dataclass(frozen=True, slots=True)
class FieldUsage:
    """What one field of one version takes.

    Parameters
    ----------
    name : str
        The field; ``_anchor`` for the timeline, ``_tombstones`` for the deleted anchors.
    objects : int
        Fragments and tree nodes.
    nbytes : int
        Their stored bytes.
    unique_nbytes : int
        Those of them that no other ref needs, not even for another field.
    """

    name: str
    objects: int
    nbytes: int
    unique_nbytes: int

    @property
    def shared_nbytes(self) -> int:
        """Bytes that some other ref needs too."""
        return self.nbytes - self.unique_nbytes


@dataclass(frozen=True, slots=True)
class RefUsage:
    """What one ref takes, with its whole history.

    Parameters
    ----------
    name : str
        The ref.
    kind : str
        ``"branch"``, ``"snapshot"``, or ``"tag"``: a version tag of several datasets.
    objects : int
        Objects it needs.
    nbytes : int
        Their stored bytes.
    unique_nbytes : int
        Those of them that no other ref needs: what deleting it would free in the end.
    fields : tuple of FieldUsage
        The fields of its present version; none for a version tag.
    """

    name: str
    kind: str
    objects: int
    nbytes: int
    unique_nbytes: int
    fields: tuple[FieldUsage, ...]

    @property
    def shared_nbytes(self) -> int:
        """Bytes that some other ref needs too."""
        return self.nbytes - self.unique_nbytes


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """What a space takes.

    Parameters
    ----------
    objects, nbytes : int
        All stored objects.
    needed_objects, needed_nbytes : int
        Those that some ref needs; the rest is held by reflogs, or garbage.
    refs : tuple of RefUsage
        The refs that were asked for, sorted by name.
    """

    objects: int
    nbytes: int
    needed_objects: int
    needed_nbytes: int
    refs: tuple[RefUsage, ...]


class _Sizes:
    """Stored bytes by marking key."""

    def __init__(self, backend: Backend) -> None:
        listed = list(backend.objects.list())
        keys = keys_of([address for address, _ in listed])
        order = np.argsort(keys, kind="stable")
        self.keys = keys[order]
        self.nbytes = np.array([nbytes for _, nbytes in listed], np.int64)[order]

    def of(self, keys: Keys) -> tuple[int, int]:
        """Return how many of these objects are stored, and their bytes."""
        if not len(self.keys) or not len(keys):
            return 0, 0
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        there = self.keys[at] == keys
        return int(there.sum()), int(self.nbytes[at[there]].sum())


def disk_usage(backend: Backend, source: Source, refs: Sequence[str] | None = None) -> DiskUsage:
    """Return what the refs of a space take, alone and together.

    Parameters
    ----------
    backend, source : Backend, Source
        The space.
    refs : sequence of str, optional
        Tell about these only; all are looked at.

    Raises
    ------
    RefNotFoundError
        With the nearest names.

    Notes
    -----
    Cost: 1 listing, 1 read per manifest, content and tree node that some ref needs.
    """
    wanted = None if refs is None else set(refs)
    for name in wanted or ():
        read_ref(backend, name)
    sizes = _Sizes(backend)
    needs: dict[str, Keys] = {}
    known: dict[Address, Needs] = {}
    values = dict(backend.refs.list())
    for name, value in values.items():
        marks = Marks(backend, source, known=known)
        marks.mark(starting_points(source, [(name, value)]))
        needs[name] = marks.keys
    every = np.concatenate(list(needs.values())) if needs else np.empty(0, np.uint64)
    keys, counts = np.unique(every, return_counts=True)
    alone = keys[counts == 1]
    told = tuple(
        _ref_usage(source, sizes, name, values[name], own, alone, known)
        for name, own in needs.items()
        if wanted is None or name in wanted
    )
    return DiskUsage(len(sizes.keys), int(sizes.nbytes.sum()), *sizes.of(keys), told)


def _ref_usage(
    source: Source,
    sizes: _Sizes,
    name: str,
    value: RefValue,
    own: Keys,
    alone: Keys,
    known: Mapping[Address, Needs],
) -> RefUsage:
    manifests = manifests_of(source.cache, name, value)
    unique = sizes.of(np.intersect1d(own, alone))[1]
    if open_catalog(source.cache, name, value) is not None:
        return RefUsage(name, "tag", *sizes.of(own), unique, ())
    content = source.content(load_manifest(source.cache, manifests[0]).content)
    trees = {ANCHOR: content.timeline, _TOMBSTONES: content.tombstones, **content.tracks}
    fields = []
    for field, root in trees.items():
        if root is None and field == _TOMBSTONES:
            continue
        tree = _tree_keys(root, known)
        in_tree = sizes.of(np.intersect1d(tree, alone))[1]
        fields.append(FieldUsage(field, *sizes.of(tree), in_tree))
    kind = "branch" if manifests == [value.address] else "snapshot"
    return RefUsage(name, kind, *sizes.of(own), unique, tuple(fields))


def _tree_keys(root: Address | None, known: Mapping[Address, Needs]) -> Keys:
    """Return the marking keys of a tree's nodes and fragments."""
    out = [np.empty(0, np.uint64)]
    wave = [] if root is None else [root]
    while wave:
        out.append(keys_of(wave))
        below: list[Address] = []
        for address in wave:
            needs = known[address]
            below += [child for child, _ in needs.objects]
            if needs.fragments is not None:
                out.append(address_keys(needs.fragments))
        wave = below
    return np.unique(np.concatenate(out))
