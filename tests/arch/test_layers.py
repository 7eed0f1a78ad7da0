"""Every import goes down, strangers stay strangers, heavy packages load when first used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.arch.layers import layer_breaches, privacy_breaches, third_party_breaches
from tests.arch.planted import plant
from tests.arch.source import PACKAGE


def test_imports_go_down() -> None:
    assert "\n".join(layer_breaches(PACKAGE)) == ""


def test_third_parties_load_in_their_place() -> None:
    assert "\n".join(third_party_breaches(PACKAGE)) == ""


def test_packages_use_only_what_others_export() -> None:
    assert "\n".join(privacy_breaches(PACKAGE)) == ""


def test_a_sound_package_passes(tmp_path: Path) -> None:
    root = plant(tmp_path)
    assert layer_breaches(root) == []
    assert third_party_breaches(root) == []
    assert privacy_breaches(root) == []


@pytest.mark.parametrize(
    ("path", "line", "words"),
    [
        ("store/x.py", "from dreamdb.dataset import Dataset", "stands above 'store'"),
        ("store/x.py", "import dreamdb.dataset", "stands above 'store'"),
        ("store/x.py", "from dreamdb import dataset", "stands above 'store'"),
        ("store/x.py", "from ..dataset import Dataset", "stands above 'store'"),
        ("store/x.py", "def f():\n    from dreamdb.write import commit", "stands above 'store'"),
        ("store/x.py", "try:\n    import dreamdb.cli\nexcept ImportError: pass", "stands above"),
        (
            "store/x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dreamdb.write import c",
            "stands above",
        ),
        ("store/x.py", "from dreamdb.codecs import encode", "never import each other"),
        ("codecs/x.py", "from dreamdb.model import Schema", "never import each other"),
        ("model/x.py", "import dreamdb.store.local", "never import each other"),
        ("read/x.py", "from dreamdb.write import commit", "never import each other"),
        ("maintain/x.py", "from dreamdb.stream import mix", "never import each other"),
        ("errors.py", "from dreamdb.objects import seal", "stands above 'errors'"),
        ("store/x.py", "import dreamdb", "the library does not use it"),
        ("write/x.py", "from dreamdb.testing import suite", "the library does not use it"),
        ("testing/x.py", "from dreamdb.write import commit", "the store only"),
        ("attic/x.py", "from dreamdb.errors import Broken", "has no layer"),
    ],
)
def test_a_breach_of_layers_is_found(tmp_path: Path, path: str, line: str, words: str) -> None:
    (breach,) = layer_breaches(plant(tmp_path, {path: line}))
    assert words in breach
    assert path.rpartition(".")[0].replace("/", ".") in breach


@pytest.mark.parametrize(
    ("path", "line", "package"),
    [
        ("dataset/x.py", "import torch", "torch"),
        ("dataset/x.py", "import pandas as pd", "pandas"),
        ("read/x.py", "from polars import DataFrame", "polars"),
        ("store/x.py", "import s3fs", "s3fs"),
        ("store/x.py", "import fsspec.core", "fsspec"),
        ("store/x.py", "import pyarrow as pa", "pyarrow"),
        ("objects/x.py", "import numpy", "numpy"),
        ("codecs/x.py", "try:\n    import numba\nexcept ImportError:\n    pass", "numba"),
        ("cli/x.py", "import rich", "rich"),
        ("adapters/x.py", "import torch", "torch"),
        ("testing/x.py", "def f():\n    import requests", "requests"),
        ("dataset/x.py", "class A:\n    import tqdm", "tqdm"),
    ],
)
def test_a_heavy_import_is_found(tmp_path: Path, path: str, line: str, package: str) -> None:
    (breach,) = third_party_breaches(plant(tmp_path, {path: line}))
    assert f"imports {package} " in breach


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("dataset/x.py", "def f():\n    import torch"),
        ("store/fsspec_store.py", "import fsspec"),
        ("torch/x.py", "import torch"),
        ("read/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas"),
        ("cli/x.py", "import click\nfrom dreamdb.dataset import Dataset\nimport dreamdb"),
        ("testing/x.py", "import hypothesis\nfrom dreamdb.store import put"),
        ("write/x.py", "from dreamdb import errors"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, path: str, line: str) -> None:
    root = plant(tmp_path, {path: line})
    assert third_party_breaches(root) == []
    assert layer_breaches(root) == []


def test_use_of_a_private_name_is_found(tmp_path: Path) -> None:
    root = plant(tmp_path, {"write/x.py": "from dreamdb.store.local import os"})
    (breach,) = privacy_breaches(root)
    assert "imports os, private to dreamdb.store.local" in breach
