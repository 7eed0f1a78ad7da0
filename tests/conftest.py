"""Settings that all tests share."""

from __future__ import annotations

import os

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
