"""A dictionary model of a dataset's visible state, and the three-way merge over it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

import dreamdb as vd

__all__ = ["OPERATIONS", "Conflicting", "State", "apply", "merge", "visible"]

NEW = ("p", "q", "r")
INTS = st.none() | st.integers(-3, 3)
TEXTS = st.none() | st.sampled_from(["", "a", "b"])


@dataclass
class State:
    """Fields by identity, and the visible records."""

    names: dict[str, str] = field(default_factory=lambda: {"x": "x", "s": "s"})
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    side: str = ""

    def copy(self, side: str) -> State:
        """Return an independent copy whose new fields carry a side's mark."""
        out = copy.deepcopy(self)
        out.side = side
        return out

    def named(self, name: str) -> str | None:
        """Return the identity of the field with a name."""
        return next((uid for uid, known in self.names.items() if known == name), None)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"),
            st.dictionaries(st.integers(0, 30), st.tuples(INTS, TEXTS), min_size=1, max_size=4),
        ),
        st.tuples(st.just("update"), st.integers(0, 30), st.sampled_from(["x", "p"]), INTS),
        st.tuples(st.just("update"), st.integers(0, 30), st.just("s"), TEXTS),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 30), min_size=1, max_size=3)),
        st.tuples(
            st.just("layer"),
            st.sampled_from(NEW),
            st.dictionaries(st.integers(0, 30), st.integers(-2, 2), max_size=4),
        ),
        st.tuples(st.just("rename"), st.sampled_from(["x", "s", "p"]), st.sampled_from(["t", "u"])),
        st.tuples(st.just("drop"), st.sampled_from(["x", "s", "p", "q"])),
        st.tuples(st.just("note"), st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"])),
    ),
    max_size=6,
)


def apply(ds: vd.Dataset, state: State, operations: list[Any]) -> None:
    """Do the same to a dataset and to the model; what cannot be done is left out."""
    for operation in operations:
        verb, *rest = operation
        _VERBS[verb](ds, state, *rest)


def _append(ds: vd.Dataset, state: State, rows: dict[int, tuple[Any, Any]]) -> None:
    fresh = {anchor: row for anchor, row in rows.items() if anchor not in state.rows}
    if not fresh or state.named("x") is None or state.named("s") is None:
        return
    ds.append_many([{"_anchor": a, "x": x, "s": s} for a, (x, s) in fresh.items()])
    for anchor, (x, s) in fresh.items():
        record = dict.fromkeys(state.names)
        record |= {state.named("x"): x, state.named("s"): s}
        state.rows[anchor] = record


def _update(ds: vd.Dataset, state: State, anchor: int, name: str, value: Any) -> None:
    uid = state.named(name)
    if uid is None or anchor not in state.rows:
        return
    ds.update([anchor], {name: [value]})
    state.rows[anchor][uid] = value


def _delete(ds: vd.Dataset, state: State, anchors: list[int]) -> None:
    known = sorted({a for a in anchors if a in state.rows})
    if known:
        ds.delete(known)
        for anchor in known:
            del state.rows[anchor]


def _layer(ds: vd.Dataset, state: State, name: str, values: dict[int, int]) -> None:
    if state.named(name) is not None:
        return
    known = {a: v for a, v in values.items() if a in state.rows}
    ds.add_scalar_layer(name, None, "int", list(known.items()))
    # A field is its name: what both sides add under one name is one field, and so is what is
    # dropped and added again, unless the first one lives on under another name.
    uid = f"new {name}"
    if uid in state.names:
        uid = f"newer {name}"
    if uid in state.names:
        uid = f"{state.side} {len(state.names)} {name}"
    state.names[uid] = name
    for anchor, row in state.rows.items():
        row[uid] = known.get(anchor)


def _rename(ds: vd.Dataset, state: State, old: str, new: str) -> None:
    uid = state.named(old)
    if uid is None or state.named(new) is not None:
        return
    ds.rename_field(old, new)
    state.names[uid] = new


def _drop(ds: vd.Dataset, state: State, name: str) -> None:
    uid = state.named(name)
    if uid is None:
        return
    ds.drop_field(name)
    del state.names[uid]
    for row in state.rows.values():
        del row[uid]


