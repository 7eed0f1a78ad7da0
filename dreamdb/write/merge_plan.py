"""Planning a three-way merge: what becomes of every record and cell that one side changed.

Source: design/0008 sections 6 and 7.  The plan is made by reading alone.  It speaks of anchors and
is symmetric: exchanging the sides gives the same state, whichever of them is edited to reach it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dreamdb.codecs import numbers_array
from dreamdb.errors import InvalidInputError
from dreamdb.model import Field
from dreamdb.tracks import (
    Alignment,
    View,
    align,
    cells_equal,
    differing_cells,
    differing_fragments,
    find_in_keys,
    gather,
    validity,
)
from dreamdb.write.conflicts import BASE, OURS, THEIRS, Choices, ConflictGroup, Conflicts
from dreamdb.write.merge_schema import MergedField, MergedSchema, merge_notes, merge_schemas
from dreamdb.write.merge_sides import CellEdit, MergePlan, MergeSide, member, without

__all__ = ["plan_merge"]

Anchors = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NONE: Final = np.empty(0, np.uint64)
_MAX_ANCHOR: Final = (1 << 64) - 1


def plan_merge(base: View, sides: tuple[MergeSide, MergeSide], conflicts: Conflicts) -> MergePlan:
    """Plan the merge of two contents over their base.

    Parameters
    ----------
    base : View
        The merge base.
    sides : tuple of MergeSide
        Ours and theirs.
    conflicts : Conflicts
        Decides what both changed; check it before anything is written.

    Notes
    -----
    Cost: the paths to what either side changed; of values, the fragments that the side with fewer
    changes does not share with the base, and the other side's at the same records.
    """
    return _Planner(base, sides, conflicts).plan()


class _Planner:
    """Builds one plan, step by step."""

    def __init__(
        self, base: View, sides: tuple[MergeSide, MergeSide], conflicts: Conflicts
    ) -> None:
        self.base = base
        self.sides = sides
        self.conflicts = conflicts
        # A choice that must not depend on which side is called ours.
        self.lesser = OURS if sides[0].address <= sides[1].address else THEIRS
        self.sourced: list[Anchors] = [_NONE, _NONE]
        self.kept: list[Anchors] = [_NONE, _NONE]
        self.forced: dict[str, list[CellEdit]] = {}
        self.absent = _NONE
        self.across: Alignment | None = None

    def plan(self) -> MergePlan:
        """Return the plan."""
        contents = tuple(side.view.content for side in self.sides)
        schema = merge_schemas(
            self.base.content.schema,
            (contents[0].schema, contents[1].schema),
            (self.sides[0].renames, self.sides[1].renames),
            self.conflicts,
        )
        notes = merge_notes(
            self.base.content.metadata,
            (contents[0].metadata, contents[1].metadata),
            self.conflicts,
        )
        self.schema = self._with_contested(schema)
        self.shared = [f for f in self.schema.fields if None not in f.names]
        self._settle_deletions()
        moved, mover = self._settle_rivals()
        carrier = 1 - mover if len(moved[0]) else self._heavier()
        plan = MergePlan(self.sides, carrier, self.schema, notes, moved=moved, mover=mover)
        self._plan_rows(plan)
        self._plan_graves(plan)
        for merged in self.schema.fields:
            self._plan_cells(plan, merged)
        return plan

    # ------------------------------------------------------------ fields

    def _with_contested(self, schema: MergedSchema) -> MergedSchema:
        """Let fields go that one side dropped, unless the other changed their cells."""
        kept = list(schema.fields)
        for dropped in schema.dropped:
            side, merged = self.sides[dropped.keeper], dropped.merged
            name = merged.names[dropped.keeper]
            assert name is not None
            rows, others = differing_cells(
                self.base.track(dropped.base), side.view.track(name), side.rows
            )
            anchors = _anchors_at(self.base, rows)
            # What both did not see, or one has only now made visible, was not changed.
            shown = ~member(side.lost, anchors) & ~member(side.revived, anchors)
            anchors, rows, others = anchors[shown], rows[shown], others[shown]
            if not len(anchors):
                continue
            track = side.view.track(name)
            here = gather(track, others)
            sides = [here, pa.nulls(len(here), track.arrow)]
            if dropped.keeper == THEIRS:
                sides.reverse()
            group = ConflictGroup(
                "delete",
                merged.field.name,
                track.ftype,
                anchors,
                gather(self.base.track(dropped.base), rows),
                *sides,
            )
            which = set(self.conflicts.decide(group).which.tolist())
            if len(which) > 1:
                raise _undecided(merged.field.name, None)
            if which != {1 - dropped.keeper}:
                kept.append(merged)
        return MergedSchema(tuple(kept), (), schema.key)

    # ------------------------------------------------------------ records

    def _settle_deletions(self) -> None:
        """Decide about records that one side deleted and the other changed."""
        for index, side in enumerate(self.sides):
            other = self.sides[1 - index]
            lost = without(side.lost, other.lost)
            # Made visible again by the other: nothing was deleted that this side had seen.
            again = side.rows.removed_anchors[member(other.revived, side.rows.removed_anchors)]
            again = again[other.position(again) >= 0] if len(again) else again
            gone, keep = [_NONE], [again]
            if len(lost):
                for merged in self.schema.fields:
                    self._contest(merged, 1 - index, lost, gone, keep)
            out, stay = np.unique(np.concatenate(gone)), np.unique(np.concatenate(keep))
            both = out[member(stay, out)]
            if len(both):
                raise _undecided(None, int(both[0]))
            self.kept[index] = stay
            self.sourced[index] = out
        both_lost = np.intersect1d(self.sides[0].lost, self.sides[1].lost)
        self.sourced[self.lesser] = np.union1d(self.sourced[self.lesser], both_lost)

    def _contest(
        self,
        merged: MergedField,
        changer: int,
        lost: Anchors,
        gone: list[Anchors],
        keep: list[Anchors],
    ) -> None:
        """Have the cells of lost records decided that the other side changed."""
        name = merged.names[changer]
        if merged.base is None or name is None:
            return
        side = self.sides[changer]
        before, after = self.base.track(merged.base), side.view.track(name)
        rows, others = differing_cells(
            before, after, side.rows, among=find_in_keys(self.base.timeline, lost)
        )
        if not len(rows):
            return
        here = gather(after, others)
        sides = [here, pa.nulls(len(here), after.arrow)]
        if changer == THEIRS:
            sides.reverse()
        anchors = _anchors_at(self.base, rows)
        was = gather(before, rows)
        group = ConflictGroup("delete", merged.field.name, after.ftype, anchors, was, *sides)
        which = self.conflicts.decide(group).which
        gone.append(anchors[which == 1 - changer])
        keep.append(anchors[which != 1 - changer])
        back = np.flatnonzero(which == BASE)
        if len(back):
            edit = CellEdit(anchors[back], was.take(numbers_array(back)))
            self.forced.setdefault(merged.field.name, []).append(edit)

    def _settle_rivals(self) -> tuple[tuple[Anchors, Anchors], int]:
        """Decide about anchors under which both sides made a record."""
        ours, theirs = self.sides
        self.rivals = np.union1d(
            np.intersect1d(ours.rows.added_anchors, theirs.rows.added_anchors),
            np.intersect1d(ours.revived, theirs.revived),
        )
        for side in self.sides:
            if len(self.rivals):
                self.rivals = self.rivals[side.position(self.rivals) >= 0]
        if not len(self.rivals):
            return (_NONE, _NONE), THEIRS
        dead = [side.is_dead(self.rivals) for side in self.sides]
        for index in (OURS, THEIRS):
            alone = self.rivals[~dead[index] & dead[1 - index]]
            self.sourced[index] = np.union1d(self.sourced[index], alone)
        neither = self.rivals[dead[0] & dead[1]]
        self.sourced[self.lesser] = np.union1d(self.sourced[self.lesser], neither)
        alive = self.rivals[~dead[0] & ~dead[1]]
        differing = self._differing(alive)
        moved, mover = self._give_way(differing)
        self.sourced[1 - mover] = np.union1d(self.sourced[1 - mover], moved[0])
        self._decide_rivals(without(differing, moved[0]))
        return moved, mover

    def _differing(self, anchors: Anchors) -> Anchors:
        """Return those of the anchors whose records differ between the sides."""
        differs = np.zeros(len(anchors), np.bool_)
        for merged in self.schema.fields:
            sides = [
                None if name is None else side.values(name, anchors)
                for side, name in zip(self.sides, merged.names, strict=True)
            ]
            if sides[0] is not None and sides[1] is not None:
                differs |= ~cells_equal(sides[0], sides[1])
        return anchors[differs]

    def _give_way(self, anchors: Anchors) -> tuple[tuple[Anchors, Anchors], int]:
        """Choose the side whose automatic anchors move behind all others."""
        if not len(anchors):
            return (_NONE, _NONE), THEIRS
        chosen = [_in_ranges(anchors, side.automatic()) for side in self.sides]
        able = [bool(mask.any()) for mask in chosen]
        if not any(able):
            return (_NONE, _NONE), THEIRS
        mover = 1 - self.lesser if all(able) else able.index(True)
        old = anchors[chosen[mover]]
        first = max(side.view.timeline.last_key for side in self.sides) + 1
        if first + len(old) - 1 > _MAX_ANCHOR:
            return (_NONE, _NONE), THEIRS
        return (old, np.arange(len(old), dtype=np.uint64) + np.uint64(first)), mover

    def _decide_rivals(self, anchors: Anchors) -> None:
        """Have records decided that both sides added under one anchor, cell by cell."""
        if not len(anchors):
            return
        left_out, held = [_NONE], [_NONE]
        for merged in self.shared:
            ours, theirs = (
                side.values(name or "", anchors)
                for side, name in zip(self.sides, merged.names, strict=True)
            )
            index = np.flatnonzero(~cells_equal(ours, theirs))
            if not len(index):
                continue
            taken = numbers_array(index)
            ours, theirs = ours.take(taken), theirs.take(taken)
            nothing = pa.nulls(len(index), ours.type)
            group = ConflictGroup(
                "add", merged.field.name, merged.field.type, anchors[index], nothing, ours, theirs
            )
            choices = self.conflicts.decide(group)
            base = choices.which == BASE
            left_out.append(anchors[index][base])
            held.append(anchors[index][~base])
            edit = CellEdit(anchors[index], _allowed(merged.field, choices, group))
            self.forced.setdefault(merged.field.name, []).append(edit)
        self.absent = np.unique(np.concatenate(left_out))
        torn = self.absent[member(np.unique(np.concatenate(held)), self.absent)]
        if len(torn):
            raise _undecided(None, int(torn[0]))

    def _heavier(self) -> int:
        """Return the side with more changes: the other side's are then applied to it."""
        weights = []
        for index, side in enumerate(self.sides):
            weight = len(side.rows.added) * len(self.schema.fields) + len(side.rows.removed)
            for merged in self.shared:
                if merged.base is None:
                    continue
                name = merged.names[index] or ""
                runs = differing_fragments(
                    self.base.track(merged.base), side.view.track(name), side.rows
                )
                weight += int(runs[1].entries["rows"].sum())
            weights.append(weight)
        if weights[0] == weights[1]:
            return self.lesser
        return OURS if weights[0] > weights[1] else THEIRS

    def _plan_rows(self, plan: MergePlan) -> None:
        """Plan the timeline."""
        near, far = self.sides[plan.carrier], self.sides[1 - plan.carrier]
        come = [side.rows.added_anchors for side in (near, far)]
        gone = [side.rows.removed_anchors for side in (near, far)]
        stay = [self.kept[plan.carrier], self.kept[1 - plan.carrier]]
        absent = self.absent[member(come[0], self.absent)]
        back = [gone[i][member(stay[i], gone[i])] for i in (0, 1)]
        out = [without(gone[i], back[i]) for i in (0, 1)]
        old, new = plan.moved
        inserted = np.union1d(without(come[1], come[0]), back[0])
        plan.inserted = np.concatenate([inserted, new])
        plan.origins = np.concatenate([inserted, old])
        plan.removed = np.union1d(without(out[1], gone[0]), absent)
        plan.lacking = np.concatenate([np.union1d(without(come[0], come[1]), back[1]), new])
        plan.surplus = np.union1d(without(out[0], gone[1]), absent)

    def _plan_graves(self, plan: MergePlan) -> None:
        """Plan the tombstones."""
        near, far = self.sides[plan.carrier], self.sides[1 - plan.carrier]
        stay = np.union1d(self.kept[0], self.kept[1])
        alive = self.rivals
        if len(alive):
            alive = alive[~(near.is_dead(alive) & far.is_dead(alive))]
            alive = without(alive, self.absent)
        buried = without(without(far.buried, stay), alive)
        held = (near.position(buried) >= 0) | member(plan.inserted, buried)
        buried = without(buried[held], plan.removed)
        revived_dead = self.absent[~member(plan.removed, self.absent)]
        buried = np.union1d(buried, revived_dead)
        plan.buried = buried[~near.is_dead(buried)]
        out = np.unique(np.concatenate([far.revived, stay, alive, plan.removed]))
        out = without(out, plan.buried)
        plan.unburied = out[near.is_dead(out)]

    # ------------------------------------------------------------ cells

    def _plan_cells(self, plan: MergePlan, merged: MergedField) -> None:
        """Plan the cells of one field."""
        carrier, other = plan.carrier, 1 - plan.carrier
        name = merged.names[carrier]
        edits: list[CellEdit] = []
        if name is None or merged.names[other] is None:
            # A field of one side alone: a record that the other side made has no value in it.
            owner = other if name is None else carrier
            strangers = self.rivals[member(self.sourced[1 - owner], self.rivals)]
            if len(strangers):
                track = self.sides[owner].view.track(merged.names[owner] or "")
                edits.append(CellEdit(strangers, pa.nulls(len(strangers), track.arrow)))
            edits += self.forced.get(merged.field.name, [])
            self._keep_edits(plan, owner, merged, edits)
            return
        settled = np.unique(np.concatenate([*self.sourced, self.rivals]))
        if merged.base is not None:
            edits += self._three_way(plan, merged, settled)
        else:
            edits += self._two_way(plan, merged, settled)
        taken = self.sourced[other]
        if len(taken):
            edits.append(self._take_over(plan, merged, taken))
        edits += self.forced.get(merged.field.name, [])
        self._keep_edits(plan, carrier, merged, edits)

    def _keep_edits(
        self, plan: MergePlan, owner: int, merged: MergedField, edits: list[CellEdit]
    ) -> None:
        edits = [edit for edit in edits if len(edit.anchors)]
        if edits:
            plan.cells[owner, merged.names[owner] or ""] = edits

    def _three_way(self, plan: MergePlan, merged: MergedField, settled: Anchors) -> list[CellEdit]:
        """Return the carrier's new cells of a field that the base has too."""
        near, far = self.sides[plan.carrier], self.sides[1 - plan.carrier]
        before = self.base.track(merged.base or "")
        mine = near.view.track(merged.names[plan.carrier] or "")
        theirs = far.view.track(merged.names[1 - plan.carrier] or "")
        rows, others = differing_cells(before, theirs, far.rows)
        if not len(rows):
            return []
        anchors = _anchors_at(self.base, rows)
        open_ = ~member(settled, anchors) & ~member(near.rows.removed_anchors, anchors)
        anchors, rows, others = anchors[open_], rows[open_], others[open_]
        changed = differing_cells(before, mine, near.rows, among=rows)[0]
        both = member(changed, rows)
        alone = np.flatnonzero(~both)
        edits = [CellEdit(anchors[alone], gather(theirs, others[alone]))]
        at = np.flatnonzero(both)
        if len(at):
            here = gather(mine, near.rows.to_right(rows[at]))
            there = gather(theirs, others[at])
            clash = np.flatnonzero(~cells_equal(here, there))
            if len(clash):
                index = numbers_array(clash)
                was = gather(before, rows[at[clash]])
                edits.append(
                    self._clash(plan, merged, anchors[at[clash]], was,
                                here.take(index), there.take(index))
                )  # fmt: skip
        return edits

    def _two_way(self, plan: MergePlan, merged: MergedField, settled: Anchors) -> list[CellEdit]:
        """Return the carrier's new cells of a field that both sides have added."""
        near, far = self.sides[plan.carrier], self.sides[1 - plan.carrier]
        mine = near.view.track(merged.names[plan.carrier] or "")
        theirs = far.view.track(merged.names[1 - plan.carrier] or "")
        rows, others = differing_cells(mine, theirs, self._across(plan))
        anchors = _anchors_at(near.view, rows)
        open_ = ~member(settled, anchors)
        anchors, rows, others = anchors[open_], rows[open_], others[open_]
        here, there = gather(mine, rows), gather(theirs, others)
        empty = ~validity(here)
        edits = [_part(anchors, there, np.flatnonzero(empty))]
        both = ~empty & validity(there)
        if both.any():
            dead = near.is_dead(anchors) | far.is_dead(anchors)
            if self.lesser != plan.carrier:
                edits.append(_part(anchors, there, np.flatnonzero(both & dead)))
            clash = np.flatnonzero(both & ~dead)
            if len(clash):
                index = numbers_array(clash)
                nothing = pa.nulls(len(clash), here.type)
                edits.append(
                    self._clash(plan, merged, anchors[clash], nothing,
                                here.take(index), there.take(index))
                )  # fmt: skip
        return edits

    def _take_over(self, plan: MergePlan, merged: MergedField, anchors: Anchors) -> CellEdit:
        """Return the other side's cells for records that come from there as a whole."""
        near, far = self.sides[plan.carrier], self.sides[1 - plan.carrier]
        mine = near.view.track(merged.names[plan.carrier] or "")
        theirs = far.view.track(merged.names[1 - plan.carrier] or "")
        rows = near.position(anchors)
        across = self._across(plan)
        rows, _ = across.shared_of_left(rows[rows >= 0])
        rows, others = differing_cells(mine, theirs, across, among=rows)
        return CellEdit(_anchors_at(near.view, rows), gather(theirs, others))

    def _across(self, plan: MergePlan) -> Alignment:
        if self.across is None:
            sides = self.sides[plan.carrier], self.sides[1 - plan.carrier]
            self.across = align(sides[0].view.timeline, sides[1].view.timeline)
        return self.across

    def _clash(
        self,
        plan: MergePlan,
        merged: MergedField,
        anchors: Anchors,
        base: pa.Array,
        near: pa.Array,
        far: pa.Array,
    ) -> CellEdit:
        """Have cells decided that both sides changed."""
        ours, theirs = (near, far) if plan.carrier == OURS else (far, near)
        group = ConflictGroup(
            "cell", merged.field.name, merged.field.type, anchors, base, ours, theirs
        )
        return CellEdit(anchors, _allowed(merged.field, self.conflicts.decide(group), group))


