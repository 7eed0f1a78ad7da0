"""One way to show results, with two implementations: text and JSON."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import IO, Any, Final

import click

from dreamdb.cli.blocks import Block
from dreamdb.cli.progress import Progress

__all__ = ["ENVELOPE_VERSION", "JsonOutput", "Output", "TextOutput"]

ENVELOPE_VERSION: Final = 1


class Output(ABC):
    """Where a command puts its result.

    Parameters
    ----------
    command : str
        The command's name, for the envelope.
    quiet : bool
        Leave out notes and progress.
    progress : bool
        Whether progress may be shown when standard error is a terminal.
    """

    def __init__(self, command: str = "", *, quiet: bool = False, progress: bool = True) -> None:
        self.command = command
        self.quiet = quiet
        self.progress_wanted = progress and not quiet

    @abstractmethod
    def result(self, data: Any, blocks: Sequence[Block]) -> None:
        """Show what a command found: ``data`` for programs, ``blocks`` for people."""

    @abstractmethod
    def error(self, kind: str, message: str, hint: str | None) -> None:
        """Show why a command failed."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Tell people something beside the result."""

    def lines(self, lines: Iterable[str]) -> None:
        """Write lines that are a format of their own, such as CSV."""
        for line in lines:
            click.echo(line)

    def progress(self, total: int | None, unit: str) -> Progress:
        """Return a counter that is drawn on a terminal only."""
        shown = self.progress_wanted and sys.stderr.isatty()
        return Progress(total, unit, shown=shown)


class TextOutput(Output):
    """Plain text on standard output; notes and errors on standard error."""

    def result(self, data: Any, blocks: Sequence[Block]) -> None:
        """See :class:`Output`."""
        shown = [text for block in blocks if (text := block.render())]
        if shown:
            click.echo("\n\n".join(shown))

    def error(self, kind: str, message: str, hint: str | None) -> None:
        """See :class:`Output`."""
        click.echo(f"error: {message}", err=True)
        if hint:
            click.echo(f"hint: {hint}", err=True)

    def note(self, text: str) -> None:
        """See :class:`Output`."""
        if not self.quiet:
            click.echo(text, err=True)


class JsonOutput(Output):
    """One JSON document on standard output, results and errors alike.

    ``{"dreamdb": 1, "command": ..., "data": ...}`` or
    ``{"dreamdb": 1, "error": {"kind": ..., "message": ..., "hint": ...}}``.
    """

    def result(self, data: Any, blocks: Sequence[Block]) -> None:
        """See :class:`Output`."""
        self._write({"dreamdb": ENVELOPE_VERSION, "command": self.command, "data": data})

    def error(self, kind: str, message: str, hint: str | None) -> None:
        """See :class:`Output`."""
        told = {"kind": kind, "message": message, "hint": hint}
        self._write({"dreamdb": ENVELOPE_VERSION, "error": told})

    def note(self, text: str) -> None:
        """See :class:`Output`."""

    def progress(self, total: int | None, unit: str) -> Progress:
        """See :class:`Output`."""
        return Progress(total, unit, shown=False)

    @staticmethod
    def _write(document: dict[str, Any], file: IO[str] | None = None) -> None:
        # NaN would not be JSON; values are prepared in dreamdb.cli.values.
        click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False), file=file)
