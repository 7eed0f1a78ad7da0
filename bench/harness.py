"""Measure systems against each other: interleaved rounds, medians, ratios, one table.

The cases of one benchmark run round by round, the order turned by one each round, so that what
the machine does meanwhile hits all of them.  A ratio is the median of the rounds' ratios, not the
ratio of two medians.  Every case returns what it saw (a row count, a checksum): cases of one
benchmark that disagree did not do the same work, and the run fails.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any

OURS = "DreamDB"


class Start(Enum):
    """What happens, untimed, before a timed run."""

    WARM = "prepared once, one untimed run first"
    AGAIN = "prepared again before every run"
    FRESH = "prepared in a new process for every run"


@dataclass(frozen=True)
class Case:
    """One system doing one piece of work.

    Parameters
    ----------
    system : str
        Who does it.  Ours start with ``DreamDB``; a benchmark has at most one of them.
    prepare : callable
        Untimed; takes ``arguments``, returns what ``run`` takes.  A function at module level, so
        that a new process can find it.
    run : callable
        Timed; returns the evidence that is compared between the cases, or None.
    arguments : tuple
        What ``prepare`` takes; small and picklable.
    start : Start
        How fresh each run is.
    grows : Path, optional
        A directory whose growth in bytes is reported.
    """

    system: str
    prepare: Callable[..., Any]
    run: Callable[[Any], object]
    arguments: tuple[object, ...] = ()
    start: Start = Start.WARM
    grows: Path | None = None


@dataclass(frozen=True)
class Benchmark:
    """Several systems doing the same work.

    Parameters
    ----------
    work : str
        What is done, as the table shows it.
    cases : sequence of Case
        Who does it.
    rounds : int
        How many times.
    amount : float
        How much one run does, in ``unit``.
    unit : str
        What is counted: rows, bytes, or nothing for work that is only timed.
    """

    work: str
    cases: Sequence[Case]
    rounds: int = 5
    amount: float = 0
    unit: str = ""


@dataclass
class Result:
    """What one case took.

    Parameters
    ----------
    work, system : str
        Which case of which benchmark.
    seconds : list of float
        One per round.
    amount : float
        How much one run did.
    unit : str
        What is counted.
    nbytes : int, optional
        Bytes that one run added, median.
    ours_is : float, optional
        How many times faster DreamDB was, median of the rounds' ratios.
    error : str, optional
        Why there is no measurement.
    """

    work: str
    system: str
    seconds: list[float] = field(default_factory=list)
    amount: float = 0
    unit: str = ""
    nbytes: int | None = None
    ours_is: float | None = None
    error: str | None = None

    @property
    def median(self) -> float:
        """Median seconds of one run."""
        return statistics.median(self.seconds)


class DisagreementError(Exception):
    """Two cases of one benchmark saw different data."""


def measure(benchmark: Benchmark, *, systems: Sequence[str] = ()) -> list[Result]:
    """Run one benchmark.

    Parameters
    ----------
    benchmark : Benchmark
        What to run.
    systems : sequence of str
        Keep the cases whose system starts with one of these words; all when empty.

    Returns
    -------
    list of Result
        One per kept case, in order.  A case that fails has its error and stops; the others go on.

    Raises
    ------
    DisagreementError
        When two cases return different evidence.
    """
    kept = [c for c in benchmark.cases if not systems or c.system.startswith(tuple(systems))]
    results = {
        c.system: Result(benchmark.work, c.system, amount=benchmark.amount, unit=benchmark.unit)
        for c in kept
    }
    grown: dict[str, list[int]] = {c.system: [] for c in kept}
    evidence: dict[str, object] = {}
    prepared: dict[str, Any] = {}
    for number in range(benchmark.rounds):
        turn = number % max(1, len(kept))
        for case in [*kept[turn:], *kept[:turn]]:
            result = results[case.system]
            if result.error:
                continue
            before = directory_nbytes(case.grows) if case.grows else 0
            try:
                seconds, seen = _run(case, prepared)
            except Exception as error:  # noqa: BLE001 - one system's failure must not hide the others
                result.error = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            result.seconds.append(seconds)
            if case.grows:
                grown[case.system].append(directory_nbytes(case.grows) - before)
            if seen is not None:
                evidence[case.system] = seen
    if len(set(map(repr, evidence.values()))) > 1:
        raise DisagreementError(f"{benchmark.work}: {evidence}")
    for case in kept:
        if grown[case.system]:
            results[case.system].nbytes = int(statistics.median(grown[case.system]))
    _compare(list(results.values()))
    return list(results.values())


def table(results: Sequence[Result]) -> str:
    """Return the results as one Markdown table."""
    lines = [
        "| work | system | median | rate | bytes | DreamDB is faster by |",
        "|---|---|---:|---:|---:|---:|",
    ]
    last = ""
    for result in results:
        work = "" if result.work == last else result.work
        last = result.work
        if result.error:
            lines.append(f"| {work} | {result.system} | failed: {result.error} | | | |")
            continue
        rate = _rate(result.amount / result.median, result.unit) if result.unit else ""
        size = "" if result.nbytes is None else _nbytes(result.nbytes)
        ratio = "" if result.ours_is is None else f"{result.ours_is:.2g}x"
        shown = _seconds(result.median)
        lines.append(f"| {work} | {result.system} | {shown} | {rate} | {size} | {ratio} |")
    return "\n".join(lines)


def write_json(path: Path, results: Sequence[Result], *, options: dict[str, object]) -> None:
    """Write results, machine and options for programs.

    Parameters
    ----------
    path : Path
        The file; its directory is made.
    results : sequence of Result
        What was measured.
    options : dict of str to object
        How it was asked for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "format": 1,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_line(),
        "options": options,
        "results": [asdict(r) | {"median": r.median if r.seconds else None} for r in results],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def machine_line() -> str:
    """Return one line that says where and with what was measured."""
    versions = []
    for package in ("dreamdb", "pyarrow", "numpy", "pylance", "torch"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return (
        f"{_processor()}, {multiprocessing.cpu_count()} cores, {_memory()}"
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        + ", ".join(versions)
    )


def directory_nbytes(directory: Path) -> int:
    """Return the bytes of all files below a directory; zero when there is none."""
    return sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())


