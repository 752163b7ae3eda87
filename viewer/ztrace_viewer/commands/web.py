"""``ztrace web``: the page and Jaeger's query API over a database."""

from pathlib import Path

import click

from ztrace.addresses import DEFAULT_WEB
from ztrace_viewer.commands.options import store_option, verbose_option
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source, name_source
from ztrace_viewer.terminal.saying import complain


@click.command()
@click.option(
    "--listen",
    default=DEFAULT_WEB,
    show_default=True,
    metavar="HOST:PORT",
    help="Loopback address to serve on; port 0 picks a free one.",
)
@store_option
@verbose_option
def web(listen: str, database: Source) -> None:
    """Serve the page, and the query API of Jaeger for Grafana.

    A collector may write to the database meanwhile. Clients need the token, which is in the printed URL and
    in a file beside the database, or given as ZTRACE_WEB_TOKEN.

    \b
    Example:
      ztrace web --db shop.db
      ztrace web --db clickhouse://db.example.org/ztrace
      ztrace web --db shop.db --listen 127.0.0.1:8080
    """
    from ztrace_collector.otlp.listening.addresses import find_address, open_socket, parse_address
    from ztrace_viewer.web.serving import serve
    from ztrace_viewer.web.token import find_token

    address = parse_address(listen, "--listen", DEFAULT_WEB)
    if not isinstance(database, Path):
        with open_store(database):
            pass  # A file may appear later; a database that cannot be used now is a mistake.
    with open_socket(address) as listener:
        token = find_token(database)
        url = f"http://{find_address(listener)}/?token={token}"
        announcement = f"ztrace: serving {name_source(database)} at {url}; end with Ctrl-C"
        serve(database, token, listener, lambda: complain(announcement))
