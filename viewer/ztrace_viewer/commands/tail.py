"""``ztrace tail``: call trees and errors as they arrive."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ztrace.errors import DatabaseError
from ztrace_viewer.commands.answering import print_json
from ztrace_viewer.commands.options import database_option, json_option, name_options, since_option
from ztrace_viewer.documents.errors import ExceptionEvent
from ztrace_viewer.documents.traces import TraceEvent
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.queries.following import Follower
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.terminal.saying import complain

#: Poll interval: immediate to a reader, and negligible work.
POLL_S = 0.25


@click.command()
@database_option
@since_option
@name_options("the root's, or the exception's origin's")
@json_option
def tail(database: Path, since: int | None, service: str | None, method: str | None, as_json: bool) -> None:
    """Follow call trees and errors as they arrive.

    With --since, trees and errors since then are printed first. With --json, each line is a document. A file
    that is deleted or replaced is followed again once it is there. Ctrl-C stops the command.

    \b
    Example:
      ztrace tail --since 1m --service shop
    """
    show = print_json if as_json else _drawer()
    try:
        for event in _follow(database, Selection(since, None, service, method)):
            show(event)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _follow(database: Path, selection: Selection) -> Iterator[TraceEvent | ExceptionEvent]:
    """Yield events for ever; a file that replaces the first one is followed from its beginning."""
    is_first, is_told = True, False
    while True:
        try:
            with open_database(database, snapshot=False) as db:
                followed = _identify(database)
                follower = Follower(db, selection, from_start=not is_first)
                is_first = is_told = False
                while True:
                    # Before looking, so that what was stored until the file was replaced is read as well.
                    is_replaced = _identify(database) != followed
                    yield from follower.look()
                    if is_replaced:
                        yield from follower.look()  # A tree is printed once a look finds nothing new of it.
                        break
                    time.sleep(POLL_S)
        except DatabaseError as error:
            if is_first:
                raise
            if not is_told:
                complain(f"ztrace: {error.message}; waiting for it")
                is_told = True
            time.sleep(POLL_S)


def _identify(database: Path) -> tuple[int, int] | None:
    """Return an identity of a file, which another file under its name does not have."""
    try:
        found = database.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _drawer() -> Callable[[TraceEvent | ExceptionEvent], None]:
    from ztrace_viewer.render.events import draw_event
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    return lambda event: write(screen, draw_event(event))
