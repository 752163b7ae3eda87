"""Extent of a trace in time, from spans whose clocks may differ.

One idea: a trace begins when its root does, so a clock that is off elsewhere moves nothing. Clocks that are
off by years belong to machines that have lost the time; their spans do not count for the extent. Of two
spans that are years apart the later one counts, unless it lies in the future.

The collector extends the rows of ``traces`` span by span, and readers do the same with the spans of a tree.
"""

from typing import Protocol

#: Distance beyond which two spans of a trace do not have the same time, and longest span that counts.
FAR_NS = 365 * 24 * 3600 * 10**9
#: Time by which clocks may be ahead of the collector's.
AHEAD_NS = 24 * 3600 * 10**9


class Extent(Protocol):
    """Start and end of a trace, and the start of its root if it has one.

    Attributes:
        start_ns: start of the root, or of the earliest span while there is no root whose time counts.
        end_ns: latest end of the spans.
        root_start_ns: start of the root, whether it counts or not.
    """

    start_ns: int
    end_ns: int
    root_start_ns: int | None


def extend(extent: Extent, start_ns: int, end_ns: int, now_ns: int) -> bool:
    """Extend a trace by a span; return whether the span's time counts.

    Args:
        extent: the trace, which has the extent of its first span at first.
        start_ns: start of the span.
        end_ns: end of the span.
        now_ns: present time, by which a span lies in the future.
    """
    if _is_near(extent, start_ns, end_ns):
        if end_ns > extent.end_ns:
            extent.end_ns = end_ns
        if start_ns < extent.start_ns != extent.root_start_ns:
            extent.start_ns = start_ns
        return True
    latest_ns = now_ns + AHEAD_NS
    if end_ns > latest_ns or end_ns - start_ns > FAR_NS:
        return False
    is_settled = extent.end_ns <= latest_ns and extent.end_ns - extent.start_ns <= FAR_NS
    if is_settled and end_ns < extent.end_ns:
        return False
    extent.start_ns, extent.end_ns = start_ns, end_ns
    return True


def set_root(extent: Extent, start_ns: int, end_ns: int) -> None:
    """Make a span, by which the trace was extended, its root."""
    extent.root_start_ns = start_ns
    if _is_near(extent, start_ns, end_ns):
        extent.start_ns = start_ns


def _is_near(extent: Extent, start_ns: int, end_ns: int) -> bool:
    return start_ns >= extent.end_ns - FAR_NS and end_ns <= extent.start_ns + FAR_NS
