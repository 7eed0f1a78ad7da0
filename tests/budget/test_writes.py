"""What writing may cost: objects, bytes, port calls, fsyncs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.testing import CountingBackend
from tests.budget.counted import ROW_NBYTES, counted, image_rows, images, narrow, narrow_rows


def _files(root: Path) -> dict[str, int]:
    return {str(p): p.stat().st_size for p in root.rglob("*") if p.is_file()}


class Syncs:
    """Counts fsyncs, and files written synchronously instead, and passes them on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real_open = os.open

        def opened(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            # An O_DSYNC write reaches the disk like a write and a sync: it is counted as one.
            self.count += bool(flags & getattr(os, "O_DSYNC", 0))
            return real_open(path, flags, *rest, **named)

        monkeypatch.setattr(os, "open", opened)
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._counting(getattr(os, name)))

    def _counting(self, real: Callable[[Any], None]) -> Callable[[Any], None]:
        def sync(file: Any) -> None:
            self.count += 1
            real(file)

        return sync


@pytest.mark.parametrize("rows", [0, 100, 300_000])
def test_snapshot_and_branch_cost_the_same_at_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    root = tmp_path / "space"
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), root)
    if rows:
        ds.append({"x": np.arange(rows)})
    vd.Dataset.open_ref("main", root).snapshot("warm/up")
    ds.branch("warm/branch")
    ds = vd.Dataset.open_ref("main", root)
    syncs = Syncs(monkeypatch)
    before = _files(root)
    ds.snapshot("snap")
    # The ref's file, which carries the tag, and its folder.
    assert syncs.count == 2
    made = {p: n for p, n in _files(root).items() if before.get(p) != n}
    # The ref with its tag, and the ref's lock.
    assert len(made) <= 2
    assert sum(made.values()) <= 600
    syncs.count = 0
    before = _files(root)
    ds.branch("side")
    assert syncs.count == 2
    made = {p: n for p, n in _files(root).items() if before.get(p) != n}
    assert len(made) <= 2
    assert sum(made.values()) <= 64


@pytest.mark.parametrize("rows", [0, 100, 300_000])
def test_snapshot_and_branch_port_calls(rows: int) -> None:
    backend = counted()
    ds = narrow(backend, rows)
    with backend.measured() as tally:
        ds.snapshot("snap")
    assert tally.calls["refs.read"] == tally.calls["refs.swap"] == 1
    assert tally.calls["objects.put"] == 0
    assert not tally.opened
    fresh = vd.connect(backend)
    with backend.measured() as tally:
        assert fresh.open("snap").count() == rows
    assert tally.calls["refs.read"] == 1
    # The manifest, the content and the root of the timeline: the tag came with the ref.
    assert len(tally.opened) <= 3
    with backend.measured() as tally:
        ds.branch("side")
    assert tally.calls["refs.swap"] == 1
    assert tally.calls["objects.put"] == 0
    assert not tally.opened


def _mean_commit(
    backend: CountingBackend, ds: vd.Dataset, make: Callable[[int, int], Any], commits: int
) -> tuple[float, float, int]:
    """Return mean bytes, mean objects and most objects of commits of 100 rows."""
    nbytes, objects = [], []
    for number in range(commits):
        rows = make(100, 1_000 + number)
        with backend.measured() as tally:
            ds.append(rows)
        nbytes.append(tally.nbytes["objects.put"])
        objects.append(tally.calls["objects.put.new"])
    return float(np.mean(nbytes)), float(np.mean(objects)), max(objects)


def test_appends_of_wide_rows_write_at_most_three_times_the_data() -> None:
    raw = 100 * ROW_NBYTES
    found = []
    for rows in (900, 6_000):
        backend = counted()
        ds = images(backend, rows)
        nbytes, objects, _ = _mean_commit(backend, ds, image_rows, 30)
        assert nbytes <= 3 * raw
        assert objects <= 8 + 2 * 2
        found.append(nbytes)
    assert found[1] <= 1.5 * found[0]


def test_appends_of_narrow_rows_are_small_at_commit_10_and_at_commit_2000() -> None:
    found = []
    for rows in (1_000, 200_000):
        backend = counted()
        ds = narrow(backend, rows)
        nbytes, objects, _ = _mean_commit(backend, ds, narrow_rows, 30)
        fields = 5
        assert nbytes <= fields * (64 << 10)
        assert objects <= 8 + 2 * fields
        found.append((nbytes, objects))
    assert vd.connect(backend).verify().ok
    assert found[1][1] <= found[0][1] + 8


