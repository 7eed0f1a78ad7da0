"""What changed between two contents: fields, records, cells.

Source: design/0008 sections 2 to 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.errors import FieldNotFoundError, nearest_hint
from dreamdb.model import ANCHOR, FieldPairs, SchemaChange, pair_fields
from dreamdb.read.difference_text import difference_html, difference_lines
from dreamdb.read.output import output_array, output_type
from dreamdb.read.plan import check_batch_size
from dreamdb.tracks import (
    Alignment,
    View,
    align,
    differing_cells,
    differing_fragments,
    find_in_keys,
    gather,
)
from dreamdb.types import FieldType

__all__ = ["CHANGE", "CHANGED_FIELDS", "Diff", "FieldStat"]

Anchors = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]

CHANGE: Final = "_change"
CHANGED_FIELDS: Final = "_fields"
_NONE: Final = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class FieldStat:
    """What the trees alone say about a field that two contents share.

    Parameters
    ----------
    field : str
        Its name after.
    fragments : int
        Fragments after that are not shared with the content before.
    rows : int
        Records that both have in these: at most so many cells have changed.
    nbytes : int
        Bytes of their payloads.
    """

    field: str
    fragments: int
    rows: int
    nbytes: int


class Diff:
    """What changed from one content to another.

    Counts come first: the records added and removed cost the paths through the trees to what
    differs.  :attr:`changed` reads the fragments that differ and no others, field by field, when
    it is first asked for.  Values are read when :meth:`rows` or :meth:`to_arrow` yield them.

    Parameters
    ----------
    before, after : View
        The contents.
    names : tuple of (str, str)
        What each is called, for showing.
    renames : mapping of str to str, optional
        Names before to names after of renamed fields.
    fields : sequence of str, optional
        Look at these fields only (names after, or before for dropped ones).
    """

    def __init__(
        self,
        before: View,
        after: View,
        *,
        names: tuple[str, str],
        renames: Mapping[str, str] | None = None,
        fields: Sequence[str] | None = None,
    ) -> None:
        self.before, self.after = names
        self._before, self._after = before, after
        pairs = pair_fields(before.content.schema, after.content.schema, renames)
        if fields is not None:
            pairs = _only(pairs, before, after, fields)
        self._pairs = pairs
        self._selected = None if fields is None else frozenset(fields)
        self._found: dict[str, tuple[Positions, Positions]] = {}

    # ------------------------------------------------------------ counts

    @property
    def schema_changes(self) -> tuple[SchemaChange, ...]:
        """Fields added, dropped, renamed, redefined or changed in their attributes."""
        return self._pairs.changes

    @cached_property
    def metadata_changes(self) -> dict[str, tuple[str | None, str | None]]:
        """Notes of the data that differ: name to (before, after)."""
        old, new = self._before.content.metadata, self._after.content.metadata
        return {
            name: (old.get(name), new.get(name))
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        }

    @cached_property
    def _alignment(self) -> Alignment:
        return align(self._before.timeline, self._after.timeline)

    @cached_property
    def _records(self) -> tuple[Anchors, Anchors]:
        """Increasing anchors of the records added and removed, as a reader sees them."""
        rows = self._alignment
        dead = align(self._before.tombstones, self._after.tombstones)
        buried, revived = dead.added_anchors, dead.removed_anchors
        come, gone = rows.added_anchors, rows.removed_anchors
        added = np.union1d(_without(come, buried), _without(revived, gone))
        removed = np.union1d(_without(gone, revived), _without(buried, come))
        return added, removed

    @property
    def rows_added(self) -> int:
        """Records that are visible after and were not before.  Cost: tree paths; no values."""
        return len(self._records[0])

    @property
    def rows_removed(self) -> int:
        """Records that were visible before and are not after.  Cost: tree paths; no values."""
        return len(self._records[1])

    @property
    def changed(self) -> dict[str, int]:
        """How many cells of records that both have differ, by field; unchanged fields are absent.

        Notes
        -----
        Cost: the fragments that the two do not share, read once.
        """
        counts = {name: len(self._cells(name)[0]) for _, name in self._pairs.shared}
        return {name: count for name, count in counts.items() if count}

    def _cells(self, name: str) -> tuple[Positions, Positions]:
        """Return the rows, before and after, of the changed cells of records that both show."""
        found = self._found.get(name)
        if found is None:
            old = next(o for o, n in self._pairs.shared if n == name)
            left, right = self._before.track(old), self._after.track(name)
            rows, others = differing_cells(left, right, self._alignment)
            hidden = self._hidden(others)
            found = self._found[name] = rows[~hidden], others[~hidden]
        return found

    def _hidden(self, rows: Positions) -> npt.NDArray[np.bool_]:
        """Return which rows of the later timeline are deleted on either side."""
        graves = [v.tombstones for v in (self._before, self._after) if v.content.tombstones]
        out = np.zeros(len(rows), np.bool_)
        if graves and len(rows):
            anchors = _anchors_at(self._after, rows)
            for grave in graves:
                out |= find_in_keys(grave, anchors) >= 0
        return out

    @property
    def is_empty(self) -> bool:
        """Whether a reader sees no difference at all."""
        if self._before.content == self._after.content:
            return True
        return not (
            self.schema_changes
            or self.metadata_changes
            or self.rows_added
            or self.rows_removed
            or self.changed
        )

    def __bool__(self) -> bool:
        return not self.is_empty

    def stat(self) -> list[FieldStat]:
        """Return what the trees say about each changed field, without reading any value.

        Notes
        -----
        Cost: the tree paths to what differs.  Exact counts are in :attr:`changed`.
        """
        out = []
        for old, name in self._pairs.shared:
            runs = differing_fragments(
                self._before.track(old), self._after.track(name), self._alignment
            )
            entries, starts = runs[1].entries, runs[1].starts
            if not len(entries):
                continue
            stops = starts + entries["rows"].astype(np.int64)
            new = self._alignment.added
            inside = np.searchsorted(new, stops) - np.searchsorted(new, starts)
            rows = int(entries["rows"].sum()) - int(inside.sum())
            out.append(FieldStat(name, len(entries), rows, int(entries["nbytes"].sum())))
        return out

    # ------------------------------------------------------------ rows

    def _columns(self, fields: Sequence[str] | None) -> list[tuple[str, str | None, str | None]]:
        """Return the fields of the rows: their name, and under which name each side has them."""
        before, after = self._before.content.schema, self._after.content.schema
        paired = {new: old for old, new in self._pairs.shared}
        olds = set(paired.values())
        every: list[tuple[str, str | None, str | None]] = []
        for name in after:
            every.append((name, paired.get(name), name))
        taken = {name for name, _, _ in every}
        redefined = {
            c.before.name for c in self._pairs.changes if c.kind == "redefined" and c.before
        }
        for name in before:
            if name not in olds and name not in taken:
                every.append((name, name, None))
        every = [
            (name, name if name in redefined and old is None else old, new)
            for name, old, new in every
        ]
        if fields is not None:
            known = {name for name, _, _ in every}
            for name in fields:
                if name not in known:
                    raise FieldNotFoundError(
                        f"there is no field {name!r} on either side",
                        hint=nearest_hint(str(name), known, "fields"),
                        field=name,
                    )
            return [entry for entry in every if entry[0] in set(fields)]
        if self._selected is not None:
            return [entry for entry in every if entry[0] in self._selected]
        if self.rows_added or self.rows_removed:
            return every
        touched = self.changed
        return [entry for entry in every if entry[0] in touched]

    def schema(self, fields: Sequence[str] | None = None) -> pa.Schema:
        """Return the Arrow schema of :meth:`rows`.

        Parameters
        ----------
        fields : sequence of str, optional
            As in :meth:`rows`.
        """
        columns = [
            pa.field(ANCHOR, pa.uint64(), nullable=False),
            pa.field(CHANGE, pa.string(), nullable=False),
            pa.field(CHANGED_FIELDS, pa.list_(pa.string()), nullable=False),
        ]
        for name, old, new in self._columns(fields):
            if old is not None:
                ftype = self._before.content.schema[old].type
                columns.append(pa.field(f"{name}@old", output_type(ftype)))
            if new is not None:
                ftype = self._after.content.schema[new].type
                columns.append(pa.field(f"{name}@new", output_type(ftype)))
        return pa.schema(columns)

    def rows(
        self, fields: Sequence[str] | None = None, *, batch_size: int = 1_024
    ) -> Iterator[pa.RecordBatch]:
        """Yield what differs, one row per record, in the order of anchors.

        Parameters
        ----------
        fields : sequence of str, optional
            Which fields; a record that differs in others only is left out.  Default: those with a
            change; all when records were added or removed.
        batch_size : int
            Rows per batch.

        Yields
        ------
        RecordBatch
            ``_anchor`` (uint64), ``_change`` (``added``, ``removed`` or ``changed``), ``_fields``
            (names of the changed cells), and for each field ``<field>@old`` and ``<field>@new``:
            null where that side lacks the record, otherwise its value, changed or not.

        Notes
        -----
        Cost: reads the values it yields.  Memory: 8 bytes per row, and one batch.
        """
        check_batch_size(batch_size)
        columns = self._columns(fields)
        schema = self.schema(fields)
        added, removed = self._records
        cells = {
            name: _anchors_at(self._after, self._cells(name)[1])
            for name, old, new in columns
            if old is not None and new is not None and (old, new) in self._pairs.shared
        }
        touched = np.unique(np.concatenate([_NONE, *cells.values()]))
        anchors = np.concatenate([added, removed, touched])
        kinds = np.repeat([0, 1, 2], [len(added), len(removed), len(touched)])
        order = np.argsort(anchors, kind="stable")
        anchors, kinds = anchors[order], kinds[order]
        for start in range(0, len(anchors), batch_size):
            part = slice(start, start + batch_size)
            yield self._batch(schema, columns, cells, anchors[part], kinds[part])

    def _batch(
        self,
        schema: pa.Schema,
        columns: list[tuple[str, str | None, str | None]],
        cells: Mapping[str, Anchors],
        anchors: Anchors,
        kinds: Positions,
    ) -> pa.RecordBatch:
        words = pa.array(["added", "removed", "changed"])
        hits = {name: _member(found, anchors) & (kinds == 2) for name, found in cells.items()}
        lists = [[name for name, hit in hits.items() if hit[row]] for row in range(len(anchors))]
        out = [
            numbers_array(anchors),
            words.take(numbers_array(kinds)),
            pa.array(lists, pa.list_(pa.string())),
        ]
        sides = (
            (self._before, find_in_keys(self._before.timeline, anchors), kinds != 0),
            (self._after, find_in_keys(self._after.timeline, anchors), kinds != 1),
        )
        for _, old, new in columns:
            for known, (view, rows, held) in zip((old, new), sides, strict=True):
                if known is not None:
                    out.append(_spread(view, known, rows, held))
        return pa.record_batch(out, schema=schema)

    def to_arrow(self, fields: Sequence[str] | None = None) -> pa.Table:
        """Return everything that :meth:`rows` yields as one table.

        Parameters
        ----------
        fields : sequence of str, optional
            As in :meth:`rows`.
        """
        return pa.Table.from_batches(self.rows(fields, batch_size=8_192), self.schema(fields))

    def cells(self, field: str) -> pa.Table:
        """Return the changed cells of one field.

        Parameters
        ----------
        field : str
            Its name after.

        Returns
        -------
        Table
            ``_anchor``, ``old`` and ``new``: records that both have and whose values differ.
        """
        pair = next((pair for pair in self._pairs.shared if pair[1] == field), None)
        if pair is None:
            raise FieldNotFoundError(
                f"{field!r} is not a field that both sides have",
                hint=nearest_hint(field, [n for _, n in self._pairs.shared], "fields"),
                field=field,
            )
        left, right = self._before.track(pair[0]), self._after.track(pair[1])
        rows, others = self._cells(field)
        dtype = output_type(right.ftype)
        return pa.table(
            {
                ANCHOR: numbers_array(_anchors_at(self._after, others)),
                "old": output_array(left.ftype, gather(left, rows), dtype),
                "new": output_array(right.ftype, gather(right, others), dtype),
            }
        )

    def first_cells(self, field: str, count: int) -> tuple[FieldType, list[tuple[Any, Any]]]:
        """Return a field's type and its first changed cells, old and new, as Python values.

        Parameters
        ----------
        field : str
            Its name after.
        count : int
            At most so many.
        """
        old = next(o for o, n in self._pairs.shared if n == field)
        left, right = self._before.track(old), self._after.track(field)
        rows, others = (found[:count] for found in self._cells(field))
        sides = [_plain(gather(t, r)).to_pylist() for t, r in ((left, rows), (right, others))]
        return right.ftype, list(zip(*sides, strict=True))

    def anchors(self, change: str) -> Anchors:
        """Return the anchors of the records that were added, removed or changed, increasing.

        Parameters
        ----------
        change : str
            ``"added"``, ``"removed"`` or ``"changed"``.
        """
        if change in ("added", "removed"):
            return self._records[change == "removed"]
        rows = [self._cells(name)[1] for _, name in self._pairs.shared]
        return _anchors_at(self._after, np.unique(np.concatenate([np.empty(0, np.int64), *rows])))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        reader = pa.RecordBatchReader.from_batches(self.schema(), self.rows())
        return reader.__arrow_c_stream__(requested_schema)

    # ------------------------------------------------------------ showing

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain data, for JSON."""
        return {
            "before": self.before,
            "after": self.after,
            "schema_changes": self.schema_documents(),
            "metadata_changes": {
                name: {"before": old, "after": new}
                for name, (old, new) in self.metadata_changes.items()
            },
            "rows_added": self.rows_added,
            "rows_removed": self.rows_removed,
            "changed": self.changed,
        }

    def schema_documents(self) -> list[dict[str, Any]]:
        """Return the schema changes as plain data, for JSON."""
        return [
            {
                "kind": change.kind,
                "field": change.field,
                "before": None if change.before is None else change.before.to_document(),
                "after": None if change.after is None else change.after.to_document(),
            }
            for change in self.schema_changes
        ]

    def __repr__(self) -> str:
        return "\n".join(difference_lines(self))

    def _repr_html_(self) -> str:
        return difference_html(self)


