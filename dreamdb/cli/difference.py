"""Commands about what changed: diff, blame."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from dreamdb.cli.blocks import Block, Column, Facts, Paragraph, Table
from dreamdb.cli.compare import table_suffix, write_table
from dreamdb.cli.history import record_data
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, complete_fields, open_version, split_names
from dreamdb.cli.values import batch_rows, json_value, short_text

if TYPE_CHECKING:
    from dreamdb import Diff

__all__: list[str] = []  # commands are reached through the table of program.py


@command("diff", short_help="Show what changed between two versions.")
@click.argument("before", type=RefName())
@click.argument("after", type=RefName(), required=False)
@click.option("--at", metavar="WHEN", help="Take BEFORE as it was: a time (ISO 8601).")
@click.option(
    "--field",
    "--fields",
    "fields",
    multiple=True,
    shell_complete=complete_fields,
    help="Only these: a,b,c.",
)
@click.option("--stat", is_flag=True, help="What the trees say alone; reads no values.")
@click.option("-n", "count", type=click.IntRange(0), default=10, help="Rows to show (default 10).")
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    help="Write all rows, old and new: .parquet, .arrow or .csv.",
)
def diff(
    invocation: Invocation,
    before: str,
    after: str | None,
    at: str | None,
    fields: tuple[str, ...],
    stat: bool,
    count: int,
    output: str | None,
) -> None:
    """Show what changed from BEFORE to AFTER (refs, manifests, or the starts of manifests).

    Without AFTER, BEFORE is a branch and --at a time: what has changed there since.

    Examples: dreamdb diff v1 digits;  dreamdb diff digits --at 2026-11-01 --stat
    """
    if after is None and at is None:
        raise click.UsageError("give AFTER too, or --at a time for BEFORE")
    if output is not None:
        table_suffix(output)
    old = open_version(invocation, before, at=at)
    new = open_version(invocation, after or before)
    found = new.diff(old, fields=split_names(fields))
    found.before = before if at is None else f"{before} at {at}"
    found.after = after or before
    if stat:
        _show_stat(invocation, found)
        return
    data = {**found.to_dict(), "output": output}
    blocks: list[Block] = [Paragraph(repr(found))]
    shown = list(islice(batch_rows(found.rows(batch_size=max(1, count))), count))
    data["rows"] = [json_value(row) for row in shown]
    if shown:
        blocks.append(_rows(shown))
    if output is not None:
        write_table(found.to_arrow(), output)
        blocks.append(Paragraph(f"wrote {output}"))
    invocation.output().result(data, blocks)


def _rows(rows: list[dict[str, Any]]) -> Table:
    """Return rows as a table: one line per changed cell, added or removed record."""
    marks = {"added": "+", "removed": "-", "changed": "~"}
    cells = []
    for row in rows:
        anchor, change, names = (row[name] for name in ("_anchor", "_change", "_fields"))
        if change == "changed":
            for name in names:
                told = f"{short_text(row[f'{name}@old'])} -> {short_text(row[f'{name}@new'])}"
                cells.append((marks[change], str(anchor), name, told))
            continue
        side = "@new" if change == "added" else "@old"
        values = {n.removesuffix(side): v for n, v in row.items() if n.endswith(side)}
        cells.append((marks[change], str(anchor), "", short_text(values, 60)))
    columns = [Column(""), Column("anchor", right=True, whole=True), Column("field"), Column("")]
    return Table(columns, cells)


def _show_stat(invocation: Invocation, found: Diff) -> None:
    stats = found.stat()
    data = {
        "before": found.before,
        "after": found.after,
        "rows_added": found.rows_added,
        "rows_removed": found.rows_removed,
        "schema_changes": found.schema_documents(),
        "fields": [
            {"field": s.field, "fragments": s.fragments, "rows": s.rows, "nbytes": s.nbytes}
            for s in stats
        ],
    }
    facts = Facts(
        [
            ("from", found.before),
            ("to", found.after),
            ("records", f"{found.rows_added:,} added, {found.rows_removed:,} removed"),
            ("schema", "; ".join(str(change) for change in found.schema_changes)),
        ]
    )
    columns = [
        Column("field"),
        Column("fragments", right=True, whole=True),
        Column("cells at most", right=True, whole=True),
        Column("bytes", right=True, whole=True),
    ]
    cells = [(s.field, f"{s.fragments:,}", f"{s.rows:,}", f"{s.nbytes:,}") for s in stats]
    invocation.output().result(data, [facts, Table(columns, cells, "(no field differs)")])


@command("blame", short_help="Show which manifest wrote a value.")
@click.argument("ref", type=RefName())
@click.argument("anchor", type=click.IntRange(0))
@click.argument("fields", nargs=-1, required=True)
def blame(invocation: Invocation, ref: str, anchor: int, fields: tuple[str, ...]) -> None:
    """Show which manifest gave FIELDS of the record ANCHOR the values they have in REF.

    Example: dreamdb blame digits 1763640000000000000 label
    """
    from dreamdb.dataset import describe_operation, format_time

    dataset = open_version(invocation, ref)
    records = {field: dataset.blame(anchor, field) for field in fields}
    data = {"anchor": anchor, "fields": {f: record_data(r) for f, r in records.items()}}
    columns = [
        Column("field"),
        Column("manifest", whole=True),
        Column("time (UTC)", whole=True),
        Column("author"),
        Column("what"),
        Column("message"),
    ]
    cells = [
        (
            field,
            record.manifest[:10],
            format_time(record.time_ns),
            record.author,
            describe_operation(record.operation),
            record.message,
        )
        for field, record in records.items()
    ]
    invocation.output().result(data, [Table(columns, cells)])
