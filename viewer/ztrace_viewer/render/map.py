"""The map of services on the terminal: each service, and below it those that it calls."""

from collections.abc import Iterator

from rich.text import Text

from ztrace_viewer.documents.map import MapDocument, ServiceCalls, ServiceFigures
from ztrace_viewer.render.grid import Column, draw_grid, draw_number
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import format_rate, plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.screen import UNNAMED

_COLUMNS = (
    Column("SERVICE", flexible=16),
    Column("CALLS", right=True),
    Column("RATE", right=True, goes=1),
    Column("ERRORS", right=True, goes=3),
    Column("P95", right=True, goes=2),
)


def draw_map(document: MapDocument, width: int) -> Iterator[Text]:
    """Yield the lines of a map, callers before those that they call."""
    callees: dict[str, list[str]] = {}
    for call in document["calls"]:
        callees.setdefault(call["from"], []).append(call["to"])
    figures = {each["service"]: each for each in document["services"]}
    between = {(call["from"], call["to"]): call for call in document["calls"]}
    minutes = document["minutes"]
    rows: list[tuple[Text, ...]] = []
    for service in _order(sorted(figures), callees):
        each = figures[service]
        rows.append(_draw_line(Text(_name(service), "bold"), each, minutes))
        below = callees.get(service, [])
        for callee in below:
            call = between[service, callee]
            guide = "└→ " if callee == below[-1] else "├→ "
            named = Text.assemble((guide, "dim"), _name(callee))
            rows.append(_draw_line(named, call, minutes))
    yield from draw_grid(_COLUMNS, rows, width)
    if document["other_calls"]:
        yield Text(f"{plural(document['other_calls'], 'call')} on rare call paths not counted", "yellow")
    if document["left_out"]:
        yield Text(f"{plural(document['left_out'], 'tree')} of too many spans not counted", "yellow")
    if document["unsettled_spans"]:
        yield Text(f"{plural(document['unsettled_spans'], 'span')} not counted yet", "yellow")


def _order(services: list[str], callees: dict[str, list[str]]) -> list[str]:
    """Return the services, each after one of its callers where that is possible."""
    called = {callee for below in callees.values() for callee in below}
    ordered: dict[str, None] = {}
    # Services that only call each other come last.
    for start in sorted(services, key=lambda service: service in called):
        pending = [start]
        while pending:
            service = pending.pop(0)
            if service not in ordered:
                ordered[service] = None
                pending += callees.get(service, ())
    return list(ordered)


def _name(service: str) -> str:
    return clean(service) or UNNAMED


def _draw_line(name: Text, figures: ServiceFigures | ServiceCalls, minutes: int) -> tuple[Text, ...]:
    return (
        name,
        draw_number(figures["calls"]),
        Text(format_rate(figures["calls"], minutes)),
        draw_number(figures["errors"], "bold red"),
        Text(format_duration(figures["p95_ns"])),
    )
