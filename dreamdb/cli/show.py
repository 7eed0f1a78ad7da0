"""show: one manifest, or one record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dreamdb.cli.blocks import Column, Facts, Table
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, open_version
from dreamdb.cli.values import batch_rows, json_value, short_text
from dreamdb.errors import InvalidInputError

if TYPE_CHECKING:
    from dreamdb import Dataset

__all__: list[str] = []  # commands are reached through the table of program.py


@command("show", short_help="Show one manifest, or one record.")
@click.argument("ref", required=False, type=RefName())
@click.option("--anchor", type=click.IntRange(0), help="The record with this anchor.")
@click.option("--position", type=int, help="The record at this position; negative: from the end.")
@click.option("--key", help="The record with this key.")
@click.option("--field", help="Only this field of the record.")
@click.option(
    "--output", type=click.Path(dir_okay=False), help="Write the bytes of --field to this file."
)
def show(
    invocation: Invocation,
    ref: str | None,
    anchor: int | None,
    position: int | None,
    key: str | None,
    field: str | None,
    output: str | None,
) -> None:
    """Show the manifest of REF (a ref, a manifest, or the start of one), or one of its records.

    Examples: dreamdb show digits;  dreamdb show digits --position 0 --field image --output 0.png
    """
    chosen = [given for given in (anchor, position, key) if given is not None]
    if len(chosen) > 1:
        raise click.UsageError("give one of --anchor, --position and --key")
    if not chosen and (field is not None or output is not None):
        raise click.UsageError("--field and --output need --anchor, --position or --key")
    if output is not None and field is None:
        raise click.UsageError("--output needs --field")
    dataset = open_version(invocation, ref)
    if not chosen:
        _show_manifest(invocation, dataset)
        return
    if key is not None:
        anchor = dataset.anchor_of(_key_value(dataset, key))
    fields = None if field is None else [field]
    table = (
        dataset.take([anchor], fields)
        if anchor is not None
        else dataset.take(fields=fields, positions=[position])
    )
    (record,) = batch_rows(table.to_batches())
    if output is not None and field is not None:
        _write_value(invocation, record[field], field, output)
        return
    data = {"manifest": dataset.current_manifest(), "record": json_value(record)}
    pairs = [(name, short_text(value, 80)) for name, value in record.items()]
    invocation.output().result(data, [Facts(pairs)])


def _key_value(dataset: Dataset, text: str) -> Any:
    if dataset.key is not None and dataset.schema[dataset.key].type.kind == "int":
        try:
            return int(text)
        except ValueError:
            raise InvalidInputError(
                f"the key {text!r} is not an integer, as those of {dataset.key!r} are"
            ) from None
    return text


def _write_value(invocation: Invocation, value: Any, field: str, path: str) -> None:
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes):
        raise InvalidInputError(
            f"the field {field!r} of this record is not bytes or text",
            hint="leave --output out to show the value",
        )
    with open(path, "wb") as file:
        file.write(value)
    data = {"field": field, "path": path, "nbytes": len(value)}
    facts = Facts([("wrote", path), ("bytes", f"{len(value):,}")])
    invocation.output().result(data, [facts])


def _show_manifest(invocation: Invocation, dataset: Dataset) -> None:
    from dreamdb.dataset import format_time, open_space
    from dreamdb.history import load_manifest
    from dreamdb.objects import from_text, to_text

    space = open_space(dataset.backend, storage_options=invocation.storage_options)
    address = dataset.current_manifest()
    manifest = load_manifest(space.cache, from_text(address))
    content = space.source.content(manifest.content)

    def text(root: Any) -> str | None:
        return None if root is None else to_text(root)

    data: dict[str, Any] = {
        "manifest": address,
        "generation": manifest.generation,
        "parents": [to_text(parent) for parent in manifest.parents],
        "skip": text(manifest.skip),
        "time_ns": manifest.time_ns,
        "author": manifest.author,
        "message": manifest.message,
        "operation": dict(manifest.operation),
        "application": dict(manifest.application),
        "content": to_text(manifest.content),
        "rows": dataset.count(),
        "timeline": text(content.timeline),
        "tombstones": text(content.tombstones),
        "tracks": {name: text(root) for name, root in content.tracks.items()},
        "metadata": dict(content.metadata),
    }
    operation = ", ".join(f"{name}={value}" for name, value in manifest.operation.items())
    facts = Facts(
        [
            ("manifest", address),
            ("generation", str(manifest.generation)),
            ("parents", ", ".join(data["parents"]) or "none: it is a root"),
            ("time", f"{format_time(manifest.time_ns)} UTC"),
            ("author", manifest.author),
            ("message", manifest.message),
            ("operation", operation),
            *((f"  {name}", value) for name, value in manifest.application.items()),
            ("content", data["content"]),
            ("records", f"{dataset.count():,}"),
            ("timeline", data["timeline"] or "(empty)"),
            ("tombstones", data["tombstones"] or "(none deleted)"),
        ]
    )
    columns = [Column("field", whole=True), Column("type"), Column("root", whole=True)]
    schema = dataset.schema
    rows = [(n, str(schema[n].type), text(root) or "(empty)") for n, root in content.tracks.items()]
    invocation.output().result(data, [facts, Table(columns, rows, "(no fields)")])
