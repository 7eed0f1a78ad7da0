"""The whole workflow on real data: 1,797 handwritten digits, six training runs, one winner.

Run ``make demo``, or ``python examples/demo.py --backend PATH``.  Everything that is printed is
measured in this run.  The space stays behind, for the commands printed at the end.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import io
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from tqdm import tqdm

import dreamdb as vd
from dreamdb.torch import DreamDBDataset

DIM = 32
CLASSES = [str(digit) for digit in range(10)]
SWEEP_CONFIGS = [
    {"lr": 0.001, "batch_size": 128},
    {"lr": 0.01, "batch_size": 128},
    {"lr": 0.1, "batch_size": 128},
    {"lr": 0.001, "batch_size": 512},
    {"lr": 0.01, "batch_size": 512},
    {"lr": 0.1, "batch_size": 512},
]
MARK = {"made_by": "examples/demo.py"}
PARTS_OF_A_SPACE = {"space.json", "objects", "refs", "logs", "locks", "tmp"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="demo-space", help="a directory for the space")
    parser.add_argument("--epochs", type=int, default=12, help="passes over the data per run")
    options = parser.parse_args()
    started = time.perf_counter()
    backend = options.backend
    start_anew(Path(backend))

    step("1. Ingest scikit-learn's digits: PNG, embedding, label, split")
    ds, embed = ingest(backend)
    print(ds)

    step("2. Snapshot: a name that never moves")
    snap = ds.snapshot("sweep-baseline", message="what the sweep trains on")
    print(f"{snap['label']} -> manifest {snap['manifest']}")

    step(f"3. Sweep: {len(SWEEP_CONFIGS)} linear probes, one branch each")
    runs = sweep(ds, snap, backend, options.epochs)

    step("4. Compare: every run's predictions side by side, joined by anchor")
    run_refs = [run["ref"] for run in runs]
    table = vd.compare_refs(refs=run_refs, fields=["prediction"], backend=backend)
    print(f"{table.num_rows:,} records x {len(run_refs)} runs; share of equal predictions:")
    show_agreement(table.agreement())

    step("5. Tag the winner")
    winner = max(runs, key=lambda run: run["accuracy"])
    label = tag(winner, snap, backend)

    step("6. The corpus grows; the snapshots stay")
    append_jittered(ds, embed, backend, snap, label)

    step(f"7. Months later: what data trained this model?  dreamdb-cli inspect {label}")
    inspect(backend, label)

    step("8. Try it yourself")
    for command in commands(backend, run_refs, winner["ref"], label):
        print(f"  {command}")
    print(f"\nDone in {time.perf_counter() - started:.1f} s.  The space is {backend}.")


def step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def start_anew(path: Path) -> None:
    """Remove the space of an earlier run; refuse to touch anything else."""
    if "://" in str(path):
        sys.exit(f"demo: --backend is a directory here, not a URL: {path}")
    if not path.exists() and not path.is_symlink():
        return
    refusal = f"demo: {path} is not a space that this demo made; it is left alone. Use --backend."
    if path.is_symlink() or not path.is_dir():
        sys.exit(refusal)
    found = {entry.name for entry in path.iterdir()}
    if not found:
        return
    if "space.json" not in found or not found <= PARTS_OF_A_SPACE:
        sys.exit(refusal)
    try:
        refs = vd.connect(path).list_refs()
        mine = not refs or vd.Dataset.open_ref("digits", backend=path).metadata == MARK
    except vd.DreamDBError:
        sys.exit(refusal)
    if not mine:
        sys.exit(refusal)
    print(f"removing the space of an earlier run: {path}")
    shutil.rmtree(path)


# ------------------------------------------------------------------------------ the data


def to_png(pixels: np.ndarray) -> bytes:
    """Encode one digit, 8 x 8 values from 0 to 16, as a grey PNG."""
    file = io.BytesIO()
    Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def from_png(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)), np.float32) * (16 / 255)


class PixelComponents:
    """The embedding: the first 32 principal components of the 64 pixels, at unit scale.

    It is fitted on the training part only.
    """

    def __init__(self, images: np.ndarray) -> None:
        pixels = images.reshape(-1, 64)
        self._pca = PCA(DIM, random_state=0).fit(pixels)
        self._scale = self._pca.transform(pixels).std()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        scaled = self._pca.transform(images.reshape(-1, 64)) / self._scale
        return scaled.astype(np.float32)


def ingest(backend: str) -> tuple[vd.Dataset, PixelComponents]:
    digits = load_digits()
    train = np.random.default_rng(0).random(len(digits.images)) < 0.8
    embed = PixelComponents(digits.images[train])
    schema = (
        vd.Schema()
        .add_image("image", mime="png", required=True)
        .add_embedding("embedding", dim=DIM, required=True)
        .add_scalar_categorical("label", required=True)
        .add_scalar_categorical("split", required=True)
    )
    ds = vd.Dataset.create("digits", schema, backend=backend, metadata=MARK)
    records = [
        {
            "image": to_png(pixels),
            "embedding": embedding,
            "label": str(target),
            "split": "train" if in_train else "validation",
        }
        for pixels, embedding, target, in_train in tqdm(
            zip(digits.images, embed(digits.images), digits.target, train, strict=True),
            total=len(digits.images),
            desc="encoding",
            disable=None,
        )
    ]
    began = time.perf_counter()
    ds.append_many(records, message="scikit-learn digits")
    spent = time.perf_counter() - began
    print(f"{len(records):,} records committed in {spent * 1000:.0f} ms")
    print(f"embedding: the first {DIM} principal components of the pixels, scaled")
    return ds, embed


# ------------------------------------------------------------------------------ the sweep


def train_probe(pinned: vd.Dataset, config: dict, epochs: int, title: str) -> torch.nn.Linear:
    """Train a linear probe on the stored embeddings of the training part."""
    torch.manual_seed(0)
    probe = torch.nn.Linear(DIM, len(CLASSES))
    optimizer = torch.optim.Adam(probe.parameters(), lr=config["lr"])
    train_ds = DreamDBDataset(
        dataset=pinned,
        fields=["embedding", "label"],
        batch_size=config["batch_size"],
        shuffle_seed=42,
        where="split = 'train'",
    )
    loader = torch.utils.data.DataLoader(train_ds, batch_size=None, num_workers=0)
    label_to_idx = {label: index for index, label in enumerate(CLASSES)}
    for epoch in tqdm(range(epochs), desc=title, disable=None, leave=False):
        train_ds.set_epoch(epoch)
        for batch in loader:
            embs = torch.from_numpy(batch["embedding"])
            labels = torch.tensor([label_to_idx[label] for label in batch["label"]])
            loss = torch.nn.functional.cross_entropy(probe(embs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return probe


def predict(pinned: vd.Dataset, probe: torch.nn.Linear) -> list[tuple[int, str]]:
    """Return (anchor, predicted label) for every record."""
    predictions: list[tuple[int, str]] = []
    for batch in pinned.iter_arrow_batches(batch_size=1024, fields=["embedding"]):
        embs = batch.column("embedding").values.to_numpy().reshape(batch.num_rows, DIM)
        with torch.no_grad():
            best = probe(torch.tensor(embs)).argmax(1).tolist()
        anchors = batch.column("_anchor").to_pylist()
        predictions += [(a, CLASSES[i]) for a, i in zip(anchors, best, strict=True)]
    return predictions


def sweep(ds: vd.Dataset, snap: dict, backend: str, epochs: int) -> list[dict]:
    pinned = vd.Dataset.open_at(snap, backend=backend)
    base = stored_nbytes(backend)
    print(f"the corpus takes {base:,} bytes; each run adds a branch and one layer of predictions")
    print(f"  {'branch':<24} {'validation':>10} {'seconds':>8} {'bytes added':>12}")
    runs = []
    for config in SWEEP_CONFIGS:
        ref = f"sweep/lp-lr{config['lr']}-bs{config['batch_size']}"
        began = time.perf_counter()
        before = stored_nbytes(backend)
        branch = ds.branch(ref)
        probe = train_probe(pinned, config, epochs, ref)
        predictions = predict(pinned, probe)
        branch.add_scalar_layer("prediction", "embedding", "categorical", predictions)
        accuracy = validation_accuracy(branch)
        added = stored_nbytes(backend) - before
        spent = time.perf_counter() - began
        print(f"  {ref:<24} {accuracy:>10.1%} {spent:>8.2f} {added:>12,}", flush=True)
        runs.append({"ref": ref, "accuracy": accuracy, "probe": probe, "added": added})
    total = sum(run["added"] for run in runs)
    print(f"{len(runs)} runs added {total:,} bytes: {total / base:.1%} of the corpus; no image")
    print("and no vector was copied")
    return runs


def validation_accuracy(branch: vd.Dataset) -> float:
    right = branch.scan([], where="split = 'validation' AND prediction = label").count()
    return right / branch.scan([], where="split = 'validation'").count()


def stored_nbytes(backend: str) -> int:
    """Return the bytes of all files of the space."""
    return sum(p.stat().st_size for p in Path(backend).rglob("*") if p.is_file())


def show_agreement(agreement: pa.Table) -> None:
    rows = agreement.to_pylist()
    width = max(len(row["ref"]) for row in rows)
    print(" " * (width + 6) + "".join(f"{f'[{i}]':>6}" for i in range(len(rows))))
    for index, row in enumerate(rows):
        cells = "".join(f"{share:>6.2f}" for name, share in row.items() if name != "ref")
        print(f"  [{index}] {row['ref']:<{width}}{cells}")


# --------------------------------------------------------------------- the winner, and after


def tag(winner: dict, snap: dict, backend: str) -> str:
    """Snapshot the winning branch under the model's identity."""
    weights = b"".join(p.detach().numpy().tobytes() for p in winner["probe"].parameters())
    digest = hashlib.sha256(weights).hexdigest()
    label = f"prod-{datetime.date.today().isoformat()}-{digest[:8]}"
    branch = vd.Dataset.open_ref(winner["ref"], backend=backend)
    branch.snapshot(
        label,
        message=f"winner of the sweep: {winner['ref']}",
        metadata={
            "model_sha256": digest,
            "trained_on": snap["manifest"],
            "validation_accuracy": f"{winner['accuracy']:.4f}",
        },
    )
    print(f"{winner['ref']} wins with {winner['accuracy']:.1%} on the validation part")
    print(f"snapshot {label}: the data, its predictions, and the hash of the weights")
    return label


