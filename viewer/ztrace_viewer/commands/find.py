"""``ztrace find``: calls anywhere in a tree."""

import time

import click

from ztrace.errors import SettingsError
from ztrace_viewer.commands.answering import RELAX, end_with_nothing, find_links, next_command, print_json
from ztrace_viewer.commands.options import (
    Amount,
    json_option,
    limit_option,
    name_options,
    store_option,
    time_options,
)
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.finding import SEARCH_S, Conditions, find_calls, parse_words
from ztrace_viewer.queries.identifiers import shorten_traces
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.terminal.durations import parse_duration
from ztrace_viewer.terminal.moments import format_moment, write_moment


@click.command()
@click.argument("words", metavar="[TEXT|KEY=VALUE]...", nargs=-1)
@store_option
@time_options
@name_options("the call's own")
@click.option(
    "--min",
    "min_ns",
    type=Amount("duration", parse_duration, "0ns"),
    metavar="DURATION",
    help="Only calls that took at least this long, as in 250ms.",
)
@click.option(
    "--max",
    "max_ns",
    type=Amount("duration", parse_duration, "0ns"),
    metavar="DURATION",
    help="Only calls that took at most this long.",
)
@click.option("--errors", is_flag=True, help="Only failed calls.")
@limit_option(20, "Most calls to list.")
@json_option
def find(
    words: tuple[str, ...],
    database: Source,
    since: int | None,
    until: int | None,
    service: str | None,
    method: str | None,
    min_ns: int | None,
    max_ns: int | None,
    errors: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Find calls by name, attribute, duration and outcome.

    Calls are found anywhere in a tree, and have to meet all conditions. TEXT occurs in SERVICE.METHOD, in a
    value of the attributes, or in the exception, in upper or lower case; KEY=VALUE is an attribute of the
    call or of its process. The newest trees are searched first, for two seconds at most.

    \b
    Example:
      ztrace find customer=Ada --errors --since 1d
      ztrace find charge --min 250ms
    """
    if min_ns is not None and max_ns is not None and min_ns > max_ns:
        raise SettingsError("--min is longer than --max", hint="swap them")
    now_ns = time.time_ns()
    texts, attributes = parse_words(words)
    conditions = Conditions(texts, attributes, min_ns, max_ns, errors)
    selection = Selection(since, until, service, method)
    with open_store(database) as store:
        document = find_calls(store, conditions, selection, limit, now_ns, Deadline(SEARCH_S))
        spans, reached_ns = document["spans"], document["searched_since_ns"]
        short_ids = {} if as_json else shorten_traces(store, [span["trace_id"] for span in spans])
    if as_json:
        return print_json(document, found=bool(spans))
    reached, later = "", RELAX
    if reached_ns is not None:
        reached = f"two seconds were enough back to {format_moment(reached_ns)}"
        later = f"go on with --until {write_moment(reached_ns)}"
    if not spans:
        told = "no calls"
        if (thinned_ns := document["thinned_until_ns"]) is not None:
            told += f" among what is kept; traces up to {format_moment(thinned_ns)} are thinned"
        end_with_nothing(f"{told}; {reached}" if reached else told, database, selection, hint=later)
    from ztrace_viewer.render.found import draw_found
    from ztrace_viewer.render.thinned import draw_thinned
    from ztrace_viewer.terminal.screen import dim, open_screen, write

    screen = open_screen()
    sought = [*texts, *(key for key, _ in attributes)]
    write(screen, *draw_found(document, sought, short_ids, screen.width, now_ns, find_links(database)))
    write(screen, *draw_thinned(document["thinned_until_ns"], "calls"))
    if reached:
        write(screen, dim(f"{reached}: {later}"))
    if hint := next_command(f"show {short_ids[spans[0]['trace_id']]}", database):
        write(screen, "", dim(hint))
