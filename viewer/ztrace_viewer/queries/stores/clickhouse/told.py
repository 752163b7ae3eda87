"""Events that the processes of all collectors tell, each of them by one process.

One idea: what is told is written ahead as a numbered batch (`ztrace_collector.clickhouse.batches`). Of two
processes that have found the same events, the one whose batch is stored delivers them, and the other one
finds them told. A batch also has the number of events that each process has yet to deliver: those of a
process that is gone are lost, and known to be.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ztrace_collector.clickhouse.batches import Batch, read_last, write_ahead
from ztrace_collector.clickhouse.engine import insert_block
from ztrace_collector.clickhouse.native import encode, make_block
from ztrace_collector.layout import REGRESSED
from ztrace_viewer.queries.stores.clickhouse.store import ClickHouseStore

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Name of the task's batches.
TASK = "events"
#: Table of what is told: of each event and key, the moment that tells it from others of the same.
TOLD = "told_events"
_COLUMNS = (("event", "String"), ("key", "String"), ("moment", "Int64"), ("revision", "UInt64"))
_GROUPS = (
    "SELECT fingerprint FROM exception_groups FINAL WHERE {} GROUP BY fingerprint ORDER BY min(first_ns)"
)
_MOVED = "SELECT trace_id, span_id, journal FROM corrected_exceptions FINAL WHERE count < 0"
#: Latest sample of groups in trees that are counted, and that is an occurrence in the whole tree.
_SETTLED = f"""
SELECT toString(exception_group) AS fingerprint, max(at_ns) FROM exception_samples FINAL
WHERE exception_group IN ({{0}}) AND (trace_id, span_id, journal) NOT IN ({_MOVED})
    AND trace_id IN (SELECT trace_id FROM settled WHERE trace_id IN
        (SELECT trace_id FROM exception_samples WHERE exception_group IN ({{0}})))
GROUP BY fingerprint
"""


class Event(NamedTuple):
    """Event that is told.

    Attributes:
        event: its kind.
        key: what it is of.
        moment: what distinguishes it from others of the same kind and key.
    """

    event: str
    key: str
    moment: int


class Pending(NamedTuple):
    """Events that a process has yet to deliver; ``beat`` grows while the process lives."""

    number: int
    beat: int


class State(NamedTuple):
    """State of what is told, after the batch with a number; `pending` is by process."""

    number: int
    pending: Mapping[str, Pending]


class Told:
    """What is told of one database, over one connection."""

    def __init__(self, store: ClickHouseStore) -> None:
        self._store, self._reader = store, store.reader

    def read(self) -> State | None:
        """Return the last state, None before the first; its events are told from then on."""
        batch = read_last(self._reader.client, TASK)
        if batch is None:
            return None
        return State(batch.number, _carry_out(self._reader.client, batch))

    def write(self, state: State | None, events: Sequence[Event], pending: Mapping[str, Pending]) -> bool:
        """Write the state behind another, with new events; return False if another process did."""
        content = json.dumps({"events": events, "pending": pending})
        number = 1 if state is None else state.number + 1
        batch = write_ahead(self._reader.client, TASK, number, content)
        if batch is None:
            return False
        _carry_out(self._reader.client, batch)
        return True

    def moments(self, event: str) -> dict[str, int]:
        """Return the moments of what is told of a kind of event, by key."""
        query = f"SELECT key, moment FROM {TOLD} FINAL WHERE event = {{event:String}}"
        return {key: int(moment) for key, moment in self._reader.query(query, {"event": event})}

    def groups(self, but: str | None = None) -> list[str]:
        """Return the groups of which no event of a kind is told, in the order of their first occurrence."""
        condition = (
            "1" if but is None else f"fingerprint NOT IN (SELECT key FROM {TOLD} WHERE event = '{but}')"
        )
        return [fingerprint for (fingerprint,) in self._reader.query(_GROUPS.format(condition))]

    def regressed(self) -> dict[str, int]:
        """Return the groups that are regressed, with the moment at which each was resolved."""
        query = (
            f"SELECT fingerprint, resolved_ns FROM ({self._store.merge_groups()}) WHERE state = '{REGRESSED}'"
            " ORDER BY last_ns"
        )
        return {fingerprint: int(resolved_ns or 0) for fingerprint, resolved_ns in self._reader.query(query)}

    def settled(self, groups: Collection[str]) -> dict[str, int]:
        """Return the latest known occurrence in a tree that is counted, of those groups that have one."""
        if not groups:
            return {}
        values: dict[str, object] = {f"group{place}": group for place, group in enumerate(groups)}
        names = ", ".join(f"{{{name}:String}}" for name in values)
        return {group: int(at_ns) for group, at_ns in self._reader.query(_SETTLED.format(names), values)}


def _carry_out(client: "Client", batch: Batch) -> dict[str, Pending]:
    """Insert the rows of a batch, which changes nothing if they are there; return what is pending."""
    content = json.loads(batch.content)
    rows: Iterable[Sequence[object]] = [(*event, batch.number) for event in content["events"]]
    if rows:
        encoded = [
            (name, kind, encode(kind, values))
            for (name, kind), values in zip(_COLUMNS, zip(*rows, strict=True), strict=True)
        ]
        block = make_block(encoded, len(content["events"]))
        insert_block(client, TOLD, [name for name, _ in _COLUMNS], block, f"{batch.id}:{TOLD}")
    return {process: Pending(*each) for process, each in content["pending"].items()}
