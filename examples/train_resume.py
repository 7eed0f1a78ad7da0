"""Kill a training run in the middle of an epoch, resume it, and get the same model.

Three processes train on the same snapshot: one to the end; one that is killed (SIGKILL) between
two checkpoints; one that continues from the last checkpoint, with another number of loader
workers.  The resumed run sees exactly the records that were left, in the same order, so its weights
equal those of the run that was never interrupted, bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.utils.data

import dreamdb as vd
from dreamdb.torch import DreamDBDataset

DIM = 24
EPOCHS = 3
CHECKPOINT_EVERY = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", help="where the space goes; default: a temporary folder")
    parser.add_argument("--train", metavar="CHECKPOINT", help=argparse.SUPPRESS)
    parser.add_argument("--kill-at", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.backend, Path(options.train), options.workers, options.kill_at)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(options.backend or f"{folder}/space", Path(folder))


def compare(backend: str, folder: Path) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, DIM)).astype(np.float32)
    schema = vd.Schema().add_embedding("features", dim=DIM).add_scalar_float("target")
    ds = vd.Dataset.create("signals", schema, backend=backend)
    ds.append({"features": features, "target": features.sum(axis=1).astype(np.float64)})
    ds.snapshot("resume-baseline")

    print("one run to the end:")
    start(backend, folder / "whole")
    print("one run that is killed in its second epoch:")
    start(backend, folder / "broken", "--kill-at", "50", "--workers", "2")
    ds.append({"features": features[:50], "target": np.zeros(50)})  # the branch moves meanwhile
    print("the same run, resumed without workers:")
    start(backend, folder / "broken")

    whole, resumed = (load(folder / name) for name in ("whole", "broken"))
    same_records = whole["seen"] == resumed["seen"]
    same_weights = all(
        torch.equal(whole["model"][name], resumed["model"][name]) for name in whole["model"]
    )
    print(f"same records in the same order: {same_records}; same weights: {same_weights}")
    if not (same_records and same_weights):
        sys.exit("the resumed run differs")


def start(backend: str, checkpoint: Path, *more: str) -> None:
    sys.stdout.flush()
    command = [sys.executable, __file__, "--backend", backend, "--train", str(checkpoint), *more]
    code = subprocess.run(command).returncode
    if code == -signal.SIGKILL:
        print("  killed")
    elif code:
        sys.exit(f"training failed with status {code}")


def train(backend: str, path: Path, workers: int, kill_at: int | None) -> None:
    pinned = vd.Dataset.open_ref("resume-baseline", backend=backend)
    train_ds = DreamDBDataset(
        dataset=pinned, fields=["features", "target"], batch_size=64, shuffle_seed=7
    )
    loader = torch.utils.data.DataLoader(train_ds, batch_size=None, num_workers=workers)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(DIM, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    total_steps, seen = 0, ""
    if path.exists():
        checkpoint = load(path)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        train_ds.load_state_dict(checkpoint["stream"])
        total_steps, seen = checkpoint["total_steps"], checkpoint["seen"]
        print(f"  resumed at step {total_steps}, in epoch {train_ds.epoch}")

    for epoch in range(train_ds.epoch, EPOCHS):
        train_ds.set_epoch(epoch)
        for step, batch in enumerate(loader, 1):
            predicted = model(torch.from_numpy(batch["features"])).squeeze(1)
            wanted = torch.from_numpy(batch["target"]).float()
            loss = torch.nn.functional.mse_loss(predicted, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total_steps += 1
            # A running hash of every record the model has seen, in order.
            seen = hashlib.sha256(seen.encode() + batch["_anchor"].tobytes()).hexdigest()
            if total_steps % CHECKPOINT_EVERY == 0:
                # Workers read ahead, so the loop says how many batches it has consumed.
                save(path, model, optimizer, train_ds.state_dict(step=step), total_steps, seen)
            if kill_at is not None and total_steps == kill_at + 3:
                os.kill(os.getpid(), signal.SIGKILL)
        print(f"  epoch {epoch}: {total_steps} steps, last loss {loss.item():.4f}", flush=True)
    save(path, model, optimizer, train_ds.state_dict(step=step), total_steps, seen)


def save(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    stream: dict,
    total_steps: int,
    seen: str,
) -> None:
    """Write a checkpoint; a kill in the middle leaves the one before."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "stream": stream,
        "total_steps": total_steps,
        "seen": seen,
    }
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


if __name__ == "__main__":
    main()
