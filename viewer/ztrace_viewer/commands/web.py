"""``ztrace web``: the page and Jaeger's query API over a database."""

from pathlib import Path

import click

from ztrace.addresses import DEFAULT_WEB
from ztrace_viewer.commands.options import database_option, verbose_option
from ztrace_viewer.terminal.saying import complain


@click.command()
@click.option(
    "--listen",
    default=DEFAULT_WEB,
    show_default=True,
    metavar="HOST:PORT",
    help="Loopback address to serve on; port 0 picks a free one.",
)
@database_option
@verbose_option
def web(listen: str, database: Path) -> None:
    """Serve the page, and the query API of Jaeger for Grafana.

    The file may be written by a collector meanwhile. Clients need the token, which is in the printed URL and
    in a file beside the database, or given as ZTRACE_WEB_TOKEN.

    \b
    Example:
      ztrace web --db shop.db
      ztrace web --db shop.db --listen 127.0.0.1:8080
    """
    from ztrace_collector.otlp.listening.addresses import find_address, open_socket, parse_address
    from ztrace_viewer.web.serving import serve
    from ztrace_viewer.web.token import find_token

    address = parse_address(listen, "--listen", DEFAULT_WEB)
    with open_socket(address) as listener:
        token = find_token(database)
        url = f"http://{find_address(listener)}/?token={token}"
        announcement = f"ztrace: serving {database} at {url}; end with Ctrl-C"
        serve(database, token, listener, lambda: complain(announcement))
