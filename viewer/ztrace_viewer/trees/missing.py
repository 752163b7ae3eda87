"""Reasons for which the parent of a span is not stored.

One idea: no reason contradicts the facts. A span that ended is stored, refused, part of a loss, or in flight;
one that has not ended is running or ended with its process; any other was not recorded. The facts are
examined in the order of their weight, and the first that fits is the reason. Of a process that sent no beats,
its spans came by OTLP or from a file, nothing is known but that a parent was never received.

A span's parent is in the same process, except for the kinds server and consumer, whose parent is in another,
unknown one. A parent ends after its child began and, since spans of more than a second are reported while
they run, not long after it ended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ztrace_collector.layout import MINUTE_NS, SECOND_NS
from ztrace_viewer.documents.trees import Loss, Missing
from ztrace_viewer.trees.states import CRASHED, SILENT, WITH_PROCESS

#: Reasons in ``missing``: for a parent that is not stored,
LOST = "lost"
REFUSED = "refused"
NOT_TRACED = "not traced"
NEVER_RECEIVED = "never received"
THINNED = "thinned"
#: for such a parent and for a span without an end,
STILL_RUNNING = "still running"
ENDED_WITH_PROCESS = "ended with its process"
#: for a span without an end only,
END_LOST = "its end was lost"
ABANDONED = "let go without an end"
#: and for wrong ids.
CIRCLE = "parents form a circle"
REPEATED = "span id stored twice"

#: Kinds of spans whose parent is in another process.
REMOTE_KINDS = ("server", "consumer")
#: Time after which an ended span has arrived: batches, beats and acknowledgements take a second or two.
ARRIVED_NS = 10 * SECOND_NS
#: Longest delay of the report of a loss, by a publisher or by a busy collector, and longest time of a message
#: in its queue.
LATE_NS = MINUTE_NS
#: A process that died while it waited for a call was last heard from at most two beats before the call began
#: and five after it ended.
BEATS_NS, ANSWERED_NS = 2 * SECOND_NS, 5 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Orphan:
    """Properties of a span whose parent is not stored.

    Attributes:
        end_ns: its end, or its start while it has none.
    """

    span_id: bytes
    parent_id: bytes
    kind: str
    instance_id: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Process:
    """A publisher: its present state, its last message, and the number of its spans in flight.

    Attributes:
        foreign: all of its spans came by OTLP or from a file, so its state says nothing.
    """

    state: str
    last_seen_ns: int
    waiting: int
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts beside the tree.

    Attributes:
        now_ns: present time, by the collector's clock.
        refused: reasons by the ids of the trace's refused spans.
        processes: publishers by instance id: those of the orphans, and any that may have made their parents.
        losses: losses by instance id, of the same publishers.
        is_thinned: spans of the trace have been thinned, and others came later.
    """

    now_ns: int = 0
    refused: Mapping[bytes, str] = field(default_factory=dict)
    processes: Mapping[str, Process] = field(default_factory=dict)
    losses: Mapping[str, Sequence[Loss]] = field(default_factory=dict)
    is_thinned: bool = False


NO_FACTS = Facts()


def explain_orphan(orphan: Orphan, facts: Facts) -> Missing:
    """Return the reason for which an orphan's parent is not stored.

    Returns:
        An entry of ``missing``. Its reason is REFUSED, THINNED, LOST (with the gap that fits best),
        STILL_RUNNING, ENDED_WITH_PROCESS, NEVER_RECEIVED or NOT_TRACED.
    """
    own = facts.processes.get(orphan.instance_id)
    foreign = own is not None and own.foreign
    age_ns = facts.now_ns - orphan.end_ns
    entry: Missing = {
        "reason": NEVER_RECEIVED if foreign else NOT_TRACED,
        "span_id": orphan.span_id.hex(),
        "parent_id": orphan.parent_id.hex(),
    }
    if orphan.parent_id in facts.refused:
        return {**entry, "reason": REFUSED, "refusal": facts.refused[orphan.parent_id]}
    if facts.is_thinned:
        return {**entry, "reason": THINNED}
    if orphan.kind not in REMOTE_KINDS:
        if gap := _best_gap(orphan, facts.losses.get(orphan.instance_id, ())):
            return {**entry, "reason": LOST, "gap": gap}
        if reason := _explain_by_process(orphan, facts):
            return {**entry, "reason": reason}
    # The parent may be in another process, as after a context that was passed on by other means.
    elsewhere = [
        loss
        for instance_id, losses in facts.losses.items()
        if instance_id != orphan.instance_id
        for loss in losses
    ]
    if gap := _best_gap(orphan, elsewhere):
        return {**entry, "reason": LOST, "gap": gap}
    others = [
        process
        for key, process in facts.processes.items()
        if key != orphan.instance_id and not process.foreign
    ]
    if any(_died_meanwhile(process, orphan) for process in others):
        return {**entry, "reason": ENDED_WITH_PROCESS}
    if (foreign and age_ns < ARRIVED_NS) or any(
        process.state not in WITH_PROCESS and (age_ns < ARRIVED_NS or (process.waiting and age_ns < LATE_NS))
        for process in others
    ):
        return {**entry, "reason": STILL_RUNNING}
    return entry


def _best_gap(orphan: Orphan, losses: Sequence[Loss]) -> Loss | None:
    """Return the loss most likely to include the parent: nearest to the orphan's end, then largest."""
    earliest_ns = orphan.start_ns - (LATE_NS if orphan.kind == "consumer" else 0)
    fitting = [
        loss
        for loss in losses
        if loss["last_ns"] >= earliest_ns and loss["first_ns"] <= orphan.end_ns + LATE_NS
    ]

    def distance(loss: Loss) -> tuple[int, int]:
        away_ns = max(loss["first_ns"] - orphan.end_ns, orphan.end_ns - loss["last_ns"], 0)
        return away_ns, -loss["span_count"]

    return min(fitting, key=distance, default=None)


def _explain_by_process(orphan: Orphan, facts: Facts) -> str | None:
    """Return the reason by the state of the orphan's own process, for a parent in no loss."""
    process = facts.processes.get(orphan.instance_id)
    if process is None or process.foreign:
        return None
    if process.state in WITH_PROCESS:
        # A parent that ended much later would have been reported while it ran.
        return ENDED_WITH_PROCESS if process.last_seen_ns <= orphan.end_ns + LATE_NS else None
    return STILL_RUNNING if process.waiting or facts.now_ns - orphan.end_ns < ARRIVED_NS else None


def _died_meanwhile(process: Process, orphan: Orphan) -> bool:
    """Return whether a process may have died while it waited for the orphan.

    A process that ended in order has reported the spans it left open.
    """
    begin_ns, end_ns = orphan.start_ns - BEATS_NS, orphan.end_ns + ANSWERED_NS
    return process.state in (CRASHED, SILENT) and begin_ns <= process.last_seen_ns <= end_ns
