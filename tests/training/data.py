"""Data sets whose every value follows from the record's number."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import dreamdb as vd
from dreamdb.training import List, Stack

_NUMBER = itertools.count()


def space() -> str:
    """Return a space of its own."""
    return f"memory://training-{next(_NUMBER)}"


def record(i: int) -> dict[str, Any]:
    return {
        "sample_id": f"s{i:05d}",
        "label": i % 7,
        "weight": i / 8,
        "vector": np.arange(3, dtype=np.float32) + i,
        "text": "word " * (1 + i * 37 % 23),
        "shard": f"shard-{i // 50}",
    }


def schema() -> vd.Schema:
    return (
        vd.Schema()
        .add_scalar_string("sample_id")
        .add_scalar_int("label")
        .add_scalar_float("weight")
        .add_embedding("vector", 3)
        .add_text("text")
        .add_scalar_string("shard")
    )


def numbers(count: int, name: str = "numbers", where: Any = None, **options: Any) -> vd.Dataset:
    """Return a dataset of so many records, anchors 10 apart, in several fragments."""
    ds = vd.Dataset.create(name, schema(), backend=where or space(), **options)
    for start in range(0, count, 128):
        rows = [record(i) for i in range(start, min(count, start + 128))]
        if "key" not in options:
            rows = [{**row, "_anchor": 10 * int(row["sample_id"][1:])} for row in rows]
        ds.append_many(rows)
    return ds


def ids(stream: Any, epoch: int = 0, rank: int = 0, world_size: int = 1) -> list[list[Any]]:
    """Return the ids of an epoch, batch by batch."""
    return [batch["id"] for batch in stream.read_epoch(epoch, rank, world_size)]


FIELDS = {"x": Stack("vector"), "y": Stack("label"), "id": List("sample_id")}


def words(text: str) -> list[int]:
    """Tokenize: one token per word, and one more at the end."""
    return [len(word) for word in text.split()] + [1]
