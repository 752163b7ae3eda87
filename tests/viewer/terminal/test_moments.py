"""Parsing of moments, as ages or ISO 8601, and formatting in local time."""

from collections.abc import Callable

import pytest

from tests.viewer.stored import HOUR, MINUTE, MS, NOON, SECOND
from ztrace.errors import SettingsError
from ztrace_viewer.terminal.moments import (
    format_ago,
    format_clock,
    format_moment,
    parse_moment,
    parse_stretch,
)


@pytest.fixture(autouse=True)
def in_berlin(set_zone: Callable[[str], None]) -> None:
    """Set a local time zone that differs from UTC."""
    set_zone("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "moment_ns"),
    [
        ("5m", NOON - 5 * MINUTE),
        ("1h", NOON - HOUR),
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31T12:00:00.250Z", NOON + 250 * MS),
        ("2026-01-31T14:00:00+02:00", NOON),
        ("2026-01-31T13:00", NOON),
        ("2026-01-31 13:00:00", NOON),
        ("2026-01-31", NOON - 13 * HOUR),
        ("13:00", NOON),
        ("9:30", NOON - 3 * HOUR - 30 * MINUTE),
        ("12:59:59", NOON - SECOND),
        ("1900-01-01T00:00Z", 0),
        ("9999-12-31T00:00Z", (1 << 63) - 1),
        ("9999999d", 0),
    ],
)
def test_a_moment_is_read(text: str, moment_ns: int) -> None:
    """Ages and ISO 8601 times with or without zone are parsed, and limited to SQLite's integers."""
    assert parse_moment(text, NOON) == moment_ns


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "12", "25:00", "0001-01-01"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    """An invalid moment raises an error with both forms."""
    with pytest.raises(SettingsError, match="5m"):
        parse_moment(text, NOON)


def test_a_stretch_is_read() -> None:
    """A stretch is two moments with two dots between; its end is now if it is left out."""
    assert parse_stretch("12:00..12:20", NOON) == (NOON - HOUR, NOON - 40 * MINUTE)
    assert parse_stretch("2h..1h", NOON) == (NOON - 2 * HOUR, NOON - HOUR)
    assert parse_stretch("5m..", NOON) == (NOON - 5 * MINUTE, NOON)


@pytest.mark.parametrize("text", ["", "5m", "..5m", "5m..10m", "12:20..12:20", "5m..never"])
def test_what_is_no_stretch_is_refused(text: str) -> None:
    """A stretch without two moments in order raises an error that says what to write."""
    with pytest.raises(SettingsError, match="write"):
        parse_stretch(text, NOON)


def test_a_moment_is_shown_in_local_time() -> None:
    """Moments are formatted in the machine's time zone."""
    assert format_moment(NOON) == "2026-01-31 13:00:00"
    assert format_clock(NOON + 7 * MS) == "13:00:00.007"


@pytest.mark.parametrize(
    ("age_ns", "text"),
    [
        (0, "just now"),
        (999 * MS, "just now"),
        (59 * SECOND, "59s ago"),
        (3 * MINUTE + 59 * SECOND, "3m ago"),
        (23 * HOUR, "23h ago"),
        (24 * HOUR, "2026-01-30 13:00:00"),
        (-SECOND, "2026-01-31 13:00:01"),
    ],
)
def test_a_recent_moment_is_told_by_its_age(age_ns: int, text: str) -> None:
    """A moment within a day is formatted by its age, others by date."""
    assert format_ago(NOON - age_ns, NOON) == text
