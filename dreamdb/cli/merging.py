"""Commands that join lines of history or take steps back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dreamdb.cli.blocks import Column, Facts, Table
from dreamdb.cli.compare import table_suffix, write_table
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, open_space, open_version
from dreamdb.cli.values import short_text
from dreamdb.errors import InvalidInputError, MergeConflictError

if TYPE_CHECKING:
    import pyarrow as pa

    from dreamdb import Dataset, MergeReport

__all__: list[str] = []  # commands are reached through the table of program.py

_SHOWN = 10


@command("merge", short_help="Merge versions into a branch.")
@click.argument("branch", type=RefName("branch"))
@click.argument("others", nargs=-1, required=True, type=RefName())
@click.option(
    "--strategy",
    type=click.Choice(["three-way", "fast-forward", "ours", "theirs"]),
    default="three-way",
    help="How, and for whom conflicts are decided.",
)
@click.option("--message", "-m", help="Recorded in the manifest.")
@click.option(
    "--conflicts",
    type=click.Path(dir_okay=False),
    help="Write the conflicts to this file: .parquet, .arrow or .csv.",
)
@click.option(
    "--choices",
    type=click.Path(dir_okay=False, exists=True),
    help="Decide conflicts by this file: columns anchor, field, choice (ours, theirs, base).",
)
@click.option("--unrelated", is_flag=True, help="Merge datasets without a common ancestor.")
def merge(
    invocation: Invocation,
    branch: str,
    others: tuple[str, ...],
    strategy: str,
    message: str | None,
    conflicts: str | None,
    choices: str | None,
    unrelated: bool,
) -> None:
    """Merge OTHERS (refs or manifests) into BRANCH, record by record and cell by cell.

    Example: dreamdb merge digits relabelled --conflicts conflicts.csv
    """
    if conflicts is not None:
        table_suffix(conflicts)
    decisions = None if choices is None else _read_table(choices)
    dataset = open_version(invocation, branch)
    versions = [open_version(invocation, other) for other in others]
    try:
        report = dataset.merge_many(
            versions, strategy, message, resolve=decisions, unrelated=unrelated
        )
    except MergeConflictError as error:
        _tell_conflicts(invocation, error.details["conflicts"], conflicts)
        raise
    _show(invocation, dataset, report, "merged", ", ".join(others))


def _tell_conflicts(invocation: Invocation, table: pa.Table, path: str | None) -> None:
    output = invocation.output()
    if path is not None:
        write_table(table, path)
        output.note(f"wrote {table.num_rows} conflicts to {path}")
    columns = [Column("anchor", whole=True), Column("field"), Column("kind", whole=True)]
    columns += [Column("base"), Column("ours"), Column("theirs")]
    cells = [
        ["" if row["anchor"] is None else str(row["anchor"]), row["field"], row["kind"]]
        + [short_text(row[side]) for side in ("base", "ours", "theirs")]
        for row in table.slice(0, _SHOWN).to_pylist()
    ]
    output.note(Table(columns, cells).render())
    if table.num_rows > _SHOWN:
        output.note(f"... {table.num_rows - _SHOWN} more")


def _read_table(path: str) -> pa.Table:
    """Read a file of choices."""
    import pyarrow as pa

    try:
        suffix = table_suffix(path)
        if suffix == ".csv":
            from pyarrow import csv

            # Anchors derived from keys do not fit the int64 that would be guessed.
            types = csv.ConvertOptions(column_types={"anchor": pa.uint64()})
            return csv.read_csv(path, convert_options=types)
        if suffix == ".parquet":
            from pyarrow import parquet

            return parquet.read_table(path)
        with pa.OSFile(path) as file:
            return pa.ipc.open_file(file).read_all()
    except pa.ArrowException as error:
        raise InvalidInputError(f"{path!r} cannot be read as a table: {error}") from None


def _show(
    invocation: Invocation, dataset: Dataset, report: MergeReport, verb: str, what: str
) -> None:
    data: dict[str, Any] = {
        "ref": dataset.name,
        "manifest": report.manifest,
        "changed": report.changed,
        "fast_forward": report.fast_forward,
        "decided": report.decided,
        "moved": report.moved.to_pylist(),
        "rows": dataset.count(),
        "nbytes": report.nbytes,
    }
    done = verb if report.changed else "nothing to do for"
    moved = report.moved.num_rows
    facts = Facts(
        [
            (done, what),
            ("branch", str(dataset.name)),
            ("manifest", report.manifest),
            ("records", f"{dataset.count():,}"),
            ("how", "fast-forward" if report.fast_forward else ""),
            ("conflicts decided", f"{report.decided:,}" if report.decided else ""),
            ("records moved", f"{moved:,}" if moved else ""),
        ]
    )
    invocation.output().result(data, [facts])


_PARENT = click.option(
    "--parent", type=click.IntRange(0), help="Of a merge: count its change from this parent."
)
_STRATEGY = click.option(
    "--strategy",
    type=click.Choice(["three-way", "ours", "theirs"]),
    default="three-way",
    help="For whom conflicts are decided.",
)
_MESSAGE = click.option("--message", "-m", help="Recorded in the manifest.")


@command("revert", short_help="Take back what one manifest has changed.")
@click.argument("branch", type=RefName("branch"))
@click.argument("manifest", type=RefName())
@_PARENT
@_STRATEGY
@_MESSAGE
def revert(
    invocation: Invocation,
    branch: str,
    manifest: str,
    parent: int | None,
    strategy: str,
    message: str | None,
) -> None:
    """Take back on BRANCH what MANIFEST has changed, in a new manifest.

    Example: dreamdb revert digits dywriitrh7
    """
    dataset, version = open_version(invocation, branch), open_version(invocation, manifest)
    report = dataset.revert(version, message, parent=parent, strategy=strategy)
    _show(invocation, dataset, report, "reverted", manifest)


@command("cherry-pick", short_help="Repeat on a branch what one manifest has changed.")
@click.argument("branch", type=RefName("branch"))
@click.argument("manifest", type=RefName())
@_PARENT
@_STRATEGY
@_MESSAGE
def cherry_pick(
    invocation: Invocation,
    branch: str,
    manifest: str,
    parent: int | None,
    strategy: str,
    message: str | None,
) -> None:
    """Repeat on BRANCH what MANIFEST (of any history) has changed, in a new manifest.

    Example: dreamdb cherry-pick digits dywriitrh7
    """
    dataset, version = open_version(invocation, branch), open_version(invocation, manifest)
    report = dataset.cherry_pick(version, message, parent=parent, strategy=strategy)
    _show(invocation, dataset, report, "picked", manifest)


@command("reset", short_help="Set a branch to another version (dry run without --yes).")
@click.argument("branch", type=RefName("branch"))
@click.argument("version", required=False, type=RefName())
@click.option("--at", metavar="WHEN", help="A time (ISO 8601): where BRANCH was then.")
@click.option("--yes", is_flag=True, help="Do it; without this only say what would change.")
@click.option("--reason", help="Recorded in the branch's reflog.")
def reset(
    invocation: Invocation,
    branch: str,
    version: str | None,
    at: str | None,
    yes: bool,
    reason: str | None,
) -> None:
    """Set BRANCH to VERSION (a ref, a manifest, or the start of one).  The reflog keeps the rest.

    Example: dreamdb reset digits v1 --yes --reason "bad labels"
    """
    if (version is None) == (at is None):
        raise click.UsageError("give a version, or --at a time")
    dataset = open_version(invocation, branch)
    target = open_version(invocation, version or branch, at=at)
    if yes:
        before = dataset.reset(target, reason=reason)
    else:
        before = dataset.current_manifest()
    _show_move(invocation, dataset, before, target.current_manifest(), done=yes)


@command("undo", short_help="Take back the last move of a branch.")
@click.argument("branch", type=RefName("branch"))
def undo(invocation: Invocation, branch: str) -> None:
    """Take back the last commit, merge or reset of BRANCH; again: one step further back.

    The reflog keeps what was taken back.

    Example: dreamdb undo digits
    """
    dataset = open_version(invocation, branch)
    before = dataset.undo()
    _show_move(invocation, dataset, before, dataset.current_manifest(), done=True)


def _show_move(
    invocation: Invocation, dataset: Dataset, before: str, after: str, *, done: bool
) -> None:
    data = {
        "ref": dataset.name,
        "before": before,
        "after": after,
        "rows": dataset.count() if done else None,
        "moved": done,
    }
    facts = Facts(
        [
            ("moved" if done else "would move", str(dataset.name)),
            ("from", before),
            ("to", after),
            ("go back with", f"dreamdb reset {dataset.name} {before[:16]} --yes" if done else ""),
        ]
    )
    output = invocation.output()
    output.result(data, [facts])
    if not done:
        output.note("nothing was changed: add --yes to do it")


@command("restore", short_help="Bring a deleted branch or snapshot back.")
@click.argument("ref")
@click.option("--as", "name", help="Another name for the branch.")
def restore(invocation: Invocation, ref: str, name: str | None) -> None:
    """Bring the deleted REF back from its reflog.

    Example: dreamdb restore sweep/lr0.1
    """
    dataset = open_space(invocation).restore(ref, name)
    data = {
        "ref": dataset.name,
        "kind": "snapshot" if dataset.read_only else "branch",
        "manifest": dataset.current_manifest(),
        "rows": dataset.count(),
    }
    facts = Facts(
        [
            ("restored", f"{dataset.name} ({data['kind']})"),
            ("manifest", dataset.current_manifest()),
            ("records", f"{dataset.count():,}"),
        ]
    )
    invocation.output().result(data, [facts])
