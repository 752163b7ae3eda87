"""W3C trace context: parsing, formatting, injection and extraction."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ztrace
from tests.ztrace.recording import Recorder
from ztrace.context import SpanContext
from ztrace.propagation import format_traceparent, parse_traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


def read(traceparent: Any, tracestate: Any = None) -> SpanContext:
    """Parse a valid traceparent."""
    context = parse_traceparent(traceparent, tracestate)
    assert context is not None
    return context


@pytest.mark.parametrize(
    "traceparent",
    [
        VALID,
        VALID.encode(),
        f" {VALID}",
        f"\t{VALID} ",
        f"01-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01-what-the-future-brings",
        f"cc-{TRACE}-{SPAN}-01-WHAT THE FUTURE BRINGS",
        f"fe-{TRACE}-{SPAN}-01",
    ],
)
def test_valid_contexts_are_read(traceparent: Any) -> None:
    """Version 00 and the known prefix of higher versions are parsed, and sent on as version 00."""
    context = read(traceparent)
    assert (context.trace_id.hex(), context.span_id.hex()) == (TRACE, SPAN)
    assert format_traceparent(context) == VALID


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        " ",
        "-",
        "00",
        "00-",
        "---",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-011",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"0-{TRACE}-{SPAN}-01",
        f"000-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01-more",
        f"FF-{TRACE}-{SPAN}-01",
        f"0G-{TRACE}-{SPAN}-01",
        f"CC-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE}-{SPAN}-.1",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}0-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
        f"00-{TRACE} {SPAN}-01",
        f"00 {TRACE}-{SPAN}-01",
        f"00-{TRACE[:-2]}  -{SPAN}-01",
        f"00-{TRACE}-{SPAN[:-2]}  -01",
        f"00_{TRACE}_{SPAN}_01",
        f"00{TRACE}-{SPAN}--01",
        f"{VALID},{VALID}",
        VALID.encode("utf-16"),
        b"\xff" * 55,
        bytearray(VALID, "ascii"),
        None,
        55,
        [VALID],
        {"traceparent": VALID},
        "0" * 1_000_000,
    ],
)
def test_invalid_contexts_are_none(traceparent: Any) -> None:
    """A malformed traceparent is ignored as if absent."""
    assert parse_traceparent(traceparent) is None


@pytest.mark.parametrize(
    ("flags", "kept"), [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("a9", "01")]
)
def test_known_flags_are_kept_and_others_dropped(flags: str, kept: str) -> None:
    """The sampled and random-trace-id flags are passed on, and bits without a meaning yet are cleared."""
    assert format_traceparent(read(f"00-{TRACE}-{SPAN}-{flags}"))[-2:] == kept


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.integers(0, 3))
def test_what_is_written_is_read(trace_id: bytes, span_id: bytes, flags: int) -> None:
    """A formatted context is parsed back, unless one of its ids is zero."""
    context = parse_traceparent(format_traceparent(SpanContext(trace_id, span_id, (flags, ""))))
    if not any(trace_id) or not any(span_id):
        assert context is None
    else:
        assert context is not None
        assert (context.trace_id, context.span_id, context.w3c) == (trace_id, span_id, (flags, ""))


@given(
    st.one_of(st.text(), st.text(alphabet="0123456789abcdefAF- \t", min_size=50, max_size=60), st.binary())
)
def test_any_text_is_a_context_or_none(text: Any) -> None:
    """Parsing arbitrary text never raises, and a parsed context survives a round trip."""
    context = parse_traceparent(text, text)
    if context is not None:
        again = read(format_traceparent(context))
        assert (again.trace_id, again.span_id) == (context.trace_id, context.span_id)


def state_after(tracestate: Any) -> str:
    """Return the tracestate as passed on."""
    return read(VALID, tracestate).w3c[1]


@pytest.mark.parametrize("state", ["", "a=1", "a=1,b=2", "a=1 , b=2", "x" * 512, ",".join(["a=1"] * 32)])
def test_a_tracestate_within_the_limits_is_passed_on_unchanged(state: str) -> None:
    """A tracestate of up to 32 members and 512 characters is passed on unchanged."""
    assert state_after(state) == state


def test_members_after_the_thirty_second_are_dropped() -> None:
    """A tracestate of more than 32 members keeps the leftmost, which are the most recent."""
    members = [f"m{number}={number}" for number in range(40)]
    assert state_after(" , ".join(members)) == ",".join(members[:32])


def test_only_whole_members_are_dropped() -> None:
    """A tracestate of more than 512 characters loses whole members from the right."""
    members = [f"m{number}=" + "x" * 96 for number in range(10)]
    kept = state_after(",".join(members)).split(",")
    assert kept == members[:5]
    assert state_after("m=" + "x" * 600) == ""


@pytest.mark.parametrize(
    "state", ["a=1\r\nX-Admin: 1", "a=1\n", "a=\0", "ä=1", "a=\ud800", 5, None, b"a=1", ["a=1"]]
)
def test_a_tracestate_that_is_not_valid_is_dropped(state: Any) -> None:
    """A tracestate that could break the next request's headers is dropped, and the traceparent is kept."""
    assert state_after(state) == ""


