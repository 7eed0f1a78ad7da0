"""Run the benchmarks and print one Markdown table.

python -m bench.run [--rows N | --quick] [--only NAME ...] [--systems NAME ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import (
    append,
    compare,
    epoch,
    harness,
    history,
    ingest,
    layer,
    opening,
    places,
    scan,
    sql,
    take,
    training,
    upkeep,
    vectors,
)
from bench.harness import Benchmark, Result
from bench.places import Places

BENCHMARKS: dict[str, Callable[[Places], list[Benchmark]]] = {
    "ingest": ingest.benchmarks,
    "scan": scan.benchmarks,
    "take": take.benchmarks,
    "epoch": epoch.benchmarks,
    "append": append.benchmarks,
    "layer": layer.benchmarks,
    "open": opening.benchmarks,
    "compare": compare.benchmarks,
    "history": history.benchmarks,
    "vectors": vectors.benchmarks,
    "upkeep": upkeep.benchmarks,
    "training": training.benchmarks,
    "sql": sql.benchmarks,
}
SYSTEMS = ("DreamDB", "DuckDB", "FAISS", "Lance", "LanceDB", "Parquet", "memory", "numpy", "raw")
ROWS = 100_000
QUICK_ROWS = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; return 1 when a case failed, else 0."""
    asked = _parser().parse_args(arguments)
    rows = asked.rows or (QUICK_ROWS if asked.quick else ROWS)
    where = Places(asked.directory, rows)
    where.forget_dreamdb()
    where.build()
    results: list[Result] = []
    for name in asked.only or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        for benchmark in BENCHMARKS[name](where):
            results += harness.measure(benchmark, systems=asked.systems or ())
    places.remove(where.directory / f"scratch-{rows}")
    options = {"rows": rows, "only": asked.only, "systems": asked.systems}
    harness.write_json(asked.directory / "results.json", results, options=options)
    print(f"{rows:,} rows. {harness.machine_line()}.\n")
    print(harness.table(results))
    return int(any(result.error for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure DreamDB and others.")
    parser.add_argument("--rows", type=int, help=f"size of the data set (default {ROWS:,})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS:,} rows")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME",
                        help=f"some of: {' '.join(BENCHMARKS)}")  # fmt: skip
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, metavar="NAME",
                        help=f"some of: {' '.join(SYSTEMS)}")  # fmt: skip
    parser.add_argument("--directory", type=Path, default=Path("bench-data"),
                        help="where data and results are kept (default bench-data)")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
