"""Who may import whom: the layer table of CONTRIBUTING.md, as a checker."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.arch.source import Import, Module, modules

# Lowest first.  Packages of one row stand side by side; STRANGERS never import each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "config", "types"),
    ("objects",),
    # Below codecs and model: both must know what a row of codes is.
    ("vectors",),
    ("codecs", "model", "store"),
    ("history",),
    ("tracks",),
    # Below read and write: searches read segments, commits make them.
    ("index",),
    ("read", "write"),
    ("stream", "maintain", "proofs"),
    ("dataset",),
    ("adapters", "fsspec", "sql", "torch", "training"),
    ("cli", "ui", "__main__"),
)
STRANGERS = (
    {"codecs", "model", "store"},
    {"read", "write"},
    {"stream", "maintain", "proofs"},
    {"cli", "ui"},
)
RANK = {package: rank for rank, row in enumerate(LAYERS) for package in row}

# What a package may import from outside the standard library while it is itself being imported.
# Everything else loads when it is first used, so that `import dreamdb` stays quick.
ARROW = {"numpy", "pyarrow"}
LIGHT = {"blake3"}  # small and always there: allowed everywhere
AT_IMPORT: dict[str, set[str]] = {
    "dreamdb.codecs": ARROW,
    "dreamdb.model": ARROW,
    "dreamdb.store.fsspec": {"fsspec"},
    "dreamdb.history": ARROW,
    "dreamdb.index": ARROW,
    "dreamdb.index.compiled": {"numba", "numpy"},
    "dreamdb.tracks": ARROW,
    "dreamdb.read": ARROW,
    "dreamdb.write": ARROW,
    "dreamdb.stream": ARROW,
    "dreamdb.maintain": ARROW,
    "dreamdb.proofs": ARROW,
    "dreamdb.dataset": ARROW,
    "dreamdb.adapters": {*ARROW, "duckdb", "lance", "ray", "sqlglot"},
    "dreamdb.fsspec": {"fsspec"},
    "dreamdb.sql": {*ARROW, "sqlglot"},
    "dreamdb.torch": {*ARROW, "torch"},
    "dreamdb.training": ARROW,
    "dreamdb.cli": {*ARROW, "click"},
    "dreamdb.testing": {"hypothesis", "pytest"},
    "dreamdb.vectors": {"numpy"},
    # The kernels: imported when numba is installed and there is work enough.
    "dreamdb.vectors.compiled": {"numba", "numpy"},
}
# The shipped test tools see the bottom of the house only.
TESTING_MAY_USE = {"config", "errors", "objects", "store", "testing", "types"}


def layer_breaches(root: Path) -> list[str]:
    """Return every import that goes up, or across between strangers."""
    return [
        f"{module.at(entry.line)} imports {target}: {why}"
        for module in modules(root)
        if module.name != root.name  # the root gathers the public names
        for entry in module.imports
        if (target := _target(entry, root)) and (why := _objection(module, target))
    ]


def third_party_breaches(root: Path) -> list[str]:
    """Return every third-party import at module level outside its place."""
    found = []
    for module in modules(root):
        allowed = _allowed(module.name)
        for entry in module.imports:
            top = entry.module.partition(".")[0]
            if top in sys.stdlib_module_names or top == root.name:
                continue
            everywhere = module.name.startswith(f"{root.name}.testing")
            if (entry.runs_at_import or everywhere) and top not in allowed:
                found.append(
                    f"{module.at(entry.line)} imports {top} at module level; "
                    "import it in the function that needs it"
                )
    return found


def privacy_breaches(root: Path) -> list[str]:
    """Return every import of a name that another package's module does not export."""
    known = {module.name: module for module in modules(root)}
    found = []
    for module in known.values():
        for entry in module.imports:
            source = known.get(entry.module)
            if source is None or entry.name is None or source.name == root.name:
                continue
            if _package(source.name) == _package(module.name):
                continue
            if f"{source.name}.{entry.name}" in known or entry.name in (source.exports() or ()):
                continue
            found.append(f"{module.at(entry.line)} imports {entry.name}, private to {source.name}")
    return found


def _target(entry: Import, root: Path) -> str | None:
    """Return the part of the package that an import reaches into, or None for other packages."""
    parts = entry.module.split(".")
    if parts[0] != root.name:
        return None
    if len(parts) > 1:
        return parts[1]
    return entry.name if entry.name in (*RANK, "testing") else root.name


def _objection(module: Module, target: str) -> str | None:
    own = _package(module.name)
    if own == target:
        return None
    if own == "testing":
        return None if target in TESTING_MAY_USE else "the test tools stand on the store only"
    if own not in RANK:
        return f"{own!r} has no layer; add it to LAYERS"
    if RANK[own] == len(LAYERS) - 1 and target not in RANK and target != "testing":
        return None  # the command line may use the public names
    if target not in RANK:
        return "the library does not use it"
    if RANK[target] > RANK[own]:
        return f"{target!r} stands above {own!r}"
    if any({own, target} <= strangers for strangers in STRANGERS):
        return f"{own!r} and {target!r} never import each other"
    return None


def _package(module_name: str) -> str:
    return module_name.split(".")[1] if "." in module_name else module_name


def _allowed(module_name: str) -> set[str]:
    """Return what the longest matching line of AT_IMPORT allows."""
    places = [place for place in AT_IMPORT if module_name.startswith(place)]
    return LIGHT | (AT_IMPORT[max(places, key=len)] if places else set())
