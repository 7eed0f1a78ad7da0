"""A package's source as the checkers see it: parsed files below a root, never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "dreamdb"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One imported module, and the name taken from it, if any."""

    module: str
    name: str | None
    line: int
    runs_at_import: bool  # outside functions and outside `if TYPE_CHECKING`
    bound_as: str


@dataclass(frozen=True)
class Module:
    """One source file."""

    path: Path
    name: str  # such as dreamdb.store.local

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def is_empty(self) -> bool:
        return not self.tree.body

    @cached_property
    def imports(self) -> list[Import]:
        return list(_imports(self, self.tree.body, runs=True))

    def at(self, node: ast.AST | int) -> str:
        """Return the place that a message names."""
        return f"{self.name}:{node if isinstance(node, int) else getattr(node, 'lineno', 0)}"

    def exports(self) -> list[str] | None:
        """Return the literal ``__all__``, or None when there is none."""
        for node in self.tree.body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
                assert isinstance(node, ast.Assign | ast.AnnAssign)
                assert node.value is not None
                return list(ast.literal_eval(node.value))
        return None

    def defined(self) -> dict[str, ast.stmt]:
        """Return the names that statements at module level define (not those they import)."""
        found: dict[str, ast.stmt] = {}
        for node in _module_level(self.tree.body):
            if isinstance(node, Function | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    for part in ast.walk(target):
                        if isinstance(part, ast.Name):
                            found[part.id] = node
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = node
        return found


def modules(root: Path) -> list[Module]:
    """Return every module below a package directory, sorted by name."""
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        found.append(Module(path, ".".join(parts)))
    return found


def public_functions(node: ast.ClassDef) -> Iterator[Function]:
    """Yield a class's public methods and properties, one per name, as written last."""
    last = {n.name: n for n in node.body if isinstance(n, Function) and not n.name.startswith("_")}
    yield from last.values()


def decorators(node: Function | ast.ClassDef) -> set[str]:
    """Return the last words of a definition's decorators: ``functools.cache`` gives ``cache``."""
    words = set()
    for decorator in node.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        words.add(ast.unparse(call).rpartition(".")[2])
    return words


def arguments(node: Function) -> list[str]:
    """Return the names of a function's parameters, without self and cls, stars removed."""
    spec = node.args
    names = [a.arg for a in (*spec.posonlyargs, *spec.args)]
    if names[:1] in (["self"], ["cls"]):
        names = names[1:]
    names += [spec.vararg.arg] if spec.vararg else []
    names += [a.arg for a in spec.kwonlyargs]
    names += [spec.kwarg.arg] if spec.kwarg else []
    return [name for name in names if not name.startswith("_")]


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements at module level, also those inside ``if`` and ``try``."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _module_level(node.body + node.orelse)
        elif isinstance(node, ast.Try):
            handlers = [s for handler in node.handlers for s in handler.body]
            yield from _module_level(node.body + handlers + node.orelse + node.finalbody)
        elif isinstance(node, ast.With):
            yield from _module_level(node.body)


def _imports(module: Module, body: list[ast.stmt], *, runs: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                yield Import(alias.name, None, node.lineno, runs, bound)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(module, node)
            for alias in node.names:
                yield Import(source, alias.name, node.lineno, runs, alias.asname or alias.name)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from _imports(module, node.body, runs=False)
            yield from _imports(module, node.orelse, runs=runs)
        else:
            inside = runs and not isinstance(node, Function)
            for block in ("body", "orelse", "finalbody"):
                yield from _imports(module, getattr(node, block, None) or [], runs=inside)
            for handler in getattr(node, "handlers", []):
                yield from _imports(module, handler.body, runs=inside)
            for case in getattr(node, "cases", []):
                yield from _imports(module, case.body, runs=inside)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    kept = parts[: len(parts) - node.level + module.is_package]
    return ".".join(kept + ([node.module] if node.module else []))
