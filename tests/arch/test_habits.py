"""Sizes, names, and what the library never does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.arch import habits
from tests.arch.planted import plant
from tests.arch.source import PACKAGE, REPOSITORY

CHECKERS: list[Callable[[Path], list[str]]] = [
    habits.size_breaches,
    habits.name_breaches,
    habits.output_breaches,
    habits.environment_breaches,
    habits.safety_breaches,
]


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda f: f.__name__)
def test_the_library_keeps_its_habits(checker: Callable[[Path], list[str]]) -> None:
    assert "\n".join(checker(PACKAGE)) == ""


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda f: f.__name__)
def test_a_sound_package_passes(tmp_path: Path, checker: Callable[[Path], list[str]]) -> None:
    assert checker(plant(tmp_path)) == []


def _methods(count: int) -> str:
    return "class Wide:\n" + "".join(f"    def m{i}(self): ...\n" for i in range(count))


@pytest.mark.parametrize(
    ("checker", "path", "text", "words"),
    [
        (habits.size_breaches, "store/x.py", "A = 1\n" * 651, "has 651 lines"),
        (habits.size_breaches, "store/x.py", "def f():\n" + "    a = 1\n" * 100, "f has 101"),
        (habits.size_breaches, "store/x.py", _methods(36), "36 public methods"),
        (habits.name_breaches, "store/utils.py", "A = 1", "'utils' says nothing"),
        (habits.name_breaches, "store/x.py", "class RefManager: ...", "RefManager"),
        (habits.name_breaches, "store/x.py", "def read_helper(): ...", "read_helper"),
        (habits.name_breaches, "store/x.py", "def do_it(): ...", "do_it"),
        (habits.output_breaches, "store/x.py", "print('here')", "calls print"),
        (habits.environment_breaches, "store/x.py", "import os\nos.environ['A']", "environment"),
        (habits.environment_breaches, "store/x.py", "import os\nos.getenv('A')", "environment"),
        (habits.environment_breaches, "store/x.py", "from os import environ", "environment"),
        (habits.safety_breaches, "store/x.py", "import pickle", "imports pickle"),
        (habits.safety_breaches, "store/x.py", "def f():\n    from pickle import loads", "pickle"),
        (habits.safety_breaches, "store/x.py", "eval('1')", "calls eval"),
        (habits.safety_breaches, "store/x.py", "exec('1')", "calls exec"),
        (habits.safety_breaches, "store/x.py", "from ...errors import Broken", "relatively"),
        (habits.safety_breaches, "store/x.py", "A = 1  # type: " + "ignore", "silences"),
        (habits.safety_breaches, "store/x.py", "A = 1  # no" + "qa", "silences"),
    ],
)
def test_a_bad_habit_is_found(
    tmp_path: Path, checker: Callable[[Path], list[str]], path: str, text: str, words: str
) -> None:
    (breach,) = checker(plant(tmp_path, {path: text}))
    assert words in breach


def test_large_files_everywhere_are_found(tmp_path: Path) -> None:
    many = {f"store/part{i}.py": "A = 1\n" * 300 for i in range(9)}
    (breach,) = habits.size_breaches(plant(tmp_path, many))
    assert "the median file has 300" in breach


@pytest.mark.parametrize(
    ("checker", "path", "text"),
    [
        (habits.size_breaches, "store/x.py", _methods(35)),
        (habits.output_breaches, "cli/x.py", "print('here')"),
        (habits.environment_breaches, "cli/x.py", "import os\nos.environ['A']"),
        (habits.environment_breaches, "config.py", "import os\nos.environ['A']"),
        (habits.safety_breaches, "store/x.py", "A = 1  # type: " + "ignore[misc]"),
        (habits.safety_breaches, "store/x.py", "import re\nre.compile('a')"),
    ],
)
def test_what_is_allowed_passes(
    tmp_path: Path, checker: Callable[[Path], list[str]], path: str, text: str
) -> None:
    assert checker(plant(tmp_path, {path: text})) == []


def _published() -> list[Path]:
    """Return the files that everybody reads."""
    folders = ("dreamdb", "tests", "bench", "examples", "scripts", "design")
    found = [
        p for p in REPOSITORY.iterdir() if p.suffix in (".md", ".toml") or p.name == "Makefile"
    ]
    for folder in folders:
        found += (REPOSITORY / folder).rglob("*.py")
        found += (REPOSITORY / folder).rglob("*.md")
    return found


def test_no_file_names_a_directory_of_one_machine(tmp_path: Path) -> None:
    assert "\n".join(habits.machine_path_breaches(_published())) == ""
    planted = tmp_path / "notes.md"
    planted.write_text("see /" + "home/ann/data and https://example.org/home/page\n")
    assert len(habits.machine_path_breaches([planted])) == 1
    planted.write_text("see https://example.org/home/page and {root}/work/x\n")
    assert habits.machine_path_breaches([planted]) == []
