"""Options that several commands share.

One idea: an option is declared once, so its name, meaning and help are the same in every command.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ztrace.errors import SettingsError, quote
from ztrace_collector.clickhouse.address import is_clickhouse
from ztrace_viewer.commands.completing import complete_methods, complete_services
from ztrace_viewer.queries.stores.source import Source, read_source
from ztrace_viewer.terminal.moments import parse_moment, parse_stretch
from ztrace_viewer.terminal.shares import parse_share

_F = TypeVar("_F", bound=Callable[..., object])

#: Database without --db and ZTRACE_DB.
DEFAULT_DATABASE = "ztrace.db"
#: Variable with the database of all commands.
DATABASE_VARIABLE = "ZTRACE_DB"
#: Folder of keys without --keys and ZTRACE_KEYS.
DEFAULT_KEYS = "ztrace.keys"
#: Variable with the folder of keys.
KEYS_VARIABLE = "ZTRACE_KEYS"


class Moment(click.ParamType[int]):
    """Point in time: a duration ago or ISO 8601, converted to Unix nanoseconds."""

    name = "when"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the value of the option."""
        if isinstance(value, int):
            return value
        try:
            return parse_moment(value, time.time_ns())
        except SettingsError as error:
            self.fail(str(error), param, ctx)


class Stretch(click.ParamType[tuple[int, int]]):
    """Stretch of time, converted to its begin and end in Unix nanoseconds."""

    name = "A..B"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Parse the value of the option."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_stretch(value, time.time_ns())
        except SettingsError as error:
            self.fail(str(error), param, ctx)


class Amount(click.ParamType[int]):
    """Duration or size with a lower bound, converted to nanoseconds or bytes."""

    def __init__(self, name: str, parse: Callable[[str], int], least: str) -> None:
        self.name = name
        self._parse = parse
        self._least = least

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the value of the option."""
        if isinstance(value, int):
            return value
        try:
            amount = self._parse(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)
        if amount < self._parse(self._least):
            self.fail(f"{quote(value)} is too small; give at least {self._least}", param, ctx)
        return amount


class Share(click.ParamType[float]):
    """Share between 0 and 1, both excluded, as a percentage or a fraction."""

    name = "share"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the value of the option."""
        if not isinstance(value, str):
            return value
        try:
            return parse_share(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)


class File(click.Path):
    """Path of a collector's file, for commands that no other store answers."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Parse the value of the option."""
        if is_clickhouse(os.fspath(value)):
            command = "this command" if ctx is None else f"'{ctx.command_path}'"
            self.fail(
                f"{command} needs a collector's file, and not ClickHouse; name one with --db", param, ctx
            )
        return super().convert(value, param, ctx)


class Stored(click.ParamType[Source]):
    """Address of a store: the path of a file, or of a ClickHouse database."""

    name = "store"

    def convert(
        self, value: str | Source, param: click.Parameter | None, ctx: click.Context | None
    ) -> Source:
        """Parse the value of the option."""
        if not isinstance(value, str):
            return value
        try:
            return read_source(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)


def store_option(function: _F) -> _F:
    """Add the option ``--db`` of commands that every store answers."""
    return _add_database(function, Stored(), "STORE", "Database file, or clickhouse://HOST/DATABASE.")


def database_option(function: _F) -> _F:
    """Add the option ``--db`` of commands that need a file."""
    return _add_database(function, File(path_type=Path), "FILE", "Database file.")


def _add_database(function: _F, kind: click.ParamType[Any], metavar: str, text: str) -> _F:
    return click.option(
        "--db",
        "database",
        type=kind,
        envvar=DATABASE_VARIABLE,
        default=DEFAULT_DATABASE,
        show_default=True,
        show_envvar=True,
        metavar=metavar,
        help=text,
    )(function)


def keys_option(function: _F) -> _F:
    """Add the option ``--keys``."""
    return click.option(
        "--keys",
        "folder",
        type=click.Path(path_type=Path),
        envvar=KEYS_VARIABLE,
        default=DEFAULT_KEYS,
        show_default=True,
        show_envvar=True,
        metavar="DIR",
        help="Folder of keys.",
    )(function)


def since_option(function: _F) -> _F:
    """Add the option ``--since``."""
    return click.option(
        "--since",
        type=Moment(),
        metavar="WHEN",
        help="Start of the time: 250ms, 5m or 7d ago, 14:05, or 2026-01-31T14:05.",
    )(function)


def time_options(function: _F) -> _F:
    """Add ``--since`` and ``--until``."""
    until = click.option(
        "--until", type=Moment(), metavar="WHEN", help="End of the time, written like --since."
    )
    return since_option(until(function))


def service_option(text: str) -> Callable[[_F], _F]:
    """Add the option ``--service``."""
    return click.option("--service", metavar="NAME", help=text, shell_complete=complete_services)


def name_options(whose: str) -> Callable[[_F], _F]:
    """Add ``--service`` and ``--method``; the help says of which span they are."""

    def add(function: _F) -> _F:
        method = click.option(
            "--method", metavar="NAME", help=f"Only this method: {whose}.", shell_complete=complete_methods
        )
        return service_option(f"Only this service: {whose}.")(method(function))

    return add


def limit_option(default: int | None, text: str, minimum: int = 1) -> Callable[[_F], _F]:
    """Add the option ``--limit``."""
    return click.option(
        "--limit",
        type=click.IntRange(min=minimum, max=1 << 31),
        default=default,
        show_default=default is not None,
        metavar="N",
        help=text,
    )


def json_option(function: _F) -> _F:
    """Add the option ``--json``."""
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
