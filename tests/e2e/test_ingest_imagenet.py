"""The tutorial's ingest program: real Parquet shards, an encoder given by option."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import dreamdb as vd
from tests.e2e.programs import ROOT, run_program

pytestmark = pytest.mark.slow

PROGRAM = ROOT / "examples" / "ingest_imagenet100_clip.py"
NAMES = ["tench", "goldfish", "great white shark", "tiger shark"]
DIM = 6

# Counts the images it has seen in a file, and dies after as many as "die_after" says.
ENCODER = """
import os, pathlib
import numpy as np

HERE = pathlib.Path(__file__).parent
SEEN, DIE = HERE / "seen", HERE / "die_after"

def encode(images):
    seen = int(SEEN.read_text()) if SEEN.exists() else 0
    if DIE.exists() and seen + len(images) > int(DIE.read_text()):
        os._exit(9)
    SEEN.write_text(str(seen + len(images)))
    pixels = np.stack([np.asarray(image.resize((2, 1)), np.float64) for image in images])
    return pixels.reshape(len(images), -1)
"""


def _jpeg(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


def _write_shard(path: Path, rows: int, seed: int, *, names: list[str] | None = NAMES) -> None:
    rng = np.random.default_rng(seed)
    images = [{"bytes": _jpeg(rng), "path": f"{seed}-{i}.JPEG"} for i in range(rows)]
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            "image": pa.array(images, image),
            "label": pa.array(rng.integers(0, len(NAMES), rows), pa.int64()),
        }
    )
    features = {"label": {"names": names, "_type": "ClassLabel"}} if names else {}
    told = json.dumps({"info": {"features": features}})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": told}), path, row_group_size=10)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "imagenet"
    _write_shard(root / "data" / "train-00000-of-00002.parquet", 25, 1)
    _write_shard(root / "data" / "train-00001-of-00002.parquet", 13, 2)
    _write_shard(root / "data" / "validation-00000-of-00001.parquet", 7, 3)
    (tmp_path / "standin.py").write_text(ENCODER)
    return root


def _expected(root: Path, split: str) -> list[dict[str, object]]:
    out: list[dict[str, object]] = []
    for path in sorted(root.rglob(f"{split}-*.parquet")):
        for row, record in enumerate(pq.read_table(path).to_pylist()):
            data = record["image"]["bytes"]
            picture = Image.open(io.BytesIO(data)).convert("RGB").resize((2, 1))
            out.append(
                {
                    "image": data,
                    "embedding": np.asarray(picture, np.float32).reshape(-1).tolist(),
                    "label": NAMES[record["label"]],
                    "split": split,
                    "source": f"{path.name}:{row}",
                }
            )
    return out


def _run(corpus: Path, *more: str, expect: int | None = 0) -> str:
    folder = corpus.parent
    command = [PROGRAM, "--root", corpus, "--backend", folder / "space"]
    command += ["--encoder", "standin:encode", "--batch-size", "4", *more]
    paths = {"PYTHONPATH": f"{ROOT}:{folder}"}
    done = run_program(command, folder=folder, environment=paths, expect=expect)
    return done.stdout + done.stderr


def _stored(corpus: Path) -> list[dict[str, object]]:
    ds = vd.Dataset.open_ref("imagenet-100", backend=corpus.parent / "space")
    return ds.scan().to_arrow().drop_columns(["_anchor"]).to_pylist()


def _images_encoded(corpus: Path) -> int:
    return int((corpus.parent / "seen").read_text())


def test_an_interrupted_ingest_continues_and_encodes_nothing_twice(corpus: Path) -> None:
    everything = _expected(corpus, "train") + _expected(corpus, "validation")
    die_after = corpus.parent / "die_after"
    die_after.write_text("17")
    _run(corpus, "--splits", "train,validation", expect=9)
    first = _stored(corpus)
    assert 0 < len(first) <= 17
    assert first == everything[: len(first)]

    die_after.unlink()
    assert f"{len(everything) - len(first)} records added" in _run(corpus)
    assert _stored(corpus) == everything
    assert _images_encoded(corpus) == len(everything)

    # A third run finds everything stored, so the encoder is not even loaded.
    (corpus.parent / "standin.py").unlink()
    assert "0 records added, 45 in all" in _run(corpus)
    assert _stored(corpus) == everything


def test_limit_and_splits_choose_the_first_records_of_each_split(corpus: Path) -> None:
    _run(corpus, "--splits", "validation,train", "--limit", "5")
    assert _stored(corpus) == _expected(corpus, "validation")[:5] + _expected(corpus, "train")[:5]
    _run(corpus, "--splits", "train", "--limit", "12")
    sources = {str(record["source"]) for record in _stored(corpus)}
    assert len(sources) == 17


def test_class_names_come_from_a_file_when_metadata_has_none(tmp_path: Path) -> None:
    root = tmp_path / "imagenet"
    _write_shard(root / "train-00000-of-00001.parquet", 9, 4, names=None)
    (tmp_path / "standin.py").write_text(ENCODER)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n")
    _run(root, "--splits", "train", "--classes", str(tmp_path / "classes.txt"))
    assert _stored(root) == _expected(root, "train")


def test_ivf_and_rabitq_as_in_the_tutorial(corpus: Path) -> None:
    _run(corpus, "--splits", "train,validation", "--ivf", "--rabitq")
    ds = vd.Dataset.open_ref("imagenet-100", backend=corpus.parent / "space")
    assert str(ds.schema["embedding"].type) == f"embedding[{DIM}] as rabitq-4"
    stored = _stored(corpus)
    wanted = _expected(corpus, "train") + _expected(corpus, "validation")
    for name in ("image", "label", "split", "source"):
        assert [r[name] for r in stored] == [r[name] for r in wanted]
    x = np.array([r["embedding"] for r in stored])
    y = np.array([r["embedding"] for r in wanted])
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert cosine.mean() > 0.99
    (info,) = ds.index.info()
    assert (info.kind, info.cells, info.codec) == ("ivf", 4, "rabitq-1")
    assert info.indexed + info.unindexed == len(wanted)
    (best,) = ds.search("embedding", y[20], k=1, fields=["source"])["source"].to_pylist()
    assert best == wanted[20]["source"]
    # Again: nothing is encoded twice, and what comes later is stored in the same way.
    assert "0 records added, 45 in all" in _run(corpus, "--ivf", "--rabitq")


def test_rerank_keeps_exact_vectors(corpus: Path) -> None:
    assert "--rerank goes with --rabitq" in _run(corpus, "--rerank", expect=2)
    assert not (corpus.parent / "space").exists()
    _run(corpus, "--splits", "train", "--rabitq", "--bits", "8", "--rerank")
    assert _stored(corpus) == _expected(corpus, "train")
    ds = vd.Dataset.open_ref("imagenet-100", backend=corpus.parent / "space")
    (info,) = ds.index.info()
    assert (info.kind, info.codec) == ("flat", "rabitq-8")


def test_mistakes_are_named(corpus: Path) -> None:
    assert "no shards of the split 'tset'" in _run(corpus, "--splits", "tset", expect=3)
    assert "importable" in _run(corpus, "--encoder", "standin:missing", expect=2)

    path = corpus / "data" / "train-00001-of-00002.parquet"
    table = pq.read_table(path)
    records = table.to_pylist()
    records[6]["image"]["bytes"] = b"not a jpeg"
    pq.write_table(pa.Table.from_pylist(records, table.schema), path)
    assert "train-00001-of-00002.parquet:6 cannot be decoded" in _run(corpus, expect=2)
    # What was committed before stays, whole batches only.
    stored = _stored(corpus)
    assert [r["source"] for r in stored][-1] == "train-00001-of-00002.parquet:3"


def test_clip_is_asked_for_by_name_when_it_is_missing(corpus: Path) -> None:
    folder = corpus.parent
    (folder / "open_clip.py").write_text("raise ImportError('no module named open_clip')\n")
    command = [PROGRAM, "--root", corpus, "--backend", folder / "space"]
    paths = {"PYTHONPATH": f"{ROOT}:{folder}"}
    done = run_program(command, folder=folder, environment=paths, expect=None)
    assert done.returncode == vd.MissingDependencyError.exit_code
    assert "pip install open_clip_torch" in done.stderr
