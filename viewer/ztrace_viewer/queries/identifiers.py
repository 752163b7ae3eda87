"""Ids as people write and read them: hex, shortened to what is unambiguous.

One idea: any prefix that matches a single id names it, and every id that is displayed is such a prefix. Ids
of 64 bits, of Zipkin and older tracers, are written and displayed without the zeros before them.
"""

import re
from collections.abc import Collection, Sequence

from ztrace.errors import NotFoundError, SettingsError, quote
from ztrace_collector.layout import HOUR_NS, SECOND_NS
from ztrace_viewer.queries.stores.store import Names, Store
from ztrace_viewer.terminal.moments import format_moment

#: Shortest prefix; fewer digits would match the trace ids of a whole day.
MIN_PREFIX = 4
#: Digits of a trace id in displays: twelve of time, and four for traces that began in the same millisecond.
SHOWN_TRACE_DIGITS = 16
#: Digits of a group's id in displays: eight digits of a hash.
SHOWN_GROUP_DIGITS = 8
#: Ids listed in the error for an ambiguous prefix.
_CANDIDATES = 4

_TRACE_DIGITS = 32
#: Digits of a trace id of 64 bits, and the zeros that it has in front as one of 128.
_SHORT_DIGITS, _SHORT_ZEROS = 16, "0" * 16
#: Digits of the time, in milliseconds, at the beginning of an id; and the greatest age that is believed.
_TIME_DIGITS, _PLAUSIBLE_NS = 12, 10 * 365 * 24 * HOUR_NS
_ARTICLES = {"trace": "a", "error": "an"}
_HEX = re.compile(r"[0-9a-f]+")


def find_trace(store: Store, prefix: str) -> bytes:
    """Return the only trace id that begins with ``prefix``, or that is this number.

    An id of 64 bits is also found by its own digits, whole, from the beginning, or without leading zeros.

    Raises:
        SettingsError: the prefix is not hex, too short, too long, or ambiguous.
        NotFoundError: no id begins with it.
    """
    digits = _check_hex(prefix, "trace")
    if len(digits) > _TRACE_DIGITS:
        raise SettingsError(f"{quote(prefix)} is not a trace id: it has more than {_TRACE_DIGITS} digits")
    whole = digits.zfill(_TRACE_DIGITS)
    if found := _find(store, [whole]):
        return found[0]
    _check_length(prefix, digits, "trace")
    starts = [digits] if len(digits) > _SHORT_DIGITS else [digits, _SHORT_ZEROS + digits]
    found = sorted(set(_find(store, starts)))
    hint = "see 'ztrace slow'"
    if not found:
        _check_thinned(store, starts)
        hint = _explain_old(store, digits) or hint
    _check_single("trace", digits, [trace_id.hex() for trace_id in found], hint)
    return found[0]


def _find(store: Names, starts: Sequence[str]) -> list[bytes]:
    """Return trace ids that begin with the digits of any start, of each some more than can be listed."""
    return store.trace_ids([_bound(start) for start in starts], _CANDIDATES + 1)


def _bound(start: str) -> tuple[bytes, bytes]:
    """Return the first and the last trace id that begin with some digits."""
    return (
        bytes.fromhex(start.ljust(_TRACE_DIGITS, "0")),
        bytes.fromhex(start.ljust(_TRACE_DIGITS, "f")),
    )


def _check_thinned(store: Names, starts: Sequence[str]) -> None:
    """Say that a trace was thinned, if one that begins so was.

    Raises:
        NotFoundError: one was.
    """
    for start in starts:
        if (trace_id := store.find_thinned(*_bound(start))) is not None:
            raise NotFoundError(
                f"trace {trace_id.hex()} was thinned: it had no error, and was neither slow nor rare",
                hint="all figures count it; 'ztrace show TRACE --pin' keeps one that is not thinned yet",
            )


