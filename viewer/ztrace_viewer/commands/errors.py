"""``ztrace errors`` and ``ztrace error``: origins of exceptions, and their way to the caller."""

import time

import click

from ztrace.errors import NotFoundError, SettingsError
from ztrace_viewer.commands.answering import end_with_nothing, find_links, next_command, print_json
from ztrace_viewer.commands.completing import complete_groups
from ztrace_viewer.commands.options import (
    json_option,
    limit_option,
    name_options,
    store_option,
    time_options,
)
from ztrace_viewer.interrupts import ignored
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.identifiers import find_group, shorten_groups, shorten_traces
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.conditions import FREQUENT, NEWEST, Filter
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.queries.way import LATEST, read_error
from ztrace_viewer.terminal.saying import say


@click.command()
@store_option
@time_options
@name_options("the origin's")
@click.option(
    "--type", "type_name", metavar="NAME", help="Only this exception class, with or without its module."
)
@click.option("--text", metavar="TEXT", help="Only exceptions with this text in the type or the message.")
@click.option(
    "--sort",
    "order",
    type=click.Choice([NEWEST, FREQUENT]),
    default=NEWEST,
    show_default=True,
    metavar="ORDER",
    help="Order of the groups: newest or frequent first.",
)
@click.option("--all", "everything", is_flag=True, help="Include resolved groups.")
@limit_option(20, "Most groups to list.")
@json_option
def errors(
    database: Source,
    since: int | None,
    until: int | None,
    service: str | None,
    method: str | None,
    type_name: str | None,
    text: str | None,
    order: str,
    everything: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List exceptions, grouped by their origin.

    An exception counts once, where it was first raised, however many calls it passed through. So does a
    failure without an exception, like an HTTP 5xx, at the deepest failed span. UNCAUGHT counts those that
    left the outermost call. WHEN shows occurrences over time, from the first to the last or over the
    selected time. Resolved groups are left out.

    \b
    Example:
      ztrace errors --since 1d --service billing
      ztrace errors --sort frequent --type KeyError
    """
    now_ns = time.time_ns()
    selection = Selection(since, until, service, method)
    wanted = Filter(type_name, text, everything)
    with open_store(database) as store:
        document = list_groups(store, selection, limit, wanted, order, now_ns)
        groups = document["groups"]
        short_ids = shorten_groups(store, [group["group"] for group in groups]) if not as_json else {}
        hidden = 0 if everything or as_json else store.count_resolved(selection, wanted)
    if as_json:
        return print_json(document, found=bool(groups))
    if not groups:
        told = "no errors but resolved ones, which --all lists" if hidden else "no errors"
        end_with_nothing(told, database, selection)
    from ztrace_viewer.render.lists import draw_errors
    from ztrace_viewer.terminal.screen import dim, open_screen, write

    screen = open_screen()
    write(screen, *draw_errors(document, short_ids, screen.width, now_ns, find_links(database)))
    if hidden:
        write(screen, dim(f"{hidden:,} resolved, not listed: --all"))
    if hint := next_command(f"error {short_ids[groups[0]['group']]}", database):
        write(screen, "", dim(hint))


@click.command()
@click.argument("error_id", metavar="ID", shell_complete=complete_groups)
@store_option
@click.option(
    "--sample",
    default=LATEST,
    show_default=True,
    metavar="WHICH",
    help="Occurrence to show: first, latest, or the id of a sample.",
)
@click.option("--all-frames", is_flag=True, help="Include frames of libraries.")
@click.option(
    "--resolve", is_flag=True, help="Mark the group as fixed: it is listed again when it occurs again."
)
@click.option("--reopen", is_flag=True, help="Undo --resolve.")
@json_option
def error(
    error_id: str,
    database: Source,
    sample: str,
    all_frames: bool,
    resolve: bool,
    reopen: bool,
    as_json: bool,
) -> None:
    """Show one group of errors: the way from the caller to the origin.

    ID is the beginning of an id listed by 'ztrace errors'. One occurrence is shown as a traceback across
    processes: the incoming call, the lines in each process with the outgoing call marked, the exceptions
    raised on the way, and the origin.

    \b
    Example:
      ztrace error 3fa81c20
      ztrace error 3fa81c20 --resolve
    """
    if resolve and reopen:
        raise SettingsError("--resolve and --reopen exclude each other", hint="give one of them")
    try:
        with open_store(database) as store:
            group = find_group(store, error_id)
        if resolve or reopen:
            return _change(database, group, resolve, as_json)
        with open_store(database) as store:
            document = read_error(store, group, sample)
            short_ids = shorten_traces(store, [document["shown"]["trace_id"]])
    except NotFoundError:
        if as_json:
            print_json({})
        raise
    if as_json:
        return print_json(document)
    from ztrace_viewer.render.error import draw_error
    from ztrace_viewer.terminal.screen import dim, open_screen, write

    screen = open_screen()
    links = find_links(database)
    write(screen, *draw_error(document, screen.width, time.time_ns(), libraries=all_frames, links=links))
    if hint := next_command(f"show {short_ids[document['shown']['trace_id']]}", database):
        write(screen, "", dim(hint))


def _change(database: Source, group: str, resolve: bool, as_json: bool) -> None:
    """Resolve or reopen a group, and print its new state."""
    from ztrace_viewer.queries.stores.requesting import resolve as write_state
    from ztrace_viewer.render.tracebacks import shorten_type

    with ignored():
        write_state(database, group, time.time_ns(), reopen=not resolve)
    with open_store(database) as store:
        document = read_error(store, group)
    if as_json:
        return print_json(document)
    name = f"{shorten_type(document['group']['type'])} ({group})"
    told = "is resolved; if it occurs again, it is listed as regressed" if resolve else "is open again"
    say(f"{name} {told}")
