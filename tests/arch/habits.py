"""Habits of the source: sizes, names, and what the library never does."""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterable
from pathlib import Path

from tests.arch.source import Function, decorators, modules

MAX_LINES = 650
MAX_MEDIAN = 260
MAX_FUNCTION_LINES = 100  # with its docstring; a screen of code is about half of that
MAX_PUBLIC_METHODS = 35

VAGUE = {"util", "utils", "helper", "helpers", "manager", "managers", "handler", "handlers"}
VAGUE_VERBS = ("do_", "process_")
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
ENVIRONMENT = {"environ", "environb", "getenv", "putenv"}

_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_BLANKET = re.compile(r"#\s*(type:\s*ignore(?!\[)|noqa(?!:)|mypy:\s*ignore-errors)")
_MACHINE_PATH = re.compile(r"(?<![\w.}>])/(?:home|root|work|Users)/\w")


def size_breaches(root: Path) -> list[str]:
    """Return files, functions and classes that have grown too large."""
    found = []
    lengths = []
    for module in modules(root):
        if module.is_empty:
            continue
        lines = len(module.text.splitlines())
        lengths.append(lines)
        if lines > MAX_LINES:
            found.append(f"{module.name} has {lines} lines, more than {MAX_LINES}")
        for node in ast.walk(module.tree):
            if isinstance(node, Function):
                long = (node.end_lineno or node.lineno) - node.lineno + 1
                if long > MAX_FUNCTION_LINES:
                    found.append(f"{module.at(node)} {node.name} has {long} lines")
            elif isinstance(node, ast.ClassDef):
                names = {
                    n.name
                    for n in node.body
                    if isinstance(n, Function)
                    and not n.name.startswith("_")
                    and not decorators(n) & {"property", "cached_property", "setter", "deleter"}
                }
                if len(names) > MAX_PUBLIC_METHODS:
                    found.append(f"{module.at(node)} {node.name} has {len(names)} public methods")
    if lengths and (median := statistics.median(lengths)) > MAX_MEDIAN:
        found.append(f"the median file has {median} lines, more than {MAX_MEDIAN}")
    return found


def name_breaches(root: Path) -> list[str]:
    """Return modules, classes and functions with names that say nothing."""
    found = []
    for module in modules(root):
        for part in module.name.split("."):
            if _is_vague(part):
                found.append(f"{module.name}: {part!r} says nothing about what is inside")
        for node in ast.walk(module.tree):
            if isinstance(node, Function | ast.ClassDef) and (
                _is_vague(node.name) or node.name.startswith(VAGUE_VERBS)
            ):
                found.append(f"{module.at(node)} {node.name!r} says nothing about what it does")
    return found


def output_breaches(root: Path) -> list[str]:
    """Return prints outside the command line."""
    return [
        f"{module.at(node)} calls print"
        for module in modules(root)
        if not _is_front(module.name, root)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _called(node) == "print"
    ]


def environment_breaches(root: Path) -> list[str]:
    """Return reads of the environment outside config and the command line."""
    found = []
    for module in modules(root):
        if _is_front(module.name, root) or module.name == f"{root.name}.config":
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT:
                used = ast.unparse(node.value) == "os"
            elif isinstance(node, ast.ImportFrom):
                used = node.module == "os" and any(a.name in ENVIRONMENT for a in node.names)
            else:
                continue
            if used:
                found.append(f"{module.at(node)} reads the environment; that belongs to config")
    return found


def safety_breaches(root: Path) -> list[str]:
    """Return pickles, evaluated text, relative imports upwards and silenced checkers."""
    found = []
    for module in modules(root):
        for entry in module.imports:
            if entry.module.partition(".")[0] in UNSAFE_MODULES:
                found.append(f"{module.at(entry.line)} imports {entry.module}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and _called(node) in UNSAFE_CALLS:
                found.append(f"{module.at(node)} calls {_called(node)}")
            elif isinstance(node, ast.ImportFrom) and node.level > 1:
                found.append(f"{module.at(node)} imports relatively beyond its package")
        for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
            if token.type == tokenize.COMMENT and _BLANKET.search(token.string):
                found.append(f"{module.at(token.start[0])} silences every check: {token.string}")
    return found


def machine_path_breaches(files: Iterable[Path]) -> list[str]:
    """Return lines that name a directory of one person's machine."""
    return [
        f"{path.name}:{number}: {line.strip()[:80]}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if _MACHINE_PATH.search(line)
    ]


def _is_vague(name: str) -> bool:
    return any(word.lower() in VAGUE for word in _WORD.findall(name))


def _is_front(module_name: str, root: Path) -> bool:
    """Return whether a module belongs to the command line."""
    parts = module_name.split(".")
    return parts[0] == root.name and parts[1:2] in (["cli"], ["__main__"])


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""
