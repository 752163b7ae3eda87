"""Rows that retention has to keep until they are in ClickHouse.

One idea: a collector that sends to ClickHouse keeps a position up to which all spans, and what else belongs
to them, are stored there. Nothing after that position is deleted from the file.
"""

from ztrace_collector.layout import MINUTE_NS
from ztrace_collector.storing.store import Store

#: Protocol of ClickHouse databases in the table ``destinations``.
PROTOCOL = "clickhouse"
#: Time since everything was sent, up to which tables are swept whose rows have no span.
FRESH_NS = MINUTE_NS

_POSITION = (
    "SELECT coalesce(shipping.complete, 0), coalesce(shipping.complete_ns, 0) FROM destinations"
    " LEFT JOIN shipping ON shipping.destination = destinations.id"
    f" WHERE in_use AND protocol = '{PROTOCOL}'"
)


def sent_up_to(store: Store) -> int | None:
    """Return the id of the last span that may be deleted, None if nothing waits for ClickHouse."""
    row = next(iter(store.read(_POSITION)), None)
    return None if row is None else int(row[0])


def is_sent(store: Store, now_ns: int) -> bool:
    """Return whether ClickHouse has had everything lately, so that rows without a span may be deleted."""
    row = next(iter(store.read(_POSITION)), None)
    return row is None or now_ns - int(row[1]) < FRESH_NS
