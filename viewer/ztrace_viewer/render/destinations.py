"""Destinations on the terminal: state and progress of each, its error, and the spans it refused."""

import textwrap
from collections.abc import Iterator, Sequence

from rich.text import Text

from ztrace_viewer.documents.status import Destination
from ztrace_viewer.queries.destinations import BEHIND, FAILING, OFF, REFUSING, UP_TO_DATE
from ztrace_viewer.render.grid import Column, draw_grid, draw_number
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.moments import format_ago

_STYLES = {UP_TO_DATE: "green", BEHIND: "yellow", FAILING: "bold red", REFUSING: "bold red", OFF: "dim"}

_DESTINATIONS = (
    Column("DESTINATION", flexible=20),
    Column("STATE", flexible=12),
    Column("SENT", right=True, goes=3),
    Column("REFUSED", right=True, goes=2),
    Column("SKIPPED", right=True, goes=1),
    Column("BEHIND", right=True),
)
_REFUSALS = (
    Column("REFUSED", right=True),
    Column("REASON", flexible=12),
    Column("DESTINATION", flexible=12, goes=2),
    Column("LAST", goes=1),
    Column("ANSWER", flexible=20),
)


def draw_destinations(destinations: Sequence[Destination], width: int, now_ns: int) -> Iterator[Text]:
    """Yield a table of destinations, their errors, and a table of refused spans."""
    rows = [
        (
            Text(clean(each["url"]), "bold"),
            Text(_tell_state(each, now_ns), _STYLES.get(each["state"], "")),
            draw_number(each["spans_sent"]),
            draw_number(each["spans_refused"], "bold red"),
            draw_number(each["spans_skipped"], "bold red"),
            draw_number(each["spans_waiting"], "yellow"),
        )
        for each in destinations
    ]
    yield from draw_grid(_DESTINATIONS, rows, width)
    for each in destinations:
        if each["state"] == FAILING and each["error"]:
            yield from _draw_error(clean(each["url"]), clean(each["error"]), width)
    refusals = [(each["url"], refusal) for each in destinations for refusal in each["refusals"]]
    if refusals:
        yield Text()
        cells = [
            (
                draw_number(refusal["count"], "bold red"),
                Text(clean(refusal["reason"])),
                Text(clean(url)),
                Text(format_ago(refusal["last_ns"], now_ns)),
                Text(clean(refusal["detail"]), "dim"),
            )
            for url, refusal in refusals
        ]
        yield from draw_grid(_REFUSALS, cells, width)


def _draw_error(url: str, error: str, width: int) -> Iterator[Text]:
    """Yield the whole error, on as many lines as needed: what to do about it is at its end."""
    said = error if url in error else f"{url}: {error}"
    for line in textwrap.wrap(said, width, break_on_hyphens=False):
        yield Text(line, "bold red")


def _tell_state(destination: Destination, now_ns: int) -> str:
    state = destination["state"]
    since_ns = None
    if state == FAILING:
        since_ns = destination["failing_since_ns"]
    elif state == BEHIND:
        since_ns = destination["waiting_since_ns"]
    if since_ns is None:
        return state
    return f"{state} for {format_duration(max(0, now_ns - since_ns))}"
