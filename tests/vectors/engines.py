"""Running the same work with numpy and with the compiled kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dreamdb.vectors import engine

ENGINES = ("numpy", "compiled")


@contextmanager
def using(name: str) -> Iterator[None]:
    """Use one engine for everything."""
    before = dict(engine._STATE)
    try:
        if name == "numpy":
            engine._STATE.update(module=None, missing=True)
        else:
            engine._STATE.update(missing=False)
            assert engine.load_compiled(), "the tests need numba"
        yield
    finally:
        engine._STATE.update(before)


@pytest.fixture(params=ENGINES)
def each_engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test with each engine."""
    with using(request.param):
        yield request.param
