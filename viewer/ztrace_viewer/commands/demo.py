"""``ztrace demo``: a traced shop of real services."""

from pathlib import Path

import click

from ztrace_viewer.commands.options import verbose_option


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5, max=3600),
    default=5.0,
    show_default=True,
    metavar="N",
    help="Duration of the load, in seconds.",
)
@click.option(
    "--db",
    "database",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Database for the traces.  [default: a new file]",
)
@verbose_option
def demo(seconds: float, database: Path | None) -> None:
    """Run a small traced shop of real services, and show its traces.

    The demo stops by itself and leaves no process behind.

    \b
    Example:
      ztrace demo --seconds 10 --db shop.db
    """
    from ztrace_viewer.demo import run

    run(seconds, database)
