"""Anchors derived from a key column.

Source: design/0004 section 3.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from dreamdb.errors import InvalidInputError
from dreamdb.write.rows import Slab

__all__ = ["KEY_KINDS", "anchor_of_key", "anchors_of_keys"]

KEY_KINDS = frozenset({"int", "string", "categorical", "text", "timestamp"})


def anchor_of_key(value: Any) -> int:
    """Return the anchor of a key: the first 8 bytes of a keyed BLAKE3, little-endian.

    Parameters
    ----------
    value : int or str
        The key; an integer and a text never share a hash input.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        data = b"i" + int(value).to_bytes(8, "little", signed=True)
    elif isinstance(value, str):
        data = b"s" + value.encode("utf-8")
    else:
        raise InvalidInputError(f"{value!r} cannot be a key", hint="keys are integers or texts")
    digest = blake3(data, derive_key_context="dreamdb v1 record key").digest(length=8)
    return int.from_bytes(digest, "little")


def anchors_of_keys(slab: Slab, key: str) -> Slab:
    """Return the slab with the anchors its key column gives.

    Raises
    ------
    InvalidInputError
        When the key is missing or null, anchors were given too, or two different keys collide.
    """
    column = slab.columns.get(key)
    if column is None or column.null_count:
        missing = 0 if column is None else column.to_pylist().index(None)
        raise InvalidInputError(
            f"row {missing + slab.first_row} has no value for the key {key!r}",
            hint="every record of this dataset needs one",
            field=key,
            row=missing + slab.first_row,
        )
    if slab.anchors is not None:
        raise InvalidInputError(
            "this dataset derives anchors from its key; do not give '_anchor' too", field=key
        )
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values = column.to_pylist()
    anchors: npt.NDArray[np.uint64] = np.array([anchor_of_key(v) for v in values], np.uint64)
    if len(set(values)) == len(values) and len(np.unique(anchors)) != len(anchors):
        raise InvalidInputError("two keys of this call have the same 64-bit hash", field=key)
    return replace(slab, anchors=anchors)
