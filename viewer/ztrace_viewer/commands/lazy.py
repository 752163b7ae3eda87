"""Groups of commands that import a command when it is used.

One idea: the table of a group is all that ``--help`` and completion need, so both answer at once.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import ClassVar, NamedTuple

import click
from click.shell_completion import CompletionItem


class Place(NamedTuple):
    """Place of a command, and its line in the list."""

    module: str
    name: str
    summary: str


class LazyGroup(click.Group):
    """Group whose commands are in modules of a package, named by a table."""

    #: Package of the modules in the table.
    package: ClassVar[str]
    #: Every command, in the order of ``--help``.
    places: ClassVar[Mapping[str, Place]]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the table."""
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None for an unknown name."""
        place = self.places.get(cmd_name)
        if place is None:
            return None
        command = getattr(import_module(f"{self.package}.{place.module}"), place.name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named first.

        Raises:
            click.exceptions.NoSuchCommand: it is unknown; the error has the nearest names.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=self.places, ctx=ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in self.places.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with a text, without importing any command."""
        names = [
            CompletionItem(name, help=place.summary)
            for name, place in self.places.items()
            if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]
