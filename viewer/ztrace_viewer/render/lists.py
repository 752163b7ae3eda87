"""Lists on the terminal: call trees, exception groups, figures, keys."""

from collections import Counter
from collections.abc import Iterator, Mapping

from rich.cells import cell_len
from rich.text import Text

from ztrace_viewer.documents.errors import ErrorsDocument, GroupSummary
from ztrace_viewer.documents.figures import MethodFigures, StatsDocument, Trends
from ztrace_viewer.documents.status import KeysDocument
from ztrace_viewer.documents.traces import SlowDocument, TraceSummary
from ztrace_viewer.queries.groups import WHEN_PARTS
from ztrace_viewer.queries.summaries import FINISHED
from ztrace_viewer.render.error import STATE_STYLES
from ztrace_viewer.render.frames import name_place
from ztrace_viewer.render.grid import Column, draw_grid, draw_number
from ztrace_viewer.render.sparks import draw_sparks
from ztrace_viewer.render.tracebacks import as_raised
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.links import NO_LINKS, Links
from ztrace_viewer.terminal.moments import format_age, format_ago
from ztrace_viewer.terminal.screen import name_call
from ztrace_viewer.trees.states import STATE_WORDS

#: Least width of the screen for a cell per part of the time; below, a cell has three parts.
_LONG_BAR_FROM = 120
#: Columns of a list of errors beside the bar and the exception.
_BESIDE = 37
#: Column that is left out if all trees have ended.
_STATE = Column("STATE", goes=5)
_SLOW = (
    Column("TRACE"),
    Column("CALL", flexible=16),
    Column("TIME", right=True),
    Column("SPANS", right=True, goes=3),
    Column("ERRORS", right=True, goes=4),
    _STATE,
    Column("STARTED", goes=2),
    Column("SERVICES", flexible=12, goes=1),
)
_ERRORS = (
    Column("ERROR"),
    Column("COUNT", right=True),
    Column("UNCAUGHT", right=True, goes=1),
    Column("LAST", goes=3),
    Column("WHEN", goes=2),
    Column("EXCEPTION", flexible=32),
)
_STATS = (
    Column("CALL", flexible=16),
    Column("CALLS", right=True, goes=7),
    Column("ERRORS", right=True, goes=6),
    Column("P50", right=True, goes=4),
    Column("P95", right=True, goes=8),
    Column("P99", right=True, goes=5),
    Column("TOTAL", right=True),
    Column("OWN", right=True, goes=9),
)
#: Columns with bars over time, and the cells of a bar.
_TRENDS = (Column("RATE", goes=3), Column("FAILED", goes=1), Column("P95 OVER TIME", goes=2))
_TREND_CELLS = 12
_KEYS = (
    Column("KEY"),
    Column("SERVICE", flexible=12),
    Column("STATE"),
    Column("MADE", goes=1),
)


def draw_slow(
    document: SlowDocument,
    short_ids: Mapping[str, str],
    width: int,
    now_ns: int,
    links: Links = NO_LINKS,
) -> Iterator[Text]:
    """Yield a table of call trees."""
    traces = document["traces"]
    rows: list[tuple[Text, ...]] = []
    for trace in traces:
        rows.append(
            (
                Text(short_ids[trace["trace_id"]], links.trace(trace["trace_id"], "cyan")),
                Text(name_call(trace["service"], trace["name"]), "bold"),
                _tell_time(trace),
                draw_number(trace["span_count"], mark="" if trace["complete"] else "+?"),
                draw_number(trace["error_count"], "bold red"),
                Text(STATE_WORDS.get(trace["state"], ""), "yellow"),
                Text(format_ago(trace["start_ns"], now_ns)),
                Text(", ".join(clean(service) for service in trace["services"]), "dim"),
            )
        )
    ended = all(trace["state"] == FINISHED for trace in traces)
    shown = [place for place, column in enumerate(_SLOW) if not (ended and column is _STATE)]
    yield from draw_grid(
        [_SLOW[place] for place in shown], [[row[place] for place in shown] for row in rows], width
    )
    if not ended:
        yield Text(">  unfinished: time until now, or until the last sign of life", style="dim")
    if not all(trace["complete"] for trace in traces):
        yield Text("+? incomplete: 'ztrace show' shows what is missing", style="dim")


def _tell_time(trace: TraceSummary) -> Text:
    if trace["running_ns"] is None:
        return Text(format_duration(trace["duration_ns"]), style="bold yellow")
    return Text(f">{format_duration(trace['running_ns'])}", "bold yellow")


