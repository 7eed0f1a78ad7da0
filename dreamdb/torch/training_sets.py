"""Loaders for training sets: a Lance export, or the snapshot itself.

Source: design/0020 section 8.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dreamdb.adapters.lance_files import import_lance
from dreamdb.adapters.training import TrainingSnapshot, read_description
from dreamdb.adapters.vector_precision import decode_vectors
from dreamdb.errors import FieldNotFoundError, InvalidInputError, NotFoundError, nearest_hint
from dreamdb.read import check_batch_size
from dreamdb.torch.dataset import DreamDBDataset
from dreamdb.vectors import decode_rows, parse_codec

__all__ = ["LanceExport", "training_set_loader"]


def training_set_loader(
    source: str | os.PathLike[str] | TrainingSnapshot,
    batch_size: int = 256,
    columns: Sequence[str] | None = None,
    *,
    decode: bool = True,
    nulls: str = "raise",
    num_workers: int = 0,
    **options: Any,
) -> DataLoader[dict[str, Any]]:
    """Return a DataLoader over a training set: tensors and lists, in the order of its seed.

    Parameters
    ----------
    source : path or TrainingSnapshot
        What ``db.training_dataset()`` returned: the directory of an export, or with
        ``zero_copy=True`` the snapshot.
    batch_size : int
        Records per batch; the last one may have fewer.
    columns : sequence of str, optional
        Which columns; default: all.
    decode : bool
        Return quantised vectors as float32; otherwise codes and scales as they are stored.
    nulls : str
        What a missing number or vector becomes: ``"raise"`` an error, ``"zero"``, or with
        ``"mask"`` zero and a further tensor ``<column>_mask``, true where there is a value.
    num_workers : int
        Processes that read; the batches and their order stay the same.  For an export they are
        started by a fork server: Lance does not survive a plain fork.
    **options : Any
        Further arguments of the DataLoader.

    Returns
    -------
    DataLoader
        Yields dictionaries: numbers and vectors as tensors, texts and bytes as lists.

    Examples
    --------
    >>> path = db.training_dataset("train-v1")  # doctest: +SKIP
    >>> for batch in training_set_loader(path, batch_size=64):  # doctest: +SKIP
    ...     batch["body"]  # float32, shape (64, 384)
    """
    for name in ("batch_sampler", "collate_fn", "sampler", "shuffle"):
        if name in options:
            raise InvalidInputError(
                f"training_set_loader has no option {name!r}",
                hint="the order of a training set is that of its seed",
            )
    if nulls not in ("raise", "zero", "mask"):
        raise InvalidInputError(f"nulls={nulls!r} is not a choice", hint="'raise', 'zero', 'mask'")
    data: Any
    if isinstance(source, TrainingSnapshot):
        chosen = _choose(columns, list(source.columns))
        fields = {column: source.columns[column] for column in chosen}
        data = DreamDBDataset(
            source.dataset,
            list(dict.fromkeys(fields.values())),
            batch_size=batch_size,
            shuffle_seed=source.seed,
            nulls=nulls,
            tensors=num_workers == 0,
        )
        collate: Any = _Renamed(fields)
    else:
        data = LanceExport(source, batch_size, columns, decode=decode, nulls=nulls)
        if num_workers:
            # Lance runs threads of its own, which a forked process does not have.
            options.setdefault("multiprocessing_context", "forkserver")
        collate = _as_tensors
    return DataLoader(data, batch_size=None, collate_fn=collate, num_workers=num_workers, **options)


def _choose(columns: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    if columns is None:
        return list(known)
    for name in columns:
        if name not in known:
            raise FieldNotFoundError(
                f"the training set has no column {name!r}",
                hint=nearest_hint(name, known, "columns"),
                field=name,
            )
    return list(columns)


class _Renamed:
    """Gives the fields of a batch the names of their columns."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        out = {column: batch[field] for column, field in self._fields.items()}
        for column, field in self._fields.items():
            if f"{field}_mask" in batch:
                out[f"{column}_mask"] = batch[f"{field}_mask"]
        return _as_tensors(out)


