"""Accounts of publishers in a file, and what is lost and refused.

One idea: after months, or an attack, a file may know tens of thousands of processes. Only a page of them is
read one by one; all others are added up by the database.
"""

import sqlite3
from collections.abc import Iterator

from ztrace.records import ABANDONED
from ztrace_collector.layout import LOSS_COLUMNS, SAMPLE_COLUMNS, SETTLED, SILENT_AFTER_NS, STORED_SPANS
from ztrace_viewer.queries.database import read_sizes
from ztrace_viewer.queries.rows import name_columns, read, read_one
from ztrace_viewer.queries.stores.answers import (
    DestinationRow,
    LossRow,
    OpenRow,
    PublisherRow,
    PublisherSums,
    ReasonRow,
    RefusalRow,
    ServiceRow,
    Sizes,
    SourceRow,
)

#: SQL expression of a publisher's spans that are in flight: created, and neither stored, lost nor elsewhere.
WAITING = f"max(0, spans_created - spans_stored - spans_elsewhere - {' - '.join(LOSS_COLUMNS.values())})"
#: SQL expression for a publisher that has sent nothing itself: its spans have no sequence numbers.
FOREIGN = "(next_sequence = 0 AND spans_stored > 0)"

_FROM = "FROM publishers JOIN instances ON instances.id = instance"
_LOST = " + ".join(LOSS_COLUMNS.values())
_LOSSES = f"SELECT {name_columns(LossRow)} FROM losses JOIN instances ON instances.id = instance"
_SOURCES = f"SELECT {name_columns(SourceRow, waiting=WAITING, is_foreign=FOREIGN)} {_FROM}"
_PUBLISHERS = f"""
SELECT {name_columns(PublisherRow, spans_waiting=WAITING)} {_FROM}
ORDER BY last_seen_ns DESC, instance DESC LIMIT ? OFFSET ?
"""
_HEARD = "abs(last_seen_ns - :now) <= :silent"


def sum_up(expression: str) -> str:
    """Return the SQL of a sum that does not overflow."""
    return f"CAST(total({expression}) AS INTEGER)"


_SERVICE_COLUMNS = name_columns(
    ServiceRow,
    publishers="count(*)",
    live=f"total(state = 'live' AND {_HEARD})",
    silent=f"total(state = 'live' AND NOT {_HEARD})",
    ended="total(state = 'ended')",
    crashed="total(state = 'crashed')",
    spans_created=sum_up("spans_created"),
    spans_stored=sum_up("spans_stored"),
    spans_lost=sum_up(_LOST),
    last_seen_ns="max(last_seen_ns)",
)
_SERVICES = f"""
SELECT {_SERVICE_COLUMNS} {_FROM} GROUP BY service ORDER BY publishers DESC, service LIMIT :limit
"""
_SUM_COLUMNS = name_columns(
    PublisherSums,
    publishers="count(*)",
    spans_created=sum_up("spans_created"),
    spans_lost=sum_up(_LOST),
    spans_elsewhere=sum_up("spans_elsewhere"),
    spans_waiting=sum_up(WAITING),
    **{column: sum_up(column) for column in SAMPLE_COLUMNS},
)
_REASONS = f"""
SELECT {name_columns(ReasonRow, reason="key", number=sum_up("value"))}
FROM (SELECT mended FROM publishers WHERE mended <> '{{}}' AND json_valid(mended)) AS given,
    json_each(given.mended) WHERE json_each.type = 'integer' GROUP BY 1 ORDER BY 2 DESC, 1
"""
_REFUSALS = f"SELECT {name_columns(RefusalRow, number='count')} FROM"
_OPEN = f"""
SELECT {name_columns(OpenRow, abandoned="instr(coalesce(attributes, ''), ?)")}
FROM unfinished_spans JOIN publishers USING (instance)
"""
#: Id of the last span stored, deleted or not.
_LAST_ID = (
    "SELECT max((SELECT coalesce(max(id), 0) FROM spans),"
    f" (SELECT coalesce(sum(value), 0) FROM totals WHERE name IN {STORED_SPANS}))"
)
#: Ids of spans have no gaps, so a backlog is the difference of two ids, at any size.
_DESTINATION_COLUMNS = name_columns(
    DestinationRow,
    key="id",
    waiting=f"max(0, ({_LAST_ID}) - place)",
    oldest_ns="(SELECT start_ns + coalesce(duration_ns, 0) FROM spans WHERE id > place ORDER BY id LIMIT 1)",
)
_DESTINATIONS = f"SELECT {_DESTINATION_COLUMNS} FROM destinations ORDER BY in_use DESC, id"


