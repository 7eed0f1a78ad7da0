"""A random walk over the public API against a dictionary: several handles, branches, snapshots."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import dreamdb as vd

_NUMBERS = itertools.count()
TYPES = {"x": "int", "s": "string", "f": "float", "p": "int", "q": "string"}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
    "string": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    "float": st.none() | st.floats(allow_nan=False),
}
# Few anchors, so that they meet; some far away, so that fragments are cut.
ANCHORS = st.integers(0, 40) | st.integers(1_000, 1_300)

Rows = dict[int, dict[str, Any]]


@dataclass
class State:
    """What a ref should hold."""

    fields: dict[str, str] = field(default_factory=lambda: {"x": "int", "s": "string"})
    rows: Rows = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    metadata: dict[str, str] = field(default_factory=dict)

    def copy(self) -> State:
        """Return an independent copy."""
        return State(
            dict(self.fields),
            {a: dict(r) for a, r in self.rows.items()},
            set(self.dead),
            dict(self.metadata),
        )


@st.composite
def records(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw records with distinct anchors, in any order."""
    anchors = draw(st.lists(ANCHORS, min_size=1, max_size=8, unique=True))
    return [{"_anchor": a, "x": draw(VALUES["int"]), "s": draw(VALUES["string"])} for a in anchors]


