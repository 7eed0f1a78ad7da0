"""The small examples run, say what is true, and leave sound spaces."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import dreamdb as vd
from tests.e2e.programs import ROOT, run_program


def _run(name: str, folder: Path) -> tuple[str, str]:
    """Run an example; return what it printed, and the space it left."""
    backend = str(folder / "space")
    done = run_program([ROOT / "examples" / name, "--backend", backend], folder=folder)
    assert vd.connect(backend).verify().ok
    return done.stdout, backend


def test_quickstart(tmp_path: Path) -> None:
    printed, backend = _run("quickstart.py", tmp_path)
    assert "branch: 1,001 records; snapshot: 1,000" in printed
    assert "now ['left', 'right'], then ['far', 'left', 'right']" in printed
    ds = vd.Dataset.open_ref("points", backend=backend)
    assert ds.count() == 1001
    nearest = re.findall(r"\[\{'_score': (\S+), 'label': '(\w+)'\}", printed)
    assert nearest == [("-1.0", "far")]
    refs = ["rule/above-0.0", "rule/above-0.5"]
    share = vd.compare_refs(refs, ["guess"], backend).agreement().column(refs[1])[0].as_py()
    assert f"{refs[0]}  1.00 {share:.2f}" in printed


def test_sweep_compare(tmp_path: Path) -> None:
    printed, backend = _run("sweep_compare.py", tmp_path)
    refs = vd.connect(backend).list_refs("sweep/")
    assert len(refs) == 4
    table = vd.compare_refs(refs, ["prediction"], backend)
    truth = np.array(vd.Dataset.open_ref("leaves", backend=backend)["label"].to_pylist())
    right = {ref: np.array(table.column(f"prediction@{ref}").to_pylist()) == truth for ref in refs}
    for ref in refs:
        assert re.search(rf"{re.escape(ref)} +{right[ref].mean():.1%} right", printed)
    hits = np.sum(list(right.values()), axis=0)
    assert f"right in every run: {(hits == 4).sum():,}; in none: {(hits == 0).sum():,}" in printed


def test_vector_search(tmp_path: Path) -> None:
    backend = str(tmp_path / "space")
    command = [ROOT / "examples" / "vector_search.py", "--backend", backend, "--docs", "1500"]
    printed = run_program(command, folder=tmp_path).stdout
    assert vd.connect(backend).verify().ok
    assert float(re.findall(r"digits: ([\d.]+)%", printed)[0]) > 95
    assert "the snapshot still has 750 of 1,500 records" in printed
    recalls = [float(found) for found in re.findall(r"recall@10 ([\d.]+)", printed)]
    assert len(recalls) == 2
    assert min(recalls) > 0.85
    ds = vd.Dataset.open_ref("documentation", backend=backend)
    (info,) = ds.index.info("text")
    assert info.indexed + info.unindexed == 1_500
    assert str(vd.Dataset.open_ref("codes", backend).schema["text"].type).endswith("as rabitq-4")


def test_active_learning(tmp_path: Path) -> None:
    printed, backend = _run("active_learning.py", tmp_path)
    assert "identical weights" in printed
    for iteration in range(5):
        pinned = vd.Dataset.open_ref(f"iter-{iteration}", backend=backend)
        assert pinned.count() == 25 * (iteration + 1)
    accuracy = [float(a) for a in re.findall(r"test accuracy ([\d.]+)%", printed)]
    assert len(accuracy) == 5
    assert accuracy[-1] > accuracy[0]


@pytest.mark.slow
def test_train_resume(tmp_path: Path) -> None:
    printed, _ = _run("train_resume.py", tmp_path)
    assert "killed" in printed
    assert "resumed at step 50, in epoch 1" in printed
    assert "same records in the same order: True; same weights: True" in printed


def test_every_example_is_tested() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for path in (ROOT / "examples").glob("*.py"):
        assert f'"{path.name}"' in tests, f"{path.name} has no test"
