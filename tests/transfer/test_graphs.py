"""Histories with merges: what is missing of them, and skip addresses above a cut."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from dreamdb.history import load_manifest, skip_address
from dreamdb.objects import Kind, to_text
from dreamdb.store import Backend
from dreamdb.types import Address
from dreamdb.write import CommitNote, Stage
from dreamdb.write.commit import make_manifest
from tests.transfer.spaces import addresses, memory, needed

# Of each new manifest: how far back its parents are among those made before; the first one first.
_GRAPHS = st.lists(
    st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True), min_size=1, max_size=40
)


def _add(backend: Backend, parents: list[Address], name: str | None = None) -> Address:
    """Publish a manifest with the first parent's content."""
    space = vd.connect(backend)._space
    content = load_manifest(space.cache, parents[0]).content
    stage = Stage(space.stored, space.source)
    manifest = make_manifest(
        space.source, content, parents, {"name": "merge"}, CommitNote("ada@host")
    )
    address = stage.document(Kind.MANIFEST, manifest.encode())
    stage.flush()
    if name is not None:
        backend.refs.swap(name, backend.refs.read(name), address)
    return address


def _graph(backend: Backend, shape: list[list[int]]) -> list[Address]:
    ds = vd.Dataset.create("m0", data={"x": [1, 2, 3]}, backend=backend)
    made = [backend.refs.read("m0").address]  # type: ignore[union-attr]
    for number, back in enumerate(shape, start=1):
        parents = list(dict.fromkeys(made[max(0, len(made) - step)] for step in back))
        made.append(_add(backend, parents, f"m{number}"))
    assert ds.count() == 3
    return made


@given(_GRAPHS, st.data())
def test_what_was_made_above_a_cut_is_whole_in_the_whole_space(
    shape: list[list[int]], data: st.DataObject
) -> None:
    ours, theirs = memory(), memory()
    made = _graph(ours, shape)
    number = data.draw(st.integers(0, len(made) - 1))
    shallow = vd.clone(ours, theirs, f"m{number}", shallow=True)
    assert shallow.verify().ok
    here = vd.connect(ours)._space.cache
    line = [made[number]]
    for _ in range(data.draw(st.integers(1, 20))):
        line.append(_add(theirs, line[-1:], "work"))
    shallow.open("work").push(ours)
    assert vd.connect(ours).verify().ok
    assert shallow.verify().ok
    for parent, address in itertools.pairwise(line):
        manifest = load_manifest(here, address)
        # Only the whole history can tell where a step back across the cut leads to.
        assert manifest.skip in (None, skip_address(here, parent, manifest.generation))
    assert [r.manifest for r in shallow.open("work").log()] == [to_text(a) for a in line[::-1]]


@given(_GRAPHS, st.data())
def test_of_any_history_only_the_rest_is_sent(shape: list[list[int]], data: st.DataObject) -> None:
    ours, theirs = memory(), memory()
    made = _graph(ours, shape)
    some = data.draw(st.lists(st.integers(0, len(made) - 1), max_size=3))
    vd.connect(theirs, create=True)
    vd.clone(ours, theirs, [f"m{n}" for n in some])
    before = addresses(theirs)
    last = f"m{len(made) - 1}"
    report = vd.Dataset.open_ref(last, ours).push(theirs)
    wanted = needed(ours, last)
    assert addresses(theirs) == before | wanted
    assert report.objects == len(wanted - before)
    assert vd.connect(theirs).verify().ok
    log = [r.manifest for r in vd.Dataset.open_ref(last, theirs).log()]
    assert log == [r.manifest for r in vd.Dataset.open_ref(last, ours).log()]
