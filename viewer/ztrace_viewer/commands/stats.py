"""``ztrace stats``: figures per method."""

import click

from ztrace_viewer.commands.answering import end_with_nothing, print_json
from ztrace_viewer.commands.options import (
    json_option,
    limit_option,
    name_options,
    store_option,
    time_options,
)
from ztrace_viewer.queries.figures import list_methods
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.queries.trends import read_trends


@click.command()
@store_option
@time_options
@name_options("the call's own")
@limit_option(None, "Most methods to list.")
@json_option
def stats(
    database: Source,
    since: int | None,
    until: int | None,
    service: str | None,
    method: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show figures per method: calls, errors, p50, p95, p99, total.

    The method with the largest total is first. A call counts in the minute in which it ended, and the given
    time is widened to whole minutes. p50, p95 and p99 are exact to 2.5%. Own time excludes waits for calls.
    Where there is room, bars show the calls, the failed ones and the p95 over the time.

    \b
    Example:
      ztrace stats --since 15m
    """
    selection = Selection(since, until, service, method)
    with open_store(database) as store:
        document = list_methods(store, selection, limit)
        trends = read_trends(store, document["methods"], selection)
    if as_json:
        return print_json({**document, "trends": trends}, found=bool(document["methods"]))
    if not document["methods"]:
        end_with_nothing("no calls", database, selection)
    from ztrace_viewer.render.lists import draw_stats
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_stats(document, screen.width, trends))