def _explain_old(store: Store, digits: str) -> str:
    """Return why a trace is not stored if its id is of a time before all that are; otherwise nothing."""
    first_ns = store.first_start()
    if first_ns is None or len(digits) < _TIME_DIGITS:
        return ""
    # The agent's ids begin with the time. One of another tracer is random, and hardly ever within ten years.
    began_ns = int(digits[:_TIME_DIGITS], 16) * 1_000_000
    if not first_ns - _PLAUSIBLE_NS < began_ns < first_ns - SECOND_NS:
        return ""
    began, first = format_moment(began_ns), format_moment(first_ns)
    return f"by its id it began at {began}, before the oldest kept, {first}"


def is_trace(prefix: str, trace_id: str) -> bool:
    """Return whether a prefix, as `find_trace` takes it, names a trace id (hex)."""
    if prefix.zfill(_TRACE_DIGITS) == trace_id:
        return True
    return len(prefix) >= MIN_PREFIX and (
        trace_id.startswith(prefix) or _own_digits(trace_id).startswith(prefix)
    )


def show_trace(trace_id: str) -> str:
    """Return the digits of a trace id (hex) that displays show."""
    return _own_digits(trace_id)[:SHOWN_TRACE_DIGITS]


def _own_digits(trace_id: str) -> str:
    """Return the digits of an id without the zeros before one of 64 bits."""
    return trace_id.removeprefix(_SHORT_ZEROS)


def find_group(store: Names, prefix: str) -> str:
    """Return the only exception group whose id begins with ``prefix``.

    Raises:
        SettingsError: the prefix is not hex, too short, or ambiguous.
        NotFoundError: no id begins with it.
    """
    digits = _check_hex(prefix, "error")
    _check_length(prefix, digits, "error")
    found = store.group_ids(digits, digits + "g", _CANDIDATES + 1)
    _check_single("error", digits, found, "see 'ztrace errors'")
    return found[0]


def shorten_traces(store: Names, trace_ids: Sequence[str]) -> dict[str, str]:
    """Return for each trace id (hex) a prefix that no other stored id has; the whole of one of 64 bits."""
    long = [trace_id for trace_id in trace_ids if not trace_id.startswith(_SHORT_ZEROS)]
    others = {each.hex() for each in store.nearest_traces([bytes.fromhex(trace_id) for trace_id in long])}
    # The digits of an id of 64 bits name it, and none that begins with them.
    same = _find(store, [_SHORT_ZEROS + trace_id[:_SHORT_DIGITS] for trace_id in long])
    others |= {_own_digits(each.hex()) for each in same}
    short = {trace_id: _shorten(trace_id, SHOWN_TRACE_DIGITS, others - {trace_id}) for trace_id in long}
    return {trace_id: short.get(trace_id) or _own_digits(trace_id) for trace_id in trace_ids}


def shorten_groups(store: Names, groups: Sequence[str]) -> dict[str, str]:
    """Return for each exception group's id a prefix that no other stored id has."""
    others = set(store.nearest_groups(groups))
    return {group: _shorten(group, SHOWN_GROUP_DIGITS, others - {group}) for group in groups}


def _shorten(identifier: str, digits: int, neighbours: Collection[str]) -> str:
    while digits < len(identifier) and any(other.startswith(identifier[:digits]) for other in neighbours):
        digits += 1
    return identifier[:digits]


def _check_hex(prefix: str, what: str) -> str:
    digits = prefix.strip().lower()
    if not _HEX.fullmatch(digits):
        raise SettingsError(
            f"{quote(prefix)} is not {_ARTICLES[what]} {what} id", hint="an id has digits 0-9 and a-f"
        )
    return digits


def _check_length(prefix: str, digits: str, what: str) -> None:
    if len(digits) < MIN_PREFIX:
        raise SettingsError(
            f"{quote(prefix)} is too short for {_ARTICLES[what]} {what} id",
            hint=f"give at least {MIN_PREFIX} digits",
        )


def _check_single(what: str, digits: str, found: list[str], hint: str) -> None:
    if not found:
        raise NotFoundError(f"no {what} begins with {digits}", hint=hint)
    if len(found) > 1 and digits not in found:
        names = ", ".join(found[:_CANDIDATES]) + (", …" if len(found) > _CANDIDATES else "")
        raise SettingsError(f"{digits} is ambiguous: {names}", hint="give more digits")
