"""Lists on the terminal: the slowest trees, exception groups, figures, keys.

One idea: numbers keep their width and names give way, so that a narrow screen cuts words and never digits.
"""

from collections.abc import Iterator, Mapping

from rich.text import Text

from ztrace_viewer.characters import clean
from ztrace_viewer.documents import (
    ErrorsDocument,
    KeysDocument,
    SlowDocument,
    StatsDocument,
    TraceSummary,
)
from ztrace_viewer.durations import format_duration
from ztrace_viewer.moments import format_ago
from ztrace_viewer.render.grid import Column, draw_grid
from ztrace_viewer.render.tracebacks import headline, shorten_path, shorten_type
from ztrace_viewer.screen import name_call
from ztrace_viewer.summaries import FINISHED
from ztrace_viewer.unfinished import STATE_WORDS

#: Left out where all have ended.
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
    Column("COUNT", right=True, goes=3),
    Column("LAST", goes=1),
    Column("BEGAN IN", flexible=12, goes=2),
    Column("EXCEPTION", flexible=40),
)
_STATS = (
    Column("CALL", flexible=16),
    Column("CALLS", right=True, goes=4),
    Column("ERRORS", right=True, goes=3),
    Column("P50", right=True, goes=1),
    Column("P95", right=True, goes=5),
    Column("P99", right=True, goes=2),
    Column("TOTAL", right=True),
    Column("OWN", right=True, goes=6),
)
_KEYS = (
    Column("KEY"),
    Column("SERVICE", flexible=12),
    Column("STATE"),
    Column("MADE", goes=1),
)


def draw_slow(
    document: SlowDocument, short_ids: Mapping[str, str], width: int, now_ns: int
) -> Iterator[Text]:
    """Yield a table of call trees."""
    traces = document["traces"]
    rows: list[tuple[Text, ...]] = []
    for trace in traces:
        rows.append(
            (
                Text(short_ids[trace["trace_id"]], style="cyan"),
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
        yield Text(">  it has not ended: so long until now, or until the last sign of it", style="dim")
    if not all(trace["complete"] for trace in traces):
        yield Text("+? the tree is not complete; 'ztrace show' says what is missing", style="dim")


def _tell_time(trace: TraceSummary) -> Text:
    if trace["running_ns"] is None:
        return Text(format_duration(trace["duration_ns"]), style="bold yellow")
    return Text(f">{format_duration(trace['running_ns'])}", "bold yellow")


def draw_errors(
    document: ErrorsDocument, short_ids: Mapping[str, str], width: int, now_ns: int
) -> Iterator[Text]:
    """Yield a table of exception groups, each with the place it began at."""
    rows: list[tuple[Text, ...]] = []
    for group in document["groups"]:
        own = [frame for frame in group["frames"] if frame["in_app"]] or group["frames"]
        what = Text(headline(shorten_type(group["type"]), group["message"]), style="red")
        if own:
            place = f"{shorten_path(own[-1]['file'], 40)}:{own[-1]['line']} in {clean(own[-1]['function'])}"
            what.append(f"\n{place}", "dim")
        rows.append(
            (
                Text(short_ids[group["group"]], style="cyan"),
                draw_number(group["count"]),
                Text(format_ago(group["last_ns"], now_ns)),
                Text(name_call(group["service"], group["name"], group["kind"]), "bold"),
                what,
            )
        )
    yield from draw_grid(_ERRORS, rows, width)


def draw_stats(document: StatsDocument, width: int) -> Iterator[Text]:
    """Yield a table of methods; the largest own time, where it is to be found, is marked."""
    methods = document["methods"]
    largest = max((method["self_ns"] for method in methods), default=0)
    rows: list[tuple[Text, ...]] = []
    for method in methods:
        times = (method["p50_ns"], method["p95_ns"], method["p99_ns"], method["total_ns"])
        rows.append(
            (
                Text(name_call(method["service"], method["name"], method["kind"]), "bold"),
                draw_number(method["calls"]),
                draw_number(method["errors"], "bold red"),
                *(Text(format_duration(time)) for time in times),
                Text(
                    format_duration(method["self_ns"]),
                    style="bold yellow" if method["self_ns"] == largest > 0 else "",
                ),
            )
        )
    yield from draw_grid(_STATS, rows, width)


def draw_keys(document: KeysDocument, width: int, now_ns: int) -> Iterator[Text]:
    """Yield a table of services' keys."""
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


def draw_number(value: int, style: str = "", mark: str = "") -> Text:
    """Return a number with its thousands parted; none in the background."""
    text = Text(f"{value:,}", style=style if value else "dim")
    text.append(mark, "yellow")
    return text
