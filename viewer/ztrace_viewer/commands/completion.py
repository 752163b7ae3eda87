"""``ztrace completion``: the script by which a shell completes the commands."""

import click

from ztrace_viewer.terminal.saying import write_out

#: Variable by which the shell's script asks for completions; click's protocol names it.
COMPLETE_VARIABLE = "_ZTRACE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's script for completion.

    The script completes commands, options, and names and ids from the database. Add the line for your shell
    to the file that it reads at its start; the one for zsh is like that for bash.

    \b
    Example:
      ztrace completion fish | source
      eval "$(ztrace completion bash)"
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    root = click.get_current_context().find_root().command
    write_out(found(root, {}, "ztrace", COMPLETE_VARIABLE).source())
