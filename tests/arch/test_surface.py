"""Exports say what a module offers; docstrings say what an export takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.arch.planted import SOUND, plant
from tests.arch.source import PACKAGE
from tests.arch.surface import docstring_breaches, export_breaches, parameter_breaches


def test_exports_are_what_modules_define() -> None:
    assert "\n".join(export_breaches(PACKAGE)) == ""


def test_exports_are_documented() -> None:
    assert "\n".join(docstring_breaches(PACKAGE)) == ""


def test_parameters_sections_match_signatures() -> None:
    assert "\n".join(parameter_breaches(PACKAGE)) == ""


def test_a_sound_package_passes(tmp_path: Path) -> None:
    root = plant(tmp_path)
    assert export_breaches(root) == []
    assert docstring_breaches(root) == []
    assert parameter_breaches(root) == []


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("store/x.py", "def f(): ...", "has no __all__"),
        ("store/x.py", "__all__ = ['absent']", "which the module does not define"),
        ("store/x.py", "import os\n__all__ = ['os']", "which the module does not define"),
        ("store/x.py", "__all__ = ['f', 'f']\ndef f(): ...", "repeats 'f'"),
        ("store/x.py", "__all__ = ['_f']\ndef _f(): ...", "lists the private '_f'"),
        ("store/__init__.py", "from dreamdb.store.local import put\n__all__ = []", "gathers 'put'"),
        ("store/__init__.py", "__all__ = ['take']", "which the module does not define"),
    ],
)
def test_a_wrong_export_is_found(tmp_path: Path, path: str, text: str, words: str) -> None:
    (breach,) = export_breaches(plant(tmp_path, {path: text}))
    assert words in breach


@pytest.mark.parametrize(
    ("name", "before", "after", "words"),
    [
        ("store/local.py", '"""A store."""', "", "dreamdb.store.local has no module docstring"),
        ("errors.py", '"""Something is broken."""', "pass", "Broken has no docstring"),
        ("store/local.py", '"""Put bytes.', 'f"""Put bytes.', "put has no docstring"),
        ("dataset/__init__.py", '"""Write.', 'f"""Write.', "Dataset.write has no docstring"),
    ],
)
def test_a_missing_docstring_is_found(
    tmp_path: Path, name: str, before: str, after: str, words: str
) -> None:
    changed = SOUND[name].replace(before, after)
    assert changed != SOUND[name]
    (breach,) = docstring_breaches(plant(tmp_path, {name: changed}))
    assert words in breach


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("def put(name, data, *, where, sync)", "def put(name, *, where, sync)", "documents"),
        ("    where : str\n", "    place : str\n", "documents"),
        ("def __init__(self, name):", "def __init__(self, name, at):", "Dataset documents"),
        ("def write(self, data):", "def write(self, data, *, at):", "Dataset.write documents"),
        ("        Parameters\n", "        Arguments\n", "Dataset.write has no"),
        ("\n    Parameters\n", "\n    Arguments\n", "has no Parameters section"),
    ],
)
def test_a_wrong_parameters_section_is_found(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    for name in ("store/local.py", "dataset/__init__.py"):
        if before in SOUND[name]:
            changed = {name: SOUND[name].replace(before, after, 1)}
            break
    (breach,) = parameter_breaches(plant(tmp_path, changed))
    assert words in breach


def test_dataclass_fields_are_parameters(tmp_path: Path) -> None:
    text = '''
        """Values."""

        from dataclasses import dataclass

        __all__ = ["Value"]


        @dataclass(frozen=True)
        class Value:
            """A value.

            Parameters
            ----------
            low : int
                Least.
            """

            low: int
            high: int
    '''
    (breach,) = parameter_breaches(plant(tmp_path, {"dataset/value.py": text}))
    assert "Value documents (low) but takes (low, high)" in breach
