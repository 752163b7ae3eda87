"""Bytes that each service has brought and not had deleted, to choose whose traces make room.

One idea: when the file is full, room is made by the service that took it. Deleting the oldest traces of all
would let one service delete everything of the others by sending. A deleted span takes off the average of its
service's, since the pages that it frees do not show how much it brought.
"""

import sqlite3

#: Services counted one by one; those beyond count together.
MAX_SERVICES = 1_000
#: Name under which services beyond the bound are counted.
OTHERS = ""
#: Bytes in the file of a span beside its texts: its row and its places in the indexes; and of a whole span
#: that was stored before the collector started.
SPAN_BYTES, OLD_BYTES = 200, 500


class Brought:
    """Spans and bytes by service."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Count the spans that are stored."""
        #: Bytes and spans.
        self._counts: dict[str, tuple[float, int]] = {}
        for service, span_count in db.execute(
            "SELECT service, sum(spans_stored - spans_expired) AS left FROM publishers JOIN instances"
            " ON instances.id = instance GROUP BY service HAVING left > 0"
        ):
            self.add(service, (OLD_BYTES - SPAN_BYTES) * span_count, span_count)

    def add(self, service: str, byte_count: int, span_count: int) -> None:
        """Count bytes and spans that a service brought."""
        if service not in self._counts and len(self._counts) >= MAX_SERVICES:
            service = OTHERS
        brought, spans = self._counts.get(service, (0.0, 0))
        self._counts[service] = brought + byte_count + SPAN_BYTES * span_count, spans + span_count

    def heaviest(self) -> str | None:
        """Return the service that has brought the most, None if none has."""
        return max(self._counts, key=self._counts.__getitem__, default=None)

    def pay(self, service: str, span_count: int) -> None:
        """Subtract the deleted part of a service."""
        brought, spans = self._counts[service]
        if span_count >= spans:
            del self._counts[service]
        else:
            self._counts[service] = brought * (1 - span_count / spans), spans - span_count

    def drop(self, service: str) -> None:
        """Forget a service of which no trace is left to delete."""
        self._counts.pop(service, None)
