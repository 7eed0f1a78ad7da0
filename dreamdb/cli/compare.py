"""compare-refs: fields of several refs side by side."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from dreamdb.cli.blocks import Block, Column, Paragraph, Table
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, complete_fields, open_space, split_names
from dreamdb.cli.values import batch_rows, csv_text
from dreamdb.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

    from dreamdb import Comparison

# Commands are reached through the table of program.py.
__all__ = ["table_suffix", "write_table"]


@command("compare-refs", short_help="Show how often refs agree.")
@click.argument("refs", nargs=-1, required=True, type=RefName())
@click.option(
    "--field",
    "--fields",
    "fields",
    multiple=True,
    required=True,
    shell_complete=complete_fields,
    help="Which fields: a,b,c.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    help="Write the joined records: .parquet, .arrow or .csv.",
)
def compare(
    invocation: Invocation, refs: tuple[str, ...], fields: tuple[str, ...], output: str | None
) -> None:
    """Join fields of REFS by record and show for each pair how often they hold the same value.

    Example: dreamdb compare-refs sweep/lr0.1 sweep/lr0.01 --field prediction --output both.parquet
    """
    if output is not None:
        table_suffix(output)
    compared = open_space(invocation).compare_refs(list(refs), split_names(fields) or [])
    tables = {field: _agreement(compared, field, output) for field in compared.fields}
    data: dict[str, Any] = {
        "refs": list(compared.refs),
        "fields": list(compared.fields),
        "rows": len(compared),
        "agreement": {
            field: None
            if rows is None
            else {row["ref"]: [row[ref] for ref in compared.refs] for row in rows}
            for field, rows in tables.items()
        },
        "output": output,
    }
    if output is not None:
        write_table(compared.to_arrow(), output)
    blocks: list[Block] = [Paragraph(f"{len(compared):,} records of {len(refs)} refs")]
    for field, rows in tables.items():
        if rows is not None:
            blocks.append(_matrix(field, compared.refs, rows))
    if output is not None:
        blocks.append(Paragraph(f"wrote {output}"))
    invocation.output().result(data, blocks)


def _agreement(compared: Comparison, field: str, output: str | None) -> list[dict[str, Any]] | None:
    """Return the matrix of a field; None for vectors and media when they go into a file anyway."""
    try:
        rows: list[dict[str, Any]] = compared.agreement(field).to_pylist()
    except InvalidInputError:
        if output is None:
            raise
        return None
    return rows


def _matrix(field: str, refs: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    """Return the agreement of one field; refs stand in the columns by number."""
    columns = [Column("", right=True), Column(f"{field}: share of equal values", whole=True)]
    columns += [Column(str(index + 1), right=True, whole=True) for index in range(len(refs))]
    cells = [
        [str(index + 1), row["ref"]]
        + ["-" if row[ref] is None else f"{row[ref]:.3f}" for ref in refs]
        for index, row in enumerate(rows)
    ]
    return Table(columns, cells)


def table_suffix(path: str) -> str:
    """Return how a table's file is written; refuse a name that does not say so."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".parquet", ".arrow", ".csv"):
        raise InvalidInputError(
            f"cannot tell the format of {path!r}", hint="end its name in .parquet, .arrow or .csv"
        )
    return suffix


def write_table(table: pa.Table, path: str) -> None:
    """Write a table as Parquet, Arrow or CSV."""
    suffix = table_suffix(path)
    if suffix == ".csv":
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(csv_text(table.column_names) + "\n")
            for row in batch_rows(table.to_batches()):
                file.write(csv_text(row.values()) + "\n")
    elif suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, path)
    else:
        import pyarrow as pa

        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
