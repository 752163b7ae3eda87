"""Requests for profiles that are handed from the ClickHouse database to the journal's collector.

One idea: a request is written into the journal as a command beside the collector would write it, so the
collector and its publishers know of no other way. The journal says which requests it has.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ztrace.errors import DatabaseError, SettingsError
from ztrace.wire import MAX_REQUEST_S, Request
from ztrace_collector.layout import SECOND_NS
from ztrace_collector.storing.requesting import withdraw_request, write_request

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Time that a request may take to each collector.
LATE_NS = 5 * SECOND_NS
#: Requests that may run, with their age by the server's clock.
_ASKED = (
    "SELECT nonce, service, hz, seconds, withdrawn, dateDiff('millisecond', asked, now64(3)) AS age"
    f" FROM profile_requests FINAL WHERE asked > now64(3) - toIntervalSecond({MAX_REQUEST_S} + 10)"
)


class RequestsForProfiles:
    """Requests of one database, for the collector of one journal."""

    def __init__(
        self,
        client: "Client",
        db: sqlite3.Connection,
        path: Path,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare the handing over.

        Args:
            client: from `ztrace_collector.clickhouse.engine.open_engine`.
            db: a connection to the journal, for reading.
            path: the journal.
            clock_ns: the wall clock.
        """
        self._client, self._db, self._path, self._clock_ns = client, db, path, clock_ns

    def step(self) -> None:
        """Hand over the requests that are new, and withdraw those that were withdrawn.

        Raises:
            EngineError: the engine cannot be used.
        """
        now_ns = self._clock_ns()
        for nonce, service, hz, seconds, is_withdrawn, age_ms in self._client.query(_ASKED).result_rows:
            # The time on the way is not a part of the time of a request.
            at_ns = now_ns - max(0, age_ms * 1_000_000 - LATE_NS)
            is_there = self._db.execute("SELECT 1 FROM profile_requests WHERE nonce = ?", (nonce,)).fetchone()
            try:
                if is_withdrawn and is_there:
                    withdraw_request(self._path, nonce)
                elif not is_withdrawn and not is_there and at_ns + SECOND_NS * seconds > now_ns:
                    write_request(self._path, Request(nonce, service, hz, seconds), at_ns)
            except (DatabaseError, SettingsError):
                pass  # Too many run, or the file is busy; the next look is soon.
