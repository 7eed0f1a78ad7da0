"""The demo on real data, and every command that it prints."""

from __future__ import annotations

import importlib.util
import io
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import dreamdb as vd
from tests.e2e.programs import ROOT, run_command, run_program

pytestmark = pytest.mark.slow

DEMO = ROOT / "examples" / "demo.py"
RUNS = [f"sweep/lp-lr{lr}-bs{bs}" for bs in (128, 512) for lr in (0.001, 0.01, 0.1)]


@dataclass(frozen=True)
class Demo:
    """One run of the demo."""

    folder: Path
    printed: str

    @property
    def backend(self) -> str:
        return str(self.folder / "demo-space")

    @property
    def commands(self) -> list[str]:
        part = self.printed.split("Try it yourself\n")[1].split("\n\n")[0]
        return [line.strip() for line in part.splitlines()]

    @property
    def winner(self) -> str:
        (label,) = set(re.findall(r"snapshot (prod-\d{4}-\d\d-\d\d-[0-9a-f]{8})", self.printed))
        return label


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    return Demo(folder, run_program([DEMO, "--epochs", "4"], folder=folder).stdout)


def test_it_ingests_the_digits_as_they_are(demo: Demo) -> None:
    digits = load_digits()
    table = vd.Dataset.open_ref("sweep-baseline", backend=demo.backend).scan().to_arrow()
    assert table.num_rows == len(digits.images) == 1797
    assert table.column("label").to_pylist() == [str(t) for t in digits.target]
    for data, pixels in zip(table.column("image").to_pylist(), digits.images, strict=True):
        picture = np.asarray(Image.open(io.BytesIO(data)))
        assert np.array_equal(np.round(picture * (16 / 255)), pixels)
    assert set(table.column("split").to_pylist()) == {"train", "validation"}


def test_the_printed_accuracies_are_those_of_the_stored_predictions(demo: Demo) -> None:
    accuracies = {}
    for ref in RUNS:
        rows = vd.Dataset.open_ref(ref, backend=demo.backend).scan(["label", "split", "prediction"])
        judged = [r for r in rows.to_arrow().to_pylist() if r["split"] == "validation"]
        assert all(r["prediction"] is not None for r in judged)
        accuracies[ref] = np.mean([r["prediction"] == r["label"] for r in judged])
    printed = dict(re.findall(r"^  (sweep/\S+) +(\d+\.\d)%", demo.printed, re.MULTILINE))
    assert printed == {ref: f"{100 * accuracy:.1f}" for ref, accuracy in accuracies.items()}
    # The runs learn something, and not all the same.
    assert max(accuracies.values()) > 0.85
    assert len(set(accuracies.values())) > 1
    best = max(accuracies, key=lambda ref: accuracies[ref])
    assert f"{best} wins" in demo.printed


def test_the_printed_matrix_is_the_agreement_of_the_branches(demo: Demo) -> None:
    agreement = vd.compare_refs(RUNS, ["prediction"], demo.backend).agreement().to_pylist()
    for index, row in enumerate(agreement):
        cells = " ".join(f"{row[ref]:.2f}" for ref in RUNS)
        line = next(x for x in demo.printed.splitlines() if x.startswith(f"  [{index}] "))
        assert " ".join(line.split()[2:]) == cells


def test_a_run_adds_little_to_the_corpus(demo: Demo) -> None:
    corpus = int(re.findall(r"the corpus takes ([\d,]+) bytes", demo.printed)[0].replace(",", ""))
    added = re.findall(r"^  sweep/\S+ +\d+\.\d% +[\d.]+ +([\d,]+)$", demo.printed, re.MULTILINE)
    assert len(added) == len(RUNS)
    assert sum(int(nbytes.replace(",", "")) for nbytes in added) < corpus // 10


def test_the_snapshots_stay_while_the_corpus_grows(demo: Demo) -> None:
    assert "the pinned snapshot did not move" in demo.printed
    for name, rows in (("digits", 2097), ("sweep-baseline", 1797), (demo.winner, 1797)):
        assert vd.Dataset.open_ref(name, backend=demo.backend).count() == rows
    (info,) = vd.connect(demo.backend).refs(demo.winner)
    baseline = vd.Dataset.open_ref("sweep-baseline", backend=demo.backend)
    assert info.kind == "snapshot"
    assert info.metadata["trained_on"] == baseline.current_manifest()
    assert info.metadata["model_sha256"].startswith(demo.winner.rsplit("-", 1)[1])
    assert vd.connect(demo.backend).verify().ok


def test_every_printed_command_works(demo: Demo) -> None:
    assert len(demo.commands) >= 6
    shown = {}
    for command in demo.commands:
        words = shlex.split(command)
        shown[words[words.index("demo-space") + 1]] = run_command(words, folder=demo.folder).stdout
    assert all(ref in shown["refs"] for ref in ("digits", "sweep-baseline", demo.winner, *RUNS))
    assert "jittered digits" in shown["log"]
    assert all(ref in shown["compare-refs"] for ref in RUNS)
    assert "1,797" in shown["inspect"]
    assert shown["inspect"].splitlines()[0] in demo.printed


# ------------------------------------------------------------------ what it deletes, and what not


@pytest.fixture(scope="module")
def start_anew() -> Callable[[Path], None]:
    spec = importlib.util.spec_from_file_location("demo_program", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[Path], None] = module.start_anew
    return found


def _space(path: Path, name: str, metadata: dict[str, str] | None) -> None:
    schema = vd.Schema().add_scalar_int("x")
    vd.Dataset.create(name, schema, backend=path, metadata=metadata)


def test_a_space_of_an_earlier_run_is_replaced(
    tmp_path: Path, start_anew: Callable[[Path], None]
) -> None:
    _space(tmp_path / "old", "digits", {"made_by": "examples/demo.py"})
    start_anew(tmp_path / "old")
    assert not (tmp_path / "old").exists()
    start_anew(tmp_path / "old")


@pytest.mark.parametrize(
    "case", ["files", "other space", "same name", "more files", "link", "file"]
)
def test_anything_else_is_left_alone(
    tmp_path: Path, start_anew: Callable[[Path], None], case: str
) -> None:
    path = tmp_path / "target"
    if case == "files":
        path.mkdir()
        (path / "thesis.tex").write_text("years of work")
    elif case == "other space":
        _space(path, "valuable", None)
    elif case == "same name":
        _space(path, "digits", None)
    elif case == "more files":
        _space(path, "digits", {"made_by": "examples/demo.py"})
        (path / "notes.txt").write_text("mine")
    elif case == "link":
        _space(tmp_path / "real", "digits", {"made_by": "examples/demo.py"})
        path.symlink_to(tmp_path / "real")
    else:
        path.write_text("a file")
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    with pytest.raises(SystemExit, match="left alone"):
        start_anew(path)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
