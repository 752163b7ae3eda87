"""States of publishers, and of spans without an end.

One idea: a span is as alive as its process. While the process is heard from, the span runs; once it is not,
the span ended with it, at the last sign of life.
"""

from ztrace_collector.layout import MINUTE_NS, SILENT_AFTER_NS
from ztrace_viewer.documents.trees import UnfinishedState

#: A publisher reports each open span again within a minute, a few seconds later when there are very many.
#: After two minutes without a report from a live publisher the span has ended, and its end was lost.
LOST_AFTER_NS = 2 * MINUTE_NS

#: States of a span without an end. Running: its process is alive. Ended, crashed, silent: its process is
#: gone, in that way. Lost: its process is alive and no longer reports it. Abandoned: its process holds no
#: reference to it any more, so no code can end it.
RUNNING, ENDED, CRASHED, SILENT = "running", "ended", "crashed", "silent"
LOST, ABANDONED = "lost", "abandoned"
#: States of a span that went with its process.
WITH_PROCESS = (ENDED, CRASHED, SILENT)

#: Short texts of the states, for tables.
STATE_WORDS = {
    RUNNING: "running",
    ENDED: "ended with its process",
    CRASHED: "its process crashed",
    SILENT: "its process is silent",
    LOST: "its end was lost",
    ABANDONED: "let go without an end",
}


def state_of_publisher(state: str, last_seen_ns: int, now_ns: int) -> str:
    """Return a publisher's present state: a ``live`` one that missed its beats is ``silent``.

    One that was last seen in the future is silent as well: a running collector keeps these times in step with
    a clock that jumps, so no collector hears from it.
    """
    return SILENT if state == "live" and abs(now_ns - last_seen_ns) > SILENT_AFTER_NS else state


def state_of_span(
    publisher_state: str, last_seen_ns: int, seen_ns: int, abandoned: bool, now_ns: int
) -> UnfinishedState:
    """Return the state of a span without an end.

    Args:
        publisher_state: ``live``, ``ended`` or ``crashed``, as stored.
        last_seen_ns: time of the publisher's last message.
        seen_ns: time of its last message that reported the span.
        abandoned: the publisher reported that the span was garbage-collected.
        now_ns: present time, by the same clock.
    """
    state = state_of_publisher(publisher_state, last_seen_ns, now_ns)
    if abandoned:
        return {"state": ABANDONED, "last_seen_ns": seen_ns}
    if state in WITH_PROCESS:
        return {"state": state, "last_seen_ns": last_seen_ns}
    if last_seen_ns - seen_ns > LOST_AFTER_NS:
        return {"state": LOST, "last_seen_ns": seen_ns}
    return {"state": RUNNING, "last_seen_ns": last_seen_ns}
