"""Gaps of a tree in words: missing parents, and spans without an end.

One idea: each gap is one line at its place in the tree, and the last line counts them.
"""

from collections import Counter
from collections.abc import Sequence

from ztrace.libraries import LIBRARIES, PEER_NOT_KNOWN
from ztrace_viewer.documents.trees import Missing, SpanDocument
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.moments import format_stretch
from ztrace_viewer.trees.missing import (
    ENDED_WITH_PROCESS,
    NEVER_RECEIVED,
    NOT_TRACED,
    REFUSED,
    STILL_RUNNING,
    THINNED,
)
from ztrace_viewer.trees.missing import LOST as LOST_PARENT
from ztrace_viewer.trees.states import ABANDONED, ENDED, LOST, RUNNING

#: Words between a number of orphans and the reason.
_OF_ORPHANS: dict[str, str] = dict.fromkeys(
    (LOST_PARENT, REFUSED, STILL_RUNNING, ENDED_WITH_PROCESS, NOT_TRACED, NEVER_RECEIVED, THINNED),
    " without parent",
)

#: Attributes with the reason for which a request has no context.
_UNJOINED = frozenset(row.unjoined for row in LIBRARIES.values() if row.unjoined)


def tell_unjoined(span: SpanDocument) -> str:
    """Return the line below a request whose server's spans may be in another tree, empty for any other."""
    if any(span["attributes"].get(name) == PEER_NOT_KNOWN for name in _UNJOINED):
        return f"not joined ({PEER_NOT_KNOWN}): spans of the server are in a tree of their own"
    return ""


def tell_missing(entry: Missing, now_ns: int) -> str:
    """Return the line in the place of a missing parent."""
    reason = clean(entry["reason"])
    if "gap" in entry:
        gap = entry["gap"]
        when = format_stretch(gap["first_ns"], gap["last_ns"], now_ns)
        spans = f"{plural(gap['span_count'], 'span')} of {clean(gap['service'])}"
        return f"? parent {reason}: {spans}, {when}, {clean(gap['reason'])}"
    if "refusal" in entry:
        return f"? parent {reason}: {clean(entry['refusal'])}"
    more = {
        NOT_TRACED: " (no publisher there)",
        STILL_RUNNING: ", or in flight",
        THINNED: ", with all of this tree that came before",
    }.get(reason, "")
    return f"? {reason}" if reason.startswith("parent") else f"? parent {reason}{more}"


def end_so_far(span: SpanDocument, now_ns: int) -> int:
    """Return the end of a span, Unix; for an open span now, or the last sign of life."""
    start_ns, unfinished = span["start_ns"], span["unfinished"]
    if unfinished is None:
        return start_ns + (span["duration_ns"] or 0)
    return max(start_ns, now_ns if unfinished["state"] == RUNNING else unfinished["last_seen_ns"])


def tell_unfinished(span: SpanDocument, now_ns: int) -> str:
    """Return the line below a span without an end, empty for an ended one."""
    unfinished = span["unfinished"]
    if unfinished is None:
        return ""
    state, seen_ns = unfinished["state"], unfinished["last_seen_ns"]
    seen = format_stretch(seen_ns, seen_ns, now_ns)
    if state == RUNNING:
        start = format_stretch(span["start_ns"], span["start_ns"], now_ns)
        return f"running since {start}, {format_duration(end_so_far(span, now_ns) - span['start_ns'])}"
    return {
        ENDED: f"ended with its process at {seen}",
        LOST: f"its end was lost, last reported at {seen}",
        ABANDONED: f"let go without an end, found at {seen}",
    }.get(state, f"ended with its process ({clean(state)}), last heard from at {seen}")


def tell_complete(missing: Sequence[Missing]) -> str:
    """Return the last line of an incomplete tree."""
    counts = Counter(("parent_id" in entry, clean(entry["reason"])) for entry in missing)
    told = [
        f"{plural(count, 'span')}{_OF_ORPHANS.get(reason, '') if orphan else ''}: {reason}"
        for (orphan, reason), count in counts.items()
    ]
    return f"incomplete; {', '.join(told)}"
