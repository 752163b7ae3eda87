"""Connection to a ClickHouse database, and its errors as one line each."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ztrace.errors import DatabaseError, SettingsError
from ztrace_collector.clickhouse.address import ClickHouseAddress

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Oldest version of ClickHouse that hands deduplication tokens on to views.
OLDEST = (24, 8)
#: Time to connect, and time of a request: a block of spans takes less than a second.
CONNECT_S, REQUEST_S = 5, 60

_CODE = re.compile(r"\bcode: (\d+)", re.IGNORECASE)
#: System's own words in an error of the connection.
_CAUSE = re.compile(r"\[Errno -?\d+\] (?P<cause>[^\"')]+)")
_TEXT = re.compile(r"DB::Exception: (?P<text>.*?)(?: \(version |\. Stack trace|\(for url |$)", re.DOTALL)
#: Errors that users meet, by ClickHouse's number.
_MEANINGS = {
    60: ("lacks tables of ztrace", "run 'ztrace clickhouse init {url}'"),
    81: ("does not exist", "run 'ztrace clickhouse init {url}'"),
    164: ("may not be written by this user", "give a user with the right to insert"),
    193: ("rejects the user or the password", "see docs/how-to/use-clickhouse.md"),
    194: ("rejects the user or the password", "see docs/how-to/use-clickhouse.md"),
    241: ("is out of memory", "see the server's max_memory_usage"),
    243: (
        "is out of disk space",
        "free space on the server, or expire spans sooner with 'ztrace clickhouse init --ttl'",
    ),
    252: ("has too many parts to merge", "the server merges them by and by; see its load"),
    497: (
        "denies this user what is asked",
        "grant the user SELECT and INSERT, and for --thin CREATE, ALTER and DROP TABLE",
    ),
    516: ("rejects the user or the password", "see docs/how-to/use-clickhouse.md"),
}


class EngineError(DatabaseError):
    """ClickHouse database that cannot be used at the moment, or at all."""


def check_installed() -> None:
    """Raise an error if the library is not installed.

    Raises:
        SettingsError: it is not.
    """
    if find_spec("clickhouse_connect") is None:
        raise SettingsError(
            "ClickHouse needs a library that is not installed", hint="pip install 'ztrace[clickhouse]'"
        )


@contextmanager
def open_engine(address: ClickHouseAddress, *, with_database: bool = True) -> "Iterator[Client]":
    """Open a connection, which is closed at the end of the block.

    Args:
        address: the database.
        with_database: False for a server on which the database may be missing.

    Raises:
        SettingsError: the extra is not installed.
        EngineError: the server cannot be reached, or is too old; here or while the connection is used.
    """
    with explaining(address), closing(connect(address, with_database=with_database)) as client:
        yield client


def connect(address: ClickHouseAddress, *, with_database: bool = True) -> "Client":
    """Return a connection, for one thread at a time, which the caller closes.

    The arguments are those of `open_engine`; errors are those of the library, for `explaining`.
    """
    import clickhouse_connect

    # They log what they raise.
    for library in ("clickhouse_connect", "urllib3.connectionpool"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    client = clickhouse_connect.get_client(
        interface="https" if address.secure else "http",
        host=address.host,
        port=address.port,
        username=address.user,
        password=address.password,
        database=address.database if with_database else "default",
        compress=False,
        connect_timeout=CONNECT_S,
        send_receive_timeout=REQUEST_S,
        query_retries=0,
        autogenerate_session_id=False,
    )
    try:
        check_version(client, address)
    except BaseException:
        client.close()
        raise
    return client


@contextmanager
def explaining(address: ClickHouseAddress) -> Iterator[None]:
    """Raise errors of connections within the block as one line for the user.

    Raises:
        SettingsError: the extra is not installed.
        EngineError: a connection has failed.
    """
    check_installed()
    try:
        yield
    except engine_errors() as error:
        raise explain(error, address) from error


def engine_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a connection that `open_engine` explains; the library has to be installed."""
    from clickhouse_connect.driver.exceptions import Error
    from urllib3.exceptions import HTTPError

    return Error, HTTPError, OSError


def insert_block(
    client: "Client",
    table: str,
    columns: Sequence[str],
    block: bytes,
    token: str | None = None,
) -> None:
    """Insert a block in the format Native.

    Args:
        client: from `open_engine`.
        table: the table.
        columns: names of the block's columns.
        block: the block.
        token: its deduplication token, for the table and those that views fill from it.
    """
    settings: dict[str, Any] = {"async_insert": 0}
    if token is not None:
        settings |= {
            "insert_deduplicate": 1,
            "deduplicate_blocks_in_dependent_materialized_views": 1,
            "insert_deduplication_token": token,
        }
    client.raw_insert(table, columns, block, settings=settings, fmt="Native")


def explain(error: Exception, address: ClickHouseAddress) -> EngineError:
    """Return an error of the connection as one line for the user."""
    text = str(error)
    code = _CODE.search(text)
    if code is None:
        cause = _CAUSE.search(text)
        told = address.redact(str(cause["cause"]) if cause else text)
        return EngineError(
            f"cannot reach {address.url}: {told[:200]}", hint="check the address, and whether the server runs"
        )
    meaning = _MEANINGS.get(int(code[1]))
    if meaning is not None:
        return EngineError(f"{address.url} {meaning[0]}", hint=meaning[1].format(url=address.url))
    found = _TEXT.search(text)
    told = address.redact(str(found["text"]) if found else text)
    return EngineError(f"{address.url} refuses a query (code {code[1]}): {told[:300]}")


def check_version(client: "Client", address: ClickHouseAddress) -> None:
    """Raise an error if the server is too old.

    Raises:
        EngineError: it is.
    """
    numbers = tuple(int(part) for part in re.findall(r"\d+", str(client.server_version))[:2])
    if numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EngineError(
            f"{address.url} is ClickHouse {str(client.server_version)[:20]}, which is too old",
            hint=f"use {oldest} or newer",
        )
