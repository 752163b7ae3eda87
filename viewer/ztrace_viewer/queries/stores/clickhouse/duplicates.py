"""Rows of spans that several journals have, as their publisher moved before it heard that they were stored.

One idea: the collector's settler notes the rows that do not count, and takes spans from the sums. There are
few, so where they are read, rows of spans and exceptions are left out, and counts of exceptions corrected.
"""

from ztrace_collector.layout import MINUTE_NS

_KEYS = "(trace_id, span_id, instance, journal)"
_DUPLICATES = "SELECT trace_id, span_id, instance, journal FROM duplicates"
_OF_DUPLICATES = "trace_id IN (SELECT trace_id FROM duplicates)"

#: Source of ``exception_minutes`` with further rows for those that are counted in several journals.
MINUTES = f"""(
SELECT exception_group, minute, count, uncaught_count FROM exception_minutes FINAL
UNION ALL
SELECT exception_group, intDiv(at_ns, {MINUTE_NS}) AS minute, toInt64(-1) AS count,
    -toInt64((trace_id, span_id, journal) IN (SELECT trace_id, origin_span_id, journal
        FROM uncaught_exceptions FINAL WHERE {_OF_DUPLICATES})) AS uncaught_count
FROM exceptions FINAL
WHERE {_OF_DUPLICATES} AND {_KEYS} IN ({_DUPLICATES}) AND exception_group != ''
    AND span_id = origin_span_id AND trace_id = origin_trace_id
)"""


def but_duplicates(condition: str = "1") -> str:
    """Return a further condition on rows of spans or exceptions, that they count.

    Args:
        condition: on the trace id alone.
    """
    return f" AND {_KEYS} NOT IN ({_DUPLICATES} WHERE {condition})"
