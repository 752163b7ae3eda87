"""One span on the terminal, with all that is known of it, and its sampled code."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from ztrace_viewer.documents.profile import SpanStack
from ztrace_viewer.documents.trees import SpanDocument
from ztrace_viewer.render.code import draw_code_of_span
from ztrace_viewer.render.failures import draw_failure
from ztrace_viewer.render.gaps import tell_unfinished
from ztrace_viewer.render.relations import draw_links
from ztrace_viewer.render.span_events import draw_events, tell_attribute
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.links import NO_LINKS, Links
from ztrace_viewer.terminal.moments import format_ago, format_moment
from ztrace_viewer.terminal.screen import name_call

#: Line in place of the code of a span that has none.
NOT_SAMPLED = "no code was sampled in this span: set ZTRACE_PROFILE=slow, or run 'ztrace profile --live'"


def draw_span(
    span: SpanDocument,
    trace_id: str,
    stacks: Sequence[SpanStack] | None,
    width: int,
    now_ns: int,
    links: Links = NO_LINKS,
) -> Iterator[Text]:
    """Yield the lines of a span.

    Args:
        span: the span.
        trace_id: id of its tree.
        stacks: its sampled code; None to leave it out.
        width: columns of the screen.
        now_ns: present time.
        links: links from ids to the page.
    """
    name = name_call(span["service"], span["name"], span["kind"])
    style = "bold red" if span["status"] == "error" else "bold"
    yield Text.assemble(
        ("span ", "dim"),
        (span["span_id"], links.trace(trace_id, "", span["span_id"])),
        "  ",
        (name, style),
        f"  {format_duration(span['duration_ns'])}",
    )
    yield _cut(Text(_tell_facts(span, now_ns)), width)
    instance = span["instance"]
    where = [f"process {instance['pid']}" if instance["pid"] else "", clean(instance["host"])]
    yield _cut(Text(f"in {' on '.join(filter(None, where)) or 'an unknown process'}"), width)
    # As log lines have them by the format of the tutorial; long enough to be cut, so on a line of its own.
    yield Text.assemble(("in logs ", "dim"), f"trace={trace_id} span={span['span_id']}")
    if told := tell_unfinished(span, now_ns):
        yield _cut(Text(told, "yellow"), width)
    for key, value in span["attributes"].items():
        yield _cut(Text(tell_attribute(key, value)), width)
    yield from draw_links(span, trace_id, "", width)
    yield from draw_events({**span, "attributes": {}}, "", width, slow=False)
    yield from draw_failure(span, "", {}, width)
    if stacks is not None:
        yield Text()
        if stacks:
            yield from draw_code_of_span(stacks, width)
        else:
            yield _cut(Text(_tell_not_sampled(span), "dim"), width)


def _tell_not_sampled(span: SpanDocument) -> str:
    """Return the line in place of code: time that a span waits for a call within it is the call's."""
    own_ns, duration_ns = span["self_ns"], span["duration_ns"]
    if span["children"] and own_ns is not None and duration_ns is not None and 2 * own_ns < duration_ns:
        return f"no code was sampled in its own {format_duration(own_ns)}; calls below it may have some"
    return NOT_SAMPLED


def _tell_facts(span: SpanDocument, now_ns: int) -> str:
    moment, ago = format_moment(span["start_ns"]), format_ago(span["start_ns"], now_ns)
    facts = [moment if moment == ago else f"{moment} ({ago})", clean(span["kind"]), span["status"]]
    times = (("own", span["self_ns"]), ("critical", span["critical_ns"]), ("CPU", span["cpu_ns"]))
    facts += [f"{word} {format_duration(ns)}" for word, ns in times if ns is not None]
    facts.append(plural(len(span["children"]), "call") + " below")
    return " · ".join(facts)


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line