def _note(ds: vd.Dataset, state: State, name: str, value: str) -> None:
    ds.set_metadata({name: value})
    state.notes[name] = value


_VERBS: dict[str, Any] = {
    "append": _append,
    "update": _update,
    "delete": _delete,
    "layer": _layer,
    "rename": _rename,
    "drop": _drop,
    "note": _note,
}


def visible(ds: vd.Dataset) -> tuple[dict[int, dict[str, Any]], dict[str, str]]:
    """Return what a reader sees of a dataset, by names."""
    table = ds.scan().to_arrow().to_pylist()
    return {row.pop("_anchor"): row for row in table}, ds.metadata


@dataclass
class Conflicting:
    """What a merge must report: conflicts about cells, and whether fields or notes clash."""

    cells: set[tuple[int, str]] = field(default_factory=set)
    other: bool = False

    def __bool__(self) -> bool:
        return bool(self.cells) or self.other


def merge(base: State, ours: State, theirs: State) -> tuple[State, Conflicting]:
    """Merge two states; where they conflict ours wins."""
    clash = Conflicting()
    ours, theirs = (_by_name(side, base) for side in (ours, theirs))
    names = _merge_names(base, ours, theirs, clash)
    out = State(names)
    for key in {*base.notes, *ours.notes, *theirs.notes}:
        was, mine, other = (s.notes.get(key) for s in (base, ours, theirs))
        clash.other |= mine != other and was not in (mine, other)
        value = mine if other == was else other
        if value is not None:
            out.notes[key] = value
    for anchor in {*base.rows, *ours.rows, *theirs.rows}:
        sides = (base.rows.get(anchor), ours.rows.get(anchor), theirs.rows.get(anchor))
        row = _merge_row(anchor, sides, names, base, clash)
        if row is not None:
            out.rows[anchor] = row
    return out, clash


def _by_name(state: State, base: State) -> State:
    """Return a side whose new fields are identified by the names they have in the end."""
    uids = {u: u if u in base.names else f"named {n}" for u, n in state.names.items()}
    rows = {a: {uids[u]: v for u, v in row.items()} for a, row in state.rows.items()}
    return State({uids[u]: n for u, n in state.names.items()}, rows, state.notes)


def _merge_names(base: State, ours: State, theirs: State, clash: Conflicting) -> dict[str, str]:
    names: dict[str, str] = {}
    for uid, was in base.names.items():
        mine, other = ours.names.get(uid), theirs.names.get(uid)
        if mine is not None and other is not None:
            clash.other |= mine != other and was not in (mine, other)
            names[uid] = mine if other == was else other
        elif mine is not None or other is not None:
            side = ours if mine is not None else theirs
            changed = any(
                anchor in side.rows and side.rows[anchor][uid] != row[uid]
                for anchor, row in base.rows.items()
            )
            clash.other |= changed or side.names[uid] != was
    for side in (ours, theirs):
        names |= {uid: name for uid, name in side.names.items() if uid not in base.names}
    clash.other |= len(set(names.values())) < len(names)
    return names


def _merge_row(
    anchor: int,
    sides: tuple[Any, Any, Any],
    names: dict[str, str],
    base: State,
    clash: Conflicting,
) -> dict[str, Any] | None:
    was, mine, other = sides
    if mine is None and other is None:
        return None
    if was is not None and (mine is None or other is None):
        kept = mine or other
        assert kept is not None
        changed = [u for u in names if u in base.names and u in kept and kept[u] != was[u]]
        clash.cells |= {(anchor, names[u]) for u in changed}
        return None
    row = {}
    for uid, name in names.items():
        if mine is None or other is None:
            row[uid] = (mine or other).get(uid)
            continue
        if uid not in mine or uid not in other:
            row[uid] = mine.get(uid, other.get(uid))
            continue
        a, b = mine[uid], other[uid]
        old = was[uid] if was is not None and uid in base.names else None
        if a != b and (was is None or old not in (a, b)):
            clash.cells.add((anchor, name))
            row[uid] = a
        else:
            row[uid] = a if b == old else b
    return row
