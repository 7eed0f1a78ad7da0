"""Video clips: H.264 decoded frame by frame, batches by a budget of frames and bytes.

The clips are drawn and encoded here: a square that moves left, right, up or down.  Captions and
labels stand in a dataset of their own that is joined.
"""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import torch
from resuming import Program, main

import dreamdb as vd
from dreamdb import col
from dreamdb.training import (
    BatchBudget,
    BatchStream,
    BucketKey,
    DataParallel,
    HashBucketed,
    KeepPartial,
    List,
    RuntimeParam,
    ShuffleBuckets,
    Stack,
    WindowedBucket,
)

DIRECTIONS = ("left", "right", "up", "down")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FPS = 12


def prepare(backend: str) -> None:
    rng = np.random.default_rng(0)
    schema = (
        vd.Schema()
        .add_scalar_string("sample_id", required=True)
        .add_scalar_string("video_id")
        .add_video("clip_ref", mime="mp4")
        .add_scalar_int("duration_ms")
        .add_scalar_int("frame_count")
        .add_scalar_int("width")
        .add_scalar_int("height")
        .add_scalar_categorical("creator_id")
    )
    segments = vd.Dataset.create(
        "video.training_segments", schema, backend=backend, key="sample_id"
    )
    labels = vd.Dataset.create(
        "video.segment_labels",
        vd.Schema()
        .add_scalar_string("sample_id", required=True)
        .add_scalar_int("label_id")
        .add_scalar_string("caption")
        .add_scalar_float("confidence"),
        backend=backend,
        key="sample_id",
    )
    rows, told = [], []
    for i in range(100):
        label, frames = int(rng.integers(4)), int(rng.integers(20, 32))
        width, height = [(96, 72), (128, 96)][i % 2]
        sample = f"segment-{i:04d}"
        rows.append(
            {
                "sample_id": sample,
                "video_id": f"video-{i // 3}",
                "clip_ref": encode(draw(label, frames, width, height, rng)),
                "duration_ms": frames * 1000 // FPS,
                "frame_count": frames,
                "width": width,
                "height": height,
                "creator_id": f"creator-{i // 30}",
            }
        )
        told.append(
            {
                "sample_id": sample,
                "label_id": label,
                "caption": f"a square goes {DIRECTIONS[label]}",
                "confidence": float(rng.uniform(0.6, 1.0)),
            }
        )
    segments.append_many(rows)
    labels.append_many(told)


def draw(label: int, frames: int, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros((frames, height, width, 3), np.uint8)
    out += rng.integers(0, 60, (height, width, 3), np.uint8)
    side = 24
    for number in range(frames):
        x, y = (width - side) // 2, (height - side) // 2
        share = number / (frames - 1)
        if label < 2:
            x = round((width - side) * (1 - share if label == 0 else share))
        else:
            y = round((height - side) * (1 - share if label == 2 else share))
        out[number, y : y + side, x : x + side] = 220
    return out


def encode(frames: np.ndarray) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        for pixels in frames:
            for packet in video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in video.encode():
            container.mux(packet)
    return out.getvalue()


def stream(backend: str) -> BatchStream:
    segments = vd.Dataset.open_ref("video.training_segments", backend=backend)
    labels = vd.Dataset.open_ref("video.segment_labels", backend=backend)
    return (
        vd.relation(segments)
        .join(labels, on="sample_id")
        .filter((col("duration_ms") >= 2_000) & (col("confidence") >= 0.7))
        .sample(
            identity="sample_id",
            order=HashBucketed(
                seed=123456,
                bucket_count=8192,
                bucket_order=ShuffleBuckets(seed=123456),
            ),
            epoch=RuntimeParam("epoch"),
            assignment=DataParallel(
                rank=RuntimeParam("data_parallel_rank"),
                world_size=RuntimeParam("data_parallel_world_size"),
            ),
        )
        .collate(
            batch_size=8,
            formation=WindowedBucket(
                window_size=2048,
                keys=[
                    BucketKey("frame_count"),
                    BucketKey("width * height"),
                ],
                budget=BatchBudget(max_frames=8 * 16, max_bytes=8_000_000_000),
            ),
            last=KeepPartial,
            fields={
                "frames": Stack(
                    "clip_ref",
                    decode="h264",
                    sequence_length=16,
                    resize_shorter=48,
                    crop=40,
                    dtype="float16",
                    layout="ntchw",
                    device=DEVICE,
                ),
                "label": Stack("label_id", dtype="int64"),
                "caption": List("caption"),
                "video_id": List("video_id"),
                "sample_id": List("sample_id"),
            },
        )
    )


def model() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv3d(3, 8, 5, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool3d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(512, len(DIRECTIONS)),
    ).to(DEVICE)


def loss(network: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    frames = batch["frames"]
    assert frames.shape[1:] == (16, 3, 40, 40)
    assert frames.dtype == torch.float16
    for label, caption in zip(batch["label"].tolist(), batch["caption"], strict=True):
        assert caption.endswith(DIRECTIONS[label])
    logits = network(frames.float().transpose(1, 2))
    return torch.nn.functional.cross_entropy(logits, batch["label"].to(DEVICE))


if __name__ == "__main__":
    main(Program(__file__, prepare, stream, model, loss))
