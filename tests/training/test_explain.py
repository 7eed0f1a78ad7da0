"""EXPLAIN DATA says what is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.errors import InvalidInputError
from dreamdb.training import (
    BatchBudget,
    BucketKey,
    DropPartial,
    GlobalShuffle,
    HashBucketed,
    Map,
    Packing,
    Pad,
    ShardAwareShuffle,
    Stack,
    WindowedBucket,
)
from tests.training.data import FIELDS, numbers, space, words


def _counted(order: Any, **options: Any) -> Any:
    return (
        vd.relation(numbers(1000))
        .filter(vd.col("label") < 5)
        .sample(identity="sample_id", order=order)
        .collate(**{"batch_size": 32, "fields": FIELDS, **options})
    )


def test_rows_steps_and_bytes_are_told() -> None:
    told = _counted(GlobalShuffle(1), last=DropPartial).explain(world_size=4)
    assert told["stream numbers"]["dataset numbers"] == "1,000 rows"
    assert told["stream numbers"]["filter (label < 5)"] == "715 rows"
    assert told["batches"]["steps per epoch"] == "5 for 4 ranks"
    assert told["batches"]["dropped"] == "75 samples per epoch"
    assert "true permutation" in told["order"]["randomness"]
    assert set(told["reading"]) >= {"vector", "label", "sample_id", "all", "field x"}
    assert "10 of about 72" in _counted(HashBucketed(1, 10)).explain()["order"]["buckets"]


def test_text_and_html_agree() -> None:
    told = _counted(GlobalShuffle(1)).explain()
    text, page = str(told), told._repr_html_()
    assert "filter (label < 5)" in text
    assert "filter (label &lt; 5)" in page
    assert repr(told) == text
    assert _counted(GlobalShuffle(1))._repr_html_().startswith("<table>")


def test_shortfall_and_repeats_are_told() -> None:
    mixture = vd.mix(
        [
            vd.Stream("few", numbers(50, "few"), proportion=0.5),
            vd.Stream("many", numbers(700, "many"), proportion=0.5),
        ],
        epoch_size=300,
    )
    told = mixture.sample().collate(batch_size=8, fields={"y": Stack("label")}).explain()
    assert told["stream few"]["repeats"] == "3.00 times through in an epoch"
    assert told["stream many"]["shortfall"] == "5 epochs show it once"


def test_padding_and_fill_are_those_of_the_batches() -> None:
    stream = (
        vd.relation(numbers(600))
        .sample(order=GlobalShuffle(1))
        .map(Map(words, "text") >> "tokens")
        .collate(
            formation=WindowedBucket(600, [BucketKey("len(tokens)")], BatchBudget(max_tokens=400)),
            fields={"x": Pad("tokens", pad_to_multiple_of=8)},
        )
    )
    batches = list(stream.read_epoch(0))
    real = sum(int((batch["x"] > 0).sum()) for batch in batches)
    padded = sum(batch["x"].size for batch in batches)
    told = stream.explain()["batches"]
    assert told["padding"] == f"{real / padded:.1%} of the padded size is data"
    fill = np.mean([batch["x"].size / 400 for batch in batches])
    assert told["fill"].startswith(f"{fill:.1%} of the budget on average")
    assert told["batches"].startswith(f"{len(batches)} of ")


def test_packing_is_explained() -> None:
    stream = (
        vd.relation(numbers(300))
        .sample()
        .map(Map(words, "text") >> "tokens")
        .collate(batch_size=4, formation=Packing(64), fields={"x": Pad("tokens")})
    )
    share = float(stream.explain()["batches"]["padding"].split("%")[0])
    assert share > 95


def test_the_predicted_spread_bounds_the_real_one() -> None:
    ds = vd.Dataset.create("sorted", vd.Schema().add_scalar_int("label"), backend=space())
    ds.append({"label": np.arange(40_000) // 400})
    order = ShardAwareShuffle(seed=3, shuffle_block_size=2_000)
    stream = (
        vd.relation(ds).sample(order=order).collate(batch_size=50, fields={"y": Stack("label")})
    )
    told = stream.explain()["order"]
    bound = float(told["spread of sorted"].split("most ")[1].split(" ")[0])
    means = [batch["y"].mean() for batch in stream.read_epoch(0)]
    ideal = (np.arange(40_000) // 400).std() / np.sqrt(50)
    assert 1.5 < np.std(means) / ideal <= bound * 1.2
    assert "would have to change 'label'" in told["skew"]


def test_analysis_runs_some_steps() -> None:
    told = _counted(GlobalShuffle(1)).explain(analyze=True, steps=3)["measured"]
    assert told["steps"] == "3, 96 samples, 0 failed"
    assert {"first batch", "rate", "read", "collate", "cache"} <= set(told)


def test_an_empty_relation_is_not_explained() -> None:
    stream = vd.relation(numbers(5)).filter("label > 6").sample().collate(batch_size=1)
    with pytest.raises(InvalidInputError, match="no rows"):
        stream.explain()
