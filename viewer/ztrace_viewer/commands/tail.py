"""``ztrace tail``: call trees and errors as they arrive."""

import sys
import time
from collections.abc import Callable

import click

from ztrace_viewer.commands.answering import find_links, print_json
from ztrace_viewer.commands.options import json_option, name_options, since_option, store_option
from ztrace_viewer.documents.errors import ExceptionEvent
from ztrace_viewer.documents.traces import TraceEvent
from ztrace_viewer.queries.following import follow
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.terminal.saying import complain


@click.command()
@store_option
@since_option
@name_options("the root's, or the exception's origin's")
@json_option
def tail(database: Source, since: int | None, service: str | None, method: str | None, as_json: bool) -> None:
    """Follow call trees and errors as they arrive.

    With --since, trees and errors since then are printed first. With --json, each line is a document. A file
    that is deleted or replaced, and a server that is away, is followed again once it is there. Ctrl-C stops
    the command.

    \b
    Example:
      ztrace tail --since 1m --service shop
    """
    show = print_json if as_json else _drawer(database)
    try:
        selection = Selection(since, None, service, method)
        for event in follow(database, selection, time.sleep, _tell):
            show(event)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _tell(message: str) -> None:
    complain(f"ztrace: {message}")


def _drawer(database: Source) -> Callable[[TraceEvent | ExceptionEvent], None]:
    from ztrace_viewer.render.events import draw_event
    from ztrace_viewer.terminal.screen import open_screen, write

    screen, links = open_screen(), find_links(database)
    return lambda event: write(screen, draw_event(event, links))
