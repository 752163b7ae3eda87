"""Points in time, parsed from the command line and formatted for people.

One idea: every moment is Unix nanoseconds; local time exists only in input and output.
"""

import re
import time
from datetime import UTC, datetime, timedelta

from ztrace.errors import SettingsError, quote
from ztrace.records import INT64_MAX
from ztrace_viewer.terminal.durations import UNITS_NS, parse_duration

#: Time of the present day.
_TIME_OF_DAY = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Age up to which a moment is formatted as "3m ago".
_RECENT_NS = UNITS_NS["d"]


def parse_moment(text: str, now_ns: int) -> int:
    """Parse a duration ago (``5m``), a time of today (``14:05``) or an ISO 8601 time, local without a zone.

    Returns:
        Unix nanoseconds.

    Raises:
        SettingsError: the text is none of them.
    """
    try:
        return max(0, now_ns - parse_duration(text))
    except SettingsError:
        pass
    text = text.strip()
    if _TIME_OF_DAY.fullmatch(text):
        text = f"{format_moment(now_ns)[:10]}T{text:0>5}"
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise SettingsError(
            f"{quote(text)} is not a time",
            hint="write a duration ago (250ms, 5m, 7d), 14:05 or 2026-01-31T14:05:00",
        ) from error
    return min(INT64_MAX, max(0, (moment - _EPOCH) // timedelta(microseconds=1) * 1_000))


def parse_stretch(text: str, now_ns: int) -> tuple[int, int]:
    """Parse a stretch of time, two moments with ``..`` between them; the second one may be left out for now.

    Returns:
        Begin and end in Unix nanoseconds.

    Raises:
        SettingsError: the text is no stretch, or its end is not after its begin.
    """
    begin, dots, end = text.partition("..")
    if not dots or not begin.strip():
        raise SettingsError(f"{quote(text)} is not a stretch of time", hint="write 14:00..14:20 or 2h..1h")
    begin_ns = parse_moment(begin, now_ns)
    end_ns = parse_moment(end, now_ns) if end.strip() else now_ns
    if begin_ns >= end_ns:
        raise SettingsError(f"{quote(text)} ends before it begins", hint="write the earlier moment first")
    return begin_ns, end_ns


def format_moment(moment_ns: int) -> str:
    """Return a moment in local time, to the second."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment_ns // UNITS_NS["s"]))
    except (OverflowError, ValueError, OSError):
        return "?"


def write_moment(moment_ns: int) -> str:
    """Return a moment as `parse_moment` reads it, rounded up to a microsecond."""
    return (_EPOCH + timedelta(microseconds=-(-moment_ns // 1_000))).isoformat().replace("+00:00", "Z")


def format_clock(moment_ns: int) -> str:
    """Return the local time of day, to the millisecond."""
    return f"{format_moment(moment_ns)[11:]}.{moment_ns // 1_000_000 % 1000:03}"


def format_stretch(first_ns: int, last_ns: int, now_ns: int) -> str:
    """Return ``18:03:10 to 18:03:24`` in local time, or one time if both are in the same second.

    Times of another day than now have their date.
    """
    today = format_moment(now_ns)[:10]
    first, last = format_moment(first_ns), format_moment(last_ns)
    begin = first[11:] if first[:10] == last[:10] == today else first
    end = last[11:] if first[:10] == last[:10] else last
    return begin if first == last else f"{begin} to {end}"


def format_ago(moment_ns: int, now_ns: int) -> str:
    """Return ``3m ago`` for the last day, otherwise the local date and time."""
    age_ns = now_ns - moment_ns
    if not 0 <= age_ns < _RECENT_NS:
        return format_moment(moment_ns)
    for unit in ("h", "m", "s"):
        if count := age_ns // UNITS_NS[unit]:
            return f"{count}{unit} ago"
    return "just now"


def format_age(moment_ns: int, now_ns: int) -> str:
    """Return ``3m ago`` or ``12d ago``, for a column; a moment in the future is just now."""
    days = (now_ns - moment_ns) // UNITS_NS["d"]
    return f"{days}d ago" if days > 0 else format_ago(min(moment_ns, now_ns), now_ns)
