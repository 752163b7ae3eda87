"""Rows of spans that several journals have, as their publisher moved before it heard that they were stored.

One idea: the collector's settler notes the rows that do not count, and takes spans from the sums. There are
few, so where they are read, rows of spans and exceptions are left out.
"""

_KEYS = "(trace_id, span_id, instance, journal)"
_DUPLICATES = "SELECT trace_id, span_id, instance, journal FROM duplicates"


def but_duplicates(condition: str = "1") -> str:
    """Return a further condition on rows of spans or exceptions, that they count.

    Args:
        condition: on the trace id alone.
    """
    return f" AND {_KEYS} NOT IN ({_DUPLICATES} WHERE {condition})"
