"""``ztrace show``: one call tree."""

import time
from pathlib import Path

import click

from ztrace.errors import NotFoundError
from ztrace_viewer.commands.answering import print_json
from ztrace_viewer.commands.options import database_option, json_option, limit_option
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.queries.identifiers import find_trace
from ztrace_viewer.queries.traces import read_tree

#: Lines that can still be looked through; more are asked for with --limit.
DEFAULT_LINES = 200


@click.command()
@click.argument("trace", metavar="TRACE")
@database_option
@limit_option(DEFAULT_LINES, "At most so many lines of text; 0 for all.", minimum=0)
@json_option
def show(trace: str, database: Path, limit: int, as_json: bool) -> None:
    """Show one call tree.

    TRACE is the beginning of a trace id that 'ztrace slow' lists. Each line is a call with its time and a
    bar on the tree's time scale: blocks are its own time, lines the time it waited for calls. An arrow
    between service and method is a call as its caller saw it. What takes the time is bold; an exception
    stands where it was raised. A call that has not ended says whether it runs; where a call is missing the
    line says why.

    \b
    Example:
      ztrace show 019a4c7e11d04f2b
    """
    now_ns = time.time_ns()
    with open_database(database) as db:
        try:
            document = read_tree(db, find_trace(db, trace), now_ns)
        except NotFoundError:
            if as_json:
                print_json({})
            raise
    if as_json:
        return print_json(document)
    from ztrace_viewer.render.call_tree import draw_tree
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_tree(document, screen.width, limit or None, now_ns))
