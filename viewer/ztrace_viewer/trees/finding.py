"""One span of a call tree, found by its id or its name."""

from ztrace.errors import NotFoundError, SettingsError, quote
from ztrace_viewer.documents.trees import SpanDocument, TreeDocument
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.trees.tree import walk

#: Shortest beginning of an id.
MIN_PREFIX = 4
#: Spans listed in a message, the longest.
_LISTED = 4


def find_span(tree: TreeDocument, wanted: str) -> SpanDocument:
    """Return the only span of a tree whose id begins with a text, or whose name it is.

    Args:
        tree: the tree.
        wanted: at least four digits of an id, ``METHOD`` or ``SERVICE.METHOD``.

    Raises:
        NotFoundError: there is no such span.
        SettingsError: there are several.
    """
    spans = [span for span, _ in walk(tree["roots"])]
    found = [span for span in spans if span["span_id"] == wanted.lower()]
    if not found and len(wanted) >= MIN_PREFIX:
        found = [span for span in spans if span["span_id"].startswith(wanted.lower())]
    found = found or [span for span in spans if wanted in (span["name"], f"{span['service']}.{span['name']}")]
    if not found:
        raise NotFoundError(
            f"no span of this trace is {quote(wanted)}",
            hint="give the name of a call, or the beginning of an id in 'ztrace show --json'",
        )
    if len(found) > 1:
        found.sort(key=lambda span: -(span["duration_ns"] or 0))
        ids = [f"{span['span_id']} ({_tell(span)})" for span in found[:_LISTED]]
        raise SettingsError(
            f"{quote(wanted)} is ambiguous: {', '.join(ids)}{', …' if len(found) > _LISTED else ''}",
            hint="give the id of one",
        )
    return found[0]


def _tell(span: SpanDocument) -> str:
    return f"{span['kind']}, {format_duration(span['duration_ns'])}"
