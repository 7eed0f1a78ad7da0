"""What README.md says, done."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import dreamdb as vd
from tests.e2e.programs import ROOT, run_program

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def _python_blocks() -> list[str]:
    return [text for language, text in BLOCKS if language == "python"]


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    batches: list[Any] = []
    first, second = _python_blocks()
    names: dict[str, Any] = {"train_step": batches.append}

    exec(compile(first, "README.md", "exec"), names)  # noqa: S102
    assert sum(batch.num_rows for batch in batches) == 500
    assert all(isinstance(batch, pa.RecordBatch) for batch in batches)
    assert vd.Dataset.open_ref("pets", backend="pets-space").count() == 509
    assert vd.Dataset.open_ref("baseline", backend="pets-space").count() == 500
    anchors = sorted(a for batch in batches for a in batch.column("_anchor").to_pylist())

    batches.clear()
    exec(compile(second, "README.md", "exec"), names)  # noqa: S102
    assert sorted(int(a) for batch in batches for a in batch["_anchor"]) == anchors
    assert all(batch["vector"].shape == (len(batch["label"]), 16) for batch in batches)

    commands = re.findall(r"`dreamdb (-b pets-space [^`]+)`", README)
    assert len(commands) == 3
    for command in commands:
        shown = run_program(["-m", "dreamdb", *command.split()], folder=tmp_path).stdout
        assert "baseline" in shown


def test_the_first_example_is_about_twenty_lines() -> None:
    lines = [line for line in _python_blocks()[0].splitlines() if line.strip()]
    assert len(lines) <= 22


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
    assert named == {"demo", "test"}
    assert named <= targets


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    local = [link for link in links if "://" not in link]
    assert {"BENCHMARKS.md", "CONTRIBUTING.md", "design"} <= set(local)
    missing = [link for link in local if not (ROOT / link).exists()]
    assert missing == []
