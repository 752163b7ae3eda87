"""``ztrace diff``: which call paths changed between two stretches of time."""

import time
from pathlib import Path

import click

from ztrace_viewer.commands.answering import end_with_nothing, print_json
from ztrace_viewer.commands.completing import complete_roots
from ztrace_viewer.commands.options import Stretch, database_option, json_option, limit_option
from ztrace_viewer.queries.comparison import compare
from ztrace_viewer.queries.database import open_database


@click.command()
@click.argument("root", metavar="[SERVICE.METHOD]", required=False, shell_complete=complete_roots)
@database_option
@click.option("--before", type=Stretch(), required=True, metavar="A..B", help="Time to compare with.")
@click.option("--after", type=Stretch(), required=True, metavar="C..D", help="Time that is compared.")
@limit_option(None, "Most paths to list, those with the largest change.")
@json_option
def diff(
    root: str | None,
    database: Path,
    before: tuple[int, int],
    after: tuple[int, int],
    limit: int | None,
    as_json: bool,
) -> None:
    """Show which call paths made trees slower or faster.

    Two stretches of time are compared. Changes are of a path's own time on the critical path, for each tree;
    over all paths they add up to the change of the root. They are tested by minutes, and by hours if the time
    began more than six hours ago. A change is sure if fewer than 5% of such findings come by chance. Each
    side needs six minutes.

    \b
    Example:
      ztrace diff front.checkout --before 14:00..14:20 --after 15:00..15:20
      ztrace diff --before 2h..1h --after 1h..
    """
    with open_database(database) as db:
        document = compare(db, root, before, after, limit, time.time_ns())
    found = bool(document["before"]["traces"] and document["after"]["traces"])
    if as_json:
        return print_json(document, found=found)
    if not found:
        side = "before" if document["after"]["traces"] else "after"
        end_with_nothing(f"no call trees in --{side}")
    from ztrace_viewer.render.comparison import draw_diff
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_diff(document, screen.width))
