"""Look after a space: mark what is needed, measure it, prove that a record is in a version."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

import dreamdb as vd
from bench.harness import Benchmark, Case, Start
from bench.places import Places
from dreamdb.dataset import OpenSpace, open_space
from dreamdb.maintain import Marks

_NUMBERS = itertools.count()
_FIELDS = 6
_ROWS_PER_FRAGMENT = 16
_PROOFS = 20


def benchmarks(where: Places) -> list[Benchmark]:
    """Return the benchmarks of this file."""
    rows = where.rows
    spaces: dict[str, str] = {}

    def many_objects() -> Any:
        if "many" not in spaces:
            spaces["many"] = _many_objects(rows)
        return _cold(spaces["many"])

    def versions() -> Any:
        if "versions" not in spaces:
            spaces["versions"] = _versions(rows)
        return vd.connect(spaces["versions"])

    def scalars() -> Any:
        if "scalars" not in spaces:
            spaces["scalars"] = _scalars(rows)
        dataset = vd.Dataset.open_ref("bench", spaces["scalars"])
        anchors = np.random.default_rng(0).choice(_anchors(rows), _PROOFS).tolist()
        manifest = dataset.current_manifest()
        made = [dataset.maintain.prove(anchor, ["number", "label"]) for anchor in anchors]
        return dataset, anchors, made, manifest

    objects = _FIELDS * rows // _ROWS_PER_FRAGMENT
    return [
        Benchmark(
            f"mark what refs need, fragments of {_ROWS_PER_FRAGMENT} rows, nothing cached",
            [Case("DreamDB", many_objects, _mark, start=Start.AGAIN)],
            amount=objects,
            unit="objects",
        ),
        Benchmark(
            "collect garbage (look only), 200 commits, 20 branches",
            [Case("DreamDB", versions, _look)],
        ),
        Benchmark("du of 20 branches", [Case("DreamDB", versions, _measure)]),
        Benchmark(
            "prove one record, two fields",
            [Case("DreamDB", scalars, _prove)],
            amount=_PROOFS,
            unit="records",
        ),
        Benchmark(
            "check the proof of one record, two fields",
            [Case("DreamDB", scalars, _check)],
            amount=_PROOFS,
            unit="records",
        ),
    ]


def _url() -> str:
    return f"memory://bench-upkeep-{next(_NUMBERS)}"


def _many_objects(rows: int) -> str:
    """Return a space of many small fragments; in memory, since marking reads none of them."""
    schema = vd.Schema()
    for field in range(_FIELDS):
        schema.add_binary(f"f{field}", rows_per_fragment=_ROWS_PER_FRAGMENT)
    url = _url()
    dataset = vd.Dataset.create("bench", schema, backend=url)
    columns = {
        f"f{field}": pa.array([b"%d %d" % (field, row) for row in range(rows)], pa.binary())
        for field in range(_FIELDS)
    }
    dataset.append(pa.table({"_anchor": _anchors(rows), **columns}))
    return url


def _cold(url: str) -> Any:
    backend = open_space(url).backend
    return backend, OpenSpace(backend, backend, {}, backend.read_space() or b"")


def _mark(handle: Any) -> object:
    backend, space = handle
    marks = Marks(backend, space.source)
    marks.mark([value.address for _, value in backend.refs.list()])
    return len(marks.keys)


def _versions(rows: int) -> str:
    url = _url()
    schema = vd.Schema().add_scalar_int("label").add_scalar_float("number")
    dataset = vd.Dataset.create("bench", schema, backend=url)
    dataset.append(_table(rows))
    anchors = _anchors(rows)
    for number in range(180):
        dataset.update([int(anchors[number * 7])], {"label": [number]})
    for number in range(20):
        branch = dataset.branch(f"branch-{number}")
        branch.update([int(anchors[number])], {"label": [-number]})
    return url


def _look(space: Any) -> object:
    return len(space.gc().garbage)


def _measure(space: Any) -> object:
    return len(space.du().refs)


def _scalars(rows: int) -> str:
    url = _url()
    schema = vd.Schema().add_scalar_int("label").add_scalar_float("number")
    dataset = vd.Dataset.create("bench", schema, backend=url)
    dataset.append(_table(rows))
    return url


def _table(rows: int) -> Iterator[pa.Table]:
    generator = np.random.default_rng(1)
    anchors = _anchors(rows)
    for start in range(0, rows, 1_000_000):
        part = anchors[start : start + 1_000_000]
        yield pa.table(
            {
                "_anchor": part,
                "label": generator.integers(0, 1_000, len(part)),
                "number": generator.normal(size=len(part)),
            }
        )


def _anchors(rows: int) -> Any:
    return np.arange(rows, dtype=np.uint64) * np.uint64(1_000)


def _prove(handle: Any) -> object:
    dataset, anchors, _, _ = handle
    proofs = [dataset.maintain.prove(anchor, ["number", "label"]) for anchor in anchors]
    return len(proofs)


def _check(handle: Any) -> object:
    _, _, made, manifest = handle
    return sum(vd.verify_proof(one, manifest).present for one in made)
