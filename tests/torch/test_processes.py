"""Workers that die leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.torch import DreamDBDataset
from tests.torch.data import loader, make

SHARED = Path("/dev/shm")
KILLED = """
import os, signal, sys
import torch.utils.data
import dreamdb as vd
from dreamdb.torch import DreamDBDataset

train = DreamDBDataset(vd.Dataset.open_ref("main", sys.argv[1]), batch_size=256, shuffle_seed=1)
loader = torch.utils.data.DataLoader(
    train, batch_size=None, num_workers=2, multiprocessing_context="fork", prefetch_factor=4
)
batches = iter(loader)
next(batches), next(batches)
pids = [worker.pid for worker in batches._workers]
sys.stdout.write(" ".join(map(str, [os.getpid(), *pids])) + "\\n")
sys.stdout.flush()
if sys.argv[2] == "worker":
    os.kill(pids[1], signal.SIGKILL)
    try:
        list(batches)
    except (RuntimeError, OSError, EOFError) as error:
        sys.stdout.write("it says so: " + repr(error))
else:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("space")
    ds = vd.Dataset.create("main", vd.Schema().add_embedding("v", 256), backend=where)
    ds.append({"v": np.zeros((6_000, 256), np.float32)})
    return where


@pytest.mark.parametrize("victim", ["worker", "everything"])
def test_kill_leaves_no_shared_memory(space: Path, victim: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(space), victim],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    first, _, rest = done.stdout.partition("\n")
    pids = first.split()
    assert len(pids) == 3, done.stderr
    if victim == "worker":
        assert (done.returncode, "it says so" in rest) == (0, True), done.stderr + rest
    else:
        assert done.returncode == -signal.SIGKILL
    # Where shared memory has no directory, it has no names that could be left behind.
    names = os.listdir(SHARED) if SHARED.is_dir() else []
    left = [name for name in names if any(pid in name for pid in pids)]
    assert left == []


def test_abandoned_passes_leave_no_threads_and_no_descriptors(tmp_path: Path) -> None:
    train = DreamDBDataset(make(tmp_path, 300), batch_size=8, shuffle_seed=1)
    next(iter(train))

    def held() -> tuple[int, int]:
        threads = [t for t in threading.enumerate() if t.name.startswith("dreamdb-ahead")]
        return len(threads), len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc") else 0

    before = held()
    assert before[0] == 0
    for source in (train, loader(train), loader(train, 2)):
        for _ in range(3):
            batches = iter(source)
            next(batches)
            next(batches)
            del batches
    after = held()
    assert after[0] == 0
    assert after[1] <= before[1] + 4  # torch keeps a few for itself


def test_a_fork_while_a_pass_is_under_way(tmp_path: Path) -> None:
    """Workers start while this process has a reading thread and warm caches."""
    train = DreamDBDataset(make(tmp_path, 300), batch_size=8, shuffle_seed=1)
    wanted = [batch["label"].tolist() for batch in train]
    under_way = iter(train)
    next(under_way)
    assert [batch["label"].tolist() for batch in loader(train, 2)] == wanted
    assert [batch["label"].tolist() for batch in under_way] == wanted[1:]
