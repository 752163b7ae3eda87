"""The options that queries share.

One idea: an option is declared once, so that it reads the same, means the same and helps the same in every
command that has it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from ztrace.errors import SettingsError
from ztrace_viewer.terminal.moments import parse_moment

_F = TypeVar("_F", bound=Callable[..., object])

#: Used where neither --db nor ZTRACE_DB names a file.
DEFAULT_DATABASE = "ztrace.db"
#: Names the database for every command.
DATABASE_VARIABLE = "ZTRACE_DB"
#: Used where neither --keys nor ZTRACE_KEYS names a folder.
DEFAULT_KEYS = "ztrace.keys"
#: Names the folder of keys for every command that has --keys.
KEYS_VARIABLE = "ZTRACE_KEYS"


class Moment(click.ParamType[int]):
    """A point in time: a duration ago or ISO 8601; Unix nanoseconds inside."""

    name = "when"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the text."""
        if isinstance(value, int):
            return value
        try:
            return parse_moment(value, time.time_ns())
        except SettingsError as error:
            self.fail(str(error), param, ctx)


class Amount(click.ParamType[int]):
    """A duration or a size, not below a bound; nanoseconds or bytes inside."""

    def __init__(self, name: str, parse: Callable[[str], int], least: str) -> None:
        self.name = name
        self._parse = parse
        self._least = least

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the text."""
        if isinstance(value, int):
            return value
        try:
            amount = self._parse(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)
        if amount < self._parse(self._least):
            self.fail(f"{value!r} is too little; give at least {self._least}", param, ctx)
        return amount


def database_option(function: _F) -> _F:
    """Add ``--db``."""
    return click.option(
        "--db",
        "database",
        type=click.Path(path_type=Path),
        envvar=DATABASE_VARIABLE,
        default=DEFAULT_DATABASE,
        show_default=True,
        show_envvar=True,
        metavar="FILE",
        help="The database.",
    )(function)


def keys_option(function: _F) -> _F:
    """Add ``--keys``."""
    return click.option(
        "--keys",
        "folder",
        type=click.Path(path_type=Path),
        envvar=KEYS_VARIABLE,
        default=DEFAULT_KEYS,
        show_default=True,
        show_envvar=True,
        metavar="DIR",
        help="The folder of keys.",
    )(function)


def since_option(function: _F) -> _F:
    """Add ``--since``."""
    return click.option(
        "--since", type=Moment(), metavar="WHEN", help="From then on: 250ms, 5m, 7d ago, or 2026-01-31T14:05."
    )(function)


def time_options(function: _F) -> _F:
    """Add ``--since`` and ``--until``."""
    until = click.option("--until", type=Moment(), metavar="WHEN", help="Up to then, written like --since.")
    return since_option(until(function))


def name_options(whose: str) -> Callable[[_F], _F]:
    """Add ``--service`` and ``--method``, with whose they are in the help."""

    def add(function: _F) -> _F:
        service = click.option("--service", metavar="NAME", help=f"Only with this service: {whose}.")
        method = click.option("--method", metavar="NAME", help=f"Only with this method: {whose}.")
        return service(method(function))

    return add


def limit_option(default: int | None, text: str, minimum: int = 1) -> Callable[[_F], _F]:
    """Add ``--limit``."""
    return click.option(
        "--limit",
        type=click.IntRange(min=minimum, max=1 << 31),
        default=default,
        show_default=default is not None,
        metavar="N",
        help=text,
    )


def json_option(function: _F) -> _F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def verbose_option(function: _F) -> _F:
    """Add ``--verbose``, and print log records while the command runs."""

    def show(ctx: click.Context, _option: click.Parameter, verbose: bool) -> None:
        from ztrace_viewer.terminal.logs import showing_logs

        ctx.with_resource(showing_logs(verbose=verbose))

    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=show,
        help="Log every step on standard error.",
    )(function)
