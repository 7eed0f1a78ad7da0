"""The harness compares like with like, and one system's failure hides nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.harness import (
    Benchmark,
    Case,
    DisagreementError,
    Result,
    Start,
    measure,
    table,
    write_json,
)


def _nothing() -> None:
    return None


def _seven(_: object) -> int:
    return 7


def _fail(_: object) -> int:
    raise OSError("the disk is full")


def test_cases_run_in_every_round_and_prepare_as_asked() -> None:
    log: list[str] = []

    def case(name: str, start: Start) -> Case:
        def prepare() -> str:
            log.append(f"prepare {name}")
            return name

        return Case(name, prepare, lambda handle: log.append(f"run {handle}"), start=start)

    results = measure(Benchmark("work", [case("a", Start.WARM), case("b", Start.AGAIN)], rounds=3))
    assert [len(r.seconds) for r in results] == [3, 3]
    assert log.count("prepare a") == 1
    assert log.count("run a") == 4  # one untimed
    assert log.count("prepare b") == log.count("run b") == 3
    # The order turns: round 2 begins with b.
    assert log.index("prepare b") < len(log) - 1 - log[::-1].index("run a")
    second = [entry for entry in log if entry.startswith("run")][3:5]
    assert second == ["run b", "run a"]


def test_a_new_process_runs_the_case() -> None:
    (result,) = measure(
        Benchmark("work", [Case("a", _nothing, _seven, start=Start.FRESH)], rounds=1)
    )
    assert result.error is None
    assert len(result.seconds) == 1


def test_different_evidence_is_refused() -> None:
    cases = [Case("a", _nothing, _seven), Case("b", _nothing, lambda _: 8)]
    with pytest.raises(DisagreementError, match="work"):
        measure(Benchmark("work", cases, rounds=1))


def test_a_failure_is_shown_and_the_others_go_on() -> None:
    cases = [Case("DreamDB", _nothing, _fail), Case("peer", _nothing, _seven)]
    ours, theirs = measure(Benchmark("work", cases, rounds=2))
    assert ours.error == "OSError: the disk is full"
    assert theirs.error is None
    assert theirs.ours_is is None
    assert "failed: OSError: the disk is full" in table([ours, theirs])


def test_only_the_systems_asked_for_run() -> None:
    cases = [Case("DreamDB", _nothing, _fail), Case("Lance, synced", _nothing, _seven)]
    (kept,) = measure(Benchmark("work", cases, rounds=1), systems=["Lance"])
    assert kept.system == "Lance, synced"


def test_growth_is_measured_in_bytes(tmp_path: Path) -> None:
    numbers = iter(range(10))

    def grow(_: object) -> None:
        (tmp_path / f"{next(numbers)}").write_bytes(bytes(1000))

    (result,) = measure(
        Benchmark("work", [Case("a", _nothing, grow, start=Start.AGAIN, grows=tmp_path)], rounds=3)
    )
    assert result.nbytes == 1000


def test_the_table_and_the_file_say_what_was_measured(tmp_path: Path) -> None:
    results = [
        Result("scan", "DreamDB", [0.010, 0.020, 0.030], amount=1000, unit="rows"),
        Result("scan", "Lance", [0.2, 0.1, 0.3], 1000, "rows", nbytes=2048, ours_is=10.0),
        Result("open", "Lance", [0.0005]),
    ]
    lines = table(results).splitlines()
    assert lines[2] == "| scan | DreamDB | 20 ms | 50k rows/s |  |  |"
    assert lines[3] == "|  | Lance | 200 ms | 5,000 rows/s | 2048 B | 10x |"
    assert lines[4] == "| open | Lance | 500 µs |  |  |  |"
    write_json(tmp_path / "new" / "results.json", results, options={"rows": 5})
    document = json.loads((tmp_path / "new" / "results.json").read_text())
    assert document["options"] == {"rows": 5}
    assert [r["median"] for r in document["results"]] == [0.02, 0.2, 0.0005]


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    from bench.harness import _compare

    results = [Result("w", "DreamDB", [1.0, 10.0, 2.0]), Result("w", "x", [3.0, 20.0, 16.0])]
    _compare(results)
    assert results[1].ours_is == 3.0  # of 3, 2 and 8; the medians' ratio would be 8
