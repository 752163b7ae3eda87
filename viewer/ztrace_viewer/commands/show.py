"""``ztrace show``: one call tree."""

import time
from pathlib import Path

import click

from ztrace.errors import NotFoundError
from ztrace_viewer.commands.answering import print_json
from ztrace_viewer.commands.completing import complete_traces
from ztrace_viewer.commands.options import database_option, json_option, limit_option
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.queries.identifiers import find_trace
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.trees.tree import flatten

#: Lines of text that a person can still look through.
DEFAULT_LINES = 200


@click.command()
@click.argument("trace", metavar="TRACE", shell_complete=complete_traces)
@database_option
@limit_option(DEFAULT_LINES, "Most lines of text; 0 for all.", minimum=0)
@json_option
@click.option("--flat", is_flag=True, help="With --json, a list of spans with their depth instead of a tree.")
@click.option(
    "--clocks",
    type=click.Choice(["measured", "raw"]),
    default="measured",
    show_default=True,
    metavar="NAME",
    help="Clocks of other hosts: measured by calls, or raw as stored.",
)
def show(trace: str, database: Path, limit: int, as_json: bool, flat: bool, clocks: str) -> None:
    """Show one call tree.

    TRACE is the beginning of a trace id listed by 'ztrace slow'. Each line is a call with its time and a bar
    on the tree's time scale: blocks are own time, lines are waits for other calls. An arrow between service
    and method marks a call as its caller saw it. Calls that take most of the time are bold; an exception is
    below the call that raised it. Unfinished calls have their state, and missing calls the reason.

    \b
    Example:
      ztrace show 019a4c7e11d04f2b
    """
    if flat and not as_json:
        raise click.UsageError("--flat is a form of the JSON document; add --json")
    now_ns = time.time_ns()
    with open_database(database) as db:
        try:
            document = read_tree(db, find_trace(db, trace), now_ns, measured=clocks == "measured")
        except NotFoundError:
            if as_json:
                print_json({})
            raise
    if as_json:
        return print_json(flatten(document) if flat else document)
    from ztrace_viewer.render.call_tree import draw_tree
    from ztrace_viewer.terminal.screen import open_screen, write_all

    screen = open_screen()
    write_all(screen, draw_tree(document, screen.width, limit or None, now_ns))
