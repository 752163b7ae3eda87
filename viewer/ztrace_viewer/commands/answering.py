"""What every query's command does with its document: print it as JSON or draw it, and say what is next.

One idea: JSON needs nothing that draws, and finding nothing is an answer too: the empty document, or one
line, and exit status 1.
"""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import click

from ztrace_viewer.commands.options import DEFAULT_DATABASE
from ztrace_viewer.commands.statuses import NOTHING_FOUND
from ztrace_viewer.json_text import write_json


def print_json(document: Mapping[str, object], *, found: bool = True) -> None:
    """Print a document on one line; end with status 1 if it says that nothing was found."""
    sys.stdout.writelines(write_json(document))
    sys.stdout.write("\n")
    if not found:
        click.get_current_context().exit(NOTHING_FOUND)


def end_with_nothing(message: str) -> NoReturn:
    """Say on one line that nothing was found, and end with status 1."""
    from ztrace.errors import NotFoundError

    raise NotFoundError(message, hint="widen the question, or see 'ztrace status'")


def next_command(command: str, database: Path) -> str:
    """Return the line that says what to try next, or nothing if no person is reading."""
    if not sys.stdout.isatty():
        return ""
    given = click.get_current_context().get_parameter_source("database")
    named = given is not None and given.name == "COMMANDLINE" and str(database) != DEFAULT_DATABASE
    return f"next: ztrace {command}{f' --db {shlex.quote(str(database))}' if named else ''}"
