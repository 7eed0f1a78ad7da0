"""The version of this package, and of what it runs on."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Final

__all__ = ["__version__", "show_versions"]

_PACKAGES: Final = (
    "blake3", "numpy", "pyarrow", "fsspec", "s3fs", "click", "tqdm", "sqlglot",
    "torch", "torchdata", "pandas", "polars", "duckdb", "Pillow",
)  # fmt: skip


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


__version__: Final = _version("dreamdb") if _version("dreamdb") != "not installed" else "0.1.0"


def show_versions() -> str:
    """Return the versions of dreamdb, Python, the system and the packages used, as text.

    Returns
    -------
    str
        One line each; paste it into a bug report.
    """
    lines = [
        f"dreamdb {__version__}",
        f"python {sys.version.split()[0]}",
        f"system {platform.system()} {platform.release()} {platform.machine()}",
    ]
    lines += [f"{package} {_version(package)}" for package in _PACKAGES]
    return "\n".join(lines)
