"""Changes: the verbs that make a new content from an old one.

Source: design/0005 section 3 (replay), design/0004 section 3.  A change is applied to a view and
may be applied again to a newer one when another writer was faster.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.errors import AlreadyExistsError, ConflictError, SchemaError
from dreamdb.index import IndexRoot
from dreamdb.model import Content, Field, check_field_name
from dreamdb.tracks import View, cells_equal, gather
from dreamdb.types import FieldType
from dreamdb.write.stage import Stage
from dreamdb.write.tracks import add_layer, edit_tombstones, set_cells

__all__ = [
    "AddField",
    "Change",
    "DeleteRecords",
    "DropField",
    "RenameField",
    "SetCells",
    "SetMetadata",
    "WriteLayer",
    "check_same_cells",
    "check_same_field",
]

Anchors = npt.NDArray[np.uint64]


class Change(Protocol):
    """One verb of a commit."""

    def apply(self, view: View, stage: Stage) -> Content:
        """Stage what the change needs and return the content after it."""
        ...

    def check_replay(self, base: View, tip: View) -> None:
        """Raise ConflictError unless the change means the same on a newer content.

        Parameters
        ----------
        base : View
            What the caller saw.
        tip : View
            What another writer has made of it.
        """
        ...

    def summary(self) -> dict[str, Any]:
        """Return what the manifest records: a name and counts."""
        ...


def check_same_field(base: View, tip: View, name: str) -> None:
    """Raise ConflictError when another writer added, dropped or redefined a field."""
    before = base.content.schema.find(name)
    after = tip.content.schema.find(name)
    if before != after:
        what = "added" if before is None else "dropped" if after is None else "redefined"
        raise ConflictError(
            f"publish conflict on ref: another writer {what} the field {name!r} meanwhile",
            hint="call refresh() and try again",
            field=name,
        )


def check_not_deleted(base: View, tip: View, anchors: Anchors) -> None:
    """Raise ConflictError when another writer deleted one of these records."""
    if base.content.tombstones == tip.content.tombstones:
        return
    gone = (base.find(anchors) >= 0) & (tip.find(anchors) < 0)
    if gone.any():
        raise ConflictError(
            f"publish conflict on ref: another writer deleted the record {int(anchors[gone][0])} "
            "meanwhile",
            hint="call refresh() and try again",
            anchor=int(anchors[gone][0]),
        )


def check_same_cells(base: View, tip: View, name: str, anchors: Anchors) -> None:
    """Raise ConflictError when another writer changed or removed some of these cells.

    Parameters
    ----------
    base, tip : View
        What the caller saw, and what it has become.
    name : str
        The field.
    anchors : ndarray of uint64
        The records.
    """
    check_same_field(base, tip, name)
    check_not_deleted(base, tip, anchors)
    if base.content.tracks.get(name) == tip.content.tracks.get(name):
        return
    old, new = base.find(anchors), tip.find(anchors)
    known = old >= 0
    both = anchors[known]
    if not len(both):
        return
    order = np.argsort(both, kind="stable")
    left = gather(base.track(name), old[known][order])
    right = gather(tip.track(name), new[known][order])
    same = cells_equal(left, right)
    if not same.all():
        anchor = int(both[order][np.argmin(same)])
        raise ConflictError(
            f"publish conflict on ref: another writer changed {name!r} of the record {anchor} "
            "meanwhile",
            hint="call refresh() and try again",
            field=name,
            anchor=anchor,
        )


@dataclass(slots=True)
class SetCells:
    """Replace cells of existing records.

    Parameters
    ----------
    anchors : ndarray of uint64
        Increasing.
    columns : dict of str to ChunkedArray
        Values by field, one per anchor.
    """

    anchors: Anchors
    columns: dict[str, pa.ChunkedArray]

    def apply(self, view: View, stage: Stage) -> Content:
        """See :class:`Change`."""
        rows = view.rows_of(self.anchors)
        content = view.content
        for name, column in self.columns.items():
            changed = set_cells(view, stage, name, rows, column)
            content = replace(content, tracks={**content.tracks, name: changed.tracks[name]})
        return content

    def check_replay(self, base: View, tip: View) -> None:
        """See :class:`Change`."""
        for name in self.columns:
            check_same_cells(base, tip, name, self.anchors)

    def summary(self) -> dict[str, Any]:
        """See :class:`Change`."""
        return {"name": "update", "rows": len(self.anchors), "fields": sorted(self.columns)}


@dataclass(slots=True)
class DeleteRecords:
    """Delete records: their anchors join the tombstones.

    Parameters
    ----------
    anchors : ndarray of uint64
        Increasing anchors of visible records.
    reason : str or None
        Recorded in the manifest.
    """

    anchors: Anchors
    reason: str | None = None

    def apply(self, view: View, stage: Stage) -> Content:
        """See :class:`Change`."""
        view.rows_of(self.anchors)
        return edit_tombstones(view, stage, added=self.anchors, removed=np.empty(0, np.uint64))

    def check_replay(self, base: View, tip: View) -> None:
        """Refuse records whose values have changed; leave out those that are gone already."""
        self.anchors = self.anchors[tip.find(self.anchors) >= 0]
        for name, defined in tip.content.schema.items():
            if base.content.schema.find(name) == defined:
                check_same_cells(base, tip, name, self.anchors)

    def summary(self) -> dict[str, Any]:
        """See :class:`Change`."""
        out: dict[str, Any] = {"name": "delete", "rows": len(self.anchors)}
        return out | ({"reason": self.reason} if self.reason else {})


@dataclass(slots=True)
class WriteLayer:
    """Write a field over existing records.

    Parameters
    ----------
    field : Field
        The layer.
    anchors : ndarray of uint64
        Increasing anchors of visible records.
    values : ChunkedArray
        One value per anchor.
    mode : str
        ``create`` refuses an existing field, ``replace`` writes the whole track anew.
    index : IndexRoot, optional
        How the layer is to be indexed.
    """

    field: Field
    anchors: Anchors
    values: pa.ChunkedArray
    mode: str
    index: IndexRoot | None = None

    def apply(self, view: View, stage: Stage) -> Content:
        """See :class:`Change`."""
        name = self.field.name
        exists = name in view.content.schema
        if self.mode == "create" and exists:
            raise AlreadyExistsError(
                f"the field {name!r} exists already",
                hint="use mode='replace' to write it anew or mode='update' to change some records",
                field=name,
            )
        visible = view.visible_anchors()
        if len(visible) == len(self.anchors) and np.array_equal(visible, self.anchors):
            rows = view.row_of_visible(np.arange(len(visible)))
        else:
            rows = view.rows_of(self.anchors)
        return add_layer(view, stage, self.field, rows, self.values)

    def check_replay(self, base: View, tip: View) -> None:
        """See :class:`Change`."""
        name = self.field.name
        check_same_field(base, tip, name)
        check_not_deleted(base, tip, self.anchors)
        if name in base.content.schema and base.content.tracks[name] != tip.content.tracks[name]:
            raise ConflictError(
                f"publish conflict on ref: another writer changed the layer {name!r} meanwhile",
                hint="call refresh() and try again",
                field=name,
            )

    def summary(self) -> dict[str, Any]:
        """See :class:`Change`."""
        return {
            "name": f"{self.mode} layer",
            "rows": len(self.anchors),
            "fields": [self.field.name],
        }


@dataclass(slots=True)
class AddField:
    """Add an empty field: null for every record."""

    field: Field
    index: IndexRoot | None = None

    def check(self, view: View) -> None:
        """Raise unless the field can be added."""
        if self.field.name in view.content.schema:
            raise AlreadyExistsError(
                f"the field {self.field.name!r} exists already", field=self.field.name
            )
        if self.field.required and view.rows:
            raise SchemaError(
                f"the field {self.field.name!r} cannot be required: existing records lack it",
                field=self.field.name,
            )

    def apply(self, view: View, stage: Stage) -> Content:
        """See :class:`Change`."""
        self.check(view)
        none = WriteLayer(
            self.field, np.empty(0, np.uint64), _no_values(self.field.type), mode="create"
        )
        return none.apply(view, stage)

    def check_replay(self, base: View, tip: View) -> None:
        """See :class:`Change`."""
        check_same_field(base, tip, self.field.name)

    def summary(self) -> dict[str, Any]:
        """See :class:`Change`."""
        return {"name": "add field", "fields": [self.field.name]}


def _no_values(ftype: FieldType) -> pa.ChunkedArray:
    from dreamdb.codecs import arrow_type
    from dreamdb.vectors import stored_type

    return pa.chunked_array([], arrow_type(stored_type(ftype)))


@dataclass(slots=True)
class DropField:
    """Remove a field; its fragments stay reachable from older manifests."""

    field: str

    def apply(self, view: View, stage: Stage) -> Content:
        """See :class:`Change`."""
        content = view.content
        if content.schema.key == self.field:
            raise SchemaError(
                f"{self.field!r} is the key of this dataset and cannot be dropped", field=self.field
            )
        schema = content.schema.drop(self.field)
        tracks = {n: r for n, r in content.tracks.items() if n != self.field}
        return replace(content, schema=schema, tracks=tracks)

    def check_replay(self, base: View, tip: View) -> None:
        """See :class:`Change`."""
        check_same_field(base, tip, self.field)

    def summary(self) -> dict[str, Any]:
        """See :class:`Change`."""
        return {"name": "drop field", "fields": [self.field]}


@dataclass(slots=True)
class RenameField:
    """Give a field another name; nothing is copied."""

    old: str
    new: str

    def apply(self, view: View, stage: Stage) -> Content:
        """See :class:`Change`."""
        content = view.content
        check_field_name(self.new)
        content.schema[self.old]
        if self.new in content.schema:
            raise AlreadyExistsError(f"the field {self.new!r} exists already", field=self.new)
        tracks = {self.new if n == self.old else n: r for n, r in content.tracks.items()}
        return replace(content, schema=content.schema.rename(self.old, self.new), tracks=tracks)

    def check_replay(self, base: View, tip: View) -> None:
        """See :class:`Change`."""
        check_same_field(base, tip, self.old)
        check_same_field(base, tip, self.new)

    def summary(self) -> dict[str, Any]:
        """See :class:`Change`."""
        return {"name": "rename field", "old": self.old, "new": self.new}


@dataclass(slots=True)
class SetMetadata:
    """Set or remove notes that belong to the data."""

    values: dict[str, str | None] = field(default_factory=dict)

    def apply(self, view: View, stage: Stage) -> Content:
        """See :class:`Change`."""
        merged = {**view.content.metadata, **self.values}
        kept = {k: v for k, v in merged.items() if v is not None}
        return replace(view.content, metadata=kept)

    def check_replay(self, base: View, tip: View) -> None:
        """See :class:`Change`."""
        for key in self.values:
            if base.content.metadata.get(key) != tip.content.metadata.get(key):
                raise ConflictError(
                    f"publish conflict on ref: another writer changed the note {key!r} meanwhile"
                )

    def summary(self) -> dict[str, Any]:
        """See :class:`Change`."""
        return {"name": "set metadata", "keys": sorted(self.values)}
