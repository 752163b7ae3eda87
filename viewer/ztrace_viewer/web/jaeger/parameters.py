"""Parameters of requests, parsed as Jaeger's servers do.

One idea: all parameters are validated before the database is opened, so an invalid request gets its error in
any state of the file.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from starlette.datastructures import QueryParams

from ztrace.errors import SettingsError
from ztrace.records import INT64_MAX
from ztrace_viewer.terminal.durations import UNITS_NS

#: Default number of traces in a response, as in Jaeger.
DEFAULT_LIMIT = 100
#: Most traces in a response; Jaeger's page requests as many.
MAX_LIMIT = 1500
#: Most trace ids in a request.
MAX_IDS = 1000
#: Most tags in a search; each is compared with every candidate span.
MAX_TAGS = 32
#: Default time of dependencies, as in Jaeger.
DEFAULT_LOOKBACK_NS = UNITS_NS["d"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRACE_ID = re.compile(r"[0-9a-fA-F]{1,32}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)
#: Units of Go's durations.
_UNITS = "|".join(("ns", "us", "µs", "\N{GREEK SMALL LETTER MU}s", "ms", "s", "m", "h"))
_DURATION_PART = re.compile(rf"([0-9]{{1,18}}(?:\.[0-9]{{0,18}})?|\.[0-9]{{1,18}})({_UNITS})", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d{1,30}))?(Z|[+-]\d\d:\d\d)", re.ASCII
)  # RFC 3339
_TRUE, _FALSE = {"1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}


class ParameterError(SettingsError):
    """A parameter of a request is invalid."""


@dataclass(frozen=True, slots=True)
class Question:
    """Conditions of a search for traces, of which one span has to meet all; None is no condition.

    Attributes:
        start_ns: earliest start of the trace, Unix.
        end_ns: latest start of the trace, Unix.
        min_ns: shortest duration of the span.
        max_ns: longest duration of the span.
        tags: values as text, by name.
        limit: most traces to return, the newest.
    """

    start_ns: int = 0
    end_ns: int = INT64_MAX
    service: str | None = None
    operation: str | None = None
    min_ns: int | None = None
    max_ns: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    limit: int = DEFAULT_LIMIT


def parse_trace_id(text: str) -> bytes:
    """Parse a trace id, whose leading zeros may be omitted."""
    if not _TRACE_ID.fullmatch(text):
        raise ParameterError(f"{text[:40]!r} is not a trace id", hint="it has up to 32 hex digits")
    return bytes.fromhex(text.zfill(32))


def parse_trace_ids(texts: Sequence[str]) -> list[bytes]:
    """Parse the trace ids of a request, each once."""
    if len(texts) > MAX_IDS:
        raise ParameterError(f"{len(texts):,} trace ids are too many", hint=f"request {MAX_IDS:,} at most")
    return list(dict.fromkeys(map(parse_trace_id, texts)))


def parse_integer(text: str, name: str) -> int:
    """Parse a whole number."""
    if not _INTEGER.fullmatch(text):
        raise ParameterError(f"{name} is not a whole number: {text[:40]!r}")
    return int(text)


def parse_limit(text: str, name: str) -> int:
    """Parse the number of traces, reduced to the largest one allowed."""
    if not text:
        return DEFAULT_LIMIT
    limit = parse_integer(text, name)
    if limit < 1:
        raise ParameterError(f"{name} is {limit}", hint="request one trace at least")
    return min(limit, MAX_LIMIT)


def parse_boolean(text: str, name: str) -> bool:
    """Parse a boolean as Go does."""
    if text and text not in _TRUE | _FALSE:
        raise ParameterError(f"{name} is neither true nor false: {text[:40]!r}")
    return text in _TRUE


def parse_go_duration(text: str, name: str) -> int | None:
    """Parse a duration in Go's form, ``1m30s`` or ``1.5ms``.

    Returns:
        Nanoseconds; None for an empty text and for zero, which mean "any" to Jaeger.
    """
    if not text:
        return None
    digits, total, position = text.removeprefix("+"), Decimal(0), 0
    while position < len(digits) and (part := _DURATION_PART.match(digits, position)):
        total += Decimal(part[1]) * UNITS_NS[part[2]]
        position = part.end()
    if text in ("0", "+0", "-0"):
        return None
    if position < len(digits) or not digits:
        raise ParameterError(f"{name} is not a duration: {text[:40]!r}", hint="write it like 1.5ms or 2s")
    return min(int(total), INT64_MAX) or None


def parse_moment(text: str, name: str) -> int:
    """Parse a time of RFC 3339 to Unix nanoseconds."""
    # Grafana does not escape the plus sign of a zone, which arrives as a space.
    found = _MOMENT.fullmatch(text.replace(" ", "+").upper())
    try:
        if found is None:
            raise ValueError(text)
        moment = datetime.fromisoformat(found[1] + found[3]).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ParameterError(
            f"{name} is not a time: {text[:40]!r}", hint="write it like 2026-01-31T14:05:00Z"
        ) from error
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    return clamp(seconds * UNITS_NS["s"] + int((found[2] or "").ljust(9, "0")[:9]))


def clamp(moment_ns: int) -> int:
    """Return a moment within the range of SQLite's integers."""
    return max(0, min(moment_ns, INT64_MAX))


