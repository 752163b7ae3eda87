"""``ztrace clickhouse``: the tables of a ClickHouse database."""

import click

from ztrace_viewer.terminal.saying import complain


@click.group()
def clickhouse() -> None:
    """Prepare a ClickHouse database for the spans of collectors.

    \b
    Example:
      ztrace clickhouse init clickhouse://db.example.org/traces --ttl 30
    """


@clickhouse.command(short_help="Create the tables, or migrate those of an older ztrace.")
@click.argument("url")
@click.option(
    "--ttl",
    "ttl_days",
    type=click.IntRange(1, 36_500),
    metavar="DAYS",
    help="Delete rows this many days after their arrival; without it, none, or as before.",
)
@click.option("--replicated", is_flag=True, help="Create tables with replicated engines, which need Keeper.")
def init(url: str, ttl_days: int | None, replicated: bool) -> None:
    """Create the tables in the database URL, or migrate those of an older ztrace.

    URL is clickhouse://[USER:PASSWORD@]HOST[:8123]/DATABASE, or clickhouses:// for TLS. User and password may
    be in ZTRACE_CLICKHOUSE_USER and ZTRACE_CLICKHOUSE_PASSWORD instead, where no other user of the machine
    sees them. The command can be repeated: it does what is missing.

    \b
    Example:
      ztrace clickhouse init clickhouse://127.0.0.1/ztrace
    """
    from ztrace_collector.clickhouse.address import read_address
    from ztrace_collector.clickhouse.initializing import initialize
    from ztrace_collector.clickhouse.schema import Layout

    initialize(read_address(url), Layout(replicated, ttl_days), lambda line: complain(f"ztrace: {line}"))
