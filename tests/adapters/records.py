"""A dataset with a field of every kind."""

from __future__ import annotations

import itertools

import numpy as np

import dreamdb as vd

_NUMBERS = itertools.count()

ROWS = 700
TEXT_ONLY = ["i", "f", "s", "c", "b", "t", "x"]
NO_BYTES = [*TEXT_ONLY, "e", "l", "st"]


def fresh_url() -> str:
    """Return the URL of a space that nobody has used."""
    return f"memory://adapters-{next(_NUMBERS)}"


def every_kind(url: str | None = None, rows: int = ROWS) -> vd.Dataset:
    """Return a dataset in which some records are deleted and some values are null."""
    schema = (
        vd.Schema()
        .add_scalar_int("i")
        .add_scalar_float("f")
        .add_scalar_string("s")
        .add_scalar_categorical("c")
        .add_scalar_bool("b")
        .add_scalar_timestamp("t")
        .add_text("x")
        .add_image("im", mime="png")
        .add_embedding("e", 3)
        .add_tensor("m", "int16", (2, 2))
        .add_list("l", "int")
        .add_struct("st", {"a": "int", "b": "string"})
    )
    ds = vd.Dataset.create("every", schema, url or fresh_url())
    ds.append_many([record(k) for k in range(rows)])
    ds.delete(vd.col("i").isin(list(range(3, rows, 10))))
    return ds


def record(k: int) -> dict[str, object]:
    """Return one record."""
    return {
        "i": k,
        "f": None if k % 11 == 0 else k / 3,
        "s": f"s{k % 4}",
        "c": f"c{k % 3}",
        "b": k % 2 == 0,
        "t": np.datetime64(k * 10**9 + k, "ns"),
        "x": f'a "quoted", text\nline {k} with ü',
        "im": None if k % 13 == 0 else b"\x89PNG" + bytes([k % 256]),
        "e": [k, 1, 2],
        "m": np.full((2, 2), k, np.int16),
        "l": [k] * (k % 3),
        "st": {"a": k, "b": None if k % 2 else "z"},
    }
