"""Rows that retention has to keep until they are in ClickHouse.

One idea: a collector that sends to ClickHouse keeps a position up to which all spans, and what else belongs
to them, are stored there. Nothing after that position is deleted from the file.
"""

from collections.abc import Sequence

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


def are_sent(store: Store, trace_ids: Sequence[bytes]) -> bool:
    """Return whether no span of some traces waits for ClickHouse, nor what belongs to it."""
    row = next(iter(store.read(_POSITION)), None)
    if row is None:
        return True
    marks = ",".join("?" * len(trace_ids))
    ((last,),) = store.read(
        f"SELECT max(last) FROM (SELECT max(id) AS last FROM spans WHERE trace_id IN ({marks}) UNION ALL"
        " SELECT max(last) FROM traces JOIN sealed_traces ON trace = traces.id"
        f" WHERE trace_id IN ({marks}))",
        *trace_ids,
        *trace_ids,
    )
    return last is None or last <= int(row[0])


def is_sent(store: Store, now_ns: int) -> bool:
    """Return whether ClickHouse has had everything lately, so that rows without a span may be deleted."""
    row = next(iter(store.read(_POSITION)), None)
    return row is None or now_ns - int(row[1]) < FRESH_NS
