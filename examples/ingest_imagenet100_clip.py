"""Ingest ImageNet-100's Parquet shards with CLIP embeddings; run it again to continue.

    python examples/ingest_imagenet100_clip.py --root /path/to/imagenet-100 \
        --backend /path/to/space --dataset-name imagenet-100 --splits train,validation

The shards have Hugging Face's layout: ``<split>-*.parquet`` under --root or --root/data, with the
columns ``image: struct<bytes, path>`` and ``label: int``; class names come from the Parquet
metadata or from --classes.  Each record keeps where it came from in the field ``source``, and what
is stored already is neither read nor encoded again.

--rabitq stores the embeddings as RaBitQ codes instead of exactly; with --rerank the exact vectors
stay, and the codes serve searches.  --ivf trains centroids on the first batch and indexes every
batch as it comes.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

import dreamdb as vd

Encoder = Callable[[list[Image.Image]], np.ndarray]


def main() -> None:
    parser = build_parser()
    options = parser.parse_args()
    if options.rerank and not options.rabitq:
        parser.error("--rerank goes with --rabitq")
    if options.batch_size < 1 or (options.limit is not None and options.limit < 1):
        parser.error("--batch-size and --limit must be positive")
    try:
        ingest(options)
    except vd.DreamDBError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        print(f"error: {error}{hint}", file=sys.stderr)
        sys.exit(error.exit_code)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the Parquet shards")
    parser.add_argument("--backend", required=True, help="the space: a path or a URL")
    parser.add_argument("--dataset-name", default="imagenet-100", help="the branch to write")
    parser.add_argument("--splits", default="train,validation", help="separated by commas")
    parser.add_argument("--classes", type=Path, help="a text file, one class name per line")
    parser.add_argument("--model", default="ViT-B-32", help="open_clip's name of the model")
    parser.add_argument("--pretrained", default="laion2b_s34b_b79k", help="its weights")
    parser.add_argument("--device", default="cpu", help="where torch runs the model")
    parser.add_argument(
        "--encoder",
        metavar="MODULE:FUNCTION",
        help="encode with this function instead of CLIP: a list of PIL images -> (n, dim) array",
    )
    parser.add_argument("--batch-size", type=int, default=256, help="records per commit")
    parser.add_argument("--limit", type=int, help="at most so many records of each split")
    parser.add_argument("--ivf", action="store_true", help="index the embeddings as they come")
    parser.add_argument("--cells", type=int, default=256, help="cells of the index, at most")
    parser.add_argument("--rabitq", action="store_true", help="store the embeddings as codes")
    parser.add_argument("--bits", type=int, default=4, choices=(1, 2, 4, 8), help="per dimension")
    parser.add_argument("--rerank", action="store_true", help="with --rabitq: keep exact vectors")
    parser.add_argument("--seed", type=int, default=0, help="of centroids and codes")
    return parser


def ingest(options: argparse.Namespace) -> None:
    splits = [name.strip() for name in options.splits.split(",") if name.strip()]
    shards = [shard for split in splits for shard in find_shards(options.root, split)]
    given = options.classes.read_text().splitlines() if options.classes else None
    ds = open_existing(options.dataset_name, options.backend)
    stored = ds["source"] if ds is not None else pa.chunked_array([], pa.string())
    encode: Encoder | None = None
    added = 0
    with tqdm(total=count_rows(shards, options.limit), unit="img", disable=None) as progress:
        left = dict.fromkeys(splits, options.limit)
        for shard in shards:
            names = given or class_names(shard.path)
            for batch in shard.batches(options.batch_size, stored, left, progress):
                # The model is loaded when the first image needs it: a complete data set needs none.
                encode = encode or load_encoder(options)
                table = to_records(shard, batch, names, encode)
                if ds is None:
                    ds = create(options, table)
                added += ds.append(table, message=f"{shard.path.name}, {table.num_rows} images")
                progress.update(table.num_rows)
    total = ds.count() if ds is not None else 0
    print(f"{options.dataset_name}: {added:,} records added, {total:,} in all")


# ------------------------------------------------------------------------------ the source


@dataclass(frozen=True)
class Batch:
    """Rows of a shard that are not stored yet."""

    sources: list[str]
    images: list[bytes]
    labels: list[int]


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a split."""

    path: Path
    split: str

    def batches(
        self, batch_size: int, stored: pa.ChunkedArray, left: dict, progress: tqdm
    ) -> Iterator[Batch]:
        """Yield the rows that are not stored; row groups that are stored whole are not read."""
        file = pq.ParquetFile(self.path)
        start = 0
        for group in range(file.num_row_groups):
            sources = self._sources(start, file.metadata.row_group(group).num_rows)
            start += len(sources)
            if left[self.split] is not None:
                sources = sources[: left[self.split]]
                left[self.split] -= len(sources)
            missing = pc.invert(pc.is_in(pa.array(sources, pa.string()), value_set=stored))
            progress.update(len(sources) - (missing.true_count))
            if missing.true_count:
                yield from self._read(file, group, batch_size, sources, missing)

    def _sources(self, start: int, count: int) -> list[str]:
        return [f"{self.path.name}:{row}" for row in range(start, start + count)]

    def _read(
        self,
        file: pq.ParquetFile,
        group: int,
        batch_size: int,
        sources: list[str],
        missing: pa.BooleanArray,
    ) -> Iterator[Batch]:
        start = 0
        for rows in file.iter_batches(batch_size, row_groups=[group], columns=["image", "label"]):
            stop = min(start + rows.num_rows, len(sources))
            keep = [i for i in range(start, stop) if missing[i].as_py()]
            if keep:
                part = rows.take(pa.array([i - start for i in keep]))
                images = pc.struct_field(part.column("image"), "bytes").to_pylist()
                labels = part.column("label").to_pylist()
                yield Batch([sources[i] for i in keep], images, labels)
            start += rows.num_rows


