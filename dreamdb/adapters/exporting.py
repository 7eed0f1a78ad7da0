"""Records of a version as files: Parquet, Arrow, CSV, JSON lines, Lance, Hugging Face datasets.

Source: design/0020 section 9.  An export is written beside its place and renamed into it when it is
whole; one that was interrupted goes on with the part that it had reached.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from dreamdb.adapters.file_writers import FILE_FORMATS, open_writer, writable_schema
from dreamdb.dataset import Dataset
from dreamdb.errors import AlreadyExistsError, InvalidInputError, StorageError, nearest_hint
from dreamdb.model import ANCHOR
from dreamdb.read import ScanPlan, parse_where, scan_batches
from dreamdb.store.local_locks import FileLocks

__all__ = ["EXPORT_FORMATS", "ExportReport", "export"]

EXPORT_FORMATS: Final = (*FILE_FORMATS, "lance", "huggingface")
"""What can be written."""

_SUFFIXES: Final = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".lance": "lance",
}
_BATCH_ROWS: Final = 8_192


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export has written.

    Parameters
    ----------
    path : str
        The file or folder.
    format : str
        One of :data:`EXPORT_FORMATS`.
    rows : int
        Records in it.
    files : int
        Files of records; 1 for a Lance directory.
    resumed : int
        Records that an interrupted export had written already.
    manifest : str
        The version that was exported.
    """

    path: str
    format: str
    rows: int
    files: int
    resumed: int
    manifest: str


