"""``ztrace errors`` and ``ztrace error``: where did an exception start, and how did it travel?"""

import time
from pathlib import Path

import click

from ztrace.errors import NotFoundError
from ztrace_viewer.answering import end_with_nothing, next_command, print_json
from ztrace_viewer.database import open_database
from ztrace_viewer.exceptions import list_groups, read_error
from ztrace_viewer.identifiers import find_group, shorten_groups, shorten_traces
from ztrace_viewer.options import database_option, json_option, limit_option, name_options, time_options
from ztrace_viewer.selection import Selection


@click.command()
@database_option
@time_options
@name_options("the origin's")
@limit_option(20, "At most so many groups.")
@json_option
def errors(
    database: Path,
    since: int | None,
    until: int | None,
    service: str | None,
    method: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List exceptions, grouped by where they began.

    The newest group first. An exception counts once, where it was first raised, however many calls it passed
    on its way.

    \b
    Example:
      ztrace errors --since 1d --service billing
    """
    with open_database(database) as db:
        document = list_groups(db, Selection(since, until, service, method), limit)
        groups = document["groups"]
        if as_json:
            return print_json(document, found=bool(groups))
        short_ids = shorten_groups(db, [group["group"] for group in groups])
    if not groups:
        end_with_nothing("no errors")
    from ztrace_viewer.render.lists import draw_errors
    from ztrace_viewer.screen import dim, open_screen, write

    screen = open_screen()
    write(screen, *draw_errors(document, short_ids, screen.width, time.time_ns()))
    if hint := next_command(f"error {short_ids[groups[0]['group']]}", database):
        write(screen, "", dim(hint))


@click.command()
@click.argument("error_id", metavar="ID")
@database_option
@json_option
def error(error_id: str, database: Path, as_json: bool) -> None:
    """Show one group of errors: its way from caller to origin.

    ID is the beginning of an id that 'ztrace errors' lists. Shown is the latest occurrence: each span it
    passed, what became of it there, and the traceback of where it was raised.

    \b
    Example:
      ztrace error 3fa81c20
    """
    with open_database(database) as db:
        try:
            document = read_error(db, find_group(db, error_id))
        except NotFoundError:
            if as_json:
                print_json({})
            raise
        if as_json:
            return print_json(document)
        short_ids = shorten_traces(db, [document["group"]["trace_id"]])
    from ztrace_viewer.render.error import draw_error
    from ztrace_viewer.screen import dim, open_screen, write

    screen = open_screen()
    write(screen, *draw_error(document, screen.width, time.time_ns()))
    if hint := next_command(f"show {short_ids[document['group']['trace_id']]}", database):
        write(screen, "", dim(hint))
