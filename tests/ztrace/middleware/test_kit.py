"""Parts that middleware shares: texts of contexts and replies, trailers, and streams."""

import gc
import marshal
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

import ztrace
from tests.ztrace.recording import Recorder, record_of
from ztrace import diagnostics
from ztrace.context import SpanContext, get_current
from ztrace.exceptions import messages, origins
from ztrace.middleware import carriers, kit, replies, trailers
from ztrace.middleware.streams import watch_stream
from ztrace.middleware.zmq.frames import MARKER, find_text
from ztrace.spans import CLIENT, SERVER, Span

ORIGIN = "o=" + "ab" * 16 + "-" + "cd" * 8
REMOTE = SpanContext(b"T" * 16, b"S" * 8, (1, "vendor=1;2,other=3"))


def start(name: str, kind: int) -> Span:
    """Start a span as middleware does."""
    return kit.new_span(name, kind, {}).start(activate=kind == SERVER)


def fail(text: str) -> BaseException:
    """Return an exception that has been raised."""
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_a_reply_carries_the_duration_and_the_origin(recorder: Recorder) -> None:
    """The caller's exception is marked with the callee's span, and recorded under the message sent."""
    served, error = start("charge", SERVER), fail("no; funds = 0 \N{EURO SIGN} 50%")
    served.end(error)
    text = replies.reply_text(served, error, "no; funds = 0 \N{EURO SIGN} 50%")
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text
    call, raised = start("charge", CLIENT), fail("as the caller sees it")
    assert replies.take_reply(call, text.encode(), raised)
    assert call.covered_ns == served.reply()
    assert origins.origin_of(raised) == (served.trace_id, served.span_id)
    call.end(raised)
    assert len(recorder.spans) == 2
    assert messages.message_of(raised) == "no; funds = 0 \N{EURO SIGN} 50%"


@pytest.mark.parametrize("text", [None, "", b"", memoryview(b"")])
def test_no_reply_is_no_error(recorder: Recorder, text: str | bytes | memoryview | None) -> None:
    """A peer without ztrace sends no reply, and nothing is counted."""
    call = start("charge", CLIENT)
    assert not replies.take_reply(call, text, fail("x"))
    call.end()


@pytest.mark.parametrize(
    "text",
    [
        "d",
        "d=-1",
        "d=1e9",
        "d=" + "9" * 30,
        "d=1;o=",
        "d=1;" + ORIGIN[:-1],
        "d=1;" + ORIGIN.replace("ab", "  "),
        "d=1;o=" + "0" * 32 + "-" + "0" * 16,
        "d=1;" + ORIGIN + ";m=%zz",
        "d=1;" + ORIGIN + ";m=%",
        "\N{EURO SIGN}",
        b"\xff\x00",
        "d=1;m=" + "x" * 1_000_000,
        b"d=1;m=" + b"x" * 1_000_000,
    ],
    ids=range(14),
)
def test_a_damaged_reply_is_counted(counts: dict[str, int], text: str | bytes) -> None:
    """A forged or damaged reply changes neither the span nor the exception."""
    call, raised = Span(), fail("x")
    call.covered_ns = 0
    assert not replies.take_reply(call, text, raised)
    assert call.covered_ns == 0
    assert origins.origin_of(raised) is None
    assert messages.message_of(raised) == "x"
    assert counts == {replies.UNREADABLE: 1}


@given(st.one_of(st.text(), st.binary(), st.from_regex(r"(d|o|m)=[0-9a-f%;=dom-]*", fullmatch=True)))
def test_any_reply_can_be_read(text: str | bytes) -> None:
    """No text raises, and the duration never falls."""
    call = Span()
    call.covered_ns, call.trace_id, call.span_id = 0, b"t" * 16, b"s" * 8
    replies.take_reply(call, text, ValueError("x"))
    assert call.covered_ns >= 0
    diagnostics.counts.clear()


@given(st.text())
def test_every_message_comes_back(message: str) -> None:
    """A message is sent as printable text within the limit, whatever it holds."""
    served = Span()
    served.kind, served.start_ns, served.covered_ns = SERVER, 0, 0
    served.apart.replied_ns = 5
    raised, error = fail("y"), fail("x")
    origins.mark_origin(error, b"t" * 16, b"s" * 8)
    text = replies.reply_text(served, error, message)
    assert len(text) < replies.MAX_REPLY
    assert text.isprintable()
    call = Span()
    call.covered_ns, call.trace_id, call.span_id = 0, b"t" * 16, b"s" * 8
    assert replies.take_reply(call, text, raised)
    expected = message.encode("utf-8", "replace").decode()
    assert messages.message_of(raised) == expected[: len(messages.message_of(raised))]


def test_a_map_is_a_reply_too(recorder: Recorder) -> None:
    """The form of zerorpc's former replies is read."""
    call, raised = start("charge", CLIENT), fail("x")
    assert replies.take_reply(call, {"d": 5, "o": [b"t" * 16, b"s" * 8], "m": "y"}, raised)
    assert call.covered_ns == 5
    assert origins.origin_of(raised) == (b"t" * 16, b"s" * 8)
    assert messages.message_of(raised) == "y"
    call.end()


@pytest.mark.parametrize(
    "reply",
    [{"d": "1"}, {"d": -1}, {"o": [b"t", b"s"]}, {"o": "t" * 49}, {"o": ["t" * 16, "s" * 8]}, {"d": None}],
)
def test_a_damaged_map_is_counted(counts: dict[str, int], reply: dict[str, object]) -> None:
    """A forged map changes nothing."""
    call, raised = Span(), fail("x")
    call.covered_ns = 0
    assert not replies.take_reply(call, reply, raised)
    assert call.covered_ns == 0
    assert origins.origin_of(raised) is None
    assert counts == {replies.UNREADABLE: 1}


