"""``ztrace slow``: the slowest call trees."""

import time

import click

from ztrace_viewer.commands.answering import RELAX, end_with_nothing, find_links, next_command, print_json
from ztrace_viewer.commands.options import (
    json_option,
    limit_option,
    name_options,
    store_option,
    time_options,
)
from ztrace_viewer.queries.identifiers import shorten_traces
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.queries.traces import list_slowest

#: Hint where no root has the names.
_WITHIN = "--service and --method are the root's; 'ztrace find' has calls within trees"


@click.command()
@store_option
@time_options
@name_options("the root's")
@click.option("--errors", is_flag=True, help="Only trees with a failed span.")
@limit_option(20, "Most trees to list.")
@json_option
def slow(
    database: Source,
    since: int | None,
    until: int | None,
    service: str | None,
    method: str | None,
    errors: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List the slowest call trees.

    Trees that started in the given time are listed by the duration of their root, or by its time so far.

    \b
    Example:
      ztrace slow --since 1h --service shop
      ztrace slow --errors
    """
    now_ns = time.time_ns()
    selection = Selection(since, until, service, method)
    with open_store(database) as store:
        document = list_slowest(store, selection, limit, now_ns, errors=errors)
        traces = document["traces"]
        short_ids = shorten_traces(store, [trace["trace_id"] for trace in traces]) if not as_json else {}
    if as_json:
        return print_json(document, found=bool(traces))
    if not traces:
        told = "no call trees with errors" if errors else "no call trees"
        is_named = service is not None or method is not None
        end_with_nothing(told, database, selection, _WITHIN if is_named else RELAX)
    from ztrace_viewer.render.lists import draw_slow
    from ztrace_viewer.terminal.screen import dim, open_screen, write

    screen = open_screen()
    write(screen, *draw_slow(document, short_ids, screen.width, now_ns, find_links(database)))
    if hint := next_command(f"show {short_ids[traces[0]['trace_id']]}", database):
        write(screen, "", dim(hint))