def _as_tensors(batch: dict[str, Any]) -> dict[str, Any]:
    return {
        name: torch.from_numpy(np.asarray(value)) if isinstance(value, np.ndarray) else value
        for name, value in batch.items()
    }


class LanceExport(IterableDataset[dict[str, Any]]):
    """The batches of a Lance export: arrays of numbers and vectors, lists of everything else.

    Parameters
    ----------
    path : path
        The directory.
    batch_size : int
        Records per batch.
    columns : sequence of str, optional
        Which columns; default: all.
    decode : bool
        Return quantised vectors as float32.
    nulls : str
        As in :func:`training_set_loader`.

    Raises
    ------
    NotFoundError
        When there is no Lance dataset.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        batch_size: int = 256,
        columns: Sequence[str] | None = None,
        *,
        decode: bool = True,
        nulls: str = "raise",
    ) -> None:
        super().__init__()
        self.path = os.fspath(path)
        if not Path(self.path).is_dir():
            raise NotFoundError(
                f"there is no training set at {self.path}",
                hint="db.training_dataset(tag) writes one and returns its path",
            )
        self.batch_size = check_batch_size(batch_size)
        self._decode = decode
        self._nulls = nulls
        opened = self._open()
        vectors = read_description(opened.schema)["vectors"]
        scales = {v["scale"]: c for c, v in vectors.items() if "scale" in v}
        hidden = scales if decode else {}
        coded = {c: parse_codec(v["codec"], v["dim"]) for c, v in vectors.items() if "codec" in v}
        self._codecs = coded if decode else {}
        known = [name for name in opened.schema.names if name not in hidden]
        self.columns = _choose(columns, known)
        self._scales = {scales[name]: name for name in scales} if decode else {}
        self.num_rows = int(opened.count_rows())

    def _open(self) -> Any:
        lance = import_lance()
        try:
            return lance.dataset(self.path)
        except (OSError, ValueError) as error:
            raise NotFoundError(
                f"{self.path} is not a Lance dataset: {str(error).splitlines()[0]}"
            ) from None

    def __len__(self) -> int:
        return -(-self.num_rows // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        opened = self._open()
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        read = [*self.columns, *(self._scales[c] for c in self.columns if c in self._scales)]
        if step == 1:
            scanner = opened.scanner(
                columns=read, batch_size=self.batch_size, strict_batch_size=True
            )
            yield from map(self._arrays, scanner.to_batches())
            return
        for index in range(first, len(self), step):
            table = opened.to_table(
                columns=read, offset=index * self.batch_size, limit=self.batch_size
            )
            yield self._arrays(table.combine_chunks().to_batches()[0])

    def _arrays(self, batch: pa.RecordBatch) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name in self.columns:
            column = batch.column(name)
            if not _is_numeric(column.type):
                out[name] = column.to_pylist()
                continue
            if column.null_count and self._nulls == "raise":
                raise InvalidInputError(
                    f"{name!r} has no value in one of the records",
                    hint="nulls='zero' or nulls='mask'",
                    field=name,
                )
            values = _matrix(column)
            if name in self._scales:
                values = decode_vectors(values, _matrix(batch.column(self._scales[name])))
            elif name in self._codecs:
                values = decode_rows(self._codecs[name], values)
            out[name] = values
            if self._nulls == "mask":
                out[f"{name}_mask"] = column.is_valid().to_numpy(zero_copy_only=False)
        return out


def _is_numeric(kind: pa.DataType) -> bool:
    if pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_timestamp(kind)
    )


def _matrix(column: pa.Array) -> npt.NDArray[Any]:
    """Return numbers, or vectors as a matrix; zero for null, times as integers."""
    shape: tuple[int, ...] = (len(column),)
    if pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        shape = (len(column), size)
        child = column.values.slice(column.offset * size, len(column) * size)
        if column.null_count:
            valid = np.repeat(column.is_valid().to_numpy(zero_copy_only=False), size)
            child = child.fill_null(0)
            values = np.array(child.to_numpy(zero_copy_only=False)).reshape(-1)
            values[~valid] = 0
            return values.reshape(shape)
        column = child
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if column.null_count:
        column = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
    # torch does not take arrays that cannot be written.
    return np.array(column.to_numpy(zero_copy_only=False)).reshape(shape)
