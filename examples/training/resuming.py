"""What the three training programs share: train, be killed, resume, and show the same result.

The same stream is trained on three times: to the end; in another process with two workers, which is
killed (SIGKILL) between two checkpoints; and from its last checkpoint on, without workers.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dreamdb.training import BatchStream, read_receipt

STEPS = 12
KILL_AT = 8
CHECKPOINT_EVERY = 3


@dataclass(frozen=True)
class Program:
    """One training program.

    ``prepare`` makes the data, ``stream`` the batches, ``model`` and ``loss`` what learns.
    """

    file: str
    prepare: Callable[[str], None]
    stream: Callable[[str], BatchStream]
    model: Callable[[], torch.nn.Module]
    loss: Callable[[torch.nn.Module, dict[str, Any]], torch.Tensor]


def main(program: Program) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", help="where the space goes; default: a temporary folder")
    parser.add_argument("--train", metavar="CHECKPOINT", help=argparse.SUPPRESS)
    parser.add_argument("--kill-at", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(program, options.backend, Path(options.train), options.workers, options.kill_at)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(program, options.backend or f"{folder}/space", Path(folder))


def compare(program: Program, backend: str, folder: Path) -> None:
    program.prepare(backend)
    stream = program.stream(backend)
    print(stream.explain(analyze=True, steps=2), end="\n\n")
    print("one run to the end:")
    train(program, backend, folder / "whole", 0, None)
    print("one run in a process that is killed:")
    start(program, backend, folder / "broken")
    print("the same run, resumed without workers:")
    train(program, backend, folder / "broken", 0, None)

    whole, resumed = (load(folder / name) for name in ("whole", "broken"))
    same_batches = whole["seen"] == resumed["seen"]
    same_weights = all(
        torch.equal(whole["model"][name], resumed["model"][name]) for name in whole["model"]
    )
    print(f"same batches in the same order: {same_batches}; same weights: {same_weights}")

    receipt = read_receipt("whole-run", backend)
    seen = ""
    for made in receipt.replay(stream):
        seen = digest(seen, {name: as_tensor(value) for name, value in made.fields.items()})
    print(f"replayed from its receipt, {receipt.steps} steps: {seen == whole['seen']}")
    if not (same_batches and same_weights and seen == whole["seen"]):
        sys.exit("the resumed run differs")


def start(program: Program, backend: str, checkpoint: Path) -> None:
    sys.stdout.flush()
    command = [sys.executable, program.file, "--backend", backend, "--train", str(checkpoint)]
    command += ["--kill-at", str(KILL_AT), "--workers", "2"]
    # A process group of its own, so that its workers die with it.
    code = subprocess.run(command, start_new_session=True).returncode
    if code != -signal.SIGKILL:
        sys.exit(f"training ended with status {code}, and was not killed")
    print("  killed")


def train(program: Program, backend: str, path: Path, workers: int, kill_at: int | None) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # sums in one order: the weights can be compared bit by bit
    loader = program.stream(backend).to_torch(prefetch=2, num_workers=workers)
    model = program.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    total_steps, seen = 0, ""
    if path.exists():
        checkpoint = load(path)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        loader.load_state_dict(checkpoint["stream"])
        total_steps, seen = checkpoint["total_steps"], checkpoint["seen"]
        print(f"  resumed at step {total_steps}: step {loader.step} of epoch {loader.epoch}")

    while total_steps < STEPS:
        for batch in loader:
            loss = program.loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total_steps += 1
            seen = digest(seen, batch)
            if total_steps % CHECKPOINT_EVERY == 0 or total_steps == STEPS:
                save(path, model, optimizer, loader.state_dict(), total_steps, seen)
            if kill_at is not None and total_steps == kill_at:
                # With its workers, as a machine that loses power.
                os.killpg(os.getpgrp(), signal.SIGKILL)
            if total_steps == STEPS:
                break
    print(
        f"  {total_steps} steps, in epoch {loader.epoch}, last loss {loss.item():.4f}", flush=True
    )
    if path.name == "whole":
        loader.receipt("whole-run", message="the run that was not interrupted")


def digest(seen: str, batch: dict[str, Any]) -> str:
    """Continue a running hash of everything the model has seen, in order."""
    running = hashlib.sha256(seen.encode())
    for name, value in sorted(batch.items()):
        running.update(name.encode())
        data = value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode()
        running.update(data)
    return running.hexdigest()


def as_tensor(value: Any) -> Any:
    return value if isinstance(value, list) else torch.from_numpy(value.copy())


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
