"""Forwarding: every span once to every destination, whether it is down, slow, refuses, or is killed."""

import json
import os
import random
import re
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.collector.messages import EPOCH_NS, Sender, make_open, make_span, row
from tests.collector.otlp.receivers import (
    Reply,
    answering,
    answering_grpc,
    script,
    tapping,
)
from tests.collector.otlp.requests import make_request, put_in_order, spans_of
from tests.collector.otlp.requests import make_span as make_otlp_span
from tests.collector.otlp.sending_on import (
    destinations,
    is_alive,
    refused,
    sending_on,
    status,
)
from tests.ports import find_port
from tests.ztrace.waiting import wait_for
from ztrace.records import Span
from ztrace_collector.forwarding.forwarder import FINISH_S
from ztrace_collector.otlp.forwarding.process import MAX_SPANS, UNWRITTEN
from ztrace_collector.otlp.sending.answers import Taken
from ztrace_collector.otlp.sending.deliver import open_transport
from ztrace_collector.otlp.sending.destinations import read_destinations

pytestmark = [pytest.mark.process, pytest.mark.slow]


def batch(first: int, count: int, start_ns: int = EPOCH_NS) -> list[Span]:
    """Return spans with consecutive numbers."""
    return [make_span(number, start_ns=start_ns) for number in range(first, first + count)]


def ids(spans: Sequence[Span]) -> list[bytes]:
    """Return the trace and span id of each span."""
    return [span.trace_id + span.span_id for span in spans]


def wait_until_even(path: Path, sent: int) -> None:
    """Wait until every destination has received this number of spans."""
    wait_for(lambda: all(each["sent"] == sent for each in destinations(path)))


def test_a_destination_has_every_span_once(path: Path) -> None:
    """A destination receives every span stored since it was named, once and in order."""
    sender = Sender()
    with sending_on(path) as collector:
        collector.feed(sender, batch(0, 10))
        collector.stop()
    with answering(script()) as (url, received):
        with sending_on(path, "--otlp", url) as collector:
            spans = batch(10, 500)
            collector.feed(sender, *(spans[at : at + 50] for at in range(0, 500, 50)))
            wait_until_even(path, 500)
            said = collector.stop()
        assert received.ids() == ids(spans)
    assert f"forwarding to {url}/v1/traces" in said
    assert re.search(rf"^{url}/v1/traces  up to date +500 +0 +0 +0$", status(path), re.M)
    (destination,) = json.loads(status(path, "--json"))["destinations"]
    assert (destination["state"], destination["spans_sent"], destination["spans_waiting"]) == (
        "up to date",
        500,
        0,
    )
    assert destination["success_ns"] >= destination["since_ns"] > 0
    assert sorted(os.listdir(path.parent)) == ["0.log", "2.log", "traces.db"]


def test_what_others_receive_is_what_was_made(path: Path) -> None:
    """A third-party receiver gets all fields of spans, and after a restart the spans of the meantime."""
    sender = Sender()
    attributes = {
        "text": "väl",
        "int": 7,
        "double": 1.0,
        "flag": True,
        "list": ["a", "b"],
        "raw": b"\0\xff",
    }
    failed = make_span(
        1,
        parent_id=b"parent!!",
        status=1,
        attributes=attributes,
        links=[[bytes(15) + b"\1", bytes(7) + b"\2"]],
        cpu_ns=5,
        exception=[
            "KeyError",
            "'card'",
            [],
            [],
            "raised",
            make_span(1).trace_id,
            make_span(1).span_id,
            [],
            [],
        ],
    )
    with tapping() as tap, sending_on(path, "--otlp", tap.url) as collector:
        collector.feed(sender, [make_span(0), failed])
        wait_for(lambda: len(tap.spans) == 2)
        plain, span = tap.spans
        assert (plain.trace_id, plain.span_id, plain.parent_span_id) == (*make_span(0)[:2], b"")
        assert (plain.name, plain.kind, plain.status.code) == ("charge", 2, 0)
        assert plain.end_time_unix_nano - plain.start_time_unix_nano == make_span(0).duration_ns
        assert (span.parent_span_id, span.status.code) == (b"parent!!", 2)
        found = {each.key: each.value for each in span.attributes}
        assert found["text"].string_value == "väl"
        assert (found["int"].int_value, found["double"].double_value) == (7, 1.0)
        assert (found["flag"].bool_value, found["raw"].bytes_value) == (True, b"\x00\xff")
        assert [each.string_value for each in found["list"].array_value.values] == ["a", "b"]
        assert found["ztrace.cpu_ns"].int_value == 5
        assert [(link.trace_id[-1], link.span_id[-1]) for link in span.links] == [(1, 2)]
        (event,) = span.events
        said = {each.key: each.value.string_value for each in event.attributes}
        assert (event.name, said["exception.type"], said["exception.message"]) == (
            "exception",
            "KeyError",
            "'card'",
        )
        wait_for(lambda: destinations(path)[0]["place"] == 2)  # The answer has been recorded too.
        tap.kill()
        collector.feed(sender, batch(2, 300))
        wait_for(lambda: destinations(path)[0]["failing_ns"])
        document = json.loads(status(path, "--json"))["destinations"][0]
        assert (document["state"], document["spans_waiting"]) == ("failing", 300)
        assert document["error"] == "connection refused"
        assert "failing for" in status(path)
        tap.start()
        wait_until_even(path, 302)
        wait_for(lambda: len(tap.spans) == 302)
        assert collector.find_child()
        assert destinations(path)[0]["failing_ns"] is None
    got = Counter(each.trace_id + each.span_id for each in tap.spans)
    assert got == Counter(ids([make_span(0), failed, *batch(2, 300)]))


