"""Commands about a space and its refs: init, refs, delete-ref."""

from __future__ import annotations

import click

from dreamdb.cli.blocks import Column, Facts, Paragraph, Table
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, backend_url, open_space, refs_keeping

__all__: list[str] = []  # commands are reached through the table of program.py


@command("init", short_help="Make an empty space.")
@click.argument("space", required=False)
def init(invocation: Invocation, space: str | None) -> None:
    """Make an empty space at SPACE (or --backend); one that exists is left as it is.

    Example: dreamdb init data/space
    """
    from dreamdb import connect
    from dreamdb.errors import NotFoundError

    url, options = backend_url(invocation, space), invocation.storage_options
    try:
        opened, created = connect(url, storage_options=options), False
    except NotFoundError:
        opened, created = connect(url, create=True, storage_options=options), True
    said = "made a space at" if created else "there is a space already at"
    data = {"url": opened.url, "created": created, "refs": len(opened.list_refs())}
    invocation.output().result(data, [Paragraph(f"{said} {opened.url}")])


@command("refs", short_help="List branches and snapshots.")
@click.argument("space", required=False)
@click.option("--prefix", default="", help="Only names that start so.")
@click.option("--kind", type=click.Choice(["branch", "snapshot", "tag"]), help="Only these.")
def refs(invocation: Invocation, space: str | None, prefix: str, kind: str | None) -> None:
    """List the branches, snapshots and version tags of SPACE (or --backend).

    Example: dreamdb refs data/space --prefix sweep/
    """
    from dreamdb.dataset import format_time

    opened = open_space(invocation, space)
    found = [ref for ref in opened.refs(prefix) if kind is None or ref.kind == kind]
    rows = [None if r.kind == "tag" else opened.open(r.name).count() for r in found]
    data = {
        "url": opened.url,
        "refs": [
            {
                "name": ref.name,
                "kind": ref.kind,
                "manifest": ref.manifest,
                "rows": count,
                "time_ns": ref.time_ns,
                "author": ref.author,
                "message": ref.message,
                "metadata": dict(ref.metadata),
            }
            for ref, count in zip(found, rows, strict=True)
        ],
    }
    columns = [
        Column("name", whole=True),
        Column("kind", whole=True),
        Column("records", right=True, whole=True),
        Column("manifest", whole=True),
        Column("time (UTC)", whole=True),
        Column("author"),
        Column("message"),
    ]
    cells = [
        (
            r.name,
            r.kind,
            "" if n is None else f"{n:,}",
            r.manifest[:10],
            format_time(r.time_ns)[:16],
            r.author,
            r.message,
        )
        for r, n in zip(found, rows, strict=True)
    ]
    invocation.output().result(data, [Table(columns, cells, f"(no refs in {opened.url})")])


@command("delete-ref", short_help="Delete a branch or a snapshot (dry run without --yes).")
@click.argument("ref", type=RefName())
@click.option("--yes", is_flag=True, help="Delete it; without this only say what would go.")
@click.option("--reason", help="Recorded in the ref's reflog.")
def delete_ref(invocation: Invocation, ref: str, yes: bool, reason: str | None) -> None:
    """Delete the branch or snapshot REF.  Its objects and its reflog stay.

    Example: dreamdb delete-ref sweep/lr0.1 --yes --reason "diverged"
    """
    space = open_space(invocation)
    dataset = space.open(ref)
    manifest = dataset.current_manifest()
    kept = [name for name in refs_keeping(invocation, manifest) if name != ref]
    if yes:
        space.delete_ref(ref, reason=reason)
    data = {
        "ref": ref,
        "kind": "snapshot" if dataset.read_only else "branch",
        "manifest": manifest,
        "rows": dataset.count(),
        "also_kept_by": kept,
        "deleted": yes,
    }
    kept_by = ", ".join(kept[:4]) + (", ..." if len(kept) > 4 else "")
    facts = Facts(
        [
            ("deleted" if yes else "would delete", f"{ref} ({data['kind']})"),
            ("records", f"{dataset.count():,}"),
            ("manifest", manifest),
            ("also kept by", kept_by or "its reflog only"),
            ("restore with", f"dreamdb branch NAME --at {manifest}"),
        ]
    )
    output = invocation.output()
    output.result(data, [facts])
    if not yes:
        output.note("nothing was deleted: add --yes to do it")