def test_two_hundred_real_commits_stay_within_the_budget() -> None:
    backend = counted()
    ds = narrow(backend, 0)
    totals = []
    for number in range(200):
        rows = narrow_rows(100, number)
        with backend.measured() as tally:
            ds.append(rows)
        totals.append((tally.nbytes["objects.put"], tally.calls["objects.put.new"]))
    for part in (totals[:20], totals[-100:]):
        nbytes, objects = np.mean(part, axis=0)
        assert nbytes <= 5 * (64 << 10)
        assert objects <= 8 + 2 * 5


def test_a_label_edit_writes_one_fragment_and_its_path() -> None:
    backend = counted()
    schema = vd.Schema().add_image("image").add_scalar_int("label").add_scalar_int("other")
    ds = vd.Dataset.create("main", schema, backend=backend)
    generator = np.random.default_rng(0)
    ds.append(
        {
            "_anchor": np.arange(300_000),
            "label": generator.integers(0, 1_000, 300_000),
            "other": generator.integers(0, 1_000, 300_000),
        }
    )
    ds.update(np.arange(500), {"image": [generator.bytes(10_000) for _ in range(500)]})
    before = ds._view
    with backend.measured() as tally:
        ds.update([150_000], {"label": [5_000]})
    # One fragment, the path above it, the content and the manifest.
    assert tally.calls["objects.put.new"] <= 1 + 2 + 2
    old = set(before.track("label").addresses)
    new = set(ds._view.track("label").addresses)
    assert len(new - old) == len(old - new) == 1
    for name in ("image", "other"):
        assert ds._view.content.tracks[name] == before.content.tracks[name]
    assert tally.calls["refs.swap"] == 1


def test_a_prediction_layer_takes_a_byte_per_row() -> None:
    backend = counted()
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), backend=backend)
    ds.append({"_anchor": np.arange(100_000) * 1_000, "x": np.arange(100_000)})
    classes = np.random.default_rng(0).integers(0, 100, 100_000)
    anchors = np.arange(100_000) * 1_000
    for number, kind in enumerate(("int", "categorical")):
        values = classes if kind == "int" else [f"n{c:08}" for c in classes.tolist()]
        branches = [ds.branch(f"{kind}/{n}") for n in range(10)]
        with backend.measured() as tally:
            branches[0].add_scalar_layer("p", "x", kind, (anchors, values))
        assert tally.nbytes["objects.put"] <= 100_000, number
        with backend.measured() as tally:
            for branch in branches[1:]:
                branch.add_scalar_layer("p", "x", kind, (anchors, values))
        # Nine manifests; the content is there already.
        assert tally.calls["objects.put.new"] == 9
        assert tally.nbytes["objects.put"] <= 9 * 1_024
        assert tally.calls["refs.swap"] == 9
        assert len({b.content_id for b in branches}) == 1


def test_equal_bytes_are_stored_once() -> None:
    backend = counted()
    ds = images(backend, 0)
    rows = image_rows(300, 1)
    rows["_anchor"] = np.arange(300)
    ds.append(rows)
    with backend.measured() as tally:
        other = vd.Dataset.create("other", ds.schema, backend=backend, data=rows)
    assert other.content_id == ds.content_id
    assert tally.nbytes["objects.put"] <= 2_048


def test_a_delete_rewrites_no_data() -> None:
    backend = counted()
    ds = images(backend, 500)
    with backend.measured() as tally:
        ds.delete(ds.scan([]).to_arrow()["_anchor"][::3])
    assert tally.nbytes["objects.put"] <= 16_384
    assert tally.calls["objects.put.new"] <= 5


def test_a_rename_and_a_drop_write_no_data() -> None:
    backend = counted()
    ds = images(backend, 300)
    for verb in (lambda: ds.rename_field("image", "picture"), lambda: ds.drop_field("picture")):
        with backend.measured() as tally:
            verb()
        assert tally.calls["objects.put.new"] <= 2
        assert tally.nbytes["objects.put"] <= 2_048


def test_a_float_layer_of_20000_rows_is_few_files(tmp_path: Path) -> None:
    root = tmp_path / "space"
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), root)
    ds.append({"_anchor": np.arange(20_000), "x": np.arange(20_000)})
    before = len(_files(root))
    ds.add_scalar_layer("score", "x", "float", (np.arange(20_000), np.random.rand(20_000)))
    assert len(_files(root)) - before <= 8