def draw_errors(
    document: ErrorsDocument,
    short_ids: Mapping[str, str],
    width: int,
    now_ns: int,
    links: Links = NO_LINKS,
) -> Iterator[Text]:
    """Yield a table of exception groups, each with its origin."""
    cells = WHEN_PARTS if width >= _LONG_BAR_FROM else WHEN_PARTS // 3
    groups = document["groups"]
    rows: list[tuple[Text, ...]] = []
    for group in groups:
        named = Text(short_ids[group["group"]], links.error(group["group"], "cyan"))
        if style := STATE_STYLES.get(group["state"]):
            named.append(f"\n{group['state']}", style)
        uncaught = draw_number(group["uncaught_count"], "bold red" if group["uncaught_count"] else "")
        ago, when = format_age(group["last_ns"], now_ns), draw_sparks(group["when"], cells)
        exception = _tell_exception(group, width - cells - _BESIDE)
        rows.append((named, draw_number(group["count"]), uncaught, Text(ago), Text(when, "red"), exception))
    yield from draw_grid(_ERRORS, rows, width)
    if any(group["swallowed_count"] for group in groups):
        yield Text(
            "UNCAUGHT: exceptions that left the outermost call; the others were caught on the way",
            style="dim",
        )


def _tell_exception(group: GroupSummary, room: int) -> Text:
    """Return the exception, and below it its origin, with as much of the path as fits."""
    message = group["message"] if group["count"] == 1 else group["template"]
    what = Text.assemble((as_raised(group["type"], message), "red"))
    call = name_call(group["service"], group["name"], group["kind"])
    what.append(f"\n{call}", "bold")
    own = [frame for frame in group["frames"] if frame["in_app"]] or group["frames"]
    if own:
        what.append(f"  {name_place(own[-1], room - cell_len(call) - 2)}", "dim")
    return what


def draw_stats(document: StatsDocument, width: int, trends: Trends | None = None) -> Iterator[Text]:
    """Yield a table of methods, with the largest own time highlighted.

    Args:
        document: the methods.
        width: columns of the screen.
        trends: bars over time, which are drawn where there is room.
    """
    methods = document["methods"]
    largest = max((method["self_ns"] for method in methods), default=0)
    named = Counter(_name_method(method) for method in methods)
    rows: list[tuple[Text, ...]] = []
    for place, method in enumerate(methods):
        times = (method["p50_ns"], method["p95_ns"], method["p99_ns"], method["total_ns"])
        rows.append(
            (
                Text.assemble(
                    (_name_method(method), "bold"),
                    # An internal span can have the name of the call in which it ran.
                    (f" ({method['kind']})" if named[_name_method(method)] > 1 else "", "dim"),
                ),
                draw_number(method["calls"]),
                draw_number(method["errors"], "bold red"),
                *(Text(format_duration(time)) for time in times),
                Text(
                    # OpenTelemetry's spans have no own time: zero of some time is unknown.
                    format_duration(
                        method["self_ns"] if method["self_ns"] or not method["total_ns"] else None
                    ),
                    style="bold yellow" if method["self_ns"] == largest > 0 else "",
                ),
                *_draw_trend(trends, place),
            )
        )
    yield from draw_grid(_STATS if trends is None else (*_STATS, *_TRENDS), rows, width)


def _draw_trend(trends: Trends | None, place: int) -> Iterator[Text]:
    """Yield the bars over time of the method at a place of the list."""
    if trends is None:
        return
    if place >= len(trends["methods"]):
        yield from (Text(),) * len(_TRENDS)
        return
    trend = trends["methods"][place]
    yield Text(draw_sparks(trend["calls"], _TREND_CELLS), "cyan")
    yield Text(draw_sparks(trend["errors"], _TREND_CELLS) if any(trend["errors"]) else "", "red")
    yield Text(draw_sparks([time_ns or 0 for time_ns in trend["p95_ns"]], _TREND_CELLS, max), "yellow")


def _name_method(method: MethodFigures) -> str:
    return name_call(method["service"], method["name"], method["kind"])


def draw_keys(document: KeysDocument, width: int, now_ns: int) -> Iterator[Text]:
    """Yield a table of keys."""
    rows = [
        (
            Text(key["id"], "bold"),
            Text(clean(key["service"])),
            Text(key["state"], "dim" if key["state"] == "revoked" else "green"),
            Text(format_ago(key["made_ns"], now_ns)),
        )
        for key in document["keys"]
    ]
    yield from draw_grid(_KEYS, rows, width)