def export(
    dataset: Dataset,
    path: str | os.PathLike[str],
    file_format: str | None = None,
    *,
    fields: Sequence[str] | None = None,
    where: object = None,
    anchors: bool = False,
    rows_per_file: int = 262_144,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ExportReport:
    """Write the records of a dataset into a file or a folder of files.

    Parameters
    ----------
    dataset : Dataset
        What to write: the version that the handle reads, wherever its branch moves meanwhile.
    path : path
        A file (``.parquet``, ``.arrow``, ``.csv``, ``.jsonl``), a Lance directory (``.lance``), or
        with ``file_format`` a folder of files.
    file_format : str, optional
        One of :data:`EXPORT_FORMATS`; default: what the path ends in.
    fields : sequence of str, optional
        Which fields; default: all.
    where : Expression or str, optional
        Only records for which it holds, as in :meth:`Dataset.scan`.
    anchors : bool
        Write the column ``_anchor`` too, so that an import keeps the records' identity.
    rows_per_file : int
        Records per file of a folder, at most; also how much an interruption can cost.
    overwrite : bool
        Replace what is there, once the export is whole.
    progress : callable, optional
        Called with the number of records written since its last call.

    Returns
    -------
    ExportReport

    Raises
    ------
    AlreadyExistsError
        When there is something at the path.
    InvalidInputError
        When the format cannot hold a field: bytes in CSV, NaN in JSON.

    Notes
    -----
    Memory is bounded by a batch.  Calling it again after an interruption, with the same arguments
    and version, continues.
    """
    target = Path(path)
    form, single = _format_of(target, file_format)
    if isinstance(rows_per_file, bool) or not isinstance(rows_per_file, int) or rows_per_file < 1:
        raise InvalidInputError(f"rows_per_file must be positive, not {rows_per_file!r}")
    _refuse_existing(target, overwrite)
    plan = _Plan.of(dataset, form, fields, where, anchors, rows_per_file, single)
    staging = target.with_name(f".{target.name}.partial")
    lock = f".{target.name}.lock"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        locks = FileLocks(str(target.parent))
        with locks.exclusive(lock, what=f"the export {target}"):
            try:
                # Another export to the same place may have finished while this one waited.
                _refuse_existing(target, overwrite)
                staging.mkdir(exist_ok=True)
                done = _resume(staging, plan)
                rows = _write_parts(staging, plan, done, progress)
                files = _finish(staging, plan, rows)
                _put_in_place(staging / plan.output, target)
                shutil.rmtree(staging, ignore_errors=True)
            finally:
                locks.discard(lock)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot export to {target}: {error.strerror or error}") from error
    return ExportReport(str(target), form, sum(rows), files, sum(done), dataset.current_manifest())


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise AlreadyExistsError(
            f"{target} exists already",
            hint="choose another path, or overwrite=True (--overwrite)",
            path=str(target),
        )


def _format_of(path: Path, given: str | None) -> tuple[str, bool]:
    """Return the format, and whether the path is one file."""
    suffix = _SUFFIXES.get(path.suffix.lower())
    if given is not None and given not in EXPORT_FORMATS:
        raise InvalidInputError(
            f"{given!r} is not a format to write",
            hint=nearest_hint(given, EXPORT_FORMATS, "formats"),
        )
    form = given or suffix
    if form is None:
        raise InvalidInputError(
            f"cannot tell the format of {path}",
            hint=f"name it: one of {', '.join(EXPORT_FORMATS)}",
        )
    return form, form in FILE_FORMATS and suffix == form


@dataclass(frozen=True)
class _Plan:
    """What is written, and into which parts."""

    dataset: Dataset
    form: str
    names: tuple[str, ...]
    where: object
    anchors: bool
    rows_per_part: int
    single: bool
    schema: pa.Schema
    output: str

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        form: str,
        fields: Sequence[str] | None,
        where: object,
        anchors: bool,
        rows_per_part: int,
        single: bool,
    ) -> _Plan:
        view = dataset._view
        names = tuple(view.check_fields(fields))
        scanned = ScanPlan(fields=names).schema(view)
        chosen = [*([ANCHOR] if anchors else []), *names]
        if not chosen:
            raise InvalidInputError("there are no fields to export")
        schema = writable_schema(pa.schema([scanned.field(n) for n in chosen]), form)
        parse_where(where, view.content.schema)
        rows = max(1, view.rows) if single else rows_per_part
        output = "records." + form if single else "records"
        return cls(dataset, form, names, where, anchors, rows, single, schema, output)

    @property
    def num_parts(self) -> int:
        """Parts of the timeline; some may hold no visible record."""
        return max(1, -(-self.dataset._view.rows // self.rows_per_part))

    @property
    def identity(self) -> str:
        """What must be equal for an interrupted export to go on."""
        parsed = parse_where(self.where, self.dataset._view.content.schema)
        told = [
            self.dataset.current_manifest(),
            self.form,
            self.names,
            None if parsed is None else str(parsed.expression),
            self.anchors,
            self.rows_per_part,
            self.single,
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def batches(self, part: int) -> Iterator[pa.RecordBatch]:
        """Yield the records of one part, with the columns of the schema."""
        view = self.dataset._view
        start = part * self.rows_per_part
        plan = ScanPlan(
            fields=self.names,
            predicate=parse_where(self.where, view.content.schema),
            start=start,
            stop=min(start + self.rows_per_part, view.rows),
            batch_size=_BATCH_ROWS,
            exact=False,
        )
        for batch in scan_batches(view, plan):
            columns = []
            for field in self.schema:
                column = batch.column(field.name)
                if isinstance(column, pa.ExtensionArray) and column.type != field.type:
                    column = column.storage
                columns.append(column)
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _resume(staging: Path, plan: _Plan) -> list[int]:
    """Return how many records each finished part has; start anew when it was another export."""
    state = staging / "state.json"
    try:
        told = json.loads(state.read_text(encoding="utf-8"))
        done = [int(rows) for rows in told["rows"]]
        if told["identity"] == plan.identity and len(done) <= plan.num_parts:
            return _intact(staging, plan, done)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    output = staging / plan.output
    if output.is_dir():
        shutil.rmtree(output)
    output.unlink(missing_ok=True)
    state.unlink(missing_ok=True)
    return []


def _intact(staging: Path, plan: _Plan, done: list[int]) -> list[int]:
    """Return the finished parts; a Lance directory must hold just their records."""
    output = staging / plan.output
    if plan.single:
        return []
    if plan.form != "lance":
        return done
    from dreamdb.adapters.lance_files import count_lance, restore_lance

    if not done:
        shutil.rmtree(output, ignore_errors=True)
        return done
    if count_lance(output) != sum(done):
        # A part was written and not noted, or only begun.
        restore_lance(output, len([rows for rows in done if rows]))
        if count_lance(output) != sum(done):
            shutil.rmtree(output, ignore_errors=True)
            return []
    return done


def _write_parts(
    staging: Path, plan: _Plan, done: list[int], progress: Callable[[int], None] | None
) -> list[int]:
    rows = list(done)
    if progress is not None and rows:
        progress(sum(rows))
    for part in range(len(done), plan.num_parts):
        written = _write_part(staging, plan, part, progress)
        rows.append(written)
        state = staging / "state.json.new"
        state.write_text(json.dumps({"identity": plan.identity, "rows": rows}), encoding="utf-8")
        os.replace(state, staging / "state.json")
    return rows


def _counted(
    batches: Iterator[pa.RecordBatch], progress: Callable[[int], None] | None, total: list[int]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        total[0] += batch.num_rows
        yield batch
        if progress is not None:
            progress(batch.num_rows)


def _part_path(staging: Path, plan: _Plan, part: int) -> Path:
    output = staging / plan.output
    if plan.single:
        return output
    suffix = "arrow" if plan.form == "huggingface" else plan.form
    return output / f"part-{part:05}.{suffix}"


def _write_part(
    staging: Path, plan: _Plan, part: int, progress: Callable[[int], None] | None
) -> int:
    total = [0]
    batches = _counted(plan.batches(part), progress, total)
    if plan.form == "lance":
        from dreamdb.adapters.lance_files import append_lance

        append_lance(batches, plan.schema, staging / plan.output)
        return total[0]
    path = _part_path(staging, plan, part)
    path.parent.mkdir(exist_ok=True)
    form = "arrow" if plan.form == "huggingface" else plan.form
    with open_writer(path, plan.schema, form, stream=plan.form == "huggingface") as write:
        for batch in batches:
            write(batch)
    if not total[0] and plan.num_parts > 1:
        path.unlink()
    return total[0]


def _finish(staging: Path, plan: _Plan, rows: Sequence[int]) -> int:
    """Add what a folder needs beside its parts; return how many files of records there are."""
    if plan.form == "lance" or plan.single:
        return 1
    output = staging / plan.output
    if not any(rows) and plan.num_parts > 1:
        form = "arrow" if plan.form == "huggingface" else plan.form
        first = _part_path(staging, plan, 0)
        with open_writer(first, plan.schema, form, stream=plan.form == "huggingface"):
            pass
    names = sorted(file.name for file in output.iterdir() if file.name.startswith("part-"))
    if plan.form == "huggingface":
        # What `datasets.load_from_disk` looks for; the features are those of the Arrow schema.
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": plan.identity[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        info = {"citation": "", "description": "", "homepage": "", "license": ""}
        for name, told in (("state.json", state), ("dataset_info.json", info)):
            (output / name).write_text(json.dumps(told, indent=2), encoding="utf-8")
    return len(names)


def _put_in_place(new: Path, target: Path) -> None:
    """Rename the whole export into its place; what was there goes last."""
    old = target.with_name(f".{target.name}.old")
    if target.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)
