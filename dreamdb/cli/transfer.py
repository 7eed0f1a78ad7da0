"""Commands that move data between spaces: clone, fetch, pull, push."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from dreamdb.cli.blocks import Block, Column, Facts, Table
from dreamdb.cli.invocation import Invocation, command, read_options
from dreamdb.cli.opening import RefName, open_space, open_version, split_names

if TYPE_CHECKING:
    from dreamdb import TransferReport

__all__ = ["counted_transfer", "remote_options"]

remote_options = click.option(
    "--remote-option",
    metavar="NAME=VALUE",
    multiple=True,
    help="A setting of the other space's file system.",
)
"""The option that gives credentials and settings of the other space."""


@contextmanager
def counted_transfer(invocation: Invocation) -> Iterator[Callable[[int, int], None]]:
    """Draw the bytes that go over, on a terminal."""
    with invocation.output().progress(None, "B") as bar:
        yield lambda objects, nbytes: bar.advance(nbytes)


def _show(invocation: Invocation, report: TransferReport) -> None:
    from dreamdb.dataset import format_nbytes

    blocks: list[Block] = [
        Facts(
            [
                ("from", report.origin),
                ("to", report.target),
                (
                    "copied",
                    f"{report.manifests:,} manifests, {report.objects:,} objects, "
                    f"{format_nbytes(report.nbytes)}",
                ),
            ]
        )
    ]
    columns = [
        Column("ref", whole=True),
        Column("kind", whole=True),
        Column("old", whole=True),
        Column("new", whole=True),
        Column("", whole=True),
    ]
    rows = [
        (r.name, r.kind, (r.old or "")[:10], r.new[:10], "forced" if r.forced else "")
        for r in report.refs
    ]
    blocks.append(Table(columns, rows, "all refs were up to date"))
    invocation.output().result(report.to_dict(), blocks)


@command("clone", short_help="Copy a space, a version of it, or some of its fields.")
@click.argument("source")
@click.argument("target")
@click.option("--ref", "-r", "refs", multiple=True, help="Only this branch or snapshot.")
@click.option("--shallow", is_flag=True, help="One version of one --ref, without its history.")
@click.option("--field", "-f", "fields", multiple=True, help="Only the values of this field.")
@remote_options
def clone(
    invocation: Invocation,
    source: str,
    target: str,
    refs: tuple[str, ...],
    shallow: bool,
    fields: tuple[str, ...],
    remote_option: tuple[str, ...],
) -> None:
    """Copy the space SOURCE to a new space TARGET.  Run it again after it was interrupted.

    With --field other fields are fetched from SOURCE when they are read.  --remote-option is for
    SOURCE, --storage-option for TARGET.

    Example: dreamdb clone s3://team/digits data/digits --ref v1 --shallow
    """
    from dreamdb import clone as copy_space

    moved = [0, 0]
    with counted_transfer(invocation) as progress:

        def count(objects: int, nbytes: int) -> None:
            moved[0] += objects
            moved[1] += nbytes
            progress(objects, nbytes)

        made = copy_space(
            source,
            target,
            split_names(refs),
            shallow,
            split_names(fields),
            storage_options=invocation.storage_options,
            source_options=read_options(remote_option, "--remote-option"),
            progress=count,
        )
    from dreamdb.dataset import format_nbytes

    names = made.list_refs()
    data = {"url": made.url, "refs": names, "objects": moved[0], "nbytes": moved[1]}
    facts: list[tuple[str, str]] = [
        ("space", made.url),
        ("refs", ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")),
        ("copied", f"{moved[0]:,} objects, {format_nbytes(moved[1])}"),
    ]
    invocation.output().result(data, [Facts(facts)])


@command("fetch", short_help="Copy refs of another space, moving none of the branches here.")
@click.argument("remote")
@click.argument("refs", nargs=-1)
@click.option("--name", default="origin", help="What the other space is called here [origin].")
@remote_options
def fetch(
    invocation: Invocation,
    remote: str,
    refs: tuple[str, ...],
    name: str,
    remote_option: tuple[str, ...],
) -> None:
    """Copy REFS (all by default) of the space REMOTE: branches as remotes/origin/BRANCH.

    Snapshots keep their names.

    Example: dreamdb fetch s3://team/digits main v1 --backend data/digits
    """
    space = open_space(invocation)
    with counted_transfer(invocation) as progress:
        report = space.fetch(
            remote,
            list(refs) or None,
            name=name,
            storage_options=read_options(remote_option, "--remote-option"),
            progress=progress,
        )
    _show(invocation, report)


@command("pull", short_help="Bring a branch up to date with another space.")
@click.argument("remote")
@click.argument("branch", required=False, type=RefName("branch"))
@click.option("--ref", help="The branch there, when it has another name.")
@click.option("--name", default="origin", help="What the other space is called here [origin].")
@remote_options
def pull(
    invocation: Invocation,
    remote: str,
    branch: str | None,
    ref: str | None,
    name: str,
    remote_option: tuple[str, ...],
) -> None:
    """Move BRANCH (or the only branch) forward to what it is in the space REMOTE.

    Refused when both have commits of their own: what was fetched stays as remotes/origin/BRANCH.

    Example: dreamdb pull s3://team/digits main --backend data/digits
    """
    dataset = open_version(invocation, branch)
    with counted_transfer(invocation) as progress:
        report = dataset.pull(
            remote,
            ref,
            name=name,
            storage_options=read_options(remote_option, "--remote-option"),
            progress=progress,
        )
    _show(invocation, report)


@command("push", short_help="Send a branch or a snapshot to another space.")
@click.argument("remote")
@click.argument("ref", required=False, type=RefName())
@click.option("--force", is_flag=True, help="Leave commits behind that are only there.")
@remote_options
def push(
    invocation: Invocation,
    remote: str,
    ref: str | None,
    force: bool,
    remote_option: tuple[str, ...],
) -> None:
    """Make REF (or the only branch) in the space REMOTE what it is here.

    Example: dreamdb push s3://team/digits main --backend data/digits
    """
    dataset = open_version(invocation, ref)
    with counted_transfer(invocation) as progress:
        report: Any = dataset.push(
            remote,
            force=force,
            storage_options=read_options(remote_option, "--remote-option"),
            progress=progress,
        )
    _show(invocation, report)
