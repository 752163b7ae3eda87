"""``ztrace up`` and ``ztrace collect``: receive spans and store them."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from ztrace_viewer.options import KEYS_VARIABLE, database_option

_F = TypeVar("_F", bound=Callable[..., object])

#: Where publishers connect: this machine alone, and what an agent tries if nothing else is said.
DEFAULT_ENDPOINT = "tcp://127.0.0.1:4710"


def _bind_option(function: _F) -> _F:
    return click.option(
        "--bind",
        default=DEFAULT_ENDPOINT,
        show_default=True,
        metavar="ENDPOINT",
        help="Where publishers connect.",
    )(function)


def _keys_option(function: _F) -> _F:
    return click.option(
        "--keys",
        "folder",
        type=click.Path(path_type=Path),
        envvar=KEYS_VARIABLE,
        show_envvar=True,
        metavar="DIR",
        help="The folder of keys of those who may send; without, everybody on this machine.",
    )(function)


@click.command()
@_bind_option
@_keys_option
@database_option
@click.option("--no-web", is_flag=True, help="Collect only.")
def up(bind: str, folder: Path | None, database: Path, no_web: bool) -> None:
    """Collect spans into one file: the way to start.

    Services send to the endpoint; the other commands read the file, at any time. Ctrl-C ends it
    with everything stored that was received.

    \b
    Example:
      ztrace up --db shop.db
    """
    _collect(bind, folder, database)


@click.command()
@_bind_option
@_keys_option
@database_option
def collect(bind: str, folder: Path | None, database: Path) -> None:
    """Run the collector alone.

    It receives spans at the endpoint and stores them in the file, until Ctrl-C or SIGTERM.

    \b
    Example:
      ztrace collect --bind tcp://127.0.0.1:4710 --db shop.db
      ztrace collect --bind tcp://0.0.0.0:4710 --keys ztrace.keys
    """
    _collect(bind, folder, database)


def _collect(bind: str, folder: Path | None, database: Path) -> None:
    from ztrace_collector.keys import KeyFolder
    from ztrace_collector.service import collect as run

    keys = None if folder is None else KeyFolder(folder)
    run(bind, database, keys=keys, progress=True, ready=lambda endpoint: _announce(endpoint, database))


def _announce(endpoint: str, database: Path) -> None:
    click.echo(
        f"ztrace: collecting at {endpoint} into {database}; "
        f"run a service with ZTRACE_ENDPOINT={endpoint}, end with Ctrl-C",
        err=True,
    )
