"""What a check found, and the self-tests of ``doctor``: hashes and codecs against known answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from dreamdb.errors import DreamDBError, IntegrityError

__all__ = ["Finding", "check_library", "run_check"]

# The first of BLAKE3's own test vectors.
_BLAKE3_EMPTY: Final = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Parameters
    ----------
    name : str
        What was checked.
    status : str
        ``"ok"``, ``"warning"`` or ``"failed"``.
    detail : str
        In words.
    """

    name: str
    status: str
    detail: str


def run_check(name: str, check: Callable[[], str | Finding]) -> Finding:
    """Run a check; an error is a finding too."""
    try:
        found = check()
    except DreamDBError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return Finding(name, "failed", f"{error}{hint}")
    except (OSError, ValueError, AssertionError) as error:
        return Finding(name, "failed", f"{type(error).__name__}: {error}")
    return found if isinstance(found, Finding) else Finding(name, "ok", found)


def check_library() -> Iterator[Finding]:
    """Yield what the hash and codec self-tests find."""
    yield run_check("hash", _hashes)
    yield run_check("codecs", _codecs)


def _hashes() -> str:
    from blake3 import blake3

    from dreamdb.objects import Kind, address_of, from_text, to_text

    if blake3(b"").hexdigest() != _BLAKE3_EMPTY:
        raise IntegrityError("the blake3 package gives a wrong hash", hint="reinstall blake3")
    # The same bytes in one piece and in pieces, over a page's edge, give one address.
    payload = bytes(range(256)) * 65
    whole = address_of(Kind.FRAGMENT, [payload])
    pieces = address_of(Kind.FRAGMENT, [payload[:7], payload[7:16_384], payload[16_384:]])
    if whole != pieces or from_text(to_text(whole)) != whole:
        raise IntegrityError("addresses of equal bytes differ", hint="reinstall dreamdb")
    if address_of(Kind.NODE, [payload]) == whole:
        raise IntegrityError("objects of two kinds have one address", hint="reinstall dreamdb")
    return "BLAKE3 and addresses give the known answers"


def _codecs() -> str:
    """Write one record of every kind, and nulls, into memory; read them back and verify."""
    import numpy as np

    from dreamdb import Dataset, Schema, connect

    url = f"memory://doctor-{uuid.uuid4().hex}"
    schema = (
        Schema()
        .add_image("image", mime="png")
        .add_embedding("vector", dim=3)
        .add_tensor("tensor", "int16", (2, 2))
        .add_text("text")
        .add_scalar_bool("bool")
        .add_scalar_int("int")
        .add_scalar_float("float")
        .add_scalar_string("string")
        .add_scalar_categorical("categorical")
        .add_scalar_timestamp("timestamp")
        .add_list("list", "int")
    )
    record: dict[str, Any] = {
        "image": b"\x89PNG\x00\xff",
        "vector": np.array([0.5, -1.0, 2.0], np.float32),
        "tensor": np.array([[1, -2], [3, 4]], np.int16),
        "text": "für alle Fälle",
        "bool": True,
        "int": -(1 << 62),
        "float": 1e-300,
        "string": "",
        "categorical": "a",
        "timestamp": np.datetime64("2026-01-02T03:04:05.123456789", "ns"),
        "list": [1, 2, 3],
    }
    dataset = Dataset.create("every-kind", schema, url, data=[record, dict.fromkeys(record)])
    full, empty = dataset[0], dataset[1]
    wrong = [name for name in record if not np.array_equal(full[name], record[name])]
    wrong += [name for name in record if empty[name] is not None]
    report = connect(url).verify()
    if wrong or not report.ok:
        raise IntegrityError(f"values come back changed: {wrong or report.damage}")
    return f"{len(record)} kinds of fields come back as they were written"
