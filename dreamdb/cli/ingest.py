"""ingest: files into a dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from dreamdb.cli.blocks import Facts
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, backend_url, split_names
from dreamdb.cli.progress import Progress
from dreamdb.errors import DreamDBError, InvalidInputError, NotFoundError, SchemaError

if TYPE_CHECKING:
    from dreamdb import Dataset
    from dreamdb.adapters.files import FileSource
    from dreamdb.types import FieldType

__all__: list[str] = []  # commands are reached through the table of program.py

_JOINED_NBYTES: Final = 32 << 20
_EMBEDDING: Final = re.compile(r"embedding\[(\d+)\]\Z")


@command("ingest", short_help="Read files into a dataset.")
@click.argument("name", type=RefName("branch"))
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option(
    "--format",
    "style",
    type=click.Choice(["parquet", "arrow", "csv", "jsonl", "images", "lance", "huggingface"]),
    help="What the files are; default: by their endings.",
)
@click.option("--key", metavar="COLUMN", help="New dataset: the column that identifies a record.")
@click.option("--anchor", metavar="COLUMN", help="The column that holds the anchors.")
@click.option("--columns", multiple=True, help="Which columns: a,b,c; default: all.")
@click.option(
    "--type",
    "types",
    metavar="COLUMN=TYPE",
    multiple=True,
    help="bool, int, float, string, categorical, timestamp, text or embedding[DIM].",
)
@click.option(
    "--image",
    "images",
    metavar="COLUMN=MIME",
    multiple=True,
    help="A column of encoded images, such as image=jpeg.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=16_384,
    show_default=True,
    help="Read at most so many records at a time.",
)
@click.option(
    "--commit-every",
    metavar="RECORDS",
    type=click.IntRange(1),
    help="Commit after so many; default: all at once.",
)
@click.option("--message", "-m", help="Recorded in the manifest.")
def ingest(invocation: Invocation, name: str, paths: tuple[str, ...], **options: Any) -> None:
    """Read the files and folders PATHS into the dataset NAME, which is made when there is none.

    Parquet, Arrow (Feather), CSV, JSON lines, a folder of images whose sub-folders are labels, a
    Lance directory, or a dataset of Hugging Face on disk.
    All records become visible together, or none.  With a key the same call can be repeated:
    records that are stored already are skipped; then --commit-every keeps what an interruption
    would lose.

    Example: dreamdb ingest digits images/ --key path --backend data/space
    """
    from dreamdb.adapters.files import FileSource

    columns = split_names(options["columns"])
    types = _types(options["types"], options["images"])
    source = FileSource(
        paths,
        file_format=options["style"],
        batch_rows=options["batch_size"],
        types=types,
        columns=columns,
    )
    url = backend_url(invocation)
    dataset = _open(invocation, name, url)
    if dataset is not None:
        _check_existing(dataset, options["key"], types)
        source = source.for_schema(dataset.schema)
    before = 0 if dataset is None else dataset.count()
    ingested = _Ingest(invocation, name, url, source, options, dataset)
    output = invocation.output()
    with output.progress(source.num_rows(), "records") as progress:
        made = ingested.run(progress)
    data: dict[str, Any] = {
        "dataset": name,
        "url": made.backend,
        "created": dataset is None,
        "format": source.format,
        "files": len(source.files),
        "read": ingested.read,
        "added": made.count() - before,
        "rows": made.count(),
        "manifest": made.current_manifest(),
        "fields": {field: str(made.schema[field].type) for field in made.schema},
    }
    skipped = ingested.read - data["added"]
    output.result(
        data,
        [
            Facts(
                [
                    ("made" if dataset is None else "appended to", f"{name} in {made.backend}"),
                    ("read", f"{ingested.read:,} records of {len(source.files):,} files"),
                    ("added", f"{data['added']:,} records, {made.count():,} in all"),
                    ("skipped", f"{skipped:,} that were stored already" if skipped > 0 else ""),
                    ("fields", ", ".join(f"{n}: {t}" for n, t in data["fields"].items())),
                    ("manifest", data["manifest"]),
                ]
            )
        ],
    )


def _joined(batches: Iterator[Any]) -> Iterator[Any]:
    """Yield larger tables: each is sorted and merged as a whole, which small batches make slow."""
    import pyarrow as pa

    held: list[Any] = []
    nbytes = 0
    for batch in batches:
        if held and (nbytes + batch.nbytes > _JOINED_NBYTES or batch.schema != held[0].schema):
            yield pa.Table.from_batches(held)
            held, nbytes = [], 0
        held.append(batch)
        nbytes += batch.nbytes
    if held:
        yield pa.Table.from_batches(held)


def _open(invocation: Invocation, name: str, url: str) -> Dataset | None:
    from dreamdb import Dataset

    try:
        return Dataset.open_ref(name, url, storage_options=invocation.storage_options)
    except NotFoundError as error:
        if error.kind in ("ref-not-found", "not-found"):
            return None
        raise


def _check_existing(dataset: Dataset, key: str | None, types: dict[str, FieldType]) -> None:
    """Refuse options that only a new dataset could follow."""
    if key is not None and key != dataset.key:
        kept = "no key" if dataset.key is None else f"the key {dataset.key!r}"
        raise InvalidInputError(
            f"{dataset.name!r} has {kept}, not {key!r}",
            hint="leave --key out, or ingest into another dataset",
        )
    schema = dataset.schema
    for name, ftype in types.items():
        if name in schema and schema[name].type != ftype:
            raise SchemaError(
                f"the field {name!r} is {schema[name].type}, not {ftype}",
                hint="leave it out of --type and --image",
                field=name,
            )


def _types(types: tuple[str, ...], images: tuple[str, ...]) -> dict[str, FieldType]:
    """Return the types that ``--type`` and ``--image`` ask for."""
    from dreamdb.dataset.schema import scalar_type
    from dreamdb.model import field_type

    out: dict[str, FieldType] = {}
    for text, flag in [(t, "--type") for t in types] + [(t, "--image") for t in images]:
        name, equals, wanted = text.partition("=")
        if not name or not equals or not wanted:
            raise click.BadParameter(f"{text!r} is not COLUMN=TYPE", param_hint=flag)
        if name in out:
            raise click.BadParameter(f"{name!r} is given twice", param_hint=flag)
        vector = _EMBEDDING.match(wanted)
        if flag == "--image":
            out[name] = field_type("image", mime=wanted)
        elif vector is not None:
            out[name] = field_type("embedding", dim=int(vector[1]))
        else:
            out[name] = scalar_type(wanted)
    return out


@dataclass
class _Ingest:
    """One run: the batches of the source, cut into commits."""

    invocation: Invocation
    name: str
    url: str
    source: FileSource
    options: dict[str, Any]
    dataset: Dataset | None
    schema: Any = None
    read: int = 0
    committed: int = 0

    def run(self, progress: Progress) -> Dataset:
        """Read and commit everything; an error names the file that its row is in."""
        if self.dataset is None:
            self._infer()
        batches = self._counted(progress)
        try:
            if self.options["commit_every"] is None:
                self._commit(batches)
            else:
                self._commit_parts(batches)
        except DreamDBError as error:
            raise self._located(error) from error
        assert self.dataset is not None
        return self.dataset

    def _infer(self) -> None:
        """Choose the fields by the first file; the others are read as these."""
        schema = self.source.schema()
        self.source = self.source.for_schema(schema)
        anchor = self.options["anchor"]
        self.schema = schema if anchor not in schema else self._without(schema, anchor)

    def _counted(self, progress: Progress) -> Iterator[Any]:
        for batch in self.source:
            self.read += batch.num_rows
            yield batch
            progress.advance(batch.num_rows)

    def _commit_parts(self, batches: Iterator[Any]) -> None:
        size = self.options["commit_every"]
        held: list[Any] = []
        rows = 0
        for batch in batches:
            start = 0
            while start < batch.num_rows:
                part = batch.slice(start, size - rows)
                held.append(part)
                rows += part.num_rows
                start += part.num_rows
                if rows == size:
                    self._commit(iter(held))
                    self.committed += rows
                    held, rows = [], 0
        if held or self.dataset is None:
            self._commit(iter(held))

    def _commit(self, batches: Iterator[Any]) -> None:
        from dreamdb import Dataset

        options = self.options
        if self.dataset is not None:
            self.dataset.append(_joined(batches), options["anchor"], message=options["message"])
            return
        self.dataset = Dataset.create(
            self.name,
            self.schema,
            self.url,
            data=_joined(batches),
            key=options["key"],
            anchor=options["anchor"],
            message=options["message"],
            storage_options=self.invocation.storage_options,
        )

    @staticmethod
    def _without(schema: Any, name: str) -> Any:
        from dreamdb import Schema
        from dreamdb.model import FieldList

        return Schema.of_fields(FieldList.of([schema[n] for n in schema if n != name]))

    def _located(self, error: DreamDBError) -> DreamDBError:
        """Say which file the row of an error is in."""
        row = error.details.get("row")
        if not isinstance(row, int) or "path" in error.details:
            return error
        path, inside = self.source.origin(row + self.committed)
        told = f"{error} (row {inside} of {path})"
        details = {**error.details, "path": str(path)}
        return type(error)(told, hint=error.hint, **details)
