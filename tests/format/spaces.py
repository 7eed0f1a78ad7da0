"""Spaces with every kind of field, and the plain Python rows that they must hold."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa

import dreamdb as vd
from dreamdb.model import Field, FieldList
from dreamdb.model import field_type as kind
from dreamdb.types import FieldType

Rows = dict[int, dict[str, Any]]

TYPES: dict[str, FieldType] = {
    "image": kind("image", mime="png"),
    "audio": kind("audio", mime="wav"),
    "video": kind("video", mime="mp4"),
    "raw": kind("binary"),
    "vector": kind("embedding", dim=5),
    "half": kind("tensor", dtype="float16", shape=(2, 3)),
    "mask": kind("tensor", dtype="uint8", shape=(3,)),
    "caption": kind("text"),
    "name": kind("string"),
    "label": kind("categorical"),
    "flag": kind("bool"),
    "count": kind("int"),
    "score": kind("float"),
    "when": kind("timestamp"),
    "tags": kind("list", item=kind("string")),
    "curve": kind("list", item=kind("float")),
    "box": kind(
        "struct",
        fields=[
            ("x", kind("int")),
            ("what", kind("string")),
            ("seen", kind("timestamp")),
            ("ok", kind("bool")),
            ("crop", kind("binary")),
            ("path", kind("list", item=kind("int"))),
        ],
    ),
}


def schema_at(rungs: tuple[int, int], *names: str) -> vd.Schema:
    """Return a schema of the named fields, or of all, every track cut at these rungs."""
    rung, floor = rungs
    chosen = names or tuple(TYPES)
    fields = [
        Field(name, TYPES[name], rung=rung, floor=floor, order=order)
        for order, name in enumerate(chosen)
    ]
    return vd.Schema.of_fields(FieldList.of(fields))


def default_schema(*names: str) -> vd.Schema:
    """Return a schema of the named fields at the rungs that their kinds have by themselves."""
    schema = vd.Schema()
    for name in names:
        schema._add(name, TYPES[name])
    return schema


def value_of(name: str, dice: random.Random) -> Any:
    """Return a random value of a field; a tenth of them are null."""
    if dice.random() < 0.1:
        return None
    ftype = TYPES[name]
    if ftype.kind in ("image", "audio", "video", "binary"):
        return dice.randbytes(dice.choice((0, 1, 7, 40)))
    if name == "vector":
        return [dice.randrange(-64, 64) / 8 for _ in range(5)]
    if name == "half":
        return [[dice.randrange(-64, 64) / 8 for _ in range(3)] for _ in range(2)]
    if name == "mask":
        return [dice.randrange(256) for _ in range(3)]
    if name == "caption":
        return "ä☃" * dice.randrange(12) + str(dice.random())
    if name == "name":
        return dice.choice(("", "zebra", "ant\0", "ü" * 9, "x" * 16, "x" * 17))
    if name == "label":
        return f"class {dice.randrange(9)}"
    if name == "flag":
        return dice.random() < 0.5
    if name == "count":
        return dice.choice((0, -1, 127, 128, -32_769, 1 << 40, -(1 << 63), 5, 6))
    if name == "score":
        return dice.choice((0.0, -0.0, 1.5, -2.25, float("inf"), 1e300, float("nan")))
    if name == "when":
        return dice.randrange(-(1 << 40), 1 << 60)
    if name == "tags":
        return [dice.choice((None, "", "wide", "tall")) for _ in range(dice.randrange(4))]
    if name == "curve":
        return [dice.randrange(9) / 4 for _ in range(dice.randrange(4))]
    return {
        "x": dice.choice((None, 4, -5)),
        "what": dice.choice((None, "", "cat")),
        "seen": dice.choice((None, 77)),
        "ok": dice.choice((None, True, False)),
        "crop": dice.choice((None, b"", b"\0\1")),
        "path": dice.choice((None, [], [1, None, 3])),
    }


def rows_of(anchors: list[int], names: tuple[str, ...], seed: int) -> Rows:
    """Return random rows at these anchors."""
    dice = random.Random(seed)
    return {anchor: {name: value_of(name, dice) for name in names} for anchor in anchors}


def anchors_between(start: int, count: int, seed: int) -> list[int]:
    """Return increasing anchors with uneven gaps."""
    dice = random.Random(seed)
    out = []
    for _ in range(count):
        start += dice.choice((1, 2, 300, 70_000))
        out.append(start)
    return out


def append(ds: vd.Dataset, rows: Rows) -> None:
    """Append rows with their anchors."""
    ds.append_many([{"_anchor": anchor, **row} for anchor, row in rows.items()])


def plain(array: Any) -> list[Any]:
    """Return an Arrow array as plain values: times as nanoseconds, tensors flat."""
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in plain(chunk)]
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage)
    if pa.types.is_timestamp(array.type):
        return list(array.cast(pa.int64()).to_pylist())
    if pa.types.is_struct(array.type):
        names = [array.type.field(i).name for i in range(array.type.num_fields)]
        columns = [plain(member) for member in array.flatten()]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        valid = array.is_valid().to_pylist()
        return [row if ok else None for row, ok in zip(rows, valid, strict=True)]
    return list(array.to_pylist())


def comparable(value: Any) -> Any:
    """Return a value that equals its copies: NaN and the sign of zero included."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {key: comparable(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        flat: list[Any] = []
        for item in value:
            flat += comparable(item) if isinstance(item, list) else [comparable(item)]
        return flat
    return value


def table_of(rows: Rows, name: str) -> list[Any]:
    """Return one field of rows in anchor order."""
    return [comparable(rows[anchor].get(name)) for anchor in sorted(rows)]


def files_of(root: Path) -> list[Path]:
    """Return the object files of a space."""
    return sorted(path for path in (root / "objects").rglob("*") if path.is_file())


def to_json(value: Any) -> Any:
    """Return a value as JSON that :func:`from_json` turns back exactly."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, dict):
        return {"members": {name: to_json(member) for name, member in value.items()}}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    return value


def from_json(value: Any) -> Any:
    """Turn back what :func:`to_json` has made."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if isinstance(value, dict):
        if "hex" in value:
            return bytes.fromhex(value["hex"])
        if "float" in value:
            return float(value["float"])
        return {name: from_json(member) for name, member in value["members"].items()}
    return value
