"""Commands that look after a space: verify, gc."""

from __future__ import annotations

from dataclasses import asdict

import click

from dreamdb.cli.blocks import Block, Column, Facts, Paragraph, Table
from dreamdb.cli.invocation import Invocation, command, read_options
from dreamdb.cli.opening import open_space
from dreamdb.cli.transfer import counted_transfer, remote_options

__all__: list[str] = []  # commands are reached through the table of program.py


@command("verify", short_help="Check every object that a ref needs.")
@click.argument("space", required=False)
@click.option("--no-data", is_flag=True, help="Documents and trees only; read no values.")
@click.option("--repair-from", metavar="URL", help="Fetch damaged and missing objects from there.")
@click.option("--dry-run", is_flag=True, help="With --repair-from: only list what it would fetch.")
@remote_options
def verify(
    invocation: Invocation,
    space: str | None,
    no_data: bool,
    repair_from: str | None,
    dry_run: bool,
    remote_option: tuple[str, ...],
) -> None:
    """Check that every object of SPACE (or --backend) is there, is itself and fits the others.

    Leaves with 1 when something is wrong, and is not repaired.

    Example: dreamdb verify data/space --repair-from backup/space
    """
    from dreamdb.dataset import format_nbytes

    if dry_run and repair_from is None:
        raise click.UsageError("--dry-run says what --repair-from URL would do")
    opened = open_space(invocation, space)
    repaired = None
    if repair_from is None:
        report = opened.verify(data=not no_data)
    else:
        options = read_options(remote_option, "--remote-option")
        with counted_transfer(invocation) as progress:
            repaired = opened.repair(
                repair_from,
                dry_run=dry_run,
                data=not no_data,
                storage_options=options,
                progress=progress,
            )
        report = repaired.after
    data = {
        "url": opened.url,
        "ok": report.ok,
        "refs": report.refs,
        "manifests": report.manifests,
        "objects": report.objects,
        "nbytes": report.nbytes,
        "elsewhere": report.elsewhere,
        "damage": [asdict(damage) for damage in report.damage],
    }
    if repaired is not None:
        data["repaired"] = {
            "from": repair_from,
            "dry_run": dry_run,
            "objects": repaired.repaired,
            "nbytes": repaired.nbytes,
            "lost": repaired.lost,
        }
    checked = (
        f"checked {report.refs:,} refs, {report.manifests:,} manifests, "
        f"{report.objects:,} objects, {format_nbytes(report.nbytes)}"
    )
    blocks: list[Block] = [Paragraph(checked)]
    for damage in report.damage:
        rows = f"{damage.rows[0]:,} to {damage.rows[1]:,}" if damage.rows else ""
        blocks.append(
            Facts(
                [
                    ("damage", f"{damage.kind}: {damage.message}"),
                    ("object", damage.object or ""),
                    ("refs", ", ".join(damage.refs)),
                    ("field", damage.field or ""),
                    ("rows", rows),
                ]
            )
        )
    if repaired is not None:
        done = f"{'would fetch' if dry_run else 'fetched'} {len(repaired.repaired):,} objects, "
        lines = [f"{done}{format_nbytes(repaired.nbytes)} from {repair_from}", *repaired.repaired]
        lines += [f"lost: {name}: {why}" for name, why in repaired.lost.items()]
        blocks.append(Paragraph("\n".join(lines)))
    blocks.append(Paragraph("all is well" if report.ok else f"{len(report.damage):,} found"))
    invocation.output().result(data, blocks)
    if not report.ok:
        raise click.exceptions.Exit(1)


@command("gc", short_help="Report objects that no ref needs.")
@click.argument("space", required=False)
@click.option("--dry-run", is_flag=True, help="Report only, which is all this version does.")
@click.option("--list", "listed", is_flag=True, help="Name the objects.")
def gc(invocation: Invocation, space: str | None, dry_run: bool, listed: bool) -> None:
    """Report which objects of SPACE (or --backend) no ref and no reflog needs.

    This version deletes nothing.

    Example: dreamdb gc data/space --dry-run
    """
    from dreamdb.dataset import format_nbytes

    opened = open_space(invocation, space)
    report = opened.gc(dry_run=True)
    data = {
        "url": opened.url,
        "dry_run": True,
        "roots": report.roots,
        "reachable": report.reachable,
        "reachable_nbytes": report.reachable_nbytes,
        "garbage": len(report.garbage),
        "garbage_nbytes": report.garbage_nbytes,
        "objects": [{"address": a, "nbytes": n} for a, n in report.garbage] if listed else None,
    }
    needed = f"{report.reachable:,} objects, {format_nbytes(report.reachable_nbytes)}"
    garbage = f"{len(report.garbage):,} objects, {format_nbytes(report.garbage_nbytes)}"
    blocks: list[Block] = [
        Facts(
            [
                ("roots", f"{report.roots:,} refs and reflog entries"),
                ("needed", needed),
                ("not needed", garbage),
            ]
        )
    ]
    if listed:
        columns = [Column("object", whole=True), Column("bytes", right=True, whole=True)]
        blocks.append(Table(columns, [(a, f"{n:,}") for a, n in report.garbage]))
    output = invocation.output()
    output.result(data, blocks)
    if not dry_run:
        output.note("nothing was deleted: this version only reports (gc --dry-run)")
