"""The rotation is one: lengths stay, the inverse undoes it, other seeds differ."""

from __future__ import annotations

import numpy as np
import pytest

from dreamdb.vectors.engine import rotate
from dreamdb.vectors.rotation import Rotation, rotate_columns


@pytest.mark.parametrize("dim", [1, 64, 100, 192, 512, 1_000])
def test_it_is_orthogonal(each_engine: str, dim: int) -> None:
    rotation = Rotation(bytes(32), dim)
    rows = np.random.default_rng(dim).normal(size=(40, dim)).astype(np.float32)
    turned = rotate(rotation, rows)
    assert turned.shape == (40, rotation.size)
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, rtol=1e-3, atol=1e-3)
    back = rotate_columns(rotation, np.ascontiguousarray(turned.T), inverse=True)
    np.testing.assert_allclose(back[:dim].T, rows, atol=1e-4)
    assert not np.allclose(turned, rotate(Rotation(b"\1" * 32, dim), rows))


def test_both_engines_agree() -> None:
    from tests.vectors.engines import using

    for dim in (1, 65, 128, 300):
        rows = np.random.default_rng(dim).normal(size=(37, dim)).astype(np.float32)
        with using("numpy"):
            first = rotate(Rotation(bytes(32), dim), rows)
        with using("compiled"):
            assert (rotate(Rotation(bytes(32), dim), rows).view("u4") == first.view("u4")).all()
