"""Events in a call tree, below their span: a few lines each; the document has all."""

import json
from collections.abc import Iterator

from rich.text import Text

from ztrace_viewer.documents.trees import SpanDocument, SpanEvent
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration

#: Events shown of a span.
_SHOWN = 3
#: Characters shown of an attribute's value.
_VALUE = 60


def draw_events(span: SpanDocument, guide: str, width: int) -> Iterator[Text]:
    """Yield the lines of a span's events, and of its status message if there is no exception.

    Args:
        span: span of a tree.
        guide: guide of the lines below the span.
        width: columns of the screen.
    """
    lines: list[Text] = []
    if span["exception"] is None and span["status_message"] is not None:
        lines.append(Text(clean(span["status_message"]), style="red" if span["status"] == "error" else ""))
    # The exception of the span is drawn by `failures`.
    events = [event for event in span["events"] if span["exception"] is None or event["name"] != "exception"]
    shown = events if len(events) <= _SHOWN + 1 else events[:_SHOWN]
    lines += [_draw(event, span["start_ns"]) for event in shown]
    if len(shown) < len(events):
        lines.append(Text(f"… {plural(len(events) - len(shown), 'more event')}; --json has them all"))
    for line in lines:
        whole = Text.assemble((guide, "dim"), line)
        whole.truncate(width, overflow="ellipsis")
        yield whole


def _draw(event: SpanEvent, start_ns: int) -> Text:
    offset_ns = event["time_ns"] - start_ns
    sign = "" if offset_ns < 0 else "+"
    line = Text.assemble((f"· {sign}{format_duration(offset_ns)} ", "dim"), clean(event["name"]))
    for key, value in event["attributes"].items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text = clean(text)
        line.append(f"  {clean(key)}={text if len(text) <= _VALUE else text[: _VALUE - 1] + '…'}", "dim")
    return line
