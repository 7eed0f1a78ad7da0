"""Mixtures: counts, order, and what happens from epoch to epoch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

import dreamdb as vd
from dreamdb.errors import InvalidInputError
from dreamdb.training import GlobalShuffle, List, Sequential, ShardAwareShuffle, Stack
from tests.training.data import FIELDS, numbers

MIX = {"id": List("sample_id"), "stream": List("stream_id"), "y": Stack("label")}


def _three(**how: Any) -> list[vd.Stream]:
    sizes = {"web": 700, "wiki": 150, "code": 90}
    return [
        vd.Stream(name, numbers(size, name), **{k: v[name] for k, v in how.items()})
        for name, size in sizes.items()
    ]


PROPORTIONS = {"web": 0.7, "wiki": 0.1, "code": 0.2}


def _stream(mixture: vd.training.Mixture, batch: int = 64, order: Any = None) -> Any:
    return mixture.sample(identity="sample_id", order=order or GlobalShuffle(3)).collate(
        batch_size=batch, fields=MIX
    )


def test_proportions_hold_in_every_batch() -> None:
    stream = _stream(vd.mix(_three(proportion=PROPORTIONS), epoch_size=2_000), batch=256)
    total: Counter[str] = Counter()
    for batch in stream.read_epoch(0):
        seen = Counter(batch["stream"])
        total += seen
        for name, share in PROPORTIONS.items():
            assert abs(seen[name] - share * len(batch["id"])) <= 2
    assert total == {"web": 1400, "wiki": 200, "code": 400}


def test_streams_go_on_in_the_next_epoch() -> None:
    stream = _stream(vd.mix(_three(proportion=PROPORTIONS), epoch_size=500))
    shown: dict[str, list[str]] = {name: [] for name in PROPORTIONS}
    for epoch in range(6):
        for batch in stream.read_epoch(epoch):
            for name, sample in zip(batch["stream"], batch["id"], strict=True):
                shown[name].append(sample)
    for name, size in (("web", 700), ("wiki", 150), ("code", 90)):
        for start in range(0, len(shown[name]) - size + 1, size):
            # A pass shows every sample once, however epochs cut it.
            assert len(set(shown[name][start : start + size])) == size
    assert shown["web"][:700] != shown["web"][700:1400]


def test_an_epoch_without_a_size_ends_with_the_first_stream() -> None:
    stream = _stream(vd.mix(_three(proportion=PROPORTIONS)))
    seen = Counter(name for batch in stream.read_epoch(0) for name in batch["stream"])
    assert seen == {"web": 315, "wiki": 45, "code": 90}


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({"repeat": {"web": 0.5, "wiki": 2.0, "code": 1}}, {"web": 350, "wiki": 300, "code": 90}),
        ({"choose": {"web": 10, "wiki": 200, "code": 1}}, {"web": 10, "wiki": 200, "code": 1}),
    ],
)
def test_repeat_and_choose_are_exact(how: Any, wanted: dict[str, int]) -> None:
    stream = _stream(vd.mix(_three(**how)))
    for epoch in (0, 1):
        seen = Counter(name for batch in stream.read_epoch(epoch) for name in batch["stream"])
        assert seen == wanted


@pytest.mark.parametrize("order", [Sequential(), GlobalShuffle(1), ShardAwareShuffle(seed=1)])
def test_every_sample_is_found_where_it_is(order: Any) -> None:
    mixture = vd.mix(_three(repeat={"web": 1, "wiki": 2.5, "code": 0.5}))
    stream = _stream(mixture, order=order)
    for epoch in (0, 3):
        places: dict[str, list[tuple[int, int, int]]] = {}
        for rank in range(3):
            for step, batch in enumerate(stream.read_epoch(epoch, rank, 3)):
                for index, sample in enumerate(batch["id"]):
                    places.setdefault(sample, []).append((step, rank, index))
        for sample in ("s00000", "s00089", "s00149", "s00699"):
            found = [(o.step, o.rank, o.index) for o in stream.where(sample, epoch, world_size=3)]
            assert found == sorted(places.get(sample, []))


def test_filters_and_projections_reach_every_stream() -> None:
    mixture = vd.mix(_three(proportion=PROPORTIONS)).filter(vd.col("label") < 3)
    mixture = mixture.project("sample_id", "stream_id", "label")
    assert mixture.columns == ("stream_id", "sample_id", "label")
    stream = _stream(mixture)
    assert {y for b in stream.read_epoch(0) for y in b["y"].tolist()} == {0, 1, 2}


def test_a_single_relation_is_a_mixture_of_one() -> None:
    stream = vd.relation(numbers(10)).sample().collate(batch_size=4, fields=FIELDS)
    assert [len(batch["id"]) for batch in stream.read_epoch(0)] == [4, 4, 2]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: vd.mix([]), "needs streams"),
        (lambda: vd.mix(_three()[:1] * 2), "same name"),
        (
            lambda: vd.mix(_three(proportion={"web": 0.7, "wiki": 0.1, "code": 0.1})),
            "add up to 0.9",
        ),
        (lambda: vd.mix([vd.Stream("a", numbers(3), proportion=0)]), "can't be met"),
        (lambda: vd.mix([vd.Stream("a", numbers(3), repeat=float("inf"))]), "can't be met"),
        (lambda: vd.mix([vd.Stream("a", numbers(3), choose=1.5)]), "can't be met"),  # type: ignore[arg-type]
        (lambda: vd.Stream("a", numbers(3), proportion=1.0, repeat=1), "has proportion and repeat"),
        (lambda: vd.mix(_three(), epoch_size=10), "epoch_size needs"),
        (lambda: vd.mix(_three(proportion=PROPORTIONS), epoch_size=0), "positive"),
        (lambda: vd.mix(_three(proportion=PROPORTIONS), epoch_size=4).counts(), "has none of it"),
        (lambda: vd.mix(_three(proportion=PROPORTIONS)).filter("label > 9").counts(), "no rows"),
        (
            lambda: vd.mix([*_three()[:1], vd.Stream("b", numbers(3), proportion=1.0)]),
            "every stream has a proportion or none",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused(act: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        act()


def test_a_field_missing_on_one_stream_is_named() -> None:
    other = vd.Dataset.create(
        "bare", vd.Schema().add_scalar_int("label"), backend="memory://bare-m"
    )
    mixture = vd.mix([vd.Stream("full", numbers(3)), vd.Stream("bare", other)])
    with pytest.raises(InvalidInputError, match="the stream 'bare' has no column 'vector'"):
        mixture.sample().collate(batch_size=2, fields={"x": Stack("vector")})
    with pytest.raises(InvalidInputError, match="'bare' has no column 'text'"):
        mixture.project("text")


@pytest.mark.parametrize("options", [{}, {"key": "sample_id"}])
def test_samples_are_found_by_their_identity(options: Any) -> None:
    source = vd.relation(numbers(60, **options)).filter("label < 5")
    for identity in ("sample_id", "_anchor"):
        stream = source.sample(identity=identity, order=GlobalShuffle(2)).collate(
            batch_size=8, fields={"id": List(identity)}
        )
        for step, batch in enumerate(stream.read_epoch(1)):
            for index, sample in enumerate(batch["id"]):
                (found,) = stream.where(sample, epoch=1)
                assert (found.step, found.index) == (step, index)
        gone = "s00005" if identity == "sample_id" else 12345
        with pytest.raises(InvalidInputError, match="no stream has a sample"):
            stream.where(gone, epoch=1)
    with pytest.raises(InvalidInputError):
        stream.where("text", epoch=1)
