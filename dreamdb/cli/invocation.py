"""What all commands share: the global options, and a command class that takes them anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from dreamdb import config
from dreamdb.cli.output import JsonOutput, Output, TextOutput

__all__ = ["Command", "Invocation", "command", "read_options", "shared_options"]


class Invocation:
    """The global options of one call, gathered from before and after the command's name.

    Attributes
    ----------
    backend : str or None
        URL of the space.
    storage_options : dict
        Settings of its file system.
    json : bool
        Whether results are JSON documents.
    quiet : bool
        Whether notes and progress are left out.
    verbosity : int
        How often ``-v`` was given.
    progress : bool
        Whether progress may be drawn.
    """

    def __init__(self) -> None:
        self.backend: str | None = None
        self.storage_options: dict[str, Any] = {}
        self.json = False
        self.quiet = False
        self.verbosity = 0
        self.progress = config.progress_wanted()

    def output(self) -> Output:
        """Return where the running command shows its result."""
        context = click.get_current_context(silent=True)
        name = context.info_name if context is not None and context.parent is not None else ""
        made = JsonOutput if self.json else TextOutput
        return made(name or "", quiet=self.quiet, progress=self.progress)


def _key_value(text: str, what: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=what)
    return name, value


def _storage_value(text: str) -> Any:
    """Read true, false and integers as such: file systems expect them."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if text.lstrip("-").isdigit() else text


def read_options(given: tuple[str, ...], what: str) -> dict[str, Any]:
    """Return settings that were given as ``NAME=VALUE``."""
    pairs = (_key_value(text, what) for text in given)
    return {name: _storage_value(value) for name, value in pairs}


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is None or value is False or value == () or value == 0:
        return
    invocation = context.find_root().ensure_object(Invocation)
    if parameter.name == "storage_option":
        for text in value:
            name, given = _key_value(text, "--storage-option")
            invocation.storage_options[name] = _storage_value(given)
    elif parameter.name == "verbose":
        invocation.verbosity += value
        if not context.resilient_parsing:
            _log_to_stderr(invocation.verbosity)
    elif parameter.name == "no_progress":
        invocation.progress = False
    else:
        setattr(invocation, str(parameter.name), value)


def _log_to_stderr(verbosity: int) -> None:
    import logging

    level = logging.INFO if verbosity == 1 else logging.DEBUG
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("dreamdb").setLevel(level)


_SHARED: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (
        ("--backend", "-b"),
        {"metavar": "URL", "help": "The space: a path, s3://bucket/prefix, ... [$DREAMDB_BACKEND]"},
    ),
    (
        ("--storage-option",),
        {"metavar": "NAME=VALUE", "multiple": True, "help": "A setting of the file system."},
    ),
    (("--json",), {"is_flag": True, "help": "One JSON document instead of text."}),
    (("--quiet", "-q"), {"is_flag": True, "help": "No notes and no progress."}),
    (("--verbose", "-v"), {"count": True, "help": "Log to standard error; twice: more."}),
    (("--no-progress",), {"is_flag": True, "help": "No progress bars."}),
)
_SHARED_NAMES: Final = frozenset(
    {"backend", "storage_option", "json", "quiet", "verbose", "no_progress"}
)


def shared_options() -> list[click.Parameter]:
    """Return fresh copies of the global options."""
    return [
        click.Option(list(names), expose_value=False, callback=_keep, **settings)
        for names, settings in _SHARED
    ]


class Command(click.Command):
    """A command that also takes the global options."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params += shared_options()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options first, the global ones below."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                (shared if parameter.name in _SHARED_NAMES else own).append(record)
        for title, records in (("Options", own), ("Global options", shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def command(name: str, **settings: Any) -> Callable[[Callable[..., None]], click.Command]:
    """Return the decorator that makes a function a command.

    The function's first argument is the :class:`Invocation`.

    Parameters
    ----------
    name : str
        The command's name.
    **settings : Any
        As for :func:`click.command`.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        def call(*args: Any, **values: Any) -> None:
            invocation = click.get_current_context().find_root().ensure_object(Invocation)
            function(invocation, *args, **values)

        call.__doc__ = function.__doc__
        # click collects the parameters that its decorators have left on the function.
        call.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        return click.command(name, cls=Command, **settings)(call)

    return decorate
