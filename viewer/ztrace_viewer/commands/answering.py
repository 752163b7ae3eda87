"""Output of the query commands: a document as JSON, and the line with the next command.

One idea: finding nothing is an answer too. It is the empty document, or one line, and exit status 1.
"""

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import click

from ztrace_viewer.commands.options import DEFAULT_DATABASE
from ztrace_viewer.commands.statuses import NOTHING_FOUND
from ztrace_viewer.json_text import write_json
from ztrace_viewer.queries.names import explain_unknown
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source, find_side, name_source

if TYPE_CHECKING:
    from ztrace_viewer.terminal.links import Links

#: Hint where nothing matches.
RELAX = "relax the filter, or see 'ztrace status'"


def print_json(document: Mapping[str, object], *, found: bool = True) -> None:
    """Print a document on one line, and exit with status 1 if nothing was found."""
    sys.stdout.writelines(write_json(document))
    sys.stdout.write("\n")
    if not found:
        click.get_current_context().exit(NOTHING_FOUND)


def end_with_nothing(
    message: str, database: Source | None = None, selection: Selection = EVERYTHING, hint: str = RELAX
) -> NoReturn:
    """Print on one line that nothing was found, and exit with status 1.

    Args:
        message: what was not found.
        database: store in which the selected names are looked up: a name that it lacks is the reason.
        selection: service and method that were selected.
        hint: what to do if the names are known.
    """
    from ztrace.errors import NotFoundError

    if database is not None:
        with open_store(database) as store:
            unknown = explain_unknown(store, selection)
        if unknown is not None:
            raise NotFoundError(unknown[0], hint=unknown[1])
    raise NotFoundError(message, hint=hint)


def next_command(command: str, database: Source) -> str:
    """Return a line with the command to try next, empty if standard output is no terminal."""
    if not sys.stdout.isatty():
        return ""
    given = click.get_current_context().get_parameter_source("database")
    address = name_source(database)
    named = given is not None and given.name == "COMMANDLINE" and address != DEFAULT_DATABASE
    return f"next: ztrace {command}{f' --db {shlex.quote(address)}' if named else ''}"


def find_links(database: Source) -> "Links":
    """Return the links from ids to the page; none unless standard output is a terminal and the page runs."""
    from ztrace_viewer.terminal.links import Links
    from ztrace_viewer.web.presence import find_page

    page = find_page(find_side(database)) if sys.stdout.isatty() else None
    return Links(page)