def test_what_came_from_others_goes_on_as_it_came(path: Path) -> None:
    """Spans received by OTLP are sent on unchanged, with values of every type."""
    seeds = random.Random(5)
    spans = [_make_foreign(number, seeds) for number in range(60)]
    port = find_port()
    listen = ("--otlp-listen", f"127.0.0.1:{port}")
    with tapping() as tap, sending_on(path, "--otlp", tap.url, *listen) as collector:
        (here,) = read_destinations([f"http://127.0.0.1:{port}"], [], {})
        with closing(open_transport(here)) as transport:
            for at in range(0, 60, 20):
                assert transport.send(make_request(*spans[at : at + 20])) == Taken()
        wait_for(lambda: len(tap.spans) == 60)
        collector.stop()
    assert put_in_order(make_request(*tap.spans)) == put_in_order(make_request(*spans))


_CODES = (Status.STATUS_CODE_UNSET, Status.STATUS_CODE_OK, Status.STATUS_CODE_ERROR)


def _make_foreign(number: int, seeds: random.Random) -> OtlpSpan:
    """Return a span with every kind of data."""
    values = [
        AnyValue(string_value="väl"),
        AnyValue(int_value=-(1 << 60)),
        AnyValue(double_value=2.0),
        AnyValue(bool_value=False),
        AnyValue(bytes_value=seeds.randbytes(5)),
        AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue(string_value="1")])),
    ]

    def attributes() -> list[KeyValue]:
        return [KeyValue(key=f"key.{at}", value=seeds.choice(values)) for at in range(seeds.randrange(4))]

    return make_otlp_span(
        trace_id=seeds.randbytes(16),
        span_id=seeds.randbytes(8),
        parent_span_id=seeds.choice([b"", seeds.randbytes(8)]),
        name=f"span {number}",
        kind=seeds.randrange(6),
        trace_state=seeds.choice(["", "a=b"]),
        flags=seeds.choice([0, 1, 257]),
        attributes=attributes(),
        events=[
            OtlpSpan.Event(name="tick", time_unix_nano=EPOCH_NS + at, attributes=attributes())
            for at in range(seeds.randrange(3))
        ],
        links=[
            OtlpSpan.Link(trace_id=seeds.randbytes(16), span_id=seeds.randbytes(8), attributes=attributes())
            for _ in range(seeds.randrange(3))
        ],
        status=Status(code=seeds.choice(_CODES), message=seeds.choice(["", "gone"])),
        dropped_events_count=seeds.randrange(2),
    )


def test_a_dead_and_a_hanging_destination_hold_up_nobody(path: Path) -> None:
    """A dead and a hanging destination do not delay a third, and each has its own state and error."""
    released = threading.Event()

    def hang(request: ExportTraceServiceRequest) -> Reply | None:
        released.wait(30)
        return None

    dead = f"http://127.0.0.1:{find_port()}"
    with answering(script()) as (good, received), answering(hang) as (slow, _):
        options = [part for url in (dead, good, slow) for part in ("--otlp", url)]
        try:
            with sending_on(path, *options, OTEL_EXPORTER_OTLP_TIMEOUT="300") as collector:
                collector.feed(Sender(), batch(0, 200))
                wait_for(lambda: len(received.ids()) == 200)
                wait_for(lambda: len([each for each in destinations(path) if each["failing_ns"]]) == 2)
                began_s = time.monotonic()
                collector.stop()
                assert time.monotonic() - began_s < FINISH_S + 5
        finally:
            released.set()
    errors = {each["url"]: (each["error"], each["sent"]) for each in destinations(path)}
    assert errors == {
        f"{dead}/v1/traces": ("connection refused", 0),
        f"{good}/v1/traces": (None, 200),
        f"{slow}/v1/traces": ("no answer within 0.3 s", 0),
    }


