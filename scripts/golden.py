"""Write the golden space of this format version: `python -m scripts.golden`.

A released golden space is never written again: readers of every later version must read it.  The
archive holds a space with every kind of field; the document beside it says what it must hold.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import dreamdb as vd
from tests.format.spaces import (
    TYPES,
    Rows,
    append,
    default_schema,
    rows_of,
    schema_at,
    to_json,
    value_of,
)

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "format" / "golden"


def build(root: Path) -> dict[str, Any]:
    """Make the space and return what it holds."""
    names = tuple(TYPES)
    expected: dict[str, Any] = {}

    def note(ref: str, rungs: Any, rows: Rows, columns: tuple[str, ...]) -> None:
        ds = vd.Dataset.open_ref(ref, root)
        expected[ref] = {
            "content": ds.content_id,
            "manifest": ds.current_manifest(),
            "rungs": rungs,
            "fields": columns,
            "rows": {str(a): to_json([row.get(n) for n in columns]) for a, row in rows.items()},
        }

    dice = random.Random(1)
    ds = vd.Dataset.create("all", schema_at((2, 1), *names), backend=root, message="golden")
    rows = rows_of(list(range(1_000, 3_000, 30)), names, 2)
    append(ds, rows)
    append(ds, inside := rows_of([1_001, 1_951, 2_501], names, 3))
    rows.update(inside)
    ds.snapshot("all@1", "before the edits", metadata={"format": "1"})
    note("all@1", [2, 1], rows, names)
    for name in names:
        anchor = dice.choice(sorted(rows))
        rows[anchor] = {**rows[anchor], name: value_of(name, dice)}
        ds.update([anchor], {name: [rows[anchor][name]]})
    note("all", [2, 1], rows, names)

    branch = ds.branch("sweep/A+1")
    branch.add_scalar_layer("guess", "label", "int", [(a, a % 100) for a in rows if a % 3])
    gone = sorted(rows)[2:4]
    branch.delete(gone)
    kept = {a: {**r, "guess": a % 100 if a % 3 else None} for a, r in rows.items() if a not in gone}
    note("sweep/A+1", None, kept, (*names, "guess"))

    ds = vd.Dataset.create("defaults", default_schema(*names), backend=root)
    append(ds, rows := rows_of(list(range(5, 95)), names, 4))
    note("defaults", "default", rows, names)

    # Null chunks have no object, so a tree of several levels stays small.
    ds = vd.Dataset.create("deep", schema_at((0, 0), "count"), backend=root)
    rows = {anchor: {"count": 7 if anchor == 900 else None} for anchor in range(1, 1_800)}
    append(ds, rows)
    note("deep", [0, 0], rows, ("count",))

    # Plain values of several pages.
    ds = vd.Dataset.create("pages", default_schema("raw"), backend=root)
    noise = random.Random(5)
    append(ds, rows := {a: {"raw": noise.randbytes(12_000)} for a in range(1, 4)})
    note("pages", "default", rows, ("raw",))
    vd.Dataset.create("empty", default_schema("flag"), backend=root)
    note("empty", "default", {}, ("flag",))
    return expected


def main() -> None:
    """Write the archive and the document, unless they exist."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replace", action="store_true", help="before the first release only")
    replace = parser.parse_args().replace
    FOLDER.mkdir(exist_ok=True)
    archive, document = FOLDER / "v1.tar.gz", FOLDER / "v1.json.gz"
    if archive.exists() and not replace:
        raise SystemExit(f"{archive} exists; a released golden space is never written again")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "space"
        expected = build(root)
        with tarfile.open(archive, "w:gz", compresslevel=9) as tar:
            for path in sorted(root.rglob("*")):
                inside = path.relative_to(root)
                if path.is_file() and inside.parts[0] not in ("locks", "tmp"):
                    member = tarfile.TarInfo(str(inside))
                    raw = path.read_bytes()
                    member.size, member.mode = len(raw), 0o644
                    tar.addfile(member, io.BytesIO(raw))
    told = json.dumps(expected, separators=(",", ":"), sort_keys=True)
    document.write_bytes(gzip.compress(told.encode(), mtime=0))
    print(f"{archive}: {archive.stat().st_size} bytes, {document}: {document.stat().st_size} bytes")


if __name__ == "__main__":
    main()
