"""Parsing of query parameters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from ztrace.records import INT64_MAX
from ztrace_viewer.terminal.durations import UNITS_NS
from ztrace_viewer.web.jaeger.parameters import (
    MAX_LIMIT,
    ParameterError,
    parse_go_duration,
    parse_limit,
    parse_moment,
    parse_tags,
    parse_trace_id,
    read_stretch,
    read_version_1,
    read_version_3,
)


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("", None),
        ("0", None),
        ("0s", None),
        ("1.5ms", 1_500_000),
        ("2s", 2_000_000_000),
        ("1m30s", 90_000_000_000),
        ("1h0m0.5s", 3_600_500_000_000),
        ("100us", 100_000),
        ("100µs", 100_000),
        ("100\N{GREEK SMALL LETTER MU}s", 100_000),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("+3ns", 3),
        ("99999999999999h", INT64_MAX),
    ],
)
def test_durations_as_go_writes_them(text: str, duration_ns: int | None) -> None:
    """Go's durations with several units and fractions are parsed, and an empty one is no condition."""
    assert parse_go_duration(text, "minDuration") == duration_ns


@pytest.mark.parametrize(
    "text",
    ["soon", "5", "1.5", "-1s", "1s2", "1 s", "s", ".s", "1d", "+", "\N{ARABIC-INDIC DIGIT ONE}s", "1e3s"],
)
def test_what_is_no_duration(text: str) -> None:
    """An invalid duration raises an error that names the parameter."""
    with pytest.raises(ParameterError, match="minDuration is not a duration"):
        parse_go_duration(text, "minDuration")


@pytest.mark.parametrize(
    ("text", "moment_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-31T12:00:00Z", 1_769_860_800_000_000_000),
        ("2026-01-31T12:00:00.123456789Z", 1_769_860_800_123_456_789),
        ("2026-01-31T12:00:00.1234567891234Z", 1_769_860_800_123_456_789),
        ("2026-01-31t12:00:00z", 1_769_860_800_000_000_000),
        ("2026-01-31T14:00:00+02:00", 1_769_860_800_000_000_000),
        ("2026-01-31T14:00:00 02:00", 1_769_860_800_000_000_000),
        ("1900-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59Z", INT64_MAX),
    ],
)
def test_moments(text: str, moment_ns: int) -> None:
    """Moments are parsed to the nanosecond, with a space for a plus sign, within the range of SQLite."""
    assert parse_moment(text, "query.startTimeMin") == moment_ns


@pytest.mark.parametrize(
    "text",
    [
        "noon",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-13-31T12:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "1" * 99,
    ],
)
def test_what_is_no_moment(text: str) -> None:
    """A date, a time without zone or an impossible date raises an error."""
    with pytest.raises(ParameterError, match="is not a time"):
        parse_moment(text, "query.startTimeMin")


def test_limits() -> None:
    """The limit is 100 by default, at most the maximum, and at least one."""
    assert (parse_limit("", "limit"), parse_limit("7", "limit")) == (100, 7)
    assert parse_limit("1" + "0" * 20, "limit") == MAX_LIMIT
    for text in ("0", "-1", "many", "1.0", "1" * 31):
        with pytest.raises(ParameterError, match="limit"):
            parse_limit(text, "limit")


def test_trace_ids() -> None:
    """A trace id is parsed with or without leading zeros."""
    assert parse_trace_id("abc") == bytes(14) + b"\x0a\xbc"
    assert parse_trace_id("AB" * 16) == b"\xab" * 16
    for text in ("", "xyz", "0" * 33, "\N{ARABIC-INDIC DIGIT ONE}"):
        with pytest.raises(ParameterError, match="is not a trace id"):
            parse_trace_id(text)


