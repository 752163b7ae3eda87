"""``ztrace map``: which services call which."""

import time

import click

from ztrace_viewer.commands.answering import end_with_nothing, print_json
from ztrace_viewer.commands.options import json_option, service_option, store_option, time_options
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.service_map import read_map
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source


@click.command("map")
@store_option
@time_options
@service_option("Only calls from and to this service.")
@json_option
def map_(database: Source, since: int | None, until: int | None, service: str | None, as_json: bool) -> None:
    """Show which services call which.

    Each service is followed by those that it calls. The first line counts the calls that came in to a
    service, and the trees that began in it. A tree counts in the minute in which its root ended, seconds
    after its last span has arrived; the time is widened to whole minutes, and to hours after six hours.
    RATE is calls over that time, from the first call in the file on.

    \b
    Example:
      ztrace map --since 1h
    """
    selection = Selection(since, until, service)
    with open_store(database) as store:
        document = read_map(store, selection, time.time_ns())
    if as_json:
        return print_json(document, found=bool(document["services"]))
    if not document["services"]:
        end_with_nothing("no call trees", database, selection)
    from ztrace_viewer.render.map import draw_map
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_map(document, screen.width))
