"""Image classification: JPEGs decoded, cropped, flipped and normalised, by a snapshot's order.

The data are drawn here: coloured shapes on noise, stored as JPEG, with class names in a small
dataset of their own that is joined.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from resuming import Program, main

import dreamdb as vd
from dreamdb import col
from dreamdb.training import (
    BatchStream,
    DataParallel,
    DropPartial,
    List,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RuntimeParam,
    ShardAwareShuffle,
    Stack,
)

CLASSES = ("circle", "square", "cross", "stripes")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def prepare(backend: str) -> None:
    rng = np.random.default_rng(0)
    schema = (
        vd.Schema()
        .add_scalar_string("sample_id", required=True)
        .add_scalar_categorical("split")
        .add_image("image_ref", mime="jpeg")
        .add_scalar_int("label_id")
        .add_scalar_int("width")
        .add_scalar_int("height")
        .add_scalar_categorical("storage_shard")
    )
    train = vd.Dataset.create("vision.imagenet_train", schema, backend=backend, key="sample_id")
    rows = []
    for i in range(480):
        width, height = (int(n) for n in rng.integers(72, 120, 2))
        label = int(rng.integers(len(CLASSES)))
        rows.append(
            {
                "sample_id": f"image-{i:05d}",
                "split": "validation" if i % 10 == 9 else "train",
                "image_ref": jpeg(label, width, height, rng),
                "label_id": label,
                "width": width,
                "height": height,
                "storage_shard": f"shard-{i // 120}",
            }
        )
    train.append_many(rows)
    labels = vd.Dataset.create(
        "vision.imagenet_labels",
        vd.Schema().add_scalar_int("label_id").add_scalar_string("class_name"),
        backend=backend,
    )
    labels.append_many([{"label_id": i, "class_name": name} for i, name in enumerate(CLASSES)])


def jpeg(label: int, width: int, height: int, rng: np.random.Generator) -> bytes:
    noise = rng.integers(0, 90, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    draw, colour = ImageDraw.Draw(image), tuple(int(c) for c in rng.integers(120, 256, 3))
    size = int(rng.integers(30, 60))
    x, y = int(rng.integers(0, width - size)), int(rng.integers(0, height - size))
    if label == 0:
        draw.ellipse((x, y, x + size, y + size), fill=colour)
    elif label == 1:
        draw.rectangle((x, y, x + size, y + size), fill=colour)
    elif label == 2:
        draw.line((x, y, x + size, y + size), fill=colour, width=8)
        draw.line((x + size, y, x, y + size), fill=colour, width=8)
    else:
        for stripe in range(0, size, 12):
            draw.rectangle((x, y + stripe, x + size, y + stripe + 5), fill=colour)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def stream(backend: str) -> BatchStream:
    images = vd.Dataset.open_ref("vision.imagenet_train", backend=backend)
    labels = vd.Dataset.open_ref("vision.imagenet_labels", backend=backend)
    return (
        vd.relation(images)
        .join(labels, on="label_id")
        .filter(col("split") == "train")
        .sample(
            identity="sample_id",
            order=ShardAwareShuffle(
                seed=17,
                shard_key=["storage_shard"],
                shuffle_block_size=1_000_000,
            ),
            epoch=RuntimeParam("epoch"),
            assignment=DataParallel(
                rank=RuntimeParam("data_parallel_rank"),
                world_size=RuntimeParam("data_parallel_world_size"),
            ),
        )
        .collate(
            batch_size=32,
            last=DropPartial,
            fields={
                "image": Stack(
                    "image_ref",
                    decode="jpeg",
                    transforms=[
                        RandomResizedCrop(size=64, scale=(0.4, 1.0)),
                        RandomHorizontalFlip(),
                        Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
                    ],
                    dtype="float16",
                    layout="nchw",
                    device=DEVICE,
                ),
                "label": Stack("label_id", dtype="int64"),
                "class_name": List("class_name"),
                "sample_id": List("sample_id"),
            },
        )
    )


def model() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 12, 5, stride=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(12, 16, 5, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(256, len(CLASSES)),
    ).to(DEVICE)


def loss(network: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    assert batch["image"].shape[1:] == (3, 64, 64)
    assert batch["image"].dtype == torch.float16
    assert [CLASSES[i] for i in batch["label"].tolist()] == batch["class_name"]
    logits = network(batch["image"].float())
    return torch.nn.functional.cross_entropy(logits, batch["label"].to(DEVICE))


if __name__ == "__main__":
    main(Program(__file__, prepare, stream, model, loss))
