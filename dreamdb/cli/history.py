"""Commands that look back: log, reflog."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from dreamdb.cli.blocks import Column, Paragraph, Table
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, open_space, open_version

if TYPE_CHECKING:
    from dreamdb.dataset import Log, LogRecord

__all__ = ["history_table", "record_data"]


def record_data(record: LogRecord) -> dict[str, Any]:
    """Return one manifest of a history as plain data."""
    return {
        "manifest": record.manifest,
        "parents": list(record.parents),
        "time_ns": record.time_ns,
        "author": record.author,
        "message": record.message,
        "operation": record.operation,
        "rows": record.rows,
        "refs": list(record.refs),
        "application": dict(record.application or {}),
        "cut": record.cut,
    }


def history_table(records: Iterable[LogRecord]) -> Table:
    """Return manifests as a table, one per line."""
    from dreamdb.dataset import describe_operation, format_time

    columns = [
        Column("manifest", whole=True),
        Column("time (UTC)", whole=True),
        Column("author"),
        Column("what"),
        Column("records", right=True, whole=True),
        Column("refs"),
        Column("message"),
    ]
    cells = [
        (
            record.manifest[:10],
            format_time(record.time_ns),
            record.author,
            describe_operation(record.operation),
            f"{record.rows:,}",
            ", ".join(record.refs),
            f"{record.message} [history is cut here]".lstrip() if record.cut else record.message,
        )
        for record in records
    ]
    return Table(columns, cells, "(no history)")


@command("log", short_help="Show the history of a ref.")
@click.argument("ref", required=False, type=RefName())
@click.option("--graph", is_flag=True, help="Draw the lines of descent.")
@click.option("--all", "everything", is_flag=True, help="The histories of all refs together.")
@click.option("-n", "count", type=click.IntRange(1), help="At most so many manifests.")
@click.option("--first-parent", is_flag=True, help="The branch's own line only.")
def log(
    invocation: Invocation,
    ref: str | None,
    graph: bool,
    everything: bool,
    count: int | None,
    first_parent: bool,
) -> None:
    """Show the manifests that led to REF (a ref or a manifest), newest first.

    Example: dreamdb log digits --graph -n 20
    """
    if everything and (ref is not None or first_parent):
        raise click.UsageError("--all goes without a ref and without --first-parent")
    if everything:
        shown = _log_of_all(invocation, count)
    else:
        dataset = open_version(invocation, ref)
        shown = dataset.history(count) if first_parent else dataset.log(count)
    data = {"manifests": [record_data(record) for record in shown]}
    block = Paragraph(shown.graph()) if graph or everything else history_table(shown)
    invocation.output().result(data, [block])


def _log_of_all(invocation: Invocation, count: int | None) -> Log:
    from dreamdb.dataset import Log

    space = open_space(invocation)
    records: dict[str, LogRecord] = {}
    for name in space.list_refs():
        for record in space.open(name).log(count):
            records.setdefault(record.manifest, record)
    # A manifest's time is later than its parents', so this puts children first.
    newest = sorted(records.values(), key=lambda r: (r.time_ns, r.manifest), reverse=True)
    return Log(newest[:count])


@command("reflog", short_help="Show moves of a ref that its history does not.")
@click.argument("ref", type=RefName())
def reflog(invocation: Invocation, ref: str) -> None:
    """Show deletions and resets of REF, newest first; also for a ref that is gone.

    Example: dreamdb reflog sweep/lr0.1
    """
    entries = open_space(invocation).reflog(ref)
    columns = [
        Column("time (UTC)", whole=True),
        Column("old", whole=True),
        Column("new", whole=True),
        Column("who"),
        Column("why"),
    ]
    cells = [
        (
            entry["time"],
            (entry["old"] or "-")[:10],
            (entry["new"] or "-")[:10],
            entry["who"],
            entry["why"],
        )
        for entry in entries
    ]
    block = Table(columns, cells, f"(no moves of {ref!r} outside its history)")
    invocation.output().result({"ref": ref, "moves": entries}, [block])