def test_what_is_to_be_sent_again_and_what_not(path: Path) -> None:
    """HTTP 429 and 503 are retried, and a partial success and 400 are counted as refused."""
    partial = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=4, error_message="too old")
    )
    replies = script(
        Reply(429),
        Reply(503, b"", {"retry-after": "1"}),
        Reply(200, partial.SerializeToString()),
        Reply(400, b"I know no such spans"),
    )
    with answering(replies) as (url, received), sending_on(path, "--otlp", url) as collector:
        sender = Sender()
        collector.feed(sender, batch(0, 10))
        wait_for(lambda: destinations(path)[0]["sent"] == 6)
        collector.feed(sender, batch(10, 5))
        wait_for(lambda: destinations(path)[0]["refused"] == 9)
        assert json.loads(status(path, "--json"))["destinations"][0]["state"] == "refusing"
        collector.feed(sender, batch(15, 5))
        wait_for(lambda: destinations(path)[0]["sent"] == 11)
        said = collector.stop()
        assert [len(list(spans_of(request))) for request in received.requests] == [10, 10, 10, 5, 5]
        assert received.requests[0] == received.requests[1] == received.requests[2]
    assert refused(path) == {"partial success": 4, "HTTP 400": 5}
    assert "rejects spans: partial success: too old" in said
    text = status(path)
    assert "I know no such spans" in text
    assert "up to date" in text


def test_what_is_too_large_is_sent_in_halves(path: Path) -> None:
    """A request that is too large is halved, down to the single span that is refused."""
    large = make_span(7).span_id

    def answer(request: ExportTraceServiceRequest) -> Reply:
        return Reply(413 if any(span.span_id == large for span in spans_of(request)) else 200)

    with answering(answer) as (url, received), sending_on(path, "--otlp", url) as collector:
        collector.feed(Sender(), batch(0, 100))
        wait_until_even(path, 99)
        collector.stop()
        assert sorted(received.ids()) == sorted(ids(batch(0, 7) + batch(8, 92)))
    assert refused(path) == {"too large": 1}
    assert destinations(path)[0]["place"] == 100


def test_grpc(path: Path) -> None:
    """Spans are sent over gRPC, with compression and a header."""
    with answering_grpc() as (url, received):
        options = ("--otlp", url, "--otlp-header", "x-key=hunter-two")
        with sending_on(path, *options, OTEL_EXPORTER_OTLP_COMPRESSION="gzip") as collector:
            collector.feed(Sender(), batch(0, 300))
            wait_until_even(path, 300)
            collector.stop()
        assert received.ids() == ids(batch(0, 300))
        assert received.headers[0]["x-key"] == "hunter-two"


def test_the_variables_and_no_secret_anywhere(path: Path) -> None:
    """Endpoint and headers come from variables, and secrets appear in neither file nor output."""
    with answering(lambda request: Reply(401, b"no: hunter-two")) as (url, received):
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url.replace("//", "//user:hunter-two@"),
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-key=hunter-two",
        }
        with sending_on(path, "--otlp", "env", **variables) as collector:
            collector.feed(Sender(), batch(0, 3))
            wait_for(lambda: destinations(path)[0]["refused"] == 3)
            command = Path(f"/proc/{collector.find_child()}/cmdline").read_bytes()
            said = collector.stop()
    assert received.headers[0]["x-key"] == "hunter-two"
    assert received.headers[0]["authorization"].startswith("Basic ")
    for text in (said.encode(), command, status(path).encode(), path.read_bytes()):
        assert b"hunter-two" not in text
    assert "no: …" in status(path)


@pytest.mark.parametrize("victim", ["collector", "child"])
def test_a_kill_loses_nothing(path: Path, victim: str) -> None:
    """Killing the collector or its sending process loses no span and repeats few requests."""
    batches = [batch(at, 100) for at in range(0, 6000, 100)]
    with answering(script()) as (url, received):
        sender = Sender()

        with sending_on(path, "--otlp", url) as collector:
            child = collector.find_child()
            collector.feed(sender, *batches[:20])
            # At this point some spans are in flight, answered, or recorded.
            wait_for(lambda: len(received.ids()) > 1000)
            if victim == "collector":
                collector.kill()
                wait_for(lambda: not is_alive(child))
            else:
                os.kill(child, signal.SIGKILL)
                collector.feed(sender, *batches[20:])
                wait_for(lambda: destinations(path)[0]["place"] == 6000)
                assert "was killed by signal 9; restarting it" in collector.stop()
        if victim == "collector":
            with sending_on(path, "--otlp", url) as collector:
                collector.feed(sender, *batches[20:])
                wait_for(lambda: destinations(path)[0]["place"] == 6000)
                collector.stop()
        got = Counter(received.ids())
    assert set(got) == {each for one in batches for each in ids(one)}
    assert max(got.values()) <= 2
    assert sum(got.values()) - len(got) <= (UNWRITTEN + 1) * MAX_SPANS


