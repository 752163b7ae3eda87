"""``ztrace up`` and ``ztrace collect``: receive spans and store them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from ztrace_viewer.durations import parse_duration
from ztrace_viewer.options import KEYS_VARIABLE, Amount, database_option
from ztrace_viewer.sizes import parse_size

_F = TypeVar("_F", bound=Callable[..., object])

#: Where publishers connect: this machine alone, and what an agent tries if nothing else is said.
DEFAULT_ENDPOINT = "tcp://127.0.0.1:4710"
#: The least that can be kept: traces go by the hour; and the log beside the file has up to 80 MB.
LEAST_KEPT, LEAST_SIZE = "1h", "100MB"


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


def _adopt_option(function: _F) -> _F:
    return click.option(
        "--adopt",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="A spool folder of services on this machine: store what killed ones left there.",
    )(function)


def _limit_options(function: _F) -> _F:
    keep = click.option(
        "--keep",
        "keep_ns",
        type=Amount("age", parse_duration, LEAST_KEPT),
        metavar="AGE",
        help="Delete what is older, such as 7d; without, nothing is deleted for its age.",
    )
    max_size = click.option(
        "--max-size",
        "max_bytes",
        type=Amount("size", parse_size, LEAST_SIZE),
        metavar="SIZE",
        help="Delete the oldest when the file gets larger, such as 10GB.",
    )
    return keep(max_size(function))


@click.command()
@_bind_option
@_keys_option
@_adopt_option
@_limit_options
@database_option
@click.option("--no-web", is_flag=True, help="Collect only.")
def up(
    bind: str,
    folder: Path | None,
    adopt: Path | None,
    keep_ns: int | None,
    max_bytes: int | None,
    database: Path,
    no_web: bool,
) -> None:
    """Collect spans into one file: the way to start.

    Services send to the endpoint; the other commands read the file, at any time. Ctrl-C ends it
    with everything stored that was received.

    \b
    Example:
      ztrace up --db shop.db
      ztrace up --db shop.db --keep 7d --max-size 10GB
    """
    _collect(bind, folder, adopt, keep_ns, max_bytes, database)


@click.command()
@_bind_option
@_keys_option
@_adopt_option
@_limit_options
@database_option
def collect(
    bind: str,
    folder: Path | None,
    adopt: Path | None,
    keep_ns: int | None,
    max_bytes: int | None,
    database: Path,
) -> None:
    """Run the collector alone.

    It receives spans at the endpoint and stores them in the file, until Ctrl-C or SIGTERM.

    \b
    Example:
      ztrace collect --bind tcp://127.0.0.1:4710 --db shop.db
      ztrace collect --bind tcp://0.0.0.0:4710 --keys ztrace.keys
    """
    _collect(bind, folder, adopt, keep_ns, max_bytes, database)


def _collect(
    bind: str,
    folder: Path | None,
    adopt: Path | None,
    keep_ns: int | None,
    max_bytes: int | None,
    database: Path,
) -> None:
    from ztrace_collector.keys import KeyFolder
    from ztrace_collector.retention import Limits
    from ztrace_collector.service import Options
    from ztrace_collector.service import collect as run

    keys = None if folder is None else KeyFolder(folder)
    run(
        Options(bind, database, keys, Limits(keep_ns, max_bytes), adopt, progress=True),
        ready=lambda endpoint: _announce(endpoint, database, with_keys=keys is not None),
    )


def _announce(endpoint: str, database: Path, *, with_keys: bool) -> None:
    # What listens on every address is reached by a name that only its users know.
    reached = re.sub(r"//(0\.0\.0\.0|\[::\]|\*):", "//THIS-MACHINE:", endpoint)
    key = " and its ZTRACE_KEY" if with_keys else ""
    click.echo(
        f"ztrace: collecting at {endpoint} into {database}; "
        f"run a service with ZTRACE_ENDPOINT={reached}{key}, end with Ctrl-C",
        err=True,
    )
