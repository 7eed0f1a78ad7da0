"""The group of all commands, loaded when they are called, and what becomes of their errors."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from dreamdb.cli.invocation import Invocation, shared_options
from dreamdb.cli.output import JsonOutput, Output, TextOutput
from dreamdb.errors import DreamDBError

__all__ = ["Program", "main", "program"]

INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
DEFECT: Final = 70
STORAGE: Final = 7

# Where each command lives; its module is imported when it is called or described.
_COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("spaces", "init"),
    "ingest": ("ingest", "ingest"),
    "refs": ("spaces", "refs"),
    "log": ("history", "log"),
    "inspect": ("inspect", "inspect"),
    "show": ("show", "show"),
    "head": ("reading", "head"),
    "query": ("reading", "query"),
    "sql": ("sql", "sql"),
    "stats": ("reading", "stats"),
    "branch": ("versions", "branch"),
    "snapshot": ("versions", "snapshot"),
    "diff": ("difference", "diff"),
    "compare-refs": ("compare", "compare"),
    "merge": ("merging", "merge"),
    "revert": ("merging", "revert"),
    "cherry-pick": ("merging", "cherry_pick"),
    "reset": ("merging", "reset"),
    "undo": ("merging", "undo"),
    "blame": ("difference", "blame"),
    "delete-ref": ("spaces", "delete_ref"),
    "restore": ("merging", "restore"),
    "reflog": ("history", "reflog"),
    "export": ("sql", "export"),
    "verify": ("maintenance", "verify"),
    "gc": ("maintenance", "gc"),
    "expire": ("upkeep", "expire"),
    "du": ("upkeep", "du"),
    "purge": ("upkeep", "purge"),
    "prove": ("proofs", "prove"),
    "verify-proof": ("proofs", "verify_proof"),
    "doctor": ("doctor", "doctor"),
    "completion": ("completion", "completion"),
}


class Program(click.Group):
    """The commands in the order in which one meets them; errors become messages and codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, importing its module."""
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        found: click.Command = getattr(import_module(f"dreamdb.cli.{module}"), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called; an unknown name is refused with the nearest ones."""
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, _COMMANDS, n=3, cutoff=0.5)
            meant = f"; did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"there is no command {name!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the called command; nobody reading its output is not an error to report."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise click.exceptions.Exit(_close_pipe()) from None
        return result

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command line and leave with its exit code."""
        given = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        invocation = Invocation()
        try:
            code = super().main(given, prog_name=prog_name, obj=invocation, **extra)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - each is reported
            code = _report(error, invocation, wants_json=invocation.json or "--json" in given)
        sys.exit(code if isinstance(code, int) else 0)


def _report(error: BaseException, invocation: Invocation, *, wants_json: bool) -> int:
    """Show an error; return the exit code."""
    output: Output = JsonOutput() if wants_json else TextOutput()
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        output.error("interrupted", "interrupted", None)
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        if wants_json:
            output.error("usage", error.format_message(), None)
        else:
            error.show()
        return error.exit_code
    if isinstance(error, DreamDBError):
        if error.kind != "internal":
            output.error(error.kind, str(error), error.hint)
            return error.exit_code
    elif isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        output.error("storage", f"{where}{error.strerror or error}", None)
        return STORAGE
    return _report_defect(error, invocation, output)


def _report_defect(error: BaseException, invocation: Invocation, output: Output) -> int:
    if invocation.verbosity:
        import traceback

        click.echo("".join(traceback.format_exception(error)), err=True)
        hint = "please report it with the lines above and the output of `dreamdb doctor`"
    else:
        hint = "run it again with -v for details, and please report it"
    output.error("internal", f"this is a defect: {type(error).__name__}: {error}", hint)
    return DEFECT


def _close_pipe() -> int:
    """Give up writing to a pipe that nobody reads, without complaints at exit."""
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError):
        pass
    return BROKEN_PIPE


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from dreamdb import __version__

        click.echo(f"dreamdb {__version__}")
        ctx.exit()


program = Program(
    "dreamdb",
    help="Git for machine-learning datasets.\n\n"
    "Start with: dreamdb ingest NAME FILES --backend PATH",
    params=[
        *shared_options(),
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_version,
            help="Show the version.",
        ),
    ],
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    no_args_is_help=True,
)


def main() -> NoReturn:
    """Run the command line of this process: the entry point of both scripts."""
    name = os.path.basename(sys.argv[0])
    program.main(prog_name="dreamdb" if name == "__main__.py" else name)