def find_shards(root: Path, split: str) -> list[Shard]:
    """Return the shards of a split, in order of their names."""
    patterns = [f"{split}-*.parquet", f"data/{split}-*.parquet", f"{split}/*.parquet"]
    for pattern in patterns:
        found = sorted(root.glob(pattern))
        if found:
            return [Shard(path, split) for path in found]
    raise vd.NotFoundError(
        f"no shards of the split {split!r} in {root}",
        hint=f"looked for {', '.join(patterns)}",
    )


def count_rows(shards: list[Shard], limit: int | None) -> int:
    rows: dict[str, int] = {}
    for shard in shards:
        rows[shard.split] = rows.get(shard.split, 0) + pq.read_metadata(shard.path).num_rows
    return sum(n if limit is None else min(n, limit) for n in rows.values())


def class_names(path: Path) -> list[str] | None:
    """Return the names that Hugging Face's metadata gives to the labels, if it does."""
    metadata = pq.read_schema(path).metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return list(features["label"]["names"])
    except (KeyError, TypeError, ValueError):
        return None


# ---------------------------------------------------------------------------- the embedding


def load_encoder(options: argparse.Namespace) -> Encoder:
    if options.encoder is None:
        return load_clip(options.model, options.pretrained, options.device)
    module, _, function = options.encoder.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise vd.InvalidInputError(
            f"--encoder {options.encoder}: {error}", hint="MODULE:FUNCTION, importable from here"
        ) from error


def load_clip(model_name: str, pretrained: str, device: str) -> Encoder:
    try:
        import open_clip
        import torch
    except ImportError as error:
        raise vd.MissingDependencyError(
            f"CLIP embeddings need open_clip: {error}",
            hint="pip install open_clip_torch, or give another encoder: --encoder MODULE:FUNCTION",
        ) from error
    model, _, preprocess = open_clip.create_model_and_transforms(model_name, pretrained=pretrained)
    model = model.eval().to(device)

    def encode(images: list[Image.Image]) -> np.ndarray:
        pixels = torch.stack([preprocess(image) for image in images]).to(device)
        with torch.no_grad():
            features = model.encode_image(pixels)
        return torch.nn.functional.normalize(features, dim=-1).float().cpu().numpy()

    return encode


# ------------------------------------------------------------------------------ the records


def open_existing(name: str, backend: str) -> vd.Dataset | None:
    try:
        return vd.Dataset.open_ref(name, backend=backend)
    except vd.NotFoundError:
        return None


def create(options: argparse.Namespace, first: pa.Table) -> vd.Dataset:
    dim, backend = first.schema.field("embedding").type.list_size, options.backend
    spatial_index = compressor = None
    if options.ivf:
        sample = first.column("embedding").combine_chunks().values.to_numpy().reshape(-1, dim)
        cells = min(options.cells, len(sample))
        spatial_index = vd.train_and_publish_ivf_centroids(
            backend, sample, dim, k=cells, iterations=8, seed=options.seed
        )
    if options.rabitq:
        compressor = vd.publish_rabitq_compressor(
            backend, dim, seed=options.seed, bits_per_dim=options.bits
        )
    schema = (
        vd.Schema()
        .add_image("image", mime="jpeg", required=True)
        .add_embedding(
            "embedding",
            dim=dim,
            algorithm="dreamdb.ivf-cosine" if options.ivf else "dreamdb.flat-cosine",
            spatial_index=spatial_index,
            compressor=compressor,
            rerank=options.rerank,
        )
        .add_scalar_categorical("label")
        .add_scalar_categorical("split", required=True)
        .add_scalar_string("source", required=True)
    )
    return vd.Dataset.create(options.dataset_name, schema, backend=backend)


def to_records(shard: Shard, batch: Batch, names: list[str] | None, encode: Encoder) -> pa.Table:
    pictures = [open_picture(*pair) for pair in zip(batch.sources, batch.images, strict=True)]
    vectors = np.ascontiguousarray(encode(pictures), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(pictures):
        raise vd.InvalidInputError(
            f"the encoder returned shape {vectors.shape} for {len(pictures)} images",
            hint="it takes a list of PIL images and returns an array of shape (n, dim)",
        )
    dim = vectors.shape[1]
    return pa.table(
        {
            "image": pa.array(batch.images, pa.binary()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim),
            "label": pa.array(to_names(shard, batch, names), pa.string()),
            "split": pa.array([shard.split] * len(pictures), pa.string()),
            "source": pa.array(batch.sources, pa.string()),
        }
    )


def open_picture(source: str, data: bytes | None) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data or b"")).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise vd.InvalidInputError(f"the image {source} cannot be decoded: {error}") from error


def to_names(shard: Shard, batch: Batch, names: list[str] | None) -> list[str | None]:
    out: list[str | None] = []
    for source, label in zip(batch.sources, batch.labels, strict=True):
        # Hugging Face marks a record without a label by -1.
        if label is None or label < 0:
            out.append(None)
        elif names is None:
            out.append(str(label))
        elif label < len(names) and names[label]:
            out.append(names[label])
        else:
            raise vd.InvalidInputError(
                f"{source} has the label {label}, and there are {len(names)} class names",
                hint="give the names of all classes with --classes",
            )
    return out


if __name__ == "__main__":
    main()
