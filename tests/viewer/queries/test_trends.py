"""Trends of methods: parts of minutes, hours or days that add up to the figures of the whole time."""

from pathlib import Path

import pytest

from tests.viewer.stored import HOUR, MINUTE, NOON, raised, span, store, trace_id
from ztrace_viewer.documents.figures import StatsDocument, Trends
from ztrace_viewer.queries.figures import list_methods
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.trends import MOST_METHODS, MOST_PARTS, read_trends
from ztrace_viewer.render.lists import draw_stats


def fill(path: Path, minutes: int) -> None:
    """Store a call a minute before noon, ever slower, of which each tenth failed, and another at noon."""
    spans = [
        span(
            trace_id(number),
            number + 1,
            name="buy",
            at_ns=NOON - (minutes - number) * MINUTE,
            duration_ms=number + 1,
            exception=raised("ValueError", "no") if number % 10 == 0 else None,
        )
        for number in range(minutes)
    ]
    last = span(trace_id(9_000), 9_000, name="pay", at_ns=NOON)
    store(path, {"shop": spans, "bank": [last]}, at_ns=NOON)


def ask(path: Path, selection: Selection = EVERYTHING) -> tuple[StatsDocument, Trends | None]:
    """Return methods and their trends."""
    with open_file(path) as opened:
        document = list_methods(opened, selection)
        return document, read_trends(opened, document["methods"], selection)


@pytest.mark.parametrize(
    ("minutes", "part_s", "parts"), [(30, 60, 31), (300, 360, 51), (900, 3600, 16), (133 * 60, 10_800, 45)]
)
def test_parts_add_up_to_the_figures(path: Path, minutes: int, part_s: int, parts: int) -> None:
    """Each call is in the part in which it ended, of minutes or hours as the time is short or long."""
    fill(path, minutes)
    document, trends = ask(path)
    assert trends is not None
    assert (trends["part_s"], trends["since_ns"]) == (part_s, NOON - minutes * MINUTE)
    for method, trend in zip(document["methods"], trends["methods"], strict=True):
        assert len(trend["calls"]) == len(trend["errors"]) == len(trend["p95_ns"]) == parts <= MOST_PARTS
        assert (sum(trend["calls"]), sum(trend["errors"])) == (method["calls"], method["errors"])
        assert [time_ns is None for time_ns in trend["p95_ns"]] == [not calls for calls in trend["calls"]]
    buy, pay = trends["methods"]
    times_ns = [time_ns for time_ns in buy["p95_ns"] if time_ns is not None]
    assert times_ns == sorted(times_ns)
    assert times_ns[-1] == pytest.approx(minutes * 10**6, rel=0.03)
    assert pay["calls"] == [*[0] * (parts - 1), 1]


def test_a_selection_has_the_trend_of_its_time_and_names(path: Path) -> None:
    """The parts are those of the selected time; a time of two minutes has no trend, nor has an empty one."""
    fill(path, 30)
    document, trends = ask(path, Selection(NOON - 20 * MINUTE, NOON - 10 * MINUTE, "shop"))
    assert trends is not None
    assert trends["methods"][0]["calls"] == [1] * 10
    assert trends["since_ns"] == NOON - 20 * MINUTE
    assert len(document["methods"]) == 1
    for since_ns in (NOON - MINUTE, NOON + HOUR):
        assert ask(path, Selection(since_ns))[1] is None


def test_bars_are_drawn_where_there_is_room(path: Path) -> None:
    """A wide screen has bars of the calls, the failed ones and the p95; a narrow one keeps the figures."""
    fill(path, 60)
    document, trends = ask(path)
    head, buy, pay = (line.plain for line in draw_stats(document, 120, trends))
    assert head.split()[-5:] == ["RATE", "FAILED", "P95", "OVER", "TIME"]
    assert [len(bars) for bars in buy.split()[-3:]] == [11] * 3
    assert pay.split()[-2:] == ["··········█", "··········█"]
    assert "RATE" not in next(draw_stats(document, 60, trends)).plain


def test_methods_beyond_the_first_have_no_trend(path: Path) -> None:
    """Of more methods than are drawn, only the first have a trend, and the others an empty cell."""
    names = [f"call{number}" for number in range(MOST_METHODS + 1)]
    spans = [
        span(trace_id(number), number + 1, name=name, at_ns=NOON - number % 4 * MINUTE)
        for number, name in enumerate(names)
    ]
    store(path, {"shop": spans}, at_ns=NOON)
    document, trends = ask(path)
    assert trends is not None
    assert (len(document["methods"]), len(trends["methods"])) == (MOST_METHODS + 1, MOST_METHODS)
    assert len([*draw_stats(document, 120, trends)]) == MOST_METHODS + 2
