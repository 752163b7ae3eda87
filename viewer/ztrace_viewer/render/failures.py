"""What a call tree shows of an exception below a span that it ended.

One idea: where it was raised, or something in its place, stands the traceback; where it passed, one line with
the call that it came out of.
"""

from collections.abc import Iterator, Mapping

from rich.text import Text

from ztrace.records import GROUPED, PASSED, REPLACED, WRAPPED
from ztrace_viewer.documents.exceptions import ExceptionDocument, Frame
from ztrace_viewer.documents.trees import SpanDocument
from ztrace_viewer.queries.exceptions import find_remote_traceback
from ztrace_viewer.render.frames import name_place, same_line
from ztrace_viewer.render.tracebacks import as_raised, draw_exception, draw_remote

#: How an exception that was raised here came of the one that began elsewhere.
_HOW_WORDS = {WRAPPED: "wraps the one", REPLACED: "replaces the one"}


def draw_failure(span: SpanDocument, guide: str, origins: Mapping[str, str], width: int) -> Iterator[Text]:
    """Yield the lines of the exception that ended a span, if one did.

    Args:
        span: of a tree.
        guide: what stands before a line that belongs to the span.
        origins: what the spans are shown as in which exceptions began, by id.
        width: columns of the screen.
    """
    exception = span["exception"]
    if exception is None:
        return
    passed = exception["how"] == PASSED and not exception["origin"]
    lines = [] if passed else list(draw_exception(exception, width - len(guide)))
    # A group's members say themselves where they came from.
    if not exception["origin"] and exception["how"] != GROUPED:
        lines.append(_tell_origin(span, exception, origins))
    if exception["origin"] and (remote := find_remote_traceback(span["attributes"])) is not None:
        lines.extend(draw_remote(remote))
    for line in lines:
        yield Text.assemble((guide, "dim"), line)


def _tell_origin(span: SpanDocument, exception: ExceptionDocument, origins: Mapping[str, str]) -> Text:
    """Return the line that says where an exception came from, and of one that passed through which call."""
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
    """Return the line that made the call through which an exception came, unless a child tells the same."""
    exception = span["exception"]
    own = [frame for frame in exception["frames"] if frame["in_app"]] if exception is not None else []
    if not own:
        return None
    for child in span["children"]:
        below = child["exception"]["frames"] if child["exception"] is not None else []
        if any(same_line(own[-1], frame) for frame in below):
            return None
    return own[-1]
