"""What the package shows: exports, docstrings and their numpy sections."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.arch.source import Function, Module, arguments, decorators, modules, public_functions

# Packages whose every function with a parameter documents all of them; elsewhere a function or
# class with four or more has the section, and no section names what is not there.
FOR_USERS = ("dataset", "torch", "adapters", "sql", "training")
MANY = 4

_ENTRY = re.compile(r"(\*{0,2}\w+(?:, *\*{0,2}\w+)*)(?:\s*:.*)?\Z")


def export_breaches(root: Path) -> list[str]:
    """Return every module whose ``__all__`` does not say what it offers."""
    found = []
    parsed = modules(root)
    for module in parsed:
        if module.is_empty or module.name.endswith(".__main__"):
            continue
        exports, defined = module.exports(), module.defined()
        imported = {i.bound_as for i in module.imports if i.runs_at_import}
        if exports is None:
            if _offers(module):
                found.append(f"{module.name} has no __all__")
            continue
        found += [f"{module.name}.__all__ repeats {n!r}" for n in _repeated(exports)]
        found += [
            f"{module.name}.__all__ lists the private {n!r}" for n in exports if _is_private(n)
        ]
        if module.name == root.name:
            continue  # lazy: compared with the living module in test_import.py
        if module.is_package:
            own = {
                i.bound_as
                for i in module.imports
                if i.runs_at_import and i.module.split(".")[:2] == module.name.split(".")[:2]
            } | set(defined)
            offered = {n for n in own if not n.startswith("_")}
            found += [
                f"{module.name} gathers {n!r} without exporting it"
                for n in sorted(offered - set(exports))
            ]
            known = offered | imported | {m.name.rpartition(".")[2] for m in parsed}
        else:
            known = set(defined)
        found += [
            f"{module.name}.__all__ lists {n!r}, which the module does not define"
            for n in exports
            if n not in known and "__getattr__" not in defined
        ]
    return found


def docstring_breaches(root: Path) -> list[str]:
    """Return every module, exported name and public method without a docstring."""
    found = [
        f"{module.name} has no module docstring"
        for module in modules(root)
        if not module.is_empty and not ast.get_docstring(module.tree)
    ]
    for module, place, node in _exported(root):
        if not ast.get_docstring(node):
            found.append(f"{module.at(node)} {place} has no docstring")
    return found


def parameter_breaches(root: Path) -> list[str]:
    """Return every exported function or class whose Parameters section is missing or wrong."""
    found = []
    for module, place, node in _exported(root):
        text = ast.get_docstring(node)
        if not text or decorators(node) & {"overload", "property", "setter", "cached_property"}:
            continue
        taken = _class_arguments(node) if isinstance(node, ast.ClassDef) else arguments(node)
        documented = _documented(text)
        if documented is None:
            if _must_document(module, root, place, node, taken):
                found.append(f"{module.at(node)} {place} has no Parameters section")
        elif taken is not None and not _agree(module, root, documented, taken):
            found.append(
                f"{module.at(node)} {place} documents ({', '.join(documented)}) "
                f"but takes ({', '.join(taken)})"
            )
    return found


def _exported(root: Path) -> Iterator[tuple[Module, str, Function | ast.ClassDef]]:
    """Yield the exported functions and classes of every module, and the classes' methods."""
    for module in modules(root):
        exports = set(module.exports() or ())
        for name, node in module.defined().items():
            if name not in exports:
                continue
            if isinstance(node, Function | ast.ClassDef):
                yield module, name, node
            if isinstance(node, ast.ClassDef):
                for method in public_functions(node):
                    yield module, f"{name}.{method.name}", method


def _must_document(
    module: Module,
    root: Path,
    place: str,
    node: Function | ast.ClassDef,
    taken: list[str] | None,
) -> bool:
    count = len(taken or ())
    if _package(module, root) in FOR_USERS:
        return count > 0
    return count >= MANY and "." not in place  # methods: a protocol may say it in one line


def _agree(module: Module, root: Path, documented: list[str], taken: list[str]) -> bool:
    """Return whether a section names only what is taken, and all of it where users read it."""
    if _package(module, root) in FOR_USERS:
        return sorted(documented) == sorted(taken)
    return set(documented) <= set(taken)


def _package(module: Module, root: Path) -> str:
    return module.name.removeprefix(f"{root.name}.").partition(".")[0]


def _documented(text: str) -> list[str] | None:
    """Return the names in a docstring's Parameters section, stars removed."""
    lines = text.splitlines()
    for at, line in enumerate(lines[:-1]):
        if line == "Parameters" and lines[at + 1].startswith("---"):
            break
    else:
        return None
    names: list[str] = []
    for here, below in zip(lines[at + 2 :], [*lines[at + 3 :], ""], strict=True):
        if below.startswith("---"):
            break  # `here` is the next section's title
        entry = _ENTRY.match(here)
        if entry and not here.startswith(" "):
            names += [n.strip().lstrip("*") for n in entry[1].split(",")]
    return names


def _class_arguments(node: ast.ClassDef) -> list[str] | None:
    """Return what constructing a class takes, or None when the class itself does not say."""
    for inner in node.body:
        if isinstance(inner, Function) and inner.name in ("__init__", "__new__"):
            return arguments(inner)
    if "dataclass" not in decorators(node):
        return None
    return [
        inner.target.id
        for inner in node.body
        if isinstance(inner, ast.AnnAssign)
        and isinstance(inner.target, ast.Name)
        and not inner.target.id.startswith("_")
        and "ClassVar" not in ast.unparse(inner.annotation)
        and "init=False" not in ast.unparse(inner)
    ]


def _offers(module: Module) -> bool:
    """Return whether a module holds more than its docstring."""
    return len(module.tree.body) > bool(ast.get_docstring(module.tree))


def _is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def _repeated(names: list[str]) -> list[str]:
    return sorted({n for n in names if names.count(n) > 1})
