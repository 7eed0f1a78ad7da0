"""Fixtures of the vector tests."""

from tests.vectors.engines import each_engine

__all__ = ["each_engine"]