class Accounts:
    """Answers about what is stored, lost and refused."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def sizes(self) -> Sizes:
        """Return what is stored, and the bytes that it takes."""
        totals = dict(self.db.execute("SELECT name, value FROM totals"))
        return Sizes(totals, *read_sizes(self.db), self.unsettled())

    def settling(self, name: str) -> int:
        """Return a value of the table ``settling``, 0 without one."""
        row = self.db.execute("SELECT value FROM settling WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    def unsettled(self) -> int:
        """Return the number of spans that have arrived since the last one up to which all are counted."""
        (last,) = self.db.execute("SELECT coalesce(max(id), 0) FROM spans").fetchone()
        return max(0, int(last) - self.settling(SETTLED))

    def losses(self, begin_ns: int, end_ns: int) -> Iterator[LossRow]:
        """Return the losses that touch a stretch of time."""
        return read(self.db, LossRow, f"{_LOSSES} WHERE last_ns >= ? AND first_ns <= ?", (begin_ns, end_ns))

    def loss_page(self, limit: int, skip: int) -> tuple[int, list[LossRow]]:
        """Return the number of losses, and a page of them, the latest first."""
        (count,) = self.db.execute("SELECT count(*) FROM losses").fetchone()
        page = f"{_LOSSES} ORDER BY last_ns DESC, losses.id DESC LIMIT ? OFFSET ?"
        return int(count), list(read(self.db, LossRow, page, (limit, skip)))

    def sources(self) -> Iterator[SourceRow]:
        """Return the state of every process."""
        return read(self.db, SourceRow, _SOURCES)

    def publishers(self, limit: int, skip: int) -> Iterator[PublisherRow]:
        """Return a page of the publishers, the latest seen first."""
        return read(self.db, PublisherRow, _PUBLISHERS, (limit, skip))

    def services(self, now_ns: int, limit: int) -> Iterator[ServiceRow]:
        """Return the sums of each service, those with the most publishers first."""
        values = {"now": now_ns, "silent": SILENT_AFTER_NS, "limit": limit}
        return read(self.db, ServiceRow, _SERVICES, values)

    def publisher_sums(self) -> PublisherSums:
        """Return the sums over all publishers."""
        sums = read_one(self.db, PublisherSums, f"SELECT {_SUM_COLUMNS} FROM publishers")
        assert sums is not None
        return sums

    def reasons(self) -> Iterator[ReasonRow]:
        """Return the corrections that publishers made, the most frequent first."""
        return read(self.db, ReasonRow, _REASONS)

    def refusals(self) -> Iterator[RefusalRow]:
        """Return what the collector refused and corrected, the latest first."""
        return read(self.db, RefusalRow, f"{_REFUSALS} refusals ORDER BY last_ns DESC, reason")

    def open_states(self) -> Iterator[OpenRow]:
        """Return the last report of every span without an end."""
        return read(self.db, OpenRow, _OPEN, (f'"{ABANDONED}":true',))

    def destinations(self) -> Iterator[DestinationRow]:
        """Return the destinations that spans are sent on to, those in use first."""
        return read(self.db, DestinationRow, _DESTINATIONS)

    def destination_refusals(self, key: int) -> Iterator[RefusalRow]:
        """Return what a destination refused, the latest first."""
        query = f"{_REFUSALS} destination_refusals WHERE destination = ? ORDER BY last_ns DESC, reason"
        return read(self.db, RefusalRow, query, (key,))
