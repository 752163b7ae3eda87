"""Figures of any time range, composed of minutes, hours and days."""

from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from tests.viewer.stored import HOUR, MINUTE, NOON, raised, span, store, trace_id
from ztrace import records
from ztrace_collector.layout import RESOLUTIONS_S
from ztrace_viewer.queries.figures import list_methods, split_range
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.sqlite.store import open_file


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_range_is_the_sum_of_its_buckets(first_minute: int, minutes: int) -> None:
    """A split range counts every minute inside once, and no other."""
    first_s, last_s = first_minute * 60, (first_minute + minutes) * 60
    counts: dict[int, int] = {}
    for sign, resolution, begin, end in split_range(first_s, last_s):
        for minute in range(begin * resolution // 60, end * resolution // 60):
            counts[minute] = counts.get(minute, 0) + sign
    assert {minute for minute, count in counts.items() if count} == set(
        range(first_minute, first_minute + minutes)
    )
    assert set(counts.values()) <= {0, 1}


@example(99_990, 1500)
@given(st.integers(0, 100_000), st.integers(0, 500_000))
def test_a_range_is_few_buckets(first_minute: int, minutes: int) -> None:
    """A range is split into few buckets: minutes and hours at its ends, days between."""
    split = split_range(first_minute * 60, (first_minute + minutes) * 60)
    rows: dict[int, int] = dict.fromkeys(RESOLUTIONS_S, 0)
    for _, resolution, begin, end in split:
        rows[resolution] += end - begin
    assert rows[60] <= 61
    assert rows[3600] <= 25
    assert rows[86400] <= minutes // 1440 + 2


def test_figures_of_all_and_of_a_part(path: Path) -> None:
    """Calls are counted where they ended, with exact sums and quantiles within 3%."""
    spans: list[records.Span] = []
    for number in range(600):
        failed = raised("ValueError", "no") if number % 10 == 0 else None
        spans.append(
            span(
                trace_id(number),
                number + 1,
                name="buy",
                at_ns=NOON - 5 * HOUR + number * MINUTE,
                duration_ms=number + 1,
                self_ms=1,
                exception=failed,
            )
        )
    store(path, {"shop": spans, "bank": [span(trace_id(900), 900, name="pay", kind="client", at_ns=NOON)]})
    with open_file(path) as db:
        buy, pay = list_methods(db)["methods"]
        assert (buy["service"], buy["name"], buy["kind"]) == ("shop", "buy", "server")
        assert (buy["calls"], buy["errors"]) == (600, 60)
        assert buy["total_ns"] == sum(range(1, 601)) * 10**6
        assert buy["self_ns"] == 600 * 10**6
        for quantile, exact_ms in (("p50_ns", 300), ("p95_ns", 570), ("p99_ns", 594)):
            assert abs(buy[quantile] / (exact_ms * 10**6) - 1) < 0.03  # type: ignore[literal-required]
        assert (pay["service"], pay["kind"], pay["calls"]) == ("bank", "client", 1)

        for since, until in ((0, 600), (55, 170), (2, 3), (61, 425), (300, 600)):
            chosen = Selection(NOON - 5 * HOUR + since * MINUTE, NOON - 5 * HOUR + until * MINUTE, "shop")
            [part] = list_methods(db, chosen)["methods"]
            assert part["calls"] == until - since
            assert part["total_ns"] == sum(range(since + 1, until + 1)) * 10**6
        middle = Selection(NOON - 5 * HOUR + 30_000_000_000, NOON - 5 * HOUR + MINUTE + 1, "shop")
        assert list_methods(db, middle)["methods"][0]["calls"] == 2


def test_a_selection_that_matches_nothing_is_empty(shop: Path) -> None:
    """A selection without a match is empty, and others are filtered and limited."""
    with open_file(shop) as db:
        assert list_methods(db, Selection(service="bank")) == {"methods": []}
        assert list_methods(db, Selection(since_ns=NOON + 100 * HOUR)) == {"methods": []}
        assert list_methods(db, Selection(until_ns=NOON - 100 * HOUR)) == {"methods": []}
        assert len(list_methods(db, limit=2)["methods"]) == 2
        assert {each["service"] for each in list_methods(db, Selection(method="load"))["methods"]} == {
            "shop",
            "cart",
        }
