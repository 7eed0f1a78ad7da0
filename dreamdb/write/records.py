"""Adding records: append, upsert, keys, anchors chosen by the clock.

Source: design/0004 section 3, design/0005 section 3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.errors import AlreadyExistsError, ConflictError, InvalidInputError
from dreamdb.model import Content
from dreamdb.tracks import View, cells_equal, gather
from dreamdb.write.append import Appender
from dreamdb.write.changes import check_same_cells, check_same_field
from dreamdb.write.keys import anchors_of_keys
from dreamdb.write.merging import UNKNOWN_ROW, merge_slabs
from dreamdb.write.rows import SLAB_NBYTES, Slab, check_anchors
from dreamdb.write.stage import Stage
from dreamdb.write.tracks import edit_records, edit_tombstones, set_cells

__all__ = ["AddRecords"]

Anchors = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]

_KEEP_NBYTES: Final = SLAB_NBYTES


@dataclass(slots=True)
class AddRecords:
    """Append records, or upsert them.

    Parameters
    ----------
    data : callable
        Returns the slabs; called once.
    upsert : bool
        Change records whose anchor is stored, instead of refusing them.

    Attributes
    ----------
    added, changed : int
        Records appended and changed by the last :meth:`apply`.
    anchors : list of ndarray
        The anchors given to the records, slab by slab.
    """

    data: Callable[[], Iterator[Slab]]
    upsert: bool = False
    added: int = 0
    changed: int = 0
    anchors: list[Anchors] = field(default_factory=list)
    _kept: list[Slab] | None = field(default_factory=list)
    _kept_nbytes: int = 0
    _consumed: bool = False
    _automatic: bool = False
    _stored: Content | None = None
    _unchecked: View | None = None

    def _slabs(self, view: View) -> Iterator[Slab]:
        """Yield the slabs: from the caller once, afterwards from memory or from the store."""
        if not self._consumed:
            self._consumed = True
            for slab in self.data():
                self._automatic = slab.anchors is None and view.content.schema.key is None
                if self._kept is not None:
                    self._kept_nbytes += sum(c.nbytes for c in slab.columns.values())
                    self._kept.append(slab)
                    if self._kept_nbytes > _KEEP_NBYTES:
                        self._kept = None
                yield slab
        elif self._kept is not None:
            yield from self._kept
        else:
            yield from self._reread(view)

    def _reread(self, view: View) -> Iterator[Slab]:
        """Yield records again from the content that an earlier attempt staged."""
        assert self._stored is not None
        earlier = View(view.source, self._stored)
        for anchors in list(self.anchors):
            rows = earlier.rows_of(anchors)
            order = np.argsort(rows, kind="stable")
            columns = {
                name: pa.chunked_array([gather(earlier.track(name), rows[order])])
                for name in earlier.content.schema
            }
            keyed = earlier.content.schema.key is not None
            given = None if self._automatic or keyed else anchors[order]
            yield Slab(given, columns, len(anchors))

    def apply(self, view: View, stage: Stage) -> Content:
        """See :class:`Change`."""
        slabs = self._slabs(view)
        key = view.content.schema.key
        if key is not None:
            slabs = merge_slabs(anchors_of_keys(slab, key) for slab in slabs)
        given: list[Anchors] = []
        self.added = self.changed = 0
        writer = _Writer(view, stage, upsert=self.upsert)
        for slab in slabs:
            given.append(writer.add(slab))
            if self._unchecked is not None:
                self._check_anchors(self._unchecked, view, given[-1])
        self._unchecked = None
        content = writer.finish()
        self.anchors = given
        self.added, self.changed = writer.added, writer.changed
        self._stored = content
        return content

    def check_replay(self, base: View, tip: View) -> None:
        """See :class:`Change`."""
        if base.content.schema.key != tip.content.schema.key:
            raise ConflictError("publish conflict on ref: another writer changed the key")
        for name in base.content.schema:
            check_same_field(base, tip, name)
        # Before the first attempt the anchors are not known yet: apply() looks at them.
        self._unchecked = None if self._consumed else base
        for anchors in self.anchors:
            self._check_anchors(base, tip, anchors)

    def _check_anchors(self, base: View, tip: View, anchors: Anchors) -> None:
        """Raise ConflictError when another writer stored or changed one of these records."""
        if self._automatic:
            return
        stored = base.find(anchors) >= 0
        taken = (tip.find(anchors) >= 0) & ~stored
        # A keyed append skips equal records by itself and refuses the others.
        if taken.any() and (self.upsert or tip.content.schema.key is None):
            raise ConflictError(
                f"publish conflict on ref: another writer stored the anchor "
                f"{int(anchors[taken][0])} meanwhile",
                hint="call refresh(), then upsert() or another anchor",
                anchor=int(anchors[taken][0]),
            )
        if self.upsert and stored.any():
            for name in base.content.schema:
                check_same_cells(base, tip, name, np.sort(anchors[stored]))

    def summary(self) -> dict[str, Any]:
        """See :class:`Change`."""
        if self.upsert:
            return {"name": "upsert", "added": self.added, "changed": self.changed}
        out: dict[str, Any] = {"name": "append", "rows": self.added}
        given = [anchors for anchors in self.anchors if len(anchors)]
        if self._automatic and given:
            # A merge may move these records: nobody has chosen their anchors.
            out["automatic"] = [[int(given[0][0]), int(given[-1][-1])]]
        return out


class _Writer:
    """Routes slabs: behind the tip, into the middle, or onto stored records."""

    def __init__(self, view: View, stage: Stage, *, upsert: bool) -> None:
        self._view = view
        self._stage = stage
        self._upsert = upsert
        self._appender = Appender(view, stage)
        self.added = self.changed = 0

    def add(self, slab: Slab) -> Anchors:
        """Take in one slab and return its anchors in the order of its records."""
        if slab.anchors is None:
            if self._upsert:
                raise InvalidInputError(
                    "upsert needs anchors, or a dataset with a key",
                    hint="give each record an '_anchor'",
                )
            slab = replace(slab, anchors=self._allocate(slab.rows))
        assert slab.anchors is not None
        given = slab.anchors
        order = check_anchors(given, first_row=slab.first_row)
        if order is not None:
            slab = slab.take(order)
        assert slab.anchors is not None
        late = int(
            np.searchsorted(slab.anchors, np.uint64(max(self._appender.last_key, 0)), "right")
        )
        if self._appender.last_key < 0:
            late = 0
        if late < slab.rows:
            self._check_complete(slab)
        if late:
            self._settle()
            try:
                self._insert(slab.take(np.arange(late)))
            except AlreadyExistsError as error:
                if slab.first_row == UNKNOWN_ROW:
                    raise
                row = slab.first_row + int(np.argmax(given == np.uint64(error.details["anchor"])))
                raise AlreadyExistsError(
                    f"row {row}: {error}", hint=error.hint, **{**error.details, "row": row}
                ) from None
            slab = slab.take(np.arange(late, slab.rows))
        assert slab.anchors is not None
        if slab.rows:
            self._appender.feed(slab.anchors, slab.columns)
            self.added += slab.rows
        return given

    def _allocate(self, rows: int) -> Anchors:
        first = max(time.time_ns(), self._appender.last_key + 1)
        if first + rows > 1 << 64:
            raise InvalidInputError("there are no anchors left above the last one")
        return np.arange(first, first + rows, dtype=np.uint64)

    def _settle(self) -> None:
        """Make everything taken in so far readable, and look at it."""
        content = self._appender.finish()
        self._look_at(content)

    def _look_at(self, content: Content) -> None:
        if content != self._view.content:
            self._stage.flush()
            fresh = View(self._view.source, content)
            fresh.adopt(self._view)
            self._view = fresh
        self._appender = Appender(self._view, self._stage)

    def _check_complete(self, slab: Slab) -> None:
        for name in self._view.content.schema:
            if name not in slab.columns and self._view.content.schema[name].required:
                raise InvalidInputError(
                    f"field {name!r} is required for new records",
                    hint=f"give every new record a value for {name!r}",
                    field=name,
                    row=slab.first_row,
                )

    def _insert(self, slab: Slab) -> None:
        """Take in records whose anchors are not above the last one."""
        assert slab.anchors is not None
        view = self._view
        rows = view.find(slab.anchors, deleted=True)
        dead = view.dead()
        stored = rows >= 0
        deleted = np.zeros(len(rows), np.bool_)
        if len(dead):
            deleted = stored & (
                dead[np.minimum(np.searchsorted(dead, rows), len(dead) - 1)] == rows
            )
        visible = stored & ~deleted
        if not visible.all():
            self._check_complete(slab)
        if visible.any():
            self._change(slab.take(np.flatnonzero(visible)), rows[visible])
        if deleted.any():
            self._revive(slab.take(np.flatnonzero(deleted)), rows[deleted])
        if not stored.all():
            fresh = slab.take(np.flatnonzero(~stored))
            assert fresh.anchors is not None
            content = edit_records(
                self._view, self._stage, added=fresh.anchors, columns=fresh.columns
            )
            self.added += fresh.rows
            self._look_at(content)

    def _change(self, slab: Slab, rows: Positions) -> None:
        """Change stored records for an upsert, skip equal ones, refuse all others."""
        view, key = self._view, self._view.content.schema.key
        assert slab.anchors is not None
        if key is not None:
            _check_keys(view, key, slab, rows)
        content, touched = view.content, np.zeros(len(rows), np.bool_)
        for name, column in slab.columns.items():
            old = gather(view.track(name), rows)
            new = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
            differs = ~cells_equal(old, new)
            touched |= differs
            if differs.any() and not self._upsert:
                at = int(np.argmax(differs))
                raise _exists(view, slab, at, key, name)
            if differs.any():
                index = np.flatnonzero(differs)
                part = pa.chunked_array([new.take(numbers_array(index))])
                changed = set_cells(view, self._stage, name, rows[index], part)
                content = replace(content, tracks={**content.tracks, name: changed.tracks[name]})
        if not self._upsert and key is None:
            raise _exists(view, slab, 0, None, None)
        self.changed += int(touched.sum())
        self._look_at(content)

    def _revive(self, slab: Slab, rows: Positions) -> None:
        """Make deleted records that are appended again visible, with the new values."""
        assert slab.anchors is not None
        view = self._view
        content = view.content
        for name in content.schema:
            column = slab.columns.get(name)
            if column is None:
                column = pa.chunked_array([pa.nulls(slab.rows, view.track(name).arrow)])
            changed = set_cells(view, self._stage, name, rows, column)
            content = replace(content, tracks={**content.tracks, name: changed.tracks[name]})
        buried = edit_tombstones(
            view, self._stage, added=np.empty(0, np.uint64), removed=slab.anchors
        )
        self.added += slab.rows
        self._look_at(replace(content, tombstones=buried.tombstones))

    def finish(self) -> Content:
        """Return the content with everything taken in."""
        return self._appender.finish()


def _check_keys(view: View, key: str, slab: Slab, rows: Positions) -> None:
    old = gather(view.track(key), rows)
    column = slab.columns[key]
    new = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
    same = cells_equal(old, new)
    if not same.all():
        at = int(np.argmin(same))
        raise InvalidInputError(
            f"the keys {old[at].as_py()!r} and {new[at].as_py()!r} have the same 64-bit hash",
            hint="change one of the two keys",
            field=key,
        )


def _exists(
    view: View, slab: Slab, at: int, key: str | None, name: str | None
) -> AlreadyExistsError:
    assert slab.anchors is not None
    anchor = int(slab.anchors[at])
    if key is not None:
        value = slab.columns[key].slice(at, 1)[0].as_py()
        what = f"a record with the key {value!r} exists with another {name!r}"
    else:
        what = f"a record with the anchor {anchor} exists already"
    return AlreadyExistsError(
        what, hint="use upsert() to change stored records", anchor=anchor, field=name
    )
