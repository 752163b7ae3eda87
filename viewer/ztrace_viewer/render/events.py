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
from ztrace_viewer.terminal.moments import format_clock
from ztrace_viewer.terminal.screen import name_call


def draw_event(event: TraceEvent | ExceptionEvent) -> Text:
    """Return the line of an event."""
    return _draw_trace(event) if event["event"] == "trace" else _draw_exception(event)


def _draw_trace(event: TraceEvent) -> Text:
    errors = event["error_count"]
    return Text.assemble(
        (format_clock(event["start_ns"]), "dim"),
        "  ",
        (show_trace(event["trace_id"]), "cyan"),
        f"  {format_duration(event['duration_ns']):>7}  ",
        (name_call(event["service"], event["name"]), "bold"),
        (f"  {plural(event['span_count'], 'span')}", "dim"),
        (f"  {plural(errors, 'error')}", "bold red") if errors else "",
        "" if event["complete"] else ("  incomplete", "yellow"),
    )


def _draw_exception(event: ExceptionEvent) -> Text:
    own = [frame for frame in event["frames"] if frame["in_app"]] or event["frames"]
    place = f"  {shorten_path(own[-1]['file'], 30)}:{own[-1]['line']}" if own else ""
    return Text.assemble(
        (format_clock(event["at_ns"]), "dim"),
        "  ",
        (show_trace(event["trace_id"]), "cyan"),
        ("    error  ", "bold red"),
        (name_call(event["service"], event["name"]), "bold"),
        "  ",
        (headline(shorten_type(event["type"]), event["message"]), "red"),
        (clean(place), "dim"),
    )
