"""Readers beside writers, and races for refs."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import dreamdb as vd
from tests.concurrency.spaces import in_processes, in_threads, make, values


@pytest.fixture(params=["memory", "local"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "space")
    return f"memory://{request.node.name}"


def _whole(table: Any) -> int:
    """Check that records come in groups of ten with one tag; return how many groups there are."""
    tags = table["x"].to_pylist()
    assert len(tags) % 10 == 0
    groups = Counter(tags)
    assert set(groups.values()) <= {10}
    assert sorted(groups) == list(range(len(groups)))
    return len(groups)


def test_readers_see_whole_states_only(url: str) -> None:
    writer = make(url)
    snapshot = writer.snapshot("start")
    stop = threading.Event()

    def write() -> int:
        try:
            for tag in range(15):
                if tag % 3 == 2:
                    with writer.transaction() as tx:
                        for _ in range(10):
                            tx.append_many([{"x": tag}])
                else:
                    writer.append_many([{"x": tag}] * 10)
        finally:
            stop.set()
        return 15

    def read(ds: vd.Dataset) -> int:
        seen = 0
        while not stop.is_set():
            ds.refresh()
            before = ds.current_manifest()
            found = _whole(ds.scan(["x"]).to_arrow())
            assert found >= seen
            seen = found
            shuffled = [b.num_rows for b in ds.iter_arrow_batches(7, ["x"], shuffle_seed=1)]
            assert sum(shuffled) == ds.count() == 10 * found
            # A handle that nobody refreshes stays where it is.
            assert ds.current_manifest() == before
        assert vd.Dataset.open_at(snapshot, url).count() == 0
        return seen

    handles = [vd.Dataset.open_ref("main", url) for _ in range(2)]
    work = [write, lambda: read(handles[0]), lambda: read(handles[1])]
    found = in_threads(lambda n: work[n](), 3)
    assert all(isinstance(f, int) for f in found), found
    assert _whole(vd.Dataset.open_ref("main", url).scan(["x"]).to_arrow()) == 15


def _write_tags(url: str, first: int, count: int) -> int:
    ds = vd.Dataset.open_ref("main", url)
    for tag in range(first, first + count):
        ds.append_many([{"x": tag}] * 10)
    return count


def _read_tags(url: str, groups: int) -> int:
    ds = vd.Dataset.open_ref("main", url)
    seen = looks = 0
    while seen < groups and looks < 20_000:
        seen = _whole(ds.refresh().scan(["x"]).to_arrow())
        looks += 1
    return seen


def _either(what: str, url: str, count: int) -> int:
    return _write_tags(url, 0, count) if what == "write" else _read_tags(url, count)


def test_readers_in_other_processes(tmp_path: Path) -> None:
    url = str(tmp_path / "space")
    make(url)
    work = [("write", url, 25), ("read", url, 25), ("read", url, 25)]
    assert in_processes(_either, work, "fork") == [25, 25, 25]


def test_an_open_stream_does_not_notice_writers(url: str) -> None:
    ds = make(url, 500)
    streams = [
        vd.Dataset.open_ref("main", url).iter_arrow_batches(10),
        vd.Dataset.open_ref("main", url).iter_arrow_batches(10, shuffle_seed=3),
        vd.Dataset.open_ref("main", url).iter_arrow_batches(10, where="x >= 0"),
        iter(vd.Dataset.open_ref("main", url).scan()),
    ]
    got = [next(stream)["x"].to_pylist() for stream in streams]
    ds.delete("x < 400")
    ds.update([450], {"x": -1})
    ds.append_many([{"_anchor": 1, "x": 9}])
    ds.append_many([{"x": 10}])
    ds.drop_field("y")
    for values_so_far, stream in zip(got, streams, strict=True):
        for batch in stream:
            values_so_far += batch["x"].to_pylist()
        assert sorted(values_so_far) == list(range(500))


def _create(url: str, number: int) -> str:
    try:
        ds = vd.Dataset.create("new", data={"x": [number] * 5}, backend=url)
    except vd.AlreadyExistsError:
        return "lost"
    return f"won {ds['x'].to_pylist()[0]}"


def test_of_creators_exactly_one_wins(tmp_path: Path, url: str) -> None:
    found = in_threads(lambda n: _create(url, n), 6)
    (winner,) = [f for f in found if f != "lost"]
    assert values(url, ref="new") == [int(winner.split()[1])] * 5
    there = str(tmp_path / "other")
    found = in_processes(_create, [(there, n) for n in range(4)], "fork")
    (winner,) = [f for f in found if f != "lost"]
    assert values(there, ref="new") == [int(winner.split()[1])] * 5


@pytest.mark.parametrize("verb", ["branch", "snapshot"])
def test_of_namers_exactly_one_wins(url: str, verb: str) -> None:
    ds = make(url, 3)
    handles = []
    for number in range(5):
        ds.append_many([{"x": number}])
        handles.append(vd.Dataset.open_ref("main", url))
    found = in_threads(lambda n: getattr(handles[n], verb)("name"), 5)
    lost = [f for f in found if isinstance(f, vd.AlreadyExistsError)]
    assert len(lost) == 4
    winner = next(n for n, f in enumerate(found) if not isinstance(f, Exception))
    assert vd.Dataset.open_ref("name", url).count() == 4 + winner


def test_a_snapshot_beside_writers_never_moves(url: str) -> None:
    ds = make(url, 10)
    stop = threading.Event()

    def write() -> int:
        count = 0
        handle = vd.Dataset.open_ref("main", url)
        while not stop.is_set() and count < 500:
            handle.append_many([{"x": 0}])
            count += 1
        return count

    def name() -> list[tuple[dict[str, Any], int]]:
        made = []
        try:
            for number in range(15):
                ds.refresh()
                made.append((ds.snapshot(f"s{number}"), ds.count()))
        finally:
            stop.set()
        return made

    work = [write, name]
    written, made = in_threads(lambda n: work[n](), 2)
    assert written > 0
    for snapshot, count in made:
        assert vd.Dataset.open_at(snapshot, url).count() == count
        assert vd.Dataset.open_ref(str(snapshot["label"]), url).count() == count


def test_deleting_a_branch_beside_a_writer(url: str) -> None:
    make(url, 3)
    space = vd.connect(url)

    def write(ds: vd.Dataset) -> list[int]:
        done = []
        for number in range(300):
            try:
                ds.append_many([{"x": number}])
            except vd.ConflictError:
                return done
            done.append(number)
        return done

    for _ in range(5):
        ds = vd.Dataset.open_ref("main", url).branch("doomed")
        manifests: list[str] = []

        def drop(names: list[str] = manifests) -> str:
            while True:
                try:
                    space.delete_ref("doomed")
                except vd.ConflictError:
                    continue
                names.append(str(space.reflog("doomed")[0]["old"]))
                return "gone"

        work = [lambda d=ds: write(d), drop]
        done, gone = in_threads(lambda n, w=work: w[n](), 2)
        assert gone == "gone"
        if "doomed" in space.list_refs():
            pytest.fail("an append has brought a deleted branch back")
        # What was acknowledged is in what the reflog kept.
        kept = vd.Dataset.open_by_manifest(manifests[0], url)
        assert kept["x"].to_pylist()[3:] == done
        assert ds.count() == 3 + len(done)


def test_two_deleters(url: str) -> None:
    ds = make(url, 3)
    for number in range(5):
        ds.branch(f"b{number}")
        space = vd.connect(url)
        found = in_threads(lambda _, n=number, s=space: s.delete_ref(f"b{n}"), 3)
        assert found.count(None) == 1
        assert all(f is None or isinstance(f, (vd.NotFoundError, vd.ConflictError)) for f in found)
    assert vd.connect(url).list_refs() == ["main"]