def jitter(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift a digit by up to one pixel and add a little noise."""
    shifted = np.roll(pixels, rng.integers(-1, 2, size=2), axis=(0, 1))
    return np.clip(shifted + rng.normal(0, 0.5, pixels.shape), 0, 16)


def append_jittered(
    ds: vd.Dataset, embed: PixelComponents, backend: str, snap: dict, label: str
) -> None:
    rng = np.random.default_rng(1)
    before = vd.Dataset.open_ref(snap["label"], backend=backend)
    chosen = ds.scan(["image", "label"], where="split = 'train'", limit=300).to_arrow()
    images = [from_png(data) for data in chosen.column("image").to_pylist()]
    new = np.stack([jitter(pixels, rng) for pixels in images])
    added = ds.append_many(
        [
            {"image": to_png(p), "embedding": e, "label": target, "split": "train"}
            for p, e, target in zip(new, embed(new), chosen["label"].to_pylist(), strict=True)
        ],
        message="jittered digits",
    )
    print(f"appended {added:,} jittered digits to the branch 'digits'")
    after = vd.Dataset.open_ref(snap["label"], backend=backend)
    for handle in (ds, after, vd.Dataset.open_ref(label, backend=backend)):
        manifest = handle.current_manifest()
        print(f"  {handle.name:<24} {handle.count():>6,} records, manifest {manifest[:16]}...")
    same = before.current_manifest() == after.current_manifest() == snap["manifest"]
    if not same or before.scan().to_arrow() != after.scan().to_arrow():
        sys.exit("demo: the pinned snapshot moved; this is a defect of dreamdb")
    print("the pinned snapshot did not move: same manifest, same bytes in every record")


def cli() -> list[str]:
    """Return how the command line is called from here."""
    if shutil.which("dreamdb-cli"):
        return ["dreamdb-cli"]
    beside = Path(sys.executable).parent / "dreamdb-cli"
    if beside.exists():
        return [near(beside)]
    return [near(Path(sys.executable)), "-m", "dreamdb"]


def near(path: Path) -> str:
    """Return a path from the current folder when it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def quoted(argument: str) -> str:
    """Quote for a shell; double quotes where single ones would need escapes."""
    return f'"{argument}"' if "'" in argument else shlex.quote(argument)


def inspect(backend: str, label: str) -> None:
    sys.stdout.flush()
    subprocess.run([*cli(), "-b", backend, "inspect", label], check=True)


def commands(backend: str, run_refs: list[str], best: str, label: str) -> list[str]:
    """Return command lines that work on the space."""
    start = [*cli(), "-b", backend]
    return [
        " ".join(quoted(argument) for argument in [*start, *arguments])
        for arguments in (
            ["refs"],
            ["log", "digits", "--graph"],
            ["inspect", "--ref-name", label],
            ["compare-refs", *run_refs, "--field", "prediction"],
            ["query", best, "prediction <> label AND split = 'validation'"],
            ["head", "digits"],
            ["stats", "digits"],
            ["verify"],
        )
    ]


if __name__ == "__main__":
    main()