def _allowed(merged: Field, choices: Choices, group: ConflictGroup) -> pa.Array:
    """Return the chosen values, unless one is null where the field needs a value."""
    values = choices.pick(group)
    if merged.required and values.null_count:
        bad = ~validity(values) & (choices.which != BASE)
        if bad.any():
            raise InvalidInputError(
                f"field {merged.name!r} is required: record {int(group.anchors[np.argmax(bad)])} "
                "cannot be decided as null",
                field=merged.name,
            )
    return values


def _undecided(name: str | None, anchor: int | None) -> InvalidInputError:
    what = f"the field {name!r}" if anchor is None else f"the record {anchor}"
    return InvalidInputError(
        f"the decisions about {what} contradict each other: it cannot both go and stay",
        hint="decide all its conflicts for the same side",
        anchor=anchor,
        field=name,
    )


def _part(anchors: Anchors, values: pa.Array, index: Positions) -> CellEdit:
    return CellEdit(anchors[index], values.take(numbers_array(index)))


def _anchors_at(view: View, rows: Positions) -> Anchors:
    if not len(rows):
        return _NONE
    array = gather(view.timeline, rows)
    return np.frombuffer(array.buffers()[1], np.uint64, len(array))


def _in_ranges(anchors: Anchors, ranges: list[tuple[int, int]]) -> Bools:
    out = np.zeros(len(anchors), np.bool_)
    for first, last in ranges:
        out |= (anchors >= np.uint64(first)) & (anchors <= np.uint64(last))
    return out