def test_a_context_comes_back() -> None:
    """The bytes of a context have its ids, flags and tracestate."""
    for w3c in (REMOTE.w3c, (1, "")):
        context = SpanContext(REMOTE.trace_id, REMOTE.span_id, w3c)
        read = carriers.read_bytes(carriers.write_bytes(context))
        assert read == (REMOTE.trace_id, REMOTE.span_id, w3c)


@pytest.mark.parametrize(
    "data", [b"x", bytes(25), b"t" * 16 + bytes(9), bytes(16) + b"s" * 9, b"x" * 1_000_000]
)
def test_a_damaged_context_is_counted(counts: dict[str, int], data: bytes) -> None:
    """A forged or damaged context is no parent."""
    assert carriers.read_bytes(data) is None
    assert counts == {carriers.UNREADABLE: 1}


@pytest.mark.parametrize("traceparent", ["x", 5, ["x"], b"x" * 1_000_000])
def test_a_damaged_header_is_counted(counts: dict[str, int], traceparent: object) -> None:
    """A header's context that cannot be read is no parent; one without a context is no damage."""
    assert kit.read_context({"traceparent": traceparent}) is None
    assert counts == {carriers.UNREADABLE: 1}
    assert kit.read_context({"other": traceparent}) is None
    assert counts == {carriers.UNREADABLE: 1}


LARGE, STATE = b"x" * 1_000_000, "a=1," * 250_000
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize(
    ("read", "carrier"),
    [
        (carriers.read_bytes, LARGE),
        (carriers.read_bytes, memoryview(LARGE)),
        (lambda text: replies.take_reply(REMOTE, text), LARGE),
        (lambda text: replies.take_reply(REMOTE, text), memoryview(b"d=" + LARGE)),
        (lambda header: kit.read_context({"traceparent": header}), LARGE.decode()),
        (lambda state: kit.read_context({"traceparent": TRACEPARENT, "tracestate": state}), STATE),
        (trailers.read_trailer, memoryview(LARGE + trailers.make_trailer(b"d=1"))),
        (find_text, MARKER + LARGE),
        (find_text, zmq.Frame(MARKER + LARGE)),
    ],
)
def test_a_large_carrier_is_not_copied(
    counts: dict[str, int], read: Callable[[Any], object], carrier: Any
) -> None:
    """Reading a carrier of 1 MB takes a fraction of its memory, whether or not it can be read."""
    tracemalloc.start()
    try:
        read(carrier)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 250_000


def test_a_trailer_leaves_the_data_as_it_is(counts: dict[str, int]) -> None:
    """Self-delimiting encodings ignore a trailer, and it is found behind any of their kinds of buffers."""
    for encoding in (pickle, marshal):
        data = encoding.dumps({"a": b"\x00" * 100})
        sent = data + trailers.make_trailer(b"d=1")
        assert encoding.loads(sent) == encoding.loads(data)
        for received in (sent, bytearray(sent), memoryview(sent)):
            assert trailers.read_trailer(received) == b"d=1"
        assert trailers.read_trailer(data) is None
    assert counts == {}


def test_a_trailer_with_a_false_length_is_counted(counts: dict[str, int]) -> None:
    """A length beyond the data, or beyond the limit, makes no text."""
    trailer = trailers.make_trailer(b"d=1")
    assert trailers.read_trailer(trailer[1:]) is None
    assert trailers.read_trailer(b"x" * 70_000 + b"\xff\xff" + trailer[-8:]) is None
    assert counts == {trailers.UNREADABLE: 2}
    assert trailers.make_trailer(b"x" * 70_000) == b""


def steps(end: BaseException | None = None) -> Iterator[int]:
    """Yield two numbers, each within a span of its own that begins before and ends after, then end."""
    with ztrace.span("first"):
        yield 1
        with ztrace.span("within"):
            pass
    yield 2
    if end is not None:
        raise end


def serve(end: BaseException | None = None) -> Iterator[int]:
    """Return a watched stream of a served call."""
    stream = watch_stream(steps(end), start("list", SERVER), "pyro5")
    assert get_current() is None
    return stream


def test_a_stream_is_current_within_its_steps(recorder: Recorder) -> None:
    """Spans of the steps are children of the stream's, which ends with the last; the reader's are not."""
    stream = serve()
    for _ in stream:
        with ztrace.span("reader"):
            pass
    spans = {span.name: span for span in recorder.spans}
    assert spans["first"].parent_id == spans["list"].span_id
    assert spans["within"].parent_id == spans["first"].span_id
    assert spans["reader"].parent_id is None
    assert spans["list"].status == 0
    assert spans["list"].attributes is None


def test_a_failed_stream_ends_with_the_exception(recorder: Recorder) -> None:
    """The exception of a step is the stream's, and the traceback is the program's own."""
    error = ValueError("no more")
    with pytest.raises(ValueError, match="no more") as caught:
        list(serve(error))
    assert [entry.name for entry in caught.traceback][-1] == "steps"
    assert "__next__" not in [entry.name for entry in caught.traceback]
    assert record_of(recorder, "list").message == "no more"


@pytest.mark.parametrize("how", ["closed", "freed", "unread"])
def test_an_abandoned_stream_says_so(recorder: Recorder, how: str) -> None:
    """A stream that is closed, freed or never read ends with an attribute."""
    stream = serve()
    if how != "unread":
        next(stream)
    if how == "closed":
        stream.close()  # type: ignore[attr-defined]
    del stream
    gc.collect()
    assert recorder.named("list").attributes == {"pyro5.stream": "abandoned"}
