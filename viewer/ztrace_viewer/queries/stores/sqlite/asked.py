"""Requests for profiles in a file, which the collector sends, and the answers of processes."""

import sqlite3
from collections.abc import Iterator

from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.stores.asked import AskedRow
from ztrace_viewer.queries.stores.sqlite.accounts import FOREIGN

# Foreign sources, which have no sequence numbers, cannot be asked.
_PROCESSES = f"""
SELECT {
    name_columns(
        AskedRow,
        samples="samples_stored",
        answer="profile_answers.state",
        state="publishers.state",
    )
}
FROM publishers JOIN instances ON instances.id = publishers.instance
    LEFT JOIN profile_answers ON profile_answers.instance = publishers.instance AND nonce = :nonce
WHERE (:service = '' OR service = :service) AND NOT {FOREIGN}
    AND (profile_answers.state IS NOT NULL OR publishers.state = 'live')
"""


class Asked:
    """Answers about requests for profiles."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def request_sent(self, nonce: bytes) -> int | None:
        """Return when a request was first sent to publishers, None before."""
        row = self.db.execute("SELECT sent_ns FROM profile_requests WHERE nonce = ?", (nonce,)).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def asked_processes(self, nonce: bytes, service: str) -> Iterator[AskedRow]:
        """Return the processes of a service, or of all if empty, that are live or have answered."""
        return read(self.db, AskedRow, _PROCESSES, {"nonce": nonce, "service": service})
