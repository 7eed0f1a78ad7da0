"""Commands that read records: head, query, stats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from dreamdb.cli.blocks import Block, Column, Paragraph, Table
from dreamdb.cli.inspect import field_data, field_table
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, complete_fields, open_version, split_names
from dreamdb.cli.values import batch_rows, csv_text, json_value, short_text

if TYPE_CHECKING:
    from dreamdb import Scan

__all__: list[str] = []  # commands are reached through the table of program.py

_TABLE_ROWS: Final = 50
_NUMBERS: Final = ("bool", "int", "float", "uint")


def _record_table(scan: Scan, rows: Sequence[dict[str, Any]]) -> Table:
    columns = [
        Column(field.name, right=str(field.type).startswith(_NUMBERS), whole=field.name[0] == "_")
        for field in scan.schema
    ]
    cells = [[short_text(row[column.title]) for column in columns] for row in rows]
    return Table(columns, cells, "(no records)")


@command("head", short_help="Show the first records.")
@click.argument("ref", required=False, type=RefName())
@click.option("-n", "count", type=click.IntRange(0), default=10, show_default=True, help="Records.")
@click.option(
    "--fields", multiple=True, shell_complete=complete_fields, help="Which fields: a,b,c."
)
def head(invocation: Invocation, ref: str | None, count: int, fields: tuple[str, ...]) -> None:
    """Show the first records of REF (a ref or a manifest).

    Example: dreamdb head digits -n 5 --fields label,split
    """
    dataset = open_version(invocation, ref)
    scan = dataset.scan(split_names(fields), limit=count, batch_size=max(1, min(count, 8_192)))
    rows = list(batch_rows(scan))
    total = dataset.count()
    data = {
        "manifest": dataset.current_manifest(),
        "total": total,
        "rows": [json_value(row) for row in rows],
    }
    output = invocation.output()
    output.result(data, [_record_table(scan, rows)])
    if total > len(rows):
        output.note(f"{len(rows):,} of {total:,} records")


@command("query", short_help="Show the records for which a condition holds.")
@click.argument("ref", type=RefName())
@click.argument("where", required=False)
@click.option(
    "--fields", multiple=True, shell_complete=complete_fields, help="Which fields: a,b,c."
)
@click.option("--limit", type=click.IntRange(0), help="At most so many; 50 in a table.")
@click.option("--count", "only_count", is_flag=True, help="Only how many there are.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "csv"]),
    help="How to show them; --json is --format json.",
)
def query(
    invocation: Invocation,
    ref: str,
    where: str | None,
    fields: tuple[str, ...],
    limit: int | None,
    only_count: bool,
    style: str | None,
) -> None:
    """Show the records of REF for which WHERE, a SQL condition, holds.

    Example: dreamdb query digits "label IN (3, 8) AND split = 'test'" --fields label --limit 5
    """
    if style not in (None, "json") and invocation.json:
        raise click.UsageError(f"--format {style} and --json exclude each other")
    invocation.json = invocation.json or style == "json"
    dataset = open_version(invocation, ref)
    names = split_names(fields)
    output = invocation.output()
    head = {"manifest": dataset.current_manifest(), "where": where}
    if only_count:
        count = dataset.scan(names, where, limit=limit).count()
        output.result({**head, "count": count}, [Paragraph(str(count))])
    elif style == "csv":
        output.lines(_csv_lines(dataset.scan(names, where, limit=limit)))
    elif invocation.json:
        rows = [json_value(row) for row in batch_rows(dataset.scan(names, where, limit=limit))]
        output.result({**head, "rows": rows}, [])
    else:
        most = _TABLE_ROWS if limit is None else limit
        # One more than is shown tells whether there are more.
        scan = dataset.scan(names, where, limit=most + (limit is None))
        found = list(batch_rows(scan))
        output.result(None, [_record_table(scan, found[:most])])
        if len(found) > most:
            output.note(f"the first {most} records; --count counts them, --limit shows more")


def _csv_lines(scan: Scan) -> Iterator[str]:
    names = scan.schema.names
    yield csv_text(names)
    for row in batch_rows(scan):
        yield csv_text(row[name] for name in names)


@command("stats", short_help="Show sizes, nulls and bounds of the fields.")
@click.argument("ref", required=False, type=RefName())
@click.option("--values", shell_complete=complete_fields, help="Count the values of this field.")
def stats(invocation: Invocation, ref: str | None, values: str | None) -> None:
    """Show sizes, nulls and bounds of every field of REF; no values are read for that.

    Example: dreamdb stats digits --values label
    """
    dataset = open_version(invocation, ref)
    fields = field_data(dataset)
    data: dict[str, Any] = {
        "manifest": dataset.current_manifest(),
        "rows": dataset.count(),
        "nbytes": sum(field["nbytes"] for field in fields),
        "fields": fields,
    }
    blocks: list[Block] = [field_table(fields)]
    if values is not None:
        counted = _count_values(dataset.scan([values]), values)
        data["values"] = {"field": values, "counts": [[json_value(v), n] for v, n in counted]}
        columns = [Column(values), Column("records", right=True, whole=True)]
        cells = [(short_text(value), f"{count:,}") for value, count in counted]
        blocks.append(Table(columns, cells, "(no records)"))
    invocation.output().result(data, blocks)


def _count_values(scan: Scan, name: str) -> list[tuple[Any, int]]:
    """Return values with their number of records, the most frequent first."""
    from collections import Counter

    from dreamdb.errors import InvalidInputError

    counts: Counter[Any] = Counter()
    for row in batch_rows(scan):
        value = row[name]
        if isinstance(value, (bytes, list, dict)):
            raise InvalidInputError(
                f"the values of {name!r} cannot be counted", hint="name a scalar or text field"
            )
        counts[value] += 1
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
