"""``ztrace status``: publishers, and what is stored, lost and refused."""

import time

import click

from ztrace_viewer.commands.answering import print_json
from ztrace_viewer.commands.options import json_option, limit_option, store_option
from ztrace_viewer.queries.status import DEFAULT_LIMIT, read_status
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source


@click.command()
@store_option
@limit_option(None, "Most publishers to list, and most losses.  [default: 50 and 20; 1000 with --json]")
@click.option(
    "--skip",
    type=click.IntRange(min=0, max=1 << 31),
    default=0,
    metavar="N",
    help="Publishers and losses before the first one to list.",
)
@json_option
def status(database: Source, limit: int | None, skip: int, as_json: bool) -> None:
    """Show publishers, and what is stored, lost and refused, and why.

    A publisher is a process that sends spans: live, silent (no message for five seconds), ended or crashed.
    Each span it created is stored, lost for a reason listed with its time, or in flight. The latest
    publishers and losses are listed, and all publishers are added up by service.

    \b
    Example:
      ztrace status --db ztrace.db
    """
    now_ns = time.time_ns()
    with open_store(database) as store:
        document = read_status(store, now_ns, DEFAULT_LIMIT if limit is None else limit, skip)
    if as_json:
        return print_json(document)
    from ztrace_viewer.render.status import draw_status
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_status(document, screen.width, now_ns, limit, skip))
