"""Dividing records by hash, stable under appends.

Source: design/0004 section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from dreamdb.errors import InvalidInputError
from dreamdb.stream import derive_key
from dreamdb.tracks import View, gather

__all__ = ["split_rows"]


def _hashes_of_anchors(anchors: npt.NDArray[np.uint64], key: int) -> npt.NDArray[np.uint64]:
    x = anchors + np.uint64(key)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hashes_of_values(view: View, field: str, key: int) -> npt.NDArray[np.uint64]:
    rows = view.row_of_visible(np.arange(view.count(), dtype=np.int64))
    column = gather(view.track(field), rows)
    if pa.types.is_timestamp(column.type):
        # Not through datetime: what that becomes depends on whether pandas is installed.
        column = column.cast(pa.int64())
    values = column.to_pylist()
    salt = key.to_bytes(8, "little")
    known: dict[Any, int] = {}
    for value in values:
        if value not in known:
            digest = blake3(salt + repr(value).encode("utf-8")).digest(length=8)
            known[value] = int.from_bytes(digest, "little")
    return np.array([known[v] for v in values], np.uint64)


def split_rows(
    view: View, ratios: Mapping[str, float], *, by: str | None, seed: int
) -> dict[str, npt.NDArray[np.uint64]]:
    """Return the anchors of each part.

    Parameters
    ----------
    view : View
        The records.
    ratios : mapping of str to float
        Share of each part.
    by : str or None
        Field whose equal values stay together.
    seed : int
        Another seed, another division.

    Raises
    ------
    InvalidInputError
        When the shares are not positive or do not add up to 1.
    """
    try:
        shares = [float(share) for share in ratios.values()]
    except (AttributeError, TypeError, ValueError):
        raise InvalidInputError(
            f"ratios must be a dictionary of shares, not {ratios!r}",
            hint="such as {'train': 0.9, 'val': 0.1}",
        ) from None
    if not shares or not min(shares) >= 0 or not abs(sum(shares) - 1.0) <= 1e-6:
        raise InvalidInputError(
            f"the ratios {dict(ratios)} do not add up to 1",
            hint="such as {'train': 0.9, 'val': 0.1}",
        )
    key = derive_key("split", seed)
    anchors = view.visible_anchors()
    if by is None:
        hashes = _hashes_of_anchors(anchors, key)
    else:
        (name,) = view.check_fields([by])
        if view.content.schema[name].type.kind in ("list", "struct", "embedding", "tensor"):
            raise InvalidInputError(f"cannot split by {name!r}: its values are not scalars")
        hashes = _hashes_of_values(view, name, key)
    point = (hashes >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    edges = np.cumsum(shares)
    edges[-1] = 2.0
    part = np.searchsorted(edges, point, "right")
    return {name: anchors[part == index] for index, name in enumerate(ratios)}
