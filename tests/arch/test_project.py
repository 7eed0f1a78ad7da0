"""The project file agrees with the sources: every third party that is used is declared."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from tests.arch.source import PACKAGE, REPOSITORY, modules

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Where the name to import is not the name to install.
INSTALLED_AS = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "sklearn": "scikit-learn",
    "lance": "pylance",
}
# Offered when present, never required: the code that meets them says what to install.
OPTIONAL = {"botocore", "aiobotocore", "matplotlib", "open_clip", "IPython", "ray"}


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower()


def _declared(*extras: str) -> set[str]:
    """Return the packages of the core and of some extras, nested extras included."""
    found = {_name(r) for r in PROJECT["dependencies"]}
    for extra in extras:
        for requirement in PROJECT["optional-dependencies"][extra]:
            if _name(requirement) == "dreamdb":
                nested = requirement[requirement.index("[") + 1 : requirement.index("]")]
                found |= _declared(*nested.split(","))
            else:
                found.add(_name(requirement))
    return found


def _undeclared(root: Path, declared: set[str]) -> list[str]:
    found = []
    for module in modules(root):
        for entry in module.imports:
            top = entry.module.partition(".")[0]
            if top in sys.stdlib_module_names or top in {"dreamdb", "tests", "bench", *OPTIONAL}:
                continue
            if INSTALLED_AS.get(top, top).lower().replace("_", "-") not in declared:
                found.append(f"{module.at(entry.line)} imports {top}")
    return found


def test_the_library_declares_what_it_imports() -> None:
    assert _undeclared(PACKAGE, _declared("all", "bench", "test")) == []


def test_the_tests_declare_what_they_import() -> None:
    assert _undeclared(REPOSITORY / "tests", _declared("test")) == []


def test_the_benchmarks_declare_what_they_import() -> None:
    assert _undeclared(REPOSITORY / "bench", _declared("bench")) == []


def test_an_undeclared_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("def f():\n    import requests\n")
    assert _undeclared(tmp_path, _declared("all")) == [f"{tmp_path.name}.x:2 imports requests"]


def test_every_requirement_has_a_lower_bound() -> None:
    groups = PROJECT["optional-dependencies"].values()
    every = PROJECT["dependencies"] + [r for group in groups for r in group]
    assert [r for r in every if ">=" not in r and _name(r) != "dreamdb"] == []


def test_both_commands_start_the_same_program() -> None:
    assert PROJECT["scripts"] == {"dreamdb": "dreamdb.cli:main", "dreamdb-cli": "dreamdb.cli:main"}
