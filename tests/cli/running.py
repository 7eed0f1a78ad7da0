"""Running the command line, in this process and in others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from dreamdb.cli import program

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as one JSON document."""
        found: dict[str, Any] = json.loads(self.out)
        assert found["dreamdb"] == 1
        return found

    @property
    def data(self) -> Any:
        """The envelope's data."""
        return self.document["data"]

    @property
    def error(self) -> dict[str, Any]:
        """The envelope's error."""
        assert self.err == ""
        found: dict[str, Any] = self.document["error"]
        return found


def run(*arguments: object, backend: object = None, env: dict[str, str] | None = None) -> Outcome:
    """Run a command line in this process."""
    given = [str(a) for a in arguments]
    if backend is not None:
        given = ["--backend", str(backend), *given]
    result = CliRunner().invoke(program, given, env=env, prog_name="dreamdb")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def done(*arguments: object, backend: object = None) -> Outcome:
    """Run a command line that must succeed."""
    outcome = run(*arguments, backend=backend)
    assert outcome.code == 0, outcome.err or outcome.out
    return outcome


def spawn(*arguments: object, **settings: Any) -> subprocess.Popen[bytes]:
    """Start ``python -m dreamdb`` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **settings.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "dreamdb", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        # A shell starts what runs in its background with interrupts ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **settings,
    )


def process(*arguments: object, **settings: Any) -> Outcome:
    """Run ``python -m dreamdb`` in a process of its own."""
    started = spawn(*arguments, **settings)
    out, err = started.communicate()
    return Outcome(started.returncode, out.decode(), err.decode())
