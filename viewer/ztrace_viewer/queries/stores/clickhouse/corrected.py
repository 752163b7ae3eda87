"""Exceptions of traces that several journals have, as they are in the whole trace.

One idea: `ztrace_collector.clickhouse.settling.origins` writes rows that take the place of the journals', and
what they add to counts. A group's row shows its latest occurrence: where that one has turned out to have
begun elsewhere, the latest of the others is looked up.
"""

from ztrace_collector.tables.groups import OTHER, OTHER_TEMPLATE

#: Source of ``exception_minutes`` with what is added to the counts of journals.
MINUTES = """(
SELECT exception_group, minute, count, uncaught_count FROM exception_minutes FINAL
UNION ALL
SELECT exception_group, minute, count, uncaught_count FROM corrected_minutes
)"""
#: Columns that differ in a corrected row.
_COLUMNS = ("origin_trace_id", "origin_span_id", "exception_group", "how", "derived", "other_origins")
#: Occurrences that a journal has counted and that are not one in the whole trace.
_MOVED = "SELECT trace_id, journal, id FROM corrected_exceptions FINAL WHERE count < 0"
#: Rows of groups whose first or latest occurrence may be one of these.
_DOUBTFUL = """
SELECT g.fingerprint, g.journal
FROM (SELECT fingerprint, journal, first_ns, last_ns FROM exception_groups FINAL) AS g
    INNER JOIN (
        SELECT toString(exception_group) AS fingerprint, journal, min(first_ns) AS first, max(last_ns) AS last
        FROM corrected_minutes GROUP BY fingerprint, journal
    ) AS m ON m.fingerprint = g.fingerprint AND m.journal = g.journal
WHERE m.first <= g.first_ns OR m.last >= g.last_ns
"""
#: Their first and latest occurrences that are left.
_LEFT = f"""
SELECT toString(exception_group) AS fingerprint, journal, min(at_ns) AS first_at_ns,
    argMax((at_ns, trace_id, span_id, type, message, kind, frames), (at_ns, trace_id, span_id)) AS latest
FROM exceptions FINAL
WHERE (exception_group, journal) IN ({_DOUBTFUL})
    AND span_id = origin_span_id AND trace_id = origin_trace_id
    AND (trace_id, journal, id) NOT IN ({_MOVED})
GROUP BY fingerprint, journal
"""
#: The same with the names of their methods.
_NAMED = f"""
SELECT l.fingerprint AS fingerprint, l.journal AS journal, l.first_at_ns AS first_at_ns, l.latest AS latest,
    m.name AS method_name
FROM ({_LEFT}) AS l
    LEFT ANY JOIN (
        SELECT trace_id, span_id, method FROM spans WHERE trace_id IN (SELECT latest.2 FROM ({_LEFT}))
    ) AS s ON s.trace_id = l.latest.2 AND s.span_id = l.latest.3
    LEFT ANY JOIN (SELECT id, name FROM methods FINAL) AS m ON m.id = s.method
"""
#: Groups of which no occurrence is left.
_GONE = f"""
SELECT exception_group FROM {MINUTES}
WHERE exception_group IN (SELECT exception_group FROM corrected_minutes)
GROUP BY exception_group HAVING sum(count) <= 0
"""
#: Source of ``exception_groups``, as far as the occurrences of its rows are left.
GROUPS = f"""
SELECT g.* REPLACE (
    if(n.fingerprint = '', g.first_ns, n.first_at_ns) AS first_ns,
    if(n.fingerprint = '', g.last_ns, n.latest.1) AS last_ns,
    if(n.fingerprint = '', g.trace_id, n.latest.2) AS trace_id,
    if(n.fingerprint = '', g.origin_span_id, n.latest.3) AS origin_span_id,
    if(n.fingerprint = '' OR g.type = '{OTHER}', g.type, n.latest.4) AS type,
    multiIf(n.fingerprint = '', g.message, g.template != '{OTHER_TEMPLATE}' OR n.latest.4 = '', n.latest.5,
        concat(n.latest.4, ': ', n.latest.5)) AS message,
    if(n.method_name = '', g.name, n.method_name) AS name,
    if(n.fingerprint = '', g.kind, n.latest.6) AS kind,
    if(n.fingerprint = '', g.frames, n.latest.7) AS frames
)
FROM (SELECT * FROM exception_groups FINAL WHERE fingerprint NOT IN ({_GONE})) AS g
    LEFT ANY JOIN ({_NAMED}) AS n ON n.fingerprint = g.fingerprint AND n.journal = g.journal
WHERE n.fingerprint != '' OR (g.fingerprint, g.journal) NOT IN ({_DOUBTFUL})
"""


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
