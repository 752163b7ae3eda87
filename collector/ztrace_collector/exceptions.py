"""Exceptions, the groups they fall into, and how often each group occurs.

One idea: only origins count. A span that an exception merely passed gets the group of its origin, as soon as
both are here, whichever comes first. The groups themselves are added to by SQL and not kept in memory.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ztrace.wire import KIND_NAMES
from ztrace_collector.check import Columns
from ztrace_collector.failures import Failure, fingerprint, read_failure
from ztrace_collector.refusals import Refusals

MINUTE_NS = 60_000_000_000

_ADD_TO_GROUP = """
INSERT INTO exception_groups (fingerprint, type, message, service, name, kind, count, first_ns, last_ns,
    trace_id, origin_span_id, frames)
VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)
ON CONFLICT (fingerprint) DO UPDATE SET count = count + 1, first_ns = min(first_ns, excluded.first_ns)
RETURNING id
"""
# The latest occurrence is the group's example; of several at the same time, the one with the highest ids.
_SHOW_LATEST = """
UPDATE exception_groups SET message = :message, service = :service, name = :name, kind = :kind,
    last_ns = :at_ns, trace_id = :trace_id, origin_span_id = :span_id, frames = :frames
WHERE id = :group AND (last_ns, trace_id, origin_span_id) < (:at_ns, :trace_id, :span_id)
"""


class _Occurrence(NamedTuple):
    failure: Failure
    trace_id: bytes
    span_id: bytes
    service: str
    name: str
    kind: str
    at_ns: int

    @property
    def is_origin(self) -> bool:
        failure = self.failure
        return (failure.origin_trace_id, failure.origin_span_id) == (self.trace_id, self.span_id)


class Exceptions:
    """The tables ``exceptions``, ``exception_groups`` and ``exception_minutes``."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._occurrences: list[_Occurrence] = []

    def forget(self) -> None:
        """Drop what is in memory: the transaction it belongs to is rolled back."""
        self._occurrences.clear()

    def add(self, service: str, columns: Columns, refusals: Refusals) -> None:
        """Add a batch's exceptions; `write` has to follow in the same transaction."""
        if columns.exceptions.count(None) == len(columns.exceptions):
            return
        for position in [at for at, fields in enumerate(columns.exceptions) if fields is not None]:
            trace_id, span_id = columns.trace_ids[position], columns.span_ids[position]
            failure = read_failure(columns.exceptions[position], trace_id, span_id, refusals)
            if failure is not None:
                self._occurrences.append(
                    _Occurrence(
                        failure,
                        trace_id,
                        span_id,
                        service,
                        columns.names[position],
                        KIND_NAMES[columns.kinds[position]],
                        columns.end_ns[position],
                    )
                )

    def write(self) -> None:
        """Write the exceptions, and what they change in groups and in exceptions that were here before."""
        if not self._occurrences:
            return
        origins = [occurrence for occurrence in self._occurrences if occurrence.is_origin]
        passed = [occurrence for occurrence in self._occurrences if not occurrence.is_origin]
        self._occurrences.clear()
        # Those passed first: then each new origin finds everything that waits for it, old and new.
        self._insert([(occurrence, self._group_of_origin(occurrence.failure)) for occurrence in passed])
        self._add_origins(origins)

    def _add_origins(self, origins: Sequence[_Occurrence]) -> None:
        grouped = [(occurrence, self._add_to_group(occurrence)) for occurrence in origins]
        self._insert(grouped)
        minutes = Counter((group, occurrence.at_ns // MINUTE_NS) for occurrence, group in grouped)
        self._db.executemany(
            "INSERT INTO exception_minutes (exception_group, minute, count) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(group, minute, count) for (group, minute), count in minutes.items()],
        )
        self._db.executemany(
            "UPDATE exceptions SET exception_group = ?"
            " WHERE trace_id = ? AND origin_trace_id = ? AND origin_span_id = ? AND exception_group IS NULL",
            [
                (group, occurrence.trace_id, occurrence.trace_id, occurrence.span_id)
                for occurrence, group in grouped
            ],
        )

    def _add_to_group(self, occurrence: _Occurrence) -> int:
        failure, at_ns = occurrence.failure, occurrence.at_ns
        (group,) = self._db.execute(
            _ADD_TO_GROUP,
            (
                fingerprint(occurrence.service, failure),
                failure.type,
                failure.message,
                occurrence.service,
                occurrence.name,
                occurrence.kind,
                at_ns,
                at_ns,
                occurrence.trace_id,
                occurrence.span_id,
                failure.frames_text,
            ),
        ).fetchone()
        self._db.execute(
            _SHOW_LATEST,
            {
                "message": failure.message,
                "service": occurrence.service,
                "name": occurrence.name,
                "kind": occurrence.kind,
                "at_ns": at_ns,
                "trace_id": occurrence.trace_id,
                "span_id": occurrence.span_id,
                "frames": failure.frames_text,
                "group": group,
            },
        )
        return int(group)

    def _group_of_origin(self, failure: Failure) -> int | None:
        row = self._db.execute(
            "SELECT exception_group FROM exceptions WHERE trace_id = ? AND span_id = ?"
            " AND (origin_trace_id, origin_span_id) = (trace_id, span_id) LIMIT 1",
            (failure.origin_trace_id, failure.origin_span_id),
        ).fetchone()
        return None if row is None else row[0]

    def _insert(self, rows: Sequence[tuple[_Occurrence, int | None]]) -> None:
        self._db.executemany(
            "INSERT INTO exceptions (trace_id, span_id, origin_trace_id, origin_span_id, exception_group,"
            " how, type, message, frames, causes, at_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    occurrence.trace_id,
                    occurrence.span_id,
                    occurrence.failure.origin_trace_id,
                    occurrence.failure.origin_span_id,
                    group,
                    occurrence.failure.how,
                    occurrence.failure.type,
                    occurrence.failure.message,
                    occurrence.failure.frames_text,
                    occurrence.failure.causes_text,
                    occurrence.at_ns,
                )
                for occurrence, group in rows
            ],
        )