def test_what_retention_deletes_is_skipped_and_counted(path: Path) -> None:
    """Spans deleted by retention are counted as skipped, and later ones are sent."""
    port = find_port()
    options = ("--otlp", f"http://localhost:{port}", "--keep", "1h")
    sender = Sender()
    with sending_on(path, *options) as collector:
        collector.feed(sender, batch(0, 120))
        collector.stop()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE arrivals SET hour = hour - 3")
    with sending_on(path, *options) as collector:
        wait_for(lambda: row(path, "SELECT count(*) AS n FROM spans")["n"] == 0)
        collector.feed(sender, batch(200, 30))
        collector.stop()
    with answering(script(), port) as (_, received):
        with sending_on(path, *options) as collector:
            collector.feed(sender, batch(400, 5))
            wait_until_even(path, 35)
            collector.stop()
        assert len(set(received.ids())) == len(received.ids()) == 35
    (destination,) = destinations(path)
    assert (destination["skipped"], destination["refused"], destination["place"]) == (120, 0, 155)
    assert "120" in status(path)


def test_what_is_left_at_the_end_is_sent_after_the_next_start(path: Path) -> None:
    """Spans unsent at the end are sent after the next start that names the destination."""
    port = find_port()
    url = f"http://localhost:{port}"
    sender = Sender()
    with sending_on(path, "--otlp", url) as collector:
        collector.feed(sender, batch(0, 10))
        said = collector.stop()
    assert f"10 spans have not been sent to {url}/v1/traces yet" in said
    with sending_on(path) as collector:
        collector.feed(sender, batch(10, 10))
        collector.stop()
    assert json.loads(status(path, "--json"))["destinations"][0]["state"] == "off"
    with answering(script(), port) as (_, received):
        with sending_on(path, "--otlp", url) as collector:
            wait_until_even(path, 20)
            collector.stop()
        assert received.ids() == ids(batch(0, 20))


def test_the_end_waits_for_what_can_be_sent(path: Path) -> None:
    """Spans stored just before the end are sent before the collector exits."""
    with answering(script()) as (url, received):
        with sending_on(path, "--otlp", url) as collector:
            collector.find_child()
            collector.feed(Sender(), batch(0, 1000))
            collector.stop()
        assert len(received.ids()) == 1000
    assert destinations(path)[0]["sent"] == 1000


@pytest.mark.parametrize("wanted", [True, False])
def test_spans_without_an_end(path: Path, wanted: bool) -> None:
    """Unfinished spans are sent once after their process has ended, and only on request."""
    options = ["--otlp-unfinished"] if wanted else []
    with answering(script()) as (url, received):
        sender = Sender()
        with sending_on(path, "--otlp", url, *options) as collector:
            collector.publish(sender, sender.open(make_open(7), make_open(8)), sender.data(make_span(0)))
            wait_until_even(path, 1)
            assert len(received.ids()) == 1
            collector.publish(sender, sender.bye())
            wait_for(lambda: row(path, "SELECT state FROM publishers")["state"] == "ended")
            if wanted:
                wait_until_even(path, 3)
            collector.stop()
        with sending_on(path, "--otlp", url, *options) as collector:
            collector.feed(Sender(1), batch(20, 1))
            wait_until_even(path, 4 if wanted else 2)
            collector.stop()
        unfinished = ids([make_open(7), make_open(8)]) if wanted else []
        assert sorted(received.ids()) == sorted(ids([make_span(0), make_span(20)]) + unfinished)
        marked = [
            span.trace_id + span.span_id
            for request in received.taken
            for span in spans_of(request)
            if any(each.key == "ztrace.unfinished" for each in span.attributes)
        ]
        assert sorted(marked) == sorted(unfinished)


def test_another_file_is_begun_anew(path: Path) -> None:
    """After a file is moved away, the spans of the new file are sent from its beginning."""
    with answering(script()) as (url, received):
        with sending_on(path, "--otlp", url) as collector:
            sender = Sender()
            collector.feed(sender, batch(0, 50))
            wait_until_even(path, 50)
            for each in path.parent.glob("traces.db*"):
                if not each.name.endswith(".lock"):
                    each.rename(each.with_name(f"old-{each.name}"))
            collector.feed(Sender(1), batch(100, 20))
            wait_for(lambda: path.exists() and destinations(path))
            collector.feed(Sender(2), batch(200, 20))
            wait_for(lambda: set(ids(batch(200, 20))) <= set(received.ids()))
            collector.stop()
        assert max(Counter(received.ids()).values()) == 1