def parse_tags(pairs: Sequence[str], objects: Sequence[str], name: str) -> dict[str, str]:
    """Parse tags, given as ``key:value`` or as JSON objects of strings."""
    tags: dict[str, str] = {}
    for pair in pairs:
        key, colon, value = pair.partition(":")
        if not colon:
            raise ParameterError(f"tag is not KEY:VALUE: {pair[:40]!r}")
        tags[key] = value
    for text in objects:
        if text:
            tags.update(_parse_object(text, name))
    if len(tags) > MAX_TAGS:
        raise ParameterError(f"{len(tags)} tags are too many", hint=f"give {MAX_TAGS} at most")
    return tags


def _parse_object(text: str, name: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{name} is not JSON", hint='write it like {"http.method": "GET"}') from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ParameterError(
            f"{name} is not a JSON object of strings", hint='write numbers in quotes: {"retries": "3"}'
        )
    # Half of a surrogate pair cannot be stored, so no span has it.
    return {_encodable(key): _encodable(value) for key, value in found.items()}


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def check_order(question: Question) -> Question:
    """Return the question, after a check of the order of its bounds."""
    if question.min_ns is not None and question.max_ns is not None and question.max_ns < question.min_ns:
        raise ParameterError("the longest duration is less than the shortest")
    return question


def read_version_1(query: QueryParams) -> Question:
    """Return the question of ``/api/traces``, whose times are microseconds."""
    bounds = {}
    for name, otherwise_ns in (("start", 0), ("end", INT64_MAX)):
        text = query.get(name, "")
        bounds[name] = clamp(parse_integer(text, name) * UNITS_NS["us"]) if text else otherwise_ns
    parse_boolean(query.get("raw", ""), "raw")
    return check_order(
        Question(
            start_ns=bounds["start"],
            # Includes the given microsecond.
            end_ns=clamp(bounds["end"] + UNITS_NS["us"] - 1),
            service=query.get("service") or None,
            operation=query.get("operation") or None,
            min_ns=parse_go_duration(query.get("minDuration", ""), "minDuration"),
            max_ns=parse_go_duration(query.get("maxDuration", ""), "maxDuration"),
            tags=parse_tags(query.getlist("tag"), query.getlist("tags"), "tags"),
            limit=parse_limit(query.get("limit", ""), "limit"),
        )
    )


def read_version_3(query: QueryParams) -> Question:
    """Return the question of ``/api/v3/traces``, with either spelling of the names."""

    def get(name: str, *others: str) -> str:
        names = (f"query.{name}", f"query.{_spell_with_underscores(name)}", *others)
        return next((query[each] for each in names if query.get(each)), "")

    since, until = get("startTimeMin"), get("startTimeMax")
    if not since or not until:
        raise ParameterError("query.startTimeMin and query.startTimeMax are required")
    if query.get("query.filter"):
        raise ParameterError("query.filter is not supported", hint="use query.attributes")
    start_ns, end_ns = parse_moment(since, "query.startTimeMin"), parse_moment(until, "query.startTimeMax")
    if start_ns >= end_ns:
        raise ParameterError("query.startTimeMin is not before query.startTimeMax")
    parse_boolean(get("rawTraces"), "query.rawTraces")
    return check_order(
        Question(
            start_ns=start_ns,
            end_ns=end_ns,
            service=get("serviceName") or None,
            operation=get("operationName") or None,
            min_ns=parse_go_duration(get("durationMin"), "query.durationMin"),
            max_ns=parse_go_duration(get("durationMax"), "query.durationMax"),
            tags=parse_tags((), query.getlist("query.attributes"), "query.attributes"),
            limit=parse_limit(get("searchDepth", "query.num_traces"), "query.searchDepth"),
        )
    )


def read_stretch(query: QueryParams, now_ns: int) -> tuple[int, int]:
    """Return the first and the last moment of dependencies, which are given in milliseconds."""
    end, lookback = query.get("endTs", ""), query.get("lookback", "")
    end_ns = parse_integer(end, "endTs") * UNITS_NS["ms"] if end else now_ns
    back_ns = parse_integer(lookback, "lookback") * UNITS_NS["ms"] if lookback else DEFAULT_LOOKBACK_NS
    return clamp(end_ns - back_ns), clamp(end_ns)


def _spell_with_underscores(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
