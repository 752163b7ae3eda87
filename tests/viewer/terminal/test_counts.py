"""Numbers of things, and rates."""

import pytest

from ztrace_viewer.terminal.counts import format_rate, plural


@pytest.mark.parametrize(
    ("count", "minutes", "text"),
    [
        (0, 5, "0/h"),
        (1, 60, "1.0/h"),
        (59, 60, "59/h"),
        (60, 60, "1.0/min"),
        (218, 2, "1.8/s"),
        (50, 2, "25/min"),
        (120_000_000, 60, "33,333/s"),
        (7, 0, "-"),
    ],
)
def test_rates_are_of_the_unit_with_at_least_one(count: int, minutes: int, text: str) -> None:
    """A rate is a second, minute or hour, the first in which it is at least one; a dash without time."""
    assert format_rate(count, minutes) == text


def test_nouns_follow_their_number() -> None:
    """A noun is in the plural unless its number is one."""
    assert [plural(count, "process") for count in (0, 1, 1200)] == [
        "0 processes",
        "1 process",
        "1,200 processes",
    ]
