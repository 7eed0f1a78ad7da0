"""Diff, merge and the steps back: a few changes in many rows.

Sizes are those of the design's figures, whatever the size of the other benchmarks: 10 edits in ten
million rows, two branches of 1,000 edits each on a million.  A quick run takes a tenth of that.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from bench.harness import Benchmark, Case, Start
from bench.places import Places

_EDITS = 10
_MERGED = 1_000
_COMMIT = 100
_SMALL = 100_000


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""
    scale = 1 if where.rows >= _SMALL else 10
    many, fewer = 10_000_000 // scale, 1_000_000 // scale
    large = str(where.scratch("history-large"))
    small = str(where.scratch("history-small"))

    def line(work: str, prepare: Any, run: Any, **settings: Any) -> Benchmark:
        return Benchmark(work, [Case("DreamDB", prepare, run, **settings)], rounds=7)

    return [
        line(
            f"count what {_EDITS} random edits changed in {many:,} rows",
            lambda: _edited(large, many),
            _count,
            start=Start.AGAIN,
        ),
        line(
            f"the same, old and new values as Arrow, {many:,} rows",
            lambda: _edited(large, many),
            _rows,
            start=Start.AGAIN,
        ),
        line(
            f"merge two branches of {_MERGED:,} edits each, {fewer:,} rows",
            lambda: _apart(small, fewer),
            _merge,
            start=Start.AGAIN,
        ),
        line(
            f"revert a commit of {_COMMIT} rows, {fewer:,} rows",
            lambda: _committed(small, fewer),
            _revert,
            start=Start.AGAIN,
        ),
        line(
            f"cherry-pick a commit of {_COMMIT} rows, {fewer:,} rows",
            lambda: _picked(small, fewer),
            _pick,
            start=Start.AGAIN,
        ),
    ]


_NUMBERS = itertools.count()


def _main(path: str, rows: int) -> Any:
    """Return the branch that all others start from, built when it is first asked for."""
    import dreamdb as vd

    try:
        return vd.Dataset.open_ref("main", path)
    except vd.NotFoundError:
        pass
    schema = vd.Schema().add_scalar_int("x").add_scalar_int("y")
    dataset = vd.Dataset.create("main", schema, path)
    values = np.random.default_rng(0).integers(0, 1_000, rows)
    dataset.append({"_anchor": np.arange(rows) * 10, "x": values, "y": values[::-1].copy()})
    return dataset


def _edit(branch: Any, rows: int, count: int) -> None:
    generator = np.random.default_rng(next(_NUMBERS))
    anchors = np.sort(generator.choice(rows, count, replace=False)) * 10
    branch.update(anchors, {"x": generator.integers(1_000, 2_000, count)})


def _branch(main: Any) -> Any:
    return main.branch(f"branch-{next(_NUMBERS)}")


def _edited(path: str, rows: int) -> Any:
    main = _main(path, rows)
    branch = _branch(main)
    _edit(branch, rows, _EDITS)
    return main, branch


def _count(handles: Any) -> object:
    import dreamdb as vd

    diff = vd.diff(*handles)
    return diff.rows_added, diff.rows_removed, diff.changed


def _rows(handles: Any) -> object:
    import dreamdb as vd

    return vd.diff(*handles).to_arrow().num_rows


def _apart(path: str, rows: int) -> Any:
    main = _main(path, rows)
    sides = _branch(main), _branch(main)
    for side in sides:
        _edit(side, rows, _MERGED)
    return sides


def _merge(sides: Any) -> object:
    return sides[0].merge(sides[1], strategy="ours").changed


def _committed(path: str, rows: int) -> Any:
    branch = _branch(_main(path, rows))
    branch.append({"x": np.arange(_COMMIT), "y": np.arange(_COMMIT)})
    manifest = branch.current_manifest()
    branch.update([50], {"y": [-1]})
    return branch, manifest


def _revert(handles: Any) -> object:
    branch, manifest = handles
    return branch.revert(manifest).changed


def _picked(path: str, rows: int) -> Any:
    source, manifest = _committed(path, rows)
    branch = _branch(_main(path, rows))
    branch.update([70], {"y": [-1]})
    assert source.current_manifest() != manifest
    return branch, manifest


def _pick(handles: Any) -> object:
    branch, manifest = handles
    return branch.cherry_pick(manifest).changed
