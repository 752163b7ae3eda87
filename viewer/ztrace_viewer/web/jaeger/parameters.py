"""What is asked in a URL, as Jaeger's servers read it.

One idea: a question is checked whole before the database is opened, so that whoever asks wrongly is told so,
in one line, whatever the state of the file.
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

#: Traces in an answer where no number is given, as with Jaeger.
DEFAULT_LIMIT = 100
#: Traces in an answer at most: as many as Jaeger's page asks for.
MAX_LIMIT = 1500
#: Traces that may be asked for by their ids at once.
MAX_IDS = 1000
#: Tags in a question: each is looked for in every span that comes into question.
MAX_TAGS = 32
#: How far back dependencies go where nothing is said, as with Jaeger.
DEFAULT_LOOKBACK_NS = UNITS_NS["d"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRACE_ID = re.compile(r"[0-9a-fA-F]{1,32}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)
#: Go's units.
_UNITS = "|".join(("ns", "us", "µs", "\N{GREEK SMALL LETTER MU}s", "ms", "s", "m", "h"))
_DURATION_PART = re.compile(rf"([0-9]{{1,18}}(?:\.[0-9]{{0,18}})?|\.[0-9]{{1,18}})({_UNITS})", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d{1,30}))?(Z|[+-]\d\d:\d\d)", re.ASCII
)  # RFC 3339
_TRUE, _FALSE = {"1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}


class ParameterError(SettingsError):
    """A parameter of a URL cannot be used."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which traces are looked for: those with a span that is all of this; None and no tags leave it open.

    Attributes:
        start_ns: when the trace began at the earliest, Unix.
        end_ns: when it began at the latest, Unix.
        min_ns: how long the span took at least.
        max_ns: how long it took at most.
        tags: names to values as text.
        limit: how many traces are wanted, the newest.
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
    """Read a trace id, of which zeros at the beginning may have been left out."""
    if not _TRACE_ID.fullmatch(text):
        raise ParameterError(f"{text[:40]!r} is not a trace id", hint="it has up to 32 hex digits")
    return bytes.fromhex(text.zfill(32))


def parse_trace_ids(texts: Sequence[str]) -> list[bytes]:
    """Read the trace ids of one question, each once."""
    if len(texts) > MAX_IDS:
        raise ParameterError(f"{len(texts):,} trace ids are too many", hint=f"ask for {MAX_IDS:,} at once")
    return list(dict.fromkeys(map(parse_trace_id, texts)))


def parse_integer(text: str, name: str) -> int:
    """Read a whole number."""
    if not _INTEGER.fullmatch(text):
        raise ParameterError(f"{name} is not a whole number: {text[:40]!r}")
    return int(text)


def parse_limit(text: str, name: str) -> int:
    """Read how many traces are wanted; more than there may be is as good as that."""
    if not text:
        return DEFAULT_LIMIT
    limit = parse_integer(text, name)
    if limit < 1:
        raise ParameterError(f"{name} is {limit}", hint="ask for one trace at least")
    return min(limit, MAX_LIMIT)


def parse_boolean(text: str, name: str) -> bool:
    """Read yes or no as Go does."""
    if text and text not in _TRUE | _FALSE:
        raise ParameterError(f"{name} is neither true nor false: {text[:40]!r}")
    return text in _TRUE


def parse_go_duration(text: str, name: str) -> int | None:
    """Read a duration as Go writes it, ``1m30s`` or ``1.5ms``.

    Returns:
        Nanoseconds; None for no text and for nothing, which Jaeger takes for "any".
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
    """Read RFC 3339; Unix nanoseconds."""
    # Grafana does not escape the sign of a zone, which arrives as a space.
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
    """Return a moment that SQLite can compare."""
    return max(0, min(moment_ns, INT64_MAX))


def parse_tags(pairs: Sequence[str], objects: Sequence[str], name: str) -> dict[str, str]:
    """Read tags, ``key:value`` each or JSON objects of texts."""
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
        raise ParameterError(f"{len(tags)} tags are too many", hint=f"ask for {MAX_TAGS} at most")
    return tags


def _parse_object(text: str, name: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{name} is not JSON", hint='write it like {"http.method": "GET"}') from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ParameterError(
            f"{name} is not a JSON object of texts", hint='numbers in quotes: {"retries": "3"}'
        )
    # Half of a surrogate pair is no text that could be stored, so nothing has it.
    return {_encodable(key): _encodable(value) for key, value in found.items()}


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def check_order(question: Question) -> Question:
    """Return the question if its bounds are in order."""
    if question.min_ns is not None and question.max_ns is not None and question.max_ns < question.min_ns:
        raise ParameterError("the longest duration is less than the shortest")
    return question


def read_version_1(query: QueryParams) -> Question:
    """Return what ``/api/traces`` asks; times are microseconds."""
    bounds = {}
    for name, otherwise_ns in (("start", 0), ("end", INT64_MAX)):
        text = query.get(name, "")
        bounds[name] = clamp(parse_integer(text, name) * UNITS_NS["us"]) if text else otherwise_ns
    parse_boolean(query.get("raw", ""), "raw")
    return check_order(
        Question(
            start_ns=bounds["start"],
            # The microsecond that is named belongs to it.
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
    """Return what ``/api/v3/traces`` asks, in either spelling of the names."""

    def get(name: str, *others: str) -> str:
        names = (f"query.{name}", f"query.{_spell_with_underscores(name)}", *others)
        return next((query[each] for each in names if query.get(each)), "")

    since, until = get("startTimeMin"), get("startTimeMax")
    if not since or not until:
        raise ParameterError("query.startTimeMin and query.startTimeMax are required")
    if query.get("query.filter"):
        raise ParameterError("query.filter is not served", hint="use query.attributes")
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
    """Return the first and the last moment that dependencies are asked for; they come as milliseconds."""
    end, lookback = query.get("endTs", ""), query.get("lookback", "")
    end_ns = parse_integer(end, "endTs") * UNITS_NS["ms"] if end else now_ns
    back_ns = parse_integer(lookback, "lookback") * UNITS_NS["ms"] if lookback else DEFAULT_LOOKBACK_NS
    return clamp(end_ns - back_ns), clamp(end_ns)


def _spell_with_underscores(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
