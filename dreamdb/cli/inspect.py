"""inspect: exactly what a ref held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dreamdb.cli.blocks import Block, Column, Facts, Paragraph, Table
from dreamdb.cli.history import history_table, record_data
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, count_manifests, open_space, open_version
from dreamdb.cli.values import json_value, short_text, time_text

if TYPE_CHECKING:
    from dreamdb import Dataset, RefInfo

__all__ = ["field_data", "field_table"]


def field_data(dataset: Dataset) -> list[dict[str, Any]]:
    """Return what the trees say about each field."""
    out = []
    for summary in dataset.stats():
        field = dataset.schema[summary.name]
        out.append(
            {
                "name": summary.name,
                "type": summary.type,
                "required": field.required,
                "key": summary.name == dataset.key,
                "parent": field.parent,
                "rows": summary.rows,
                "nulls": summary.nulls,
                "nbytes": summary.nbytes,
                "fragments": summary.fragments,
                "rows_per_fragment": summary.rung,
                "low": _bound(summary.type, summary.low),
                "high": _bound(summary.type, summary.high),
            }
        )
    return out


def _bound(type_name: str, bound: Any) -> Any:
    if type_name == "timestamp" and isinstance(bound, int):
        return time_text(bound)
    return json_value(bound)


def field_table(fields: list[dict[str, Any]]) -> Table:
    """Return fields as a table, one per line."""
    from dreamdb.dataset import format_nbytes

    columns = [
        Column("field", whole=True),
        Column("type"),
        Column("bytes", right=True, whole=True),
        Column("nulls", right=True, whole=True),
        Column("fragments", right=True, whole=True),
        Column("bounds"),
        Column("notes"),
    ]
    cells = []
    for field in fields:
        bounds = ""
        if field["low"] is not None or field["high"] is not None:
            bounds = f"{short_text(field['low'], 20)} to {short_text(field['high'], 20)}"
        notes = [word for word in ("key", "required") if field[word]]
        if field["parent"]:
            notes.append(f"of {field['parent']}")
        cells.append(
            (
                field["name"],
                field["type"],
                format_nbytes(field["nbytes"]),
                f"{field['nulls']:,}",
                f"{field['fragments']:,}",
                bounds,
                ", ".join(notes),
            )
        )
    return Table(columns, cells, "(no fields)")


def _ref_of(invocation: Invocation, dataset: Dataset) -> RefInfo | None:
    if dataset.name is None:
        return None
    for ref in open_space(invocation).refs(dataset.name):
        if ref.name == dataset.name:
            return ref
    return None


@command("inspect", short_help="Show exactly what a ref held.")
@click.argument("ref", required=False, type=RefName())
@click.option("--ref-name", type=RefName(), help="The same as REF.")
@click.option("--depth", type=click.IntRange(0), default=10, show_default=True, help="Manifests.")
def inspect(invocation: Invocation, ref: str | None, ref_name: str | None, depth: int) -> None:
    """Walk the manifests behind REF (a ref or a manifest) and show what it holds.

    Kind, manifest, content, records, every field with its size and bounds, parents, who made it
    and when, and the notes of a snapshot.

    Example: dreamdb inspect --ref-name prod-2026-01-31
    """
    if ref is not None and ref_name is not None and ref != ref_name:
        raise click.UsageError(f"two refs are given: {ref!r} and {ref_name!r}")
    dataset = open_version(invocation, ref or ref_name)
    named = _ref_of(invocation, dataset)
    history = dataset.log(max(depth, 1))
    manifests = count_manifests(invocation, dataset)
    tip = history[0]
    fields = field_data(dataset)
    data = {
        "ref": dataset.name,
        "kind": "manifest" if named is None else named.kind,
        "url": dataset.backend,
        "manifest": dataset.current_manifest(),
        "content": dataset.content_id,
        "rows": dataset.count(),
        "nbytes": sum(field["nbytes"] for field in fields),
        "fields": fields,
        "metadata": dataset.metadata,
        "parents": list(tip.parents),
        "manifests": manifests,
        "snapshot": _snapshot_data(named),
        "history": [record_data(record) for record in history[:depth]],
    }
    invocation.output().result(data, _blocks(data, named, history, depth))


def _snapshot_data(named: RefInfo | None) -> dict[str, Any] | None:
    if named is None or named.kind != "snapshot":
        return None
    return {
        "author": named.author,
        "time_ns": named.time_ns,
        "message": named.message,
        "metadata": dict(named.metadata),
    }


def _blocks(data: dict[str, Any], named: RefInfo | None, history: Any, depth: int) -> list[Block]:
    from dreamdb.dataset import format_nbytes, format_time

    snapshot = data["snapshot"]
    pairs = [
        ("ref", f"{data['ref']} ({data['kind']})" if data["ref"] else "(by manifest)"),
        ("space", data["url"]),
        ("manifest", data["manifest"]),
        ("content", data["content"]),
        ("parents", ", ".join(data["parents"]) or "none: it is a root"),
        ("records", f"{data['rows']:,}"),
        ("bytes", f"{format_nbytes(data['nbytes'])} in {len(data['fields'])} fields"),
    ]
    if snapshot is not None:
        pairs += [
            ("kept by", f"{snapshot['author']} on {format_time(snapshot['time_ns'])} UTC"),
            ("because", snapshot["message"]),
        ]
        pairs += [(f"  {name}", value) for name, value in snapshot["metadata"].items()]
    pairs += [(f"note {name}", value) for name, value in data["metadata"].items()]
    blocks: list[Block] = [Facts(pairs), field_table(data["fields"])]
    if depth:
        blocks.append(history_table(history[:depth]))
        more = data["manifests"] - depth
        if more > 0:
            blocks.append(Paragraph(f"... {more:,} more manifests: dreamdb log"))
    return blocks
