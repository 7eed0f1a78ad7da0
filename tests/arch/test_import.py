"""What `import dreamdb` costs and gives, seen from a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arch.planted import plant
from tests.arch.source import REPOSITORY

HEAVY = [
    "torch",
    "pandas",
    "polars",
    "duckdb",
    "lance",
    "s3fs",
    "sqlglot",
    "tqdm",
    "PIL",
    "sklearn",
]

_PROBE = """
import json, sys, types
import dreamdb
first = sorted(sys.modules)
names = list(getattr(dreamdb, "__all__", []))
missing = [name for name in names if not hasattr(dreamdb, name)]
public = sorted(
    name for name in dir(dreamdb)
    if not name.startswith("_") and not isinstance(getattr(dreamdb, name), types.ModuleType)
    and not type(getattr(dreamdb, name)).__module__ == "__future__"
)
undocumented = [
    name for name in names
    if callable(getattr(dreamdb, name, None)) and not getattr(dreamdb, name).__doc__
]
print(json.dumps({
    "first": first, "all": sorted(sys.modules), "names": names, "missing": missing,
    "public": public, "undocumented": undocumented,
}))
"""


def _probe(directory: Path) -> dict[str, list[str]]:
    result = subprocess.run(
        [sys.executable, "-c", _PROBE],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, list[str]] = json.loads(result.stdout)
    return answer


def _namespace_breaches(answer: dict[str, list[str]]) -> list[str]:
    names, public = answer["names"], answer["public"]
    return [
        *(f"{n} is listed but not there" for n in answer["missing"]),
        *(f"{n} is there but not listed" for n in public if n not in names),
        *(f"{n} is listed but not in dir()" for n in names if n[0] != "_" and n not in public),
        *(f"{n} is undocumented" for n in answer["undocumented"]),
    ]


@pytest.fixture(scope="module")
def answer() -> dict[str, list[str]]:
    return _probe(REPOSITORY)


def test_import_loads_nothing_heavy(answer: dict[str, list[str]]) -> None:
    assert sorted(set(HEAVY) & set(answer["first"])) == []


def test_public_names_load_nothing_heavy(answer: dict[str, list[str]]) -> None:
    assert sorted({*HEAVY, "dreamdb.cli", "dreamdb.testing"} & set(answer["all"])) == []


def test_the_flat_namespace_is_what_all_says(answer: dict[str, list[str]]) -> None:
    assert _namespace_breaches(answer) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("__all__ = ['Dataset']", "Dataset is listed but not there"),
        ("__all__ = []\ndef extra():\n    'Doc.'", "extra is there but not listed"),
        ("__all__ = ['extra']\ndef extra(): ...", "extra is undocumented"),
    ],
)
def test_a_wrong_namespace_is_found(tmp_path: Path, text: str, words: str) -> None:
    plant(tmp_path, {"__init__.py": text})
    assert words in _namespace_breaches(_probe(tmp_path))


def test_a_heavy_import_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {"__init__.py": "import tqdm"})
    assert "tqdm" in _probe(tmp_path)["first"]
