"""``ztrace explain``: what sets the slow trees of a root apart from the rest."""

import click

from ztrace_viewer.commands.answering import print_json
from ztrace_viewer.commands.completing import complete_roots
from ztrace_viewer.commands.options import json_option, limit_option, store_option, time_options
from ztrace_viewer.queries.explaining import explain as compare
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source


@click.command()
@click.argument("root", metavar="SERVICE.METHOD", shell_complete=complete_roots)
@store_option
@time_options
@limit_option(None, "Most paths to list, those with the largest change.")
@json_option
def explain(
    root: str, database: Source, since: int | None, until: int | None, limit: int | None, as_json: bool
) -> None:
    """Show what sets the slow trees of a root apart.

    The slowest 5% of its trees are compared with the rest: values of attributes that are more frequent among
    them, and call paths that take longer. Only what is sure is shown; --json has all paths.

    \b
    Example:
      ztrace explain front.checkout --since 1h
    """
    with open_store(database) as store:
        document = compare(store, root, Selection(since, until), limit)
    if as_json:
        return print_json(document)
    from ztrace_viewer.render.comparison import draw_explanation
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_explanation(document, screen.width))
