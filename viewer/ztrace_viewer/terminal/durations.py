"""Durations as people write and read them: ``812µs``, ``1.24s``, ``3m 12s``.

One idea: printed durations can be typed. `format_duration` keeps three digits, and `parse_duration` parses
all of its output.
"""

import re
from decimal import Decimal

from ztrace.errors import SettingsError, quote

#: Nanoseconds per unit as typed, with both code points that look like a micro sign.
UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "\N{GREEK SMALL LETTER MU}s": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}

_MINUTE_NS = UNITS_NS["m"]
#: One part of a duration. Digits are bounded so that a pasted number cannot cost time.
_PART = re.compile(
    r"(\d{1,18}(?:\.\d{1,18})?)\s*(" + "|".join(sorted(UNITS_NS, key=len, reverse=True)) + r")\s*"
)
#: Pairs of a long unit and the next smaller one.
_PAIRS = (("d", "h"), ("h", "m"), ("m", "s"))


def parse_duration(text: str) -> int:
    """Parse a duration such as ``250ms``, ``1.5h`` or ``3m 12s``.

    Returns:
        Nanoseconds.

    Raises:
        SettingsError: the text is not a duration.
    """
    rest = text.strip()
    total = Decimal(0)
    position = 0
    while position < len(rest) and (part := _PART.match(rest, position)):
        total += Decimal(part[1]) * UNITS_NS[part[2]]
        position = part.end()
    if not rest or position < len(rest):
        raise SettingsError(f"{quote(text)} is not a duration", hint="write it like 250ms, 10s, 5m, 1h or 7d")
    return int(total)


def format_duration(duration_ns: int | None) -> str:
    """Return a duration in a suitable unit, ``-`` for None."""
    if duration_ns is None:
        return "-"
    if duration_ns < 0:
        return "-" + format_duration(-duration_ns)
    if duration_ns < 1_000:
        return f"{duration_ns}ns"
    for unit, next_unit in (("µs", "ms"), ("ms", "s"), ("s", None)):
        limit_ns = UNITS_NS[next_unit] if next_unit else _MINUTE_NS
        text = _three_digits(duration_ns / UNITS_NS[unit])
        if duration_ns < limit_ns and float(text) * UNITS_NS[unit] < limit_ns:
            return text + unit
    for unit, smaller in _PAIRS:
        # Rounded to the smaller unit first, so that 59m 59.9s becomes 1h 0m and not 59m 60s.
        count = (duration_ns + UNITS_NS[smaller] // 2) // UNITS_NS[smaller]
        whole, part = divmod(count, UNITS_NS[unit] // UNITS_NS[smaller])
        if whole:
            return f"{whole}{unit} {part}{smaller}"
    return "1m 0s"


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
