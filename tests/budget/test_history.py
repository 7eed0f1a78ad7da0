"""What diff, merge and the steps back may cost: objects read, objects written."""

from __future__ import annotations

import numpy as np

import dreamdb as vd
from dreamdb.testing import CountingBackend
from tests.budget.counted import counted

ROWS = 2_000_000


def _large(backend: CountingBackend) -> vd.Dataset:
    """Return a dataset of two narrow fields and more rows than one node covers."""
    schema = vd.Schema().add_scalar_int("x").add_scalar_bool("b")
    ds = vd.Dataset.create("main", schema, backend=backend)
    ds.append(
        {
            "_anchor": np.arange(ROWS) * 10,
            "x": np.arange(ROWS) % 1_000,
            "b": np.arange(ROWS) % 2 == 0,
        }
    )
    return ds


def test_diff_reads_the_paths_to_what_differs() -> None:
    backend = counted()
    ds = _large(backend)
    before = ds.current_manifest()
    generator = np.random.default_rng(0)
    anchors = np.sort(generator.choice(ROWS, 10, replace=False)) * 10
    cells = ds.branch("cells")
    cells.update(anchors, {"x": np.arange(10) + 5_000})
    mixed = ds.branch("mixed")
    with mixed.transaction() as tx:
        tx.update(anchors[:4], {"x": [-1] * 4})
        tx.delete(anchors[4:7])
        tx.append_many([{"_anchor": int(a) + 1, "x": 1} for a in anchors[7:]])
    for name, counts, most in (
        ("cells", (0, 0, {"x": 10}), 40),
        ("mixed", (3, 3, {"x": 4}), 60),
    ):
        fresh = CountingBackend(backend.inner)
        handle = vd.Dataset.open_ref(name, fresh)
        diff = handle.diff(before)
        assert (diff.rows_added, diff.rows_removed, diff.changed) == counts
        assert len(fresh.tally.opened) <= most
        assert fresh.tally.nbytes["objects.open"] <= 8 << 20
    fresh = CountingBackend(backend.inner)
    assert vd.Dataset.open_ref("cells", fresh).diff("cells").is_empty
    assert len(fresh.tally.opened) <= 4


def test_merge_writes_in_proportion_to_the_changes() -> None:
    backend = counted()
    ds = _large(backend)
    generator = np.random.default_rng(0)
    for edits, most in ((3, 3 + 6), (30, 30 + 6)):
        ours, theirs = ds.branch(f"ours-{edits}"), ds.branch(f"theirs-{edits}")
        anchors = np.sort(generator.choice(ROWS, 2 * edits, replace=False)) * 10
        ours.update(anchors[::2], {"x": np.arange(edits) - edits})
        theirs.update(anchors[1::2], {"x": np.arange(edits) - edits})
        with backend.measured() as tally:
            ours.merge(theirs)
        assert tally.calls["objects.put.new"] <= most
        assert tally.calls["refs.swap"] == 1
        assert tally.calls["refs.read"] <= 3


def test_merge_of_layers_writes_no_values() -> None:
    backend = counted()
    ds = _large(backend)
    anchors = np.arange(0, ROWS, 2) * 10
    ours, theirs = ds.branch("ours"), ds.branch("theirs")
    ours.add_scalar_layer("p", "x", "int", (anchors, anchors % 97))
    theirs.add_scalar_layer("q", "x", "int", (anchors, anchors % 89))
    with backend.measured() as tally:
        ours.merge(theirs)
    # A content and a manifest: the trees are both there already.
    assert tally.calls["objects.put.new"] == 2
    assert tally.nbytes["objects.put"] <= 4_096


def test_the_side_with_more_changes_is_kept_as_it_is() -> None:
    backend = counted()
    ds = _large(backend)
    ours, theirs = ds.branch("ours"), ds.branch("theirs")
    ours.update([50], {"x": [-5]})
    more = np.arange(300_000)
    theirs.append({"_anchor": ROWS * 10 + more, "x": more, "b": more % 3 == 0})
    with backend.measured() as tally:
        ours.merge(theirs)
    assert tally.calls["objects.put.new"] <= 6
    assert ours.count() == ROWS + len(more)


def test_steps_back_write_little() -> None:
    backend = counted()
    ds = _large(backend)
    ds.append({"x": np.arange(100)})
    appended = ds.current_manifest()
    ds.update([70], {"x": [-7]})
    with backend.measured() as tally:
        ds.revert(appended)
    assert tally.calls["objects.put.new"] <= 12
    assert tally.nbytes["objects.put"] <= 256 << 10
    side = ds.branch("side")
    with backend.measured() as tally:
        side.cherry_pick(appended)
    assert tally.calls["objects.put.new"] <= 12
    for move in (side.undo, lambda: side.reset("main")):
        with backend.measured() as tally:
            move()
        assert tally.calls["objects.put"] == 0
        assert tally.calls["refs.append_log"] == tally.calls["refs.swap"] == 1
