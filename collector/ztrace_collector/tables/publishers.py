"""Accounts of the publishers: the tables ``instances`` and ``publishers``.

One idea: an account is written in the transaction that stores the spans it counts, so the two never disagree,
whenever the collector is killed.
"""

import json
import logging
import sqlite3
from collections import Counter
from typing import Any

from ztrace.errors import WireError
from ztrace.records import INT64_MAX
from ztrace.wire import Header
from ztrace_collector.checking import attributes, text
from ztrace_collector.checking.parcels import Resource
from ztrace_collector.checking.text import cut
from ztrace_collector.layout import LOSS_COLUMNS, SAMPLE_COLUMNS
from ztrace_collector.refusals import INCARNATION, Refusals
from ztrace_collector.tables.accounts import LIVE, Account
from ztrace_collector.tables.rows import Recent
from ztrace_collector.tables.sampled import Sampled

#: Accounts kept in memory.
SIZE = 4096
#: Characters kept of the name of a service or host.
MAX_NAME = 256
#: Ranges of sequence numbers kept of an incarnation, the latest apart: one for each return of a publisher,
#: which takes half a minute or more.
MAX_RANGES = 100
#: Characters kept of a version.
MAX_VERSION = 100

_log = logging.getLogger(__name__)

#: Columns of ``publishers``.
_COLUMNS = (
    "instance",
    "state",
    "first_sequence",
    "next_sequence",
    "spans_created",
    "spans_stored",
    "spans_elsewhere",
    "acknowledged_elsewhere",
    "mended",
    "first_seen_ns",
    "last_seen_ns",
    *LOSS_COLUMNS.values(),
    *SAMPLE_COLUMNS,
)
_WRITE = (
    f"INSERT OR REPLACE INTO publishers ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
)
_READ = (
    f"SELECT {', '.join(_COLUMNS)}, service FROM publishers JOIN instances ON instances.id = instance"
    " WHERE instance_id = ?"
)


