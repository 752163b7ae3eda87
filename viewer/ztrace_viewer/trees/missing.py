"""Where a span is that another one names as its parent and that is not stored: pure functions over facts.

One idea: nothing is guessed that the facts contradict. A span that ended is stored, refused, in somebody's
loss or on its way; one that has not ended runs, or went with its process; what is none of these nobody
recorded. The facts are looked at in the order of their weight, and the first that fits is the reason.

A span's parent is in the same process, unless it is of kind server or consumer: then it is in another one,
and which is unknown. A parent ends after its child began and, as spans that run for more than a second are
told of while they run, not long after it ended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ztrace_collector.layout import MINUTE_NS, SECOND_NS
from ztrace_viewer.documents.trees import Loss, Missing
from ztrace_viewer.trees.states import CRASHED, SILENT, WITH_PROCESS

#: Why a tree is not whole, as ``missing`` says it: of a parent that is not stored,
LOST = "lost"
REFUSED = "refused"
NOT_TRACED = "not traced"
#: of such a parent, and of a span that has not ended,
STILL_RUNNING = "still running"
ENDED_WITH_PROCESS = "ended with its process"
#: of a span that has not ended alone,
END_LOST = "its end was lost"
ABANDONED = "let go without an end"
#: and of ids that are wrong.
CIRCLE = "parents form a circle"
REPEATED = "span id stored twice"

#: Kinds whose parent is in another process.
REMOTE_KINDS = ("server", "consumer")
#: A span that ended has arrived after so long: batches, beats and acknowledgements take a second or two.
ARRIVED_NS = 10 * SECOND_NS
#: How much later than its end a loss may have been told, by a publisher or to a collector that was busy; and
#: how long a message may have waited for its consumer.
LATE_NS = MINUTE_NS
#: A process that died while it waited for a call was last heard of up to two beats before the call began, and
#: soon after it had ended at the latest.
BEATS_NS, ANSWERED_NS = 2 * SECOND_NS, 5 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Orphan:
    """What matters of a span whose parent is not stored.

    Attributes:
        end_ns: its start while it has not ended.
    """

    span_id: bytes
    parent_id: bytes
    kind: str
    instance_id: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Process:
    """A publisher: its state by now, when it was last heard of, and the spans it has not delivered yet."""

    state: str
    last_seen_ns: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known besides the tree.

    Attributes:
        now_ns: by the collector's clock.
        refused: reasons, by the ids of the trace's spans that were refused.
        processes: by instance id: those of the orphans, and all that might have made their parents.
        losses: by instance id; likewise.
    """

    now_ns: int = 0
    refused: Mapping[bytes, str] = field(default_factory=dict)
    processes: Mapping[str, Process] = field(default_factory=dict)
    losses: Mapping[str, Sequence[Loss]] = field(default_factory=dict)


NO_FACTS = Facts()


def explain_orphan(orphan: Orphan, facts: Facts) -> Missing:
    """Tell where an orphan's parent is.

    Returns:
        An entry of ``missing``. Its reason is REFUSED, LOST (with the gap that fits best), STILL_RUNNING,
        ENDED_WITH_PROCESS or NOT_TRACED.
    """
    entry: Missing = {
        "reason": NOT_TRACED,
        "span_id": orphan.span_id.hex(),
        "parent_id": orphan.parent_id.hex(),
    }
    if orphan.parent_id in facts.refused:
        return {**entry, "reason": REFUSED, "refusal": facts.refused[orphan.parent_id]}
    if orphan.kind not in REMOTE_KINDS:
        if gap := _best_gap(orphan, facts.losses.get(orphan.instance_id, ())):
            return {**entry, "reason": LOST, "gap": gap}
        if reason := _explain_by_process(orphan, facts):
            return {**entry, "reason": reason}
    # In another process, as whatever continues a context that came by some other way.
    elsewhere = [
        loss
        for instance_id, losses in facts.losses.items()
        if instance_id != orphan.instance_id
        for loss in losses
    ]
    if gap := _best_gap(orphan, elsewhere):
        return {**entry, "reason": LOST, "gap": gap}
    others = [process for key, process in facts.processes.items() if key != orphan.instance_id]
    if any(_died_meanwhile(process, orphan) for process in others):
        return {**entry, "reason": ENDED_WITH_PROCESS}
    age_ns = facts.now_ns - orphan.end_ns
    if any(
        process.state not in WITH_PROCESS and (age_ns < ARRIVED_NS or (process.waiting and age_ns < LATE_NS))
        for process in others
    ):
        return {**entry, "reason": STILL_RUNNING}
    return entry


def _best_gap(orphan: Orphan, losses: Sequence[Loss]) -> Loss | None:
    """Return the loss that may have the parent in it: the nearest to the orphan's end, then the largest."""
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
    """Tell what the state of the orphan's own process says of a parent in it that is in no loss."""
    process = facts.processes.get(orphan.instance_id)
    if process is None:
        return None
    if process.state in WITH_PROCESS:
        # A parent that ran until an end much later was told of while it ran.
        return ENDED_WITH_PROCESS if process.last_seen_ns <= orphan.end_ns + LATE_NS else None
    return STILL_RUNNING if process.waiting or facts.now_ns - orphan.end_ns < ARRIVED_NS else None


def _died_meanwhile(process: Process, orphan: Orphan) -> bool:
    """Tell whether a process may have died while it waited for the orphan.

    One that said bye has told of what it left open.
    """
    begin_ns, end_ns = orphan.start_ns - BEATS_NS, orphan.end_ns + ANSWERED_NS
    return process.state in (CRASHED, SILENT) and begin_ns <= process.last_seen_ns <= end_ns
