"""Spans and exceptions of ClickHouse in the order of their arrival.

One idea: arrival times of a journal's spans only grow, and each journal announces up to which time all of
them are here (`ztrace_collector.clickhouse.journals`). Spans are partitioned by arrival, so new ones are read
without the older. Exceptions are numbered in each journal.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from ztrace_collector.clickhouse.journals import read_journals
from ztrace_collector.clickhouse.schema import VERSIONS
from ztrace_viewer.queries.stores.clickhouse.monitoring import Monitoring
from ztrace_viewer.queries.stores.clickhouse.reading import write_ids, write_numbers

#: Exceptions at their origins.
_ORIGINS = "origin_span_id = span_id AND origin_trace_id = trace_id AND deleted = 0"


class Raised(NamedTuple):
    """An exception at its origin, numbered in its journal."""

    journal: str
    id: int
    at_ns: int
    trace_id: bytes
    span_id: bytes
    type: str
    message: str
    fingerprint: str
    frames: str


class Seen(NamedTuple):
    """Exceptions of one journal that a reader knows: those up to an id, and some behind it."""

    up_to: int
    ids: frozenset[int]


class Arriving(Monitoring):
    """Answers about what arrives."""

    def engine_id(self) -> str:
        """Return the id of the database, by which one that was made again is told from the last."""
        return str(self.reader.query(f"SELECT min(id) FROM {VERSIONS}")[0][0])

    def delivered(self) -> dict[str, int]:
        """Return up to which arrival, in milliseconds, everything of each journal is here."""
        return read_journals(self.reader.client)

    def traces_between(
        self, after: Mapping[str, int], up_to: Mapping[str, int], known: Mapping[str, int], limit: int
    ) -> list[bytes]:
        """Return the traces of which spans arrived in a time, and none up to another, in their order.

        Args:
            after: end of the time before, by journal; all spans of other journals are new.
            up_to: end of the time, by journal.
            known: arrivals up to which spans are known, by journal.
            limit: most traces, those that arrived last.
        """
        values: dict[str, object] = {}
        new, older = _write_arrived(after, up_to, values), _write_arrived({}, known, values)
        rows = self.reader.query(
            f"SELECT trace_id FROM spans WHERE trace_id IN (SELECT trace_id FROM spans WHERE {new})"
            f" GROUP BY trace_id HAVING countIf({older}) = 0"
            f" ORDER BY min(arrived) DESC, min(start_ns) DESC, trace_id LIMIT {limit}",
            values,
        )
        return [trace_id for (trace_id,) in reversed(rows)]

    def rootless_traces(self, after: Mapping[str, int], up_to: Mapping[str, int], limit: int) -> list[bytes]:
        """Return traces without a root of which spans arrived in a time, by journal."""
        values: dict[str, object] = {}
        merged = self.merge(
            f"trace_id IN (SELECT trace_id FROM spans WHERE {_write_arrived(after, up_to, values)})",
            having="NOT rooted",
            order=f" ORDER BY start_ns DESC LIMIT {limit}",
            values=values,
        )
        return [each.trace_id for each in merged]

    def traces_since(self, since_ns: int, limit: int) -> list[bytes]:
        """Return the traces that began since a moment, the latest ones, in the order of their start."""
        merged = self.merge(
            f"trace_id IN (SELECT trace_id FROM traces WHERE root.1 >= {since_ns} OR first.1 >= {since_ns})",
            having=f"start_ns >= {since_ns}",
            order=f" ORDER BY start_ns DESC, trace_id LIMIT {limit}",
        )
        return [each.trace_id for each in reversed(merged)]

    def last_exceptions(self, behind: int) -> dict[str, Seen]:
        """Return the exceptions that are stored, with the last ids of each journal, so many."""
        last = {
            journal: int(id_)
            for journal, id_ in self.reader.query("SELECT journal, max(id) FROM exceptions GROUP BY journal")
        }
        seen = {journal: Seen(id_ - behind, frozenset()) for journal, id_ in last.items()}
        condition, values = _write_unseen(seen)
        for journal, ids in self.reader.query(
            f"SELECT journal, groupArray(id) FROM exceptions WHERE {condition} GROUP BY journal", values
        ):
            seen[journal] = Seen(last.get(journal, 0) - behind, frozenset(ids))
        return seen

    def raised_after(self, seen: Mapping[str, Seen], since_ns: int, limit: int) -> list[Raised]:
        """Return the exceptions at their origins that are not seen and were raised since a moment.

        Args:
            seen: by journal; all exceptions of others are new.
            since_ns: the moment.
            limit: most exceptions, the first ones.
        """
        condition, values = _write_unseen(seen)
        return self.reader.rows(
            Raised,
            f"FROM exceptions WHERE {_ORIGINS} AND at_ns >= {since_ns} AND ({condition})"
            f" ORDER BY journal, id, revision DESC LIMIT 1 BY journal, id LIMIT {limit}",
            values,
            journal="toString(journal)",
            fingerprint="toString(exception_group)",
        )

    def methods_of(self, spans: Collection[tuple[bytes, bytes]]) -> dict[tuple[bytes, bytes], int]:
        """Return the methods of ended spans by their trace and span ids."""
        if not spans:
            return {}
        traces, ids = ({span[place] for span in spans} for place in range(2))
        rows = self.reader.query(
            "SELECT trace_id, span_id, any(method) FROM spans"
            f" WHERE trace_id IN {write_ids(traces)} AND span_id IN {write_ids(ids)}"
            " GROUP BY trace_id, span_id"
        )
        return {(trace_id, span_id): method for trace_id, span_id, method in rows}


def _write_arrived(after: Mapping[str, int], up_to: Mapping[str, int], values: dict[str, object]) -> str:
    """Return the condition on spans that arrived in a time, by journal, and add its parameters to values."""
    parts = ["0"]
    for journal, end_ms in up_to.items():
        name = f"journal{len(values)}"
        values[name] = journal
        begin = f" AND arrived > {_write_moment(after[journal])}" if journal in after else ""
        parts.append(f"(journal = {{{name}:String}} AND arrived <= {_write_moment(end_ms)}{begin})")
    return f"({' OR '.join(parts)})"


def _write_moment(moment_ms: int) -> str:
    return f"fromUnixTimestamp64Milli(toInt64({moment_ms}), 'UTC')"


def _write_unseen(seen: Mapping[str, Seen]) -> tuple[str, dict[str, object]]:
    """Return the condition on exceptions that are not seen, and its parameters."""
    values: dict[str, object] = {f"journal{place}": journal for place, journal in enumerate(seen)}
    names = [f"{{{name}:String}}" for name in values]
    parts = [f"journal NOT IN ({', '.join(names)})" if names else "1"]
    for name, (up_to, ids) in zip(names, seen.values(), strict=True):
        known = f" AND id NOT IN {write_numbers(ids)}" if ids else ""
        parts.append(f"(journal = {name} AND id > {max(0, up_to)}{known})")
    return " OR ".join(parts), values
