"""Creation and migration of the tables, for ``ztrace clickhouse init``, and the check of their version.

One idea: a migration's row in the table of versions is written after its last statement, and each statement
tolerates that it has run before. So all migrations run each time: one that was interrupted is completed, and
tables that were dropped are created again.
"""

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ztrace_collector.clickhouse.address import ClickHouseAddress
from ztrace_collector.clickhouse.engine import EngineError, open_engine
from ztrace_collector.clickhouse.schema import (
    MIGRATIONS,
    SCHEMA_VERSION,
    VERSIONS,
    Layout,
    expiry_of,
    list_expiring,
)

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


class Made(NamedTuple):
    """Tables of a database.

    Attributes:
        version: version of their schema.
        id: the database's own id, random, by which a database that was made again is told from the last.
    """

    version: int
    id: str


def initialize(address: ClickHouseAddress, layout: Layout, say: Callable[[str], None]) -> None:
    """Create the database and the tables that it lacks, and migrate those of an older version.

    Args:
        address: the database.
        layout: engines of new tables, and days after which rows of all tables are deleted.
        say: prints a line about what was done.

    Raises:
        EngineError: the server cannot be used, or has tables of a newer version.
    """
    with open_engine(address, with_database=False) as client:
        client.command(f"CREATE DATABASE IF NOT EXISTS {address.database}")
    with open_engine(address) as client:
        engine = "ReplicatedReplacingMergeTree" if layout.replicated else "ReplacingMergeTree"
        client.command(
            f"CREATE TABLE IF NOT EXISTS {VERSIONS} (version UInt32, id String, applied DateTime)"
            f" ENGINE = {engine} ORDER BY (version, id)"
        )
        made = _read_version(client)
        before = 0 if made is None else made.version
        if before > SCHEMA_VERSION:
            raise _is_newer(address, before)
        id_ = uuid.uuid4().hex if made is None else made.id
        there = _list_tables(client)
        for version, migrate in enumerate(MIGRATIONS, 1):
            for statement in migrate(layout):
                client.command(statement)
            if version > before:
                client.command(f"INSERT INTO {VERSIONS} VALUES ({version}, '{id_}', now())")
        lacking = sorted(_list_tables(client) - there)
        if before == SCHEMA_VERSION and lacking:
            say(f"created again, empty: {', '.join(lacking)}")
        elif before == SCHEMA_VERSION:
            say(f"{address.url} has the tables of version {SCHEMA_VERSION} already")
        elif before:
            say(f"migrated the tables of {address.url} from version {before} to {SCHEMA_VERSION}")
        else:
            say(f"created the tables of version {SCHEMA_VERSION} in {address.url}")
        if before and layout.ttl_days is not None:
            for table in list_expiring():
                client.command(f"ALTER TABLE {table} MODIFY TTL {expiry_of(table, layout.ttl_days)}")
        if layout.ttl_days is not None:
            days = "1 day" if layout.ttl_days == 1 else f"{layout.ttl_days} days"
            say(f"rows are deleted {days} after their arrival")


def check_tables(client: "Client", address: ClickHouseAddress) -> Made:
    """Return the version of the tables, which is the one that this ztrace reads and writes.

    Raises:
        EngineError: there are no tables, or they are of another version.
    """
    made = _read_version(client)
    if made is None:
        raise EngineError(
            f"{address.url} has no tables of ztrace", hint=f"run 'ztrace clickhouse init {address.url}'"
        )
    if made.version > SCHEMA_VERSION:
        raise _is_newer(address, made.version)
    if made.version < SCHEMA_VERSION:
        raise EngineError(
            f"{address.url} has tables of version {made.version}, and this ztrace needs {SCHEMA_VERSION}",
            hint=f"run 'ztrace clickhouse init {address.url}'",
        )
    return made


def _list_tables(client: "Client") -> set[str]:
    return {str(name) for (name,) in client.query("SHOW TABLES").result_rows}


def _read_version(client: "Client") -> Made | None:
    exists = client.query(f"EXISTS TABLE {VERSIONS}").result_rows[0][0]
    if not exists:
        return None
    # If two programs made the tables at once, the first one's id counts.
    rows = client.query(f"SELECT max(version), min(id), count() FROM {VERSIONS}").result_rows
    version, id_, count = rows[0]
    return Made(int(version), str(id_)) if count else None


def _is_newer(address: ClickHouseAddress, version: int) -> EngineError:
    return EngineError(
        f"{address.url} has tables of version {version}, written by a newer ztrace"
        f" than this one, which has {SCHEMA_VERSION}",
        hint="upgrade ztrace",
    )
