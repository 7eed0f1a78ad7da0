"""What refs and fields take, against sets of objects found by the simplest walk."""

from __future__ import annotations

import pytest

import dreamdb as vd
from dreamdb.maintain import DiskUsage
from dreamdb.store import Backend
from tests.maintain.spaces import fresh, make, named
from tests.maintain.test_collect import reached


def _sum(backend: Backend, addresses: set[bytes]) -> int:
    sizes = {bytes(a): n for a, n in backend.objects.list()}
    return sum(sizes[a] for a in addresses)


def _space() -> Backend:
    backend = fresh()
    ds = make(backend, rows=30)
    ds.snapshot("v1")
    side = ds.branch("side")
    side.append_many([{"_anchor": 5_000, "x": 7, "t": "only here " * 50}])
    ds.delete([20])
    ds.add_scalar_layer("p", "x", "int", [(0, 1), (10, 2)])
    return backend


def test_refs_and_fields_are_what_sets_say() -> None:
    backend = _space()
    usage = vd.connect(backend).du()
    needs = {name: reached(backend, address) for name, address in named(backend).items()}
    everything = set().union(*needs.values())
    assert usage.needed_objects == len(everything)
    assert usage.needed_nbytes == _sum(backend, everything)
    assert usage.nbytes == sum(n for _, n in backend.objects.list())
    assert [(r.name, r.kind) for r in usage.refs] == [
        ("main", "branch"),
        ("side", "branch"),
        ("v1", "snapshot"),
    ]
    for ref in usage.refs:
        others = set().union(*(n for name, n in needs.items() if name != ref.name))
        assert ref.objects == len(needs[ref.name])
        assert ref.nbytes == _sum(backend, needs[ref.name])
        assert ref.unique_nbytes == _sum(backend, needs[ref.name] - others)
        assert ref.shared_nbytes + ref.unique_nbytes == ref.nbytes
        content = vd.connect(backend).open(ref.name)._view.content
        trees = {"_anchor": content.timeline, **content.tracks}
        if content.tombstones is not None:
            trees["_tombstones"] = content.tombstones
        assert {f.name for f in ref.fields} == set(trees)
        for field in ref.fields:
            root = trees[field.name]
            tree = set() if root is None else reached(backend, root)
            assert field.objects == len(tree)
            assert field.nbytes == _sum(backend, tree)
            assert field.unique_nbytes == _sum(backend, tree - others)
            assert field.shared_nbytes == field.nbytes - field.unique_nbytes


def test_deleting_a_ref_frees_what_it_had_alone() -> None:
    backend = _space()
    (side,) = vd.connect(backend).du("side").refs
    assert side.unique_nbytes > 500 / 4
    vd.connect(backend).delete_ref("side")
    after = vd.connect(backend).du()
    assert after.nbytes - after.needed_nbytes == side.unique_nbytes


def test_some_refs_only_and_none_at_all() -> None:
    backend = _space()
    everything = vd.connect(backend).du()
    some = vd.connect(backend).du(["v1", "side"])
    assert some.refs == tuple(r for r in everything.refs if r.name != "main")
    with pytest.raises(vd.RefNotFoundError, match="'sid'"):
        vd.connect(backend).du(["sid"])
    assert vd.connect(fresh(), create=True).du() == DiskUsage(0, 0, 0, 0, ())


def test_an_empty_dataset_has_fields_of_nothing() -> None:
    backend = fresh()
    vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), backend=backend)
    (ref,) = vd.connect(backend).du().refs
    assert [(f.name, f.nbytes) for f in ref.fields] == [("_anchor", 0), ("x", 0)]