def _only(pairs: FieldPairs, before: View, after: View, fields: Sequence[str]) -> FieldPairs:
    known = {*before.content.schema, *after.content.schema}
    for name in fields:
        if name not in known:
            raise FieldNotFoundError(
                f"there is no field {name!r} on either side",
                hint=nearest_hint(str(name), known, "fields"),
                field=name,
            )
    wanted = set(fields)
    return FieldPairs(
        tuple(pair for pair in pairs.shared if pair[1] in wanted),
        tuple(change for change in pairs.changes if change.field in wanted),
    )


def _without(anchors: Anchors, others: Anchors) -> Anchors:
    return anchors[~_member(others, anchors)]


def _member(members: Anchors, anchors: Anchors) -> npt.NDArray[np.bool_]:
    """Return which anchors are among increasing members."""
    if not len(members):
        return np.zeros(len(anchors), np.bool_)
    at = np.minimum(np.searchsorted(members, anchors), len(members) - 1)
    return np.asarray(members[at] == anchors)


def _anchors_at(view: View, rows: Positions) -> Anchors:
    array = gather(view.timeline, rows)
    return np.frombuffer(array.buffers()[1], np.uint64, len(array)) if len(rows) else _NONE


def _plain(array: pa.Array) -> pa.Array:
    """Return times as text: Python's have no nanoseconds."""
    return array.cast(pa.string()) if pa.types.is_timestamp(array.type) else array


def _spread(view: View, name: str, rows: Positions, held: npt.NDArray[np.bool_]) -> pa.Array:
    """Return the values of a field at some rows; null where the side does not hold the record."""
    track = view.track(name)
    where = held & (rows >= 0)
    values = gather(track, rows[where])
    if not where.all():
        index = np.zeros(len(rows), np.int64)
        index[where] = np.arange(int(where.sum()))
        values = values.take(numbers_array(index, where))
    return output_array(track.ftype, values, output_type(track.ftype))
