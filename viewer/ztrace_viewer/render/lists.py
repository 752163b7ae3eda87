"""Lists on the terminal: the slowest trees, exception groups, figures, publishers.

One idea: numbers keep their width and names give way, so that a narrow screen cuts words and never digits.
"""

from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ztrace_viewer.characters import clean
from ztrace_viewer.documents import ErrorsDocument, SlowDocument, StatsDocument, StatusDocument
from ztrace_viewer.durations import format_duration
from ztrace_viewer.moments import format_ago
from ztrace_viewer.render.tracebacks import headline, shorten_path
from ztrace_viewer.screen import name_call, plural

#: How a publisher's state is shown: what has gone wrong stands out.
_STATE_STYLES = {"live": "green", "silent": "yellow", "crashed": "bold red", "ended": "dim"}


def draw_slow(document: SlowDocument, short_ids: Mapping[str, str], now_ns: int) -> Iterator[RenderableType]:
    """Yield a table of call trees."""
    traces = document["traces"]
    table = _table()
    _add_columns(table, "TRACE CALL >TIME >SPANS >ERRORS STARTED SERVICES")
    for trace in traces:
        table.add_row(
            Text(short_ids[trace["trace_id"]], style="cyan"),
            _name(name_call(trace["service"], trace["name"]), "bold"),
            Text(format_duration(trace["duration_ns"]), style="bold yellow"),
            _number(trace["span_count"], mark="" if trace["complete"] else "+?"),
            _number(trace["error_count"], "bold red"),
            Text(format_ago(trace["start_ns"], now_ns)),
            _name(", ".join(clean(service) for service in trace["services"]), "dim"),
        )
    yield table
    if not all(trace["complete"] for trace in traces):
        yield Text("+? the tree is not complete; 'ztrace show' says what is missing", style="dim")


def draw_errors(
    document: ErrorsDocument, short_ids: Mapping[str, str], now_ns: int
) -> Iterator[RenderableType]:
    """Yield a table of exception groups, each with the place it began at."""
    table = _table()
    _add_columns(table, "ERROR >COUNT LAST BEGAN_IN EXCEPTION")
    for group in document["groups"]:
        own = [frame for frame in group["frames"] if frame["in_app"]] or group["frames"]
        what = Text(headline(group["type"], group["message"]), style="red", no_wrap=True, overflow="ellipsis")
        if own:
            place = f"{shorten_path(own[-1]['file'], 40)}:{own[-1]['line']} in {clean(own[-1]['function'])}"
            what.append(f"\n{place}", "dim")
        table.add_row(
            Text(short_ids[group["group"]], style="cyan"),
            _number(group["count"]),
            Text(format_ago(group["last_ns"], now_ns)),
            _name(name_call(group["service"], group["name"]), "bold"),
            what,
        )
    yield table


def draw_stats(document: StatsDocument) -> Iterator[RenderableType]:
    """Yield a table of methods; the largest own time, where it is to be found, is marked."""
    methods = document["methods"]
    largest = max((method["self_ns"] for method in methods), default=0)
    table = _table()
    _add_columns(table, "CALL >CALLS >ERRORS >P50 >P95 >P99 >TOTAL >OWN")
    for method in methods:
        times = (method["p50_ns"], method["p95_ns"], method["p99_ns"], method["total_ns"])
        table.add_row(
            _name(name_call(method["service"], method["name"], method["kind"]), "bold"),
            _number(method["calls"]),
            _number(method["errors"], "bold red"),
            *(Text(format_duration(time)) for time in times),
            Text(
                format_duration(method["self_ns"]),
                style="bold yellow" if method["self_ns"] == largest > 0 else "",
            ),
        )
    yield table


def draw_status(document: StatusDocument, now_ns: int) -> Iterator[RenderableType]:
    """Yield the totals, then a table of publishers."""
    yield _fact(
        "stored",
        f"{plural(document['spans_stored'], 'span')} in {plural(document['traces_stored'], 'trace')}",
    )
    publishers = document["publishers"]
    reasons = (
        (sum(each["spans_dropped"] for each in publishers), "dropped with a full queue"),
        (sum(each["spans_missing"] for each in publishers), "never arrived"),
        (sum(each["spans_refused"] for each in publishers), "refused"),
    )
    why = ", ".join(f"{count:,} {reason}" for count, reason in reasons if count)
    lost = plural(document["spans_lost"], "span") if document["spans_lost"] else "nothing"
    yield _fact("lost", f"{lost}: {why}" if why else lost, "bold red" if document["spans_lost"] else "")
    yield _fact("unfinished", plural(document["unfinished"], "span"))
    rejected = ", ".join(f"{clean(reason)} {count:,}" for reason, count in document["rejected"].items())
    yield _fact("rejected", rejected or "nothing", "yellow" if rejected else "")
    if not publishers:
        return
    yield Text()
    table = _table()
    _add_columns(table, "SERVICE HOST >PID STATE >CREATED >STORED >LOST SEEN")
    for publisher in publishers:
        table.add_row(
            _name(clean(publisher["service"]), "bold"),
            _name(clean(publisher["host"])),
            Text(str(publisher["pid"])),
            Text(clean(publisher["state"]), style=_STATE_STYLES.get(publisher["state"], "")),
            _number(publisher["spans_created"]),
            _number(publisher["spans_stored"]),
            _number(publisher["spans_lost"], "bold red"),
            Text(format_ago(publisher["last_seen_ns"], now_ns)),
        )
    yield table


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", show_edge=False)


def _add_columns(table: Table, heads: str) -> None:
    """Add columns by their heads: ``>`` aligns to the right, a space is written ``_``."""
    for head in heads.split():
        right = head.startswith(">")
        given_way = head in ("CALL", "SERVICES", "BEGAN_IN", "EXCEPTION", "SERVICE", "HOST")
        table.add_column(
            head.lstrip(">").replace("_", " "),
            justify="right" if right else "left",
            no_wrap=not given_way,
            overflow="ellipsis",
        )


def _name(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _number(value: int, style: str = "", mark: str = "") -> Text:
    text = Text(f"{value:,}", style=style if value else "dim")
    text.append(mark, "yellow")
    return text


def _fact(name: str, value: str, style: str = "") -> Text:
    return Text.assemble((f"{name:<12}", "dim"), (value, style))