def _run(case: Case, prepared: dict[str, Any]) -> tuple[float, object]:
    """Return the seconds and the evidence of one run."""
    if case.start is Start.FRESH:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_time, (case.prepare, case.run, case.arguments))
    if case.start is Start.AGAIN:
        return _time(case.prepare, case.run, case.arguments)
    if case.system not in prepared:
        prepared[case.system] = case.prepare(*case.arguments)
        case.run(prepared[case.system])
    return _clock(case.run, prepared[case.system])


def _time(
    prepare: Callable[..., Any], run: Callable[[Any], object], arguments: tuple[object, ...]
) -> tuple[float, object]:
    return _clock(run, prepare(*arguments))


def _clock(run: Callable[[Any], object], handle: object) -> tuple[float, object]:
    gc.collect()
    start = time.perf_counter()
    seen = run(handle)
    return time.perf_counter() - start, seen


def _compare(results: Sequence[Result]) -> None:
    """Set how many times faster DreamDB was than each other case."""
    ours = next((r for r in results if r.system.startswith(OURS) and not r.error), None)
    for result in results:
        if ours is None or result is ours or result.error:
            continue
        pairs = zip(result.seconds, ours.seconds, strict=True)
        result.ours_is = statistics.median(theirs / own for theirs, own in pairs)


def _seconds(value: float) -> str:
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.2f} s"


def _rate(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1e6:,.0f} MB/s"
    return f"{value:,.0f} {unit}/s" if value < 10_000 else f"{value / 1e3:,.0f}k {unit}/s"


def _nbytes(value: int) -> str:
    if abs(value) < 10_000:
        return f"{value} B"
    return f"{value / 1e3:,.0f} kB" if abs(value) < 10e6 else f"{value / 1e6:,.0f} MB"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split("\n"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        first = Path("/proc/meminfo").read_text(encoding="ascii").split("\n")[0]
        return f"{int(first.split()[1]) / 2**20:.0f} GiB, "
    except (OSError, ValueError, IndexError):
        return ""
