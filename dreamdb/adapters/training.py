"""Training sets: the records of one table at one version, in the order of a seed.

Source: design/0020 section 8.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from dreamdb.adapters.lance_files import write_lance
from dreamdb.adapters.vector_precision import (
    encode_vectors,
    exported_fields,
    rabitq_codec,
    scale_column,
)
from dreamdb.dataset import Dataset
from dreamdb.errors import FormatError

__all__ = ["TRAINING_KEY", "TrainingSnapshot", "read_description"]

TRAINING_KEY: Final = b"dreamdb.training"
"""Where the schema of an export says what it holds."""

_BATCH_ROWS: Final = 8_192


@dataclass(frozen=True)
class TrainingSnapshot:
    """What is trained on, without a copy of it.

    Parameters
    ----------
    dataset : Dataset
        The records, pinned to their version.
    tag : str
        The version tag.
    table : str
        The table.
    time : int
        The tag's moment, in microseconds since 1970.
    columns : mapping of str to str
        What is trained on: the field behind each column.  A text with an embedder is its
        embedding.
    seed : int or None
        Order of the records; None: as they are stored.
    precision : str
        How vectors are exported.
    """

    dataset: Dataset
    tag: str
    table: str
    time: int
    columns: Mapping[str, str]
    seed: int | None = None
    precision: str = "float32"

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of an export, with its description."""
        fields: list[pa.Field] = []
        vectors: dict[str, Any] = {}
        stored = self.dataset.schema
        arrow = stored.to_arrow()
        for column, name in self.columns.items():
            ftype = stored[name].type
            if ftype.kind == "embedding":
                made = exported_fields(column, int(ftype.dim or 0), self.precision)
                fields += made
                vectors[column] = {"dim": ftype.dim, "field": name, "precision": self.precision}
                if self.precision == "rabitq":
                    vectors[column]["codec"] = rabitq_codec(int(ftype.dim or 0)).text
                if self.precision == "sq8":
                    vectors[column]["scale"] = scale_column(column)
            else:
                plain = getattr(arrow.field(name).type, "storage_type", arrow.field(name).type)
                fields.append(pa.field(column, plain, arrow.field(name).nullable))
        description = {
            "format": 1,
            "manifest": self.dataset.current_manifest(),
            "seed": self.seed,
            "table": self.table,
            "tag": self.tag,
            "time": self.time,
            "vectors": vectors,
        }
        told = json.dumps(description, sort_keys=True).encode()
        return pa.schema(fields, metadata={TRAINING_KEY: told})

    def batches(self, batch_size: int = _BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the records as they are exported.

        Parameters
        ----------
        batch_size : int
            Records per batch.
        """
        schema = self.schema
        names = list(dict.fromkeys(self.columns.values()))
        source = self.dataset.iter_arrow_batches(batch_size, names, self.seed)
        for batch in source:
            arrays: list[pa.Array] = []
            for name in self.columns.values():
                array = batch.column(name)
                if isinstance(array, pa.ExtensionArray):
                    array = array.storage
                if self.dataset.schema[name].type.kind == "embedding":
                    arrays += encode_vectors(array, self.precision)
                else:
                    arrays.append(array)
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def export(self, path: Path) -> int:
        """Write a Lance dataset; one that is there is replaced once the new one is whole.

        Parameters
        ----------
        path : Path
            The directory.

        Returns
        -------
        int
            How many records it has.
        """
        return write_lance(self.batches(), self.schema, path)

    def loader(self, batch_size: int = 256, **options: Any) -> Any:
        """Return a PyTorch DataLoader over the records, without an export.

        Parameters
        ----------
        batch_size : int
            Records per batch.
        **options : Any
            As for :func:`dreamdb.torch.training_set_loader`.
        """
        from dreamdb.torch import training_set_loader

        return training_set_loader(self, batch_size, **options)


def read_description(schema: pa.Schema) -> dict[str, Any]:
    """Return what the schema of an export says; a plain description for other Lance datasets.

    Parameters
    ----------
    schema : Schema
        The schema of a Lance dataset.

    Raises
    ------
    FormatError
        When it is not what a version of this library writes.
    """
    told = (schema.metadata or {}).get(TRAINING_KEY)
    if told is None:
        return {"vectors": {}}
    try:
        description = json.loads(told)
    except ValueError:
        description = None
    if not isinstance(description, dict) or description.get("format") != 1:
        raise FormatError(
            "the export was written by a newer version",
            hint="pip install -U dreamdb, or export it again",
        )
    return description
