"""Lines of ``ztrace tail``: one for each call tree and each error that arrives."""

from rich.text import Text

from ztrace_viewer.documents.errors import ExceptionEvent
from ztrace_viewer.documents.traces import TraceEvent
from ztrace_viewer.queries.identifiers import show_trace
from ztrace_viewer.render.frames import shorten_path
from ztrace_viewer.render.tracebacks import headline, shorten_type
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.links import NO_LINKS, Links
from ztrace_viewer.terminal.moments import format_clock
from ztrace_viewer.terminal.screen import name_call


def draw_event(event: TraceEvent | ExceptionEvent, links: Links = NO_LINKS) -> Text:
    """Return the line of an event, with links from ids to the page."""
    return _draw_trace(event, links) if event["event"] == "trace" else _draw_exception(event, links)


def _draw_trace(event: TraceEvent, links: Links) -> Text:
    errors = event["error_count"]
    return Text.assemble(
        (format_clock(event["start_ns"]), "dim"),
        "  ",
        (show_trace(event["trace_id"]), links.trace(event["trace_id"], "cyan")),
        f"  {format_duration(event['duration_ns']):>7}  ",
        (name_call(event["service"], event["name"]), "bold"),
        (f"  {plural(event['span_count'], 'span')}", "dim"),
        (f"  {plural(errors, 'error')}", "bold red") if errors else "",
        "" if event["complete"] else ("  incomplete", "yellow"),
    )


def _draw_exception(event: ExceptionEvent, links: Links) -> Text:
    own = [frame for frame in event["frames"] if frame["in_app"]] or event["frames"]
    place = f"  {shorten_path(own[-1]['file'], 30)}:{own[-1]['line']}" if own else ""
    return Text.assemble(
        (format_clock(event["at_ns"]), "dim"),
        "  ",
        (show_trace(event["trace_id"]), links.trace(event["trace_id"], "cyan", event["span_id"])),
        ("    error  ", "bold red"),
        (name_call(event["service"], event["name"]), "bold"),
        "  ",
        (headline(shorten_type(event["type"]), event["message"]), "red"),
        (clean(place), "dim"),
    )
