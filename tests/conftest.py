"""Settings that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a test takes as long as the disk allows, and nothing here measures time.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", _COMMON, max_examples=50, derandomize=True)
settings.register_profile("ci", _COMMON, max_examples=100, derandomize=True)
settings.register_profile("deep", _COMMON, max_examples=1_000, stateful_step_count=100)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the small profile unless --hypothesis-profile names another; forget the shell."""
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("fast")
    for name in [name for name in os.environ if name.startswith("DREAMDB_")]:
        del os.environ[name]


# Whole files that take seconds: processes, long random searches, large data.  `make check` leaves
# them out, `make test` does not.
SLOW_FILES = frozenset(
    {
        "budget/test_history.py",
        "budget/test_reads.py",
        "budget/test_writes.py",
        "cli/test_ingest.py",
        "cli/test_program.py",
        "cli/test_upkeep.py",
        "codecs/test_cell.py",
        "concurrency/test_crashes.py",
        "concurrency/test_endurance.py",
        "concurrency/test_readers.py",
        "concurrency/test_writers.py",
        "e2e/test_examples.py",
        "e2e/test_original_clients.py",
        "e2e/test_training_examples.py",
        "e2e/test_tutorial.py",
        "format/test_corruption.py",
        "format/test_independent_reader.py",
        "history/test_diff.py",
        "history/test_graph.py",
        "history/test_history_crashes.py",
        "history/test_merge_model.py",
        "history/test_steps_back.py",
        "maintain/test_collect.py",
        "maintain/test_collect_crashes.py",
        "maintain/test_expire.py",
        "maintain/test_leases.py",
        "maintain/test_purge.py",
        "model/test_history_independence.py",
        "property/test_machine.py",
        "sql/test_crashes.py",
        "sql/test_training.py",
        "sql/test_writes.py",
        "store/test_third_party.py",
        "torch/test_map_style.py",
        "torch/test_permutation.py",
        "torch/test_processes.py",
        "torch/test_resume.py",
        "torch/test_ring.py",
        "torch/test_stream.py",
        "torch/test_training_loader.py",
        "training/test_partition.py",
        "tracks/test_random_access.py",
        "vectors/test_crashes.py",
        "vectors/test_fields.py",
        "vectors/test_index.py",
    }
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow files."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and str(item.path.relative_to(here)) in SLOW_FILES:
            item.add_marker(pytest.mark.slow)
