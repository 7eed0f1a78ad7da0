"""Datasets over a counting backend."""

from __future__ import annotations

import itertools

import numpy as np

import dreamdb as vd
from dreamdb.store import open_backend
from dreamdb.testing import CountingBackend

_NUMBERS = itertools.count()

ROW_NBYTES = 10_240


def counted(url: str | None = None) -> CountingBackend:
    """Return a counting backend over a fresh memory space, or over a URL."""
    return CountingBackend(open_backend(url or f"memory://budget-{next(_NUMBERS)}"))


def cold(backend: CountingBackend, ref: str = "main") -> tuple[vd.Dataset, CountingBackend]:
    """Return a handle with empty caches, and what counts its reads."""
    fresh = CountingBackend(backend.inner)
    return vd.Dataset.open_ref(ref, fresh), fresh


def narrow(backend: CountingBackend, rows: int) -> vd.Dataset:
    """Return a dataset of five narrow fields with incompressible numbers in it."""
    schema = (
        vd.Schema()
        .add_scalar_int("i")
        .add_scalar_float("f")
        .add_scalar_categorical("c")
        .add_scalar_bool("b")
        .add_scalar_string("s")
    )
    ds = vd.Dataset.create("main", schema, backend=backend)
    if rows:
        ds.append(narrow_rows(rows, 0))
    return ds


def narrow_rows(count: int, seed: int) -> dict[str, object]:
    """Return columns for :func:`narrow`."""
    generator = np.random.default_rng(seed)
    numbers = generator.integers(0, 1 << 40, count)
    return {
        "i": numbers,
        "f": generator.normal(size=count),
        "c": [f"class {n % 100}" for n in numbers.tolist()],
        "b": numbers % 2 == 0,
        "s": [f"sample-{n:012}" for n in numbers.tolist()],
    }


def images(backend: CountingBackend, rows: int) -> vd.Dataset:
    """Return a dataset of images of 10 KB each and a label."""
    schema = vd.Schema().add_image("image").add_scalar_int("label")
    ds = vd.Dataset.create("main", schema, backend=backend)
    if rows:
        ds.append(image_rows(rows, 0))
    return ds


def image_rows(count: int, seed: int) -> dict[str, object]:
    """Return columns for :func:`images`; the images do not compress."""
    generator = np.random.default_rng(seed)
    return {
        "image": [generator.bytes(ROW_NBYTES) for _ in range(count)],
        "label": generator.integers(0, 10, count),
    }