class Publishers:
    """Accounts by incarnation."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._recent: Recent[bytes, Account] = Recent(SIZE)
        self._written: dict[bytes, Account] = {}
        #: Accounts changed by foreign spans only.
        self._silent: dict[bytes, Account] = {}

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._recent.clear()
        self._written.clear()
        self._silent.clear()

    def move(self, jump_ns: int) -> None:
        """Move the times of the accounts in memory by a jump of the clock, as their rows have been moved."""
        for account in self._recent.values():
            account.first_seen_ns += jump_ns
            account.last_seen_ns += jump_ns

    def count_alive(self, since_ns: int) -> dict[str, int]:
        """Return the number of publishers that have sent something since a time and have not ended.

        It is zero for services all of whose publishers have ended.
        """
        counts: Counter[str] = Counter()
        for account in self._recent.values():
            counts[account.service] += account.state == LIVE and account.last_seen_ns >= since_ns
        return counts

    def account_of(self, header: Header, now_ns: int) -> Account:
        """Return the account of a header's sender; `write` has to follow in the same transaction.

        Raises:
            WireError: the incarnation belongs to another service. Acknowledgements reach every publisher, so
                its id is no secret, and the holder of another key must not be able to corrupt its account.
        """
        incarnation = header.incarnation
        account = self._find(incarnation) or self._open(header, now_ns, header.service_version)
        self._check(account, header.service)
        self._written[incarnation] = account
        return account

    def account_of_resource(self, resource: Resource, now_ns: int, refusals: Refusals) -> Account:
        """Return the account of the source of foreign spans, for which nothing is acknowledged.

        Raises:
            WireError: the incarnation belongs to another service.
        """
        incarnation = resource.incarnation
        resource = resource._replace(
            service=text.mended(resource.service),
            host=text.mended(resource.host),
            pid=min(max(0, resource.pid), INT64_MAX),
            started_ns=min(max(0, resource.started_ns), INT64_MAX),
        )
        account = self._find(incarnation)
        if account is None:
            sent = attributes.encode_resource(resource.attributes, refusals)
            account = self._open(resource, now_ns, resource.version, sent)
        self._check(account, resource.service)
        if incarnation not in self._written:
            self._silent[incarnation] = account
        return account

    def _find(self, incarnation: bytes) -> Account | None:
        account = self._written.get(incarnation) or self._silent.get(incarnation)
        return account or self._recent.get(incarnation) or self._load(incarnation)

    def _check(self, account: Account, service: str) -> None:
        if account.service != cut(service, MAX_NAME):
            raise WireError(INCARNATION, f"{service[:80]!r} as an incarnation of {account.service[:80]!r}")

    def write(self) -> dict[bytes, int]:
        """Write the changed accounts.

        Returns:
            The next sequence number of each, to be acknowledged after the commit.
        """
        changed = {**self._silent, **self._written} if self._silent else self._written
        self._db.executemany(_WRITE, map(_row_of, changed.values()))
        for account in changed.values():
            if account.past_ranges:
                self._write_ranges(account)
        acknowledgements = {
            incarnation: account.next_sequence for incarnation, account in self._written.items()
        }
        self._recent.keep(changed)
        self._written.clear()
        self._silent.clear()
        return acknowledgements

    def _write_ranges(self, account: Account) -> None:
        """Write the ranges that have ended, and delete the oldest beyond the limit."""
        ranges, account.past_ranges = account.past_ranges, []
        self._db.executemany(
            "INSERT OR REPLACE INTO sequence_ranges VALUES (?, ?, ?)",
            [(account.instance, *numbers) for numbers in ranges],
        )
        self._db.execute(
            "DELETE FROM sequence_ranges WHERE instance = ?1 AND first_sequence NOT IN (SELECT first_sequence"
            " FROM sequence_ranges WHERE instance = ?1 ORDER BY first_sequence DESC LIMIT ?2)",
            (account.instance, MAX_RANGES),
        )

    def _load(self, incarnation: bytes) -> Account | None:
        found = self._db.execute(_READ, (incarnation.hex(),)).fetchone()
        if found is None:
            return None
        row = dict(zip((*_COLUMNS, "service"), found, strict=True))
        return Account(
            instance=row["instance"],
            service=row["service"],
            state=row["state"],
            first_sequence=row["first_sequence"],
            next_sequence=row["next_sequence"],
            created=row["spans_created"],
            stored=row["spans_stored"],
            elsewhere=row["spans_elsewhere"],
            acknowledged_elsewhere=row["acknowledged_elsewhere"],
            mended=json.loads(row["mended"]),
            first_seen_ns=row["first_seen_ns"],
            last_seen_ns=row["last_seen_ns"],
            lost={reason: row[column] for reason, column in LOSS_COLUMNS.items()},
            sampled=Sampled(*[row[column] for column in SAMPLE_COLUMNS]),
            # Spans without a sequence number were foreign ones: the publisher has sent nothing itself.
            new=row["next_sequence"] == 0 < row["spans_stored"],
        )

    def _open(
        self, header: Header | Resource, now_ns: int, version: str, resource: str | None = None
    ) -> Account:
        instance, service = self._db.execute(
            "INSERT INTO instances (instance_id, service, host, pid, started_ns, version, resource)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (instance_id) DO UPDATE SET pid = pid RETURNING id, service",
            (
                header.incarnation.hex(),
                cut(header.service, MAX_NAME),
                cut(header.host, MAX_NAME),
                header.pid,
                header.started_ns,
                cut(text.mended(version), MAX_VERSION),
                resource,
            ),
        ).fetchone()
        _log.info("new publisher: %s at %s, process %d", header.service, header.host, header.pid)
        return Account(
            instance=instance, service=service, first_seen_ns=now_ns, last_seen_ns=now_ns, new=True
        )


def _row_of(account: Account) -> tuple[Any, ...]:
    """Return the row of an account, in the order of `_COLUMNS`."""
    sampled = account.sampled
    return (
        account.instance,
        account.state,
        account.first_sequence,
        account.next_sequence,
        account.created,
        account.stored,
        account.elsewhere,
        account.acknowledged_elsewhere,
        json.dumps(account.mended, separators=(",", ":")) if account.mended else "{}",
        account.first_seen_ns,
        account.last_seen_ns,
        *map(account.lost.__getitem__, LOSS_COLUMNS),
        sampled.created,
        sampled.stored,
        sampled.lost,
        sampled.elsewhere,
    )