def test_tags() -> None:
    """Tags are parsed as pairs, whose values may contain colons, and as objects, which take precedence."""
    pairs, objects = ["a:1", "url:http://b", "empty:"], ['{"a": "2"}', ""]
    assert parse_tags(pairs, objects, "tags") == {"a": "2", "url": "http://b", "empty": ""}
    with pytest.raises(ParameterError, match="tag is not KEY:VALUE"):
        parse_tags(["a"], [], "tags")
    for text in ("[]", '{"a": 1}', "{", "[" * 100_000):
        with pytest.raises(ParameterError, match="tags is not"):
            parse_tags([], [text], "tags")
    with pytest.raises(ParameterError, match="too many"):
        parse_tags([f"{number}:" for number in range(33)], [], "tags")


def test_version_3_is_spelled_in_two_ways() -> None:
    """Both spellings of version 3's parameters give the same question."""
    new = {
        "query.serviceName": "shop",
        "query.operationName": "checkout",
        "query.startTimeMin": "2026-01-31T12:00:00Z",
        "query.startTimeMax": "2026-01-31T13:00:00Z",
        "query.durationMin": "1ms",
        "query.durationMax": "1s",
        "query.searchDepth": "5",
        "query.attributes": '{"a": "b"}',
    }
    old = {
        "query.service_name": "shop",
        "query.operation_name": "checkout",
        "query.start_time_min": "2026-01-31T12:00:00Z",
        "query.start_time_max": "2026-01-31T13:00:00Z",
        "query.duration_min": "1ms",
        "query.duration_max": "1s",
        "query.num_traces": "5",
        "query.attributes": '{"a": "b"}',
    }
    question = read_version_3(QueryParams(new))
    assert question == read_version_3(QueryParams(old))
    assert (question.service, question.limit, question.min_ns) == ("shop", 5, UNITS_NS["ms"])


def test_what_version_3_cannot_answer_is_said() -> None:
    """An unsupported condition raises an error instead of being ignored."""
    time = {"query.startTimeMin": "2026-01-31T12:00:00Z", "query.startTimeMax": "2026-01-31T13:00:00Z"}
    with pytest.raises(ParameterError, match=r"query\.filter is not supported"):
        read_version_3(QueryParams({**time, "query.filter": "{}"}))
    with pytest.raises(ParameterError, match="is not before"):
        read_version_3(QueryParams({**time, "query.startTimeMin": time["query.startTimeMax"]}))


def test_bounds_the_wrong_way_round() -> None:
    """Reversed durations raise an error, and reversed times find nothing, as in Jaeger."""
    with pytest.raises(ParameterError, match="less than the shortest"):
        read_version_1(QueryParams({"minDuration": "2s", "maxDuration": "1s"}))
    question = read_version_1(QueryParams({"start": "2", "end": "1"}))
    assert question.start_ns > question.end_ns


def test_dependencies_go_back_a_day() -> None:
    """Dependencies are counted over the last day by default."""
    day = UNITS_NS["d"]
    assert read_stretch(QueryParams(), 2 * day) == (day, 2 * day)
    assert read_stretch(QueryParams({"endTs": "1000", "lookback": "1"}), 0) == (999_000_000, 1_000_000_000)
    assert read_stretch(QueryParams({"endTs": "9" * 30, "lookback": "9" * 30}), 0) == (0, INT64_MAX)


_TEXT = st.text() | st.from_regex(r"[0-9.]{1,4}(ms|s|h)", fullmatch=True) | st.integers().map(str)
_NAMES = st.sampled_from(
    [
        *(
            "service",
            "operation",
            "start",
            "end",
            "minDuration",
            "maxDuration",
            "tag",
            "tags",
            "limit",
            "raw",
        ),
        *("query.startTimeMin", "query.startTimeMax", "query.durationMin", "query.searchDepth"),
        *("query.attributes", "query.rawTraces"),
    ]
)


@given(st.lists(st.tuples(_NAMES, _TEXT)))
def test_any_text_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    """Any text is parsed or rejected, with results within SQLite's integers."""
    for read in (read_version_1, read_version_3):
        try:
            question = read(QueryParams(pairs))
        except ParameterError:
            continue
        assert 0 <= question.start_ns <= INT64_MAX
        assert 0 <= question.end_ns <= INT64_MAX
        assert 1 <= question.limit <= MAX_LIMIT
        "".join((*question.tags, *question.tags.values())).encode()
