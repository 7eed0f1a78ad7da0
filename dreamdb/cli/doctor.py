"""doctor: whether everything works here, and on this storage."""

from __future__ import annotations

import click

from dreamdb.cli.blocks import Column, Facts, Table
from dreamdb.cli.checks import check_library
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import backend_url
from dreamdb.cli.space_checks import check_contents
from dreamdb.cli.storage_checks import check_storage
from dreamdb.errors import InvalidInputError

__all__: list[str] = []  # commands are reached through the table of program.py


@command("doctor", short_help="Check the installation and the storage.")
@click.argument("space", required=False)
def doctor(invocation: Invocation, space: str | None) -> None:
    """Check hashes and codecs, and with SPACE (or --backend) what its storage can do.

    The storage is tried out in a scratch space below SPACE that is removed again; of SPACE itself
    the refs are followed, and the origin of a partial clone is asked.  Leaves with 1 when a check
    fails.

    Example: dreamdb doctor data/space
    """
    from dreamdb import show_versions

    findings = list(check_library())
    try:
        url: str | None = backend_url(invocation, space)
    except InvalidInputError:
        url = None
    if url is not None:
        findings += check_storage(url, invocation.storage_options)
        findings += check_contents(url, invocation.storage_options)
    versions = dict(line.split(" ", 1) for line in show_versions().splitlines())
    failed = [finding for finding in findings if finding.status == "failed"]
    data = {
        "ok": not failed,
        "url": url,
        "checks": [{"name": f.name, "status": f.status, "detail": f.detail} for f in findings],
        "versions": versions,
    }
    columns = [Column("check", whole=True), Column("status", whole=True), Column("detail")]
    table = Table(columns, [(f.name, f.status, f.detail) for f in findings])
    output = invocation.output()
    output.result(data, [table, Facts(list(versions.items()))])
    if url is None:
        output.note("no space is given: its storage was not checked")
    if failed:
        raise click.exceptions.Exit(1)
