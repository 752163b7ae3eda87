"""Events and attributes in a call tree, below their span: a few lines each; the document has all."""

import json
from collections.abc import Iterator, Mapping

from rich.cells import cell_len
from rich.text import Text

from ztrace.libraries import LIBRARIES
from ztrace_viewer.documents.exceptions import ExceptionDocument
from ztrace_viewer.documents.trees import SpanDocument, SpanEvent
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration

#: Events shown of a span.
_SHOWN = 3
#: Beginnings of attributes that say how a call went over the network, and not what it was about.
CONVENTIONAL = (
    *("rpc.", "server.", "client.", "network.", "messaging.", "exception.", "error.", "ztrace.exception."),
    *("net.", "user_agent.", "http.flavor", "http.host", "http.scheme", "http.server_name"),
    *("http.user_agent", *(row.unjoined for row in LIBRARIES.values() if row.unjoined)),
)
#: Characters shown of an attribute's value, and lines of a failed span's attributes.
_VALUE, _LINES = 60, 4


def draw_events(span: SpanDocument, guide: str, width: int, *, slow: bool) -> Iterator[Text]:
    """Yield the lines of a span's events, and of its status if there is no exception.

    The attributes of a slow or failed span say what the call was about. Those that libraries add are left
    out, unless the span failed without an exception: then they say why.

    Args:
        span: span of a tree.
        guide: guide of the lines below the span.
        width: columns of the screen.
        slow: the span takes much of the tree's time.
    """
    lines: list[Text] = []
    if span["exception"] is None and span["status_message"] is not None:
        lines.append(Text(clean(span["status_message"]), style="red" if span["status"] == "error" else ""))
    if span["exception"] is None and span["status"] == "error":
        lines += _draw_attributes(span["attributes"], width - len(guide))
    elif slow or span["status"] == "error":
        own = {key: value for key, value in span["attributes"].items() if not key.startswith(CONVENTIONAL)}
        lines += _draw_attributes(own, width - len(guide))
    # The exception of the span is drawn by `failures`.
    events = [event for event in span["events"] if not _is_of(span["exception"], event)]
    shown = events if len(events) <= _SHOWN + 1 else events[:_SHOWN]
    lines += [_draw(event, span["start_ns"]) for event in shown]
    if len(shown) < len(events):
        lines.append(Text(f"… {plural(len(events) - len(shown), 'more event')}; --json has them all"))
    for line in lines:
        whole = Text.assemble((guide, "dim"), line)
        whole.truncate(width, overflow="ellipsis")
        yield whole


def _is_of(exception: ExceptionDocument | None, event: SpanEvent) -> bool:
    """Return whether an event reports the exception of its span."""
    if exception is None or event["name"] not in ("exception", "error", ""):
        return False
    told = event["attributes"].values()
    return event["name"] == "exception" or exception["message"] in told or exception["stack"] in told


def _draw(event: SpanEvent, start_ns: int) -> Text:
    offset_ns = event["time_ns"] - start_ns
    sign = "" if offset_ns < 0 else "+"
    line = Text.assemble((f"· {sign}{format_duration(offset_ns)} ", "dim"), clean(event["name"]))
    for key, value in event["attributes"].items():
        line.append(f"  {tell_attribute(key, value)}", "dim")
    return line


def _draw_attributes(attributes: Mapping[str, object], room: int) -> list[Text]:
    """Return attributes, as many to a line as fit, with their values cut."""
    lines: list[Text] = []
    for number, (key, value) in enumerate(attributes.items()):
        told = tell_attribute(key, value)
        if lines and cell_len(lines[-1].plain) + 2 + cell_len(told) <= room:
            lines[-1].append(f"  {told}")
        elif len(lines) < _LINES:
            lines.append(Text(told))
        else:
            left = plural(len(attributes) - number, "more attribute")
            return [*lines, Text(f"… {left}; --json has them all")]
    return lines


def tell_attribute(key: str, value: object) -> str:
    """Return an attribute as it can be searched for, with its value cut."""
    text = clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return f"{clean(key)}={text if len(text) <= _VALUE else text[: _VALUE - 1] + '…'}"
