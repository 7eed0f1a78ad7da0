"""Several writers on one branch: nothing acknowledged is lost, nothing arrives twice."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import dreamdb as vd
from tests.concurrency.spaces import in_processes, in_threads, make, values


@pytest.fixture(params=["memory", "local"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "space")
    return f"memory://{request.node.name}"


@pytest.mark.parametrize("shared", [True, False], ids=["one handle", "a handle each"])
def test_threads_append(url: str, shared: bool) -> None:
    ds = make(url)

    def work(number: int) -> int:
        handle = ds if shared else vd.Dataset.open_ref("main", url)
        return sum(handle.append_many([{"x": number * 100 + k}]) for k in range(12))

    assert in_threads(work, 6) == [12] * 6
    found = values(url)
    assert sorted(found) == sorted(n * 100 + k for n in range(6) for k in range(12))
    # Each writer's own records keep their order.
    for number in range(6):
        mine = [v for v in found if v // 100 == number]
        assert mine == sorted(mine)
    anchors = vd.Dataset.open_ref("main", url).scan([]).to_arrow()["_anchor"].to_pylist()
    assert anchors == sorted(set(anchors))
    assert len(vd.Dataset.open_ref("main", url).log()) == 1 + 72
    assert vd.connect(url).verify().ok


def _append(url: str, number: int, count: int) -> list[int]:
    ds = vd.Dataset.open_ref("main", url)
    done = []
    for k in range(count):
        if ds.append_many([{"x": number * 1_000 + k}], message=f"{number}:{k}") == 1:
            done.append(number * 1_000 + k)
    return done


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_processes_append(tmp_path: Path, method: str) -> None:
    url = str(tmp_path / "space")
    make(url)
    done = in_processes(_append, [(url, n, 15) for n in range(4)], method)
    assert Counter(values(url)) == Counter(v for each in done for v in each)
    assert len(values(url)) == 60
    assert vd.connect(url).verify().ok


def test_a_fork_after_opening_reads_and_writes(tmp_path: Path) -> None:
    url = str(tmp_path / "space")
    ds = make(url, 1_000)
    list(ds.iter_arrow_batches())
    ds.append_many([{"x": 5}])
    done = in_processes(_append_through, [(ds, n) for n in range(3)], "fork")
    # Each process sees its own commit and those before it.
    assert sorted(done)[-1] == 1_004
    assert min(done) >= 1_002
    assert sorted(values(url))[-3:] == [7_000, 7_001, 7_002]


def _append_through(ds: vd.Dataset, number: int) -> int:
    assert len(list(ds.iter_arrow_batches(500))) == 3
    ds.append_many([{"x": 7_000 + number}])
    return ds.count()


def _race_anchor(url: str, number: int) -> str:
    ds = vd.Dataset.open_ref("main", url)
    try:
        ds.append_many([{"_anchor": 77, "x": number}])
    except (vd.ConflictError, vd.AlreadyExistsError) as error:
        assert ds.refresh().take([77])["x"].to_pylist() != [number]
        return type(error).__name__
    return "won"


def test_one_explicit_anchor_is_stored_once(tmp_path: Path) -> None:
    url = str(tmp_path / "space")
    make(url, 10)
    found = in_processes(_race_anchor, [(url, n) for n in range(5)], "fork")
    assert found.count("won") == 1
    winner = found.index("won")
    assert vd.Dataset.open_ref("main", url).take([77])["x"].to_pylist() == [winner]


def test_threads_race_for_anchors(url: str) -> None:
    make(url, 1)

    def work(number: int) -> list[int]:
        ds = vd.Dataset.open_ref("main", url)
        won = []
        for anchor in range(100, 115):
            try:
                ds.append_many([{"_anchor": anchor, "x": number}])
                won.append(anchor)
            except (vd.ConflictError, vd.AlreadyExistsError):
                ds.refresh()
        return won

    found = in_threads(work, 4)
    assert sorted(a for won in found for a in won) == list(range(100, 115))
    table = vd.Dataset.open_ref("main", url).take(range(100, 115))
    for anchor, number in zip(range(100, 115), table["x"].to_pylist(), strict=True):
        assert anchor in found[number]


@pytest.mark.parametrize("verb", ["update", "upsert", "layer"])
def test_of_writers_of_one_cell_exactly_one_wins(url: str, verb: str) -> None:
    make(url, 10).add_scalar_layer("p", "x", "int", [(3, 0)])
    handles = [vd.Dataset.open_ref("main", url) for _ in range(5)]

    def work(number: int) -> int:
        ds = handles[number]
        if verb == "update":
            ds.update([3, 4], {"p": [100 + number, number]})
        elif verb == "upsert":
            ds.upsert([{"_anchor": 3, "p": 100 + number}])
        else:
            ds.add_scalar_layer("p", "x", "int", [(3, 100 + number)], mode="replace")
        return number

    found = in_threads(work, 5)
    won = [f for f in found if isinstance(f, int)]
    lost = [f for f in found if isinstance(f, Exception)]
    assert len(won) == 1
    assert len(lost) == 4
    for error in lost:
        assert isinstance(error, vd.ConflictError)
        assert isinstance(error, RuntimeError)
        assert "publish conflict on ref" in str(error)
    assert vd.Dataset.open_ref("main", url).take([3])["p"].to_pylist() == [100 + won[0]]
    # A handle that lost works again after refresh().
    loser = handles[next(n for n, f in enumerate(found) if isinstance(f, Exception))]
    loser.refresh()
    assert loser.update([3], {"p": [7]}) == 1
    assert vd.Dataset.open_ref("main", url).take([3])["p"].to_pylist() == [7]


def test_updates_of_other_cells_are_replayed(url: str) -> None:
    make(url, 60)
    handles = [vd.Dataset.open_ref("main", url) for _ in range(6)]

    def work(number: int) -> int:
        mine = list(range(number * 10, number * 10 + 10))
        for field in ("x", "y"):
            handles[number].update(mine, {field: [1_000 + m for m in mine]})
        return number

    assert in_threads(work, 6) == list(range(6))
    assert values(url, "x") == values(url, "y") == [1_000 + i for i in range(60)]


def test_layers_on_other_fields_are_replayed(url: str) -> None:
    make(url, 50)
    handles = [vd.Dataset.open_ref("main", url) for _ in range(6)]

    def work(number: int) -> int:
        if number == 0:
            return handles[0].append_many([{"_anchor": 1_000, "x": 1}])
        samples = [(i, i * number) for i in range(50)]
        return handles[number].add_scalar_layer(f"p{number}", "x", "int", samples)

    assert in_threads(work, 6) == [1, 50, 50, 50, 50, 50]
    ds = vd.Dataset.open_ref("main", url)
    assert ds.count() == 51
    for number in range(1, 6):
        assert ds[f"p{number}"].to_pylist() == [i * number for i in range(50)] + [None]


def test_one_new_field_is_created_once(url: str) -> None:
    make(url, 5)
    handles = [vd.Dataset.open_ref("main", url) for _ in range(4)]
    found = in_threads(lambda n: handles[n].add_scalar_layer("p", None, "int", [(0, n)]), 4)
    assert sorted(isinstance(f, vd.ConflictError | vd.AlreadyExistsError) for f in found) == [
        False, True, True, True,
    ]  # fmt: skip
    winner = next(n for n, f in enumerate(found) if f == 1)
    assert values(url, "p")[0] == winner


STALE: dict[str, tuple[Any, Any, type[Exception]]] = {
    "update of a deleted record": (
        lambda d: d.delete([3]), lambda d: d.update([3], {"x": 9}), vd.ConflictError),
    "layer over a deleted record": (
        lambda d: d.delete([3]), lambda d: d.add_scalar_layer("p", None, "int", [(3, 1)]),
        vd.ConflictError),
    "deletion of an updated record": (
        lambda d: d.update([3], {"x": 9}), lambda d: d.delete([3]), vd.ConflictError),
    "upsert of a deleted record": (
        lambda d: d.delete([3]), lambda d: d.upsert([{"_anchor": 3, "x": 9}]), vd.ConflictError),
    "update of an updated cell": (
        lambda d: d.update([3], {"x": 8}), lambda d: d.update([3], {"x": 9}), vd.ConflictError),
    "upsert of an updated cell": (
        lambda d: d.update([3], {"x": 8}), lambda d: d.upsert([{"_anchor": 3, "x": 9}]),
        vd.ConflictError),
    "upsert of a record stored meanwhile": (
        lambda d: d.append_many([{"_anchor": 50, "x": 8}]),
        lambda d: d.upsert([{"_anchor": 50, "x": 9}]), vd.ConflictError),
    "append of an anchor stored meanwhile": (
        lambda d: d.append_many([{"_anchor": 50, "x": 8}]),
        lambda d: d.append_many([{"_anchor": 50, "x": 9}]), vd.AlreadyExistsError),
    "append to a dropped field": (
        lambda d: d.drop_field("y"), lambda d: d.append_many([{"x": 1, "y": 1}]), vd.ConflictError),
    "update of a renamed field": (
        lambda d: d.rename_field("x", "z"), lambda d: d.update([3], {"x": 1}), vd.ConflictError),
    "drop of a dropped field": (
        lambda d: d.drop_field("y"), lambda d: d.drop_field("y"), vd.ConflictError),
    "rename onto a new field": (
        lambda d: d.add_scalar_layer("z", None, "int", []), lambda d: d.rename_field("x", "z"),
        vd.ConflictError),
    "replace of a replaced layer": (
        lambda d: d.add_scalar_layer("y", None, "int", [(1, 1)], mode="replace"),
        lambda d: d.add_scalar_layer("y", None, "int", [(1, 2)], mode="replace"), vd.ConflictError),
    "metadata": (
        lambda d: d.set_metadata({"a": "1"}), lambda d: d.set_metadata({"a": "2"}),
        vd.ConflictError),
}  # fmt: skip


@pytest.mark.parametrize(("theirs", "mine", "error"), STALE.values(), ids=STALE.keys())
def test_changes_that_do_not_commute(url: str, theirs: Any, mine: Any, error: Any) -> None:
    stale = make(url, 10)
    theirs(vd.Dataset.open_ref("main", url))
    after = vd.Dataset.open_ref("main", url)
    before = stale.current_manifest()
    with pytest.raises(error):
        mine(stale)
    assert vd.Dataset.open_ref("main", url).current_manifest() == after.current_manifest()
    # The handle has not moved, and works after refresh().
    assert stale.current_manifest() == before
    assert stale.count() == 10
    assert stale.refresh().current_manifest() == after.current_manifest()
    assert stale.append_many([{}]) == 1


COMMUTE: dict[str, tuple[Any, Any]] = {
    "append, append": (
        lambda d: d.append_many([{"x": 1}]), lambda d: d.append_many([{"x": 2}])),
    "explicit anchors": (
        lambda d: d.append_many([{"_anchor": 51, "x": 1}]),
        lambda d: d.append_many([{"_anchor": 50, "x": 2}])),
    "append, update": (
        lambda d: d.append_many([{"x": 1}]), lambda d: d.update([3], {"x": 2})),
    "append, delete": (lambda d: d.append_many([{"x": 1}]), lambda d: d.delete([3])),
    "delete, delete": (lambda d: d.delete([4]), lambda d: d.delete([3])),
    "the same deletion": (lambda d: d.delete([3, 4]), lambda d: d.delete([3])),
    "delete, append": (lambda d: d.delete([3]), lambda d: d.append_many([{"x": 1}])),
    "other fields": (lambda d: d.update([3], {"x": 1}), lambda d: d.update([3], {"y": 2})),
    "the same update": (lambda d: d.update([3], {"x": 3}), lambda d: d.update([3], {"x": 9})),
    "layer, append": (
        lambda d: d.add_scalar_layer("p", None, "int", [(1, 1)]),
        lambda d: d.append_many([{"x": 1}])),
    "append, layer": (
        lambda d: d.append_many([{"x": 1}]),
        lambda d: d.add_scalar_layer("p", None, "int", [(1, 1)])),
    "drop, layer": (
        lambda d: d.drop_field("y"), lambda d: d.add_scalar_layer("p", None, "int", [(1, 1)])),
    "upsert, upsert": (
        lambda d: d.upsert([{"_anchor": 1, "x": 5}]), lambda d: d.upsert([{"_anchor": 2, "x": 6}])),
    "metadata": (lambda d: d.set_metadata({"a": "1"}), lambda d: d.set_metadata({"b": "2"})),
}  # fmt: skip


@pytest.mark.parametrize(("theirs", "mine"), COMMUTE.values(), ids=COMMUTE.keys())
def test_changes_that_commute_both_arrive(url: str, theirs: Any, mine: Any) -> None:
    def state(ds: vd.Dataset) -> Any:
        rows = ds.scan().to_arrow().drop_columns("_anchor").to_pylist()
        ordered = sorted(map(repr, [dict(sorted(r.items())) for r in rows]))
        return ordered, sorted(ds.schema), ds.metadata

    stale = make(url, 10)
    twin = stale.branch("twin")
    theirs(vd.Dataset.open_ref("main", url))
    mine(stale)
    # The same, one after the other.
    theirs(twin)
    with contextlib.suppress(vd.AnchorNotFoundError):  # what is deleted already
        mine(twin)
    assert state(vd.Dataset.open_ref("main", url)) == state(twin)
    assert state(stale) == state(twin)
    assert vd.connect(url).verify().ok


def test_an_automatic_anchor_moves_above_the_new_tip(url: str) -> None:
    stale = make(url, 3)
    far = 1 << 62
    vd.Dataset.open_ref("main", url).append_many([{"_anchor": far, "x": 100}])
    stale.append_many([{"x": 200}, {"x": 201}])
    table = stale.scan(["x"]).to_arrow()
    assert table["_anchor"].to_pylist()[-3:] == [far, far + 1, far + 2]
    assert table["x"].to_pylist()[-3:] == [100, 200, 201]


def test_a_large_stream_that_loses_the_race_is_replayed(url: str) -> None:
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x").add_binary("b"), url)
    other = vd.Dataset.open_ref("main", url)
    blob = bytes(1_000_000)

    def batches() -> Any:
        for number in range(70):
            if number == 60:
                other.append_many([{"x": -1}])
            yield pa.table({"x": [number], "b": [blob]})

    assert ds.append(batches()) == 70
    assert sorted(values(url)) == [-1, *range(70)]
    assert ds.count() == 71


def test_a_reader_that_opens_while_its_handle_commits(url: str) -> None:
    """Two threads share one handle that has read nothing yet: no commit may be lost."""
    make(url, 100)
    for number in range(40):
        ds = vd.Dataset.open_ref("main", url)
        start = threading.Barrier(3)

        def read(ds: vd.Dataset = ds, start: threading.Barrier = start) -> int:
            start.wait()
            return ds.count()

        def write(ds: vd.Dataset = ds, start: threading.Barrier = start, n: int = number) -> int:
            start.wait()
            return ds.append_many([{"x": 10_000 + n}])

        in_threads(lambda n, r=read, w=write: (r, r, w)[n](), 3)
        ds.append_many([{"x": 20_000 + number}])
    found = values(url)
    assert [v for v in found if v >= 20_000] == [20_000 + n for n in range(40)]
    assert [v for v in found if 10_000 <= v < 20_000] == [10_000 + n for n in range(40)]
