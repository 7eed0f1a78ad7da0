"""Fields of a batch: values, nulls, images, clips, and randomness."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dreamdb as vd
from dreamdb.errors import InvalidInputError
from dreamdb.training import (
    CenterCrop,
    GlobalShuffle,
    List,
    Map,
    Normalize,
    Pad,
    PadMask,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Sequential,
    ShiftedLabels,
    Stack,
    Tokenize,
    Transform,
)
from tests.training.data import FIELDS, numbers, record, space, words


def _jpeg(i: int, width: int = 40, height: int = 30, form: str = "JPEG") -> bytes:
    x = np.linspace(0, 255, width)[None, :, None]
    y = np.linspace(0, 255, height)[:, None, None]
    pixels = np.concatenate([x + 0 * y, y + 0 * x, np.full((height, width, 1), 9 * i % 256)], 2)
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, form, quality=95)
    return out.getvalue()


def _images(count: int, broken: tuple[int, ...] = ()) -> vd.Dataset:
    ds = vd.Dataset.create(
        "images", vd.Schema().add_image("image").add_scalar_int("i"), backend=space()
    )
    ds.append_many(
        [
            {"image": b"\xff\xd8 not an image" if i in broken else _jpeg(i), "i": i, "_anchor": i}
            for i in range(count)
        ]
    )
    return ds


def _stream(ds: vd.Dataset, batch_size: int = 4, order: Any = None, **options: Any) -> Any:
    fields = options.pop("fields")
    return (
        vd.relation(ds)
        .sample(order=order or Sequential())
        .collate(batch_size=batch_size, fields=fields, **options)
    )


AUGMENTED = Stack(
    "image",
    decode="jpeg",
    transforms=[
        RandomResizedCrop(size=16),
        RandomHorizontalFlip(),
        Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ],
    dtype="float16",
    layout="nchw",
)


def test_plain_fields_are_the_stored_values() -> None:
    for batch in _stream(numbers(10), fields=FIELDS).read_epoch(0):
        for i, sample in enumerate(batch["id"]):
            row = record(int(sample[1:]))
            assert batch["x"][i].tolist() == row["vector"].tolist()
            assert batch["y"][i] == row["label"]
        assert batch["x"].dtype == np.float32
        assert batch["y"].dtype == np.int64


def test_without_fields_a_batch_has_every_column() -> None:
    stream = vd.relation(numbers(4)).sample().collate(batch_size=4)
    (batch,) = stream.read_epoch(0)
    assert list(batch) == ["sample_id", "label", "weight", "vector", "text", "shard"]


def test_images_are_decoded_cropped_flipped_and_normalised() -> None:
    (batch,) = _stream(_images(6), 6, fields={"image": AUGMENTED}).read_epoch(0)
    image = batch["image"]
    assert image.shape == (6, 3, 16, 16)
    assert image.dtype == np.float16
    red = image.astype(np.float32)[:, 0] * 0.229 + 0.485
    assert 0 <= red.min() < red.max() <= 1.01
    rising = red[:, 8, -1] > red[:, 8, 0]
    assert 0 < rising.sum() < 6  # some are mirrored


def test_augmentation_depends_on_the_sample_and_the_epoch_alone() -> None:
    ds = _images(20)
    fields = {"image": AUGMENTED, "i": Stack("i")}

    def images(epoch: int, size: int, seed: int = 1) -> dict[int, bytes]:
        stream = _stream(ds, size, GlobalShuffle(seed), fields=fields)
        return {
            int(i): image.tobytes()
            for batch in stream.read_epoch(epoch)
            for i, image in zip(batch["i"], batch["image"], strict=True)
        }

    first = images(0, 4)
    assert images(0, 7) == first
    assert all(a != b for a, b in zip(first.values(), images(1, 4).values(), strict=True))
    assert images(0, 4, seed=2)[5] != first[5]


def test_layouts_types_and_sizes() -> None:
    ds = _images(3)
    for stack, shape, dtype in (
        (Stack("image", decode="jpeg"), (3, 3, 30, 40), np.uint8),
        (Stack("image", decode="image", layout="nhwc"), (3, 30, 40, 3), np.uint8),
        (Stack("image", decode="jpeg", resize_shorter=15, crop=12), (3, 3, 12, 12), np.uint8),
        (
            Stack("image", decode="jpeg", transforms=[Resize((9, 7))], dtype="float32"),
            (3, 3, 9, 7),
            np.float32,
        ),
        (
            Stack("image", decode="jpeg", transforms=[Resize(20), CenterCrop(20)]),
            (3, 3, 20, 20),
            np.uint8,
        ),
    ):
        (batch,) = _stream(ds, fields={"x": stack}).read_epoch(0)
        assert batch["x"].shape == shape
        assert batch["x"].dtype == dtype
    (floats,) = _stream(
        ds, fields={"x": Stack("image", decode="jpeg", dtype="float32")}
    ).read_epoch(0)
    assert 0 <= floats["x"].min() < floats["x"].max() <= 1


class Shift(Transform):
    draws = 1

    def apply(self, image: Any, numbers: Any) -> Any:
        return np.asarray(image).astype(np.float64) + numbers[0]


def test_own_transforms_and_functions() -> None:
    stack = Stack(
        "image", decode="jpeg", transforms=[lambda image: image.rotate(90, expand=True), Shift()]
    )
    (batch,) = _stream(_images(2), fields={"x": stack}).read_epoch(0)
    assert batch["x"].shape == (2, 3, 40, 30)
    fractions = (batch["x"] % 1).reshape(2, -1)
    assert (np.ptp(fractions, axis=1) < 1e-9).all()
    assert abs(fractions[0, 0] - fractions[1, 0]) > 1e-3


def test_a_corrupt_image_is_raised_skipped_or_replaced() -> None:
    ds = _images(6, broken=(1, 4))
    fields = {"x": Stack("image", decode="jpeg"), "i": List("i")}
    with pytest.raises(InvalidInputError, match=r"the sample 1 cannot .*: 'x': .* as JPEG"):
        list(_stream(ds, fields=fields).read_epoch(0))
    skipping = _stream(ds, fields=fields, on_error="skip")
    assert [batch["i"] for batch in skipping.read_epoch(0)] == [[0, 2, 3], [5]]
    replacing = list(_stream(ds, fields=fields, on_error="replace").read_epoch(0))
    assert [batch["_valid"].tolist() for batch in replacing] == [
        [True, False, True, True],
        [False, True],
    ]
    assert (replacing[0]["x"][1] == 0).all()
    assert [batch["i"] for batch in replacing] == [[0, 1, 2, 3], [4, 5]]
    with pytest.raises(InvalidInputError, match="every sample of a batch failed"):
        list(_stream(ds, 1, fields=fields, on_error="skip").read_epoch(0))


def test_a_png_is_not_a_jpeg() -> None:
    ds = vd.Dataset.create("png", vd.Schema().add_image("image", mime="png"), backend=space())
    ds.append_many([{"image": _jpeg(1, form="PNG")}])
    (batch,) = _stream(ds, fields={"x": Stack("image", decode="png")}).read_epoch(0)
    assert batch["x"].shape == (1, 3, 30, 40)
    with pytest.raises(InvalidInputError, match="decoded as JPEG"):
        list(_stream(ds, fields={"x": Stack("image", decode="jpeg")}).read_epoch(0))


def test_nulls_follow_the_same_policy() -> None:
    ds = numbers(3)
    ds.append_many([{"sample_id": "none", "label": 5, "_anchor": 90}])
    stream = _stream(ds, fields={"x": Stack("vector"), "y": Stack("label")})
    with pytest.raises(
        InvalidInputError, match="the sample 90 cannot be used: 'x': it has no 'vector'"
    ):
        list(stream.read_epoch(0))
    (batch,) = _stream(ds, fields=stream.fields, on_error="replace").read_epoch(0)
    assert batch["_valid"].tolist() == [True, True, True, False]
    assert (batch["x"][3] == 0).all()
    (listed,) = _stream(ds, fields={"x": List("vector"), "w": List("weight")}).read_epoch(0)
    assert listed["x"][3] is None
    assert listed["w"][3] is None


def test_missing_texts_are_replaced_by_padding() -> None:
    ds = numbers(3)
    ds.append_many([{"sample_id": "none", "_anchor": 90}])
    stream = (
        vd.relation(ds)
        .sample()
        .map(Tokenize("text", words) >> "tokens")
        .collate(
            batch_size=4,
            fields={"x": Pad("tokens"), "mask": PadMask("tokens"), "y": ShiftedLabels("tokens")},
            on_error="replace",
        )
    )
    (batch,) = stream.read_epoch(0)
    assert batch["_valid"].tolist() == [True, True, True, False]
    assert not batch["x"][3].any()
    assert not batch["mask"][3].any()
    assert (batch["y"][3] == -100).all()
    alone = vd.relation(ds).filter(vd.col("text").is_null()).sample()
    with pytest.raises(InvalidInputError, match="every sample of a batch failed; the first: 90"):
        list(
            alone.collate(
                batch_size=4, fields={"x": Stack("vector")}, on_error="replace"
            ).read_epoch(0)
        )


def test_maps_compute_columns() -> None:
    stream = (
        vd.relation(numbers(6))
        .sample()
        .map(Map(lambda text, label: len(text) + label, ["text", "label"]) >> "size")
        .map(Map(lambda size: [size] * 2, "size") >> "twice")
        .collate(batch_size=6, fields={"size": Stack("size"), "twice": Pad("twice")})
    )
    (batch,) = stream.read_epoch(0)
    wanted = [len(record(i)["text"]) + i % 7 for i in range(6)]
    assert batch["size"].tolist() == wanted
    assert batch["twice"].tolist() == [[size, size] for size in wanted]


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: Stack("x", decode="gif"), "decode='gif'"),
        (lambda: Stack("x", dtype="float17"), "numpy type"),
        (lambda: Stack("x", decode="jpeg", layout="chw"), "layout='chw'"),
        (lambda: Stack("x", decode="h264"), "sequence_length"),
        (lambda: Stack("x", transforms=[RandomHorizontalFlip()]), "need decode"),
        (lambda: Stack("x", decode="jpeg", transforms=[RandomHorizontalFlip]), "not a transform"),
        (lambda: Normalize([0.5], [0.0]), "positive"),
        (lambda: Pad("x", pad_to_multiple_of=0), "positive"),
        (lambda: _stream(numbers(3), fields={"x": Stack("nothing")}), "no column 'nothing'"),
        (lambda: _stream(numbers(3), fields={}), "needs a field"),
        (lambda: _stream(numbers(3), fields={"x": "label"}), "not a collation"),
        (lambda: _stream(numbers(3), fields=FIELDS, on_error="ignore"), "on_error"),
        (lambda: _stream(numbers(3), fields=FIELDS, last="drop"), "last="),
        (lambda: _stream(numbers(3), 0, fields=FIELDS), "batch_size must be positive"),
        (lambda: vd.relation(numbers(3)).sample().collate(fields=FIELDS), "needs a batch_size"),
        (lambda: vd.relation(numbers(3)).sample(order="random"), "not an order"),
        (lambda: vd.relation(numbers(3)).sample(identity="nothing"), "no column"),
        (lambda: vd.relation(numbers(3)).sample().map(Map(len, "text")), "needs a name|output"),
        (lambda: vd.relation(numbers(3)).sample().map(Map(len, "text") >> "label"), "already"),
        (lambda: list(_stream(numbers(3), fields={"x": Stack("text")}).read_epoch(0)), "stack"),
    ],
)
def test_bad_collations_are_refused(act: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        act()


def test_images_of_different_shapes_do_not_stack() -> None:
    ds = vd.Dataset.create("sizes", vd.Schema().add_image("image"), backend=space())
    ds.append_many([{"image": _jpeg(0, 20 + i, 20)} for i in range(3)])
    with pytest.raises(InvalidInputError, match="have 3 shapes"):
        list(_stream(ds, fields={"x": Stack("image", decode="jpeg")}).read_epoch(0))


def _clip(frames: int, width: int = 48, height: int = 32) -> bytes:
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            pixels = np.full((height, width, 3), 20 + 10 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return out.getvalue()


def test_clips_are_decoded_and_sampled_evenly() -> None:
    ds = vd.Dataset.create("clips", vd.Schema().add_video("clip", mime="mp4"), backend=space())
    ds.append_many([{"clip": _clip(16)}, {"clip": _clip(3)}])
    stack = Stack(
        "clip", decode="h264", sequence_length=8, resize_shorter=24, crop=20, layout="ntchw"
    )
    (batch,) = _stream(ds, fields={"frames": stack}).read_epoch(0)
    assert batch["frames"].shape == (2, 8, 3, 20, 20)
    levels = batch["frames"].astype(float).mean((2, 3, 4))
    assert np.allclose(levels[0], 20 + 10 * (2 * np.arange(8) + 1), atol=4)
    assert (np.diff(levels[1]) > -4).all()
    last = Stack("clip", decode="h264", sequence_length=2, layout="nthwc", dtype="float16")
    (batch,) = _stream(ds, fields={"frames": last}).read_epoch(0)
    assert batch["frames"].shape == (2, 2, 32, 48, 3)


def test_a_broken_clip_is_an_error() -> None:
    ds = vd.Dataset.create("broken", vd.Schema().add_video("clip", mime="mp4"), backend=space())
    ds.append_many([{"clip": b"no clip at all"}])
    stack = Stack("clip", decode="h264", sequence_length=4)
    with pytest.raises(InvalidInputError, match="decoded as a clip"):
        list(_stream(ds, fields={"frames": stack}).read_epoch(0))
