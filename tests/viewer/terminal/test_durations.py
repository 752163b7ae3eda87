"""Parsing and formatting of durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztrace.errors import SettingsError
from ztrace_viewer.terminal.durations import format_duration, parse_duration

DAY_NS = 86_400 * 10**9


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (None, "-"),
        (0, "0ns"),
        (999, "999ns"),
        (1_000, "1.00µs"),
        (812_000, "812µs"),
        (999_600, "1.00ms"),
        (9_999_999, "10.0ms"),
        (1_240_000_000, "1.24s"),
        (59_940_000_000, "59.9s"),
        (59_960_000_000, "1m 0s"),
        (59_999_999_999, "1m 0s"),
        (192_000_000_000, "3m 12s"),
        (3_599_900_000_000, "1h 0m"),
        (7_500_000_000_000, "2h 5m"),
        (DAY_NS * 3 + 4 * 3_600 * 10**9, "3d 4h"),
        (-2_000, "-2.00µs"),
    ],
)
def test_a_duration_is_shown_in_the_unit_that_fits(duration_ns: int | None, text: str) -> None:
    """A duration is formatted with three digits or two units, rounded across units."""
    assert format_duration(duration_ns) == text


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("250ms", 250_000_000),
        ("1.5h", 5_400_000_000_000),
        ("3m 12s", 192_000_000_000),
        ("10us", 10_000),
        ("10μs", 10_000),
        (" 7d ", 7 * DAY_NS),
        ("2w", 14 * DAY_NS),
        ("0.1ns", 0),
    ],
)
def test_a_duration_is_read(text: str, duration_ns: int) -> None:
    """Every unit, fractions, blanks and several parts are parsed."""
    assert parse_duration(text) == duration_ns


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 minutes", "1e3s", "5m,", "٣", "9" * 40 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """An invalid duration raises an error with an example."""
    with pytest.raises(SettingsError, match="250ms"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10_000 * DAY_NS))
def test_what_is_shown_can_be_typed(duration_ns: int) -> None:
    """A formatted duration is parsed back within the digits shown."""
    text = format_duration(duration_ns)
    assert abs(parse_duration(text) - duration_ns) <= duration_ns * 0.021
    assert len(text) <= 9
