"""``ztrace mcp``: the same answers for AI agents."""

from pathlib import Path

import click

from ztrace.errors import SettingsError
from ztrace_viewer.commands.options import store_option
from ztrace_viewer.queries.stores.opening import Stores, open_store
from ztrace_viewer.queries.stores.source import Source


@click.command()
@store_option
def mcp(database: Source) -> None:
    """Answer AI agents on standard input and output.

    An agent's program starts this command and talks the Model Context Protocol to it. 'ztrace up' and 'ztrace
    web' serve the same tools at /mcp, to holders of the token. It needs ztrace[mcp].

    \b
    Example:
      ztrace mcp --db shop.db
      ztrace mcp --db clickhouse://db.example.org/ztrace
    """
    try:
        from ztrace_viewer.mcp.server import make_server
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is not installed", hint="pip install 'ztrace[mcp]'") from error
    if isinstance(database, Path):
        database = database.absolute()
    else:
        with open_store(database):
            pass  # An agent's program shows an error at the start, and hides one behind it.
    make_server(Stores(database)).run()
