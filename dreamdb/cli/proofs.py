"""Commands that make and check certificates: prove, verify-proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dreamdb.cli.blocks import Facts
from dreamdb.cli.invocation import Invocation, command
from dreamdb.cli.opening import RefName, complete_fields, open_version, split_names
from dreamdb.cli.values import json_value, short_text

if TYPE_CHECKING:
    from dreamdb import Proof

__all__: list[str] = []  # commands are reached through the table of program.py


@command("prove", short_help="Prove that a record is, or is not, in a version.")
@click.argument("ref", type=RefName())
@click.argument("anchor", type=click.IntRange(0, (1 << 64) - 1))
@click.option(
    "--fields", multiple=True, shell_complete=complete_fields, help="Fields to be proved."
)
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False), help="The file.")
def prove(
    invocation: Invocation, ref: str, anchor: int, fields: tuple[str, ...], output: str
) -> None:
    """Write a certificate about the record ANCHOR in REF (a ref or a manifest) into a file.

    Example: dreamdb prove v1 1763640000000000000 --fields label -o label.proof
    """
    from dreamdb import verify_proof

    dataset = open_version(invocation, ref)
    certificate = dataset.maintain.prove(anchor, split_names(fields) or ())
    proof = verify_proof(certificate, dataset.current_manifest())
    Path(output).write_bytes(certificate)
    data = {**_data(proof), "path": output, "nbytes": len(certificate)}
    pairs = [*_facts(proof), ("wrote", f"{output}, {len(certificate):,} bytes")]
    invocation.output().result(data, [Facts(pairs)])


@command("verify-proof", short_help="Check a certificate; needs no space.")
@click.argument("certificate", type=click.Path(exists=True, dir_okay=False))
@click.argument("manifest")
def verify_proof(invocation: Invocation, certificate: str, manifest: str) -> None:
    """Check a CERTIFICATE against the address of a MANIFEST that you know from elsewhere.

    Leaves with 1 when the record is not in that version, with 6 when the certificate is no good.

    Example: dreamdb verify-proof label.proof dy6iekgxxmvneyi22iyidyqnkfiu6o6jizanzzuseu5ekcbov44oy
    """
    from dreamdb import verify_proof as check

    proof = check(Path(certificate).read_bytes(), manifest)
    invocation.output().result(_data(proof), [Facts(_facts(proof))])
    if not proof:
        raise click.exceptions.Exit(1)


def _data(proof: Proof) -> dict[str, Any]:
    return {
        "manifest": proof.manifest,
        "anchor": proof.anchor,
        "status": proof.status,
        "values": {name: json_value(_plain(value)) for name, value in proof.values.items()},
        "time_ns": proof.time_ns,
        "author": proof.author,
        "message": proof.message,
    }


def _facts(proof: Proof) -> list[tuple[str, str]]:
    from dreamdb.dataset import format_time

    said = f": {proof.message}" if proof.message else ""
    return [
        ("record", f"{proof.anchor}: {proof.status}"),
        ("manifest", proof.manifest),
        ("made", f"{format_time(proof.time_ns)} UTC by {proof.author}{said}"),
        *((name, short_text(_plain(value))) for name, value in proof.values.items()),
    ]


def _plain(value: Any) -> Any:
    """Return an array as a list and a time as text."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value) if isinstance(value, np.datetime64) else value
