"""completion: the script that teaches a shell the commands and the names of refs."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import ShellComplete, get_completion_class

from dreamdb.cli.blocks import Paragraph
from dreamdb.cli.invocation import Invocation, command

__all__: list[str] = []  # commands are reached through the table of program.py

_SCRIPTS: Final = ("dreamdb", "dreamdb-cli")


@command("completion", short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(invocation: Invocation, shell: str) -> None:
    r"""Print the completion script for SHELL; it completes commands, options, refs and fields.

    \b
    bash: eval "$(dreamdb completion bash)"      in ~/.bashrc
    zsh:  eval "$(dreamdb completion zsh)"       in ~/.zshrc
    fish: dreamdb completion fish | source       in ~/.config/fish/config.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    root = click.get_current_context().find_root().command
    parts = []
    for name in _SCRIPTS:
        variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
        # The base method: the shells' own ones start the shell to ask for its version.
        parts.append(ShellComplete.source(found(root, {}, name, variable)))
    script = "\n".join(parts)
    if invocation.json:
        invocation.output().result({"shell": shell, "script": script}, [Paragraph("")])
    else:
        click.echo(script)
