"""Commands that make a space smaller: du, expire, purge."""

from __future__ import annotations

import click

from dreamdb.cli.blocks import Block, Column, Facts, Table
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, open_space, open_version

__all__: list[str] = []  # commands are reached through the table of program.py


@command("du", short_help="Show what refs and their fields take.")
@click.argument("refs", nargs=-1, type=RefName())
@click.option("--fields", is_flag=True, help="Also each field of the present versions.")
def du(invocation: Invocation, refs: tuple[str, ...], fields: bool) -> None:
    """Show how many bytes REFS (default: all) take with their histories.

    "alone" is what no other ref needs: what deleting the ref would free in the end.

    Example: dreamdb du sweep/a --fields
    """
    from dreamdb.dataset import format_nbytes

    space = open_space(invocation)
    usage = space.du(refs or None)
    data = {
        "url": space.url,
        "objects": usage.objects,
        "nbytes": usage.nbytes,
        "needed_objects": usage.needed_objects,
        "needed_nbytes": usage.needed_nbytes,
        "refs": [
            {
                "name": ref.name,
                "kind": ref.kind,
                "objects": ref.objects,
                "nbytes": ref.nbytes,
                "unique_nbytes": ref.unique_nbytes,
                "shared_nbytes": ref.shared_nbytes,
                "fields": [
                    {
                        "name": field.name,
                        "objects": field.objects,
                        "nbytes": field.nbytes,
                        "unique_nbytes": field.unique_nbytes,
                        "shared_nbytes": field.shared_nbytes,
                    }
                    for field in ref.fields
                ],
            }
            for ref in usage.refs
        ],
    }
    columns = [
        Column("ref" if not fields else "ref, field", whole=True),
        Column("kind", whole=True),
        Column("objects", right=True, whole=True),
        Column("bytes", right=True, whole=True),
        Column("alone", right=True, whole=True),
    ]
    rows: list[tuple[str, ...]] = []
    for ref in usage.refs:
        sizes = (f"{ref.objects:,}", format_nbytes(ref.nbytes), format_nbytes(ref.unique_nbytes))
        rows.append((ref.name, ref.kind, *sizes))
        for field in ref.fields if fields else ():
            sizes = (
                f"{field.objects:,}",
                format_nbytes(field.nbytes),
                format_nbytes(field.unique_nbytes),
            )
            rows.append((f"  {field.name}", "field", *sizes))
    total = f"{usage.objects:,} objects, {format_nbytes(usage.nbytes)}"
    needed = f"{usage.needed_objects:,} objects, {format_nbytes(usage.needed_nbytes)}"
    blocks: list[Block] = [
        Table(columns, rows, "(no refs)"),
        Facts([("stored", total), ("needed by refs", needed)]),
    ]
    invocation.output().result(data, blocks)


@command("expire", short_help="Shorten the history.")
@click.argument("keep", metavar="KEEP")
@click.option("--yes", is_flag=True, help="Act; without it nothing is changed.")
def expire(invocation: Invocation, keep: str, yes: bool) -> None:
    """Cut the history behind the KEEP newest manifests of each branch, or a span of time.

    Tips, snapshots and what branches have in common stay.  The next gc removes the rest.

    Example: dreamdb expire "30 days"
    """
    from dreamdb.dataset import format_time

    space = open_space(invocation)
    report = space.expire(keep, dry_run=not yes)
    data = {
        "url": space.url,
        "dry_run": report.dry_run,
        "kept": report.kept,
        "cuts": report.cuts,
        "expired": [
            {"manifest": m, "time_ns": time_ns, "message": said}
            for m, time_ns, said in report.expired
        ],
    }
    columns = [
        Column("manifest", whole=True),
        Column("time (UTC)", whole=True),
        Column("message"),
    ]
    rows = [(m[:10], format_time(time_ns), said) for m, time_ns, said in report.expired]
    pairs = [("kept", f"{report.kept:,} manifests"), ("expired", f"{len(rows):,} manifests")]
    blocks: list[Block] = [Table(columns, rows, "(nothing expires)"), Facts(pairs)]
    output = invocation.output()
    output.result(data, blocks)
    if rows:
        output.note("to free the space: dreamdb gc --yes" if yes else _UNCHANGED)


@command("purge", short_help="Remove records from every version, for good.")
@click.argument("ref", type=RefName("branch"))
@click.argument("anchors", nargs=-1, type=click.IntRange(0))
@click.option("--where", help="The records of REF's present version that fit a condition, too.")
@click.option("--reason", help="Recorded in the redactions and in the new versions.")
@click.option("--yes", is_flag=True, help="Act; without it nothing is changed.")
def purge(
    invocation: Invocation,
    ref: str,
    anchors: tuple[int, ...],
    where: str | None,
    reason: str | None,
    yes: bool,
) -> None:
    """Remove the records ANCHORS from REF, from all versions that share its history, and for good.

    With --yes the records' bytes are deleted too, with all garbage and the trash.

    Example: dreamdb purge patients --where "patient = 'p-17'" --reason "her request" --yes
    """
    dataset = open_version(invocation, ref)
    wanted = list(anchors)
    if where is not None:
        wanted += dataset.scan([], where=where).to_arrow()["_anchor"].to_pylist()
    if not wanted:
        raise click.UsageError("no record is meant: give anchors, or --where that some record fits")
    report = dataset.maintain.purge(wanted, reason=reason, dry_run=not yes)
    removed = 0
    if yes:
        removed = open_space(invocation).gc(dry_run=False, trash=False).removed
    data = {
        "ref": ref,
        "dry_run": report.dry_run,
        "records": report.records,
        "unknown": list(report.unknown),
        "contents": report.contents,
        "manifests": report.manifests,
        "refs": list(report.refs),
        "moved": list(report.moved),
        "removed": removed,
    }
    pairs = [
        ("records", f"{report.records:,}"),
        ("not found", ", ".join(map(str, report.unknown))),
        ("versions", f"{report.manifests:,} with {report.contents:,} states of the data"),
        ("refs", ", ".join(report.refs)),
        ("deleted", f"{removed:,} objects" if yes else ""),
    ]
    output = invocation.output()
    output.result(data, [Facts(pairs)])
    output.note(_UNCHANGED if not yes else f"look: dreamdb verify --absent {wanted[0]} --ref {ref}")


_UNCHANGED = "nothing was changed; add --yes to do it"
