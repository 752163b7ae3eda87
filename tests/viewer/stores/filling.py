"""The same rows in both stores: a collector's file, and a ClickHouse database filled from it."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ztrace_collector.clickhouse.address import read_address
from ztrace_collector.clickhouse.changes import follow_changes
from ztrace_collector.clickhouse.engine import insert_block, open_engine
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.journals import announce, read_delivered
from ztrace_collector.clickhouse.reading import Journal
from ztrace_collector.clickhouse.schema import Layout
from ztrace_collector.clickhouse.settling.settler import settle_all
from ztrace_collector.layout import SETTLED
from ztrace_collector.tables.spans import last_span_id

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


def copy_to_clickhouse(
    path: Path, url: str, journal: str = "0" * 32, *, place: int = 0, arrived_ms: int | None = None
) -> int:
    """Create the tables of a ClickHouse database, send rows of a file there, and settle its trees.

    Rows go in the shipper's blocks, and trees are settled as far as they are in the file.

    Args:
        path: the file, which stays as it is.
        url: address of the database.
        journal: the file's own id.
        place: id of the last span that was sent before, as returned then.
        arrived_ms: time of arrival, Unix; None for now.

    Returns:
        The id of the last span.
    """
    address = read_address(url)
    if not place:
        initialize(address, Layout(), lambda line: None)
    copied = path.with_name(f"{path.name}.copied")
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(copied)) as copy:
        db.backup(copy)
    with closing(sqlite3.connect(copied, isolation_level=None)) as db, open_engine(address) as client:
        follow_changes(db)
        source, last = Journal(db), last_span_id(db)
        methods, _ = source.read_methods(0)
        blocks = [] if methods is None else [methods]
        after, (last_change,) = 0, db.execute("SELECT coalesce(max(id), 0) FROM changes").fetchone()
        while after < last_change:
            changes, after = source.read_changes(after, last_change, journal, int(time.time()))
            blocks += changes
        for block in blocks:
            insert_block(client, block.table, block.columns, block.data)
        (counted,) = db.execute("SELECT value FROM settling WHERE name = ?", (SETTLED,)).fetchone()
        _send_spans(client, source, journal, (place, counted), arrived_ms)
        settle_all(client)
        _send_spans(client, source, journal, (max(place, counted), last), arrived_ms)
    copied.unlink()
    return last


def _send_spans(
    client: "Client", source: Journal, journal: str, ids: tuple[int, int], arrived_ms: int | None
) -> None:
    """Send the spans between two ids, and announce them."""
    place, last = ids
    if place >= last and arrived_ms is not None:
        return  # What is sent next arrives at this time too.
    later_ms = max(time.time_ns() // 1_000_000, read_delivered(client, journal) + 1)
    while spans := source.read_spans(place, last, is_bounded=True):
        block = spans.arrive(journal, later_ms if arrived_ms is None else arrived_ms)
        insert_block(client, block.table, block.columns, block.data)
        place = spans.last
    announce(client, journal, later_ms if arrived_ms is None else arrived_ms)
