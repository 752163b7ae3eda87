"""Exceptions of traces that several journals have, as they are in the whole trace.

One idea: `ztrace_collector.clickhouse.settling.origins` writes rows that take the place of the journals', and
what they add to counts. A group's row shows its latest occurrence: where that one has turned out to have
begun elsewhere, the latest of the others is looked up, which reads the exceptions of these groups alone.
"""

from collections.abc import Sequence
from typing import Any

from ztrace_collector.tables.groups import OTHER, OTHER_TEMPLATE
from ztrace_viewer.queries.stores.clickhouse.reading import Reader, write_id, write_ids

#: Source of ``exception_minutes`` with what is added to the counts of journals.
MINUTES = """(
SELECT exception_group, minute, count, uncaught_count FROM exception_minutes FINAL
UNION ALL
SELECT exception_group, minute, count, uncaught_count FROM corrected_minutes
)"""
#: Columns that differ in a corrected row.
_COLUMNS = ("origin_trace_id", "origin_span_id", "exception_group", "how", "derived", "other_origins")
#: Groups of which no occurrence is left.
_GONE = f"""
SELECT exception_group FROM {MINUTES}
WHERE exception_group IN (SELECT exception_group FROM corrected_minutes)
GROUP BY exception_group HAVING sum(count) <= 0
"""
#: Rows of groups whose first or latest occurrence may have begun elsewhere.
_DOUBTFUL = f"""
SELECT g.fingerprint, toString(g.journal)
FROM (SELECT fingerprint, journal, first_ns, last_ns FROM exception_groups FINAL) AS g
    INNER JOIN (
        SELECT toString(exception_group) AS fingerprint, journal, min(first_ns) AS first, max(last_ns) AS last
        FROM corrected_minutes WHERE exception_group NOT IN ({_GONE}) GROUP BY fingerprint, journal
    ) AS m ON m.fingerprint = g.fingerprint AND m.journal = g.journal
WHERE m.first <= g.first_ns OR m.last >= g.last_ns
"""
#: Their first occurrences that are left, and the keys of the latest ones.
_LEFT = """
SELECT toString(exception_group) AS fingerprint, toString(journal) AS its_journal, min(at_ns),
    argMax((trace_id, id), (at_ns, trace_id, span_id)) AS latest
FROM exceptions FINAL
WHERE exception_group IN ({0}) AND (exception_group, journal) IN ({1})
    AND span_id = origin_span_id AND trace_id = origin_trace_id
    AND (trace_id, journal, id) NOT IN (
        SELECT trace_id, journal, id FROM corrected_exceptions FINAL
        WHERE count < 0 AND counted_group IN ({0})
    )
GROUP BY fingerprint, its_journal
"""
_REMAINING = f"SELECT * FROM exception_groups FINAL WHERE fingerprint NOT IN ({_GONE})"
_SHOWN = f"""
SELECT g.* REPLACE (
    if(n.fingerprint = '', g.first_ns, n.first_at_ns) AS first_ns,
    if(n.fingerprint = '', g.last_ns, n.at_ns) AS last_ns,
    if(n.fingerprint = '', g.trace_id, n.trace_id) AS trace_id,
    if(n.fingerprint = '', g.origin_span_id, n.span_id) AS origin_span_id,
    if(n.fingerprint = '' OR g.type = '{OTHER}', g.type, n.type) AS type,
    multiIf(n.fingerprint = '', g.message, g.template != '{OTHER_TEMPLATE}' OR n.type = '', n.message,
        concat(n.type, ': ', n.message)) AS message,
    if(n.method_name = '', g.name, n.method_name) AS name,
    if(n.fingerprint = '', g.kind, n.kind) AS kind,
    if(n.fingerprint = '', g.frames, n.frames) AS frames
)
FROM ({_REMAINING}) AS g LEFT ANY JOIN (
    SELECT l.fingerprint AS fingerprint, l.journal AS journal, l.first_at_ns AS first_at_ns,
        e.at_ns AS at_ns, e.trace_id AS trace_id, e.span_id AS span_id, e.type AS type, e.message AS message,
        e.kind AS kind, e.frames AS frames, m.name AS method_name
    FROM (
        SELECT t.1 AS fingerprint, t.2 AS journal, t.3 AS first_at_ns, toFixedString(t.4, 16) AS trace_id,
            t.5 AS id
        FROM (SELECT arrayJoin([{{left}}]) AS t)
    ) AS l
        INNER JOIN (SELECT * FROM exceptions FINAL WHERE trace_id IN {{ids}}) AS e
            ON e.trace_id = l.trace_id AND e.journal = l.journal AND e.id = l.id
        LEFT ANY JOIN (SELECT trace_id, span_id, method FROM spans WHERE trace_id IN {{ids}}) AS s
            ON s.trace_id = e.trace_id AND s.span_id = e.span_id
        LEFT ANY JOIN (SELECT id, name FROM methods FINAL) AS m ON m.id = s.method
) AS n ON n.fingerprint = g.fingerprint AND n.journal = g.journal
WHERE n.fingerprint != '' OR (g.fingerprint, g.journal) NOT IN ({{doubtful}})
"""


def write_groups(reader: Reader) -> str:
    """Return a source of ``exception_groups``, as far as occurrences of its rows are left."""
    doubtful = reader.query(_DOUBTFUL)
    if not doubtful:
        return _REMAINING
    pairs = ", ".join(f"({_write(group)}, {_write(journal)})" for group, journal in doubtful)
    groups = ", ".join(sorted({_write(group) for group, _ in doubtful}))
    left = reader.query(_LEFT.format(groups, pairs))
    if not left:
        return f"{_REMAINING} AND (fingerprint, journal) NOT IN ({pairs})"
    ids = write_ids({trace_id for *_, (trace_id, _) in left})
    return _SHOWN.format(left=", ".join(map(_write_left, left)), ids=ids, doubtful=pairs)


def _write_left(row: Sequence[Any]) -> str:
    group, journal, first_ns, (trace_id, id_) = row
    return f"({_write(group)}, {_write(journal)}, toInt64({first_ns}), {write_id(trace_id)}, toUInt64({id_}))"


def _write(text: str) -> str:
    """Return the SQL of a text."""
    return f"x'{text.encode().hex()}'"


def correct(condition: str) -> str:
    """Return a source of the exceptions of some traces.

    Args:
        condition: on the trace id alone.
    """
    columns = ", ".join(f"if(c.revision = 0, e.{name}, c.{name}) AS {name}" for name in _COLUMNS)
    return (
        f"(SELECT e.* REPLACE ({columns}) FROM (SELECT * FROM exceptions FINAL WHERE {condition}) AS e"
        f" LEFT ANY JOIN (SELECT * FROM corrected_exceptions FINAL WHERE {condition}) AS c"
        " ON c.trace_id = e.trace_id AND c.journal = e.journal AND c.id = e.id)"
    )