def test_tabs_between_members_are_spaces() -> None:
    """Tabs between members, which W3C allows, are replaced by spaces."""
    assert state_after("a=1\t,\tb=2") == "a=1 , b=2"


def test_the_current_span_is_injected(recorder: Recorder) -> None:
    """`inject` adds the current span's ids with the flags of a new trace to the carrier's other entries."""
    carrier: dict[str, str] = {"other": "kept"}
    with ztrace.span("a"):
        ztrace.inject(carrier)
    ids = recorder.span
    assert carrier == {"other": "kept", "traceparent": f"00-{ids.trace_id.hex()}-{ids.span_id.hex()}-03"}


def test_a_given_span_is_injected(recorder: Recorder) -> None:
    """`inject` takes an explicit context, with its tracestate."""
    carrier: dict[str, str] = {}
    with ztrace.span("a"):
        ztrace.inject(carrier, read(VALID, "a=1"))
    assert carrier == {"traceparent": VALID, "tracestate": "a=1"}


def test_state_and_flags_travel_through_a_span(recorder: Recorder) -> None:
    """Incoming flags and tracestate are injected below the span that serves the request."""
    out: dict[str, str] = {}
    incoming = {"traceparent": f"00-{TRACE}-{SPAN}-00", "tracestate": "a=1"}
    with ztrace.span("serve", parent=ztrace.extract(incoming)), ztrace.span("call"):
        ztrace.inject(out)
    call = recorder.named("call")
    assert out == {"traceparent": f"00-{TRACE}-{call.span_id.hex()}-00", "tracestate": "a=1"}


def test_without_a_span_nothing_is_injected(counts: dict[str, int]) -> None:
    """Nothing is injected outside of spans, nor while ztrace is unconfigured."""
    carrier: dict[str, str] = {}
    ztrace.inject(carrier)
    with ztrace.span("a") as span:
        ztrace.inject(carrier)
        ztrace.inject(carrier, span)
    assert carrier == {}
    assert counts == {}


@pytest.mark.parametrize("spell", [str.lower, str.title, str.upper])
def test_carriers_may_spell_the_names_in_three_ways(spell: Any) -> None:
    """`extract` accepts the header names in lower case, title case and upper case."""
    context = ztrace.extract({spell("traceparent"): VALID, spell("tracestate"): "a=1"})
    assert context is not None
    assert (context.span_id.hex(), context.w3c) == (SPAN, (1, "a=1"))


@pytest.mark.parametrize("carrier", [{}, {"tracestate": "a=1"}, {"traceparent": None}, {"traceparent": "x"}])
def test_a_carrier_without_a_context_gives_none(carrier: Any, counts: dict[str, int]) -> None:
    """A carrier without a valid traceparent gives no context and counts no failure."""
    assert ztrace.extract(carrier) is None
    assert counts == {}


@pytest.mark.parametrize("carrier", [None, 5, "text", []])
def test_what_is_no_carrier_does_no_harm(recorder: Recorder, counts: dict[str, int], carrier: Any) -> None:
    """An object that is no carrier is counted as a failure in both directions, and nothing is raised."""
    assert ztrace.extract(carrier) is None
    with ztrace.span("a"):
        ztrace.inject(carrier)
    assert (counts.pop("extract"), counts.pop("inject")) == (1, 1)


def test_a_context_of_a_megabyte_is_not_copied() -> None:
    """A huge traceparent is invalid, and of a huge tracestate only whole members at its start are read."""
    huge = "x" * 1_000_000
    contexts = [f" {VALID}{huge}", f"01-{TRACE}-{SPAN}-01-{huge}", f" {VALID}{huge}".encode()]
    states = [(f"a=1,\tb={huge}", "a=1"), (huge, "")]
    tracemalloc.start()
    try:
        for context in contexts:
            assert parse_traceparent(context) is None
        for state, kept in states:
            assert read(VALID, state).w3c[1] == kept
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
