"""Calls found by a search, on the terminal."""

from collections.abc import Collection, Iterator, Mapping

from rich.text import Text

from ztrace_viewer.documents.found import FindDocument, FoundSpan
from ztrace_viewer.render.grid import Column, draw_grid
from ztrace_viewer.render.span_events import CONVENTIONAL, tell_attribute
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.links import NO_LINKS, Links
from ztrace_viewer.terminal.moments import format_ago
from ztrace_viewer.terminal.screen import name_call

_STATUS = Column("STATUS", goes=3)
_COLUMNS = (
    Column("TRACE"),
    Column("SPAN", goes=1),
    Column("CALL", flexible=16),
    Column("TIME", right=True),
    _STATUS,
    Column("STARTED", goes=2),
    Column("ATTRIBUTES", flexible=16, goes=4),
)
_STYLES = {"error": "bold red", "unfinished": "yellow"}


def draw_found(
    document: FindDocument,
    words: Collection[str],
    short_ids: Mapping[str, str],
    width: int,
    now_ns: int,
    links: Links = NO_LINKS,
) -> Iterator[Text]:
    """Yield a table of calls; the column of statuses is left out if all are ok.

    Args:
        document: the calls.
        words: keys and texts that were searched for; attributes with one are first in their line.
        short_ids: displayed trace ids.
        width: columns of the screen.
        now_ns: present time.
        links: links from ids to the page.
    """
    spans = document["spans"]
    shown = [column for column in _COLUMNS if column is not _STATUS or any(map(_outcome, spans))]
    rows = []
    for span in spans:
        cells = {
            "TRACE": Text(short_ids[span["trace_id"]], links.trace(span["trace_id"], "cyan")),
            "SPAN": Text(span["span_id"], links.trace(span["trace_id"], "dim", span["span_id"])),
            "CALL": Text(name_call(span["service"], span["name"], span["kind"]), "bold"),
            "TIME": _tell_time(span),
            "STATUS": Text(_outcome(span), _STYLES.get(span["status"], "")),
            "STARTED": Text(format_ago(span["start_ns"], now_ns)),
            "ATTRIBUTES": Text(_tell_attributes(span["attributes"], words)),
        }
        rows.append([cells[column.head] for column in shown])
    yield from draw_grid(shown, rows, width)
    if any(span["running_ns"] is not None for span in spans):
        yield Text(">  unfinished: time until now, or until the last sign of life", style="dim")


def _tell_attributes(attributes: Mapping[str, object], words: Collection[str]) -> str:
    """Return attributes on one line, as they can be searched for; those that a library added are last."""
    told = {key: tell_attribute(key, value) for key, value in attributes.items()}

    def place(key: str) -> tuple[bool, bool]:
        is_sought = any(word.casefold() in told[key].casefold() for word in words)
        return not is_sought, key.startswith(CONVENTIONAL)

    return "  ".join(told[key] for key in sorted(told, key=place))


def _tell_time(span: FoundSpan) -> Text:
    if span["running_ns"] is None:
        return Text(format_duration(span["duration_ns"]), "bold yellow")
    return Text(f">{format_duration(span['running_ns'])}", "bold yellow")


def _outcome(span: FoundSpan) -> str:
    return "" if span["status"] == "ok" else span["status"]
