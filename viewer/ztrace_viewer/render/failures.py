"""Exceptions in a call tree, each below the span that it ended.

One idea: the traceback is drawn where the exception, or one in its place, was raised. Where the exception
only passed, one line names the call it came out of.
"""

from collections.abc import Iterator, Mapping

from rich.text import Text

from ztrace.records import GROUPED, PASSED, REPLACED, WRAPPED
from ztrace_viewer.documents.exceptions import ExceptionDocument, Frame
from ztrace_viewer.documents.trees import SpanDocument
from ztrace_viewer.queries.exceptions import find_remote_traceback
from ztrace_viewer.render.frames import name_place, same_line
from ztrace_viewer.render.tracebacks import as_raised, draw_exception, draw_remote

#: Relation of an exception raised here to one that began elsewhere.
_HOW_WORDS = {WRAPPED: "wraps the one", REPLACED: "replaces the one"}


def draw_failure(span: SpanDocument, guide: str, origins: Mapping[str, str], width: int) -> Iterator[Text]:
    """Yield the lines of the exception that ended a span, if one did.

    Args:
        span: span of a tree.
        guide: guide of the lines below the span.
        origins: display names of the spans in which exceptions began, by id.
        width: columns of the screen.
    """
    exception = span["exception"]
    if exception is None:
        return
    passed = exception["how"] == PASSED and not exception["origin"]
    lines = [] if passed else list(draw_exception(exception, width - len(guide)))
    # The members of a group have their own origins.
    if not exception["origin"] and exception["how"] != GROUPED:
        lines.append(_tell_origin(span, exception, origins))
    if exception["origin"] and (remote := find_remote_traceback(span["attributes"])) is not None:
        lines.extend(draw_remote(remote))
    for line in lines:
        yield Text.assemble((guide, "dim"), line)


def _tell_origin(span: SpanDocument, exception: ExceptionDocument, origins: Mapping[str, str]) -> Text:
    """Return the line with an exception's origin, and with the call if the exception only passed."""
    origin_id = exception["origin_span_id"]
    origin = origins.get(origin_id, f"span {origin_id}, not in this tree")
    what = _HOW_WORDS.get(exception["how"])
    if what is None:
        what = as_raised(exception["type"], exception["message"]).partition(":")[0]
    line = Text.assemble((f"↑ {what} from {origin}", "red"))
    if exception["how"] == PASSED and (call := _find_call(span)):
        line.append(f"  {name_place(call, 1)}", "dim")
    return line


def _find_call(span: SpanDocument) -> Frame | None:
    """Return the frame that made the call an exception came through, unless a child shows the same."""
    exception = span["exception"]
    own = [frame for frame in exception["frames"] if frame["in_app"]] if exception is not None else []
    if not own:
        return None
    for child in span["children"]:
        below = child["exception"]["frames"] if child["exception"] is not None else []
        if any(same_line(own[-1], frame) for frame in below):
            return None
    return own[-1]
