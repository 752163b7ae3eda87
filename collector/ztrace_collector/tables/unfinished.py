"""Unfinished spans: the table ``unfinished_spans``.

One idea: the ids of unfinished spans are kept in memory, so a batch of ended spans costs one set operation. A
report of a span whose end is stored already is ignored, whichever way it came.

A span belongs to its service: another service that sends the same ids, which are no secret to those that a
call reaches, neither ends the span nor keeps it from being recorded.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ztrace_collector.checking.columns import Columns, link_texts
from ztrace_collector.refusals import UNFINISHED, Refusals

#: Maximum of rows of one publisher, which is what a publisher reports at most; and of all, which bounds the
#: memory.
MAX_OF_INSTANCE, MAX_ROWS = 10_000, 100_000
#: Newest spans of a trace that are searched for the end of a span reported as unfinished; if stored, the end
#: arrived just before. Without a bound, one large trace would delay everything.
MAX_LOOKED_AT = 10_000

_UPSERT = """
INSERT INTO unfinished_spans (trace_id, span_id, parent_id, method, instance, start_ns, seen_ns, attributes,
    links, details)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (trace_id, span_id, instance) DO UPDATE SET seen_ns = excluded.seen_ns,
    attributes = excluded.attributes, links = excluded.links, details = excluded.details
"""

_ENDED = """
SELECT span_id FROM (SELECT span_id, instance FROM spans WHERE trace_id = ? ORDER BY id DESC LIMIT ?)
JOIN instances ON instances.id = instance WHERE service = ?
"""

#: Trace id and span id; trace id and service.
_Key = tuple[bytes, bytes]
_Owner = tuple[bytes, str]


class Unfinished:
    """Table ``unfinished_spans``, with the ids of its rows."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        #: Instance of each unfinished span by span id, which batches are compared with, and by trace id and
        #: service.
        self._open: dict[bytes, dict[_Owner, int]] = {}
        #: Services of the unfinished spans without a parent, by trace id and span id, in order of arrival.
        self._roots: dict[bytes, dict[tuple[bytes, str], None]] = {}
        self._counts: Counter[int] = Counter()
        self._written: dict[tuple[bytes, _Owner], tuple[Any, ...]] = {}
        self._ended: list[tuple[bytes, bytes, int]] = []
        self.forget()

    def forget(self) -> None:
        """Read the ids again, after a rollback or a deletion of rows."""
        self._open.clear()
        self._roots.clear()
        self._counts.clear()
        self._written.clear()
        self._ended.clear()
        for trace_id, span_id, service, instance, is_root in self._db.execute(
            "SELECT trace_id, span_id, service, instance, parent_id IS NULL FROM unfinished_spans"
            " JOIN instances ON instances.id = instance ORDER BY unfinished_spans.id"
        ):
            self._keep(span_id, (trace_id, service), instance, is_root)

    def drop(self, trace_ids: Iterable[bytes]) -> None:
        """Drop traces from memory after their rows were deleted."""
        gone = set(trace_ids)
        for span_id in list(self._open):
            for owner in [owner for owner in self._open[span_id] if owner[0] in gone]:
                self._let_go(span_id, owner)

    def has_other_root(self, trace_id: bytes, service: str) -> bool:
        """Return whether the first unfinished span without a parent in a trace is another service's."""
        roots = self._roots.get(trace_id)
        return roots is not None and next(iter(roots))[1] != service

    def add(
        self,
        instance: int,
        service: str,
        columns: Columns,
        methods: Sequence[int],
        now_ns: int,
        refusals: Refusals,
    ) -> int:
        """Add or update unfinished spans; `write` has to follow in the same transaction.

        Spans beyond the limits are counted as refused.

        Returns:
            The number of new rows.
        """
        rows = {
            (trace_id, span_id): (trace_id, span_id, parent_id, method, instance, start_ns, now_ns, *texts)
            for trace_id, span_id, parent_id, method, start_ns, *texts in zip(
                columns.trace_id,
                columns.span_id,
                columns.parent_id,
                methods,
                columns.start_ns,
                columns.attributes,
                link_texts(columns),
                columns.details,
                strict=True,
            )
        }
        new = {key for key in rows if (key[0], service) not in self._open.get(key[1], ())}
        new.difference_update(self._ended_of({trace_id for trace_id, _ in new}, service))
        refused = 0
        for key, row in rows.items():
            trace_id, span_id = key
            owner = trace_id, service
            if key in new:
                if self._counts[instance] >= MAX_OF_INSTANCE or self._counts.total() >= MAX_ROWS:
                    refused += 1
                    continue
                self._keep(span_id, owner, instance, is_root=row[2] is None)
            elif self._open.get(span_id, {}).get(owner) != instance:
                continue  # The span has ended, or belongs to another process.
            self._written[span_id, owner] = row
        if refused:
            refusals.note(UNFINISHED, f"unfinished spans beyond {MAX_OF_INSTANCE:,} of a publisher", refused)
        return len(new) - refused

    def end(self, service: str, columns: Columns) -> None:
        """Remove a service's spans whose end is stored now; `write` has to follow in the same transaction."""
        if not self._open or self._open.keys().isdisjoint(columns.span_id):
            return
        for trace_id, span_id in zip(columns.trace_id, columns.span_id, strict=True):
            owner = trace_id, service
            if owner in self._open.get(span_id, ()):
                self._ended.append((trace_id, span_id, self._let_go(span_id, owner)))

    def write(self) -> None:
        """Write the changed rows."""
        if self._written:
            self._db.executemany(_UPSERT, self._written.values())
            self._written.clear()
        if self._ended:
            self._db.executemany(
                "DELETE FROM unfinished_spans WHERE trace_id = ? AND span_id = ? AND instance = ?",
                self._ended,
            )
            self._ended.clear()

    def _keep(self, span_id: bytes, owner: _Owner, instance: int, is_root: bool) -> None:
        self._open.setdefault(span_id, {})[owner] = instance
        self._counts[instance] += 1
        if is_root:
            trace_id, service = owner
            self._roots.setdefault(trace_id, {})[span_id, service] = None

    def _let_go(self, span_id: bytes, owner: _Owner) -> int:
        """Remove a span from memory, and return its instance."""
        owners = self._open[span_id]
        instance = owners.pop(owner)
        self._counts[instance] -= 1
        if not owners:
            del self._open[span_id]
        trace_id, service = owner
        roots = self._roots.get(trace_id)
        if roots is not None:
            roots.pop((span_id, service), None)
            if not roots:
                del self._roots[trace_id]
        self._written.pop((span_id, owner), None)
        return instance

    def _ended_of(self, trace_ids: Iterable[bytes], service: str) -> Iterator[_Key]:
        """Yield a service's spans among the newest of traces whose end is stored."""
        for trace_id in trace_ids:
            for (span_id,) in self._db.execute(_ENDED, (trace_id, MAX_LOOKED_AT, service)):
                yield trace_id, span_id
