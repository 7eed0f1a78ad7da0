"""Running the repository's programs and commands as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["ROOT", "run_command", "run_program"]

ROOT = Path(__file__).resolve().parents[2]


def run_command(
    command: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    expect: int | None = 0,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder of its own and check its exit status (None: any)."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("DREAMDB_")}
    variables["PYTHONPATH"] = str(ROOT)
    variables.update(environment or {})
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=110,
    )
    if expect is not None:
        assert done.returncode == expect, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done


def run_program(
    command: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    expect: int | None = 0,
) -> subprocess.CompletedProcess[str]:
    """Run a Python program, or ``-m`` and a module, likewise."""
    words = [sys.executable, *command]
    return run_command(words, folder=folder, environment=environment, expect=expect)
