"""Relations of spans in a call tree, each below its span: outlasted parents, and links.

One idea: within a process, starts and ends are of one clock. Between processes only durations compare; a
call is served within itself, so one that takes longer than its caller waited ends after it.
"""

from collections.abc import Iterator, Sequence

from rich.text import Text

from ztrace_viewer.documents.trees import SpanDocument, SpanLink
from ztrace_viewer.render.gaps import end_so_far
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.trees.tree import walk

#: Excess over the parent's end that is ignored: other tracers round times.
_ROUNDING_NS = 1_000_000
#: Links of a span that are shown.
_SHOWN = 3


def find_outlasting(roots: Sequence[SpanDocument], now_ns: int) -> dict[int, str]:
    """Return the lines below spans that begin or end after their parent has ended, by the span's identity.

    Consumers are skipped: no caller waits for them.
    """
    lines: dict[int, str] = {}
    for parent, _ in walk(roots):
        duration_ns = parent["duration_ns"]
        if duration_ns is None:
            continue
        for span in parent["children"]:
            verb, late_ns = _outlast(span, parent, duration_ns, now_ns)
            if verb:
                lines[id(span)] = f"{verb} {format_duration(late_ns)} after its parent ended"
    return lines


def _outlast(span: SpanDocument, parent: SpanDocument, duration_ns: int, now_ns: int) -> tuple[str, int]:
    if span["kind"] == "consumer":
        return "", 0
    if span["instance"]["id"] == parent["instance"]["id"]:
        parent_end_ns = parent["start_ns"] + duration_ns
        began_ns = span["start_ns"] - parent_end_ns
        if began_ns > 0:
            return "began", began_ns
        late_ns = end_so_far(span, now_ns) - parent_end_ns
    else:
        late_ns = end_so_far(span, now_ns) - span["start_ns"] - duration_ns
    if late_ns <= _ROUNDING_NS:
        return "", 0
    return ("ended" if span["unfinished"] is None else "open"), late_ns


def draw_links(span: SpanDocument, trace_id: str, guide: str, width: int) -> Iterator[Text]:
    """Yield the lines of a span's links, without the one of a consumer to its parent.

    Args:
        span: of a tree.
        trace_id: of the tree.
        guide: prefix of the lines below the span.
        width: columns of the screen.
    """
    links = [
        link for link in span["links"] if (link["trace_id"], link["span_id"]) != (trace_id, span["parent_id"])
    ]
    shown = links if len(links) <= _SHOWN + 1 else links[:_SHOWN]
    lines = [_tell_link(link, trace_id) for link in shown]
    if len(shown) < len(links):
        lines.append(f"… {plural(len(links) - len(shown), 'more link')}; --json has them all")
    for line in lines:
        whole = Text.assemble((guide, "dim"), line)
        whole.truncate(width, overflow="ellipsis")
        yield whole


def _tell_link(link: SpanLink, trace_id: str) -> str:
    span = f"span {clean(link['span_id'])}"
    if link["trace_id"] == trace_id:
        return f"linked to {span} of this trace"
    return f"linked to trace {clean(link['trace_id'])}, {span}"
