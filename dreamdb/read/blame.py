"""Who wrote a cell: the manifest that last changed one value.

Source: design/0008 section 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dreamdb.errors import AnchorNotFoundError
from dreamdb.history import load_manifest, renames_since
from dreamdb.model import Content
from dreamdb.tracks import Source, View, cells_equal
from dreamdb.types import Address

__all__ = ["last_writer"]


@dataclass(slots=True)
class _Cell:
    """One record's value of one field in one content."""

    view: View
    name: str
    row: int


def last_writer(source: Source, tip: Address, anchor: int, name: str) -> tuple[Address, str]:
    """Return the manifest that gave a cell the value it has.

    Parameters
    ----------
    source : Source
        Where objects come from.
    tip : Address
        The manifest to start from.
    anchor : int
        The record.
    name : str
        The field.

    Returns
    -------
    manifest : Address
        None of its parents shows the record with this value in this field.
    field : str
        What the field was called there.

    Raises
    ------
    AnchorNotFoundError, FieldNotFoundError
        When the cell is not there.

    Notes
    -----
    Cost: 2 object reads per manifest on the way; where the field or the records have changed, one
    path through each of their trees.  At merges the first parent with the same value is followed.
    """
    cell = _find(source, source.content(load_manifest(source.cache, tip).content), anchor, name)
    if cell is None:
        raise AnchorNotFoundError(
            f"no record has the anchor {anchor}", hint="`anchor in ds` tells", anchor=anchor
        )
    address = tip
    while True:
        manifest = load_manifest(source.cache, address)
        for parent in manifest.parents:
            content = source.content(load_manifest(source.cache, parent).content)
            names = _names_before(source, parent, address, cell.name, content)
            before = _same(source, content, anchor, cell, names)
            if before is not None:
                address, cell = parent, before
                break
        else:
            return address, cell.name


def _names_before(
    source: Source, parent: Address, child: Address, name: str, content: Content
) -> str:
    """Return what a field was called one manifest before."""
    renames: Mapping[str, str] = renames_since(source.cache, parent, child)
    for old, new in renames.items():
        if new == name and old in content.schema:
            return old
    return name


def _same(source: Source, content: Content, anchor: int, cell: _Cell, name: str) -> _Cell | None:
    """Return the cell in an older content when it has the same value there."""
    now = cell.view.content
    if name not in content.schema or content.schema[name].type != now.schema[cell.name].type:
        return None
    roots = (content.timeline, content.tombstones, content.tracks[name])
    if roots == (now.timeline, now.tombstones, now.tracks[cell.name]):
        return _Cell(View(source, content), name, cell.row)
    before = _find(source, content, anchor, name)
    if before is None:
        return None
    return before if _equal(before, cell) else None


def _find(source: Source, content: Content, anchor: int, name: str) -> _Cell | None:
    view = View(source, content)
    view.check_fields([name])
    if not 0 <= anchor < 1 << 64:
        return None
    row = int(view.find(np.array([anchor], np.uint64))[0])
    return None if row < 0 else _Cell(view, name, row)


def _equal(before: _Cell, after: _Cell) -> bool:
    """Compare two cells: by the address of their fragments, else by value."""
    sides = [(c.view.track(c.name), c.row) for c in (before, after)]
    held = [track.between(row, row + 1) for track, row in sides]
    entries = [entries[0] for entries, _ in held]
    offsets = [row - start for (_, row), (_, start) in zip(sides, held, strict=True)]
    if bytes(entries[0]["address"]) == bytes(entries[1]["address"]) and offsets[0] == offsets[1]:
        return True
    values = [track.slice(row, row + 1) for track, row in sides]
    return bool(cells_equal(values[0], values[1])[0])
