"""The publishers' accounts: the tables ``instances``, ``publishers`` and ``gaps``.

One idea: an account is written in the transaction that stores the spans it counts, so that the two can never
disagree, whenever the collector is killed.
"""

import json
import sqlite3

from ztrace.wire import Header
from ztrace_collector.delivery import LIVE, Account, Gap
from ztrace_collector.recent import Recent
from ztrace_collector.text import cut

#: Accounts kept in memory.
SIZE = 4096
#: Characters kept of a service's or a host's name.
MAX_NAME = 256

_COLUMNS = (
    "instance, state, next_sequence, spans_created, spans_stored, spans_dropped, spans_missing,"
    " spans_refused, spans_elsewhere, mended, first_seen_ns, last_seen_ns"
)


class Publishers:
    """Accounts by incarnation."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._recent: Recent[bytes, Account] = Recent(SIZE)
        self._written: dict[bytes, Account] = {}
        self._gaps: list[tuple[int, Gap, int]] = []

    def forget(self) -> None:
        """Drop what is in memory: the transaction it belongs to is rolled back."""
        self._recent.clear()
        self._written.clear()
        self._gaps.clear()

    def count_alive(self, since_ns: int) -> int:
        """Return how many have been heard of since a moment and have not ended."""
        return sum(
            account.state == LIVE and account.last_seen_ns >= since_ns for account in self._recent.values()
        )

    def account_of(self, header: Header, now_ns: int) -> Account:
        """Return the account of a header's sender; `write` has to follow in the same transaction."""
        incarnation = header.incarnation
        account = self._written.get(incarnation) or self._recent.get(incarnation)
        account = account or self._load(incarnation) or self._open(header, now_ns)
        account.last_seen_ns = max(now_ns, account.last_seen_ns)
        self._written[incarnation] = account
        return account

    def note_gap(self, account: Account, gap: Gap, now_ns: int) -> None:
        """Keep a gap to be written."""
        self._gaps.append((account.instance, gap, now_ns))

    def write(self) -> dict[bytes, int]:
        """Write the accounts that changed.

        Returns:
            The next sequence number of each: what to acknowledge once the transaction is committed.
        """
        self._db.executemany(
            f"INSERT OR REPLACE INTO publishers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    account.instance,
                    account.state,
                    account.next_sequence,
                    account.created,
                    account.stored,
                    account.dropped,
                    account.missing,
                    account.refused,
                    account.elsewhere,
                    json.dumps(account.mended, separators=(",", ":")),
                    account.first_seen_ns,
                    account.last_seen_ns,
                )
                for account in self._written.values()
            ],
        )
        self._db.executemany(
            "INSERT INTO gaps (instance, first_sequence, last_sequence, span_count, reason, noted_ns)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [(instance, *gap, now_ns) for instance, gap, now_ns in self._gaps],
        )
        acknowledgements = {
            incarnation: account.next_sequence for incarnation, account in self._written.items()
        }
        self._recent.keep(self._written)
        self._written.clear()
        self._gaps.clear()
        return acknowledgements

    def _load(self, incarnation: bytes) -> Account | None:
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM publishers JOIN instances ON instances.id = instance"
            " WHERE instance_id = ?",
            (incarnation.hex(),),
        ).fetchone()
        if row is None:
            return None
        return Account(
            instance=row[0],
            state=row[1],
            next_sequence=row[2],
            created=row[3],
            stored=row[4],
            dropped=row[5],
            missing=row[6],
            refused=row[7],
            elsewhere=row[8],
            mended=json.loads(row[9]),
            first_seen_ns=row[10],
            last_seen_ns=row[11],
        )

    def _open(self, header: Header, now_ns: int) -> Account:
        (instance,) = self._db.execute(
            "INSERT INTO instances (instance_id, service, host, pid, started_ns) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (instance_id) DO UPDATE SET service = excluded.service RETURNING id",
            (
                header.incarnation.hex(),
                cut(header.service, MAX_NAME),
                cut(header.host, MAX_NAME),
                header.pid,
                header.started_ns,
            ),
        ).fetchone()
        return Account(instance=instance, first_seen_ns=now_ns, last_seen_ns=now_ns, new=True)
