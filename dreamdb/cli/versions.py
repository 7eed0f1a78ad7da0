"""Commands that name versions: branch, snapshot."""

from __future__ import annotations

import click

from dreamdb.cli.blocks import Facts
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, open_version

__all__: list[str] = []  # commands are reached through the table of program.py


@command("branch", short_help="Make a branch.")
@click.argument("name")
@click.argument("source", required=False, type=RefName())
@click.option("--at", metavar="WHEN", help="A time (ISO 8601) or a manifest of SOURCE.")
def branch(invocation: Invocation, name: str, source: str | None, at: str | None) -> None:
    """Make the branch NAME from SOURCE: a ref, a manifest, or the only branch of the space.

    Nothing is copied, whatever the size.

    Example: dreamdb branch sweep/lr0.1 digits-v1
    """
    dataset = open_version(invocation, source, at=at)
    made = dataset.branch(name)
    data = {"name": name, "manifest": made.current_manifest(), "rows": made.count()}
    facts = Facts(
        [("branch", name), ("manifest", made.current_manifest()), ("records", f"{made.count():,}")]
    )
    invocation.output().result(data, [facts])


@command("snapshot", short_help="Keep a version under a name that never moves.")
@click.argument("label")
@click.argument("source", required=False, type=RefName())
@click.option("--message", "-m", help="Why it is kept.")
@click.option("--meta", metavar="NAME=VALUE", multiple=True, help="A note, such as accuracy=0.97.")
def snapshot(
    invocation: Invocation,
    label: str,
    source: str | None,
    message: str | None,
    meta: tuple[str, ...],
) -> None:
    """Keep SOURCE (a ref, a manifest, or the only branch) as the snapshot LABEL.

    Example: dreamdb snapshot prod-2026-01-31 sweep/lr0.1 -m "best of the sweep" --meta acc=0.97
    """
    notes = {}
    for text in meta:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--meta")
        notes[key] = value
    dataset = open_version(invocation, source)
    made = dataset.snapshot(label, message, metadata=notes)
    data = {**made, "rows": dataset.count(), "message": message or "", "metadata": notes}
    facts = Facts(
        [
            ("snapshot", label),
            ("manifest", str(made["manifest"])),
            ("records", f"{dataset.count():,}"),
            ("message", message or ""),
            *((name, value) for name, value in notes.items()),
        ]
    )
    invocation.output().result(data, [facts])
