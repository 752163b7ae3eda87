"""``ztrace status``: publishers, and what is stored, lost and refused."""

import time
from pathlib import Path

import click

from ztrace_viewer.commands.answering import print_json
from ztrace_viewer.commands.options import database_option, json_option
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.queries.status import read_status


@click.command()
@database_option
@json_option
def status(database: Path, as_json: bool) -> None:
    """Show publishers, and what is stored, lost and refused, and why.

    A publisher is a process that sends spans: live, silent (no message for five seconds), ended or crashed.
    Each span it created is stored, lost for a reason listed with its time, or in flight.

    \b
    Example:
      ztrace status --db ztrace.db
    """
    now_ns = time.time_ns()
    with open_database(database) as db:
        document = read_status(db, now_ns)
    if as_json:
        return print_json(document)
    from ztrace_viewer.render.status import draw_status
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_status(document, screen.width, now_ns))
