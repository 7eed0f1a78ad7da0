"""A small space that the commands are tried on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dreamdb as vd

ROWS = 12


@pytest.fixture(scope="session")
def sample_space(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A space with a branch of two commits, a snapshot, and two branches with predictions.

    Tests that change something copy it.
    """
    path = tmp_path_factory.mktemp("cli") / "space"
    schema = (
        vd.Schema()
        .add_image("image", mime="png")
        .add_embedding("vector", dim=8)
        .add_scalar_int("label", required=True)
        .add_scalar_string("split")
        .add_scalar_timestamp("taken")
    )
    ds = vd.Dataset.create("digits", schema, path, message="first half")
    for half in (range(ROWS // 2), range(ROWS // 2, ROWS)):
        ds.append_many([_record(i) for i in half], message=f"from {half.start}")
    ds.snapshot("v1", "before the sweep", metadata={"licence": "CC0"})
    for name, shift in (("sweep/a", 0), ("sweep/b", 1)):
        branch = ds.branch(name)
        anchors = [1_000 + i for i in range(ROWS)]
        found = [(anchor, (i + shift * (i % 4 == 0)) % 3) for i, anchor in enumerate(anchors)]
        branch.add_scalar_layer("prediction", "image", "int", found)
    return str(path)


def _record(index: int) -> dict[str, object]:
    return {
        "_anchor": 1_000 + index,
        "image": b"\x89PNG\r\n\x1a\n" + bytes([index]),
        "vector": np.arange(8, dtype=np.float32) + index,
        "label": index % 3,
        "split": None if index == 5 else ("train" if index < 8 else "test"),
        "taken": np.datetime64("2026-01-01T00:00:00", "ns") + np.timedelta64(index, "ns"),
    }


@pytest.fixture
def space(sample_space: str, tmp_path: Path) -> str:
    """A copy of the sample space that a test may change."""
    import shutil

    copied = tmp_path / "space"
    shutil.copytree(sample_space, copied)
    return str(copied)
