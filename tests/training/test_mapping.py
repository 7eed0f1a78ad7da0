"""Tokenizers: real ones, functions, paths, and what is not one."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamdb.errors import InvalidInputError
from dreamdb.training import Map, Tokenize
from tests.training.data import words

TEXTS = ["a cat sat", "the cat sat on the mat", "", None, "mat"]


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["?"], show_progress=False)
    tokenizer.train_from_iterator([t for t in TEXTS if t], trainer)
    return tokenizer


class Transformers:
    """Has what a transformers tokenizer has."""

    def __call__(self, texts: list[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": [words(text) for text in texts]}

    def convert_tokens_to_ids(self, token: str) -> int:
        return len(token)


def test_a_real_tokenizer(tmp_path: Path) -> None:
    tokenizer = _tokenizer()
    mapped = Tokenize("text", tokenizer) >> "tokens"
    found = mapped.compute([TEXTS])
    assert [None if t is None else t.tolist() for t in found] == [
        None if text is None else tokenizer.encode(text).ids for text in TEXTS
    ]
    assert all(t is None or t.dtype == np.int64 for t in found)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = Tokenize("text", str(tmp_path / "tokenizer.json")) >> "tokens"
    assert again.describe() == mapped.describe()
    assert pickle.loads(pickle.dumps(again)).describe() == mapped.describe()  # noqa: S301
    other = Tokenize("text", tokenizer, max_length=2) >> "tokens"
    assert other.describe() != mapped.describe()
    assert [len(t) for t in other.compute([["the cat sat on"]])] == [2]


def test_functions_and_transformers_tokenizers() -> None:
    for tokenizer in (words, Transformers()):
        mapped = Tokenize("text", tokenizer) >> "tokens"
        assert mapped.inputs == ("text",)
        assert [t.tolist() for t in mapped.compute([["a cat"]])] == [[1, 3, 1]]
    assert "words" in (Tokenize("text", words) >> "tokens").describe()


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: Tokenize("text", "llama-tokenizer"), "there is no tokenizer at 'llama-tokenizer'"),
        (lambda: Tokenize("text", 3), "not a tokenizer"),
        (lambda: Tokenize("text", words, max_length=0), "positive"),
        (lambda: Tokenize("text", words) >> "", "needs a name"),
        (lambda: Map("len", "text"), "needs a function"),  # type: ignore[arg-type]
    ],
)
def test_bad_mappings_are_refused(act: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        act()
