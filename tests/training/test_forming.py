"""Batches formed by budget: their costs, fill, composition, and what cannot be formed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.errors import InvalidInputError
from dreamdb.training import (
    BatchBudget,
    BucketKey,
    GlobalShuffle,
    List,
    Map,
    Packing,
    Pad,
    PadMask,
    PositionIds,
    RandomResizedCrop,
    SegmentIds,
    ShiftedLabels,
    Stack,
    StratifiedByStream,
    Tokenize,
    WindowedBucket,
)
from tests.training.data import numbers, record, space, words

TOKENS = Map(words, "text") >> "tokens"
TEXT = {
    "input_ids": Pad("tokens", pad_to_multiple_of=8),
    "attention_mask": PadMask("tokens", pad_to_multiple_of=8),
    "labels": ShiftedLabels("tokens"),
    "id": List("sample_id"),
}


def _bucketed(formation: Any, rows: int = 600, fields: Any = None, **options: Any) -> Any:
    return (
        vd.relation(numbers(rows))
        .sample(identity="sample_id", order=GlobalShuffle(5))
        .map(TOKENS)
        .collate(formation=formation, fields=fields or TEXT, **options)
    )


def _by(key: str = "len(tokens)", window: int = 200, **budget: int) -> WindowedBucket:
    return WindowedBucket(window, [BucketKey(key)], BatchBudget(**budget))


def test_no_batch_is_over_budget_and_few_tokens_are_padding() -> None:
    stream = _bucketed(_by(max_tokens=512))
    real = padded = 0
    for batch in stream.read_epoch(0):
        assert batch["input_ids"].size <= 512
        assert batch["input_ids"].shape[1] % 8 == 0
        real += int(batch["attention_mask"].sum())
        padded += batch["input_ids"].size
    assert real == sum(len(words(record(i)["text"])) for i in range(600))
    # The mean length is 13 and rows are padded to 8: a perfect sort has 0.78.
    assert real / padded > 0.7


def test_tokens_masks_and_labels_are_right() -> None:
    for batch in _bucketed(_by(max_tokens=512)).read_epoch(1):
        for i, sample in enumerate(batch["id"]):
            tokens = words(record(int(sample[1:]))["text"])
            width = batch["input_ids"].shape[1]
            rest = width - len(tokens)
            assert batch["input_ids"][i].tolist() == tokens + [0] * rest
            assert batch["attention_mask"][i].tolist() == [1] * len(tokens) + [0] * rest
            assert batch["labels"][i].tolist() == tokens[1:] + [-100] * (rest + 1)


def test_packed_rows_are_full_and_keep_their_samples_apart() -> None:
    fields = {
        **TEXT,
        "position_ids": PositionIds("tokens"),
        "segment_ids": SegmentIds("tokens"),
    }
    stream = _bucketed(Packing(64, window_size=300), fields=fields, batch_size=4)
    seen: list[str] = []
    real = total = 0
    for batch in stream.read_epoch(0):
        assert batch["input_ids"].shape[1] == 64
        assert len(batch["id"]) == len(batch["input_ids"]) <= 4
        for row, members in enumerate(batch["id"]):
            at = 0
            for number, sample in enumerate(members, 1):
                tokens = words(record(int(sample[1:]))["text"])
                here = slice(at, at + len(tokens))
                assert batch["input_ids"][row, here].tolist() == tokens
                assert batch["labels"][row, here].tolist() == [*tokens[1:], -100]
                assert batch["position_ids"][row, here].tolist() == list(range(len(tokens)))
                assert (batch["segment_ids"][row, here] == number).all()
                at += len(tokens)
            assert (batch["attention_mask"][row, at:] == 0).all()
            assert (batch["labels"][row, at:] == -100).all()
            seen += members
            real, total = real + at, total + 64
    assert sorted(seen) == [f"s{i:05d}" for i in range(600)]
    assert real / total > 0.95


def test_every_limit_holds() -> None:
    formation = WindowedBucket(
        200, [BucketKey("len(tokens)")], BatchBudget(max_tokens=2_000, max_samples=9)
    )
    sizes = [len(batch["id"]) for batch in _bucketed(formation).read_epoch(0)]
    assert max(sizes) <= 9
    assert max(len(b["id"]) for b in _bucketed(formation, batch_size=5).read_epoch(0)) <= 5
    vectors = {"x": Stack("vector", dtype="float32"), "id": List("sample_id")}
    by_bytes = _bucketed(_by("label", max_bytes=100), fields=vectors)
    assert max(len(batch["id"]) for batch in by_bytes.read_epoch(0)) == 8  # of 12 bytes
    frames = _bucketed(_by("label + 1", max_frames=21), fields=vectors)
    with pytest.raises(InvalidInputError, match="max_frames needs clips"):
        _ = frames.steps
    counted = vd.relation(numbers(100)).project("sample_id", frames=vd.col("label") + 1)
    stream = counted.sample().collate(
        formation=_by("frames", max_frames=21), fields={"n": Stack("frames")}
    )
    for batch in stream.read_epoch(0):
        assert len(batch["n"]) * batch["n"].max() <= 21


def _mixed(composition: Any) -> Any:
    sources = []
    for name, repeats in (("short", 1), ("long", 6)):
        ds = vd.Dataset.create(name, vd.Schema().add_text("text"), backend=space())
        ds.append_many([{"text": "word " * (repeats * (1 + i % 9))} for i in range(600)])
        sources.append(vd.Stream(name, ds, proportion=0.75 if name == "short" else 0.25))
    return (
        vd.mix(sources)
        .sample(order=GlobalShuffle(2))
        .map(TOKENS)
        .collate(
            formation=_by(max_tokens=512, window=400),
            composition=composition,
            fields={"x": Pad("tokens"), "stream": List("stream_id")},
        )
    )


def _shares(stream: Any, together: int) -> list[float]:
    batches = [batch["stream"] for batch in stream.read_epoch(0)]
    runs = [
        [name for batch in batches[i : i + together] for name in batch]
        for i in range(0, len(batches), together)
    ]
    return [Counter(run)["long"] / len(run) for run in runs]


def test_composition_by_batch_and_by_step() -> None:
    plain = _shares(_mixed(None), 1)
    by_batch = _shares(_mixed(StratifiedByStream("stream_id", scope="batch")), 1)
    assert max(plain) == 1.0
    assert min(plain) == 0.0
    assert all(abs(share - 0.25) < 0.11 for share in by_batch)
    by_step = _shares(_mixed(StratifiedByStream("stream_id")), 4)
    assert np.std(by_step) < np.std(_shares(_mixed(None), 4)) * 0.75


def test_stored_lengths_plan_without_computing_and_are_checked() -> None:
    ds = numbers(300)
    plain = (
        vd.relation(ds)
        .sample(identity="sample_id", order=GlobalShuffle(5))
        .map(TOKENS)
        .collate(formation=_by(max_tokens=256), fields=TEXT)
    )
    (lengths,) = plain.lengths("len(tokens)").values()
    pairs = list(zip(lengths["_anchor"].to_pylist(), lengths["value"].to_pylist(), strict=True))
    ds.add_scalar_layer("token_count", "text", "int", pairs)

    def calls_counted(text: str) -> list[int]:
        calls.append(1)
        return words(text)

    calls: list[int] = []

    def stored(dataset: vd.Dataset) -> Any:
        key = BucketKey("len(tokens)", stored="token_count")
        return (
            vd.relation(dataset)
            .sample(identity="sample_id", order=GlobalShuffle(5))
            .map(Map(calls_counted, "text") >> "tokens")
            .collate(formation=WindowedBucket(200, [key], BatchBudget(max_tokens=256)), fields=TEXT)
        )

    stream = stored(ds)
    assert stream.count(0) == plain.count(0)
    assert calls == []
    assert [b["id"] for b in stream.read_epoch(0)] == [b["id"] for b in plain.read_epoch(0)]
    ds.add_scalar_layer("token_count", "text", "int", [(70, 1)], mode="update")
    with pytest.raises(InvalidInputError, match=r"'s00007' has \d+ tokens, and .* says 1"):
        list(stored(ds).read_epoch(0))


def test_a_sample_over_the_budget_is_named() -> None:
    with pytest.raises(
        InvalidInputError, match=r"the sample 's\d+' takes 24, and the budget .* 23"
    ):
        list(_bucketed(_by(max_tokens=23)).read_epoch(0))
    with pytest.raises(InvalidInputError, match="budget of a batch is 12"):
        list(_bucketed(Packing(12), batch_size=2).read_epoch(0))
    cut = Tokenize("text", words, max_length=12) >> "short"
    stream = (
        vd.relation(numbers(50))
        .sample()
        .map(cut)
        .collate(formation=_by("len(short)", max_tokens=23), fields={"x": Pad("short")})
    )
    assert sum(len(batch["x"]) for batch in stream.read_epoch(0)) == 50


@pytest.mark.parametrize(
    ("act", "words_"),
    [
        (lambda: BucketKey("len(tokens"), "not a bucket key"),
        (lambda: BucketKey("__import__('os')"), "not a bucket key"),
        (lambda: BucketKey("tokens.size"), "not a bucket key"),
        (lambda: BucketKey("width / height"), "not a bucket key"),
        (lambda: BatchBudget(), "needs a limit"),
        (lambda: BatchBudget(max_tokens=0), "positive"),
        (lambda: WindowedBucket(0, [BucketKey("a")], BatchBudget(max_tokens=1)), "window_size"),
        (lambda: WindowedBucket(8, [], BatchBudget(max_tokens=1)), "need keys"),
        (lambda: Packing(0), "max_tokens"),
        (lambda: StratifiedByStream("label"), "stream_id"),
        (lambda: StratifiedByStream(scope="epoch"), "scope"),
        (lambda: _bucketed(_by("label", max_tokens=9)).steps, "needs a key that is a length"),
        (lambda: _bucketed(_by("len(nothing)", max_tokens=9)).steps, "no column 'nothing'"),
        (
            lambda: (
                _bucketed(
                    _by("label", max_bytes=9),
                    fields={"x": Stack("text", decode="jpeg")},
                ).steps
            ),
            "images of one size",
        ),
        (lambda: list(_bucketed(_by("label - 3", max_samples=9)).read_epoch(0)), "negative"),
        (lambda: list(_bucketed(_by("len(label)", max_samples=9)).read_epoch(0)), "no length"),
    ],
)
def test_bad_formations_are_refused(act: Any, words_: str) -> None:
    with pytest.raises(InvalidInputError, match=words_):
        act()


def test_a_missing_length_is_an_error() -> None:
    ds = numbers(20)
    ds.append_many([{"sample_id": "none", "_anchor": 900}])
    stream = (
        vd.relation(ds)
        .sample()
        .collate(formation=_by("label", max_samples=9), fields={"y": List("label")})
    )
    with pytest.raises(InvalidInputError, match="has no 'label', and batches are formed by it"):
        list(stream.read_epoch(0))


def test_bytes_of_images_are_known_from_their_crop() -> None:
    fields = {"x": Stack("text", decode="jpeg", transforms=[RandomResizedCrop(8)], dtype="float16")}
    stream = _bucketed(_by("label", max_bytes=2 * 3 * 64 * 5), fields=fields, rows=40)
    batches = [batch for _, batch in stream.steps.batches(0, (0, 0), 0, 1)]
    assert max(map(len, batches)) == 5
