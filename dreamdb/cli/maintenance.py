"""Commands that look after a space: verify, gc."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dreamdb.cli.blocks import Block, Column, Facts, Paragraph, Table
from dreamdb.cli.invocation import Invocation, command, read_options
from dreamdb.cli.opening import RefName, open_space
from dreamdb.cli.output import Output
from dreamdb.cli.transfer import counted_transfer, remote_options
from dreamdb.errors import InvalidInputError

if TYPE_CHECKING:
    from dreamdb import Space
    from dreamdb.maintain import AbsenceReport, GcReport

__all__: list[str] = []  # commands are reached through the table of program.py


@command("verify", short_help="Check every object that a ref needs.")
@click.argument("space", required=False)
@click.option("--no-data", is_flag=True, help="Documents and trees only; read no values.")
@click.option(
    "--absent",
    type=click.IntRange(0),
    multiple=True,
    help="Also that this record is gone from every version and byte.",
)
@click.option("--ref", type=RefName(), help="The dataset that --absent means.")
@click.option("--repair-from", metavar="URL", help="Fetch damaged and missing objects from there.")
@click.option("--dry-run", is_flag=True, help="With --repair-from: only list what it would fetch.")
@remote_options
def verify(
    invocation: Invocation,
    space: str | None,
    no_data: bool,
    absent: tuple[int, ...],
    ref: str | None,
    repair_from: str | None,
    dry_run: bool,
    remote_option: tuple[str, ...],
) -> None:
    """Check that every object of SPACE (or --backend) is there, is itself and fits the others.

    Leaves with 1 when something is wrong and is not repaired, or a record of --absent may still
    be there.

    Example: dreamdb verify data/space --repair-from backup/space
    """
    from dreamdb.dataset import format_nbytes
    from dreamdb.objects import to_text

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
    data: dict[str, Any] = {
        "url": opened.url,
        "ok": report.ok,
        "refs": report.refs,
        "manifests": report.manifests,
        "objects": report.objects,
        "nbytes": report.nbytes,
        "elsewhere": report.elsewhere,
        "damage": [asdict(damage) for damage in report.damage],
        "redacted": [
            {
                "content": to_text(one.content),
                "replacement": to_text(one.replacement),
                "records": one.records,
                "time_ns": one.time_ns,
                "who": one.who,
                "why": one.why,
            }
            for one in report.redactions
        ],
    }
    gone = _check_absent(invocation, opened, absent, ref) if absent else None
    if gone is not None:
        data["absent"] = asdict(gone) | {"ok": gone.ok}
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
    if report.redactions:
        blocks.append(Paragraph(f"redacted: {len(report.redactions):,} states of the data"))
    if repaired is not None:
        done = f"{'would fetch' if dry_run else 'fetched'} {len(repaired.repaired):,} objects, "
        lines = [f"{done}{format_nbytes(repaired.nbytes)} from {repair_from}", *repaired.repaired]
        lines += [f"lost: {name}: {why}" for name, why in repaired.lost.items()]
        blocks.append(Paragraph("\n".join(lines)))
    blocks.append(Paragraph("all is well" if report.ok else f"{len(report.damage):,} found"))
    if gone is not None:
        blocks.append(_absence(gone))
    invocation.output().result(data, blocks)
    if not report.ok or (gone is not None and not gone.ok):
        raise click.exceptions.Exit(1)


def _check_absent(
    invocation: Invocation, space: Space, anchors: tuple[int, ...], ref: str | None
) -> AbsenceReport:
    if ref is None:
        names = space.datasets()
        if len(names) != 1:
            raise InvalidInputError(
                f"{space.url} has {len(names)} branches",
                hint="say which dataset is meant: --ref NAME",
            )
        ref = names[0]
    return space.open(ref).maintain.absent(list(anchors))


def _absence(report: AbsenceReport) -> Block:
    if report.ok:
        return Paragraph(f"absent from {report.contents:,} states of the data and from every byte")
    held = ", ".join(f"{anchor} in {manifest[:10]}" for manifest, anchor in report.held_by[:8])
    return Facts(
        [
            ("still held", held + (", ..." if len(report.held_by) > 8 else "")),
            ("garbage", f"{report.garbage:,} objects: gc --yes --no-trash" * bool(report.garbage)),
            ("trash", f"{report.trash:,} objects: gc --yes --no-trash" * bool(report.trash)),
        ]
    )


@command("gc", short_help="Remove objects that no ref needs.")
@click.argument("space", required=False)
@click.option("--yes", is_flag=True, help="Act; without it nothing is changed.")
@click.option("--dry-run", is_flag=True, help="Only look, as without --yes.")
@click.option("--restore", is_flag=True, help="Bring back what lies in the trash.")
@click.option("--no-trash", is_flag=True, help="Delete for good, and empty the trash.")
@click.option("--list", "listed", is_flag=True, help="Name the objects, and why they go.")
def gc(
    invocation: Invocation,
    space: str | None,
    yes: bool,
    dry_run: bool,
    restore: bool,
    no_trash: bool,
    listed: bool,
) -> None:
    """Find what no ref of SPACE (or --backend) needs, and with --yes move it to the trash.

    What a ref named in the last 30 days is kept.  The trash keeps objects for 7 days.

    Example: dreamdb gc data/space --list
    """
    if yes and dry_run:
        raise click.UsageError("--yes and --dry-run exclude each other")
    if restore and (no_trash or listed):
        raise click.UsageError("--restore goes without --no-trash and --list")
    opened = open_space(invocation, space)
    output = invocation.output()
    if restore:
        _restore(output, opened, act=yes)
        return
    report = opened.gc(dry_run=not yes, trash=not no_trash)
    data = {
        "url": opened.url,
        "dry_run": report.dry_run,
        "roots": report.roots,
        "reachable": report.reachable,
        "reachable_nbytes": report.reachable_nbytes,
        "garbage": len(report.garbage),
        "garbage_nbytes": report.garbage_nbytes,
        "removed": report.removed,
        "trashed": report.trashed,
        "emptied": report.emptied,
        "emptied_nbytes": report.emptied_nbytes,
        "temporaries": report.temporaries,
        "objects": [asdict(one) for one in report.garbage] if listed else None,
    }
    output.result(data, _gc_blocks(report, listed=listed))
    if not yes and (report.garbage or report.emptied):
        output.note("nothing was changed; add --yes to do it")


def _gc_blocks(report: GcReport, *, listed: bool) -> list[Block]:
    from dreamdb.dataset import format_nbytes

    def amount(count: int, nbytes: int) -> str:
        return f"{count:,} objects, {format_nbytes(nbytes)}"

    where = "to the trash, for 7 days" if report.trashed else "for good"
    pairs = [
        ("roots", f"{report.roots:,} refs and reflog entries"),
        ("needed", amount(report.reachable, report.reachable_nbytes)),
        ("not needed", amount(len(report.garbage), report.garbage_nbytes)),
        ("removed", "" if report.dry_run else f"{report.removed:,} objects, {where}"),
        ("old trash", amount(report.emptied, report.emptied_nbytes) if report.emptied else ""),
        ("left by dead writers", f"{report.temporaries:,} files" if report.temporaries else ""),
    ]
    blocks: list[Block] = [Facts(pairs)]
    if listed:
        columns = [
            Column("object", whole=True),
            Column("kind", whole=True),
            Column("bytes", right=True, whole=True),
            Column("why", whole=True),
        ]
        rows = [(one.object, one.kind, f"{one.nbytes:,}", one.why) for one in report.garbage]
        blocks.append(Table(columns, rows))
    return blocks


def _restore(output: Output, space: Space, *, act: bool) -> None:
    from dreamdb.dataset import format_nbytes

    report = space.restore_trash(dry_run=not act)
    data = {
        "url": space.url,
        "dry_run": report.dry_run,
        "objects": report.objects,
        "nbytes": report.nbytes,
        "manifests": [{"manifest": m, "message": said} for m, said in report.manifests],
    }
    told = f"{report.objects:,} objects, {format_nbytes(report.nbytes)}"
    columns = [Column("manifest", whole=True), Column("message")]
    blocks: list[Block] = [
        Facts([("in the trash" if report.dry_run else "restored", told)]),
        Table(columns, report.manifests, "(no commit among them)"),
    ]
    output.result(data, blocks)
    if not act and report.objects:
        output.note("nothing was changed; add --yes to do it")
    elif report.manifests:
        output.note("keep one with: dreamdb branch NAME MANIFEST")