class Machine(RuleBasedStateMachine):
    """Every rule does the same to the dataset and to the model, or expects a typed refusal."""

    def __init__(self) -> None:
        super().__init__()
        self.url = self.new_space()
        schema = vd.Schema().add_scalar_int("x").add_scalar_string("s")
        self.handles = {"main": vd.Dataset.create("main", schema, backend=self.url)}
        self.states = {"main": State()}
        self.snapshots: list[tuple[dict[str, Any], State]] = []
        self.current = "main"

    def new_space(self) -> str:
        """Return the URL of an empty space."""
        return f"memory://property-machine-{next(_NUMBERS)}"

    @property
    def ds(self) -> vd.Dataset:
        """The handle in use."""
        return self.handles[self.current]

    @property
    def state(self) -> State:
        """What it should hold."""
        return self.states[self.current]

    def known(self, data: st.DataObject, *, least: int = 1) -> list[int]:
        """Draw some stored anchors."""
        stored = sorted(self.state.rows)
        return data.draw(st.lists(st.sampled_from(stored), min_size=least, max_size=5, unique=True))

    # ------------------------------------------------------------ records

    @rule(rows=records())
    def append(self, rows: list[dict[str, Any]]) -> None:
        """Append with anchors, in any order; refused as a whole when one is taken."""
        if not {"x", "s"} <= self.state.fields.keys():
            with pytest.raises(vd.FieldNotFoundError):
                self.ds.append_many(rows)
            return
        if any(r["_anchor"] in self.state.rows for r in rows):
            with pytest.raises(vd.AlreadyExistsError):
                self.ds.append_many(rows)
            return
        assert self.ds.append_many(rows) == len(rows)
        self.put(rows)

    def put(self, rows: list[dict[str, Any]]) -> None:
        """Store new records in the model."""
        for row in rows:
            anchor = row["_anchor"]
            values = {k: v for k, v in row.items() if k != "_anchor"}
            self.state.rows[anchor] = dict.fromkeys(self.state.fields) | values
            self.state.dead.discard(anchor)

    @rule(count=st.integers(1, 40), value=VALUES["int"])
    def append_automatic(self, count: int, value: int | None) -> None:
        """Append without anchors: they follow the last one."""
        name = next((n for n in self.state.fields if self.state.fields[n] == "int"), None)
        if name is None:
            return
        assert self.ds.append([{name: value}] * count) == count
        anchors = self.ds.scan([]).to_arrow()["_anchor"].to_pylist()[-count:]
        assert anchors[0] > max([*self.state.rows, *self.state.dead], default=-1)
        self.put([{"_anchor": a, name: value} for a in anchors])

    @rule(rows=records(), fields=st.sets(st.sampled_from(["x", "s"]), min_size=1))
    def upsert(self, rows: list[dict[str, Any]], fields: set[str]) -> None:
        """Change stored records, add the others; fields that are not given stay."""
        fields &= self.state.fields.keys()
        given = [{k: v for k, v in r.items() if k == "_anchor" or k in fields} for r in rows]
        self.ds.upsert(given)
        for row in given:
            values = {k: v for k, v in row.items() if k != "_anchor"}
            if row["_anchor"] in self.state.rows:
                self.state.rows[row["_anchor"]] |= values
            else:
                self.put([row])

    @precondition(lambda self: self.state.rows and self.state.fields)
    @rule(data=st.data())
    def update(self, data: st.DataObject) -> None:
        """Change cells of stored records."""
        anchors = self.known(data)
        name = data.draw(st.sampled_from(sorted(self.state.fields)))
        kind = self.state.fields[name]
        values = data.draw(st.lists(VALUES[kind], min_size=len(anchors), max_size=len(anchors)))
        assert self.ds.update(anchors, {name: values}) == len(anchors)
        for anchor, value in zip(anchors, values, strict=True):
            self.state.rows[anchor][name] = value

    @precondition(lambda self: self.state.rows)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Delete stored records."""
        anchors = self.known(data)
        assert self.ds.delete(anchors) == len(anchors)
        self.bury(anchors)

    def bury(self, anchors: list[int]) -> None:
        """Delete records of the model."""
        for anchor in anchors:
            del self.state.rows[anchor]
        self.state.dead.update(anchors)

    @rule(limit=ANCHORS)
    def delete_below(self, limit: int) -> None:
        """Delete by a condition."""
        anchors = [a for a in self.state.rows if a < limit]
        assert self.ds.delete(f"_anchor < {limit}") == len(anchors)
        self.bury(anchors)

    @precondition(lambda self: self.state.dead)
    @rule(data=st.data())
    def touch_the_dead(self, data: st.DataObject) -> None:
        """A deleted record can be neither changed nor deleted again; it can be appended again."""
        anchor = data.draw(st.sampled_from(sorted(self.state.dead)))
        assert anchor not in self.ds
        with pytest.raises(vd.AnchorNotFoundError):
            self.ds.delete([anchor])
        name = next(iter(self.state.fields), None)
        if name is not None:
            with pytest.raises(vd.AnchorNotFoundError):
                self.ds.update([anchor], {name: [None]})
            self.ds.append_many([{"_anchor": anchor, name: None}])
            self.put([{"_anchor": anchor}])

    # ------------------------------------------------------------ fields

    @rule(
        data=st.data(),
        name=st.sampled_from("pqf"),
        mode=st.sampled_from(["create", "replace", "update"]),
    )
    def layer(self, data: st.DataObject, name: str, mode: str) -> None:
        """Write a layer over some records."""
        stored = sorted(self.state.rows)
        chosen = data.draw(st.lists(st.sampled_from(stored), unique=True)) if stored else []
        kind = TYPES[name]
        samples = [(a, data.draw(VALUES[kind])) for a in chosen]
        exists = name in self.state.fields
        if exists and self.state.fields[name] != kind:
            with pytest.raises(vd.SchemaError):
                self.ds.add_scalar_layer(name, None, kind, samples, mode=mode)
            return
        if (mode == "create" and exists) or (mode == "update" and not exists):
            with pytest.raises((vd.AlreadyExistsError, vd.FieldNotFoundError)):
                self.ds.add_scalar_layer(name, None, kind, samples, mode=mode)
            return
        assert self.ds.add_scalar_layer(name, None, kind, samples, mode=mode) == len(samples)
        self.state.fields[name] = kind
        if mode != "update":
            for row in self.state.rows.values():
                row[name] = None
        for anchor, value in samples:
            self.state.rows[anchor][name] = value

    @rule(name=st.sampled_from("xsfpq"))
    def drop(self, name: str) -> None:
        """Drop a field."""
        if name not in self.state.fields:
            with pytest.raises(vd.FieldNotFoundError):
                self.ds.drop_field(name)
            return
        self.ds.drop_field(name)
        del self.state.fields[name]
        for row in self.state.rows.values():
            del row[name]

    @rule(old=st.sampled_from("xsfpq"), new=st.sampled_from("xsfpq"))
    def rename(self, old: str, new: str) -> None:
        """Rename a field; only onto names of the same type, so that the model stays simple."""
        if old not in self.state.fields:
            with pytest.raises(vd.FieldNotFoundError):
                self.ds.rename_field(old, new)
            return
        if new in self.state.fields:
            with pytest.raises(vd.AlreadyExistsError):
                self.ds.rename_field(old, new)
            return
        if TYPES[new] != self.state.fields[old]:
            return
        self.ds.rename_field(old, new)
        self.state.fields[new] = self.state.fields.pop(old)
        for row in self.state.rows.values():
            row[new] = row.pop(old)

    @rule(name=st.sampled_from("xs"))
    def add_again(self, name: str) -> None:
        """Add an empty field."""
        schema = vd.Schema()
        (schema.add_scalar_int if name == "x" else schema.add_scalar_string)(name)
        if name in self.state.fields:
            with pytest.raises(vd.AlreadyExistsError):
                self.ds.add_fields(schema)
            return
        self.ds.add_fields(schema)
        self.state.fields[name] = TYPES[name]
        for row in self.state.rows.values():
            row[name] = None

    @rule(key=st.sampled_from("ab"), value=st.none() | st.sampled_from(["1", "2"]))
    def note(self, key: str, value: str | None) -> None:
        """Set or remove a note."""
        self.ds.set_metadata({key: value})
        self.state.metadata.pop(key, None)
        if value is not None:
            self.state.metadata[key] = value

    # ------------------------------------------------------------ versions

    @rule(fail=st.booleans(), rows=records())
    def transaction(self, fail: bool, rows: list[dict[str, Any]]) -> None:
        """Several verbs at once, or none of them."""
        if not {"x", "s"} <= self.state.fields.keys():
            return
        fresh = [r for r in rows if r["_anchor"] not in self.state.rows]
        before = self.state.copy()
        try:
            with self.ds.transaction() as tx:
                tx.append_many(fresh)
                self.put(fresh)
                tx.update([r["_anchor"] for r in rows], {"x": 7})
                for row in rows:
                    self.state.rows[row["_anchor"]]["x"] = 7
                tx.delete([rows[0]["_anchor"]])
                self.bury([rows[0]["_anchor"]])
                assert tx.count() == len(self.state.rows)
                if fail:
                    raise KeyError("on purpose")
        except KeyError:
            self.states[self.current] = before

    @rule()
    def snapshot(self) -> None:
        """Keep this version."""
        if len(self.snapshots) < 6:
            label = f"snap/{len(self.snapshots)}"
            self.snapshots.append((self.ds.snapshot(label), self.state.copy()))

    @rule()
    def branch(self) -> None:
        """Branch off, and go on there."""
        if len(self.handles) < 4:
            name = f"b{len(self.handles)}"
            self.handles[name] = self.ds.branch(name)
            self.states[name] = self.state.copy()
            self.current = name

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def branch_at_a_snapshot(self, data: st.DataObject) -> None:
        """Branch off an old version."""
        if len(self.handles) < 4:
            snap, state = data.draw(st.sampled_from(self.snapshots))
            name = f"b{len(self.handles)}"
            self.handles[name] = self.ds.branch(name, at=snap)
            self.states[name] = state.copy()
            self.current = name

    @rule(data=st.data())
    def switch(self, data: st.DataObject) -> None:
        """Go on with another branch."""
        self.current = data.draw(st.sampled_from(sorted(self.handles)))

    @rule()
    def reopen(self) -> None:
        """Go on with a new handle."""
        self.handles[self.current] = vd.Dataset.open_ref(self.current, self.url)

    @rule(value=VALUES["int"])
    def write_through_another_handle(self, value: int | None) -> None:
        """Leave our handle stale: its next commit is replayed on top of this one."""
        if self.state.fields.get("x") != "int":
            return
        other = vd.Dataset.open_ref(self.current, self.url)
        other.append_many([{"x": value}])
        anchor = other.scan([]).to_arrow()["_anchor"].to_pylist()[-1]
        before = self.ds.count()
        # An automatic append of the stale handle commutes with it.
        assert self.ds.count() == before
        self.put([{"_anchor": anchor, "x": value}])
        self.ds.append_many([{"x": 1}])
        self.put([{"_anchor": self.ds.scan([]).to_arrow()["_anchor"].to_pylist()[-1], "x": 1}])

    # ------------------------------------------------------------ what always holds

    @invariant()
    def reads_like_the_model(self) -> None:
        """The handle shows what the model holds."""
        check(self.ds, self.state)

    def teardown(self) -> None:
        """Check all refs, all snapshots, and the whole space."""
        for name, state in self.states.items():
            check(self.handles[name], state)
            check(vd.Dataset.open_ref(name, self.url), state)
        for snap, state in self.snapshots:
            check(vd.Dataset.open_at(snap, self.url), state)
            check(vd.Dataset.open_ref(str(snap["label"]), self.url), state)
        report = vd.connect(self.url).verify()
        assert report.ok, report.damage
        for name, state in self.states.items():
            same_content_however_built(self.handles[name], state)


def check(ds: vd.Dataset, state: State) -> None:
    """Compare a handle with the model in every way of reading."""
    assert {n: ds.schema[n].type.kind for n in ds.schema} == state.fields
    assert ds.metadata == state.metadata
    assert ds.count() == len(ds) == len(state.rows)
    table = ds.scan().to_arrow()
    anchors = table["_anchor"].to_pylist()
    assert anchors == sorted(state.rows)
    assert table.to_pylist() == [{"_anchor": a, **state.rows[a]} for a in anchors]
    if anchors:
        last = ds[-1]
        assert last["_anchor"] == anchors[-1]
        assert ds.take([anchors[0]]).to_pylist() == table.slice(0, 1).to_pylist()


def same_content_however_built(ds: vd.Dataset, state: State) -> None:
    """Equal state, equal address: where nothing was deleted, one append gives the same content."""
    if state.dead or not state.rows:
        return
    schema = vd.Schema()
    for name in ds.schema:
        {"int": schema.add_scalar_int, "string": schema.add_scalar_string,
         "float": schema.add_scalar_float}[state.fields[name]](name)  # fmt: skip
    once = vd.Dataset.create("once", schema, backend=f"memory://property-once-{next(_NUMBERS)}")
    once.append_many([{"_anchor": a, **row} for a, row in sorted(state.rows.items())])
    left, right = once.scan().to_arrow(), ds.scan().to_arrow()
    assert left.to_pylist() == right.to_pylist()
    for mine, theirs in zip(once.stats(), ds.stats(), strict=True):
        assert (mine.rows, mine.nulls, mine.nbytes, mine.fragments, mine.low, mine.high) == (
            theirs.rows, theirs.nulls, theirs.nbytes, theirs.fragments, theirs.low, theirs.high,
        )  # fmt: skip


class LocalMachine(Machine):
    """The same in a directory."""

    def new_space(self) -> str:
        """Return the URL of an empty space."""
        self.root = tempfile.mkdtemp(prefix="dreamdb-machine-")
        return self.root

    def teardown(self) -> None:
        """Check, and remove the directory."""
        try:
            super().teardown()
        finally:
            shutil.rmtree(self.root)


TestMachine = Machine.TestCase
TestMachine.settings = settings(stateful_step_count=30)
TestLocalMachine = LocalMachine.TestCase
TestLocalMachine.settings = settings(max_examples=10, stateful_step_count=20)
