"""The three training programs: real data, killed, resumed, the same result."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dreamdb as vd
from tests.e2e.programs import ROOT, run_program


def _run(name: str, folder: Path) -> str:
    backend = str(folder / "space")
    program = ROOT / "examples" / "training" / name
    done = run_program([program, "--backend", backend], folder=folder)
    assert vd.connect(backend).verify().ok
    printed = done.stdout
    assert "  killed" in printed
    assert re.search(r"resumed at step 6: step \d of epoch \d", printed)
    assert "same batches in the same order: True; same weights: True" in printed
    assert "replayed from its receipt, 12 steps: True" in printed
    losses = re.findall(r"12 steps, in epoch \d, last loss (\S+)", printed)
    assert len(losses) == 2
    assert losses[0] == losses[1]
    return printed


def test_image_classification(tmp_path: Path) -> None:
    printed = _run("images.py", tmp_path)
    assert re.search(r"filter \(split == \"train\"\) +432 rows", printed)
    assert "steps per epoch  13" in printed


def test_mixed_text_pretraining(tmp_path: Path) -> None:
    printed = _run("text.py", tmp_path)
    for name, share in (("fineweb", "70.0%"), ("wikipedia", "10.0%"), ("code", "20.0%")):
        part = printed.split(f"stream {name}\n")[1].split("\nstream")[0]
        assert f"{share} of 300" in part
    assert "1000 tokens" in printed


def test_video_clips(tmp_path: Path) -> None:
    printed = _run("video.py", tmp_path)
    assert re.search(r"filter \(\(duration_ms >= 2000\).* \d+ rows", printed)


@pytest.mark.parametrize("name", ["images.py", "text.py", "video.py", "resuming.py"])
def test_every_training_program_is_tested(name: str) -> None:
    assert (ROOT / "examples" / "training" / name).is_file()
    assert len(list((ROOT / "examples" / "training").glob("*.py"))) == 4
