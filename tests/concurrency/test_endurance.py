"""Eight writing processes and two reading ones on one branch, for a while."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import dreamdb as vd
from tests.concurrency.spaces import in_processes

WRITERS, READERS = 8, 2


def _write(url: str, number: int, until: float) -> list[tuple[str, int]]:
    """Append small batches, all rows of one with the same name; return what was acknowledged."""
    ds = vd.Dataset.open_ref("main", url)
    done: list[tuple[str, int]] = []
    while not done or time.time() < until:  # Once at least, however slow the start was.
        name, count = f"{number}-{len(done)}", 1 + (number + len(done)) % 7
        rows = [{"batch": name, "of": count, "payload": name.encode() * 20} for _ in range(count)]
        try:
            if ds.append_many(rows, message=name) == count:
                done.append((name, count))
        except vd.ConflictError:
            ds.refresh()  # Lost 64 races in a row: reported, so not there.
    return done


def _read(url: str, number: int, until: float) -> list[tuple[str, int]]:
    """Scan the newest state again and again; return how many states were looked at."""
    looked, rows = 0, 0
    while not looked or time.time() < until:
        ds = vd.Dataset.open_ref("main", url)
        table = ds.scan(["batch", "of", "payload"]).to_arrow()
        assert table.num_rows == ds.count()
        _check_whole(table.to_pylist())
        assert table.num_rows >= rows, "an older state came after a newer one"
        looked, rows = looked + 1, table.num_rows
    return [(f"reader {number}", looked)]


def _check_whole(records: list[dict[str, Any]]) -> dict[str, int]:
    """Check that every batch is there as a whole; return the batches and their lengths."""
    found: dict[str, int] = {}
    for record in records:
        found[record["batch"]] = found.get(record["batch"], 0) + 1
        assert record["payload"] == record["batch"].encode() * 20
    for record in records:
        assert found[record["batch"]] == record["of"], record
    return found


def _run(url: str, work: str, number: int, until: float) -> list[tuple[str, int]]:
    return {"write": _write, "read": _read}[work](url, number, until)


def endure(url: str, seconds: float) -> None:
    schema = vd.Schema().add_scalar_categorical("batch").add_scalar_int("of").add_image("payload")
    vd.Dataset.create("main", schema, url)
    until = time.time() + 3 + seconds  # Ten processes start in about three seconds.
    roles = [("write", n) for n in range(WRITERS)] + [("read", n) for n in range(READERS)]
    results = in_processes(_run, [(url, work, n, until) for work, n in roles], "spawn")
    acknowledged = dict(pair for each in results[:WRITERS] for pair in each)
    assert all(looked > 0 for ((_, looked),) in results[WRITERS:])

    ds = vd.Dataset.open_ref("main", url)
    stored = _check_whole(ds.scan().to_arrow().to_pylist())
    assert stored == acknowledged
    messages = [record.message for record in ds.log() if record.message]
    assert sorted(messages) == sorted(acknowledged)
    assert vd.connect(url).verify().ok


def test_eight_writers_for_some_seconds(tmp_path: Path) -> None:
    endure(str(tmp_path / "space"), 4)


@pytest.mark.deep
def test_eight_writers_for_a_minute(tmp_path: Path) -> None:
    endure(str(tmp_path / "space"), 60)
