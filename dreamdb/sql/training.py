"""From a version tag to a training set.

Source: design/0020 section 8.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dreamdb.adapters.training import TrainingSnapshot
from dreamdb.dataset import Dataset, OpenSpace
from dreamdb.errors import InvalidInputError, RefNotFoundError, nearest_hint
from dreamdb.objects import encode_ref_key
from dreamdb.sql.embedders import embedded_columns, embedding_field
from dreamdb.sql.tables import Tables
from dreamdb.sql.version_tags import TrainingOptions

__all__ = ["export_path", "training_snapshot"]


def training_snapshot(
    space: OpenSpace, tables: Tables, tag: str, table: str | None
) -> tuple[TrainingSnapshot, bool]:
    """Return what a tag says about one of its tables, and whether it is the only one.

    Parameters
    ----------
    space : OpenSpace
        The space.
    tables : Tables
        Its tables.
    tag : str
        A version tag.
    table : str or None
        Which table; None for the only one.

    Raises
    ------
    RefNotFoundError
        For an unknown tag or table.
    InvalidInputError
        When there are several tables and none is named.
    """
    catalog = tables.catalog(tag)
    names = sorted(catalog.tables)
    if table is None and len(names) > 1:
        raise InvalidInputError(
            f"the version tag {tag!r} has {len(names)} tables",
            hint=f"name one: training_dataset({tag!r}, table=...) of {', '.join(names[:12])}",
        )
    name = names[0] if table is None else table
    if name not in catalog.tables:
        raise RefNotFoundError(
            f"the version tag {tag!r} has no table {name!r}",
            hint=nearest_hint(name, names, "tables"),
            ref=name,
        )
    dataset = Dataset(space, name, catalog.tables[name], f"it is {name!r} at {tag!r}")
    embedded = {
        column: embedding_field(column)
        for column in embedded_columns(dataset)
        if embedding_field(column) in dataset.schema
    }
    layers = set(embedded.values())
    columns = {f: embedded.get(f, f) for f in dataset.schema if f not in layers}
    options = TrainingOptions.of_notes(catalog.metadata) or TrainingOptions()
    snapshot = TrainingSnapshot(
        dataset,
        tag,
        name,
        catalog.time_ns // 1_000,
        columns,
        seed=options.seed,
        precision=options.precision,
    )
    return snapshot, len(names) == 1


def export_path(
    space: OpenSpace,
    snapshot: TrainingSnapshot,
    directory: str | os.PathLike[str] | None,
    *,
    alone: bool,
) -> Path:
    """Return where an export belongs.

    Parameters
    ----------
    space : OpenSpace
        The space.
    snapshot : TrainingSnapshot
        What is exported.
    directory : path or None
        Where exports are kept; None: in the space's own directory.
    alone : bool
        Whether the tag has one table only.

    Raises
    ------
    InvalidInputError
        When the space is not a directory, and none is given.
    """
    if directory is None:
        parts = urlsplit(space.url)
        if parts.scheme != "file":
            raise InvalidInputError(
                f"{space.url} is not a directory of this machine",
                hint="say where exports are kept: training_dataset(tag, directory='exports')",
            )
        root = Path(unquote(parts.path)) / "training_exports"
    else:
        root = Path(directory)
    # Names of refs may hold slashes; their keys are names of files on every system.
    path = root / f"{encode_ref_key(snapshot.tag)}_{snapshot.time}"
    return path if alone else path / encode_ref_key(snapshot.table)
