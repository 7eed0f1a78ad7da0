"""sql and export: questions in SQL, and records as files of other tools."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dreamdb.cli.blocks import Column, Facts, Paragraph, Table
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, backend_url, complete_fields, open_version, split_names
from dreamdb.cli.values import batch_rows, csv_text, json_value, short_text
from dreamdb.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

    from dreamdb.sql import Database, Result

__all__: list[str] = []  # commands are reached through the table of program.py

_TABLE_ROWS: Final = 50
_NUMBERS: Final = ("bool", "int", "float", "double", "decimal", "uint")
_FORMATS: Final = ("parquet", "arrow", "csv", "jsonl", "lance", "huggingface")


@command("sql", short_help="Run SQL statements.")
@click.argument("statement", required=False)
@click.option(
    "--file", "-f", "file", type=click.Path(), help="Run the statements of a file; - is stdin."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "csv", "json", "arrow"]),
    help="How to show the rows of the last statement; --json is --format json.",
)
@click.option("--limit", type=click.IntRange(0), help="At most so many rows; 50 in a table.")
@click.option("--output", "-o", type=click.Path(), help="Write csv or arrow into a file.")
@click.option("--memory-limit", metavar="SIZE", help="Such as 4GB; more is spilt to disk.")
def sql(invocation: Invocation, statement: str | None, **options: Any) -> None:
    """Run STATEMENT, or the statements of a file; every branch of the space is a table.

    Tables can be read AT VERSION 'tag'.  Statements that write are one commit each.

    Example: dreamdb sql "SELECT label, count(*) FROM digits GROUP BY label" --backend data/space
    """
    style = _style(invocation, options["style"], options["output"])
    text = _text(statement, options["file"])
    from dreamdb import connect
    from dreamdb.sql import Database

    url = backend_url(invocation)
    # A misspelt path must not become a new space.
    connect(url, storage_options=invocation.storage_options)
    with Database(
        url,
        storage_options=invocation.storage_options,
        memory_limit=options["memory_limit"],
    ) as db:
        _show(invocation, db, text, style, options)


def _style(invocation: Invocation, style: str | None, output: str | None) -> str:
    if style not in (None, "json") and invocation.json:
        raise click.UsageError(f"--format {style} and --json exclude each other")
    invocation.json = invocation.json or style == "json"
    chosen = "json" if invocation.json else style or "table"
    if output is not None and chosen not in ("csv", "arrow"):
        raise click.UsageError("--output needs --format csv or arrow")
    if chosen == "arrow" and output is None and sys.stdout.isatty():
        raise click.UsageError("arrow is not for a terminal: add --output FILE, or use a pipe")
    return chosen


def _text(statement: str | None, file: str | None) -> str:
    if (statement is None) == (file is None):
        raise click.UsageError("give either a statement or --file")
    if statement is not None:
        return statement
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(str(file)).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{file} is not UTF-8 text") from None


def _show(
    invocation: Invocation, db: Database, text: str, style: str, options: dict[str, Any]
) -> None:
    result = db.execute(text)
    limit, output = options["limit"], invocation.output()
    if style == "arrow":
        _write_arrow(_limited(result, limit), result.schema, options["output"])
    elif style == "csv":
        lines = _csv_lines(_limited(result, limit), result.schema.names)
        if options["output"] is None:
            output.lines(lines)
        else:
            with open(options["output"], "w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
    elif style == "json":
        rows = [json_value(row) for row in batch_rows(_limited(result, limit))]
        columns = [{"name": f.name, "type": str(f.type)} for f in result.schema]
        changed = result.rows_changed
        output.result({"columns": columns, "rows": rows, "rows_changed": changed}, [])
    elif result.rows_changed is not None:
        output.result(None, [Paragraph(f"{result.rows_changed:,} records")])
    else:
        most = _TABLE_ROWS if limit is None else limit
        # One more than is shown tells whether there are more.
        found = list(batch_rows(_limited(result, most + (limit is None))))
        output.result(None, [_row_table(result, found[:most])])
        if len(found) > most:
            output.note(f"the first {most} rows; --limit shows more")
    result.close()


def _limited(result: Result, limit: int | None) -> Iterator[pa.RecordBatch]:
    left = limit
    for batch in result:
        if left is None:
            yield batch
            continue
        if left <= 0:
            return
        yield batch.slice(0, left)
        left -= batch.num_rows


def _row_table(result: Result, rows: list[dict[str, Any]]) -> Table:
    columns = [
        Column(field.name, right=str(field.type).startswith(_NUMBERS)) for field in result.schema
    ]
    cells = [[short_text(row[column.title]) for column in columns] for row in rows]
    return Table(columns, cells, "(no rows)")


def _csv_lines(batches: Iterator[pa.RecordBatch], names: list[str]) -> Iterator[str]:
    yield csv_text(names)
    for row in batch_rows(batches):
        yield csv_text(row[name] for name in names)


def _write_arrow(batches: Iterator[pa.RecordBatch], schema: pa.Schema, path: str | None) -> None:
    import pyarrow as pa

    with ExitStack() as stack:
        sink: Any = sys.stdout.buffer
        if path is not None:
            sink = stack.enter_context(open(path, "wb"))
        with pa.ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        sink.flush()


@command("export", short_help="Write records into files of other tools.")
@click.argument("ref", type=RefName())
@click.argument("path", type=click.Path())
@click.option("--format", "style", type=click.Choice(_FORMATS), help="Default: by the ending.")
@click.option(
    "--fields", multiple=True, shell_complete=complete_fields, help="Which fields: a,b,c."
)
@click.option("--where", help="Only records for which this SQL condition holds.")
@click.option("--anchors", is_flag=True, help="Write the column _anchor too.")
@click.option(
    "--rows-per-file",
    type=click.IntRange(1),
    default=262_144,
    show_default=True,
    help="Records per file of a folder.",
)
@click.option("--overwrite", is_flag=True, help="Replace what is there once the export is whole.")
def export(invocation: Invocation, ref: str, path: str, **options: Any) -> None:
    """Write the records of REF (a ref or a manifest) to PATH.

    A file (.parquet, .arrow, .csv, .jsonl), a Lance directory (.lance), or with --format a folder
    of files; huggingface is what datasets.load_from_disk reads.  The same call continues an
    export that was interrupted.

    Example: dreamdb export digits digits.parquet --fields label,split --where "split = 'train'"
    """
    from dreamdb.adapters.exporting import export as write

    dataset = open_version(invocation, ref)
    output = invocation.output()
    with output.progress(dataset.count(), "records") as progress:
        report = write(
            dataset,
            path,
            options["style"],
            fields=split_names(options["fields"]),
            where=options["where"],
            anchors=options["anchors"],
            rows_per_file=options["rows_per_file"],
            overwrite=options["overwrite"],
            progress=progress.advance,
        )
    data = {
        "path": report.path,
        "format": report.format,
        "rows": report.rows,
        "files": report.files,
        "resumed": report.resumed,
        "manifest": report.manifest,
    }
    facts = [
        ("wrote", f"{report.rows:,} records into {report.path}"),
        ("files", f"{report.files:,} ({report.format})"),
        ("resumed", f"{report.resumed:,} were written already" if report.resumed else ""),
        ("manifest", report.manifest),
    ]
    output.result(data, [Facts(facts)])
