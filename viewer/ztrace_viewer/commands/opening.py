"""``ztrace open``: the page in the browser."""

from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ztrace.addresses import DEFAULT_WEB
from ztrace.errors import EndpointError, NotFoundError, SettingsError
from ztrace_viewer.commands.completing import complete_traces
from ztrace_viewer.commands.options import store_option
from ztrace_viewer.queries.stores.source import Source, make_side, name_source
from ztrace_viewer.terminal.saying import say

if TYPE_CHECKING:
    from ztrace_viewer.queries.stores.store import Store

#: Suffix of the file that leads a browser to the page, after the database's name.
SUFFIX = ".open.html"
#: Time in which the page has to answer.
_ANSWER_S = 5.0
_OK, _UNAUTHORIZED = 200, 401


@click.command("open")
@click.argument("place", metavar="[TRACE|ERROR]", required=False, shell_complete=complete_traces)
@store_option
@click.option(
    "--listen",
    default=DEFAULT_WEB,
    show_default=True,
    metavar="HOST:PORT",
    help="Address on which 'ztrace up' or 'ztrace web' serves the page.",
)
def open_(place: str | None, database: Source, listen: str) -> None:
    """Open the page in the browser.

    TRACE or ERROR is the beginning of an id that 'ztrace slow' or 'ztrace errors' lists: the page is opened
    there. The address with its token is printed, also where there is no browser. The browser is given a file
    beside the database that leads there, since its arguments can be read by others.

    \b
    Example:
      ztrace open 019a4c7e11d04f2b
    """
    import webbrowser

    from ztrace_collector.otlp.listening.addresses import parse_address
    from ztrace_viewer.queries.stores.opening import open_store
    from ztrace_viewer.web.token import find_token

    address = parse_address(listen, "--listen", DEFAULT_WEB)
    with open_store(database) as store:
        path = "/" if place is None else _find_path(store, place)
    token = find_token(database)
    _check(str(address), token, database)
    url = f"http://{address}{path}?token={token}"
    webbrowser.open(_write_way(database, url).absolute().as_uri())
    say(url)


def _find_path(store: "Store", place: str) -> str:
    """Return the page's path of a trace, or else of an error group.

    Raises:
        NotFoundError: no id of either begins with the text.
        SettingsError: the text is no id, or an ambiguous one.
    """
    from ztrace_viewer.queries.identifiers import find_group, find_trace

    try:
        return f"/trace/{find_trace(store, place).hex()}"
    except NotFoundError:
        pass
    try:
        return f"/error/{find_group(store, place)}"
    except NotFoundError:
        raise NotFoundError(
            f"no trace and no error begins with {place}", hint="see 'ztrace slow' and 'ztrace errors'"
        ) from None


def _write_way(database: Source, url: str) -> Path:
    """Write a file, readable by its owner alone, that leads a browser to an address, and return its path."""
    from html import escape

    from ztrace_collector.files import write_whole

    side = make_side(database)
    path = side.with_name(f"{side.name}{SUFFIX}")
    text = (
        '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
        "<title>ztrace</title>"
        f'<meta http-equiv="refresh" content="0;url={escape(url)}"><a href="{escape(url)}">ztrace</a>\n'
    )
    with write_whole(path, mode=0o600) as file:
        file.write(text.encode())
    return path


def _check(address: str, token: str, database: Source) -> None:
    """Ask the page whether it has this token, which no other program is sent but in a header.

    Raises:
        EndpointError: nothing answers, or another program.
        SettingsError: the page serves another database.
    """
    connection = HTTPConnection(address, timeout=_ANSWER_S)
    try:
        connection.request("GET", "/", headers={"X-Ztrace-Token": token})
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        raise EndpointError(
            f"no page at {address}: {getattr(error, 'strerror', None) or error}",
            hint=f"start 'ztrace up' or 'ztrace web --db {name_source(database)}'",
        ) from error
    finally:
        connection.close()
    if status == _UNAUTHORIZED:
        raise SettingsError(f"the page at {address} is of another database", hint="give it with --db")
    if status != _OK:
        raise EndpointError(
            f"another program answers at {address}", hint="give the page's address with --listen"
        )
