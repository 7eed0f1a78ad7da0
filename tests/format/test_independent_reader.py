"""Spaces written by the library, read by the independent reader, by a scan, and remembered."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import dreamdb as vd
from tests.format.independent_reader import IndependentReader, address_from, closed, cut, mix
from tests.format.spaces import (
    TYPES,
    Rows,
    anchors_between,
    append,
    comparable,
    default_schema,
    plain,
    rows_of,
    schema_at,
    table_of,
    value_of,
)


def check_ref(root: Path, ref: str, expected: Rows) -> None:
    """Compare a ref as the independent reader, the library and the test's model see it."""
    reader = IndependentReader(root)
    anchors, columns = reader.rows(reader.manifest_of(ref))
    table = vd.Dataset.open_ref(ref, root).scan().to_arrow()
    assert anchors == sorted(expected) == table["_anchor"].to_pylist()
    assert list(columns) == table.column_names[1:]
    for name, values in columns.items():
        assert [comparable(v) for v in values] == table_of(expected, name), name
        assert [comparable(v) for v in plain(table[name])] == table_of(expected, name), name


def edit(ds: vd.Dataset, rows: Rows, dice: random.Random, names: tuple[str, ...]) -> None:
    """Insert, update and delete at random, in the dataset and in the model."""
    inside = [anchor + 1 for anchor in sorted(rows)[:-1] if anchor + 1 not in rows]
    added = rows_of(dice.sample(inside, min(len(inside), 7)), names, dice.randrange(99))
    append(ds, added)
    rows.update(added)
    for name in names[:: max(1, len(names) // 4)]:
        chosen = dice.sample(sorted(rows), 3)
        values = [value_of(name, dice) for _ in chosen]
        ds.update(chosen, {name: values})
        for anchor, value in zip(chosen, values, strict=True):
            rows[anchor][name] = value
    gone = dice.sample(sorted(rows), 4)
    ds.delete(gone)
    for anchor in gone:
        del rows[anchor]


@pytest.mark.parametrize("rungs", [(0, 0), (1, 0), (2, 1), (4, 2)])
def test_every_kind_with_edits_at_small_rungs(tmp_path: Path, rungs: tuple[int, int]) -> None:
    dice = random.Random(rungs[0])
    names = tuple(TYPES)
    ds = vd.Dataset.create("all", schema_at(rungs), backend=tmp_path)
    rows = rows_of(anchors_between(1_000, 260 if rungs[0] else 90, 1), names, 2)
    append(ds, rows)
    for _ in range(2):
        edit(ds, rows, dice, names)
    more = rows_of(anchors_between(max(rows), 90, 3), names, 4)
    append(ds, more)
    rows.update(more)
    check_ref(tmp_path, "all", rows)


def test_every_kind_at_its_own_rung(tmp_path: Path) -> None:
    names = tuple(TYPES)
    ds = vd.Dataset.create("all", default_schema(*names), backend=tmp_path)
    rows = rows_of(anchors_between(5, 700, 1), names, 2)
    append(ds, rows)
    check_ref(tmp_path, "all", rows)


def test_branches_layers_and_snapshots(tmp_path: Path) -> None:
    ds = vd.Dataset.create("main", schema_at((2, 0), "label", "vector"), backend=tmp_path)
    rows = rows_of(anchors_between(9, 400, 5), ("label", "vector"), 6)
    append(ds, rows)
    kept = {anchor: dict(row) for anchor, row in rows.items()}
    ds.snapshot("before", metadata={"why": "test"})
    branch = ds.branch("sweep/A")
    chosen = sorted(rows)[10:200:3]
    branch.add_scalar_layer("guess", "label", "int", [(a, a % 10) for a in chosen])
    for anchor in rows:
        kept[anchor] = dict(rows[anchor])
        rows[anchor] = {**rows[anchor], "guess": anchor % 10 if anchor in chosen else None}
    check_ref(tmp_path, "sweep/A", rows)
    check_ref(tmp_path, "before", kept)
    append(branch, added := rows_of(anchors_between(max(rows), 50, 7), ("label",), 8))
    rows.update({a: {"vector": None, "guess": None, **row} for a, row in added.items()})
    check_ref(tmp_path, "sweep/A", rows)
    check_ref(tmp_path, "main", kept)
    reader = IndependentReader(tmp_path)
    assert set(reader.refs()) == {"main", "before", "sweep/A"}
    assert reader.kind(reader.refs()["before"]) == "tag"


def test_trees_of_several_levels(tmp_path: Path) -> None:
    names = ("count", "name")
    ds = vd.Dataset.create("deep", schema_at((2, 1), *names), backend=tmp_path)
    rows = rows_of(anchors_between(50, 24_000, 11), names, 12)
    append(ds, rows)
    edit(ds, rows, random.Random(13), names)
    check_ref(tmp_path, "deep", rows)
    reader = IndependentReader(tmp_path)
    manifest = reader.document(reader.manifest_of("deep"), "manifest")
    content = reader.document(manifest["content"], "content")
    assert reader.node(address_from(content["tracks"]["count"]))[0] > 1


def test_long_history_has_the_skip_addresses_that_the_format_asks_for(tmp_path: Path) -> None:
    ds = vd.Dataset.create("long", schema_at((1, 0), "flag"), backend=tmp_path)
    for anchor in range(1, 40):
        append(ds, {anchor: {"flag": True}})
    reader = IndependentReader(tmp_path)
    line = list(reader.history(reader.manifest_of("long")))
    assert [found["generation"] for _, found in line] == list(range(39, -1, -1))


def test_nulls_and_deletes_of_everything(tmp_path: Path) -> None:
    ds = vd.Dataset.create("nulls", schema_at((1, 0), *TYPES), backend=tmp_path)
    rows: Rows = {anchor: dict.fromkeys(TYPES) for anchor in range(3, 90)}
    append(ds, rows)
    check_ref(tmp_path, "nulls", rows)
    ds.delete(sorted(rows))
    check_ref(tmp_path, "nulls", {})


def test_an_empty_dataset(tmp_path: Path) -> None:
    vd.Dataset.create("empty", schema_at((1, 0), "flag"), backend=tmp_path)
    check_ref(tmp_path, "empty", {})


def test_the_reader_notices_what_it_must(tmp_path: Path) -> None:
    """An oracle that accepts anything proves nothing."""
    ds = vd.Dataset.create("main", schema_at((1, 0), "count"), backend=tmp_path)
    append(ds, rows := rows_of(list(range(100, 300)), ("count",), 1))
    wrong: Any = {anchor: dict(row) for anchor, row in rows.items()}
    wrong[150]["count"] = 8
    with pytest.raises(AssertionError):
        check_ref(tmp_path, "main", wrong)
    assert mix(1, 1) != mix(1, 2)
    keys = list(range(1, 2_000))
    assert cut(keys, 2, 0) != cut([key + 1 for key in keys], 2, 0)
    assert closed(keys, (4, 16, 64, 16, 160), 1)[0] >= 4


def test_a_history_that_was_cut_and_purged(tmp_path: Path) -> None:
    names = tuple(TYPES)
    ds = vd.Dataset.create("all", schema_at((2, 1)), backend=tmp_path)
    rows = rows_of(anchors_between(1_000, 120, 1), names, 2)
    append(ds, rows)
    ds.snapshot("old")
    before = {anchor: dict(row) for anchor, row in rows.items()}
    for number in range(6):
        edit(ds, rows, random.Random(number), names)
    gone = sorted(set(before) & set(rows))[5:40:7]
    space = vd.connect(tmp_path)
    assert space.expire(2, dry_run=False).expired
    ds.maintain.purge(gone, reason="asked", dry_run=False)
    space.gc(dry_run=False, trash=False)
    for anchor in gone:
        del rows[anchor], before[anchor]
    check_ref(tmp_path, "all", rows)
    check_ref(tmp_path, "old", before)
    reader = IndependentReader(tmp_path)
    line = [text for text, _ in reader.history(reader.manifest_of("all"))]
    assert line == [record.manifest for record in ds.history()]
    assert line[-1] == reader.manifest_of("old")


@pytest.mark.parametrize("commits", [1, 6, 7, 11, 16])
def test_clones_of_one_version_and_of_some_fields(tmp_path: Path, commits: int) -> None:
    names = tuple(TYPES)
    whole = vd.Dataset.create("all", default_schema(*names), backend=tmp_path / "whole")
    rows: Rows = {}
    for at in range(commits):
        more = rows_of(anchors_between(1_000 * at + 5, 20, at), names, at)
        append(whole, more)
        rows.update(more)
    shallow = tmp_path / "shallow"
    cloned = vd.clone(tmp_path / "whole", shallow, "all", shallow=True).open("all")
    more = rows_of(anchors_between(1_000_000, 20, 1), names, 7)
    for anchor in sorted(more):
        append(cloned, {anchor: more[anchor]})
    rows.update(more)
    check_ref(shallow, "all", rows)
    reader = IndependentReader(shallow)
    line = list(reader.history(reader.manifest_of("all")))
    assert len(line) == 21
    assert reader.cuts == {line[-1][0]: []}
    partial = tmp_path / "partial"
    vd.clone(shallow, partial, "all", fields=list(names[:2]))
    reader = IndependentReader(partial)
    anchors, columns = reader.rows(reader.manifest_of("all"))
    assert anchors == sorted(rows)
    assert list(columns) == list(names[:2])
    for name, values in columns.items():
        assert [comparable(v) for v in values] == table_of(rows, name), name
    # What was made in the clone is what a whole space holds once it has it.
    cloned.push(tmp_path / "whole")
    reader = IndependentReader(tmp_path / "whole")
    line = list(reader.history(reader.manifest_of("all"), above=commits))
    assert len(line) == 21 + commits
