"""``ztrace mcp``: the same answers for AI agents."""

from pathlib import Path

import click

from ztrace.errors import SettingsError
from ztrace_viewer.commands.options import database_option


@click.command()
@database_option
def mcp(database: Path) -> None:
    """Answer AI agents on standard input and output.

    An agent's program starts this command and talks the Model Context Protocol to it. 'ztrace up' and 'ztrace
    web' serve the same tools at /mcp, to holders of the token. It needs ztrace[mcp].

    \b
    Example:
      ztrace mcp --db shop.db
    """
    try:
        from ztrace_viewer.mcp.server import make_server
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is not installed", hint="pip install 'ztrace[mcp]'") from error
    make_server(database.absolute()).run()
